"""`Orchestrator`: the engine wired to a store, for use in an async application. The CLI and the service use it too."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from aiorch.definition.files import folder_of
from aiorch.documents.executions import ExecutionStatus
from aiorch.documents.runs import OrchestrationStatus, RunSummary
from aiorch.engine.executor import DAGExecutor
from aiorch.engine.sweeper import Sweeper
from aiorch.errors import (
    AiorchError,
    DefinitionError,
    InvalidInputError,
    Problem,
    StoreError,
    StoreThrottled,
    StoreUnavailable,
    UnresolvedFunctionError,
)
from aiorch.intake.intake import Intake
from aiorch.model import names
from aiorch.model.dag import DAG, Task
from aiorch.model.enums import TargetTypes
from aiorch.model.run_document import StartCommand, is_json
from aiorch.ports.observer import NoObserver, Observer
from aiorch.ports.source import EventSource
from aiorch.ports.store import Store
from aiorch.ports.target import Target
from aiorch.ports.world import Clock, Entropy
from aiorch.run_handle import RunHandle, refuse_wrong_reason
from aiorch.settings import Settings
from aiorch.sources.local import LocalSource
from aiorch.stores import DEFAULT_STORE, open_store
from aiorch.system.chance import SystemEntropy
from aiorch.system.clock import SystemClock
from aiorch.system.watch import PROCESS_WATCH
from aiorch.targets import http_targets
from aiorch.targets.function.target import FunctionTarget

logger = logging.getLogger(__name__)

INTERRUPTED_LOOKS_MAX = 20
"""Open runs read at most to find out whether a process works on them."""

Definition = DAG | Mapping[str, Any] | str | os.PathLike[str]
"""A DAG, a definition as a mapping, or the path of a definition file (JSON or YAML)."""


class Orchestrator:
    """
    Runs DAGs, durably.

    ::

        async with Orchestrator("sqlite:///state.db") as orchestrator:
            run = await orchestrator.start("sample.yaml", input={"day": "2026-11-23"})
            result = await run.wait()

    Runs that an earlier process left open go on by themselves when the context is entered. Leaving it lets work that
    is under way end for `Settings.drain_s`; what has not ended then goes on in whichever process comes next. Any
    number of orchestrators may be open at once, in one event loop or in many processes, on one store or on several.

    Args:
        store: URL of a store (``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``memory:``), or a store.

        dags: DAGs that start messages and the HTTP endpoint may start by name.

        functions: Callables by the name that stands for them in definitions.

        search_paths: Folders in which modules with callables are looked up. Those of a definition file are looked up
            in its own folder first.

        definition_folders: Folders with definition files. The modules of a stored run whose DAG was not given here are
            looked up in the first of these folders that holds a definition of its DAG, and in the *search_paths*.

        launch: `False` for a client: what it starts, resumes or cancels is carried out by the other processes of the
            store.

        targets: Targets to use instead of, or besides, the built-in ones.

        only_own_runs: Carry out only the runs that this orchestrator starts, resumes or continues, and leave all
            others to other processes. It takes no *source*.

        source: Where messages come from, closed together with this; `None`: from `publish`. A source brings completion
            events too, so a call whose answer was lost is waited for.

        own_names: Names of functions or services under which this orchestrator itself is deployed: it must not feed on
            its own log.

        observer: Is told what happens, for metrics.

        settings: What can be tuned.

        clock, entropy: Time and chance, replaceable for tests.
    """

    def __init__(  # noqa: PLR0913  all optional
        self,
        store: str | Store = DEFAULT_STORE,
        *,
        dags: Iterable[Definition] = (),
        functions: Mapping[str, Callable[..., Any]] | None = None,
        search_paths: Sequence[str | os.PathLike[str]] = (),
        definition_folders: Sequence[str | os.PathLike[str]] = (),
        launch: bool = True,
        only_own_runs: bool = False,
        targets: Mapping[str, Target] | None = None,
        source: EventSource | None = None,
        own_names: Iterable[str] = (),
        observer: Observer | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        if only_own_runs and source is not None:
            raise AiorchError(
                "the messages of a source are about any run, and this orchestrator carries out only its own: no "
                "orchestrator was made. Leave out `source` or `only_own_runs`."
            )
        _refuse_wrong_types(store=store, dags=dags, functions=functions, search_paths=search_paths, settings=settings)
        self.settings = settings or Settings()
        self.store = open_store(store) if isinstance(store, str) else store
        self.launch = launch
        self.dags: dict[str, DAG] = {}
        self.runs_status = OrchestrationStatus(self.store)
        self.executions = ExecutionStatus(self.store)
        self._functions = FunctionTarget(
            functions or {},
            search_paths=[Path(path) for path in search_paths],
            find_folder=partial(folder_of, folders=[Path(path).resolve() for path in definition_folders]),
            threads_max=self.settings.threads_max,
            watch=PROCESS_WATCH if clock is None else None,
        )
        self._targets = self._own_targets(targets or {}) if launch else {}
        pace = self.store.pace
        sweep_interval_s = self.settings.sweep_interval_s or pace.sweep_interval_s
        interval_s = self.settings.commit_interval_s
        launches = self.settings.launches
        if launches.running_after_s is None:
            launches = replace(launches, running_after_s=pace.running_after_s)
        self._executor = DAGExecutor(
            runs=self.runs_status,
            executions=self.executions,
            functions=self._functions,
            targets=self._targets,
            liveness=self.store,
            clock=clock or SystemClock(),
            entropy=entropy or SystemEntropy(),
            observer=observer or NoObserver(),
            awaits_events=source is not None,
            only_own_runs=only_own_runs,
            default_region=self.settings.region,
            settings=launches,
            commit_interval_s=pace.commit_interval_s if interval_s is None else interval_s,
        )
        self._local = LocalSource(self._executor.clock, self._executor.entropy) if source is None else None
        self.source: EventSource = source or cast("EventSource", self._local)
        self._intake = Intake(self._executor, self.source, self.dags, own_names=frozenset(own_names))
        self._sweeper = Sweeper(
            self._executor,
            self.store,
            interval_s=sweep_interval_s,
            relook_s=self.settings.relook_s or pace.relook_s,
            refresh_s=self.settings.relook_s or pace.refresh_s,
        )
        if self.launch:
            self._executor.on_release = self._sweeper.remember
        self._background: list[asyncio.Task[None]] = []
        for each in dags:
            self.serve_dag(each)

    def _own_targets(self, targets: Mapping[str, Target]) -> dict[str, Target]:
        return {
            TargetTypes.FUNCTION: self._functions,
            **http_targets(self.settings),
            **targets,
        }

    @property
    def open_runs(self) -> int | None:
        """How many runs of the store were open at the last look; `None` before the first, and for a client."""
        return self._sweeper.open_runs

    @property
    def held_runs(self) -> int:
        """How many runs are in the memory of this process."""
        return len(self._executor.committers)

    # -- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if not self.launch:
            self._background = [loop.create_task(self._sweeper.watch())]
            return self
        try:
            await self.store.join(self._executor.process.id, self._executor.is_working)
            await self._sweep()
        except BaseException:
            await self._close(0)
            raise
        self._background = [loop.create_task(self._sweeper.run()), loop.create_task(self._intake.run())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.source.stop()
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self._close(self.settings.drain_s)

    async def _sweep(self) -> None:
        """Take on what is open. A store that does not answer yet is asked again in the background."""
        try:
            await self._sweeper.sweep()
        except (StoreThrottled, StoreUnavailable) as error:
            logger.warning("sweep failed, trying again", extra={"error": str(error)})

    async def _close(self, drain_s: float) -> None:
        try:
            await self._executor.close(drain_s)
            await self.source.aclose()  # what was committed is acknowledged
            await self.store.leave(self._executor.process.id)
        except StoreError as error:
            logger.warning("not announced as left: the others will find out", extra={"error": str(error)})
        finally:
            for target in self._targets.values():
                await target.aclose()
            await self.store.aclose()

    def publish(self, message: Mapping[str, Any], *, message_id: str | None = None) -> str:
        """
        Hand a message to this orchestrator as a topic would, and return its id.

        A start message is ``{"resource": {"type": "start", "labels": {"dag": …, "run_id": …}}, "parameters": {…}}``;
        both labels may be left out. Without a run id the message id decides: the same message any number of times is
        one run.

        Raises:
            AiorchError: This orchestrator takes its messages from another source: publish there.
        """
        if self._local is None:
            raise AiorchError(
                "this orchestrator takes its messages from a subscription, so nothing was published here; publish to "
                "its topic instead."
            )
        return self._local.publish(message, message_id=message_id)

    # -- commands ------------------------------------------------------------------------------------------------

    def dag(self, definition: Definition, *, search_paths: Sequence[str | os.PathLike[str]] = ()) -> DAG:
        """
        Build a DAG; callables that the definition holds as objects become known to this orchestrator.

        Args:
            definition: The definition; that of a file is the one whose folder holds the modules of this DAG.

            search_paths: More folders in which the modules of this DAG are looked up, if its definition is a file.

        Raises:
            DefinitionError: With every problem of the definition.
        """
        folder = None
        if isinstance(definition, DAG):
            dag = definition
        else:
            from aiorch.definition.build import DAGBuilder  # noqa: PLC0415  slow to import

            dag = DAGBuilder(definition).build_dag()
            if isinstance(definition, (str, os.PathLike)):
                folder = Path(definition).resolve().parent
        try:
            is_new = self._functions.learn(dag, folder, [Path(path) for path in search_paths])
        except LookupError as error:
            raise DefinitionError([Problem("name", str(error))], source=str(definition)) from error
        if is_new:
            self._executor.resolve_again()
            self._sweeper.look_again()
        return self.runs_status.known(dag)

    def serve_dag(self, definition: Definition) -> DAG:
        """Let start messages and the HTTP endpoint start this DAG by its name."""
        dag = self.dag(definition)
        self.dags[dag.name] = dag
        return dag

    async def start(self, dag: Definition, *, input: Any = None, run_id: str | None = None) -> RunHandle:  # noqa: A002
        """
        Begin a run; with the id of a run that exists, and the same definition and input, get that run.

        Args:
            dag: What to run.

            input: Anything that JSON can hold; the tasks see it as ``context.input``.

            run_id: Id of the run, by default one of the time and chance.

        Raises:
            DefinitionError: The definition is not valid.

            UnresolvedFunctionError: This process cannot launch some of its tasks.

            InvalidIdError: The run id cannot be part of an object name.

            RunConflictError: The run exists with another definition or input.

            RunTooLargeError: The run could outgrow its document.
        """
        dag, command = self._start_command(dag, input, run_id)
        self.check(dag)
        return await self._begin(dag, command)

    async def _begin(self, dag: DAG, command: StartCommand) -> RunHandle:
        handle = RunHandle(self._executor, await self._executor.start(dag, command))
        if handle.run.header.nonce != command.nonce:  # it existed
            await self._carry_out(handle)
        return handle

    async def _carry_out(self, run: RunHandle) -> None:
        """Make a run one of this orchestrator's own, and take over what dead processes left of it."""
        if self._executor.own_runs is not None and not run.status.is_terminal:
            self._executor.own_runs.add(run.run_id)
            await self._sweeper.look(run.run_id)

    async def attach(self, run_id: str) -> RunHandle:
        """
        Return a run that exists.

        Raises:
            RunNotFoundError: There is none of this id.
        """
        committer = self._executor.committer(names.run_id(run_id))
        await committer.apply(None)
        return RunHandle(self._executor, committer)

    async def cancel(self, run_id: str, *, reason: str = "cancelled on request") -> RunHandle:
        """
        Ask for the end of a run. A run that has ended stays as it is.

        Raises:
            RunNotFoundError: There is none of this id.

            TypeError: The reason is no text.
        """
        refuse_wrong_reason(reason)
        committer = await self._executor.cancel(names.run_id(run_id), reason)
        handle = RunHandle(self._executor, committer)
        if handle.status.is_terminal:
            return handle
        await self._sweeper.look(run_id)  # a dead owner cannot stop anything
        return await self.attach(run_id)

    async def resume(self, run_id: str) -> RunHandle:
        """
        Begin the run that goes on where *run_id* failed or was cancelled; asked again, return the same run.

        Raises:
            RunNotFoundError: There is none of this id.

            RunStateError: It has neither failed nor been cancelled.

            UnresolvedFunctionError: This process cannot launch some of its tasks.
        """
        dag, command = await self._executor.resume_command(run_id)
        self.check(dag)
        return await self._begin(dag, command)

    async def continue_run(self, run_id: str) -> RunHandle:
        """
        Carry out an open run from where it stands: an orchestrator of `only_own_runs` does not do so by itself.

        Raises:
            RunNotFoundError: There is none of this id.

            UnresolvedFunctionError: This process cannot launch some of its tasks.
        """
        handle = await self.attach(run_id)
        self.check(handle.dag)
        await self._carry_out(handle)
        return handle

    async def is_carried_out_elsewhere(self, run: RunHandle) -> bool:
        """Whether another living process owes something to a run."""
        owners = run.run.owners - {self._executor.process.id}
        return bool(owners) and await self.store.dead_among(owners) != owners

    async def interrupted_runs(self) -> list[str]:
        """
        Return the ids of open runs that no living process works on, but for this orchestrator's own.

        Of many open runs only the last `INTERRUPTED_LOOKS_MAX`, by their ids, are looked at.

        Raises:
            StoreError: The store does not tell which runs are open.
        """
        ids = [marker.run_id for marker in await self.runs_status.list_open()]
        others = [run_id for run_id in ids if run_id not in (self._executor.own_runs or ())][-INTERRUPTED_LOOKS_MAX:]
        found = await asyncio.gather(*map(self._is_interrupted, others))
        return [run_id for run_id, is_interrupted in zip(others, found, strict=True) if is_interrupted]

    async def _is_interrupted(self, run_id: str) -> bool:
        try:
            stored = await self.runs_status.get_run(names.run_id(run_id))
        except AiorchError:
            return False  # a run that cannot be read cannot be told to wait for anything
        if stored is None:
            return False
        owners = stored.run.owners
        return stored.run.waits_for_process(await self.store.dead_among(owners) if owners else owners)

    async def runs(self) -> list[RunSummary]:
        """All runs of the store, the newest first."""
        return await self.runs_status.list_runs()

    async def dead_owners(self, run: RunHandle) -> frozenset[str]:
        """
        Return the ids of the processes that owe something to a run and are known to be gone.

        Raises:
            StoreError: The store does not tell.
        """
        owners = run.run.owners
        return await self.store.dead_among(owners) if owners else owners

    def check(self, dag: DAG) -> None:
        """
        Make sure that this process can launch every task of *dag*.

        Raises:
            UnresolvedFunctionError: With every task that it cannot launch, and why.
        """
        if not self.launch:
            return  # the process that launches them checks them
        reasons = [
            (task, reason) for task in dag.all_tasks.values() if (reason := self._executor.why_not(task)) is not None
        ]
        if reasons:
            missing = [(task.name, task.function or task.target_name, reason) for task, reason in reasons]
            lacks_callable = any(self._lacks_callable(task) for task, _ in reasons)
            raise UnresolvedFunctionError(missing, lacks_callable=lacks_callable)

    def _lacks_callable(self, task: Task) -> bool:
        """Whether a task that cannot be launched lacks its callable, rather than a target that is ready for it."""
        target = self._targets.get(task.target_type)
        if target is None or target is self._functions:
            return target is not None
        return task.function is not None and target.resolve(task) is None

    def _start_command(self, definition: Definition, input: Any, run_id: str | None) -> tuple[DAG, StartCommand]:  # noqa: A002
        dag = self.dag(definition)
        try:
            encoded = msgspec.json.encode(input)
            if not is_json(encoded):
                raise ValueError("it is nested too deeply")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInputError(f"the input is not JSON, so no run was started: {error}") from error
        if run_id is None:
            run_id = f"run_{int(self._executor.clock.now().timestamp())}_{self._executor.entropy.token()[:16]}"
        return dag, self._executor.start_command(dag, run_id, encoded)


