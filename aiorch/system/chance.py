"""Real chance."""

import random
import secrets


class SystemEntropy:
    """Chance from the operating system."""

    def token(self) -> str:
        """32 random hex digits."""
        return secrets.token_hex(16)

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return random.random()  # noqa: S311  spreads retries, protects nothing
