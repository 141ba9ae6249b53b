"""
Names of the entries in repeated scopes. Text only: `aiorch.model.dag` and `aiorch.model.place` know the nodes.

The name of an entry is that of its node, after the repeated scopes that the entry stands in, the outermost first:
``Outer[2].Resize[17].Convert``, ``Fan#2.Step``. A scope that is not repeated adds no name, and the first try adds none.
"""

import re
from enum import Enum
from typing import NamedTuple


class ScopeNames(Enum):
    """How the entries in the scopes of a node are named."""

    PLAIN = "plain"
    """As their nodes: the scopes are not repeated."""

    INDEX = "index"
    """Each scope has an index: ``Resize[17].Convert``. No entry has the plain name, and a new run has no entries."""

    TRY = "try"
    """The first try has the plain names, and every later try a number: ``Fan#2.Step``. The entries of a try stay."""

    def scope(self, entry: str, number: int) -> str:
        """
        Return the beginning that the names of entries in one scope share, ``""`` for none.

        Args:
            entry: The entry of the node with the scopes.

            number: An index from 0, or the number of a try from 1.
        """
        if self is ScopeNames.INDEX:
            return f"{entry}[{number}]."
        return f"{entry}#{number}." if self is ScopeNames.TRY and number > 1 else ""

    def beginning(self, entry: str) -> str:
        """Return the beginning that the names of entries in all repeated scopes of *entry* share."""
        assert self is not ScopeNames.PLAIN, entry
        return entry + ("[" if self is ScopeNames.INDEX else "#")


class ScopedName(NamedTuple):
    """The name of an entry in a repeated scope, taken apart."""

    outer: str
    """The entry of the node with the scopes."""

    names: ScopeNames
    number: int
    name: str
    """The node of the entry."""


# Only the way in which numbers are written gives a name: no two names may mean one entry.
_SCOPED = re.compile(r"(.+)(?:\[(0|[1-9][0-9]*)\]|#([2-9]|[1-9][0-9]+))\.(.+)", re.DOTALL)


def split(entry: str) -> ScopedName | None:
    """Take the innermost repeated scope off the name of an entry; `None` for a plain name."""
    found = _SCOPED.fullmatch(entry)
    if found is None:
        return None
    outer, index, number, name = found.groups()
    if number is None:
        return ScopedName(outer, ScopeNames.INDEX, int(index), name)
    return ScopedName(outer, ScopeNames.TRY, int(number), name)


def scopes_of(entry: str) -> tuple[list[tuple[str, ScopeNames]], str]:
    """Return the nodes whose repeated scopes an entry stands in, the outermost first, and the node of the entry."""
    scopes: list[tuple[str, ScopeNames]] = []
    part = split(entry)
    name = entry if part is None else part.name
    while part is not None:
        outer = split(part.outer)
        scopes.insert(0, (part.outer if outer is None else outer.name, part.names))
        part = outer
    return scopes, name


def first_try(entry: str) -> str:
    """Return the name that an entry has in the first try of each repeated scope that it stands in."""
    part = split(entry)
    if part is None:
        return entry
    outer = first_try(part.outer)
    if part.names is ScopeNames.INDEX:
        return part.names.scope(outer, part.number) + part.name
    around = split(outer)
    return part.name if around is None else around.names.scope(around.outer, around.number) + part.name
