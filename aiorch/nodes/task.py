"""
Tasks: each attempt is an execution at a target, and events tell the progress of the execution.

Statuses of a task. Transitions are code, not a table: most depend on the retry policy and on the surrounding scope::

    New ──▶ Starting ──▶ Running ──▶ Completed | Failed | Cancelled
     │          │  ▲        │
     ▼          ▼  │        ▼
    Skipped     Retrying ◀──┘            (Starting may end at once: the answer to a call completes the task)
"""

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from aiorch.core import attempts
from aiorch.core.draft import Draft
from aiorch.core.kind import Handler, NodeKind
from aiorch.core.run_events import (
    LaunchOffered,
    ProcessesDied,
    RetryDue,
    RunEvent,
    TaskFailed,
    TaskInterrupted,
    TaskLost,
    TaskRunning,
    TaskStopped,
    TaskSucceeded,
    TaskUnanswered,
    TaskWaits,
)
from aiorch.model.dag import Task
from aiorch.model.enums import OnNoResult
from aiorch.model.failure import REFUSED_RESULTS
from aiorch.model.place import At
from aiorch.model.run_document import NodeState, Unanswered
from aiorch.model.status import TaskStatus


def on_waits(draft: Draft, at: At[Task], event: TaskWaits) -> None:
    """Keep the reason why the task has not started."""
    if event.attempt:
        state = draft.current(event)
        is_its_own = state is not None and state.by == draft.process.id and state.launches == event.launch
        if state is not None and is_its_own and state.is_live and not state.stop:
            attempts.wait(draft, at, state, event.reason)
        return
    state = draft.state(at.name)
    if state.status is TaskStatus.NEW and state.ready_at is not None and state.waits_because is None:
        attempts.wait(draft, at, state, attempts.NO_PROCESS.format(event.reason))


def on_running(draft: Draft, at: At[Task], event: TaskRunning) -> None:
    """Record that the target has taken the execution."""
    state = draft.current(event)
    is_its_own = state is not None and state.by == draft.process.id
    if state is None or not is_its_own or not state.is_live or event.launch not in (0, state.launches):
        return  # replicas took this live process for dead: the process that took over owes the launch, and reports it
    unanswered = state.unanswered
    if unanswered is not None and unanswered.calls_again:
        unanswered = replace(unanswered, calls_again=False)
    if event.answer_lost:
        known = unanswered or Unanswered()
        unanswered = replace(known, answer_lost=True, was_refused=known.was_refused or event.was_refused)
    job_id = event.job_id or state.job_id
    if (state.status, state.job_id, state.unanswered) != (TaskStatus.RUNNING, job_id, unanswered):
        changes = {"job_id": job_id, "unanswered": unanswered, "waits_because": None}
        draft.set(at.name, replace(state, status=TaskStatus.RUNNING, **changes))
        attempts.decide_unanswered(draft, at)


def on_succeeded(draft: Draft, at: At[Task], event: TaskSucceeded) -> None:
    """Complete the task: also while ``Retrying``, when the attempt was given up and no further attempt has begun."""
    state = draft.current(event)
    if state is not None and not state.status.is_terminal and not _has_refused_result(state):
        draft.complete(at, event.result, event.result_in)


def _has_refused_result(state: NodeState) -> bool:
    """Whether the attempt succeeded with an answer that could not be kept: an event of the success has no result."""
    return state.status is TaskStatus.RETRYING and state.error is not None and state.error.type in REFUSED_RESULTS


def on_failed(draft: Draft, at: At[Task], event: TaskFailed) -> None:
    """Let one more attempt follow, or let the task fail: the retry policy decides."""
    state = draft.current(event)
    if state is None or not state.is_live or event.launch not in (0, state.launches):
        return
    if event.is_given_up and (state.by != draft.process.id or attempts.stop_waiting(draft, at)):
        return  # the process that has taken the execution over decides
    failure = attempts.of_attempt(draft, event.failure, state)
    further = attempts.next_try(at.node, state, failure, state.attempt - state.lost - state.interrupted)
    if state.stop or further is None or not draft.goes_on(at):
        draft.fail(at, failure)
    else:
        delay_s, retried = further
        attempts.retry(draft, at, failure, delay_s, by=draft.process.id, retried=retried)


