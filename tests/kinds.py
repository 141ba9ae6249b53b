"""Kinds of nodes that tests bring along, and that no module of ours knows: their scopes are repeated."""

from msgspec.structs import replace

from aiorch.core.draft import At, Draft
from aiorch.core.kind import NodeKind
from aiorch.model.dag import DAG, Node
from aiorch.model.failure import Failure
from aiorch.model.scopes import ScopeNames, split
from aiorch.model.status import TaskStatus


class Repeating(NodeKind[Node]):
    """A node with one scope, which is repeated."""

    names = ScopeNames.INDEX

    def begin(self, draft: Draft, at: At[Node], number: int) -> None:
        """Add the entries of one more scope, and begin with the scope."""
        scope = at.node.scopes[0]
        for node in scope.plain_nodes.values():
            name = at.within(number, node).name
            draft.set(name, replace(node.kind.blank(node), node_name=name))
        draft.enter_level(scope, lambda node: at.within(number, node))

    def ended(self, draft: Draft, at: At[Node]) -> list[int]:
        """Remove the entries of all scopes that have ended, and return the numbers of these scopes."""
        found: dict[int, list[str]] = {}
        for place in draft.inner(at):
            part = split(place.name)
            while part is not None and part.outer != at.name:
                part = split(part.outer)
            if part is not None:
                found.setdefault(part.number, []).append(place.name)
        numbers = [
            number for number, names in found.items() if all(draft.state(name).status.is_terminal for name in names)
        ]
        for number in numbers:
            for name in found[number]:
                draft.drop(name)
        return numbers


class Rounds(Repeating):
    """One round after the other, from 1; the entries of a round go when the round has ended."""

    name = "Rounds"

    def __init__(self, rounds: int = 2) -> None:
        self.rounds = rounds

    def enter(self, draft: Draft, at: At[Node]) -> None:
        draft.running(at)
        self.begin(draft, at, 1)

    def scope_ended(self, draft: Draft, at: At[Node], scope: DAG, failure: Failure | None) -> None:
        if failure is not None:
            draft.fail(at, failure)
            return
        (number,) = self.ended(draft, at)
        if number < self.rounds:
            self.begin(draft, at, number + 1)
        else:
            draft.complete(at)


class Items(Repeating):
    """All items at once, from 0; the entries of an item go when the item has ended, and a failure ends the node."""

    name = "Items"

    def __init__(self, count: int) -> None:
        self.count = count

    def enter(self, draft: Draft, at: At[Node]) -> None:
        draft.running(at)
        for number in reversed(range(self.count)):
            self.begin(draft, at, number)

    def scope_ended(self, draft: Draft, at: At[Node], scope: DAG, failure: Failure | None) -> None:
        if draft.state(at.name).status is not TaskStatus.RUNNING:
            return
        if failure is not None:
            draft.halt(draft.inner(at))
            draft.fail(at, failure)
            return
        self.ended(draft, at)
        if not list(draft.inner(at)):
            draft.complete(at)


class Tries(Repeating):
    """As many tries as it takes, if no more than three; the entries of all tries stay."""

    name = "Tries"
    names = ScopeNames.TRY

    def enter(self, draft: Draft, at: At[Node]) -> None:
        draft.running(at, attempt=1)
        scope = at.node.scopes[0]
        draft.enter_level(scope, at.beside)

    def scope_ended(self, draft: Draft, at: At[Node], scope: DAG, failure: Failure | None) -> None:
        state = draft.state(at.name)
        if failure is None:
            draft.complete(at)
        elif state.attempt == 3 or state.status is not TaskStatus.RUNNING:
            draft.fail(at, failure)
        else:
            draft.set(at.name, replace(state, attempt=state.attempt + 1))
            self.begin(draft, at, state.attempt + 1)


def repeat(dag: DAG, **kinds: Repeating) -> DAG:
    """Give nodes of *dag* with one scope other kinds, by the names of the nodes."""
    for name, kind in kinds.items():
        node = dag.all_nodes[name]
        node.kind, node.scope_names = kind, kind.names
    return dag
