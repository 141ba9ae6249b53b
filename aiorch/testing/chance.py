"""Reproducible randomness."""

import random


class SeededEntropy:
    """
    An `aiorch.ports.Entropy` that draws the same numbers from the same seed.

    Two engines on one store need different seeds: with the same seed they would get the same process id.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311  reproducible numbers are the purpose

    def token(self) -> str:
        """Return 32 hex digits."""
        return self._random.randbytes(16).hex()

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        return self._random.random()
