"""
From a schedule that fails to the fewest unusual choices that still make it fail.

The choices that were not 0 are taken away in ever smaller groups (delta debugging), then what is left is made as small
as it can be. A schedule counts as failing in the same way when the same invariant is broken.
"""

from collections.abc import Callable

from tests.simulation.tape import Notes

TRIES_MAX = 3000

Fails = Callable[[Notes], bool]
"""Whether a schedule with these notes still fails in the same way."""

_Choice = tuple[tuple[str, int], int]


def shrink(notes: Notes, fails: Fails, *, tries_max: int = TRIES_MAX) -> Notes:
    """Return the smallest notes that were found and still fail."""
    tries = 0

    def still_fails(choices: list[_Choice]) -> bool:
        nonlocal tries
        tries += 1
        return tries <= tries_max and fails(dict(choices))

    choices = list(notes.items())
    # Whole families first: the order of callbacks, latencies, jitter.
    for family in sorted({label.partition(" ")[0] for label, _ in notes}):
        fewer = [choice for choice in choices if choice[0][0].partition(" ")[0] != family]
        if len(fewer) < len(choices) and still_fails(fewer):
            choices = fewer
    size = max(1, len(choices) // 2)
    while tries < tries_max:
        before = len(choices)
        start = 0
        while start < len(choices):
            fewer = choices[:start] + choices[start + size :]
            if still_fails(fewer):
                choices = fewer
            else:
                start += size
        if size == 1 and len(choices) == before:
            break
        size = max(1, size // 2)
    return dict(_smaller_values(choices, still_fails))


def _smaller_values(choices: list[_Choice], still_fails: Callable[[list[_Choice]], bool]) -> list[_Choice]:
    for index, (key, value) in enumerate(choices):
        smallest, tried = value, {value}
        while smaller := next((each for each in (1, smallest // 2, smallest - 1) if each > 0 and each not in tried), 0):
            tried.add(smaller)
            candidate = [*choices[:index], (key, smaller), *choices[index + 1 :]]
            if still_fails(candidate):
                choices, smallest = candidate, smaller
    return choices
