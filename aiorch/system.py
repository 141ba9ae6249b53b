"""The real clock and real chance. The engine has no other source of either."""

import random
import secrets
from datetime import UTC, datetime


class SystemClock:
    """Time of day of this machine."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        return datetime.now(UTC)


class SystemEntropy:
    """Chance from the operating system."""

    def token(self) -> str:
        """32 random hex digits."""
        return secrets.token_hex(16)

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return random.random()  # noqa: S311  spreads retries, protects nothing
