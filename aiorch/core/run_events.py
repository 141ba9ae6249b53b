"""
The events of a run: the facts, commands and timers that `aiorch.core.fold.fold` applies.

``rank`` orders the events of one batch: outcomes come first, then commands, then timers.
"""

from typing import ClassVar

import msgspec

from aiorch.model.failure import Failure
from aiorch.model.run_document import NO_RESULT


class RunStarted(msgspec.Struct, frozen=True, gc=False):
    """The run exists and is to begin."""

    rank: ClassVar[int] = 0
    node: ClassVar[str] = ""
    attempt: ClassVar[int] = 0


class TaskWaits(msgspec.Struct, frozen=True, gc=False):
    """
    The task has not started, for a reason: the target refused a launch, or this process cannot launch the task.

    The entry may be ``Running`` already: the answer to a request that is under way is not known.
    """

    rank: ClassVar[int] = 2
    node: str
    attempt: int
    """The attempt that was refused; 0: the task is ready and has no attempt yet."""

    reason: str | None
    """`None`: the target seems to have taken the execution."""

    launch: int = 0
    """The launch of the attempt that the event is about."""


class TaskRunning(msgspec.Struct, frozen=True, gc=False):
    """The target has taken the execution."""

    rank: ClassVar[int] = 1
    node: str
    attempt: int
    job_id: str | None = None
    launch: int = 0
    """The launch of the attempt that the event is about, as the entry counts launches; 0: any."""

    answer_lost: bool = False
    """The call got no answer, and no process waits for the answer any more."""

    was_refused: bool = False
    """The target refused an earlier request of this launch, before the function ran."""


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
    """The owner gave the execution up: no end came in time, or no request got out. The target may still run it."""

    launch: int = 0
    """The launch that was given up; 0: any."""


class TaskUnanswered(msgspec.Struct, frozen=True, gc=False):
    """The platform tells the end of a call; the answer to the call, which alone carries the result, is missing."""

    rank: ClassVar[int] = 4
    node: str
    attempt: int
    event_id: str = ""
    """Id of the platform's event; empty: decide about an event that is in the entry already."""

    ran: bool = True
    """The call succeeded. `False`: the platform refused the request for load, and the function never ran."""


class TaskStopped(msgspec.Struct, frozen=True, gc=False):
    """The execution was stopped, as asked: the target runs no part that could be stopped."""

    rank: ClassVar[int] = 6
    node: str
    attempt: int


class TaskInterrupted(msgspec.Struct, frozen=True, gc=False):
    """The owner of the execution is about to end, and has given the execution up."""

    rank: ClassVar[int] = 7
    node: str
    attempt: int
    was_sent: bool = True
    """`False`: the owner had not sent the request, so the execution never began."""


class CancelRequested(msgspec.Struct, frozen=True, gc=False):
    """A user or a client asks for the end of the run."""

    rank: ClassVar[int] = 8
    node: ClassVar[str] = ""
    attempt: ClassVar[int] = 0
    reason: str = "cancelled on request"
    force: bool = False
    """Also stop the level `finally`, or let it never begin."""


class TaskLost(msgspec.Struct, frozen=True, gc=False):
    """The outcome of the execution will never be known: `on_lost` decides."""

    rank: ClassVar[int] = 10
    node: str
    attempt: int
    reason: str
    launch: int = 0
    """The launch that was lost; 0: any."""


class ProcessesDied(msgspec.Struct, frozen=True, gc=False):
    """These processes will never act again: the process that folds this event takes over their work."""

    rank: ClassVar[int] = 11
    node: ClassVar[str] = ""
    attempt: ClassVar[int] = 0
    processes: frozenset[str]
    asked_at: float = float("inf")
    """Event loop time at which `Liveness` was asked. The committer asks again before a fold onto a later copy."""


class LaunchOffered(msgspec.Struct, frozen=True, gc=False):
    """A task is ready, no process has claimed it, and this process can launch it."""

    rank: ClassVar[int] = 12
    node: str
    attempt: ClassVar[int] = 0


class RetryDue(msgspec.Struct, frozen=True, gc=False):
    """The next attempt after this one is due."""

    rank: ClassVar[int] = 13
    node: str
    attempt: int


class TimerDue(msgspec.Struct, frozen=True, gc=False):
    """The time that an entry without an owner waits for has come: see `NodeState.due_at`."""

    rank: ClassVar[int] = 13
    node: str
    attempt: ClassVar[int] = 0


class RunTimeoutDue(msgspec.Struct, frozen=True, gc=False):
    """The timeout of the run has passed."""

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
    | TimerDue
    | RunTimeoutDue
)