def _refuse_wrong_types(store: Any, dags: Any, functions: Any, search_paths: Any, settings: Any) -> None:
    """Raise a TypeError that names the argument: what goes wrong later would not tell which one it was."""
    wrong = None
    if not isinstance(store, str) and not hasattr(store, "pace"):
        wrong = f"store is of type {type(store).__name__} and must be a URL or a Store"
        if isinstance(store, os.PathLike):
            wrong += f"; a file is named by {f'sqlite:///{os.fspath(store)}'!r}"
    elif isinstance(dags, (str, os.PathLike, Mapping, DAG)):
        wrong = "dags is one definition and must be a list of definitions"
    elif functions is not None and not isinstance(functions, Mapping):
        wrong = f"functions is of type {type(functions).__name__} and must be a mapping of names to callables"
    elif no_callables := [(name, each) for name, each in (functions or {}).items() if not callable(each)]:
        name, each = no_callables[0]
        wrong = f"functions[{name!r}] is of type {type(each).__name__} and must be a callable"
    elif isinstance(search_paths, (str, os.PathLike)):
        wrong = "search_paths is one folder and must be a list of folders"
    elif settings is not None and not isinstance(settings, Settings):
        wrong = f"settings is of type {type(settings).__name__} and must be a Settings"
    if wrong is not None:
        raise TypeError(f"{wrong}; no orchestrator was made.")
