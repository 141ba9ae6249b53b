"""
The prints of functions: they go to stderr, so that stdout holds only the result of a command.

Each execution has a line buffer, so the lines of branches that print at the same time stay whole. The lines do not name
their task: a print stays unchanged. Log records name their task.
"""

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from aiorch.engine.execution_context import CurrentExecution, current_execution
from aiorch.views.streams import Messages, Results

LINE_CHARS_MAX = 64 * 1024
"""A longer line is passed on in pieces, so that it cannot fill the memory."""


class Prints(io.TextIOBase):
    """
    Replaces `sys.stdout`, and passes complete lines on to the current `sys.stderr`.

    A flush also passes on an unfinished line; the next line of a different execution then starts below.

    Args:
        stderr: The stream whose encoding and file descriptor the prints use.

    Attributes:
        buffer: Accepts bytes, which join the text.
    """

    def __init__(self, stderr: TextIO) -> None:
        self._stderr = stderr
        self.buffer = _Bytes(self)
        self._is_held = False
        self._held: list[str] = []
        self._begun: dict[CurrentExecution | int, str] = {}
        self._open: CurrentExecution | int | None = None
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a variable of the base that is never set
        return self._stderr.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # as above
        return self._stderr.errors

    def reconfigure(self, **_: Any) -> None:
        """Do nothing: the encoding is that of stderr."""

    def fileno(self) -> int:
        return self._stderr.fileno()

    def isatty(self) -> bool:
        return self._stderr.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        writer = _writer()
        with self._lock:
            text_so_far = self._begun.pop(writer, "") + text
            lines, end, rest = text_so_far.rpartition("\n")
            if len(rest) > LINE_CHARS_MAX:
                lines, rest = text_so_far, ""
            if lines or end:
                self._pass_on(writer, lines + end)
            if rest:
                self._begun[writer] = rest
        return len(text)

    def flush(self) -> None:
        writer = _writer()
        with self._lock:
            if rest := self._begun.pop(writer, ""):
                self._pass_on(writer, rest)

    def hold(self) -> None:
        """Keep all text until `release`."""
        with self._lock:
            self._is_held = True

    def release(self) -> None:
        """Pass on the text that was held, and all later text."""
        with self._lock:
            self._is_held = False
            held, self._held = "".join(self._held), []
            if held:
                self._show(held)

    def end(self) -> None:
        """Pass on unfinished lines, each with a line end."""
        self.release()
        with self._lock:
            for writer, rest in self._begun.items():
                self._pass_on(writer, f"{rest}\n")
            self._begun.clear()

    def _pass_on(self, writer: CurrentExecution | int, text: str) -> None:
        if self._open != writer:
            text = f"{self._line_end()}{text}"
        is_open = not text.endswith("\n")
        self._open = writer if is_open else None
        self._show(text)
        if is_open and not self._is_held and isinstance(sys.stderr, Messages):
            sys.stderr.is_in_line = True

    def _line_end(self) -> str:
        """Return the line end for an unfinished line of a different execution."""
        if self._is_held:
            return "\n" if self._open is not None else ""
        return "\n" if isinstance(sys.stderr, Messages) and sys.stderr.is_in_line else ""

    def _show(self, text: str) -> None:
        if self._is_held:
            self._held.append(text)
        else:
            sys.stderr.write(text)
            sys.stderr.flush()


class _Bytes(io.RawIOBase):
    def __init__(self, prints: Prints) -> None:
        self._prints = prints

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._prints.write(bytes(data).decode(self._prints.encoding, "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        self._prints.flush()


def _writer() -> CurrentExecution | int:
    """Return the owner of the line: the current execution, or outside of executions the thread."""
    return current_execution() or threading.get_ident()


@contextmanager
def prints_to_stderr() -> Iterator[tuple[TextIO, Prints]]:
    """
    Yield the stream for results, and the `Prints` that replace `sys.stdout` inside the context.

    Inside the context, programs that functions start print to stderr, too.
    """
    stdout = sys.stdout
    stdout.flush()
    prints = Prints(sys.stderr)
    with os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace") as stream:
        reason = stdout.reason if isinstance(stdout, Results) else None
        os.dup2(2, 1)
        sys.stdout = cast("TextIO", prints)
        try:
            yield cast("TextIO", Results(stream, reason)), prints
        finally:
            prints.end()
            sys.stdout = stdout
            os.dup2(stream.fileno(), 1)
