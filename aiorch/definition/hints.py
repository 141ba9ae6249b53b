"""What somebody who wrote a word that is not known may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

COMPARISONS_MAX = 20_000
"""Each takes some 50 microseconds: 10,000 misspelt names among 10,000 would take an hour."""

WORD_CHARS_MAX = 128
SHOWN_CHARS_MAX = 64


class Hints:
    """Finds similar words, and stops looking once that has cost enough."""

    def __init__(self) -> None:
        self._comparisons = 0

    def closest(self, word: str, known: Iterable[str]) -> str | None:
        """Return the one of *known* that is most like *word*, capitals and separators aside; `None` when none is."""
        if len(word) > WORD_CHARS_MAX or self._comparisons > COMPARISONS_MAX:
            return None
        plain = {_plain(one): one for one in known if len(one) <= WORD_CHARS_MAX}
        self._comparisons += len(plain)
        found = get_close_matches(_plain(word), plain, n=1)
        return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")


def shown(value: Any) -> str:
    """Return *value* as messages show it: short, printable, and unmistakable about its type."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= SHOWN_CHARS_MAX else value[:SHOWN_CHARS_MAX] + "…")
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case _:
            return "a mapping"
