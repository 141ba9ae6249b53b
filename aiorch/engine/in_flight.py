"""
An execution that counts as sent, from before its request goes out until the commit that holds its outcome.

Otherwise a ``Starting`` that is still committed would be sent a second time while the outcome waits in the inbox.
"""

import asyncio

from aiorch.engine.standstill import LivedTimeout


class InFlight:
    """
    What this process knows of one execution and the run does not say. `Committer.in_flight` holds it.

    Attributes:
        attempt: Number of the execution within its task.

        launch: Which launch of the attempt it is, as the entry counts them.

        was_taken_over: Another process has sent it.

        refusals: How many tries to launch it were refused before it ran.

        refusal: Why the last of them was, until the next one goes out.

        handle: The asyncio task that launches the execution, waits for its end, or stops it.

        begun_at: When it had its turn, in the event loop's time.

        deadline: Its timeout of `limit_s`, `None` when it has none.

        faults: How many unexpected exceptions of this process it has met.

        job_id: The name that its target has for the execution, once this process knows it.

        is_preparing: Its supplementary function is under way: nothing was sent yet.

        is_out: It may be at work at its target: sent, and not turned away. Only then may it be called ``Running``.

        is_at_target: It may go on at its target, and can be stopped there.

        is_awaited: Nothing is under way here any more: its end will be told by an event, or on being asked.

        is_given_up: It has not ended at its target, and this process waits no longer, or could not send it.

        is_stopping: It is wanted to end, and `handle` stops it.

        has_ended: What came of it is in the inbox, and nothing more comes.
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
        """Set when something said that it may have ended."""
        if self._hint is None:
            self._hint = asyncio.Event()
        return self._hint

    def begin(self) -> None:
        """Its turn has come: its timeout runs, and unless this only prepares it, it may do something from here on."""
        self.is_out = not self.is_preparing
        self.refusal = None
        if self.deadline is not None:
            self.deadline.begin(self.limit_s)

    def blocked(self, seconds: float) -> None:
        """It has just held up the event loop itself: that counts against its timeout."""
        if self.deadline is not None:
            self.deadline.count(seconds)
