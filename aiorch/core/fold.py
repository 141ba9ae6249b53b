"""
What happens next in a run: `fold`, and what a committed run owes.

Pure: nothing here awaits, logs, reads a clock or draws a random number. `fold` takes the committed run and everything
that was learned since, and returns what is to change; its cost depends on the events, not on the size of the run.

Invariants, checked by the property tests after every fold:

- I1  ``(attempt, status)`` of a task never moves backwards; a terminal status is final; a terminal run never changes.
- I2  a run is terminal only when none of its tasks is ``Starting`` or ``Running``.
- I3  a task starts only when every node before it is ``Completed`` and every `Parallel` around it is ``Running``.
- I4  a `Parallel` is ``Completed`` exactly when all its branches have come to their end.
- I5  folding the same events again changes nothing, and the order of events within one batch does not matter.

Statuses of a task (transitions are code, not a table, since most depend on the retry policy and on the `Parallel`
around it)::

    New ──▶ Starting ──▶ Running ──▶ Completed | Failed | Cancelled
     │          │  ▲        │
     ▼          ▼  │        ▼
    Skipped     Retrying ◀──┘            (Starting may end at once: the call's answer is its completion)

A ``Running`` call may owe one more launch of the same attempt: see `Unanswered`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from aiorch.errors import counted
from aiorch.model.dag import DAG, Node, Parallel, Task
from aiorch.model.enums import OnFailure, OnLost, OnNoResult
from aiorch.model.execution_kind import EndTold
from aiorch.model.failure import (
    EARLIER_BYTES_MAX,
    FAILURES_KEPT,
    MESSAGE_CHARS_WIDE,
    REFUSED_RESULTS,
    WIDE_RUN_NODES,
    Failure,
)
from aiorch.model.run import Run, execution_key
from aiorch.model.run_document import NO_RESULT, NO_SLOT, NodeState, RunHeader, Unanswered
from aiorch.model.status import RunStatus, TaskStatus

LOST_ATTEMPTS_MAX = 3
"""New attempts that lost ones may cause: a target that never answers must not be called for ever."""

LAUNCHES_MAX = 10
"""Launches of one attempt over takeovers: a function that kills its process must not loop for ever."""

NO_PROCESS = "no process that can launch it: {}"

REASON_BYTES_MAX = 200
REASON_BYTES_WIDE = 30
"""Of a reason in an entry, and of one in a run of more than `WIDE_RUN_NODES`: all its tasks may wait at once."""

_NEW, _STARTING, _RUNNING, _RETRYING = (
    TaskStatus.NEW,
    TaskStatus.STARTING,
    TaskStatus.RUNNING,
    TaskStatus.RETRYING,
)
_COMPLETED, _FAILED, _CANCELLED, _SKIPPED = (
    TaskStatus.COMPLETED,
    TaskStatus.FAILED,
    TaskStatus.CANCELLED,
    TaskStatus.SKIPPED,
)


class Process(msgspec.Struct, frozen=True):
    """The process that folds: what it decides to start, it launches itself."""

    id: str
    """Random per start of the process."""

    can_launch: Callable[[Task], bool]
    """Whether this process is able to launch the task. Near its end it is able to launch none."""

    awaits_events: bool = False
    """Whether completion events arrive here, so that a call without an answer is worth waiting for."""

    why_not: Callable[[Task], str | None] = lambda _: None
    """Why this process will never be able to launch a task that it cannot launch, `None` near its end."""

    slots: Mapping[str, Callable[[], int]] = {}
    """How many more executions this process may begin now, of target types with a limit. Other tasks wait as ready."""

    def awaits_event_of(self, task: Task) -> bool:
        """Whether the end of the task's call will be told although its process is gone."""
        return self.awaits_events and task.execution.end_told is EndTold.BY_EVENT


class RunStarted(msgspec.Struct, frozen=True, gc=False):
    """The run exists and shall begin."""

    rank: ClassVar[int] = 0
    node: ClassVar[str] = ""
    attempt: ClassVar[int] = 0


class TaskWaits(msgspec.Struct, frozen=True, gc=False):
    """
    The task has not started, and why: a try to launch it was refused, or this process is not able to launch it.

    The entry may be ``Running`` already: whether a request that is under way is refused is not known.
    """

    rank: ClassVar[int] = 2
    node: str
    attempt: int
    """The one that was refused; 0: the task is ready, and has no attempt yet."""

    reason: str | None
    """`None`: the target seems to have taken it."""

    launch: int = 0
    """Which launch of the attempt it is about."""


