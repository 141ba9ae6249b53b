"""Time and chance: `Clock` and `Entropy` are the only sources that the engine has of them."""

from datetime import datetime
from typing import Protocol

LATE_S = 5.0
"""A timer that fires so much later than due was held up by a standstill of the process."""


class Clock(Protocol):
    """Time of day. Durations are measured with the event loop's own clock."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        ...


class Entropy(Protocol):
    """Chance."""

    def token(self) -> str:
        """32 random hex digits."""
        ...

    def jitter(self) -> float:
        """A number in [0, 1)."""
        ...
