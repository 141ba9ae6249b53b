"""
The progress of a run: a view that is redrawn on a terminal, plain lines otherwise.

`follow` is the only loop; a view shows one moment. The view for terminals is `aiorch.views.live.LiveView`, imported on
first use: by then the first task of `aiorch run` has started.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self, TextIO

from aiorch.model.dag import DAG
from aiorch.model.run import Run
from aiorch.views.progress import ProgressLog
from aiorch.views.streams import is_live, write_line

FRAME_S = 0.1
"""Shortest time between two redraws: faster ones are invisible and take processor time from the tasks."""

TICK_S = 1.0
"""Pause before a redraw without a change: durations grow."""


class Followed(Protocol):
    """The part of a `RunHandle` that a view needs."""

    @property
    def dag(self) -> DAG:
        """The DAG that the run traverses."""
        ...

    @property
    def run(self) -> Run:
        """The last committed state of the run."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield after every commit, until the run is terminal."""
        ...


class View(Protocol):
    """Shows one moment of a run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, run: Run) -> None:
        """Show the present state of *run*."""
        ...


async def follow(followed: Followed, view: View) -> None:
    """
    Show a run until it is terminal. Cancellation leaves the last moment on the screen.

    Raises:
        StoreError: Raised by `Followed.changes`.
    """
    changed = asyncio.Event()

    async def watch() -> None:
        try:
            async for _ in followed.changes():
                changed.set()
        finally:
            changed.set()

    watching = asyncio.get_running_loop().create_task(watch())
    try:
        with view:
            while not watching.done():
                view.show(followed.run)
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await changed.wait()
                changed.clear()
                await asyncio.wait({watching}, timeout=FRAME_S)
            view.show(followed.run)
        await watching
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def view_for(stream: TextIO, dag: DAG) -> View:
    """Return the view for *stream*: redrawn on a terminal that supports redraws, else plain lines."""
    if not is_live(stream):
        return PlainView(stream, dag)
    from aiorch.views.live import LiveView  # noqa: PLC0415  the import of Rich takes as long as a short run

    return LiveView(stream, dag)


class PlainView:
    """One line per change."""

    def __init__(self, stream: TextIO, dag: DAG) -> None:
        self._stream = stream
        self._log = ProgressLog(dag)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, run: Run) -> None:
        lines = self._log.lines(run, datetime.now(UTC))
        if lines:
            write_line(self._stream, "\n".join(lines))
