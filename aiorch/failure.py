"""Why an attempt, a `Parallel` or a run failed, and how much of that a run document keeps."""

from datetime import datetime
from typing import Self

import msgspec

FAILURES_KEPT = 5
MESSAGE_CHARS_MAX = 1000

WIDE_RUN_NODES = 1000
MESSAGE_CHARS_WIDE = 150
"""A run of more nodes than this keeps shorter messages of failures, and one earlier failure per task: all of its tasks
may fail, and the document must stay small."""

REFUSED_RESULTS = frozenset({"ResultTooLarge", "ResultNotJSON"})
"""Types of failures of attempts that succeeded, and whose answer cannot be kept."""


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

    @classmethod
    def of(cls, type: str, message: str, cause: str | None = None, where: str | None = None) -> Self:  # noqa: A002
        """Build one with its texts cut to what a document can carry."""
        return cls(
            _cut(type, 200),
            _cut(message),
            None if cause is None else _cut(cause),
            None if where is None else _cut(where, 400),
        )

    def shortened(self, chars: int) -> "Failure":
        """Return it with texts of at most *chars* characters."""
        texts = {name: _cut(text, chars) for name in ("message", "cause", "where") if (text := getattr(self, name))}
        return msgspec.structs.replace(self, **texts)


def _cut(text: str, limit: int = MESSAGE_CHARS_MAX) -> str:
    # Lone surrogates cannot be encoded as UTF-8; an error message must never be what fails a commit.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"
