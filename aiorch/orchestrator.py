"""`Orchestrator`: the engine wired to a store, for use in an async application. The CLI and the service use it too."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from weakref import WeakSet

from aiorch.client import Client, Definition, build, refuse_wrong_types
from aiorch.definition.files import folder_of
from aiorch.errors import (
    AiorchError,
    DefinitionError,
    InvalidSettingError,
    Problem,
    StoreThrottled,
    StoreUnavailable,
    UnresolvedFunctionError,
)
from aiorch.events.decode import EventFactory
from aiorch.intake.intake import Intake
from aiorch.model import names
from aiorch.model.dag import DAG, Task
from aiorch.model.enums import TargetTypes
from aiorch.model.findings import Finding, Hints
from aiorch.model.run_document import StartCommand
from aiorch.ports.observer import Observer
from aiorch.ports.source import EventSource
from aiorch.ports.store import Store
from aiorch.ports.target import Target
from aiorch.ports.world import Clock, Entropy
from aiorch.run_handle import RunHandle
from aiorch.settings import Settings, TargetSettings
from aiorch.sources.local import LocalSource
from aiorch.stores import DEFAULT_STORE
from aiorch.system.secrets import SecretSources
from aiorch.system.watch import PROCESS_WATCH
from aiorch.targets.function.settings import Functions
from aiorch.targets.function.target import FunctionTarget
from aiorch.targets.kind import BUILT_IN, target_kind
from aiorch.targets.lazy import Targets

logger = logging.getLogger(__name__)

TARGET_METHODS = ("resolve", "launch", "stop", "aclose")
"""The methods of a `Target`."""

INTERRUPTED_LOOKS_MAX = 20
"""Open runs read at most to find out whether a process works on them."""


class Orchestrator(Client):
    """
    Runs DAGs, durably: a `Client` that carries out the runs of its store, too.

    ::

        async with Orchestrator("sqlite:///state.db") as orchestrator:
            run = await orchestrator.start("sample.yaml", input={"day": "2026-11-23"})
            result = await run.wait()

    Runs that an earlier process left open go on by themselves when the context is entered. Leaving it lets work that
    is under way end for `Settings.drain_s`; the rest goes on in the process that comes next. Any
    number of orchestrators may be open at once, in one event loop or in many processes, on one store or on several.

    Args:
        store: URL of a store (``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``memory:``), or a store.

        dags: DAGs that start messages and the HTTP endpoint may start by name.

        functions: Callables by the name that stands for them in definitions.

        search_paths: Folders in which modules with callables are looked up. Those of a definition file are looked up
            in its own folder first.

        definition_folders: Folders with definition files. The modules of a stored run whose DAG was not given here are
            looked up in the first of these folders that holds a definition of its DAG, and in the *search_paths*.

        targets: Settings of kinds of targets, ``[CloudFunctions(url=…), Dataflow(limit=5)]``. Or targets by target
            type, which take the place of those that would be made.

        only_own_runs: Carry out only the runs that this orchestrator starts, resumes or continues, and leave all
            others to other processes. It takes no *source*.

        source: Where messages come from, closed together with this; `None`: from `publish`. A source brings completion
            events too, so a call whose answer was lost is waited for.

        own_names: Names of functions or services under which this orchestrator itself is deployed: it must not feed on
            its own log.

        observer: Receives the facts for metrics.

        settings: The values that a program may tune.

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
        only_own_runs: bool = False,
        targets: Mapping[str, Target] | Mapping[TargetTypes, Target] | Iterable[TargetSettings] = (),
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
        refuse_wrong_types(store, settings, made="orchestrator")
        _refuse_wrong_types(dags=dags, functions=functions, search_paths=search_paths)
        settings = settings or Settings()
        given, own = _given_and_own(targets)
        _refuse_unknown_limits(settings.launches.limits, given)
        called = next((each for each in own if isinstance(each, Functions)), Functions.of(settings))
        self._functions = FunctionTarget(
            {**called.functions, **(functions or {})},
            search_paths=[Path(path) for path in (*called.search_paths, *search_paths)],
            find_folder=partial(folder_of, folders=[Path(path).resolve() for path in definition_folders]),
            threads_max=called.threads_max,
            limit=called.limit,
            watch=PROCESS_WATCH if clock is None else None,
        )
        self._connect(
            store,
            settings,
            functions=self._functions,
            secrets=SecretSources(settings.secrets or {}),
            targets=Targets(settings, {TargetTypes.FUNCTION: self._functions, **given}, own),
            clock=clock,
            entropy=entropy,
            observer=observer,
            events=EventFactory(frozenset(own_names)),
            awaits_events=source is not None,
            only_own_runs=only_own_runs,
        )
        self._executor.on_release = self._sweeper.remember
        self.dags: dict[str, DAG] = self._executor.dags
        self._local = LocalSource(self._executor.clock, self._executor.entropy) if source is None else None
        self.source: EventSource = source or cast("EventSource", self._local)
        self._intake = Intake(self._executor, self.source)
        self._fitting: WeakSet[DAG] = WeakSet()
        """DAGs whose parameters fit the signatures of the callables."""
        for each in dags:
            self.serve_dag(each)

    @property
    def open_runs(self) -> int | None:
        """Number of runs of the store that were open at the last look; `None` before the first."""
        return self._sweeper.open_runs

    @property
    def held_runs(self) -> int:
        """Number of runs in the memory of this process."""
        return len(self._executor.committers)

    # -- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._is_open is False:
            self._refuse_unless_open("it was not opened again")
        try:
            await self._executor.join()
            self._is_open = True  # a callable that goes on now may start runs
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
        await super().__aexit__(kind, error, traceback)

    async def _sweep(self) -> None:
        """Take on the open runs. A store that does not answer yet is asked again in the background."""
        try:
            await self._sweeper.sweep()
        except (StoreThrottled, StoreUnavailable) as error:
            logger.warning("sweep failed, trying again", extra={"error": str(error)})

    async def _close_source(self) -> None:
        await self.source.aclose()  # committed events are acknowledged

    def publish(self, message: Mapping[str, Any], *, message_id: str | None = None) -> str:
        """
        Hand a message to this orchestrator as a topic would, and return its id.

        A start message is ``{"resource": {"type": "start", "labels": {"dag": …, "run_id": …}}, "parameters": {…}}``;
        both labels may be left out. Without a run id the message id decides: the same message any number of times is
        one run.

        Raises:
            AiorchError: This orchestrator takes its messages from another source: publish there.

            OrchestratorClosedError: This is not open.
        """
        self._refuse_unless_open("no message was published")
        if self._local is None:
            raise AiorchError(
                "this orchestrator takes its messages from a subscription, so no message was published; publish to "
                "its topic instead."
            )
        return self._local.publish(message, message_id=message_id)

    # -- commands ------------------------------------------------------------------------------------------------

    def dag(self, definition: Definition, *, search_paths: Sequence[str | os.PathLike[str]] = ()) -> DAG:
        """
        Build a DAG; callables that the definition holds as objects become known to this orchestrator.

        Args:
            definition: The definition; that of a file is the one whose folder holds the modules of this DAG.

            search_paths: More folders in which the modules of this DAG are looked up.

        Raises:
            DefinitionError: With every problem of the definition.
        """
        folder = Path(definition).resolve().parent if isinstance(definition, (str, os.PathLike)) else None
        dag = build(definition)
        try:
            is_new = self._functions.learn(dag, folder, [Path(path) for path in search_paths])
        except LookupError as error:
            raise DefinitionError([Problem("name", str(error))], source=str(definition)) from error
        if is_new:
            self._fitting.clear()  # an import may find a module of the new folder
            self._executor.resolve_again()
            self._sweeper.look_again()
        return self.runs_status.known(dag)

    def serve_dag(self, definition: Definition) -> DAG:
        """Let start messages and the HTTP endpoint start this DAG by its name."""
        dag = self.dag(definition)
        self.dags[dag.name] = dag
        return dag

    async def _begin(self, dag: DAG, command: StartCommand) -> RunHandle:
        handle = RunHandle(self._executor, await self._executor.start(dag, command))
        if handle.run.header.nonce != command.nonce:  # it existed
            await self._carry_out(handle)
        return handle

    async def _carry_out(self, run: RunHandle) -> None:
        """Make a run one of this orchestrator's own, and take over the work that dead processes left in it."""
        if self._executor.own_runs is not None and not run.status.is_terminal:
            self._executor.own_runs.add(run.run_id)
            await self._sweeper.look(run.run_id)

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

    def _check(self, dag: DAG) -> None:
        self.check(dag)

    def check(self, dag: DAG, *, callables: bool = True) -> None:
        """
        Make sure that this process can launch every task of *dag*.

        Args:
            dag: The DAG.

            callables: Also import its callables, and compare the parameters of its steps with their signatures.

        Raises:
            UnresolvedFunctionError: With every task that it cannot launch, and why.

            DefinitionError: With every mistake in the parameters of a step, and the tasks that it cannot launch.
        """
        cannot: list[tuple[Task, str]] = []
        mistakes: list[tuple[str, Finding]] = []
        if callables and dag in self._fitting:
            return
        fitting: set[str] = set()
        for task in dag.all_tasks.values():
            is_alone = not (task.parameters or task.secrets or task.supplement)  # it is like all others of its callable
            if is_alone and task.target_type == TargetTypes.FUNCTION and task.target_name in fitting:
                continue
            reason = self._executor.why_not(task, imports=callables)
            if reason is not None:
                cannot.append((task, reason))
            elif callables:
                target = self._executor.targets[task.target_type]
                find_problems = getattr(target, "find_problems", None)
                problems = find_problems(task) if find_problems else ()
                mistakes += [(task.name, each) for each in problems]
                if is_alone and target is self._functions and not problems:
                    fitting.add(task.target_name)
        if not cannot and not mistakes:
            if callables and not any(task.secrets for task in dag.all_tasks.values()):  # those may be taken away
                self._fitting.add(dag)
            return
        from aiorch.definition.build import error_in_steps  # noqa: PLC0415  slow to import

        missing = [(task.name, task.function or task.target_name, reason) for task, reason in cannot]
        found = [(name, Finding((), f"{target!r} cannot be launched: {reason}")) for name, target, reason in missing]
        error = error_in_steps(dag, mistakes + found)
        if mistakes:
            raise error
        lacks_callable = any(self._lacks_callable(task) for task, _ in cannot)
        raise UnresolvedFunctionError(missing, lacks_callable=lacks_callable, problems=error.problems)

    def _lacks_callable(self, task: Task) -> bool:
        """Whether a task that cannot be launched lacks its callable, rather than a target that is ready for it."""
        target = self._executor.targets.get(task.target_type)
        if target is self._functions and target.resolve(task) is None:
            return False  # it lacks a secret
        if target is None or target is self._functions:
            return target is not None
        return task.function is not None and target.resolve(task) is None


