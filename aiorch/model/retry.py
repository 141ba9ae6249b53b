"""Retry policies: whether and when a task starts one more attempt after a failed one."""

from collections.abc import Collection
from hashlib import sha256

import msgspec

from aiorch.model.failure import Failure


def covers(on: Collection[str], failure: Failure) -> bool:
    """
    Whether types of failures, as `retry` and `catch` name them, cover a failure; no types cover all failures.

    ``503`` and ``5xx`` are further names of ``HTTP 503``, and ``Timeout`` is one of ``HTTP 504``.
    """
    if not on:
        return True
    return any(is_among(name, on) for name in (failure.type, *failure.classes))


def is_among(name: str, on: Collection[str]) -> bool:
    """Whether types of failures hold the name of a failure, or a further name of an ``HTTP`` status."""
    if name in on or not name.startswith("HTTP "):
        return name in on
    status = name.removeprefix("HTTP ")
    return status in on or f"{status[:1]}xx" in on or (status == "504" and "Timeout" in on)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Whether and when a task starts one more attempt after a failed one."""

    max_attempts: int = 1
    """Attempts in all, the first included."""

    initial_delay: float = 1.0
    """Seconds before the second attempt."""

    backoff: float = 2.0
    """Factor from one delay to the next."""

    max_delay: float = 300.0
    """Longest delay in seconds."""

    jitter: float = 0.1
    """Share of a delay, 0 to 1, that is taken off at random (by a hash of the execution id: always the same)."""

    on: tuple[str, ...] = ()
    """Failure types to retry, e.g. ``Timeout``, ``ValueError``, ``HTTP 503``, ``503``, ``5xx``; empty: all."""

    def delay_s(self, failures: int, seed: str) -> float:
        """
        Return the seconds to wait after the *failures*-th failure (from 1).

        Deterministic: the jitter is a hash of *seed*, so that every process computes the same due time.
        """
        # Exponent capped: 2.0 ** 2000 would overflow, long after the delay has reached max_delay.
        delay = min(self.max_delay, self.initial_delay * self.backoff ** min(failures - 1, 64))
        share = int.from_bytes(sha256(seed.encode()).digest()[:4]) / 2**32
        return delay * (1 - self.jitter * share)
