"""`run_case`: one case, carried out by the engine on a store in memory, in virtual time."""

import asyncio
import os
from collections.abc import Callable, Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pydantic_core import to_jsonable_python

from aiorch.client import build
from aiorch.definition.source import LoadedDefinition
from aiorch.documents.results import has_result
from aiorch.engine.committer import Committer
from aiorch.errors import Problem
from aiorch.model.dag import DAG
from aiorch.model.run import Changes
from aiorch.model.run_document import NodeState
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.orchestrator import Orchestrator
from aiorch.run_handle import RunHandle
from aiorch.settings import Settings
from aiorch.stores.memory import MemoryStore
from aiorch.testing.cases.compare import differences
from aiorch.testing.cases.names import Names
from aiorch.testing.cases.records import Answer, Case, CaseFailedError, Outcome, TargetCall
from aiorch.testing.cases.report import outcome_lines
from aiorch.testing.cases.target import ScriptedTarget
from aiorch.testing.chance import SeededEntropy
from aiorch.testing.time import ManualClock, VirtualTimeLoop

RUN_ID = "case"
"""The id of the run of every case, which expressions and parameters may show."""

HORIZON_S = 2e9
"""Virtual seconds (63 years) after which a run is taken for one that waits for ever: no single pause is as long."""

NEVER_S = 1e10
"""Pause between two sweeps, and between two looks for a standstill: here nothing comes from outside."""

_NOT_BEGUN = frozenset({TaskStatus.NEW, TaskStatus.SKIPPED})

_T = TypeVar("_T")


def run_case(
    case: Case,
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    search_paths: Sequence[str | os.PathLike[str]] = (),
) -> Outcome:
    """
    Run a case and compare its outcome with the expectation.

    No time passes and no request is sent. May be called anywhere, also in a coroutine.

    Args:
        case: The case.

        functions: Callables by the name that stands for them in definitions. A case calls the functions of `call`
            answers, and the supplementary functions of steps.

        search_paths: Folders in which modules of functions are looked up, after the folder of the definition.

    Returns:
        The outcome, also if the case expects none.

    Raises:
        CaseFailedError: The outcome is not the expected one, a step without an answer was called, or the run waits for
            ever.

        DefinitionError: The definition is not valid, or the case names a step that the definition does not have.

        AiorchError: The run cannot be started, see `Client.start`.
    """
    dag = build(case.definition)
    _refuse_wrong_names(case, dag)
    folder = case.folder
    if folder is None and isinstance(case.definition, (str, os.PathLike)):
        folder = Path(case.definition).resolve().parent
    paths = [Path(path) for path in search_paths]

    async def play() -> tuple[Outcome, list[Problem]]:
        async with _CaseOrchestrator(case, dag, folder, paths, functions) as orchestrator:
            return await orchestrator.play()

    outcome, problems = _in_a_loop_of_its_own(play)
    if not problems and case.expect is not None:
        problems = list(differences(case.expect, outcome))
    if problems:
        raise CaseFailedError(case, problems, outcome, outcome_lines(dag, outcome, problems))
    return outcome


def _refuse_wrong_names(case: Case, dag: DAG) -> None:
    names = Names(dag)
    given = {name: each if isinstance(each, Answer) else list(each) for name, each in case.answers.items()}
    answers = to_jsonable_python(given)
    expect = case.expect.model_dump(exclude_unset=True) if case.expect is not None else {}
    findings = [
        *names.in_answers(("answers",), answers),
        *names.in_secrets(("secrets",), dict(case.secrets)),
        *names.in_expectation(("expect",), expect),
    ]
    if findings:
        raise LoadedDefinition({}, source=f"case {case.name!r}").error(findings)


