"""
Answers: a completion event of a call waits for the answer to the same call.

The answer carries the result of the call; the event that the platform writes about the call carries none. The event
may be faster: the answer may be waiting for its commit, in this process or in a second one. The wait risks no event,
since this process does not acknowledge the event meanwhile.
"""

import asyncio
from contextlib import suppress

from aiorch.core.run_events import RunEvent, TaskFailed, TaskSucceeded, TaskUnanswered
from aiorch.documents.executions import Execution
from aiorch.engine.committer import Committer
from aiorch.engine.standstill import READING_S, LivedTimeout, Standstill
from aiorch.events.event import Completion, Event
from aiorch.model.failure import Failure
from aiorch.model.run_document import IN_RECORD
from aiorch.model.status import TaskStatus

ANSWER_GRACE_S = 10.0
"""Seconds for which a completion event of a call waits for the answer. Commits seldom take longer."""

ANSWER_LOOK_S = 1.0
"""Pause before the first look whether a different process has committed the answer; doubled each time."""

USER_AGENT_PREFIX = "aiorch/"


async def let_answer_come(
    committer: Committer, node: str, attempt: int, *, standstill: Standstill, commit_interval_s: float
) -> bool:
    """Return once a commit holds the answer to a call, or no wait is needed, and whether the answer is missing."""
    pause_s = ANSWER_LOOK_S
    await _until_fresh(committer, commit_interval_s)
    with suppress(TimeoutError):
        async with LivedTimeout(standstill, reading_s=READING_S) as grace:
            grace.begin(ANSWER_GRACE_S)
            while _is_under_way_somewhere(committer, node, attempt):
                if node in committer.in_flight:
                    await committer.changed(committer.generation)
                else:
                    # The process that launched the call gets the answer, and mostly commits it by the first look.
                    await asyncio.sleep(pause_s)
                    pause_s *= 2
                    await _read_again(committer, commit_interval_s)
    await _until_fresh(committer, commit_interval_s)
    return _is_undecided(committer, node, attempt)


def is_called_here(committer: Committer | None, node: str) -> bool:
    """Whether this process is calling the function of a task, and waits for the answer."""
    sent = committer.in_flight.get(node) if committer is not None else None
    return sent is not None and not sent.is_awaited


async def _until_fresh(committer: Committer, age_s_max: float) -> None:
    """Read a run in which only other processes are at work, unless this process read the run just now."""
    if committer.run is None or not committer.in_flight:
        await _read_again(committer, age_s_max)


async def _read_again(committer: Committer, age_s_max: float) -> None:
    """Read a run, unless this process read or wrote the run just now."""
    age_s = asyncio.get_running_loop().time() - committer.known_at
    if committer.run is None or age_s > age_s_max:
        await committer.apply(None)


def _is_undecided(committer: Committer, node: str, attempt: int) -> bool:
    state = committer.run.nodes.get(node) if committer.run is not None else None
    return state is not None and state.attempt == attempt and not state.status.is_terminal


def _is_under_way_somewhere(committer: Committer, node: str, attempt: int) -> bool:
    """Whether some process may still have the answer to a call, as far as this process knows."""
    state = committer.run.nodes.get(node) if committer.run is not None else None
    if state is None or state.attempt != attempt or not state.is_live:
        return False
    if state.unanswered is not None and state.unanswered.answer_lost:
        return False
    sent = committer.in_flight.get(node)
    return sent is None or not (sent.is_awaited or sent.was_taken_over)


def is_of(event: Completion, record: Execution) -> bool:
    """
    Whether a completion is that of the recorded execution itself.

    A function may hand our trace on to the functions that it calls, so the completion must name the recorded target,
    and the request must be ours. A gen1 log does not tell the caller.
    """
    return (
        record.task_name in event.names
        and is_at(event, record)
        and (event.user_agent is None or event.user_agent.startswith(USER_AGENT_PREFIX))
        and record.target_type in (None, event.target_type)
    )


def is_at(event: Event, record: Execution) -> bool:
    """Whether an event is from the region of the recorded execution."""
    return record.region is None or event.region == record.region


def completion(event: Completion, record: Execution) -> RunEvent:
    """Return the run event that a completion stands for."""
    if record.succeeded:
        return TaskSucceeded(record.node_name, record.attempt, result_in=IN_RECORD)
    if event.status is TaskStatus.COMPLETED or event.never_ran:
        return TaskUnanswered(record.node_name, record.attempt, event.event_id, ran=not event.never_ran)
    return TaskFailed(record.node_name, record.attempt, event.failure or Failure.of("Error", "failed without a reason"))
