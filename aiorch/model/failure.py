"""Why an attempt, a `Parallel` or a run failed, and how much of that a run document keeps."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

import msgspec

FAILURES_KEPT = 5
MESSAGE_CHARS_MAX = 1000

WIDE_RUN_NODES = 1000
MESSAGE_CHARS_WIDE = 150
"""A run of more nodes than this keeps shorter messages of failures, and one earlier failure per task: all of its tasks
may fail, and the document must stay small."""

TRACEBACK_CHARS_MAX = 4000
PARTS_KEPT = 10
"""Exceptions of a group that a failure keeps; the others are counted."""

PART_CHARS_MAX = 300

EARLIER_BYTES_MAX = 64 * 1024
TRACED_BYTES_MAX = 128 * 1024
FAILURES_BYTES_MAX = 256 * 1024
"""
The failures of one document share this room. While the first part of the room is free, failures of earlier attempts are
kept; while the second is free, a failure keeps its traceback and its parts; when the room is taken, a failure keeps its
type and the beginning of its message. So 10,000 tasks that fail in every attempt leave a document that one upload
carries.
"""

LEAST_BYTES = 60

REFUSED_RESULTS = frozenset({"ResultTooLarge", "ResultNotJSON"})
"""Types of failures of attempts that succeeded, and whose answer cannot be kept."""


_LINE_END = "\n"
_encode = msgspec.json.Encoder().encode


class Part(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One of the exceptions in an exception group that a callable raised."""

    type: str
    message: str
    where: str | None = None

    @classmethod
    def of(cls, type: str, message: str, where: str | None) -> Self:  # noqa: A002
        """Build one with its texts cut."""
        return cls(_cut(type, 200), _cut(message, PART_CHARS_MAX), where and _cut(where, PART_CHARS_MAX))


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why an attempt, a `Parallel` or a run failed."""

    type: str
    """E.g. ``ValueError``, ``Timeout``, ``Lost``, ``HTTP 503``."""

    message: str
    cause: str | None = None
    """What lies behind it: the chained exception, the node that failed, the body of the answer."""

    where: str | None = None
    """Line of the user's code that raised it, ``orders.py:12 in load``; the file from the folder of its package."""

    attempt: int = 0
    """Attempt that failed, 0 where there is none."""

    at: datetime | None = None

    started_at: datetime | None = None
    """When that attempt was started."""

    execution_id: str | None = None
    """Of that attempt."""

    traceback: str | None = None
    """The traceback as Python prints it, without the frames of the engine; of a long one its beginning and its end."""

    parts: tuple[Part, ...] = ()
    """The exceptions in an exception group, those of nested groups included: the first few."""

    parts_left_out: int = 0
    """How many more exceptions the group held."""

    @classmethod
    def of(  # noqa: PLR0913  a record
        cls,
        type: str,  # noqa: A002
        message: str,
        cause: str | None = None,
        where: str | None = None,
        *,
        traceback: str | None = None,
        parts: Sequence[Part] = (),
        parts_left_out: int = 0,
    ) -> Self:
        """Build one with its texts cut to the room that a document has for them."""
        return cls(
            _cut(type, 200),
            _cut(message),
            None if cause is None else _cut(cause),
            None if where is None else _cut(where, 400),
            traceback=traceback and _without_middle(traceback),
            parts=tuple(parts),
            parts_left_out=parts_left_out,
        )

    @property
    def text(self) -> str:
        """Type and message, ``OSError: disk full``."""
        return f"{self.type}: {self.message}"

    @property
    def size(self) -> int:
        """Bytes that this failure takes in a document."""
        return len(_encode(self))

    def untraced(self) -> "Failure":
        """Return this failure without its traceback and its parts."""
        if self.traceback is None and not self.parts:
            return self
        return msgspec.structs.replace(self, traceback=None, parts=(), parts_left_out=0)

    def fitted(self, bytes_taken: int) -> "Failure":
        """
        Return as much of this failure as a document keeps whose other failures take *bytes_taken*.

        The least form leaves out `started_at` and `execution_id`: it is the error of an entry, which holds both.
        """
        fitted = self if bytes_taken + self.size <= TRACED_BYTES_MAX else self.untraced()
        if bytes_taken + fitted.size <= FAILURES_BYTES_MAX:
            return fitted
        return Failure(_first(self.type), _first(self.message), attempt=self.attempt, at=self.at)

    def shortened(self, chars: int) -> "Failure":
        """Return it with texts of at most *chars* characters."""
        texts = {name: _cut(text, chars) for name in ("message", "cause", "where") if (text := getattr(self, name))}
        return msgspec.structs.replace(self, **texts)


def _first(text: str) -> str:
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= LEAST_BYTES else encoded[: LEAST_BYTES - 3].decode(errors="ignore") + "…"


def _without_middle(text: str) -> str:
    """Return *text* without the lines in its middle that are too many: a traceback says most at its two ends."""
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= TRACEBACK_CHARS_MAX:
        return text
    half = TRACEBACK_CHARS_MAX // 2 - 2
    head, tail = text[:half], text[-half:]
    return f"{head[: head.rfind(_LINE_END) + 1]}…\n{tail[tail.find(_LINE_END) + 1 :]}"


def _cut(text: str, limit: int = MESSAGE_CHARS_MAX) -> str:
    # Lone surrogates cannot be encoded as UTF-8; an error message must never be what fails a commit.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"
