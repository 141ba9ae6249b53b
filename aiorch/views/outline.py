"""
The content of a picture of a DAG: the nodes and the ways between them, optionally with the state of a run. Pure.

Very wide and very deep parts are folded into one box with counts, so that a picture of ten thousand branches stays
readable. `aiorch.views.graph` and `aiorch.views.svg` draw the outline.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiorch.errors import counted
from aiorch.model.dag import DAG, Node, Task
from aiorch.model.place import At
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus
from aiorch.views.entries import CAUGHT, Entries, Look, levels_of, places_of, wait_end

BRANCHES_MAX = 20
"""Branches of one `Parallel` that are drawn; the rest share one box."""

DEPTH_MAX = 12
"""Levels that are drawn; a deeper `Parallel` is one box, because its content would be unreadable."""

NODES_MAX = 500
"""Nodes of one level whose ways part or join; of a larger level a few are drawn, and the rest share one box."""

NODES_SHOWN = 20
"""Nodes of such a large level that are drawn."""

FINAL_DETAIL = "after all other steps, however they end"
"""The explanation of `finally`, where there are no facts of a run."""

LABEL_CHARS_MAX = 32
"""Characters of a name in a label; a node name may have hundreds."""


@dataclass(frozen=True, slots=True)
class Colours:
    """Colours of a look: `stroke` for borders and text on white, `fill` for the inside of a box."""

    stroke: str
    fill: str


COLOURS: dict[Look | None, Colours] = {
    None: Colours("#475569", "#ffffff"),
    TaskStatus.NEW: Colours("#64748b", "#f8fafc"),
    TaskStatus.STARTING: Colours("#0369a1", "#f0f9ff"),
    TaskStatus.RUNNING: Colours("#2563eb", "#eff6ff"),
    TaskStatus.RETRYING: Colours("#b45309", "#fffbeb"),
    TaskStatus.COMPLETED: Colours("#15803d", "#f0fdf4"),
    TaskStatus.FAILED: Colours("#dc2626", "#fef2f2"),
    CAUGHT: Colours("#be185d", "#ffffff"),
    TaskStatus.CANCELLED: Colours("#7e22ce", "#faf5ff"),
    TaskStatus.SKIPPED: Colours("#94a3b8", "#ffffff"),
}
"""Colours by look; `None` for a DAG that is drawn without a run."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Branches of a `Parallel`, or nodes of a large level, that are counted instead of drawn."""

    count: int
    of: int
    """All branches of this `Parallel`, or all nodes of the level."""

    tasks: int
    counts: Counter[Look]
    """Tasks among them by look; empty without a run."""

    nouns: tuple[str, str] = ("branch", "branches")

    @property
    def title(self) -> str:
        """The title of the box, e.g. ``… and 9,980 more branches``."""
        if self.count == self.of:
            return counted(self.count, *self.nouns)
        return f"… and {counted(self.count, *(f'more {noun}' for noun in self.nouns))}"

    @property
    def detail(self) -> str:
        """The counts in words."""
        return counts_text(self.counts) or counted(self.tasks, "task")


@dataclass(frozen=True, slots=True)
class Item:
    """One node to draw; `branches` and `folded` are the content of a `Parallel`."""

    node: Node
    state: NodeState | None
    look: Look | None
    """`None` without a run."""

    duration_s: float | None
    reason: str = ""
    """The reason why the node was skipped, or how its failure was caught; empty for most nodes."""

    branches: tuple["Level", ...] = ()
    folded: Folded | None = None

    @property
    def subtitle(self) -> str:
        """The work of the node: the target of a task, the width of a `Parallel`."""
        return " · ".join(self.node.kind.caption(self.node))

    @property
    def progress(self) -> str:
        """Status, duration and attempt in words; empty without a run."""
        if self.state is None:
            return ""
        parts = [f"{self.state.status}, caught" if self.look == CAUGHT else str(self.state.status)]
        if (until := wait_end(self.node, self.state)) is not None:
            parts.append(f"until {time_text(until)}")
        elif self.duration_s is not None:
            parts.append(duration_text(self.duration_s))
        if self.state.attempt > 1:
            parts.append(f"{'try' if self.node.scopes else 'attempt'} {self.state.attempt}")
        if self.state.skipped is not None:
            parts.append("condition is false")
        return " · ".join(parts)

    @property
    def lines(self) -> tuple[str, ...]:
        """The label: name, subtitle and progress, the first two cut to the size of a box."""
        lines = shorten(self.node.name), shorten(self.subtitle, LABEL_CHARS_MAX + 12), self.progress
        return tuple(line for line in lines if line)


