"""
The two streams of a command: results on stdout, everything else on stderr, either of which may not take any more.

A disk is full, a reader has gone, a terminal was closed, or the stream was closed from the start. A result that is lost
is an error of the command. A message that is lost is none: a run does not fail because it is not watched.
"""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from aiorch.views.escaping import escaped

CLOSED = "it is closed"
GONE = "its reader has gone"


class OutputLostError(Exception):
    """
    A result could not be written to stdout.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the result could not be written to stdout ({reason}).")


class _Guarded(io.TextIOBase):
    """
    Stands for one of the two streams, and outlives its failure.

    Args:
        stream: The stream.

        reason: Why it cannot be written from the start.

    Attributes:
        reason: Why it cannot be written, `None` if it can, as far as is known.
    """

    def __init__(self, stream: TextIO, reason: str | None = None) -> None:
        self._stream = stream
        self.reason = reason

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> Any:
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a variable of the base that is never set
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # as above
        return self._stream.errors

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.reason is None:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:
                self._fail(error)
        if text:
            self.lost()
        return len(text)

    def flush(self) -> None:
        if self.reason is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)
                self.lost()

    def lost(self) -> None:
        """Hear that something was lost."""

    def _fail(self, error: OSError | ValueError) -> None:
        if isinstance(error, BrokenPipeError):
            self.reason = GONE
        else:
            self.reason = getattr(error, "strerror", None) or CLOSED
        # What is left in the buffer would fail again when the interpreter ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class Messages(_Guarded):
    """
    Stderr, as `sys.stderr`: what cannot be written is dropped, now and from then on.

    Attributes:
        is_in_line: The last text that was written is the beginning of a line of an execution.
    """

    is_in_line = False

    def write(self, text: str) -> int:
        self.is_in_line = False
        return super().write(text)


class Results(_Guarded):
    """
    Stdout, as `sys.stdout`.

    Raises:
        OutputLostError: On writing and flushing, when it cannot be written.
    """

    def lost(self) -> None:
        """Raise."""
        assert self.reason is not None
        raise OutputLostError(self.reason)


def guard_streams() -> None:
    """
    Let `sys.stdout` and `sys.stderr` be `Results` and `Messages`, whatever becomes of the streams behind them.

    File descriptors that were closed from the start lead nowhere from now on: a store or a socket that was opened under
    one of these numbers would be written to by whatever prints.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    sys.stdout, sys.stderr = (
        cast("TextIO", Results(*_opened(sys.stdout, 1))),
        cast("TextIO", Messages(*_opened(sys.stderr, 2))),
    )


def _opened(stream: TextIO | None, number: int) -> tuple[TextIO, str | None]:
    """Return a stream in the place of one that was closed from the start, and that it was."""
    if stream is None:
        return open(number, "w", encoding="utf-8", closefd=False), CLOSED
    if isinstance(stream, io.TextIOWrapper):
        # Names and messages may hold what the encoding of the terminal does not have.
        stream.reconfigure(errors="backslashreplace")
    return stream, None


def is_live(stream: TextIO) -> bool:
    """Whether *stream* is a terminal on which a view can be redrawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and "utf" in (stream.encoding or "").lower()


def write_line(stream: TextIO, text: str) -> None:
    """
    Write *text*, escaped for a terminal, and a line end, at once.

    Raises:
        OutputLostError: *stream* is `Results`, and cannot be written.
    """
    begin = "\n" if isinstance(stream, Messages) and stream.is_in_line else ""
    stream.write(f"{begin}{escaped(text)}\n")
    stream.flush()
