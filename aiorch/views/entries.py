"""
The entries of a run that views show, and their looks. Pure.

A node in a repeated scope has an entry in each try. Views show that of the last try.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from aiorch.model.dag import DAG, Node, Task
from aiorch.model.place import At, place_of, places_inside
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus

CAUGHT: Final = "Caught"
Look = TaskStatus | Literal["Caught"]
"""The status of an entry, or `CAUGHT` for a failure that the run went on after."""


def is_over(look: Look) -> bool:
    """Whether an entry with this look never changes again."""
    return not isinstance(look, TaskStatus) or look.is_terminal


def levels_of(dag: DAG) -> Iterator[DAG]:
    """Yield the levels of a whole definition that stand in no node: the first one and `finally`."""
    yield dag
    if dag.final is not None:
        yield dag.final


def places_of(level: DAG) -> list[At[Node]]:
    """Return the places of a level that stands in no node, without those in scopes."""
    return [At(node, node.name) for node in level.nodes.values()]


def wait_end(node: Node, state: NodeState) -> datetime | None:
    """Return the time at which an entry goes on that waits for nothing else; `None` for any other entry."""
    return state.due_at if state.status is TaskStatus.RUNNING and not node.scopes else None


class Entries:
    """
    The entries of one run, as of now.

    Args:
        dag: The DAG of the run.

        run: The run.
    """

    def __init__(self, dag: DAG, run: Run) -> None:
        self._dag = dag
        self._run = run
        self._other_ways: dict[tuple[int, str], frozenset[str]] = {}

    def state(self, at: At[Any]) -> NodeState:
        """Return an entry; a blank one for a scope that has not begun."""
        return self._run.nodes.get(at.name) or at.node.kind.blank(at.node)

    def attempt(self, name: str) -> int:
        """Return the number of the attempt, or of the try, that an entry is in."""
        state = self._run.nodes.get(name)
        return 0 if state is None else state.attempt

    def within(self, at: At[Node], scope: DAG) -> Iterator[At[Node]]:
        """Yield the places of one scope of a node, without those in scopes further inside."""
        number = self.attempt(at.name)
        return (at.within(number, node) for node in scope.nodes.values())

    def inside(self, at: At[Node]) -> Iterable[At[Node]]:
        """Return the places of all entries inside a node, at any depth."""
        return places_inside(at, self._run.nodes)

    def all(self) -> Iterator[At[Node]]:
        """Yield the places of all entries of the run."""
        for level in levels_of(self._dag):
            for at in places_of(level):
                yield at
                if at.node.scopes:
                    yield from self.inside(at)

    def counts(self, at: At[Node] | None = None) -> Counter[Look]:
        """Return the number of tasks by look, of the whole run or inside one node."""
        nodes = self._dag.nodes_with_scopes if at is None else (at.node,)
        is_repeated = at is not None and at.name != at.node.name
        if is_repeated or any(node.has_tries or node.plain_inner_nodes is not node.inner_nodes for node in nodes):
            return self.counts_of(self.all() if at is None else self.inside(at))
        names = self._dag.all_tasks if at is None else at.node.inner_tasks
        return self._counted(names, lambda name: place_of(self._dag, name))

    def counts_of(self, places: Iterable[At[Node]]) -> Counter[Look]:
        """Return the number of tasks among these entries by look."""
        tasks = {at.name: at for at in places if isinstance(at.node, Task)}
        return self._counted(tasks, tasks.__getitem__)

    def _counted(self, names: Iterable[str], place: Callable[[str], At[Any]]) -> Counter[Look]:
        nodes = self._run.nodes
        states = [(name, nodes[name].status if name in nodes else TaskStatus.NEW) for name in names]
        counts: Counter[Look] = Counter([status for _, status in states])
        if counts[TaskStatus.FAILED]:
            caught = sum(self.look(place(name)) is CAUGHT for name, status in states if status is TaskStatus.FAILED)
            if caught:
                counts[CAUGHT] = caught
                counts[TaskStatus.FAILED] -= caught
        return counts

    # -- failures --------------------------------------------------------------------------------------------------

    def look(self, at: At[Node]) -> Look:
        """Return the look of an entry."""
        state = self.state(at)
        return CAUGHT if state.status is TaskStatus.FAILED and self.caught_by(at) is not None else state.status

    def caught_by(self, at: At[Node]) -> At[Node] | None:
        """Return the place whose handler has caught the failure of an entry: its own, or one around it."""
        place: At[Node] | None = at
        while place is not None and not self.state(place).caught:
            place = place.around()
        return place

    def failed(self) -> Iterator[tuple[At[Node], NodeState]]:
        """Yield the failed entries that no handler has caught, without those of nodes with scopes."""
        for at in self.all():
            state = self._run.nodes.get(at.name)
            has_failed = state is not None and state.status is TaskStatus.FAILED and not at.node.scopes
            if state is not None and has_failed and self.look(at) is not CAUGHT:
                yield at, state

    def reason(self, at: At[Node]) -> str:
        """Return the reason why an entry was skipped, or how its failure was caught; empty for most entries."""
        state = self.state(at)
        if state.status is TaskStatus.SKIPPED:
            return self._why_skipped(at)[1]
        by = self.caught_by(at) if state.status is TaskStatus.FAILED else None
        if by is None:
            return ""
        if by != at:
            return f"caught by {by.node.name}"
        return "caught" if state.went_to is None else f"caught, on to {state.went_to}"

    # -- ways ------------------------------------------------------------------------------------------------------

    def took(self, before: At[Node], after: Node | None) -> bool | None:
        """
        Return whether the run took a way from an entry, `None` before that is decided.

        Args:
            before: The place of the entry.

            after: The node to which the way leads, `None` for the way out of the level.
        """
        state = self.state(before)
        if not state.status.is_terminal:
            return None
        if not state.ended_well:
            return False
        return before.node.parent_dag.is_graph or (state.went_to or before.node.next) == (after and after.name)

    def is_passed_by(self, at: At[Node]) -> bool:
        """Whether an entry was skipped by a decision about a different entry: a choice, say, or a node around it."""
        if self.state(at).status is not TaskStatus.SKIPPED:
            return False
        decided, reason = self._why_skipped(at)
        return reason == _ANOTHER_WAY or decided != at

    def _why_skipped(self, at: At[Node]) -> tuple[At[Node], str]:
        """Return the reason why an entry was skipped, and the place to which the reason applies."""
        place: At[Node] | None = at
        while place is not None and self.state(place).status is TaskStatus.SKIPPED:
            if self.state(place).skipped is not None:
                condition = "" if place.node.when is None else place.node.when.text
                return place, f"its condition is false: {condition}"
            if place.node.parent_dag.is_graph:
                for needed in map(place.beside, place.node.previous_nodes):
                    state = self.state(needed)
                    if state.status.is_terminal and not state.ended_well:
                        return place, f"needs {needed.node.name}, which {_FATES[state.status]}"
            elif place.node.name in self._skipped_for_other_ways(place):
                return place, _ANOTHER_WAY
            place = place.around()
        return at, ""

    def _skipped_for_other_ways(self, at: At[Node]) -> frozenset[str]:
        """Return the nodes in the level of an entry that were skipped because the run took another way."""
        level = at.node.parent_dag
        key = id(level), at.scope
        found = self._other_ways.get(key)
        if found is None:
            names: set[str] = set()
            for place in map(at.beside, level.nodes.values()):
                state = self.state(place)
                if state.status is TaskStatus.SKIPPED and state.skipped is None:
                    before = list(map(place.beside, place.node.previous_nodes))
                    if before and all(each.node.name in names or self._has_passed(each, place) for each in before):
                        names.add(place.node.name)
            found = self._other_ways[key] = frozenset(names)
        return found

    def _has_passed(self, before: At[Node], at: At[Node]) -> bool:
        return self.state(before).ended_well and not self.took(before, at.node)

    # -- timers ----------------------------------------------------------------------------------------------------

    def next_wait(self) -> tuple[At[Node], datetime] | None:
        """Return the place and the time at which a run goes on that only waits; `None` if it ended or has work."""
        run = self._run
        if run.status.is_terminal or run.active:
            return None
        waits = [
            (due_at, name)
            for name, due_at in run.due.items()
            if not (self._dag.node_of(name).scopes and run.nodes[name].status is TaskStatus.RUNNING)  # a deadline
        ]
        if not waits:
            return None
        due_at, name = min(waits)
        return At(self._dag.node_of(name), name), due_at


_ANOTHER_WAY = "the run took another way"
_FATES: Mapping[TaskStatus, str] = {
    TaskStatus.FAILED: "has failed",
    TaskStatus.SKIPPED: "was skipped",
    TaskStatus.CANCELLED: "was cancelled",
}
