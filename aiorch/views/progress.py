"""
A run as lines of text: rows for a view that is redrawn, and a log that only grows. Pure.

Ten thousand branches must not flood a terminal: `Rows` folds a `Parallel` into one row of counts when space is short,
and `ProgressLog` counts the nodes of a very wide `Parallel` instead of reporting each.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import inf

from aiorch.model.dag import DAG, Node, Task
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus
from aiorch.views.escaping import one_line
from aiorch.views.outline import BRANCHES_MAX, counts_text, duration_text, node_duration_s

DEPTH_MAX = 12
"""Levels that are shown; the guides of deeper levels would leave no space for names."""

NOTABLE_MAX = 8
"""Nodes of a folded `Parallel` that still have a row: failed nodes, retries, and the longest running ones."""

LOG_COUNTS_EVERY_S = 2.0
"""Pause between two counts of a running, very wide `Parallel` in the log."""

LOG_FAILURES_MAX = 20
"""Failures within one very wide `Parallel` that the log reports one by one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a view of a run."""

    guides: str
    """Guides that show the nesting, printed before the name."""

    name: str
    state: NodeState | None = None
    """`None` on a row that represents several nodes."""

    duration_s: float | None = None
    detail: str = ""
    counts: Counter[TaskStatus] | None = None
    """Tasks by status, for a `Parallel` whose nodes have no rows."""


@dataclass(slots=True)
class _Entry:
    node: Node
    depth: int
    guides: str
    below: str
    """Guides of the nodes inside this node."""

    inside: "list[_Entry] | None" = None
    """Rows of a `Parallel`, `None` while it is folded."""

    notable: list[str] = field(default_factory=list)


class Rows:
    """The rows of a run of *dag*, computed anew for each redraw."""

    def __init__(self, dag: DAG) -> None:
        self._dag = dag
        self._tasks: dict[str, tuple[str, ...]] = {}
        """Names of all tasks inside a `Parallel`, once they were asked for."""

    def of(self, run: Run, *, now: datetime, rows_max: int, branches_max: int | None = None) -> list[Row]:
        """
        Return the most informative rows of *run*.

        Every node has a row if there is enough space. Otherwise a running `Parallel` takes precedence over one that has
        ended, the rest is folded into counts, and a long chain is cut to its running part.

        Args:
            run: The run.

            now: Time for the durations of running nodes.

            rows_max: Largest number of rows, at least 3.

            branches_max: Fold every `Parallel` with more branches, even if there is space.
        """
        entries = [_Entry(node, 0, "", "") for node in _chain(self._dag)]
        room = rows_max - len(entries)
        while room > 0 and (best := self._to_unfold(entries, run, room, branches_max)) is not None:
            best.inside = list(_inside(best))
            room -= len(best.inside)
        for entry in _flat(entries):
            if room > 0 and entry.node.scopes and entry.inside is None:
                entry.notable = self._notable(entry.node, run, min(room, NOTABLE_MAX))
                room -= len(entry.notable)
        rows = [row for entry in _flat(entries) for row in self._rows_of(entry, run, now)]
        return _window(rows, rows_max)

    def counts(self, node: Node, run: Run) -> Counter[TaskStatus]:
        """Return the number of tasks inside *node* by status."""
        names = self._tasks.get(node.name)
        if names is None:
            names = tuple(name for name, inner in node.inner_nodes.items() if isinstance(inner, Task))
            self._tasks[node.name] = names
        return Counter(run.nodes[name].status for name in names)

    def _to_unfold(self, entries: list[_Entry], run: Run, room: int, branches_max: int | None) -> _Entry | None:
        fitting = [
            entry
            for entry in _flat(entries)
            if entry.node.scopes
            and entry.inside is None
            and entry.depth < DEPTH_MAX
            and len(entry.node.scopes) <= (room if branches_max is None else min(room, branches_max))
            and sum(len(branch.nodes) for branch in entry.node.scopes) <= room
        ]
        return min(fitting, key=lambda entry: _URGENCY[run.nodes[entry.node.name].status], default=None)

    def _notable(self, node: Node, run: Run, count: int) -> list[str]:
        found = [
            (_URGENCY[state.status], state.started_at or run.header.created_at, name)
            for name, inner in node.inner_nodes.items()
            if (state := run.nodes[name]).status in _NOTABLE and not inner.scopes
        ]
        return [name for _, _, name in sorted(found)[:count]]

    def _rows_of(self, entry: _Entry, run: Run, now: datetime) -> Iterator[Row]:
        state = run.nodes[entry.node.name]
        detail, counts = detail_of(entry.node, state, now), None
        if entry.node.scopes and entry.inside is None:
            counts = self.counts(entry.node, run)
        yield Row(entry.guides, entry.node.name, state, node_duration_s(state, now), detail, counts)
        for name in entry.notable:
            inner = run.nodes[name]
            detail = detail_of(self._dag.all_nodes[name], inner, now)
            yield Row(entry.below + "· ", name, inner, node_duration_s(inner, now), detail)


_URGENCY = {
    TaskStatus.FAILED: 0,
    TaskStatus.RETRYING: 1,
    TaskStatus.RUNNING: 2,
    TaskStatus.STARTING: 2,
    TaskStatus.CANCELLED: 3,
    TaskStatus.NEW: 4,
    TaskStatus.COMPLETED: 5,
    TaskStatus.SKIPPED: 6,
}
_NOTABLE = frozenset({TaskStatus.FAILED, TaskStatus.RETRYING, TaskStatus.RUNNING, TaskStatus.STARTING})


def _chain(dag: DAG) -> Iterator[Node]:
    return dag.chain_from(dag.nodes[dag.start_node])


def _inside(entry: _Entry) -> Iterator[_Entry]:
    for branch in entry.node.scopes:
        is_last = branch is entry.node.scopes[-1]
        for node in _chain(branch):
            is_first = node.name == branch.start_node
            guide = ("└ " if is_last else "├ ") if is_first else ("  " if is_last else "│ ")
            below = entry.below + ("  " if is_last else "│ ")
            yield _Entry(node, entry.depth + 1, entry.below + guide, below)


def _flat(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    for entry in entries:
        yield entry
        if entry.inside is not None:
            yield from _flat(entry.inside)


def _window(rows: list[Row], rows_max: int) -> list[Row]:
    """Cut *rows* to the running part, with one row at each end for the omitted nodes."""
    if len(rows) <= rows_max:
        return rows
    at_work = next((n for n, row in enumerate(rows) if row.state and not row.state.status.is_terminal), len(rows))
    size = rows_max - 2
    first = min(max(at_work - size // 3, 0), len(rows) - size)
    shown = rows[first : first + size]
    if first:
        shown.insert(0, _gap(rows[:first], "before"))
    if first + size < len(rows):
        shown.append(_gap(rows[first + size :], "after"))
    return shown


def _gap(rows: list[Row], where: str) -> Row:
    counts = Counter(row.state.status for row in rows if row.state is not None)
    return Row("", f"… {len(rows):,} {where}", detail=counts_text(counts))


def detail_of(node: Node, state: NodeState, now: datetime) -> str:
    """Return the detail of a node: its failure, the time of its retry, or its target."""
    if state.waits_because is not None:
        return f"waits: {one_line(state.waits_because)}"
    if state.error is not None:
        why = one_line(state.error.text)
        return f"{_when_again(state, now)}: {why}" if state.status is TaskStatus.RETRYING else why
    if state.status is TaskStatus.NEW and state.ready_at is not None:
        return "waits for a process"
    if state.stop:
        return "is being stopped"
    kind, words = node.kind.caption(node)
    return one_line(words if node.scopes else f"{kind} {words}")


def _when_again(state: NodeState, now: datetime) -> str:
    if state.retry_at is not None and state.retry_at > now:
        return f"again in {duration_text((state.retry_at - now).total_seconds())}"
    return "waits for a process" if state.by is None else "due"


class ProgressLog:
    """Reports the changes of a run since the last call, one line per change."""

    def __init__(self, dag: DAG) -> None:
        self._dag = dag
        self._rows = Rows(dag)
        self._seen: dict[str, NodeState] = {}
        self._order: dict[str, tuple[int, int]] = {}
        """Order of the start and the end of a node among changes of one moment: inner nodes end first."""
        self._crowd_of: dict[str, str] = {}
        """The outermost very wide `Parallel` around each node."""
        self._crowds: dict[str, Node] = {}
        """Very wide `Parallel`s whose final count is still to come."""
        self._counted: dict[str, tuple[datetime, Counter[TaskStatus]]] = {}
        self._failures: Counter[str] = Counter()
        for index, (name, node) in enumerate(dag.all_nodes.items()):
            inside = node.inner_nodes
            self._order[name] = index, index + len(inside)
            if len(node.scopes) > BRANCHES_MAX and name not in self._crowd_of:
                self._crowds[name] = node
                self._crowd_of.update(dict.fromkeys(inside, name))

    def lines(self, run: Run, now: datetime) -> list[str]:
        """Return the lines for the changes, in order of time."""
        changed = [state for name, state in run.nodes.items() if self._seen.get(name) is not state]
        changed.sort(key=self._moment)
        lines = [line for state in changed if (line := self._line(state, now)) is not None]
        self._seen.update((state.node_name, state) for state in changed)
        return lines + self._count_lines(run, now)

    def _moment(self, state: NodeState) -> tuple[float, int, int]:
        at = _changed_at(state)
        first, last = self._order[state.node_name]
        return at.timestamp() if at else inf, last if state.ended_at else first, -first

    def _line(self, state: NodeState, now: datetime) -> str | None:
        name, status = state.node_name, state.status
        before = self._seen.get(name)
        if status is TaskStatus.NEW or (before and _key(before) == _key(state)):
            return None
        if name in self._crowd_of:
            if status is not TaskStatus.FAILED:
                return None
            self._failures[self._crowd_of[name]] += 1
            if self._failures[self._crowd_of[name]] > LOG_FAILURES_MAX:
                return None
        facts = [f"attempt {state.attempt}"] if state.attempt else []
        if status.is_terminal and (duration_s := node_duration_s(state, now)) is not None:
            facts.append(duration_text(duration_s))
        about = f" ({', '.join(facts)})" if facts else ""
        if state.waits_because is not None:
            return f"{clock_text(now)} {one_line(name)} waits{about}: {one_line(state.waits_because)}"
        at = _changed_at(state) or now
        why = f": {detail_of(self._dag.all_nodes[name], state, at)}" if state.error is not None else ""
        return f"{clock_text(at)} {one_line(name)} {_said(state)}{about}{why}"

    def _count_lines(self, run: Run, now: datetime) -> list[str]:
        lines = []
        for name, parallel in list(self._crowds.items()):
            status = run.nodes[name].status
            last_at, last = self._counted.get(name, (None, None))
            is_due = last_at is None or (now - last_at).total_seconds() >= LOG_COUNTS_EVERY_S
            if status is TaskStatus.NEW or not (is_due or status.is_terminal):
                continue
            counts = self._rows.counts(parallel, run)
            if counts != last:
                self._counted[name] = now, counts
                lines.append(f"{clock_text(now)} {one_line(name)}: {counts_text(counts)}")
            if status.is_terminal:
                del self._crowds[name]
        return lines


def _changed_at(state: NodeState) -> datetime | None:
    """Return the time of the last change of status: the end of the node, or the end or start of an attempt."""
    return state.ended_at or (state.error and state.error.at) or state.started_at


def _key(state: NodeState) -> tuple[int, TaskStatus, str | None]:
    """Return the facts of a node whose change adds a line to the log."""
    return state.attempt, _said(state), state.waits_because


def _said(state: NodeState) -> TaskStatus:
    """Return the status for the log, which shows a committed intent and its launch as one status."""
    return TaskStatus.RUNNING if state.status is TaskStatus.STARTING else state.status


def clock_text(at: datetime) -> str:
    """Return the local time of day, ``12:00:01``."""
    return f"{at.astimezone():%H:%M:%S}"
