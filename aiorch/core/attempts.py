"""
Attempts of a task: how they start, how they are retried, lost, given up or taken over.

A ``Running`` call may owe one more launch of the same attempt: see `Unanswered`.
"""

from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from aiorch.core.draft import Draft
from aiorch.errors import counted
from aiorch.model.dag import Node, Task
from aiorch.model.enums import OnLost, OnNoResult
from aiorch.model.failure import (
    EARLIER_BYTES_MAX,
    FAILURES_KEPT,
    NEVER_RETRIED,
    WIDE_RUN_NODES,
    Failure,
)
from aiorch.model.place import At
from aiorch.model.retry import covers
from aiorch.model.run import execution_key
from aiorch.model.run_document import NO_SLOT, NodeState, Unanswered
from aiorch.model.status import TaskStatus

LOST_ATTEMPTS_MAX = 3
"""New attempts that lost ones may cause: a target that never answers must not be called for ever."""

LAUNCHES_MAX = 10
"""Launches of one attempt over takeovers: a function that kills the process must not loop for ever."""

NO_PROCESS = "no process that can launch it: {}"

REASON_BYTES_MAX = 200
REASON_BYTES_WIDE = 30
"""Longest reason in an entry, and the longest in a run of more than `WIDE_RUN_NODES`: all tasks may wait at once."""


def start(draft: Draft, at: At[Task], attempt: int) -> None:
    """Commit to a launch. The launch follows from this commit alone."""
    task, state = at.node, draft.state(at.name)
    can_launch = draft.process.can_launch(task)
    if not can_launch or not _take_slot(draft, task):
        # Not a failure: a process that can launch the task, perhaps this one later, claims the ready task.
        if state.status is TaskStatus.NEW and state.ready_at is None:
            why_not = draft.process.why_not(task)
            waits_because = NO_SLOT if can_launch else why_not and NO_PROCESS.format(why_not)
            wait(draft, at, replace(state, ready_at=draft.now), waits_because)
        return
    draft.set(
        at.name,
        replace(
            state,
            status=TaskStatus.STARTING,
            attempt=attempt,
            execution_id=execution_key(draft.header.nonce, at.name, attempt),
            by=draft.process.id,
            launches=1,
            ready_at=None,
            started_at=draft.now,
            retry_at=None,
            waits_because=None,
            job_id=None,
            unanswered=None,
            error=None,
        ),
    )


def _take_slot(draft: Draft, task: Task) -> bool:
    """Take a slot for an execution of the task if the target type has a limit. Return whether a slot was free."""
    slots_now = draft.process.slots.get(task.target_type)
    if slots_now is None:
        return True
    left = draft.slots.get(task.target_type)
    left = slots_now() if left is None else left
    draft.slots[task.target_type] = left - 1
    return left > 0


def wait(draft: Draft, at: At[Task], state: NodeState, reason: str | None) -> None:
    """Let the entry say why the task has not started."""
    changed = replace(state, waits_because=kept_reason(reason, len(draft.base.nodes)))
    if changed != draft.state(at.name):
        draft.set(at.name, changed)


def kept_reason(reason: str | None, nodes: int) -> str | None:
    """Return the part of a reason that an entry in a run of so many nodes keeps."""
    if reason is None:
        return None
    limit = REASON_BYTES_MAX if nodes <= WIDE_RUN_NODES else REASON_BYTES_WIDE
    encoded = reason.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "…"


# -- failures ------------------------------------------------------------------------------------------------------


def of_attempt(draft: Draft, failure: Failure, state: NodeState) -> Failure:
    """Return a failure with the facts of the attempt."""
    attempt = {"attempt": state.attempt, "started_at": state.started_at, "execution_id": state.execution_id}
    return replace(failure, at=draft.now, **attempt)


def earlier_failures(draft: Draft, state: NodeState, failure: Failure) -> tuple[Failure, ...]:
    """
    Return the failures that the entry keeps of earlier attempts: the document stays small.

    Args:
        draft: The run with the changes of this fold.

        state: The entry.

        failure: The failure of the last attempt, as `Draft.kept` returned it.
    """
    failure = failure.untraced()
    if draft.failure_bytes + failure.size > EARLIER_BYTES_MAX:
        return state.failures
    kept = FAILURES_KEPT if len(draft.base.nodes) <= WIDE_RUN_NODES else 1
    return (*state.failures, failure)[-kept:]


def next_try(node: Node, state: NodeState, failure: Failure, tries: int) -> tuple[float, tuple[int, ...]] | None:
    """
    Say whether one more try follows a failed one, by the first retry policy of a node that covers the failure.

    Args:
        node: The node.

        state: Its entry.

        failure: The failure of the last try.

        tries: The tries that count, the failed one included.

    Returns:
        The seconds until the next try, and `NodeState.retried` then; `None` for no further try.
    """
    policies = node.retries
    number = next((number for number, policy in enumerate(policies) if covers(policy.on, failure)), None)
    if number is None or failure.type in NEVER_RETRIED:
        return None
    policy, retried = policies[number], state.retried
    if len(policies) > 1:
        counts = list(retried or (0,) * len(policies))
        counts[number] += 1
        tries, retried = counts[number], tuple(counts)
    if tries >= policy.max_attempts:
        return None
    return policy.delay_s(tries, state.execution_id or state.node_name), retried


def retry(draft: Draft, at: At[Task], failure: Failure, delay_s: float, *, by: str | None, **counts: Any) -> None:
    """Let one more attempt follow, *by* the process that waits for the time or, with `None`, by any able process."""
    state, kept = draft.state(at.name), draft.kept(failure)
    draft.set(
        at.name,
        replace(
            state,
            status=TaskStatus.RETRYING,
            retry_at=draft.now + timedelta(seconds=delay_s),
            by=by if draft.process.can_launch(at.node) else None,
            waits_because=None,
            unanswered=None,
            error=kept,
            failures=earlier_failures(draft, state, kept),
            **counts,
        ),
    )
    if delay_s <= 0 and by is not None:
        start(draft, at, state.attempt + 1)


