"""Time and chance: the engine takes both from `Clock` and `Entropy` alone."""

from datetime import datetime
from typing import Protocol

LATE_S = 5.0
"""A timer that fires so much later than due was held up by a standstill of the process."""


class Clock(Protocol):
    """Time of day. Durations are measured with the event loop's own clock."""

    def now(self) -> datetime:
        """Return the time of day: aware, in UTC."""
        ...


class Entropy(Protocol):
    """Chance."""

    def token(self) -> str:
        """Return 32 random hex digits."""
        ...

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        ...
