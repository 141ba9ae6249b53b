"""Chance that repeats itself."""

import random


class SeededEntropy:
    """
    An `aiorch.ports.Entropy` that draws the same numbers from the same seed.

    Two engines on one store need two seeds: with the same they would take each other's process id.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311  chance that repeats itself is the purpose

    def token(self) -> str:
        """32 hex digits."""
        return self._random.randbytes(16).hex()

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()