def lose(draft: Draft, at: At[Task], state: NodeState, reason: str) -> None:
    """Decide about an attempt whose outcome no process will know."""
    failure = of_attempt(draft, Failure.of("Lost", reason), state)
    if state.stop:
        draft.end(at.name, TaskStatus.CANCELLED, error=draft.kept(failure))
    elif at.node.on_lost is OnLost.FAIL or state.lost >= LOST_ATTEMPTS_MAX:
        draft.fail(at, failure)
    else:
        retry(draft, at, failure, 0, by=draft.process.id, lost=state.lost + 1)


def interrupt(draft: Draft, at: At[Task], state: NodeState, *, was_sent: bool) -> None:
    """Decide about an attempt that this process gives up because the process ends."""
    message = "the process was stopped before the execution had ended"
    failure = of_attempt(draft, Failure.of("Interrupted", message), state)
    if state.stop:
        draft.end(at.name, TaskStatus.CANCELLED, error=draft.kept(failure))
    elif at.node.on_lost is OnLost.FAIL and was_sent:
        draft.fail(at, failure)
    else:
        retry(draft, at, failure, 0, by=None, interrupted=state.interrupted + 1)


# -- lost answers --------------------------------------------------------------------------------------------------


def stop_waiting(draft: Draft, at: At[Task]) -> bool:
    """Wait no longer for an answer. Return whether an event told the end of the call: then this end decides."""
    state = draft.state(at.name)
    if state.stop or state.unanswered is None or not (state.unanswered.has_succeeded or state.never_ran):
        return False
    if not state.unanswered.answer_lost:
        draft.set(at.name, replace(state, unanswered=replace(state.unanswered, answer_lost=True)))
    decide_unanswered(draft, at)
    return True


def decide_unanswered(draft: Draft, at: At[Task]) -> None:
    """Decide about a call whose end an event told, once no process waits for the answer any more."""
    state = draft.state(at.name)
    if not state.is_undecided or not state.is_live or state.stop:
        return
    if at.node.on_no_result is OnNoResult.FAIL and not state.never_ran:
        message = "the call succeeded, its answer was lost, and on_no_result is fail"
        draft.fail(at, of_attempt(draft, Failure.of("NoResult", message), state))
    else:
        call_again(draft, at, state)


def call_again(draft: Draft, at: At[Task], state: NodeState) -> None:
    """Owe one more launch of the same attempt if this process can launch the task; else the owner decides."""
    if state.launches >= LAUNCHES_MAX:
        failure = Failure.of("Lost", f"the target was called {counted(state.launches, 'time')}, and no answer came")
        draft.fail(at, of_attempt(draft, failure, state))
    elif draft.process.can_launch(at.node):
        assert state.unanswered is not None
        unanswered = Unanswered(calls_again=True, events=state.unanswered.events)
        changes = {"by": draft.process.id, "launches": state.launches + 1, "unanswered": unanswered}
        draft.set(at.name, replace(state, **changes))


# -- takeovers -----------------------------------------------------------------------------------------------------


def take_over(draft: Draft, at: At[Task], state: NodeState) -> None:
    """Continue an attempt of a dead process from the entry as that process left it."""
    execution = at.node.execution
    if state.stop and not execution.can_be_stopped:
        draft.end(at.name, TaskStatus.CANCELLED)
    elif (state.status is TaskStatus.STARTING or state.calls_again) and not state.stop:
        _take_over_starting(draft, at, state)
    elif state.status is TaskStatus.RUNNING and not execution.is_polled and not draft.process.awaits_event_of(at.node):
        lose(draft, at, state, "the process died while the execution was running")
    elif draft.process.can_launch(at.node):
        if state.status is TaskStatus.RUNNING and not execution.is_polled:
            _await_event(draft, at, state)
        else:
            draft.set(at.name, replace(state, by=draft.process.id))


def _take_over_starting(draft: Draft, at: At[Task], state: NodeState) -> None:
    if state.launches >= LAUNCHES_MAX:
        failure = Failure.of("Lost", f"the process died {state.launches} times while launching the execution")
        draft.fail(at, of_attempt(draft, failure, state))
    elif not at.node.execution.is_found_again and at.node.on_lost is OnLost.FAIL:
        # The dead process may have sent the call already, and `on_lost` forbids a second call.
        if draft.process.awaits_event_of(at.node):
            _await_event(draft, at, state)
        else:
            lose(draft, at, state, "the process died after committing to launch the execution")
    elif draft.process.can_launch(at.node):
        unanswered = replace(state.unanswered, has_succeeded=False) if state.unanswered else None
        changes = {"by": draft.process.id, "launches": state.launches + 1, "unanswered": unanswered}
        draft.set(at.name, replace(state, waits_because=None, **changes))


def _await_event(draft: Draft, at: At[Task], state: NodeState) -> None:
    """Take over a call whose process is gone. An event will tell the end of the call, or has told it already."""
    known = state.unanswered or Unanswered()
    # Only the process that lost the answer knows whether an earlier request was refused.
    was_refused = known.was_refused or not known.answer_lost
    unanswered = replace(known, answer_lost=True, was_refused=was_refused, calls_again=False)
    changes = {"by": draft.process.id, "unanswered": unanswered, "waits_because": None}
    draft.set(at.name, replace(state, status=TaskStatus.RUNNING, **changes))
    decide_unanswered(draft, at)
