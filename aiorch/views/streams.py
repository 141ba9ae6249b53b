"""
The two streams of a command: results on stdout, all other lines on stderr. Each of them may stop accepting output.

The disk may be full, the reader gone, the terminal closed, or the stream closed from the start. A lost result is an
error of the command. A lost message is not: a run does not fail because it is not watched.
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
        reason: The reason in a few words.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the result could not be written to stdout ({reason}).")


class _Guarded(io.TextIOBase):
    """
    Replaces one of the two streams, and survives its failure.

    Args:
        stream: The stream.

        reason: The reason why the stream cannot be written from the start, `None` if it can.

    Attributes:
        reason: The reason why the stream cannot be written, `None` as long as no write has failed.
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
        """Handle the loss of output."""

    def _fail(self, error: OSError | ValueError) -> None:
        if isinstance(error, BrokenPipeError):
            self.reason = GONE
        else:
            self.reason = getattr(error, "strerror", None) or CLOSED
        # The rest of the buffer would fail again when the interpreter ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class Messages(_Guarded):
    """
    Stderr, as `sys.stderr`: after a failed write, all output is dropped.

    Attributes:
        is_in_line: The last written text is the beginning of a line of an execution.
    """

    is_in_line: bool = False

    def write(self, text: str) -> int:
        self.is_in_line = False
        return super().write(text)


class Results(_Guarded):
    """
    Stdout, as `sys.stdout`.

    Raises:
        OutputLostError: On writing and flushing, if the stream cannot be written.
    """

    def lost(self) -> None:
        """Raise an error."""
        assert self.reason is not None
        raise OutputLostError(self.reason)


def guard_streams() -> None:
    """
    Replace `sys.stdout` and `sys.stderr` by `Results` and `Messages`, which survive failures of the streams.

    File descriptors that were closed from the start are opened on the null device. Otherwise a store or a socket could
    get one of these numbers, and prints would be written into it.
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
    """Return a stream for this descriptor, and the reason if it was closed from the start."""
    if stream is None:
        return open(number, "w", encoding="utf-8", closefd=False), CLOSED
    if isinstance(stream, io.TextIOWrapper):
        # Names and messages may hold characters that the encoding of the terminal lacks.
        stream.reconfigure(errors="backslashreplace")
    return stream, None


def is_live(stream: TextIO) -> bool:
    """Whether *stream* is a terminal on which a view can be redrawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and "utf" in (stream.encoding or "").lower()


def write_line(stream: TextIO, text: str) -> None:
    """
    Write *text*, escaped for a terminal, and a line end, and flush.

    Raises:
        OutputLostError: *stream* is a `Results` that cannot be written.
    """
    begin = "\n" if isinstance(stream, Messages) and stream.is_in_line else ""
    stream.write(f"{begin}{escaped(text)}\n")
    stream.flush()
