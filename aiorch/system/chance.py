"""Real randomness."""

import random
import secrets


class SystemEntropy:
    """Randomness from the operating system."""

    def token(self) -> str:
        """Return 32 random hex digits."""
        return secrets.token_hex(16)

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311  spreads retries, protects no secret
