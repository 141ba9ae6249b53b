"""Virtual time: a clock that a test advances, and an event loop that never waits."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

START = datetime(2026, 1, 1, tzinfo=UTC)

ROUNDS_MAX = 300_000
"""Limit of rounds of a `VirtualTimeLoop` without time: 10,000 tasks that end at once need some 10,000."""


class ManualClock:
    """
    An `aiorch.ports.Clock` that stands still until a test advances it.

    In a `VirtualTimeLoop` the clock also follows the time of the loop.

    Args:
        now: The first time, aware.
    """

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._now
        return self._now + timedelta(seconds=loop.time()) if isinstance(loop, VirtualTimeLoop) else self._now

    def advance(self, seconds: float) -> None:
        """Advance the time of day by *seconds*; scheduled callbacks of the event loop do not come earlier."""
        self._now += timedelta(seconds=seconds)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    An event loop whose time jumps to the next scheduled callback, instead of waiting for it.

    An hour of retries passes in a millisecond, always in the same order. Only for code without threads, processes and
    sockets: virtual time would pass before they answer. The time begins at 0.

    Raises:
        RuntimeError: A callback repeats without ever waiting.
    """

    def __init__(self) -> None:
        self._passed_s = 0.0
        super().__init__(_Impatient(self._pass))
        # asyncio runs a timer once the time is less than this before it. The default, a nanosecond, is lost in the
        # rounding of the time after a few months, and a timer that is due would never run.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Return the virtual seconds since the creation of the loop."""
        return self._passed_s

    def _pass(self, seconds: float) -> None:
        self._passed_s += seconds


class _Impatient(selectors.DefaultSelector):
    """Never waits, and reports the time that it would have waited."""

    def __init__(self, waited: Callable[[float], None]) -> None:
        super().__init__()
        self._waited = waited
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()  # no callback is scheduled: only an event from outside can continue
        ready = super().select(0)
        self._rounds += 1
        if not ready and timeout > 0:
            self._waited(timeout)
            self._rounds = 0
        if self._rounds > ROUNDS_MAX:
            self._rounds = 0  # cleaning up may continue
            raise RuntimeError(
                f"the loop ran {ROUNDS_MAX} rounds without waiting, so no time would ever pass: look for a callback "
                f"that repeats"
            )
        return ready


def in_virtual_time(test: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, _T]:
    """Turn an async test function into one that runs in a new `VirtualTimeLoop`."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(test(*args, **kwargs))

    return run