def _refuse_wrong_types(dags: Any, functions: Any, search_paths: Any) -> None:
    """Raise a TypeError that names the argument: a later failure would not tell which argument it was."""
    wrong = None
    if isinstance(dags, (str, os.PathLike, Mapping, DAG)):
        wrong = "dags is one definition and must be a list of definitions"
    elif functions is not None and not isinstance(functions, Mapping):
        wrong = f"functions is of type {type(functions).__name__} and must be a mapping of names to callables"
    elif no_callables := [(name, each) for name, each in (functions or {}).items() if not callable(each)]:
        name, each = no_callables[0]
        wrong = f"functions[{name!r}] is of type {type(each).__name__} and must be a callable"
    elif isinstance(search_paths, (str, os.PathLike)):
        wrong = "search_paths is one folder and must be a list of folders"
    if wrong is not None:
        raise TypeError(f"{wrong}; no orchestrator was made.")


def _given_and_own(targets: Any) -> tuple[Mapping[str, Target], tuple[TargetSettings, ...]]:
    """Return the targets and the settings of kinds that the argument *targets* holds. Raises: TypeError."""
    if isinstance(targets, Mapping):
        for name, target in targets.items():
            if lacks := [method for method in TARGET_METHODS if not callable(getattr(target, method, None))]:
                wrong = f"targets[{str(name)!r}] is of type {type(target).__name__} and must be a Target"
                raise TypeError(f"{wrong}, which has {', '.join(lacks)}; no orchestrator was made.")
        return targets, ()
    if isinstance(targets, (str, TargetSettings)) or not isinstance(targets, Iterable):
        wrong = f"targets is of type {type(targets).__name__} and must be a list of settings, or a mapping of targets"
        raise TypeError(f"{wrong}; no orchestrator was made.")
    own = tuple(targets)
    for index, each in enumerate(own):
        if not isinstance(each, TargetSettings):
            wrong = (
                f"is of type {type(each).__name__} and must be settings of a kind of target, like Functions(…); give a "
                f"target itself in a mapping, by its target type"
            )
        elif each.target_type in {before.target_type for before in own[:index]}:
            wrong = f"is the second {type(each).__name__} of the list, and each kind of target has settings once"
        else:
            continue
        raise TypeError(f"targets[{index}] {wrong}; no orchestrator was made.")
    return {}, own


def _refuse_unknown_limits(limits: Mapping[str, int], given: Mapping[str, Target]) -> None:
    """Raise an InvalidSettingError for a limit of a target type that no kind and no given target has."""
    for name, limit in limits.items():
        if name not in given and target_kind(name) is None:
            meant = Hints().closest(name, BUILT_IN)
            hint = f" (did you mean {meant!r}?)" if meant else ""
            rule = f"is {limit}, and this process has no kind of target {str(name)!r}{hint}"
            raise InvalidSettingError(f"LaunchSettings.limits[{name}]", limit, rule, undone="no orchestrator was made")