class TaskRunning(msgspec.Struct, frozen=True, gc=False):
    """The target has taken the execution."""

    rank: ClassVar[int] = 1
    node: str
    attempt: int
    job_id: str | None = None
    launch: int = 0
    """Which launch of the attempt it is about, as the entry counts them; 0: any."""

    answer_lost: bool = False
    """Its call got no answer, and nobody waits for one any more."""

    was_refused: bool = False
    """An earlier request of this launch was refused before it ran."""


class TaskSucceeded(msgspec.Struct, frozen=True, gc=False):
    """The execution ended well."""

    rank: ClassVar[int] = 3
    node: str
    attempt: int
    result: msgspec.Raw = NO_RESULT
    result_in: str | None = None


class TaskFailed(msgspec.Struct, frozen=True, gc=False):
    """The execution ended badly."""

    rank: ClassVar[int] = 5
    node: str
    attempt: int
    failure: Failure
    is_given_up: bool = False
    """It has not ended at its target: its process has lost patience, or could not send it. That is its owner's word."""

    launch: int = 0
    """Which launch was given up; 0: any."""


class TaskUnanswered(msgspec.Struct, frozen=True, gc=False):
    """The platform says how a call ended; the call's own answer, which alone carries the result, is missing."""

    rank: ClassVar[int] = 4
    node: str
    attempt: int
    event_id: str = ""
    """Of the platform's event; empty: decide about an event that is in the entry already."""

    ran: bool = True
    """It succeeded. `False`: the platform refused the request for load, and the function never ran."""


class TaskStopped(msgspec.Struct, frozen=True, gc=False):
    """The execution was stopped, as asked: nothing of it goes on that could be stopped."""

    rank: ClassVar[int] = 6
    node: str
    attempt: int


class TaskInterrupted(msgspec.Struct, frozen=True, gc=False):
    """Its process is about to end, and has given the execution up."""

    rank: ClassVar[int] = 7
    node: str
    attempt: int
    was_sent: bool = True
    """`False`: it had not begun, and has done nothing."""


class CancelRequested(msgspec.Struct, frozen=True, gc=False):
    """Somebody wants the run to end now."""

    rank: ClassVar[int] = 8
    node: ClassVar[str] = ""
    attempt: ClassVar[int] = 0
    reason: str = "cancelled on request"


class TaskLost(msgspec.Struct, frozen=True, gc=False):
    """What became of the execution will not be known: `on_lost` decides."""

    rank: ClassVar[int] = 10
    node: str
    attempt: int
    reason: str
    launch: int = 0
    """Which launch was lost; 0: any."""


class ProcessesDied(msgspec.Struct, frozen=True, gc=False):
    """These processes will never act again: the process that folds this takes over their work."""

    rank: ClassVar[int] = 11
    node: ClassVar[str] = ""
    attempt: ClassVar[int] = 0
    processes: frozenset[str]
    asked_at: float = float("inf")
    """When `Liveness` was asked, in the event loop's time. The committer asks again before a fold onto a later copy."""


class LaunchOffered(msgspec.Struct, frozen=True, gc=False):
    """A task is ready, nobody has launched it, and this process could."""

    rank: ClassVar[int] = 12
    node: str
    attempt: ClassVar[int] = 0


class RetryDue(msgspec.Struct, frozen=True, gc=False):
    """The next attempt after this one is due."""

    rank: ClassVar[int] = 13
    node: str
    attempt: int


class RunTimeoutDue(msgspec.Struct, frozen=True, gc=False):
    """The run has taken as long as it may."""

    rank: ClassVar[int] = 9
    node: ClassVar[str] = ""
    attempt: ClassVar[int] = 0


RunEvent = (
    RunStarted
    | TaskWaits
    | TaskRunning
    | TaskSucceeded
    | TaskFailed
    | TaskUnanswered
    | TaskStopped
    | TaskInterrupted
    | CancelRequested
    | TaskLost
    | ProcessesDied
    | LaunchOffered
    | RetryDue
    | RunTimeoutDue
)


