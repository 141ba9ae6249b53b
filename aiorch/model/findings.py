"""Findings about a definition: the place of a mistake, and its description."""

from collections.abc import Iterable
from typing import Any, NamedTuple

Key = tuple[str | int, ...]
"""A place in a definition: keys of mappings and indexes of lists, from the outside in."""

COMPARISONS_MAX = 20_000
"""A comparison takes some 50 microseconds: 10,000 misspelt names among 10,000 would take an hour."""

WORD_CHARS_MAX = 128
SHOWN_CHARS_MAX = 64


class Position(NamedTuple):
    """A place in the text of a definition, both numbers counted from 1."""

    line: int
    column: int


class Finding(NamedTuple):
    """A problem in a definition, before the path is written out and the position is known."""

    key: Key
    message: str
    at_value: bool = False
    """Point at the value in the text, not at the key."""

    position: Position | None = None
    """Place in the text, if the key does not lead there."""

    column: int | None = None
    """Place within the value, which is a text, counted from 1."""

    def inside(self, key: Key) -> "Finding":
        """Return the finding of a part, as a finding of the whole in which the part stands at *key*."""
        return self._replace(key=(*key, *self.key))


class Hints:
    """Finds similar words, up to a limit of comparisons."""

    def __init__(self) -> None:
        self._comparisons = 0

    def closest(self, word: str, known: Iterable[str]) -> str | None:
        """Return the word of *known* that is most similar to *word*, capitals and separators aside, or `None`."""
        if len(word) > WORD_CHARS_MAX or self._comparisons > COMPARISONS_MAX:
            return None
        from difflib import get_close_matches  # noqa: PLC0415  only a mistake needs it

        plain = {_plain(one): one for one in known if len(one) <= WORD_CHARS_MAX}
        self._comparisons += len(plain)
        found = get_close_matches(_plain(word), plain, n=1)
        return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")


def short(text: str) -> str:
    """Return the part of a text that a message shows."""
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"


def shown(value: Any) -> str:
    """Return *value* in the form for messages: short, printable, with an unmistakable type."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return repr(short(value))
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case _:
            return "a mapping"
