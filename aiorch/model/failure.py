"""The reason why an attempt, a node or a run failed, and the part of the reason that a run document keeps."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

import msgspec

FAILURES_KEPT = 5
MESSAGE_CHARS_MAX = 1000

WIDE_RUN_NODES = 1000
MESSAGE_CHARS_WIDE = 150
"""A run of more nodes than this keeps shorter messages of failures, and one earlier failure per task: all tasks may
fail, and the document must stay small."""

TRACEBACK_CHARS_MAX = 4000
PARTS_KEPT = 10
"""Exceptions of a group that a failure keeps; the rest is counted."""

PART_CHARS_MAX = 300

EARLIER_BYTES_MAX = 64 * 1024
TRACED_BYTES_MAX = 128 * 1024
FAILURES_BYTES_MAX = 256 * 1024
"""
The failures of one document share this room. While the first part of the room is free, failures of earlier attempts are
kept; while the second is free, a failure keeps traceback and parts; when the room is taken, a failure keeps the type
and the beginning of the message. So 10,000 tasks that fail in every attempt leave a document that one upload carries.
"""

LEAST_BYTES = 60

REFUSED_RESULTS = frozenset({"ResultTooLarge", "ResultNotJSON", "ExpressionError"})
"""Types of failures of attempts that succeeded with an answer that cannot be kept."""

NEVER_RETRIED = frozenset({"ExpressionError", "InvalidInput", "ParameterError"})
"""Types of failures that no policy retries: the next attempt reads the same values, and fails in the same way."""

CUT = "…"
"""The end of a text that was cut."""

_LINE_END = "\n"
_encode = msgspec.json.Encoder().encode


class Part(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One of the exceptions in an exception group that a callable raised."""

    type: str
    message: str
    where: str | None = None

    @classmethod
    def of(cls, type: str, message: str, where: str | None) -> Self:  # noqa: A002
        """Build a part from texts that are cut to their limits."""
        return cls(_cut(type, 200), _cut(message, PART_CHARS_MAX), where and _cut(where, PART_CHARS_MAX))


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The reason why an attempt, a node or a run failed."""

    type: str
    """E.g. ``ValueError``, ``Timeout``, ``Lost``, ``HTTP 503``."""

    message: str
    cause: str | None = None
    """The cause of the failure: the chained exception, the node that failed, or the body of the answer."""

    where: str | None = None
    """Line of the user's code that raised, ``orders.py:12 in load``; the path begins in the folder of the package."""

    attempt: int = 0
    """Attempt that failed, 0 where there is none."""

    at: datetime | None = None

    started_at: datetime | None = None
    """Start of that attempt."""

    execution_id: str | None = None
    """Execution id of that attempt."""

    traceback: str | None = None
    """The traceback as printed by Python, without frames of the engine. A long one keeps its beginning and its end."""

    parts: tuple[Part, ...] = ()
    """The first exceptions in an exception group, those of nested groups included."""

    parts_left_out: int = 0
    """Number of exceptions of the group beyond `parts`."""

    classes: tuple[str, ...] = ()
    """
    Further names of the failure in `retry.on` and `catch.on`: of an exception the classes above its own, of a node with
    scopes the names of the failure inside.
    """

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
        classes: Sequence[str] = (),
    ) -> Self:
        """Build a failure from texts that are cut to the room in a document."""
        return cls(
            _cut(type, 200),
            _cut(message),
            None if cause is None else _cut(cause),
            None if where is None else _cut(where, 400),
            traceback=traceback and _without_middle(traceback),
            parts=tuple(parts),
            parts_left_out=parts_left_out,
            classes=tuple(classes),
        )

    @property
    def text(self) -> str:
        """Type and message, ``OSError: disk full``."""
        return f"{self.type}: {self.message}"

    @property
    def size(self) -> int:
        """Bytes of this failure in a document."""
        return len(_encode(self))

    def untraced(self) -> "Failure":
        """Return this failure without traceback and parts."""
        if self.traceback is None and not self.parts:
            return self
        return msgspec.structs.replace(self, traceback=None, parts=(), parts_left_out=0)

    def fitted(self, bytes_taken: int) -> "Failure":
        """
        Return the form of this failure that a document keeps whose other failures take *bytes_taken*.

        The shortest form leaves out `started_at` and `execution_id`: the entry with that error holds both.
        """
        fitted = self if bytes_taken + self.size <= TRACED_BYTES_MAX else self.untraced()
        if bytes_taken + fitted.size <= FAILURES_BYTES_MAX:
            return fitted
        return Failure(_first(self.type), _first(self.message), attempt=self.attempt, at=self.at)

    def shortened(self, chars: int) -> "Failure":
        """Return this failure with texts of at most *chars* characters."""
        texts = {name: _cut(text, chars) for name in ("message", "cause", "where") if (text := getattr(self, name))}
        return msgspec.structs.replace(self, **texts)


def _first(text: str) -> str:
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= LEAST_BYTES else encoded[: LEAST_BYTES - 3].decode(errors="ignore") + "…"


def _without_middle(text: str) -> str:
    """
    Return *text* without surplus lines in the middle: the two ends of a traceback say most.

    No line is cut, since a part of a secret could not be replaced.
    """
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= TRACEBACK_CHARS_MAX:
        return text
    half = TRACEBACK_CHARS_MAX // 2 - 2
    head, tail = text[:half], text[-half:]
    return f"{head[: head.rfind(_LINE_END) + 1]}…\n{tail.partition(_LINE_END)[2]}"


def _cut(text: str, limit: int = MESSAGE_CHARS_MAX) -> str:
    # Lone surrogates cannot be encoded as UTF-8, and an error message must never make a commit fail.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + CUT
