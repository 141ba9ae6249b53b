"""
Every choice of a simulated world is a draw from a tape, by label. 0 is the benign choice.

A tape that is made from a seed draws at random and notes what was not 0. A tape that replays such notes draws them
again, and 0 everywhere else. Notes are kept by label and number within that label: taking one choice away leaves the
others where they are, which is what makes shrinking work.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

_T = TypeVar("_T")

Notes = dict[tuple[str, int], int]
"""What was drawn and is not 0, by label and number within the label."""


class Tape:
    """
    Where choices come from.

    Args:
        seed: Of the choices, for a tape that draws at random.

        replayed: Notes of an earlier tape; anything else is 0.

    Attributes:
        notes: What was drawn so far and is not 0.

        draws: How many choices there were.
    """

    __slots__ = ("_counts", "_random", "_replayed", "draws", "notes")

    def __init__(self, seed: int | None = None, *, replayed: Mapping[tuple[str, int], int] | None = None) -> None:
        self._random = random.Random(seed).random if replayed is None else None
        self._replayed = replayed or {}
        self._counts: dict[str, int] = {}
        self.notes: Notes = {}
        self.draws = 0

    def draw(self, label: str, choices: int) -> int:
        """Return a number from 0 to *choices* - 1."""
        if choices <= 1:
            return 0
        number = self._counts.get(label, 0)
        self._counts[label] = number + 1
        self.draws += 1
        if self._random is not None:
            value = int(self._random() * choices)
        else:
            value = min(self._replayed.get((label, number), 0), choices - 1)
        if value:
            self.notes[label, number] = value
        return value

    def chance(self, label: str, probability: float) -> bool:
        """Return whether something unusual happens."""
        if probability <= 0:
            return False
        number = self._counts.get(label, 0)
        self._counts[label] = number + 1
        self.draws += 1
        happens = (label, number) in self._replayed if self._random is None else self._random() < probability
        if happens:
            self.notes[label, number] = 1
        return happens

    def pick(self, label: str, choices: Sequence[_T]) -> _T:
        """Return one of *choices*, of which the first is the benign one."""
        return choices[self.draw(label, len(choices))]
