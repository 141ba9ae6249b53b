"""
Standstill: time in which this process did not run, and which does not count against its tasks.

SIGSTOP, a paused machine or a throttled processor stop a process. When such a process goes on, its overdue timers fire
before it has read the answers in its sockets and the events in its subscription. A `LivedTimeout` therefore counts only
time in which the process ran, and after a late timer it leaves time to read before it ends its block.

An async callable that blocks the event loop looks the same from here: all other blocks get that time back, since none
of them could go on. Only the timeout of the callable itself counts that time, see `LivedTimeout.count`.
"""

import asyncio
import math
from types import TracebackType
from typing import Self

from aiorch.ports.world import LATE_S

TICK_S = 1.0
"""Pause between two looks at the event loop's clock, while any `LivedTimeout` runs."""

SLACK_S = 0.5
"""Seconds by which a look may be late in a busy process."""

LATE_SHARE = 0.1
"""A timer that fires later than this share of its time, or than `LATE_S`, was held up by a standstill."""

READING_S = 5.0
"""Time for a process that stood still to read the answers that wait in its sockets."""

EVENTS_S = 60.0
"""Time for a process that stood still to pull its subscription and to commit the events that wait there."""


class Standstill:
    """
    Measures the standstill of one process. Touched by the event loop's thread alone.

    Attributes:
        tick_s: Pause between two looks. A loop in virtual time, which never stands still, needs none.
    """

    def __init__(self) -> None:
        self.tick_s: float = TICK_S
        self._total_s = 0.0
        self._looked_at = 0.0
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None

    def measure(self) -> float:
        """Look at the clock, and return the seconds of standstill so far during which any `LivedTimeout` ran."""
        now = asyncio.get_running_loop().time()
        gap_s, self._looked_at = now - self._looked_at, now
        if gap_s > self.tick_s + SLACK_S:
            self._total_s += gap_s - self.tick_s
        return self._total_s

    @property
    def total_s(self) -> float:
        """The seconds of standstill at the last look."""
        return self._total_s

    def attach(self) -> None:
        """Begin to look at the clock, for one more user."""
        self._users += 1
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._looked_at = loop.time()
            self._timer = loop.call_later(self.tick_s, self._tick)

    def detach(self) -> None:
        """Look at the clock for one user less."""
        self._users -= 1

    def _tick(self) -> None:
        self._timer = None
        if self._users:
            self.measure()
            self._timer = asyncio.get_running_loop().call_later(self.tick_s, self._tick)


class LivedTimeout:
    """
    A timeout in time that this process has lived: an async context manager like `asyncio.timeout`.

    Args:
        standstill: Measures the time that does not count.

        reading_s: Seconds for which the block may go on at least after a standstill that held up the timeout itself.

    Raises:
        TimeoutError: On leaving the block, when its time was over.
    """

    __slots__ = ("_counted_s", "_due_at", "_limit_s", "_reading_s", "_standstill", "_timeout", "_timer")

    def __init__(self, standstill: Standstill, *, reading_s: float) -> None:
        self._standstill = standstill
        self._reading_s = reading_s
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._limit_s = self._due_at = self._counted_s = 0.0

    def begin(self, limit_s: float) -> None:
        """Let the time run, unless it runs already."""
        if self._timer is None:
            self._standstill.attach()
            self._limit_s = limit_s
            self._counted_s = self._standstill.measure()
            self._arm(asyncio.get_running_loop().time() + limit_s)

    def count(self, seconds: float) -> None:
        """Count time in which the block itself has just held up the event loop. If that is too much, the block ends."""
        if self._timer is None or self._timer.cancelled() or self._timeout.when() is not None:
            return  # no time runs, or the time is over already
        noticed_s = self._standstill.total_s
        total_s = self._standstill.measure()
        self._counted_s += min(seconds, total_s - noticed_s)
        now = asyncio.get_running_loop().time()
        if self._due_at + total_s - self._counted_s <= now:
            self._timer.cancel()
            self._timeout.reschedule(now)

    def drop(self) -> None:
        """Let the block take as long as it likes, unless its time is over."""
        if self._timer is not None:
            self._timer.cancel()

    def expired(self) -> bool:
        """Whether the time is over."""
        return self._timeout.expired()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._standstill.detach()
        await self._timeout.__aexit__(kind, error, traceback)

    def _arm(self, due_at: float) -> None:
        self._due_at = due_at
        self._timer = asyncio.get_running_loop().call_at(due_at, self._fire)

    def _fire(self) -> None:
        now, total_s = asyncio.get_running_loop().time(), self._standstill.measure()
        due_at = self._due_at + total_s - self._counted_s
        if is_late(now - self._due_at, self._limit_s):
            due_at = max(due_at, now + self._reading_s)
            self._limit_s = math.inf  # a loop that is always a little late must not put the end off for ever
        self._counted_s = total_s
        if due_at > now:
            self._arm(due_at)
        else:
            self._timeout.reschedule(now)


def is_late(late_s: float, limit_s: float) -> bool:
    """Whether a timer of *limit_s* that fired *late_s* after it was due was held up by a standstill."""
    return late_s > min(LATE_S, max(SLACK_S, limit_s * LATE_SHARE))
