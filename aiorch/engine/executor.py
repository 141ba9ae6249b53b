"""
`DAGExecutor`: events in, commits and launches out.

The executor finds the run of each event, hands the event to that run's committer, and meets the obligations of this
process in the committed state: launches, stops, retries when they are due. `core.fold` alone decides the next step of
a run; this module never does.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, assert_never, cast
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from aiorch.core.begin import new_header, new_run
from aiorch.core.draft import Process
from aiorch.core.owed import Obligation, obligation
from aiorch.core.run_events import CancelRequested, ProcessesDied, RunStarted, TaskUnanswered, TaskWaits
from aiorch.documents.executions import Execution, ExecutionStatus, new_execution
from aiorch.documents.results import SpilledResults
from aiorch.documents.runs import OrchestrationStatus, StoredRun
from aiorch.engine import defaults
from aiorch.engine.answers import completion, is_at, is_called_here, is_of, let_answer_come
from aiorch.engine.committer import Committer
from aiorch.engine.launches import Launches
from aiorch.engine.markers import Markers
from aiorch.engine.outcomes import Outcomes, SupplementaryFunctions
from aiorch.engine.receipt import Outcome, Receipt
from aiorch.engine.resume import kept_by, resume_version
from aiorch.engine.slots import Slots
from aiorch.engine.standstill import Standstill
from aiorch.engine.timers import Timers
from aiorch.errors import (
    RunConflictError,
    RunNotFoundError,
    StoreUnavailable,
    UnknownDAGError,
    in_words,
)
from aiorch.events.decode import EventFactory, start_run_id
from aiorch.events.event import CancelEvent, Completion, Hint, StartEvent
from aiorch.model import names
from aiorch.model.dag import DAG, Task
from aiorch.model.enums import TargetTypes
from aiorch.model.json_values import are_equal
from aiorch.model.place import At
from aiorch.model.run import Changes, Run
from aiorch.model.run_document import NodeState, RunHeader, StartCommand
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.ports.observer import NoObserver, Observer
from aiorch.ports.secrets import NoSecrets, Secrets
from aiorch.ports.store import LOCAL_PACE, Liveness, Pace
from aiorch.ports.target import Target
from aiorch.ports.world import Clock, Entropy
from aiorch.settings import LaunchSettings

logger = logging.getLogger(__name__)
run_logger = logging.getLogger("aiorch.runs")
run_logger.addHandler(logging.NullHandler())  # `RunHandle.wait` tells failures to a program that set up no logging

_T = TypeVar("_T")

COMMIT_GRACE_S = 2.0
"""Seconds that the last commits may take at the end, even when the grace is shorter."""

DRAIN_S = 5.0
"""Seconds for which running tasks may go on after the program has left the context of an executor."""

_encode = msgspec.json.Encoder().encode


class Functions(Target, SupplementaryFunctions, Protocol):
    """The target of ``Function`` tasks, which also calls the supplementary functions of other tasks."""


class DAGExecutor:
    """
    The engine of one process: events in, commits and launches out. `aiorch.Orchestrator` is built on it.

    ::

        async with DAGExecutor(dag) as executor:
            await executor.handle({"resource": {"type": "start", "labels": {"run_id": "one"}}})
            await executor.wait("one")

    The state of an executor needs no lock: only the event loop's thread touches the state, and no method awaits
    between read and write.

    Args:
        dags: The DAGs that a start may name. A start that names none is about the only one.

        orchestration_status: Reads and writes the runs; `None`: the status that *dags* were built with.

        execution_status: Reads and writes the records of executions; `None`: as above.

        targets: Targets by `target_type`, closed together with this; `None`: the built-in ones. An empty mapping is
            for a client, which launches no task.

        functions: Calls the supplementary functions of tasks, and ``Function`` tasks where *targets* is `None`; `None`:
            callables are found by import.

        liveness: Tells which processes are alive; `None`: the store of the statuses.

        clock, entropy: Time and chance; `None`: the real ones.

        observer: Receives facts about the work of the engine; `None`: no observer.

        events: Decodes event data.

        awaits_events: The ends of executions arrive as events, so this process waits for the event of a call whose
            answer was lost.

        only_own_runs: See `own_runs`.

        settings: Limits and pauses of launches.

        commit_interval_s: See `aiorch.ports.Pace`; `None`: the store decides.

        default_region: Region of steps that name none.

        secrets: The secrets that the operator gave to this process; `None`: none.

    Attributes:
        process: This process, whose id stands in ``by`` of the entries that this process owes an action to.

        dags: The DAGs that a start may name, by name.

        targets: Targets by `target_type`.

        committers: The committers of the runs that are in memory, by run id.

        slots: The slots of target types with a limit, and the tasks that wait for a slot.

        markers: The markers of open runs: they draw the attention of other processes.

        observer: Receives facts about the work of the engine.

        standstill: Measures for how long this process stood still.

        commit_interval_s: See `aiorch.ports.Pace`.

        own_runs: Ids of the runs that this process carries out, `None` for all runs of the store.

        activity: Grows whenever this process learns a fact about a run, or forgets a run.

        on_commit: Called with each commit of this process, before the launches that follow from the commit.

        on_release: Called when this process forgets an open run.

        on_store_away: Called when the store does not answer: the caller should bring no new events until the store
            answers.
    """

    def __init__(  # noqa: PLR0913  the ports, one each
        self,
        *dags: DAG,
        orchestration_status: OrchestrationStatus | None = None,
        execution_status: ExecutionStatus | None = None,
        targets: Mapping[str, Target] | Mapping[TargetTypes, Target] | None = None,
        functions: Functions | None = None,
        liveness: Liveness | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        observer: Observer | None = None,
        events: EventFactory | None = None,
        awaits_events: bool = False,
        only_own_runs: bool = False,
        settings: LaunchSettings | None = None,
        commit_interval_s: float | None = None,
        default_region: str | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self.runs: OrchestrationStatus = _status(
            "orchestration_status",
            OrchestrationStatus,
            orchestration_status,
            [dag.orchestration_status for dag in dags],
        )
        self.executions: ExecutionStatus = _status(
            "execution_status", ExecutionStatus, execution_status, [dag.execution_status for dag in dags]
        )
        if functions is None and (targets is None or targets):
            functions = defaults.importing_functions()
        if targets is None:
            assert functions is not None
            targets = defaults.built_in_targets(functions)
        self.targets: Mapping[str, Target] = cast("Mapping[str, Target]", targets)  # a `TargetTypes` is a text
        if liveness is None:
            liveness = cast("Liveness", self.runs.store)  # every store of ours is a `Liveness`
        pace: Pace = getattr(self.runs.store, "pace", LOCAL_PACE)
        settings = settings or LaunchSettings()
        if settings.running_after_s is None:
            settings = replace(settings, running_after_s=pace.running_after_s)
        self.dags: dict[str, DAG] = {dag.name: dag for dag in dags}
        clock, entropy = clock or defaults.system_clock(), entropy or defaults.system_entropy()
        self.clock: Clock = clock
        self.entropy: Entropy = entropy
        self.observer: Observer | NoObserver = observer or NoObserver()
        self.commit_interval_s: float = pace.commit_interval_s if commit_interval_s is None else commit_interval_s
        self.on_store_away: Callable[[], None] = lambda: None
        self.on_commit: Callable[[Committer, Changes], None] = lambda *_: None
        self.on_release: Callable[[Committer], None] = lambda _: None
        process_id = entropy.token()
        self.committers: dict[str, Committer] = {}
        self.own_runs: set[str] | None = set() if only_own_runs else None
        self.activity: int = 0
        self.slots: Slots = Slots(
            settings.limits,
            process_id=process_id,
            can_launch=self._can_launch,
            carries_out=self.carries_out,
            committers=self.committers,
            clock=clock,
        )
        self.process: Process = Process(
            process_id, self._can_launch, awaits_events, self._why_never, slots=self.slots.left_by_type
        )
        self.markers: Markers = Markers(self.runs, entropy)
        self._events = events or EventFactory()
        self._liveness = liveness
        self._default_region = default_region
        self._secrets: Secrets = secrets or NoSecrets()
        self._functions = functions
        self._resolved: WeakKeyDictionary[Task, str | None] = WeakKeyDictionary()
        self._untold: WeakSet[Task] = WeakSet()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._sleepers: dict[asyncio.Task[Any], None] = {}
        self.standstill: Standstill = Standstill()
        self._timers = Timers(
            clock, self.slots, self.committers, awaits_events=awaits_events, committer_of=self.committer
        )
        self._is_closing = False
        self._spilled = SpilledResults(self.executions)
        outcomes = Outcomes(
            targets=self.targets,
            functions=functions,
            executions=self.executions,
            spilled=self._spilled,
            process=self.process,
            liveness=liveness,
            clock=clock,
            entropy=entropy,
            observer=self.observer,
            standstill=self.standstill,
            poll_interval_s=settings.poll_interval_s,
            backoff_max_s=settings.backoff_max_s,
            record_of=self.record_of,
            secrets=self._secrets,
            is_closing=lambda: self._is_closing,
        )
        self._launches = Launches(
            outcomes=outcomes,
            process=self.process,
            settings=settings,
            spawn=self.spawn,
            slots=self.slots,
            is_closing=lambda: self._is_closing,
        )

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close(DRAIN_S)
            await self.leave()
        finally:
            await self.close_targets()

    async def join(self) -> None:
        """Let this process count as alive. Called before any other method. Raises: StoreError."""
        await self._liveness.join(self.process.id, self.is_working)

    async def leave(self) -> None:
        """Announce that this process has ended. Called after `close`. Raises: StoreError."""
        await self._liveness.leave(self.process.id)

    async def close_targets(self) -> None:
        """Let the targets release their connections and threads. Called last."""
        for target in self.targets.values():
            await target.aclose()
        await self._secrets.aclose()

    def spawn(self, work: Coroutine[Any, Any, _T], *, may_be_cut: bool = False) -> asyncio.Task[_T]:
        """
        Run *work* in the background, inside the scope that `close` ends.

        Args:
            work: The coroutine to run. Raises no exception.

            may_be_cut: *work* mostly waits, and its cancellation loses no fact: `close` does not wait for *work*.
        """
        task = asyncio.get_running_loop().create_task(work)
        tasks = self._sleepers if may_be_cut else self._tasks
        tasks[task] = None
        task.add_done_callback(tasks.pop)
        return task

    async def close(self, grace_s: float) -> None:
        """
        Launch no more executions, let those under way end within the grace, commit the known outcomes, and stop.

        This process gives up the executions that are still under way then. Their runs stay open, and go on in the
        process that takes them over.
        """
        self._is_closing = True
        self._timers.close()
        for sleeper in self._sleepers:
            sleeper.cancel()
        await self._launches.close(grace_s)
        try:
            # An unreachable store must not hold up the end.
            async with asyncio.timeout(max(grace_s, COMMIT_GRACE_S)):
                for committer in list(self.committers.values()):
                    await committer.close()
                if self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            logger.warning("the store did not take the last commits in time; their work will be done again")
        for committer in list(self.committers.values()):
            await committer.abandon()
        left = [*self._tasks, *self._sleepers]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    # -- events --------------------------------------------------------------------------------------------------

    async def handle(
        self,
        event_data: dict[str, Any],
        *,
        message_id: str | None = None,
        publish_time: datetime | None = None,
        receipt: Receipt | None = None,
    ) -> Receipt:
        """
        Bring an event into its run: begin the run, cancel it, record the end of a task, or ask the target about one.

        Returns when a commit contains the event. The launches that follow from it go on in the background.

        Args:
            event_data: A start, a cancel, or a platform's report about the end of an execution; see `EventFactory`.

            message_id: Id of the message that carried the event.

            publish_time: When that message was published. A start without a run id gets an id made of both, so that
                a redelivery of the message names the same run; without the two, an id made of time and chance.

            receipt: The receipt to write on, which holds the known facts about the event also when this raises.

        Raises:
            MalformedEventError: *event_data* has the shape of an event of a run, and no event can be decoded from it.

            UnknownDAGError: A start names no DAG of `dags`.

            InvalidInputError: The parameters of a start are not as the DAG declares its inputs.

            RunConflictError, RunTooLargeError: See `start`.

            RunNotFoundError: The run of a cancel does not exist, or that of an execution no longer does.

            StoreError, DocumentError: The event could not be committed.
        """
        receipt = receipt or Receipt()
        event = self._events.create_from_event(event_data)
        match event:
            case StartEvent():
                receipt.kind = "start"
                receipt.run_id = event.run_id or self._new_run_id(message_id, publish_time)
                dag = self._served(event.dag)
                encoded = dag.complete_input(_encode(event.parameters))
                await self.start(dag, self.start_command(dag, receipt.run_id, encoded))
                receipt.outcome = Outcome.APPLIED
            case CancelEvent():
                assert event.run_id is not None
                receipt.kind, receipt.run_id = "cancel", event.run_id
                await self.cancel(event.run_id, event.reason, force=event.force)
                receipt.outcome = Outcome.APPLIED
            case Completion():
                receipt.kind = event.label
                receipt.outcome = Outcome.OWN if self._events.is_own(event) else await self._complete(event, receipt)
            case Hint():
                receipt.kind = event.label
                receipt.outcome = await self._poll_soon(event, receipt)
            case _:
                receipt.outcome = Outcome.FOREIGN
        return receipt

    def _new_run_id(self, message_id: str | None, publish_time: datetime | None) -> str:
        if message_id is None or publish_time is None:
            return self.new_run_id()
        return start_run_id(message_id, publish_time)

    def _served(self, name: str | None) -> DAG:
        if name is None and len(self.dags) == 1:
            return next(iter(self.dags.values()))
        if name is None or name not in self.dags:
            raise UnknownDAGError(name, self.dags)
        return self.dags[name]

    async def _complete(self, event: Completion, receipt: Receipt) -> Outcome:
        """Record the end of a call."""
        key = event.execution_key
        record = await self.executions.get_record(key) if key is not None else None
        if key is None or record is None or not is_of(event, record):
            return Outcome.FOREIGN
        receipt.is_about(record)
        if event.never_ran and is_called_here(self.committers.get(record.run_id), record.node_name):
            return Outcome.APPLIED  # the answer to the call says the same, and there may be thousands of these events
        committer = self.committer(record.run_id)
        committer.visitors += 1  # keeps the run in memory: the events of a thousand calls shall not read it each time
        try:
            is_missing = await let_answer_come(
                committer,
                record.node_name,
                record.attempt,
                standstill=self.standstill,
                commit_interval_s=self.commit_interval_s,
            )
        finally:
            committer.visitors -= 1
            self.release(committer)
        if is_missing:
            # A process stores a large result before the commit, so the result outlives a process that died in between.
            record = await self.executions.get_record(key) or record
        await self.committer(record.run_id).apply(completion(event, record))
        return Outcome.APPLIED

    async def _poll_soon(self, event: Hint, receipt: Receipt) -> Outcome:
        """Ask the target about an execution that has ended according to an event."""
        record = None
        for known_as in (event.execution_key, event.execution_id):
            if known_as is not None and record is None:
                record = await self.executions.get_record(known_as)
        if record is None or record.target_type != event.target_type or not is_at(event, record):
            return Outcome.FOREIGN
        receipt.is_about(record)
        await self.hint(record.run_id, record.node_name, record.attempt)
        return Outcome.HINTED

    async def wait(self, run_id: str) -> StoredRun:
        """
        Wait for the end of a run, and return the stored run then.

        Raises:
            RunNotFoundError: There is no such run.

            StoreError: The store refuses the run's commits for good. The run stays open.
        """
        committer = self.committer(run_id)
        await committer.apply(None)
        while committer.run is not None and not committer.run.status.is_terminal:
            committer = await self.next_commit(committer, None)
        return await self.stored_run(run_id)

    async def next_commit(self, committer: Committer, since: int | None) -> Committer:
        """
        Wait for a commit after that of generation *since*; `None`: for the end of the run.

        Returns:
            The present committer of the run: this process may have forgotten the run, and read it again.

        Raises:
            AiorchError: This process cannot commit the run at present.
        """
        held = self.committer(committer.run_id)
        if held is not committer:  # this process forgot the run, since only other processes owed actions to it
            held.refresh()
        if held.error is not None:
            raise held.error
        await held.changed(since)
        return held

    # -- commands ------------------------------------------------------------------------------------------------

    def new_run_id(self) -> str:
        """Return a run id made of time and chance."""
        return f"run_{int(self.clock.now().timestamp())}_{self.entropy.token()[:16]}"

    def start_command(self, dag: DAG, run_id: str, encoded_input: bytes) -> StartCommand:
        """Return a start command for a run of *dag* with a complete input. Raises: InvalidIdError."""
        return StartCommand(
            schema_version=dag.schema_version,
            run_id=names.run_id(run_id),
            nonce=self.entropy.token(),
            dag=dag.name,
            definition=dag.definition_id,
            input=msgspec.Raw(encoded_input),
            created_at=self.clock.now(),
        )

    async def resume_command(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        encoded_input: bytes | None = None,
        definition: DAG | None = None,
    ) -> tuple[DAG, StartCommand]:
        """
        Return the DAG and the command of the run that goes on with the results of *run_id*.

        Args:
            run_id: The run to resume.

            from_step: Name of the step that runs anew with all that follow; `None`: the steps that did not end well.

            encoded_input: The input of the resumed run as JSON; `None`: that of *run_id*.

            definition: The DAG of the resumed run, whose inputs the kept input has to be as well; `None` for that of
                *run_id*.

        Raises:
            RunNotFoundError: There is no such run.

            RunStateError: The run is open; or it has completed, and no step is named.

            StepNotResumableError: No resumed run can begin with the step.

            DefinitionChangedError: The definition changes steps whose results are kept.

            InvalidInputError: The input is not as the definition of the resumed run declares it.
        """
        old, run, _ = await self.stored_run(run_id)
        dag = definition or old
        kept_by(dag, old, run, from_step)
        base, count = run_id, 1
        if run.header.resumed_from:
            base, _, suffix = run_id.rpartition(".")
            count = int(suffix)
        encoded = bytes(run.header.input) if encoded_input is None else encoded_input
        if encoded_input is not None or definition is not None:
            encoded = dag.complete_input(encoded)
        command = self.start_command(dag, f"{base}.{count + 1}", encoded)
        facts = {"resumed_from": run_id, "from_step": from_step}
        return dag, msgspec.structs.replace(command, **facts, schema_version=resume_version(dag, old, from_step))

    async def start(self, dag: DAG, command: StartCommand) -> Committer:
        """
        Begin a run, or find the run when it has begun: the same start command any number of times is one run.

        Raises:
            RunConflictError: The run exists with a different definition, input or origin. Inputs are compared as JSON
                values.

            RunTooLargeError: The document of the run could grow too large. The store holds no part of the run.
        """
        run = await self._new_run(dag, command)
        await self.runs.save_dag(dag)
        committer = self.committer(command.run_id)
        committer.starting += 1  # keeps the committer in memory, and lets a sweep that finds the marker leave it to us
        try:
            await self.markers.create(committer, command)
        except BaseException:
            committer.starting -= 1
            self.release(committer)
            raise
        committer.starting -= 1
        committer.begin(run)
        await committer.apply(RunStarted())
        stored = committer.run or (await self.stored_run(command.run_id)).run
        self._timers.arm_timeout(committer)
        for difference, is_same in (
            ("definition", command.definition == stored.header.definition),
            ("input", are_equal(bytes(command.input), bytes(stored.header.input))),
            ("origin", command.resumed_from == stored.header.resumed_from),
            ("step to resume from", command.from_step == stored.header.resumed_from_step),
        ):
            if not is_same:
                raise RunConflictError(command.run_id, difference, resumed_from=command.resumed_from)
        if self.own_runs is not None:
            self.own_runs.add(command.run_id)
            if committer.run is not None:
                begun = committer.run  # the first commit has armed no timer, and let no task wait for a slot
                self.pursue(committer, [*begun.active, *begun.due], own=begun.due)
        return committer

    async def cancel(self, run_id: str, reason: str, *, force: bool = False) -> Committer:
        """
        Ask for the end of a run. No process launches its tasks any more; each process stops the tasks that it launched.

        Args:
            run_id: The run.

            reason: Kept in the run document.

            force: Also stop the level `finally`, or let it never begin.

        Raises:
            RunNotFoundError: There is no such run.

            StoreUnavailable: The run document holds the cancel, and no marker told the processes that run the tasks.
        """
        committer = self.committer(run_id)
        await committer.apply(CancelRequested(reason, force))
        if self.owners(committer) - {self.process.id} and not await self._is_told(committer):
            raise StoreUnavailable(
                f"the cancel of run {run_id!r} is recorded, and the processes that run its tasks could not be told, so "
                f"they may go on for a while. Cancel it again."
            )
        return committer

    async def stored_run(self, run_id: str) -> StoredRun:
        """Read a run from the store. Raises: RunNotFoundError."""
        stored = await self.runs.get_run(names.run_id(run_id))
        if stored is None:
            raise RunNotFoundError(run_id, str(self.runs.store))
        held = self.committers.get(run_id)
        if held is not None and held.run is not None and held.generation != stored.generation:
            held.refresh()  # the committer must not act on a copy that this process knows to be old
        return stored

    async def results_of(self, places: Mapping[str, str]) -> dict[str, msgspec.Raw]:
        """
        Return results that are outside of run documents, as JSON.

        Args:
            places: By names of the caller's choice, where each one is: see `NodeState.result_place`.

        Raises:
            StoreError, ResultUnreadableError: See `SpilledResults.of`.
        """
        found = await self._spilled.of(places)
        return {name: msgspec.Raw(result) for name, result in found.items()}

    async def _new_run(self, dag: DAG, command: StartCommand) -> StoredRun:
        kept = None
        if command.resumed_from:
            old, run, _ = await self.stored_run(command.resumed_from)
            kept = kept_by(dag, old, run, command.from_step)
        timeout_at = command.created_at + timedelta(seconds=dag.timeout) if dag.timeout else None
        return StoredRun(dag, new_run(dag, new_header(command, dag, timeout_at), kept), 0)

    # -- runs in memory ------------------------------------------------------------------------------------------

    def committer(self, run_id: str) -> Committer:
        """Return the committer of a run, which reads the run when it has to. Raises: InvalidIdError."""
        committer = self.committers.get(run_id)
        if committer is None:
            committer = self.committers[run_id] = Committer(self, names.run_id(run_id))
        return committer

    def release(self, committer: Committer) -> None:
        """Forget a committer when this process has no work left for its run: a later event reads the run again."""
        if (
            committer.is_idle
            and not self.owns(committer)
            and not self.slots.is_wanted_by(committer)
            and self.committers.get(committer.run_id) is committer
        ):
            del self.committers[committer.run_id]
            self.activity += 1
            if committer.generation and committer.run is not None and not committer.run.status.is_terminal:
                self.on_release(committer)

    def record_of(self, task: Task, state: NodeState, header: RunHeader) -> Execution:
        """Return the record of the execution that *state* is about."""
        return new_execution(task, state, header, default_region=self._default_region)

    def run_ended(self, committer: Committer) -> None:
        """Say that this process has committed the end of a run."""
        assert committer.dag is not None
        assert committer.run is not None
        header = committer.run.header
        self.observer.run_ended(header.status)
        facts = {
            "action": "run_ended",
            "run_id": committer.run_id,
            "dag": header.dag,
            "status": header.status.value,
            "duration_s": (header.updated_at - header.created_at).total_seconds(),
        }
        if header.status is RunStatus.FAILED:
            run_logger.warning("run failed", extra=facts | _why_failed(committer.dag, committer.run))
        else:
            run_logger.info("run ended", extra=facts)

    def owners(self, committer: Committer) -> frozenset[str]:
        """The processes that owe an action to a run, as far as this copy knows."""
        return committer.run.owners if committer.run is not None else frozenset()

    def owns(self, committer: Committer) -> bool:
        """Whether this process owes an action to the run."""
        run = committer.run
        return run is not None and self.process.id in run.active_by

    def carries_out(self, run_id: str) -> bool:
        """Whether this process begins tasks of the run that no process has claimed, and takes over from the dead."""
        return self.own_runs is None or run_id in self.own_runs

    def is_working(self) -> bool:
        """Whether this process owes an action to any run."""
        return any(self.owns(committer) for committer in self.committers.values())

    async def announce(self) -> None:
        """Tell the other processes that this process lives, before it commits to an action."""
        if self._liveness.is_silent(self.process.id):
            await self._liveness.announce(self.process.id)

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """Return those of *processes* that are dead. Raises: StoreError."""
        return await self._liveness.dead_among(processes)

    async def adopt(self, committer: Committer) -> None:
        """Take over the tasks of dead processes in a run, claim unclaimed ones, and watch the run's timeout."""
        others = self.owners(committer) - {self.process.id}
        asked_at = asyncio.get_running_loop().time()
        dead = await self.dead_among(others) if others else frozenset()
        self._timers.arm_timeout(committer)
        events = self.slots.unclaimed(committer)
        if dead & self.owners(committer):
            events.append(ProcessesDied(dead, asked_at))
            logger.warning("going on with a run whose process is gone", extra={"run_id": committer.run_id})
        if events:
            await committer.apply(*events)

    # -- obligations of the committed state ----------------------------------------------------------------------

    def pursue(self, committer: Committer, touched: Iterable[str], own: Container[str] = ()) -> None:
        """
        Do what this process owes to the committed run.

        Args:
            committer: The run.

            own: Names of the entries that this process has just committed.

            touched: Names of the entries to look at: those that the commit changed, or all that may have changed. An
                entry whose scope has ended is gone.
        """
        dag, run = committer.dag, committer.run
        assert dag is not None
        assert run is not None
        self.activity += 1
        unclaimed: list[At[Task]] = []
        carries_out = self.carries_out(committer.run_id)
        states, nodes, in_flight = run.nodes, dag.all_nodes, committer.in_flight
        has_timers = self._timers.has_entries
        for name in touched:
            state = states.get(name)
            if state is None:
                _forget(committer, name)
                self._timers.drop_due(committer.run_id, name)
                continue
            at: At[Any] = At(nodes.get(name) or dag.node_of(name), name)
            if state.unanswered is not None and state.is_undecided and carries_out and self._can_launch(at.node):
                committer.post(TaskUnanswered(name, state.attempt))  # the owner is not able to launch the task
            if name in in_flight and _is_under_way(committer, name, state, self.process.id):
                continue
            if state.due_at is not None and carries_out:
                self._timers.arm_due(committer.run_id, name, state.due_at, is_own=name in own)
            elif has_timers:
                self._timers.drop_due(committer.run_id, name)
            if at.node.scopes:
                if state.status is TaskStatus.RUNNING:
                    at.node.execute(_Launcher(self._launches, committer, self.process.id, at.scope))
                continue
            match obligation(state, self.process.id):
                case None:
                    if state.by is None and carries_out and name in run.active:
                        unclaimed.append(at)
                        self._tell_why_not(committer, at, state)
                        if state.status is TaskStatus.RETRYING and self.slots.is_limited(at.node.target_type):
                            self._timers.arm_retry(committer, name, state)
                case Obligation.LAUNCH:
                    self._launches.launch(committer, at)
                case Obligation.AWAIT:
                    self._launches.await_end(committer, at)
                case Obligation.STOP:
                    self._launches.stop(committer, at)
                case Obligation.RETRY:
                    self._timers.arm_retry(committer, name, state)
                case unreachable:
                    assert_never(unreachable)
        self.slots.wait(committer, unclaimed)
        if run.header.final is not None and carries_out:
            self._timers.arm_timeout(committer)
        if run.status.is_terminal:
            self._timers.drop_timers(committer.run_id, run.nodes)
            self.spawn(self.markers.remove(committer))

    async def hint(self, run_id: str, name: str, attempt: int) -> None:
        """Ask soon about an execution that may have ended, also when a different process looks after the execution."""
        committer = self.committer(run_id)
        if committer.run is None or name not in committer.in_flight:
            await committer.apply(None)
        if committer.dag is not None and committer.run is not None and name in committer.run.nodes:
            self._launches.hint(committer, At(committer.dag.task_of(name), name), attempt)

    def notify_replicas(self, committer: Committer) -> None:
        """Let other processes look at a run: this process cannot launch a task of the run, or has taken a task on."""
        committer.notice = committer.generation, self.spawn(self._tell(committer))

    async def _tell(self, committer: Committer) -> bool:
        is_told = await self.markers.touch(committer)
        self.release(committer)  # this notice may be all that kept the committer in memory
        return is_told

    async def _is_told(self, committer: Committer) -> bool:
        """Whether the marker tells other processes to look at the present run; write it unless a commit has done so."""
        generation, notice = committer.notice or (0, None)
        if notice is None or generation != committer.generation or (notice.done() and not _has_arrived(notice)):
            self.notify_replicas(committer)
        assert committer.notice is not None
        _, notice = committer.notice
        await asyncio.wait([notice])
        return _has_arrived(notice)

    def _can_launch(self, task: Task) -> bool:
        if self._is_closing:
            return False  # new work is for other processes: this one could commit to it, and never do it
        if task not in self._resolved:
            reason = self._resolved[task] = self.why_not(task)
            limit = getattr(self._target_of(task), "limit", None)
            if limit is not None:
                self.slots.limit_to(task.target_type, limit)
            if reason is not None and self.targets:  # a client has no targets, and launches no task on purpose
                self._untold.add(task)
        return self._resolved[task] is None

    def _why_never(self, task: Task) -> str | None:
        return self._resolved.get(task) if self.targets else None

    def _tell_why_not(self, committer: Committer, at: At[Task], state: NodeState) -> None:
        """Write why this process can never launch a task: into the entry, and once per task into the log."""
        task = at.node
        if self._can_launch(task) or (why_not := self._why_never(task)) is None:
            return
        if task in self._untold:
            self._untold.remove(task)
            facts = {"run_id": committer.run_id, "node": at.name, "why": why_not}
            logger.warning("task waits for a process that can launch it", extra=facts)
        if state.ready_at is not None and state.waits_because is None:
            committer.note(TaskWaits(at.name, 0, why_not))

    def resolve_again(self) -> None:
        """Look anew at tasks that this process could not launch: it has come to know of more callables."""
        for task in [task for task, reason in self._resolved.items() if reason is not None]:
            del self._resolved[task]

    def _target_of(self, task: Task) -> Target | None:
        try:
            return self.targets[task.target_type]
        except KeyError:
            return None

    def why_not(self, task: Task, *, imports: bool = True) -> str | None:
        """
        Say why this process cannot launch *task*, or `None` if it can.

        Args:
            task: The task.

            imports: Also import its callable. Without an import a missing callable is not found.
        """
        target = self._target_of(task)
        if target is None:
            return f"this process has no target for {task.target_type} tasks"
        try:
            is_resolved = imports or target is not self._functions
            reason = target.resolve(task) if is_resolved else None
        except Exception as error:  # in a fold: no event may be lost since a package or a setting is wrong
            facts = {"action": "resolve_target", "node": task.name, "target_type": task.target_type}
            logger.exception(_UNUSABLE, extra=facts)
            return f"its target of {task.target_type} tasks cannot be used: {in_words(error)}"
        if reason is None and task.secrets:
            reason = next(filter(None, map(self._secrets.why_not, sorted(task.secrets))), None)
        if reason is None and task.supplement and imports:
            assert self._functions is not None
            reason = self._functions.resolve(task)
        return reason