def _in_a_loop_of_its_own(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    def run() -> _T:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(work())

    with suppress(RuntimeError):
        asyncio.get_running_loop()
        run = partial(_in_a_thread, run)  # a thread has at most one running loop
    return run()


def _in_a_thread(work: Callable[[], _T]) -> _T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


class _CaseSecrets:
    """The secrets of a case: an `aiorch.ports.Secrets` that has a value for every name."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def why_not(self, name: str) -> str | None:  # noqa: ARG002  it has every secret
        return None

    async def values(self, names: Iterable[str]) -> Mapping[str, str]:
        return {name: self._given.get(name, f"value of {name}") for name in names}

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""


class _CaseOrchestrator(Orchestrator):
    """An orchestrator of one run, whose targets are those of a case, and which notes the steps that begin."""

    def __init__(
        self,
        case: Case,
        dag: DAG,
        folder: Path | None,
        search_paths: Sequence[Path],
        functions: Mapping[str, Callable[..., Any]] | None,
    ) -> None:
        self._target = ScriptedTarget(case.answers)
        self._case = case
        super().__init__(
            MemoryStore(),
            functions=functions,
            targets=dict.fromkeys((task.target_type for task in dag.all_tasks.values()), self._target),
            settings=Settings(threads_max=0, drain_s=0, sweep_interval_s=NEVER_S, relook_s=NEVER_S),
            clock=ManualClock(case.started_at),
            entropy=SeededEntropy(),
        )
        self._target.functions = self._functions
        self._functions.learn(dag, folder, search_paths)
        self._executor.on_commit = self._note
        self._executor.standstill.tick_s = NEVER_S
        self._dag = dag
        self._changed_at = 0.0
        self._began: dict[str, float] = {}
        self._entries: dict[str, NodeState] = {}

    def _connect(self, *args: Any, **keys: Any) -> None:
        super()._connect(*args, **{**keys, "secrets": _CaseSecrets(self._case.secrets)})

    async def play(self) -> tuple[Outcome, list[Problem]]:
        """Carry out the run; return its outcome, and the reasons why it could not go on, if it could not."""
        run = await self.start(self._dag, input=self._case.input, run_id=RUN_ID)
        loop = asyncio.get_running_loop()
        ended, unanswered = loop.create_task(self._end_of(run)), self._target.unanswered
        either: list[asyncio.Future[Any]] = [ended, unanswered]
        try:
            await asyncio.wait(either, timeout=HORIZON_S, return_when=asyncio.FIRST_COMPLETED)
            seconds, problems = loop.time(), []
            if unanswered.done():
                problems = [unanswered.result()]
            elif ended.done():
                ended.result()
            else:
                seconds, problems = self._changed_at, list(_why_waiting(run, self._target.calling))
            return await self._outcome(run, seconds), problems
        finally:
            ended.cancel()
            await asyncio.wait([ended])

    async def _end_of(self, run: RunHandle) -> None:
        if self._case.cancel_after is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._case.cancel_after):
                    await run.wait()
            await run.cancel(reason="cancelled by the case")
        await run.wait()

    def _note(self, committer: Committer, changes: Changes) -> None:  # noqa: ARG002  there is only one run
        """Note the entries that a commit changes; those that begin stand in the order of the decisions."""
        self._changed_at = asyncio.get_running_loop().time()
        self._entries.update(changes.nodes)
        for name, state in changes.nodes.items():
            if state.status not in _NOT_BEGUN:
                self._began.setdefault(name, self._changed_at)

    async def _outcome(self, run: RunHandle, seconds: float) -> Outcome:
        calls: dict[str, list[TargetCall]] = {name: [] for name in self._dag.all_tasks}
        for task, call in self._target.calls:
            calls[task.name].append(call)
        steps = {**run.view.nodes, **self._entries}  # those of rounds that are over are no longer in the run
        return Outcome(
            status=run.status,
            output=await run.result() if run.status is RunStatus.COMPLETED else None,
            error=run.view.error,
            began=self._began,
            steps=steps,
            results=await self._results(run, steps),
            calls={name: tuple(made) for name, made in calls.items()},
            seconds=seconds,
        )

    async def _results(self, run: RunHandle, steps: Mapping[str, NodeState]) -> dict[str, Any]:
        ended = {name: state for name, state in steps.items() if has_result(self._dag.node_of(name), state)}
        places = {name: state.result_place for name, state in ended.items() if state.result_in is not None}
        large = await self._executor.results_of(places)
        inside = {name: msgspec.json.decode(large.get(name, state.result)) for name, state in ended.items()}
        return {**inside, **await run.results()}


def _why_waiting(run: RunHandle, calling: Container[str]) -> Iterator[Problem]:
    """Say why a run does not end: it is in a state in which nothing more can happen in virtual time."""
    yield Problem(
        "",
        f"the run is {run.status} and waits for ever: no answer, no timer and no event is left that could continue it. "
        f"The steps below wait for something that the case does not bring.",
    )
    for name, state in run.view.nodes.items():
        if state.is_active or (state.status is not TaskStatus.NEW and not state.status.is_terminal):
            message = f"this step is {state.status}" + (f" (attempt {state.attempt})" if state.attempt else "")
            if state.waits_because:
                message += f": {state.waits_because}"
            if name in calling:
                message += (
                    "; its async function waits for a thread, a process or a socket, and virtual time does not wait: "
                    "give the step a `result` instead of `call`"
                )
            yield Problem(name, message)
