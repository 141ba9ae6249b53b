"""
The time for which an async callable holds up the event loop.

A coroutine runs in steps, from one `await` that waits to the next. During a step the loop of this process runs no
other task, timeout or heartbeat. So the clock of the loop measures each step by itself, and we need no guess about
other code.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

BLOCKED_S = 0.5
"""A longer step blocks the event loop."""


class Watch(Protocol):
    """Tells how long this process stood still."""

    @property
    def total_s(self) -> float:
        """The seconds of standstill that were noticed so far."""
        ...

    def attach(self) -> None:
        """Begin to watch, for one more user."""

    def detach(self) -> None:
        """Watch for one user less."""

    def measure(self) -> float:
        """Look at the clock, and return the seconds of standstill so far."""
        ...


class Steps(Generator[Any, Any, Any]):
    """
    Awaits a coroutine, and reports each step that blocks the event loop.

    Args:
        coroutine: The coroutine.

        on_blocked: Called after such a step with its seconds, without the time in which the process stood still.

        watch: Measures that time; `None` where processes do not stand still.
    """

    __slots__ = ("_coroutine", "_on_blocked", "_time", "_watch")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], on_blocked: Callable[[float], None], watch: Watch | None
    ) -> None:
        self._coroutine = coroutine
        self._on_blocked = on_blocked
        self._watch = watch
        self._time = asyncio.get_running_loop().time

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def __next__(self) -> Any:
        return self._measured(self._coroutine.send, None)

    def send(self, value: Any) -> Any:
        """Make the next step."""
        return self._measured(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        """Make the next step, which begins with an exception."""
        return self._measured(self._coroutine.throw, *error)

    def close(self) -> None:
        """End the coroutine at its present `await`."""
        self._coroutine.close()

    def _measured(self, step: Callable[..., Any], *args: Any) -> Any:
        stood_still_s = self._watch.total_s if self._watch else 0.0
        began_at = self._time()
        try:
            return step(*args)
        finally:
            took_s = self._time() - began_at
            if took_s > BLOCKED_S:
                if self._watch:
                    took_s -= self._watch.measure() - stood_still_s
                if took_s > BLOCKED_S:
                    self._on_blocked(took_s)
