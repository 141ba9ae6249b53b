"""`Client`: the runs of a store, started, found, cancelled and resumed from a process that carries out none of them."""

import asyncio
import logging
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiorch.documents.executions import ExecutionStatus
from aiorch.documents.runs import OrchestrationStatus, RunSummary
from aiorch.engine.executor import DAGExecutor
from aiorch.engine.sweeper import Sweeper
from aiorch.errors import (
    AiorchError,
    InputProblem,
    InvalidInputError,
    OrchestratorClosedError,
    StepMissingError,
    StoreError,
)
from aiorch.model import names
from aiorch.model.dag import DAG
from aiorch.model.run_document import StartCommand
from aiorch.model.values import encode_value
from aiorch.ports.store import Store
from aiorch.ports.world import Clock, Entropy
from aiorch.run_handle import RunHandle, RunResult, refuse_wrong_reason
from aiorch.settings import Settings
from aiorch.stores import DEFAULT_STORE, open_store

logger = logging.getLogger(__name__)

UNATTENDED_S = 10.0
"""Time after which a client warns that no process carries out a run that it has started."""

Definition = DAG | Mapping[str, Any] | str | os.PathLike[str]
"""A DAG, a definition as a mapping, or the path of a definition file (JSON or YAML)."""


class Client:
    """
    Starts, finds, cancels and resumes the runs of a store. Other processes of the store carry them out.

    ::

        async with Client("sqlite:///state.db") as client:
            run = await client.start("sample.yaml", input={"day": "2026-11-23"})
            result = await run.wait()

    Args:
        store: URL of a store (``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``gs://bucket/prefix``), or a
            store. Not ``memory:``, which no other process can open.

        settings: The values that a program may tune.

        clock, entropy: Time and chance, replaceable for tests.
    """

    settings: Settings
    store: Store
    runs_status: OrchestrationStatus
    executions: ExecutionStatus

    def __init__(
        self,
        store: str | Store = DEFAULT_STORE,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        refuse_wrong_types(store, settings, made="client")
        if store == "memory:":
            raise AiorchError(
                "no other process can open the store 'memory:', so the runs of a client would wait for ever: no client "
                "was made. Use an Orchestrator, or the URL of a store that processes share (sqlite:///… or gs://…)."
            )
        self._connect(store, settings or Settings(), targets={}, clock=clock, entropy=entropy)

    def _connect(self, store: str | Store, settings: Settings, **executor: Any) -> None:
        """Open the store, and make the executor with these arguments."""
        self.settings = settings
        self.store = open_store(store) if isinstance(store, str) else store
        self.runs_status = OrchestrationStatus(self.store)
        self.executions = ExecutionStatus(self.store)
        self._executor = DAGExecutor(
            orchestration_status=self.runs_status,
            execution_status=self.executions,
            settings=self.settings.launches,
            commit_interval_s=self.settings.commit_interval_s,
            default_region=self.settings.region,
            **executor,
        )
        pace = self.store.pace
        self._sweeper = Sweeper(
            self._executor,
            self.store,
            interval_s=self.settings.sweep_interval_s or pace.sweep_interval_s,
            relook_s=self.settings.relook_s or pace.relook_s,
            refresh_s=self.settings.relook_s or pace.refresh_s,
        )
        self._background: list[asyncio.Task[None]] = []
        self._is_open: bool | None = None  # not yet

    # -- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._is_open is False:
            self._refuse_unless_open("it was not opened again")
        self._background = [asyncio.get_running_loop().create_task(self._sweeper.watch())]
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self._close(self.settings.drain_s)

    async def _close(self, drain_s: float) -> None:
        try:
            await self._executor.close(drain_s)
            self._is_open = False
            await self._close_source()
            await self._executor.leave()
        except StoreError as error:
            logger.warning("heartbeat not withdrawn; other replicas will time it out", extra={"error": str(error)})
        finally:
            self._is_open = False
            await self._executor.close_targets()
            await self.store.aclose()

    async def _close_source(self) -> None:
        """Give back the messages that were not settled: a client takes none."""

    def _refuse_unless_open(self, undone: str) -> None:
        """Raise an OrchestratorClosedError before `join` and after the last commit of this process."""
        if self._is_open:
            return
        kind = type(self).__name__
        this = f"this {kind.lower()} is"
        if self._is_open is None:
            raise OrchestratorClosedError(f"{this} not open yet, so {undone}. Enter it: async with {kind}(…).")
        raise OrchestratorClosedError(f"{this} closed, so {undone}. Create a new {kind}.")

    # -- runs ----------------------------------------------------------------------------------------------------

    def dag(self, definition: Definition) -> DAG:
        """
        Build a DAG.

        Raises:
            DefinitionError: With every problem of the definition.
        """
        return self.runs_status.known(build(definition))

    async def start(self, dag: Definition, *, input: Any = None, run_id: str | None = None) -> RunHandle:  # noqa: A002
        """
        Begin a run; with the id of a run that exists, and the same definition and input, get that run.

        Args:
            dag: The DAG to run.

            input: Anything that JSON can hold; the tasks see it as ``context.input``. For a DAG that declares inputs: a
                mapping of values by the names of inputs, which is completed with the defaults.

            run_id: Id of the run, by default one of the time and chance.

        Raises:
            DefinitionError: The definition is not valid.

            UnresolvedFunctionError: This process cannot launch some of its tasks.

            InvalidInputError: The input is not JSON, or not as the DAG declares it; with every mistake.

            InvalidIdError: The run id cannot be part of an object name.

            RunConflictError: The run exists with a different definition or input.

            RunTooLargeError: The run could outgrow its document.

            OrchestratorClosedError: This is not open.
        """
        self._refuse_unless_open("no run was started")
        dag, command = self._start_command(dag, input, run_id)
        self._check(dag)
        return await self._begin(dag, command)

    async def run(self, dag: Definition, *, input: Any = None, run_id: str | None = None) -> RunResult:  # noqa: A002
        """
        Begin a run, or find it, and wait for its end.

        Args:
            dag: As of `start`.

            input: As of `start`.

            run_id: As of `start`.

        Raises:
            AiorchError: As `start` and `RunHandle.wait`. A run that has failed raises nothing: see its status.
        """
        return await (await self.start(dag, input=input, run_id=run_id)).wait()

    async def attach(self, run_id: str) -> RunHandle:
        """
        Return a run that exists.

        Raises:
            RunNotFoundError: There is none of this id.

            OrchestratorClosedError: This is not open.
        """
        self._refuse_unless_open("the run was not read")
        committer = self._executor.committer(names.run_id(run_id))
        await committer.apply(None)
        return RunHandle(self._executor, committer)

    async def cancel(self, run_id: str, *, reason: str = "cancelled on request", force: bool = False) -> RunHandle:
        """
        Ask for the end of a run. A run that has ended stays as it is.

        Args:
            run_id: The run.

            reason: Kept in the run document.

            force: Also stop the level `finally`, or let it never begin.

        Raises:
            RunNotFoundError: There is none of this id.

            TypeError: The reason is no text.

            OrchestratorClosedError: This is not open.
        """
        self._refuse_unless_open("the run was not cancelled")
        refuse_wrong_reason(reason)
        committer = await self._executor.cancel(names.run_id(run_id), reason, force=force)
        handle = RunHandle(self._executor, committer)
        if handle.status.is_terminal:
            return handle
        await self._sweeper.look(run_id)  # a dead owner cannot stop anything
        return await self.attach(run_id)

    async def resume(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        input: Any = ...,  # noqa: A002
        definition: Definition | None = None,
    ) -> RunHandle:
        """
        Begin the run that goes on where *run_id* failed or was cancelled; asked again, return the same run.

        Args:
            run_id: The run to resume.

            from_step: Name of a step that *run_id* reached. The step and all steps that may follow run anew, and the
                results of all others are kept; a completed run can be resumed, too. `None`: the steps run that did not
                end well.

            input: The input of the new run, only together with *from_step*; left out: that of *run_id*. Kept results
                stay as they are.

            definition: The definition of the new run, `None` for that of *run_id*. The steps whose results are kept
                must be the same in both.

        Raises:
            RunNotFoundError: There is none of this id.

            RunStateError: The run is open; or it has completed, and *from_step* is `None`.

            StepNotResumableError: No resumed run can begin with *from_step*.

            DefinitionChangedError: The definition changes steps whose results are kept.

            DefinitionError: The definition is not valid.

            StepMissingError: An input was given without *from_step*.

            InvalidInputError: The input is not JSON, or not as the definition declares it.

            RunConflictError: The run was resumed before, with a different step, input or definition.

            UnresolvedFunctionError: This process cannot launch some of its tasks.

            OrchestratorClosedError: This is not open.
        """
        self._refuse_unless_open("no run was started")
        encoded = None
        if input is not ...:
            if from_step is None:
                raise StepMissingError(run_id)
            encoded = _encoded_input(input)
        dag, command = await self._executor.resume_command(
            run_id,
            from_step=from_step,
            encoded_input=encoded,
            definition=None if definition is None else self.dag(definition),
        )
        self._check(dag)
        return await self._begin(dag, command)

    async def runs(self, *, labels: Mapping[str, str] | None = None) -> list[RunSummary]:
        """
        Return the runs of the store, the newest first.

        Args:
            labels: Return only the runs that have all of these labels.

        Raises:
            OrchestratorClosedError: This is not open.
        """
        self._refuse_unless_open("no run was read")
        return await self.runs_status.list_runs(labels)

    async def dead_owners(self, run: RunHandle) -> frozenset[str]:
        """
        Return the ids of the processes that owe something to a run and are known to be gone.

        Raises:
            StoreError: The store does not tell.
        """
        owners = run.run.owners
        return await self.store.dead_among(owners) if owners else owners

    def _check(self, dag: DAG) -> None:
        """Raise if this process could not launch a task of a run that it is about to begin."""

    async def _begin(self, dag: DAG, command: StartCommand) -> RunHandle:
        handle = RunHandle(self._executor, await self._executor.start(dag, command))
        self._executor.spawn(self._warn_if_unattended(handle.run_id), may_be_cut=True)
        return handle

    async def _warn_if_unattended(self, run_id: str) -> None:
        """Warn, once, if no living process works on a run that this client has started."""
        await asyncio.sleep(UNATTENDED_S)
        try:
            run = await self.attach(run_id)
            is_unattended = run.run.waits_for_process(await self.dead_owners(run))
        except AiorchError:
            return  # the waiting callers learn of it
        if is_unattended:
            logger.warning(
                "no process carries out this run, so it waits: start a process that serves the store (aiorch serve)",
                extra={"action": "run_unattended", "run_id": run_id, "store": str(self.store)},
            )

    def _start_command(self, definition: Definition, input: Any, run_id: str | None) -> tuple[DAG, StartCommand]:  # noqa: A002
        dag = self.dag(definition)
        encoded = dag.complete_input(_encoded_input(input, dag=dag.name))
        if run_id is None:
            run_id = self._executor.new_run_id()
        return dag, self._executor.start_command(dag, run_id, encoded)


def _encoded_input(input: Any, *, dag: str | None = None) -> bytes:  # noqa: A002
    """Return an input as JSON. Raises: InvalidInputError, which names each value that is not JSON."""
    try:
        return encode_value(input)
    except ValueError as error:
        problems = []
        if isinstance(input, dict):
            for name, value in input.items():
                try:
                    encode_value({name: value})
                except ValueError as reason:
                    problems.append(InputProblem(str(name), str(name), f"is not JSON: {reason}"))
        whole = InputProblem("", "", f"is not JSON: {error}")
        raise InvalidInputError(problems or [whole], dag=dag) from error


def build(definition: Definition) -> DAG:
    """Return the DAG of a definition. Raises: DefinitionError."""
    if isinstance(definition, DAG):
        return definition
    from aiorch.definition.build import DAGBuilder  # noqa: PLC0415  slow to import

    return DAGBuilder(definition).build_dag()


def refuse_wrong_types(store: Any, settings: Any, *, made: str) -> None:
    """Raise a TypeError that names the argument: a later failure would not tell which argument it was."""
    wrong = None
    if not isinstance(store, str) and not hasattr(store, "pace"):
        wrong = f"store is of type {type(store).__name__} and must be a URL or a Store"
        if isinstance(store, os.PathLike):
            wrong += f"; a file is named by {f'sqlite:///{os.fspath(store)}'!r}"
    elif settings is not None and not isinstance(settings, Settings):
        wrong = f"settings is of type {type(settings).__name__} and must be a Settings"
    if wrong is not None:
        raise TypeError(f"{wrong}; no {made} was made.")