def on_unanswered(draft: Draft, at: At[Task], event: TaskUnanswered) -> None:
    """Decide about a call whose end is known from an event, and whose answer with the result is missing."""
    state = draft.current(event)
    if not event.event_id:
        if state is not None:
            attempts.decide_unanswered(draft, at)
        return
    known = (state.unanswered if state is not None else None) or Unanswered()
    if event.event_id in known.events:
        return
    if state is not None and event.ran and at.node.on_no_result is OnNoResult.ACCEPT:
        on_succeeded(draft, at, TaskSucceeded(event.node, event.attempt))
        return
    if state is None or not state.is_live or state.stop:
        return  # the next attempt brings its own result, in this run or in the run that resumes this one
    known = replace(known, events=(*known.events, event.event_id))
    # With several requests, an event of a refusal may be about any of them, and the last one may still run.
    if event.ran or (known.answer_lost and not known.was_refused and state.launches == 1):
        draft.set(at.name, replace(state, unanswered=replace(known, has_succeeded=known.has_succeeded or event.ran)))
        attempts.decide_unanswered(draft, at)


def on_stopped(draft: Draft, at: At[Task], event: TaskStopped) -> None:
    """Cancel a task whose execution was stopped, as asked."""
    state = draft.current(event)
    if state is not None and state.stop and state.is_live:
        draft.end(at.name, TaskStatus.CANCELLED)


def on_interrupted(draft: Draft, at: At[Task], event: TaskInterrupted) -> None:
    """Decide about an attempt that this process gives up because the process ends."""
    state = draft.current(event)
    # An execution that was taken over goes on in its new process.
    if state is not None and state.is_live and state.by == draft.process.id:
        attempts.interrupt(draft, at, state, was_sent=event.was_sent)


def on_lost(draft: Draft, at: At[Task], event: TaskLost) -> None:
    """Decide about an attempt whose outcome no process will know."""
    state = draft.current(event)
    # The process that has taken an execution over may have launched it again, or waits for its end.
    is_its_own = state is not None and state.is_live and state.by == draft.process.id
    if state is None or not is_its_own or event.launch not in (0, state.launches):
        return
    if not attempts.stop_waiting(draft, at):
        attempts.lose(draft, at, state, event.reason)


def on_processes_died(draft: Draft, at: At[Task], event: ProcessesDied) -> None:
    """Continue an attempt of a dead process."""
    state = draft.state(at.name)
    if state.by in event.processes:
        attempts.take_over(draft, at, state)


def on_launch_offered(draft: Draft, at: At[Task], _: LaunchOffered) -> None:
    """Start a task that is ready."""
    state = draft.state(at.name)
    if state.status is TaskStatus.NEW and state.ready_at is not None:
        attempts.start(draft, at, 1)


def on_retry_due(draft: Draft, at: At[Task], event: RetryDue) -> None:
    """Start the next attempt, or let this process wait for the time of the next attempt."""
    state = draft.current(event)
    if state is None or state.status is not TaskStatus.RETRYING:
        return
    if state.retry_at is None or state.retry_at <= draft.now:
        attempts.start(draft, at, state.attempt + 1)
    elif state.by is None and draft.process.can_launch(at.node):
        # Too early, and no process waits for the time: the process that could not launch the task gave the wait up.
        draft.set(at.name, replace(state, by=draft.process.id))


class TaskKind(NodeKind[Task]):
    """The decisions of a task, whose attempts are executions at a target."""

    name = "Task"
    has_result = True
    handlers: ClassVar[Mapping[type[RunEvent], Handler]] = {
        TaskWaits: on_waits,
        TaskRunning: on_running,
        TaskSucceeded: on_succeeded,
        TaskFailed: on_failed,
        TaskUnanswered: on_unanswered,
        TaskStopped: on_stopped,
        TaskInterrupted: on_interrupted,
        TaskLost: on_lost,
        ProcessesDied: on_processes_died,
        LaunchOffered: on_launch_offered,
        RetryDue: on_retry_due,
    }

    def blank(self, node: Task) -> NodeState:
        """Return the entry of a task in a run that has not begun, with the target."""
        return NodeState(
            node.name,
            self.name,
            TaskStatus.NEW,
            next=node.next,
            target_type=node.target_type,
            target_name=node.target_name,
        )

    def enter(self, draft: Draft, at: At[Task]) -> None:
        """Start the first attempt."""
        attempts.start(draft, at, 1)

    def halt(self, draft: Draft, at: At[Task], state: NodeState, committed: NodeState | None) -> None:
        """Skip the task, cancel the next attempt, or ask for a stop of the execution."""
        if committed is None or committed.status is TaskStatus.NEW or state.status is TaskStatus.RETRYING:
            super().halt(draft, at, state, committed)
        elif state.attempt != committed.attempt:
            kept = {"attempt": committed.attempt, "execution_id": committed.execution_id}
            draft.end(at.name, TaskStatus.CANCELLED, launches=committed.launches, **kept)
        elif not state.stop:
            draft.set(at.name, replace(state, stop=True))

    def caption(self, node: Task) -> tuple[str, str]:
        """Return the type of the target and the target."""
        return node.target_type, node.target_name


TASK = TaskKind()
