"""
Places in a run: a node of the definition, and the name of one entry of the node.

A node has one entry of its own name, or one entry in each repeated scope: see `aiorch.model.scopes`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from aiorch.model.dag import DAG, Node
from aiorch.model.run_document import NodeState
from aiorch.model.scopes import ScopeNames, split
from aiorch.model.status import TaskStatus

N_co = TypeVar("N_co", bound=Node, covariant=True)


class At(msgspec.Struct, Generic[N_co], frozen=True, gc=False):
    """A place in a run: a node of the definition, and the name of one entry of the node."""

    node: N_co
    name: str

    @property
    def scope(self) -> str:
        """The beginning that the names of all entries in the same repeated scope share, ``""`` outside of any."""
        return self.name.removesuffix(self.node.name)

    def beside(self, node: Node) -> "At[Node]":
        """Return the place of *node*, which stands in the same repeated scope, or in none like this one."""
        return At(node, node.name if self.name == self.node.name else self.scope + node.name)

    def entry_of(self, node: Node) -> str:
        """Return the name of the entry of another node in the same repeated scope."""
        return node.name if self.name == self.node.name else self.scope + node.name

    def within(self, number: int, node: Node) -> "At[Node]":
        """
        Return the place of a node inside this one.

        Args:
            number: The scope: an index from 0, or the number of a try from 1. Of no meaning where the scopes of this
                node are not repeated.

            node: A node inside, with no repeated scope between this node and *node*.
        """
        if self.node.scope_names is ScopeNames.PLAIN:
            return At(node, node.name if self.name == self.node.name else self.scope + node.name)
        return At(node, (self.node.scope_names.scope(self.name, number) or self.scope) + node.name)

    def inner(self, attempt_of: Callable[[str], int]) -> Iterator["At[Node]"]:
        """
        Yield the places of the entries in the scopes of this node, at any depth; a node comes before its scopes.

        Scopes with an index are left out: only the run tells which of them there are, see `places_inside`.

        Args:
            attempt_of: Returns the number of the present try of an entry. Asked only where scopes are repeated.
        """
        if self.name == self.node.name and not self.node.has_tries:
            for name, node in self.node.plain_inner_nodes.items():
                yield At(node, name)
            return
        waiting: list[At[Node]] = [self]
        while waiting:
            outer = waiting.pop()
            if outer.node.scope_names is ScopeNames.INDEX:
                continue
            attempt = attempt_of(outer.name)
            for scope in outer.node.scopes:
                for node in scope.nodes.values():
                    place = outer.within(attempt, node)
                    yield place
                    if node.scopes:
                        waiting.append(place)

    def around(self) -> "At[Node] | None":
        """Return the place of the node whose scope this one stands in, `None` on the first level of the DAG."""
        parent = self.node.parent_dag.parent_node
        if parent is None:
            return None
        if self.name == self.node.name:
            return At(parent, parent.name)
        if parent.scope_names is not ScopeNames.PLAIN and (part := split(self.name)) is not None:
            outer = split(part.outer)
            if parent.name == (part.outer if outer is None else outer.name):
                return At(parent, part.outer)
        return At(parent, self.scope + parent.name)


def place_of(dag: DAG, entry: str) -> At[Any]:
    """Return the place of an entry of a run of *dag*. Raises: KeyError."""
    return At(dag.node_of(entry), entry)


def places_inside(at: At[Node], entries: Mapping[str, NodeState]) -> list[At[Node]]:
    """
    Return the places of all entries in the present try of a node, at any depth; a node comes before its scopes.

    Args:
        at: The node.

        entries: The entries of the run, by name.
    """
    places = list(at.inner(lambda name: _attempt(entries.get(name))))
    indexed = tuple(
        place.node.scope_names.beginning(place.name)
        for place in (at, *places)
        if place.node.scope_names is ScopeNames.INDEX and _has_begun(entries.get(place.name))
    )
    if indexed:  # only a scope with an index requires a walk over all entries
        root = at.node.parent_dag.root
        places += [place_of(root, name) for name in entries if name.startswith(indexed)]
    return places


def _has_begun(state: NodeState | None) -> bool:
    return state is not None and state.status is not TaskStatus.NEW


def _attempt(state: NodeState | None) -> int:
    return 0 if state is None else state.attempt


def seen_from(at: At[Node] | None, node: Node, attempt_of: Callable[[str], int]) -> At[Node] | None:
    """
    Return the place of a node as seen from a different place of the run.

    A node in the same repeated scope is seen in this scope. Of a node whose scopes were tried several times, the last
    try is seen.

    Args:
        at: The place that sees, `None` for the user of the run.

        node: The node that is seen.

        attempt_of: Returns the number of the present try of an entry. Asked only where scopes are repeated.

    Returns:
        `None` for a node in a scope with an index that *at* does not stand in: each of these scopes has its own entry.
    """
    scopes: dict[Node | None, str] = {None: ""}  # of the levels around `at`, by the node that the level stands in
    while at is not None:
        scopes[at.node.parent_dag.parent_node] = at.scope
        at = at.around()
    way = [node]
    while (around := way[-1].parent_dag.parent_node) not in scopes:
        assert around is not None
        way.append(around)
    first = way.pop()
    place = At(first, scopes[around] + first.name)
    while way:
        if place.node.scope_names is ScopeNames.INDEX:
            return None
        attempt = attempt_of(place.name) if place.node.scope_names is ScopeNames.TRY else 0
        place = place.within(attempt, way.pop())
    return place