@dataclass(frozen=True, slots=True)
class Edge:
    """The ways between two items of a level, by the positions of the items."""

    source: int
    target: int
    text: str = ""
    """The conditions of the ways."""

    is_catch: bool = False
    """Whether only failures take these ways."""

    taken: bool | None = None
    """Whether the run went this way: `None` without a run, and before that is decided."""

    @property
    def label(self) -> str:
        """The conditions, cut to the length of a label."""
        return shorten(self.text)


@dataclass(frozen=True, slots=True)
class Level:
    """The content of one level: items, an item before those that may follow, and the edges between the items."""

    items: tuple[Item, ...]
    edges: tuple[Edge, ...]
    starts: tuple[int, ...]
    """Positions of the items with which the level begins."""

    ends: tuple[Edge, ...]
    """The ways out of the level; they lead to the position after the last item."""

    is_graph: bool = False
    folded: Folded | None = None
    """The nodes of a large level that are not among the items."""

    @property
    def is_line(self) -> bool:
        """Whether each item simply follows the one before it."""
        if self.is_graph or self.folded is not None or len(self.edges) != len(self.items) - 1:
            return False
        return all(edge.target == edge.source + 1 and not edge.text for edge in self.edges)


@dataclass(frozen=True, slots=True)
class Outline:
    """The content of a picture."""

    title: str
    facts: str
    """Facts about the run in words; empty without a run."""

    level: Level
    final: Level | None
    """The level `finally`."""

    final_facts: str
    """Facts about the level `finally` in words; empty before the level has begun."""

    counts: Counter[Look]
    """Tasks of the whole run by look; empty without a run."""

    failures: tuple[str, ...]
    """The first few failures in words."""


def outline_of(
    dag: DAG, run: Run | None = None, *, now: datetime | None = None, branches_max: int = BRANCHES_MAX
) -> Outline:
    """Return the outline of *dag* for `render`; same arguments."""
    entries = None if run is None else Entries(dag, run)
    builder = _OutlineBuilder(entries, now, max(1, branches_max))
    level, *finals = (builder.level(each, places_of(each), depth=0) for each in levels_of(dag))
    final = finals[0] if finals else None
    if run is None or entries is None:
        return Outline(dag.name, "", level, final, "", Counter(), ())
    header = run.header
    facts = [f"run {header.run_id}", str(header.status)]
    until = header.ended_at or now
    if until is not None:
        facts.append(duration_text((until - header.created_at).total_seconds()))
    facts.append(f"started {header.created_at:%Y-%m-%d %H:%M:%S} UTC")
    failed = [f"{at.name}: {state.error.text}" for at, state in entries.failed() if state.error is not None]
    counts = entries.counts()
    return Outline(dag.name, " · ".join(facts), level, final, final_text(run, now), counts, tuple(failed[:3]))


class _OutlineBuilder:
    def __init__(self, entries: Entries | None, now: datetime | None, branches_max: int) -> None:
        self.entries, self.now, self.branches_max = entries, now, branches_max

    def level(self, dag: DAG, places: Sequence[At[Node]], depth: int) -> Level:
        folded, has_turns = None, _has_turns(dag)
        if len(places) > NODES_MAX and has_turns:
            shown = set(self._most_urgent([[at] for at in places], NODES_SHOWN))
            hidden = [at for number, at in enumerate(places) if number not in shown]
            folded = Folded(len(hidden), len(places), *self._tasks(hidden), ("step", "steps"))
            places = [at for number, at in enumerate(places) if number in shown]
        numbers = {at.node.name: number for number, at in enumerate(places)}
        took = None if self.entries is None or not has_turns else self.entries.took
        return Level(
            tuple(self.item(at, depth) for at in places),
            tuple(edge for at in places for edge in _edges(at, numbers, took)) if folded is None else (),
            tuple(numbers[node.name] for node in dag.starts if node.name in numbers),
            tuple(
                Edge(numbers[at.node.name], len(places), taken=took and took(at, None))
                for at in places
                if at.node.may_end_well
            ),
            dag.is_graph,
            folded,
        )

    def item(self, at: At[Node], depth: int) -> Item:
        node, state, look, duration_s, reason = at.node, None, None, None, ""
        if self.entries is not None:
            state, look, reason = self.entries.state(at), self.entries.look(at), self.entries.reason(at)
            duration_s = node_duration_s(state, self.now)
        if not node.scopes:
            return Item(node, state, look, duration_s, reason)
        scopes = [[at.within(self._attempt(at.name), inner) for inner in scope.nodes.values()] for scope in node.scopes]
        shown = [] if depth >= DEPTH_MAX else self._most_urgent(scopes, self.branches_max)
        branches = tuple(self.level(node.scopes[number], scopes[number], depth + 1) for number in shown)
        folded = None
        if len(shown) < len(scopes):
            hidden = [number for number in range(len(scopes)) if number not in set(shown)]
            tasks, counts = self._tasks(at for number in hidden for at in scopes[number])
            folded = Folded(len(hidden), len(scopes), tasks, counts)
        return Item(node, state, look, duration_s, reason, branches, folded)

    def _with_inner(self, places: Iterable[At[Node]]) -> Iterator[At[Node]]:
        for at in places:
            yield at
            if at.node.scopes:
                yield from at.inner(self._attempt)

    def _attempt(self, name: str) -> int:
        return 0 if self.entries is None else self.entries.attempt(name)

    def _tasks(self, places: Iterable[At[Node]]) -> tuple[int, Counter[Look]]:
        """Return the number of tasks at these places and inside, and the numbers by look."""
        tasks = [at for at in self._with_inner(places) if isinstance(at.node, Task)]
        return len(tasks), Counter() if self.entries is None else self.entries.counts_of(tasks)

    def _most_urgent(self, groups: Sequence[Sequence[At[Node]]], count: int) -> list[int]:
        """Return the positions of the groups to draw: those with failures first, then running ones, then in order."""
        if len(groups) <= count:
            return list(range(len(groups)))
        ranked = sorted(range(len(groups)), key=lambda number: self._rank(groups[number]))
        return sorted(ranked[:count])

    def _rank(self, places: Iterable[At[Node]]) -> int:
        if self.entries is None:
            return 0
        return min(_RANKS.get(self.entries.look(at), 2) for at in self._with_inner(places))