_Status = TypeVar("_Status", OrchestrationStatus, ExecutionStatus)


def _status(name: str, kind: type[_Status], given: _Status | None, built_with: Iterable[object]) -> _Status:
    """Return the given status, or else the status that the DAGs were built with."""
    found = {given} if given is not None else {each for each in built_with if isinstance(each, kind)}
    if len(found) != 1:
        count = "none was given" if not found else f"{len(found)} different ones were given"
        raise TypeError(
            f"a DAGExecutor works with one {name}, and {count} to the builders of its DAGs, so no executor was made; "
            f"pass {name} to the DAGExecutor."
        )
    return found.pop()


class _Launcher:
    """Launches only those tasks in one scope of a run whose launch this process owes to the committed run."""

    __slots__ = ("_committer", "_launches", "_process_id", "_scope")

    def __init__(self, launches: Launches, committer: Committer, process_id: str, scope: str) -> None:
        self._launches = launches
        self._committer = committer
        self._process_id = process_id
        self._scope = scope

    def launch(self, task: Task) -> None:
        run, at = self._committer.run, At(task, self._scope + task.name)
        assert run is not None
        state = run.nodes.get(at.name)
        if state is not None and obligation(state, self._process_id) is Obligation.LAUNCH:
            self._launches.launch(self._committer, at)