class Changes(msgspec.Struct):
    """What a fold decided. Nothing of it is true before it is committed."""

    header: RunHeader
    nodes: dict[str, NodeState]
    """Entries that change."""

    open_branches: dict[str, int]

    is_stale: bool = False
    """An event was of an attempt that the run does not know yet: the copy is old, read again."""

    is_empty: bool = True
    """Nothing changes: what the events say is committed already."""


class FoldError(Exception):
    """An event could not be folded: our bug, or a document that no code of ours writes. Carries the event."""

    def __init__(self, event: RunEvent) -> None:
        self.event = event
        super().__init__(f"{type(event).__name__} of node {event.node!r} cannot be folded")


class Obligation(StrEnum):
    """What one entry of a committed run owes, and its process does."""

    LAUNCH = "launch"
    AWAIT = "await"
    """Find out how it ends, if nobody here does so already."""

    STOP = "stop"
    RETRY = "retry"


def obligation(state: NodeState, process_id: str) -> Obligation | None:
    """Return what *process_id* owes to a task, as the committed run has it. Launches follow from this alone."""
    if state.by != process_id:
        return None
    status = state.status
    if status is _RETRYING:
        return Obligation.RETRY
    if status is _STARTING or status is _RUNNING:
        if state.stop:
            return Obligation.STOP
        return Obligation.LAUNCH if status is _STARTING or state.calls_again else Obligation.AWAIT
    return None


def fold(dag: DAG, run: Run, events: Sequence[RunEvent], *, now: datetime, process: Process) -> Changes:
    """
    Apply events to a run.

    Total over every (state, event) pair. Within a batch outcomes come first, then commands, then timers, whatever
    their order in *events*.

    Args:
        dag: The DAG of the run.

        run: The run as committed; it is not changed.

        events: What was learned since, in any order, duplicates included.

        now: Time of the commit that is to come.

        process: The process that folds.

    Returns:
        What is to be committed. Empty when the run has absorbed all events already.

    Raises:
        FoldError: One of the events cannot be folded; nothing was decided. Leave it out and fold the others.
    """
    draft = _Draft(dag, run, now, process)
    if len(events) > 1:
        events = sorted(events, key=_order)
    for event in events:
        try:
            _HANDLERS[type(event)](draft, event)
        except Exception as error:
            raise FoldError(event) from error
    return draft.changes()


def _has_refused_result(state: NodeState) -> bool:
    """Whether the attempt did succeed, and its answer could not be kept: an event that says so, too, has no result."""
    return state.status is _RETRYING and state.error is not None and state.error.type in REFUSED_RESULTS


def kept_reason(reason: str | None, nodes: int) -> str | None:
    """Return the part of a reason that an entry in a run of so many nodes keeps."""
    if reason is None:
        return None
    limit = REASON_BYTES_MAX if nodes <= WIDE_RUN_NODES else REASON_BYTES_WIDE
    encoded = reason.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "…"


def _order(event: RunEvent) -> tuple[int, str, int]:
    return event.rank, event.node, event.attempt


