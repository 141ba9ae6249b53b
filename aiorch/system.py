"""The real clock and real chance: the engine has no other source of either. And nobody who observes it."""

import random
import secrets
from datetime import UTC, datetime

from aiorch.enums import RunStatus, TargetTypes
from aiorch.ports import Answer


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


class NoObserver:
    """An `aiorch.ports.Observer` that does not listen."""

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def committed(self, events: int, seconds: float) -> None:
        """Do nothing."""

    def throttled(self) -> None:
        """Do nothing."""

    def run_ended(self, status: RunStatus) -> None:
        """Do nothing."""

    def conflicted(self) -> None:
        """Do nothing."""

    def launched(self, target_type: TargetTypes) -> None:
        """Do nothing."""

    def ended(self, target_type: TargetTypes, answer: Answer, seconds: float) -> None:
        """Do nothing."""
