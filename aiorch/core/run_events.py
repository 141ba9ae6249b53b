"""
The events of a run: the facts, commands and timers that `aiorch.core.fold.fold` applies.

``rank`` orders the events of one batch: outcomes come first, then commands, then timers.
"""

from typing import ClassVar

import msgspec

from aiorch.model.failure import Failure
from aiorch.model.run_document import NO_RESULT


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