_RANKS: dict[Look, int] = {
    TaskStatus.FAILED: 0,
    TaskStatus.RETRYING: 1,
    TaskStatus.RUNNING: 1,
    TaskStatus.STARTING: 1,
}


_Took = Callable[[At[Node], Node | None], bool | None]


def _edges(at: At[Node], numbers: Mapping[str, int], took: _Took | None) -> Iterator[Edge]:
    """Yield the edges from an item. All ways to one item are one edge."""
    for following in at.node.following_nodes:
        ways = [way for way in at.node.ways if way.next == following.name]
        text = " or ".join(way.label or "next" for way in ways) if any(way.label for way in ways) else ""
        is_catch = bool(ways) and all(way.is_catch for way in ways)
        taken = took and took(at, following)
        yield Edge(numbers[at.node.name], numbers[following.name], text, is_catch, taken)


def _has_turns(dag: DAG) -> bool:
    """Whether ways part or join in a level."""
    return dag.is_graph or bool(dag.joins) or any(len(node.following_nodes) > 1 for node in dag.nodes.values())


def node_duration_s(state: NodeState, now: datetime | None) -> float | None:
    """Return the seconds from the start of a node to its end, or to *now*; `None` when the node never started."""
    until = state.ended_at or (None if state.status.is_terminal else now)
    if state.started_at is None or until is None:
        return None
    return max(0.0, (until - state.started_at).total_seconds())


def duration_text(seconds: float) -> str:
    """Return a duration for people: ``20 ms``, ``0.2 s``, ``12 s``, ``3 min 5 s``, ``2 h 3 min``, ``4 d 1 h``."""
    if seconds < 0.0995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller_size} {smaller}"
    return f"{whole} s"


def time_text(at: datetime) -> str:
    """Return a time for people, ``2026-12-01 08:00 UTC``, with seconds if there are some."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}".removesuffix(":00") + " UTC"


def final_text(run: Run, now: datetime | None) -> str:
    """Return the facts about the level `finally` of a run; empty before the level has begun."""
    final = run.header.final
    if final is None:
        return ""
    until = final.ended_at or now
    took = "" if until is None else f" · {duration_text((until - final.begun_at).total_seconds())}"
    return f"after {final.outcome}{took}"


def counts_text(counts: Counter[Look]) -> str:
    """Return counts in words, in the order of the statuses of a task: ``7 Completed, 2 Running, 1 failure caught``."""
    return ", ".join(count_text(counts, look) for look in COLOURS if look is not None and counts[look])


def count_text(counts: Counter[Look], look: Look) -> str:
    """Return one of the counts in words."""
    return f"{counted(counts[look], 'failure')} caught" if look == CAUGHT else f"{counts[look]:,} {look}"


def shorten(text: str, chars_max: int = LABEL_CHARS_MAX) -> str:
    """Cut *text* in the middle: similar names often differ at their ends."""
    if len(text) <= chars_max:
        return text
    head = (chars_max - 1) // 2
    return f"{text[:head]}…{text[len(text) - (chars_max - 1 - head) :]}"