def _why_failed(dag: DAG, run: Run) -> dict[str, Any]:
    """Return the facts for a log record about a failed run: the first failed task, or the error of the run itself."""
    failed = [
        (name, state.error)
        for name, state in run.nodes.items()
        if state.status is TaskStatus.FAILED
        and not state.caught
        and state.error is not None
        and not dag.node_of(name).scopes
    ]
    name, error = failed[0] if failed else (None, run.header.error)
    facts: dict[str, Any] = {} if name is None else {"node": name, "failed_tasks": len(failed)}
    if error is not None:
        facts |= {"error_type": error.type, "failure_message": error.message}
        facts |= {"where": error.where} if error.where else {}
    return facts


_UNUSABLE = (
    "a target cannot be used, so its tasks wait for a different process: correct the package or the setting that the "
    "traceback names, and start this process again"
)


def _has_arrived(notice: asyncio.Task[bool]) -> bool:
    return not notice.cancelled() and notice.result()


def _is_under_way(committer: Committer, name: str, state: NodeState, process_id: str) -> bool:
    """
    Whether this process has sent the execution and the execution may go on.

    Give up an execution that the run has left behind. Forget an execution that has ended here and that now belongs to
    a different process.
    """
    sent = committer.in_flight[name]
    is_left_to_another = sent.has_ended and state.by != process_id
    is_called_again = state.calls_again and sent.launch != state.launches
    if state.is_live and sent.attempt == state.attempt and not (is_left_to_another or is_called_again):
        return not state.stop
    _forget(committer, name)
    return False


def _forget(committer: Committer, name: str) -> None:
    """Give up an execution that the run has left behind, if one of the entry is under way here."""
    sent = committer.in_flight.pop(name, None)
    if sent is not None and sent.handle is not None and not sent.has_ended:
        sent.handle.cancel()
