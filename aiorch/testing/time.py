"""Time under control: a clock that is set by hand, and an event loop that never waits."""

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
"""Rounds of a `VirtualTimeLoop` in which no time passes: 10,000 tasks that end at once need some 10,000."""


class ManualClock:
    """
    An `aiorch.ports.Clock` that stands still until it is advanced.

    In a `VirtualTimeLoop` it goes on with the loop's time besides.

    Args:
        now: Where it begins, aware.
    """

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        """Aware, in UTC."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._now
        return self._now + timedelta(seconds=loop.time()) if isinstance(loop, VirtualTimeLoop) else self._now

    def advance(self, seconds: float) -> None:
        """Let time of day go on by *seconds*; what the event loop has scheduled does not come earlier by it."""
        self._now += timedelta(seconds=seconds)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    An event loop whose time jumps to whatever is scheduled next, instead of waiting for it.

    An hour of retries passes in a millisecond, always in the same order. For code without threads, processes and
    sockets only: time would pass before they answer. Its time begins at 0.

    Raises:
        RuntimeError: Something goes round and round without ever waiting.
    """

    def __init__(self) -> None:
        self._passed_s = 0.0
        super().__init__(_Impatient(self._pass))

    def time(self) -> float:
        """Seconds of its own since it was made."""
        return self._passed_s

    def _pass(self, seconds: float) -> None:
        self._passed_s += seconds


class _Impatient(selectors.DefaultSelector):
    """Waits for nothing, and says how long it would have waited."""

    def __init__(self, waited: Callable[[float], None]) -> None:
        super().__init__()
        self._waited = waited
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()  # nothing is scheduled: only something outside can go on
        ready = super().select(0)
        self._rounds += 1
        if not ready and timeout > 0:
            self._waited(timeout)
            self._rounds = 0
        if self._rounds > ROUNDS_MAX:
            self._rounds = 0  # what is to be cleaned up may go on
            raise RuntimeError(f"something was done {ROUNDS_MAX} times over without waiting: no time would ever pass")
        return ready


def in_virtual_time(test: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, _T]:
    """Turn an async test function into one that runs in a `VirtualTimeLoop` of its own."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(test(*args, **kwargs))

    return run