class _Draft:
    """A run with changes on top of it."""

    __slots__ = (
        "base",
        "dag",
        "failure_bytes",
        "header",
        "is_stale",
        "live",
        "nodes",
        "now",
        "open_branches",
        "process",
        "slots",
    )

    def __init__(self, dag: DAG, run: Run, now: datetime, process: Process) -> None:
        self.dag = dag
        self.base = run
        self.now = now
        self.process = process
        self.header = run.header
        self.nodes: dict[str, NodeState] = {}
        self.open_branches: dict[str, int] = {}
        self.live = run.live
        self.failure_bytes = run.failure_bytes
        self.is_stale = False
        self.slots: dict[str, int] = {}
        """Slots that are left of a target type, once a task of the type has begun in this fold."""

    def changes(self) -> Changes:
        is_empty = not self.nodes and self.header is self.base.header
        header = self.header if is_empty else replace(self.header, updated_at=self.now)
        return Changes(header, self.nodes, self.open_branches, self.is_stale, is_empty)

    def state(self, name: str) -> NodeState:
        return self.nodes.get(name) or self.base.nodes[name]

    def set(self, name: str, state: NodeState) -> None:
        before = self.state(name)
        self.live += state.is_live - before.is_live
        self.failure_bytes += state.failure_bytes - before.failure_bytes
        self.nodes[name] = state

    def end(self, name: str, status: TaskStatus, **changes: object) -> None:
        """Give a node its terminal status; what was only owed to it goes."""
        self.set(
            name,
            replace(
                self.state(name),
                status=status,
                ended_at=self.now,
                by=None,
                ready_at=None,
                retry_at=None,
                waits_because=None,
                stop=False,
                unanswered=None,
                **changes,
            ),
        )

    # -- events --------------------------------------------------------------------------------------------------

    def on_run_started(self, _: RunStarted) -> None:
        # A run that has begun and goes on always has an active task: this is the first fold of its life.
        if self.header.status is RunStatus.RUNNING and not self.base.active:
            self.reach(self.dag.nodes[self.dag.start_node])

    def on_waits(self, event: TaskWaits) -> None:
        if event.attempt:
            state = self.current(event)
            is_its_own = state is not None and state.by == self.process.id and state.launches == event.launch
            if state is not None and is_its_own and state.is_live and not state.stop:
                self.wait(event.node, state, event.reason)
            return
        state = self.state(event.node)
        if state.status is _NEW and state.ready_at is not None and state.waits_because is None:
            self.wait(event.node, state, NO_PROCESS.format(event.reason))

    def on_running(self, event: TaskRunning) -> None:
        state = self.current(event)
        if state is None or state.by != self.process.id or not state.is_live or event.launch not in (0, state.launches):
            return  # a process that was called dead, and is not: whoever has taken over owes the launch, and says so
        unanswered = state.unanswered
        if unanswered is not None and unanswered.calls_again:
            unanswered = replace(unanswered, calls_again=False)
        if event.answer_lost:
            known = unanswered or Unanswered()
            unanswered = replace(known, answer_lost=True, was_refused=known.was_refused or event.was_refused)
        job_id = event.job_id or state.job_id
        if (state.status, state.job_id, state.unanswered) != (_RUNNING, job_id, unanswered):
            changes = {"job_id": job_id, "unanswered": unanswered, "waits_because": None}
            self.set(event.node, replace(state, status=_RUNNING, **changes))
            self.decide_unanswered(event.node)

    def on_succeeded(self, event: TaskSucceeded) -> None:
        # Also while Retrying: the attempt was given up and has succeeded after all, and no other has begun.
        state = self.current(event)
        if state is None or state.status.is_terminal or _has_refused_result(state):
            return
        self.end(event.node, _COMPLETED, result=event.result, result_in=event.result_in, error=None)
        self.advance(self.dag.all_nodes[event.node])
        self.settle()

    def on_failed(self, event: TaskFailed) -> None:
        state = self.current(event)
        if state is None or not state.is_live or event.launch not in (0, state.launches):
            return
        if event.is_given_up and (state.by != self.process.id or self.stop_waiting(event.node)):
            return  # whoever has taken it over decides for itself
        task = self.task(event.node)
        failure = self.failure(event.failure, state)
        failures = state.attempt - state.lost - state.interrupted
        if state.stop or failures >= task.retry.max_attempts or not task.retry.covers(failure.type):
            self.give_up(task, failure)
        else:
            delay_s = task.retry.delay_s(failures, state.execution_id or "")
            self.retry(task, failure, delay_s, by=self.process.id)

    def on_unanswered(self, event: TaskUnanswered) -> None:
        state, task = self.current(event), self.task(event.node)
        known = (state.unanswered if state is not None else None) or Unanswered()
        if event.event_id in known.events:
            return
        if state is not None and event.ran and task.on_no_result is OnNoResult.ACCEPT:
            self.on_succeeded(TaskSucceeded(event.node, event.attempt))
            return
        if state is None or not state.is_live or state.stop:
            return  # the attempt that follows brings a result of its own, in this run or in the one that resumes it
        if not event.event_id:
            self.decide_unanswered(event.node)
            return
        known = replace(known, events=(*known.events, event.event_id))
        if event.ran:
            self.set(event.node, replace(state, unanswered=replace(known, has_succeeded=True)))
            self.decide_unanswered(event.node)
        elif known.answer_lost and not known.was_refused and state.launches == 1:
            # Of several requests it would not be known which one the event is about, and the last one may run.
            self.call_again(task, replace(state, unanswered=known))

    def stop_waiting(self, name: str) -> bool:
        """Wait no longer for an answer. Return whether the call succeeded: then its missing result is what decides."""
        state = self.state(name)
        if state.stop or state.unanswered is None or not state.unanswered.has_succeeded:
            return False
        if not state.unanswered.answer_lost:
            self.set(name, replace(state, unanswered=replace(state.unanswered, answer_lost=True)))
        self.decide_unanswered(name)
        return True

    def decide_unanswered(self, name: str) -> None:
        """Decide about a success without its result, once no process waits for the answer any more."""
        state, task = self.state(name), self.task(name)
        if not state.is_undecided or not state.is_live or state.stop:
            return
        if task.on_no_result is OnNoResult.FAIL:
            message = "the call succeeded, its answer was lost, and on_no_result is fail"
            self.give_up(task, self.failure(Failure.of("NoResult", message), state))
        else:
            self.call_again(task, state)

    def call_again(self, task: Task, state: NodeState) -> None:
        """Owe one more launch of the same attempt, if this process is able to launch it; else its owner decides."""
        if state.launches >= LAUNCHES_MAX:
            failure = Failure.of("Lost", f"it was called {counted(state.launches, 'time')}, and no answer came")
            self.give_up(task, self.failure(failure, state))
        elif self.process.can_launch(task):
            assert state.unanswered is not None
            unanswered = Unanswered(calls_again=True, events=state.unanswered.events)
            changes = {"by": self.process.id, "launches": state.launches + 1, "unanswered": unanswered}
            self.set(task.name, replace(state, **changes))

    def on_stopped(self, event: TaskStopped) -> None:
        state = self.current(event)
        if state is not None and state.stop and state.is_live:
            self.end(event.node, _CANCELLED)
            self.settle()

    def on_interrupted(self, event: TaskInterrupted) -> None:
        state = self.current(event)
        # What another one has taken over goes on there, whatever becomes of this process.
        if state is not None and state.is_live and state.by == self.process.id:
            self.interrupt(self.task(event.node), state, was_sent=event.was_sent)

    def on_cancel(self, event: CancelRequested) -> None:
        if self.header.status is RunStatus.RUNNING:
            error = Failure.of("Cancelled", event.reason)
            self.header = replace(self.header, status=RunStatus.CANCELLING, error=error)
            self.halt(self.dag.all_nodes.values())
            self.settle()

    def on_lost(self, event: TaskLost) -> None:
        state = self.current(event)
        # What another one has taken over may have been sent again, or is waited for there.
        is_its_own = state is not None and state.is_live and state.by == self.process.id
        if state is None or not is_its_own or event.launch not in (0, state.launches):
            return
        if not self.stop_waiting(event.node):
            self.lose(self.task(event.node), state, event.reason)

    def on_processes_died(self, event: ProcessesDied) -> None:
        for _ in range(2):  # what the first turn finds lost may fail the run, and stop what could not be taken over
            for name in self.base.active:
                state = self.state(name)
                if state.by in event.processes:
                    self.take_over(self.task(name), state)

    def on_launch_offered(self, event: LaunchOffered) -> None:
        state = self.state(event.node)
        if state.status is _NEW and state.ready_at is not None:
            self.start(self.task(event.node), 1)

    def on_retry_due(self, event: RetryDue) -> None:
        state = self.current(event)
        if state is None or state.status is not _RETRYING:
            return
        task = self.task(event.node)
        if state.retry_at is None or state.retry_at <= self.now:
            self.start(task, state.attempt + 1)
        elif state.by is None and self.process.can_launch(task):
            # Too early, and nobody waits for it: whoever could not launch it has left it to the others.
            self.set(task.name, replace(state, by=self.process.id))

    def on_run_timeout(self, _: RunTimeoutDue) -> None:
        due = self.header.timeout_at
        if self.header.status is RunStatus.RUNNING and due is not None and due <= self.now:
            limit = (due - self.header.created_at).total_seconds()
            self.fail_run(Failure.of("Timeout", f"the run took longer than its timeout of {limit:g} s"))

    # -- steps ---------------------------------------------------------------------------------------------------

    def task(self, name: str) -> Task:
        node = self.dag.all_nodes[name]
        assert isinstance(node, Task), name
        return node

    def current(self, event: RunEvent) -> NodeState | None:
        """Return the entry that *event* is about, `None` when it is of an earlier attempt, or of one not known yet."""
        state = self.state(event.node)
        if event.attempt > state.attempt:
            self.is_stale = True
            return None
        return state if event.attempt == state.attempt > 0 else None

    def start(self, task: Task, attempt: int) -> None:
        """Commit to launch: from here to the launch nothing else decides."""
        state = self.state(task.name)
        can_launch = self.process.can_launch(task)
        if not can_launch or not self.take_slot(task):
            # Not a failure: another process may be able to, or this one later, and claims what is ready.
            if state.status is _NEW and state.ready_at is None:
                why_not = self.process.why_not(task)
                waits_because = NO_SLOT if can_launch else why_not and NO_PROCESS.format(why_not)
                self.wait(task.name, replace(state, ready_at=self.now), waits_because)
            return
        self.set(
            task.name,
            replace(
                state,
                status=_STARTING,
                attempt=attempt,
                execution_id=execution_key(self.header.nonce, task.name, attempt),
                by=self.process.id,
                launches=1,
                ready_at=None,
                started_at=self.now,
                retry_at=None,
                waits_because=None,
                job_id=None,
                unanswered=None,
                error=None,
            ),
        )

    def wait(self, name: str, state: NodeState, reason: str | None) -> None:
        """Let the entry say why the task has not started."""
        changed = replace(state, waits_because=kept_reason(reason, len(self.base.nodes)))
        if changed != self.state(name):
            self.set(name, changed)

    def take_slot(self, task: Task) -> bool:
        """Take a slot for an execution of the task, if its target type has a limit. Return whether one was free."""
        slots_now = self.process.slots.get(task.target_type)
        if slots_now is None:
            return True
        left = self.slots.get(task.target_type)
        left = slots_now() if left is None else left
        self.slots[task.target_type] = left - 1
        return left > 0

    def retry(self, task: Task, failure: Failure, delay_s: float, *, by: str | None, **counted: int) -> None:
        """Let another attempt follow: *by* the process that waits for it, or by any that is able to launch it."""
        state = self.state(task.name)
        self.set(
            task.name,
            replace(
                state,
                status=_RETRYING,
                retry_at=self.now + timedelta(seconds=delay_s),
                by=by if self.process.can_launch(task) else None,
                waits_because=None,
                unanswered=None,
                error=failure,
                failures=self.earlier_failures(state, failure),
                **counted,
            ),
        )
        if delay_s <= 0 and by is not None:
            self.start(task, state.attempt + 1)

    def lose(self, task: Task, state: NodeState, reason: str) -> None:
        """Decide about an attempt of which nobody will know what came of it."""
        failure = self.failure(Failure.of("Lost", reason), state)
        if state.stop:
            self.end(task.name, _CANCELLED, error=failure)
            self.settle()
        elif task.on_lost is OnLost.FAIL or state.lost >= LOST_ATTEMPTS_MAX:
            self.give_up(task, failure)
        else:
            self.retry(task, failure, 0, by=self.process.id, lost=state.lost + 1)

    def interrupt(self, task: Task, state: NodeState, *, was_sent: bool) -> None:
        """Decide about an attempt that its own process has given up, since it ends."""
        failure = self.failure(Failure.of("Interrupted", "its process was stopped before it had ended"), state)
        if state.stop:
            self.end(task.name, _CANCELLED, error=failure)
            self.settle()
        elif task.on_lost is OnLost.FAIL and was_sent:
            self.give_up(task, failure)
        else:
            self.retry(task, failure, 0, by=None, interrupted=state.interrupted + 1)

    def earlier_failures(self, state: NodeState, failure: Failure) -> tuple[Failure, ...]:
        """The failures that the entry keeps of earlier attempts, *failure* the last: the document must stay small."""
        failure = failure.untraced()
        if self.failure_bytes + failure.size > EARLIER_BYTES_MAX:
            return state.failures
        kept = FAILURES_KEPT if len(self.base.nodes) <= WIDE_RUN_NODES else 1
        return (*state.failures, failure)[-kept:]

    def failure(self, failure: Failure, state: NodeState) -> Failure:
        """*failure* as the entry keeps it."""
        if len(self.base.nodes) > WIDE_RUN_NODES:
            failure = failure.shortened(MESSAGE_CHARS_WIDE)
        attempt = {"attempt": state.attempt, "started_at": state.started_at, "execution_id": state.execution_id}
        return replace(failure, at=self.now, **attempt).fitted(self.failure_bytes)

    def take_over(self, task: Task, state: NodeState) -> None:
        """Go on with what a dead process left, at whatever point it did."""
        is_polled = task.execution.is_polled
        if state.stop and not task.execution.can_be_stopped:
            self.end(task.name, _CANCELLED)
            self.settle()
        elif (state.status is _STARTING or state.calls_again) and not state.stop:
            self._take_over_starting(task, state)
        elif state.status is _RUNNING and not is_polled and not self.process.awaits_event_of(task):
            self.lose(task, state, "its process died while it was running")
        elif self.process.can_launch(task):
            if state.status is _RUNNING and not is_polled:
                self.await_event(task, state)
            else:
                self.set(task.name, replace(state, by=self.process.id))

    def await_event(self, task: Task, state: NodeState) -> None:
        """Take over a call whose process is gone: its event will tell how it ends, or has done so."""
        known = state.unanswered or Unanswered()
        # Only the process that lost the answer knows whether an earlier request was refused.
        was_refused = known.was_refused or not known.answer_lost
        unanswered = replace(known, answer_lost=True, was_refused=was_refused, calls_again=False)
        changes = {"by": self.process.id, "unanswered": unanswered, "waits_because": None}
        self.set(task.name, replace(state, status=_RUNNING, **changes))
        self.decide_unanswered(task.name)

    def _take_over_starting(self, task: Task, state: NodeState) -> None:
        if state.launches >= LAUNCHES_MAX:
            failure = Failure.of("Lost", f"its process died {state.launches} times while launching it")
            self.give_up(task, self.failure(failure, state))
        elif not task.execution.is_found_again and task.on_lost is OnLost.FAIL:
            # It may have been sent already, and must not be sent twice.
            if self.process.awaits_event_of(task):
                self.await_event(task, state)
            else:
                self.lose(task, state, "its process died after committing to launch it")
        elif self.process.can_launch(task):
            unanswered = replace(state.unanswered, has_succeeded=False) if state.unanswered else None
            changes = {"by": self.process.id, "launches": state.launches + 1, "unanswered": unanswered}
            self.set(task.name, replace(state, waits_because=None, **changes))

    def give_up(self, task: Task, failure: Failure) -> None:
        self.end(task.name, _FAILED, error=failure)
        self.fail(task, failure)
        self.settle()

    # -- the DAG -------------------------------------------------------------------------------------------------

    def reach(self, node: Node) -> None:
        """Begin *node*, with everything that begins at once with it."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            state = self.state(node.name)
            if state.status is _COMPLETED:  # only in a resumed run: it was done before
                self.advance(node, waiting)
            elif state.status is not _NEW:
                continue
            elif isinstance(node, Task):
                self.start(node, 1)
            else:
                assert isinstance(node, Parallel)
                self.set(node.name, replace(state, status=_RUNNING, started_at=self.now))
                if self.open_branches_of(node):
                    waiting.extend(branch.nodes[branch.start_node] for branch in reversed(node.branches))
                else:
                    self.join(node, waiting)

    def advance(self, node: Node, waiting: list[Node] | None = None) -> None:
        """
        Go on after *node*, which is ``Completed``.

        What is to begin is appended to *waiting* when `reach` is under way, else it begins here: no recursion, however
        long a chain of nodes that were done before, and however deep the `Parallel`s that end together.
        """
        following = node.next_node
        if following is not None:
            if waiting is None:
                self.reach(following)
            else:
                waiting.append(following)
        elif node.parent_dag.parent_node is not None:
            self.join(node.parent_dag.parent_node, waiting, ended=node)
        elif self.header.status is RunStatus.RUNNING:
            self.header = replace(self.header, status=RunStatus.COMPLETED, ended_at=self.now)

    def join(self, parallel: Parallel, waiting: list[Node] | None, ended: Node | None = None) -> None:
        """
        Join *parallel* if no branch is open any more.

        Args:
            parallel: The node to join.

            waiting: As in `advance`.

            ended: End node of the branch that has just ended; a branch that had ended before this fold (in a resumed
                run) was never counted as open.
        """
        if self.state(parallel.name).status is not _RUNNING:
            return
        if ended is not None:
            if self.base.nodes[ended.name].status.is_terminal:
                return
            left = self.open_branches[parallel.name] = self.open_branches_of(parallel) - 1
            if left:
                return
        failed = [branch for branch in parallel.branches if self.state(branch.end_node.name).status is not _COMPLETED]
        if failed:
            self.fail_parallel(parallel, failed)
        else:
            self.end(parallel.name, _COMPLETED)
            self.advance(parallel, waiting)

    def open_branches_of(self, parallel: Parallel) -> int:
        count = self.open_branches.get(parallel.name)
        return self.base.open_branches[parallel.name] if count is None else count

    def fail(self, node: Node, failure: Failure) -> None:
        """*node* has failed for good: its branch, and what follows from that."""
        branch = node.parent_dag
        self.halt(branch.all_from(node.next_node))
        parallel = branch.parent_node
        if parallel is None:
            message = f"node {node.name!r} failed: {failure.message}"
            self.fail_run(Failure.of(failure.type, message, failure.cause))
        elif self.state(parallel.name).status is _RUNNING:
            if parallel.on_failure is OnFailure.FAIL_FAST:
                self.halt(parallel.all_nodes.values())
                self.fail_parallel(parallel, [branch])
            else:
                self.join(parallel, None, ended=branch.end_node)

    def fail_parallel(self, parallel: Parallel, failed: list[DAG]) -> None:
        first = next(
            node
            for node in failed[0].chain_from(failed[0].nodes[failed[0].start_node])
            if self.state(node.name).status is not _COMPLETED
        )
        error = self.state(first.name).error
        why = f"node {first.name!r}: {error.text}" if error else f"node {first.name!r}"
        message = (
            f"{len(failed):,} of {counted(len(parallel.branches), 'branch', 'branches')} failed, the first at {why}"
        )
        failure = Failure.of("BranchFailed", message, first.name).fitted(self.failure_bytes)
        self.end(parallel.name, _FAILED, error=failure)
        self.fail(parallel, failure)

    def fail_run(self, failure: Failure) -> None:
        if self.header.status is RunStatus.RUNNING:
            self.header = replace(self.header, status=RunStatus.FAILING, error=failure)
            self.halt(self.dag.all_nodes.values())
            self.settle()

    def halt(self, nodes: Iterable[Node]) -> None:
        """
        Let nothing of *nodes* begin or go on.

        What this very fold had begun is taken back: it is not committed, so it has never been.
        """
        for node in nodes:
            state, committed = self.state(node.name), self.base.nodes[node.name]
            if state.status.is_terminal:
                continue
            if committed.status is _NEW:
                self.set(node.name, replace(committed, status=_SKIPPED, ready_at=None, waits_because=None))
            elif isinstance(node, Parallel) or state.status is _RETRYING:
                self.end(node.name, _CANCELLED)
            elif state.attempt != committed.attempt:
                kept = {"attempt": committed.attempt, "execution_id": committed.execution_id}
                self.end(node.name, _CANCELLED, launches=committed.launches, **kept)
            elif not state.stop:
                self.set(node.name, replace(state, stop=True))

    def settle(self) -> None:
        """End a run that was only waiting for its last live tasks."""
        if self.live:
            return
        if self.header.status is RunStatus.FAILING:
            self.header = replace(self.header, status=RunStatus.FAILED, ended_at=self.now)
        elif self.header.status is RunStatus.CANCELLING:
            self.header = replace(self.header, status=RunStatus.CANCELLED, ended_at=self.now)


_HANDLERS: dict[type, Callable[[_Draft, Any], None]] = {
    RunStarted: _Draft.on_run_started,
    TaskWaits: _Draft.on_waits,
    TaskRunning: _Draft.on_running,
    TaskSucceeded: _Draft.on_succeeded,
    TaskFailed: _Draft.on_failed,
    TaskUnanswered: _Draft.on_unanswered,
    TaskStopped: _Draft.on_stopped,
    TaskInterrupted: _Draft.on_interrupted,
    CancelRequested: _Draft.on_cancel,
    TaskLost: _Draft.on_lost,
    ProcessesDied: _Draft.on_processes_died,
    LaunchOffered: _Draft.on_launch_offered,
    RetryDue: _Draft.on_retry_due,
    RunTimeoutDue: _Draft.on_run_timeout,
}
