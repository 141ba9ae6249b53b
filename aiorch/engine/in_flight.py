"""
An execution that counts as sent, from before its request goes out until the commit that holds its outcome.

Otherwise a ``Starting`` that is still committed would be sent a second time while the outcome waits in the inbox.
"""

import asyncio

from aiorch.engine.standstill import LivedTimeout


class InFlight:
    """
    The facts about one execution that this process knows and the run does not hold. See `Committer.in_flight`.

    Attributes:
        attempt: Number of the execution within its task.

        launch: Number of the launch within the attempt, as the entry counts launches.

        was_taken_over: A different process has sent the execution.

        refusals: Number of launches that were refused before the execution ran.

        refusal: The reason of the last refusal, until the next launch goes out.

        handle: The asyncio task that launches the execution, waits for its end, or stops it.

        begun_at: When the execution had its turn, in the event loop's time.

        deadline: The timeout of `limit_s`, `None` for an execution without a timeout.

        faults: Number of unexpected exceptions of this process that the execution has met.

        job_id: The target's name for the execution, once this process knows the name.

        secrets: The secrets in the parameters of the launch.

        is_preparing: The supplementary function is under way: no launch was sent yet.

        is_out: The execution may be at work at its target: sent, and not turned away. Only then may the run call the
            execution ``Running``.

        is_at_target: The execution may go on at its target, and can be stopped there.

        is_awaited: No request is under way here any more: an event tells the end, or the target on a poll.

        is_given_up: The execution has not ended at its target, and this process waits no longer, or could not send it.

        is_stopping: The execution shall end, and `handle` stops it.

        has_ended: The outcome of the execution is in the inbox, and no second outcome follows.
    """

    __slots__ = (
        "_hint",
        "attempt",
        "begun_at",
        "deadline",
        "faults",
        "handle",
        "has_ended",
        "is_at_target",
        "is_awaited",
        "is_given_up",
        "is_out",
        "is_preparing",
        "is_stopping",
        "job_id",
        "launch",
        "limit_s",
        "refusal",
        "refusals",
        "secrets",
        "was_taken_over",
    )

    def __init__(self, attempt: int, launch: int = 0, *, was_taken_over: bool = False) -> None:
        self.attempt: int = attempt
        self.launch: int = launch
        self.refusals: int = 0
        self.refusal: str | None = None
        self.was_taken_over: bool = was_taken_over
        self.handle: asyncio.Task[None] | None = None
        self.begun_at: float = 0.0
        self.faults: int = 0
        self.deadline: LivedTimeout | None = None
        self.limit_s: float = 0.0
        self.job_id: str | None = None
        self.secrets: tuple[str, ...] = ()
        self.is_preparing: bool = False
        self.is_out: bool = was_taken_over
        self.is_at_target: bool = False
        self.is_awaited: bool = False
        self.is_given_up: bool = False
        self.is_stopping: bool = False
        self.has_ended: bool = False
        self._hint: asyncio.Event | None = None

    @property
    def hint(self) -> asyncio.Event:
        """Set when an event says that the execution may have ended."""
        if self._hint is None:
            self._hint = asyncio.Event()
        return self._hint

    def begin(self) -> None:
        """Let the timeout run: the execution has its turn, and may do work now, unless this only prepares it."""
        self.is_out = not self.is_preparing
        self.refusal = None
        if self.deadline is not None:
            self.deadline.begin(self.limit_s)

    def blocked(self, seconds: float) -> None:
        """Count time in which the execution itself has just held up the event loop against its timeout."""
        if self.deadline is not None:
            self.deadline.count(seconds)
