"""
An event loop without a world behind it: virtual time, an order of its own, and processes that can lose power.

Time stands still while anything is ready, and jumps to the next timer when nothing is. What is ready runs in the order
of its arrival, or in one that is drawn from the tape. Every callback belongs to the process whose context variable it
carries, or to none: the callbacks of a process without power are put aside instead of being run. So no `finally` of it
runs, and nothing that it had sent is called back. A process that is paused gets them back later.

Threads, sockets, signals and executors do not exist here: whoever asks for one is told so by an `AttributeError`.
"""

import asyncio
import contextvars
import gc
import heapq
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from tests.simulation.tape import Tape

STEPS_MAX = 400_000
"""Callbacks of one schedule: more mean that something goes round and round."""


class DeadlockError(AssertionError):
    """L3: nothing is ready, nothing is scheduled, and the schedule is not over."""


class LivelockError(AssertionError):
    """L3: no end in sight."""


class Process(Protocol):
    """Who a callback belongs to."""

    parked: list["Handle"] | None
    """Callbacks put aside; `None` while the process runs."""

    fuse: int
    """Callbacks until `burn` is called."""

    def burn(self) -> None:
        """The fuse has burnt down."""


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)

WORLD = contextvars.Context()
"""The context of what belongs to no process."""


class Handle:
    """A callback that waits for its turn."""

    __slots__ = ("_when", "args", "callback", "context", "is_cancelled", "process")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context, when: float
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = context.get(PROCESS)
        self.is_cancelled = False
        self._when = when

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self._when


class SimulationLoop(asyncio.AbstractEventLoop):
    """
    The event loop of one schedule.

    Args:
        tape: Where the order comes from, `None` to keep that of arrival.

    Attributes:
        steps: Callbacks that were run.

        errors: What callbacks raised that nobody handles.
    """

    def __init__(self, tape: Tape | None) -> None:
        self._tape = tape
        self._now = 0.0
        self._ready: deque[Handle] = deque()
        self._scheduled: list[tuple[float, int, Handle]] = []
        self._number = 0
        self._is_over = False
        self.steps = 0
        self.errors: list[dict[str, Any]] = []

    # -- what asyncio and the engine ask for ---------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None) -> Handle:
        # Not `context or ...`: an empty context is false.
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context, self._now)
        if not self._is_over:
            self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context, when)
        if not self._is_over:
            self._number += 1
            heapq.heappush(self._scheduled, (when, self._number, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._is_over

    def is_closed(self) -> bool:
        return self._is_over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._is_over:
            self.errors.append(context)

    # -- for the world -------------------------------------------------------------------------------------------

    def later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Handle:
        """Let the world, that is no process, do something later."""
        return self.call_at(self._now + delay, callback, *args, context=WORLD)

    def give_back(self, handles: list[Handle]) -> None:
        """Let callbacks that were put aside run now."""
        self._ready.extend(handles)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """
        Run *main*, as the world, to its end.

        Raises:
            DeadlockError: It cannot end.

            LivelockError: It does not end.
        """
        asyncio._set_running_loop(self)
        was_enabled = gc.isenabled()
        gc.disable()  # what it finds, and when, depends on what ran before
        try:
            task = self.create_task(main, context=WORLD)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._end()
            asyncio._set_running_loop(None)
            if was_enabled:
                gc.enable()

    def _step(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while not ready:
            if not scheduled:
                raise DeadlockError("nothing is ready and nothing is scheduled")
            when = scheduled[0][0]
            self._now = max(self._now, when)
            while scheduled and scheduled[0][0] <= when:
                handle = heapq.heappop(scheduled)[2]
                if not handle.is_cancelled:
                    ready.append(handle)
        if self._tape is None or len(ready) == 1:
            handle = ready.popleft()
        else:
            index = self._tape.draw("order", len(ready))
            handle = ready[index]
            del ready[index]
        if handle.is_cancelled:
            return
        process = handle.process
        if process is not None:
            if process.parked is not None:
                process.parked.append(handle)
                return
            process.fuse -= 1
            if process.fuse == 0:
                process.burn()
                ready.append(handle)  # it is put aside when its turn comes, if the process is not running by then
                return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise LivelockError(f"no end after {STEPS_MAX} steps")
        try:
            handle.context.run(handle.callback, *handle.args)
        except Exception as error:  # noqa: BLE001  as every event loop does
            self.call_exception_handler({"message": "a callback raised", "exception": error, "handle": handle})

    def _end(self) -> None:
        """Let go of everything without anything being run that could reach the world."""
        self._is_over = True
        closed: set[asyncio.Task[Any]] = set()
        # A `finally` that awaits cannot be closed, and Python's complaint about that is of no interest.
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            tasks = asyncio.all_tasks(self)  # a task that has not begun is known to its handle alone
            self._ready.clear()
            self._scheduled.clear()
            while tasks:
                closed |= tasks
                for task in tasks:
                    task._log_destroy_pending = False
                    with suppress(BaseException):
                        task.get_coro().close()
                tasks = asyncio.all_tasks(self) - closed  # a `finally` may make more of them
        finally:
            sys.unraisablehook = hook
