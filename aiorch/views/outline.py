"""
The content of a picture of a DAG: the nodes, optionally with the state of a run. Pure.

Very wide and very deep parts are folded into one box with counts, so that a picture of ten thousand branches stays
readable. `aiorch.views.graph` and `aiorch.views.svg` draw the outline.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aiorch.errors import counted
from aiorch.model.dag import DAG, Node
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus

BRANCHES_MAX = 20
"""Branches of one `Parallel` that are drawn; the rest share one box."""

DEPTH_MAX = 12
"""Levels that are drawn; a deeper `Parallel` is one box, because its content would be unreadable."""

LABEL_CHARS_MAX = 32
"""Characters of a name in a label; a node name may have hundreds."""


@dataclass(frozen=True, slots=True)
class Colours:
    """Colours of a status: `stroke` for borders and text on white, `fill` for the inside of a box."""

    stroke: str
    fill: str


COLOURS: dict[TaskStatus | None, Colours] = {
    None: Colours("#475569", "#ffffff"),
    TaskStatus.NEW: Colours("#64748b", "#f8fafc"),
    TaskStatus.STARTING: Colours("#0369a1", "#f0f9ff"),
    TaskStatus.RUNNING: Colours("#2563eb", "#eff6ff"),
    TaskStatus.RETRYING: Colours("#b45309", "#fffbeb"),
    TaskStatus.COMPLETED: Colours("#15803d", "#f0fdf4"),
    TaskStatus.FAILED: Colours("#dc2626", "#fef2f2"),
    TaskStatus.CANCELLED: Colours("#7e22ce", "#faf5ff"),
    TaskStatus.SKIPPED: Colours("#94a3b8", "#ffffff"),
}
"""Colours by status; `None` for a DAG that is drawn without a run."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Branches of a `Parallel` that are counted instead of drawn."""

    branches: int
    of: int
    """All branches of this `Parallel`."""

    tasks: int
    counts: Counter[TaskStatus]
    """Tasks of these branches by status; empty without a run."""

    @property
    def title(self) -> str:
        """The title of the box, e.g. ``… and 9,980 more branches``."""
        more = "… and " if self.branches < self.of else ""
        noun = "more branch" if more else "branch"
        return more + counted(self.branches, noun, f"{noun}es")

    @property
    def detail(self) -> str:
        """The counts in words."""
        return counts_text(self.counts) or counted(self.tasks, "task")


@dataclass(frozen=True, slots=True)
class Item:
    """One node to draw; `branches` and `folded` are the content of a `Parallel`."""

    node: Node
    state: NodeState | None
    duration_s: float | None
    branches: tuple["Chain", ...] = ()
    folded: Folded | None = None

    @property
    def status(self) -> TaskStatus | None:
        """Status in the run, `None` without one."""
        return None if self.state is None else self.state.status

    @property
    def subtitle(self) -> str:
        """The work of the node: the target of a task, the width of a `Parallel`."""
        return " · ".join(self.node.kind.caption(self.node))

    @property
    def progress(self) -> str:
        """Status, duration and attempt in words; empty without a run."""
        if self.state is None:
            return ""
        parts = [str(self.state.status)]
        if self.duration_s is not None:
            parts.append(duration_text(self.duration_s))
        if self.state.attempt > 1:
            parts.append(f"attempt {self.state.attempt}")
        return " · ".join(parts)

    @property
    def lines(self) -> tuple[str, ...]:
        """The label: name, subtitle and progress, the first two cut to the size of a box."""
        lines = shorten(self.node.name), shorten(self.subtitle, LABEL_CHARS_MAX + 12), self.progress
        return tuple(line for line in lines if line)


Chain = tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """The content of a picture."""

    title: str
    facts: str
    """Facts about the run in words; empty without a run."""

    chain: Chain
    counts: Counter[TaskStatus]
    """Tasks of the whole run by status; empty without a run."""

    failures: tuple[str, ...]
    """The first few failures in words."""


def outline_of(
    dag: DAG, run: Run | None = None, *, now: datetime | None = None, branches_max: int = BRANCHES_MAX
) -> Outline:
    """Return the outline of *dag* for `render`; same arguments."""
    builder = _OutlineBuilder(run, now, max(1, branches_max))
    chain = builder.chain(dag, depth=0)
    if run is None:
        return Outline(dag.name, "", chain, Counter(), ())
    header = run.header
    facts = [f"run {header.run_id}", str(header.status)]
    until = header.ended_at or now
    if until is not None:
        facts.append(duration_text((until - header.created_at).total_seconds()))
    facts.append(f"started {header.created_at:%Y-%m-%d %H:%M:%S} UTC")
    counts = Counter(run.nodes[name].status for name in dag.all_tasks)
    failures = tuple(
        f"{name}: {state.error.text}"
        for name in dag.all_tasks
        if (state := run.nodes[name]).status is TaskStatus.FAILED and state.error is not None
    )
    return Outline(dag.name, " · ".join(facts), chain, counts, failures[:3])


class _OutlineBuilder:
    def __init__(self, run: Run | None, now: datetime | None, branches_max: int) -> None:
        self.run, self.now, self.branches_max = run, now, branches_max

    def chain(self, dag: DAG, depth: int) -> Chain:
        return tuple(self.item(node, depth) for node in dag.chain_from(dag.nodes[dag.start_node]))

    def item(self, node: Node, depth: int) -> Item:
        state = None if self.run is None else self.run.nodes[node.name]
        duration_s = None if state is None else node_duration_s(state, self.now)
        if not node.scopes:
            return Item(node, state, duration_s)
        shown = [] if depth >= DEPTH_MAX else self._shown(node.scopes)
        branches = tuple(self.chain(node.scopes[index], depth + 1) for index in shown)
        if len(shown) == len(node.scopes):
            return Item(node, state, duration_s, branches)
        hidden = set(range(len(node.scopes))).difference(shown)
        names = [name for index in sorted(hidden) for name in node.scopes[index].all_tasks]
        counts = Counter() if self.run is None else Counter(self.run.nodes[name].status for name in names)
        return Item(node, state, duration_s, branches, Folded(len(hidden), len(node.scopes), len(names), counts))

    def _shown(self, branches: Sequence[DAG]) -> list[int]:
        """Return the indexes of the branches to draw: failed branches first, then running ones, then in order."""
        if len(branches) <= self.branches_max:
            return list(range(len(branches)))
        ranked = sorted(range(len(branches)), key=lambda index: self._rank(branches[index]))
        return sorted(ranked[: self.branches_max])

    def _rank(self, branch: DAG) -> int:
        if self.run is None:
            return 0
        return min(_RANKS.get(self.run.nodes[name].status, 2) for name in branch.all_nodes)


_RANKS = {
    TaskStatus.FAILED: 0,
    TaskStatus.RETRYING: 1,
    TaskStatus.RUNNING: 1,
    TaskStatus.STARTING: 1,
}


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


def counts_text(counts: Counter[TaskStatus]) -> str:
    """Return counts in words, in the order of the statuses of a task: ``7 Completed, 2 Running``."""
    return ", ".join(f"{counts[status]:,} {status}" for status in COLOURS if status is not None and counts[status])


def shorten(text: str, chars_max: int = LABEL_CHARS_MAX) -> str:
    """Cut *text* in the middle: similar names often differ at their ends."""
    if len(text) <= chars_max:
        return text
    head = (chars_max - 1) // 2
    return f"{text[:head]}…{text[len(text) - (chars_max - 1 - head) :]}"
