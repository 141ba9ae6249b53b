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

from aiorch.model.dag import DAG, Node
from aiorch.model.place import At, place_of, seen_from
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus
from aiorch.views.entries import CAUGHT, Entries, Look, places_of, wait_end
from aiorch.views.escaping import one_line
from aiorch.views.outline import (
    BRANCHES_MAX,
    FINAL_DETAIL,
    counts_text,
    duration_text,
    final_text,
    node_duration_s,
    time_text,
)

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

    look: Look | None = None
    duration_s: float | None = None
    detail: str = ""
    counts: Counter[Look] | None = None
    """Tasks by look, for a `Parallel` whose nodes have no rows."""


@dataclass(slots=True)
class _Entry:
    at: At[Node]
    depth: int
    guides: str
    below: str
    """Guides of the nodes inside this node."""

    inside: "list[_Entry] | None" = None
    """Rows of a `Parallel`, `None` while it is folded."""

    notable: list[At[Node]] = field(default_factory=list)


class Rows:
    """The rows of a run of *dag*, computed anew for each redraw."""

    def __init__(self, dag: DAG) -> None:
        self._dag = dag

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
        return _RowsOfRun(self._dag, run, now).fill(rows_max, branches_max)


class _RowsOfRun:
    def __init__(self, dag: DAG, run: Run, now: datetime) -> None:
        self._dag, self._run, self._now = dag, run, now
        self._known = Entries(dag, run)

    def fill(self, rows_max: int, branches_max: int | None) -> list[Row]:
        main = [_Entry(at, 0, "", "") for at in places_of(self._dag)]
        final = [] if self._dag.final is None else [_Entry(at, 1, "  ", "  ") for at in places_of(self._dag.final)]
        entries = main + final
        room = rows_max - len(entries) - bool(final)
        while room > 0 and (best := self._to_unfold(entries, room, branches_max)) is not None:
            best.inside = list(self._inside(best))
            room -= len(best.inside)
        for entry in _flat(entries):
            if room > 0 and entry.at.node.scopes and entry.inside is None:
                entry.notable = self._notable(entry.at, min(room, NOTABLE_MAX))
                room -= len(entry.notable)
        rows = [row for entry in _flat(main) for row in self._rows_of(entry)]
        if final:
            rows.append(Row("", "finally", detail=final_text(self._run, self._now) or FINAL_DETAIL))
            rows += [row for entry in _flat(final) for row in self._rows_of(entry)]
        return _window(rows, rows_max)

    def _to_unfold(self, entries: list[_Entry], room: int, branches_max: int | None) -> _Entry | None:
        fitting = [
            entry
            for entry in _flat(entries)
            if (scopes := entry.at.node.scopes)
            and entry.inside is None
            and entry.depth < DEPTH_MAX
            and len(scopes) <= (room if branches_max is None else min(room, branches_max))
            and sum(len(branch.nodes) for branch in scopes) <= room
        ]
        return min(fitting, key=lambda entry: _URGENCY[self._known.look(entry.at)], default=None)

    def _inside(self, entry: _Entry) -> Iterator[_Entry]:
        scopes = entry.at.node.scopes
        for branch in scopes:
            is_last = branch is scopes[-1]
            below = entry.below + ("  " if is_last else "│ ")
            for number, at in enumerate(self._known.within(entry.at, branch)):
                guide = ("  " if is_last else "│ ") if number else ("└ " if is_last else "├ ")
                yield _Entry(at, entry.depth + 1, entry.below + guide, below)

    def _notable(self, at: At[Node], count: int) -> list[At[Node]]:
        found = [
            (_URGENCY[state.status], state.started_at or self._run.header.created_at, place.name, place)
            for place in self._known.inside(at)
            if (state := self._known.state(place)).status in _NOTABLE
            and not place.node.scopes
            and self._known.look(place) is not CAUGHT
        ]
        return [place for *_, place in sorted(found, key=lambda each: each[:3])[:count]]

    def _rows_of(self, entry: _Entry) -> Iterator[Row]:
        counts = None
        if entry.at.node.scopes and entry.inside is None:
            counts = self._known.counts(entry.at)
        yield self._row(entry.guides, entry.at, counts)
        for at in entry.notable:
            yield self._row(entry.below + "· ", at)

    def _row(self, guides: str, at: At[Node], counts: Counter[Look] | None = None) -> Row:
        state, now = self._known.state(at), self._now
        detail = detail_of(at, state, now, self._known.reason(at))
        return Row(guides, at.node.name, state, self._known.look(at), node_duration_s(state, now), detail, counts)


_URGENCY: dict[Look, int] = {
    TaskStatus.FAILED: 0,
    TaskStatus.RETRYING: 1,
    TaskStatus.RUNNING: 2,
    TaskStatus.STARTING: 2,
    TaskStatus.CANCELLED: 3,
    TaskStatus.NEW: 4,
    TaskStatus.COMPLETED: 5,
    CAUGHT: 5,
    TaskStatus.SKIPPED: 6,
}
_NOTABLE = frozenset({TaskStatus.FAILED, TaskStatus.RETRYING, TaskStatus.RUNNING, TaskStatus.STARTING})


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
    counts = Counter(row.look for row in rows if row.look is not None)
    return Row("", f"… {len(rows):,} {where}", detail=counts_text(counts))


def detail_of(at: At[Node], state: NodeState, now: datetime, reason: str = "") -> str:
    """
    Return the detail of an entry: its failure, the time of its retry or of its end, its decision, or its target.

    Args:
        at: The place of the entry.

        state: The entry.

        now: Time for the rest of a wait.

        reason: The reason why the entry was skipped, or how its failure was caught.
    """
    if state.waits_because is not None:
        return f"waits: {one_line(state.waits_because)}"
    if state.error is not None:
        why = one_line(state.error.text)
        first = _when_again(state, now) if state.status is TaskStatus.RETRYING else one_line(reason)
        return f"{first}: {why}" if first else why
    if reason:
        return one_line(reason)
    if (until := wait_end(at.node, state)) is not None:
        return f"waits {until_text(until, now)}"
    if state.went_to is not None:
        return one_line(f"on to {state.went_to}")
    return _work(at.node, state, now)


def _work(node: Node, state: NodeState, now: datetime) -> str:
    """Return the work of a node that goes on as planned."""
    if state.status is TaskStatus.NEW and state.ready_at is not None:
        return "waits for a process"
    if state.stop:
        return "is being stopped"
    kind, words = node.kind.caption(node)
    if not node.scopes:
        return one_line(f"{kind} {words}")
    parts = [words, *([f"try {state.attempt}"] if state.attempt > 1 else [])]
    if state.status is TaskStatus.RUNNING and state.due_at is not None:
        parts.append(f"at most {until_text(state.due_at, now)}")
    return one_line(", ".join(parts))


def until_text(until: datetime, now: datetime) -> str:
    """Return the end of a wait, ``until 2026-12-01 08:00 UTC (in 3 d 0 h)``."""
    left = (until - now).total_seconds()
    return f"until {time_text(until)} ({f'in {duration_text(left)}' if left > 0 else 'due'})"


def _when_again(state: NodeState, now: datetime) -> str:
    again_at = state.retry_at or state.due_at
    if again_at is not None and again_at > now:
        return f"again in {duration_text((again_at - now).total_seconds())}"
    return "waits for a process" if state.by is None and state.due_at is None else "due"


class ProgressLog:
    """Reports the changes of a run since the last call, one line per change."""

    def __init__(self, dag: DAG) -> None:
        self._dag = dag
        self._seen: dict[str, NodeState] = {}
        self._order: dict[str, tuple[int, int]] = {}
        """Order of the start and the end of a node among changes of one moment: inner nodes end first."""
        self._crowd_of: dict[str, str] = {}
        """The outermost very wide `Parallel` around each node."""
        self._crowds: dict[str, Node] = {}
        """Very wide `Parallel`s whose final count is still to come."""
        self._counted: dict[str, tuple[datetime, Counter[Look]]] = {}
        self._failures: Counter[str] = Counter()
        for index, (name, node) in enumerate(dag.all_nodes.items()):
            inside = node.inner_nodes
            self._order[name] = index, index + len(inside)
            if len(node.scopes) > BRANCHES_MAX and name not in self._crowd_of:
                self._crowds[name] = node
                self._crowd_of.update(dict.fromkeys(inside, name))

    def lines(self, run: Run, now: datetime) -> list[str]:
        """Return the lines for the changes, in order of time."""
        known = Entries(self._dag, run)
        changed = [state for name, state in run.nodes.items() if self._seen.get(name) is not state]
        changed.sort(key=self._moment)
        lines = [line for state in changed if (line := self._line(state, known, now)) is not None]
        self._seen.update((state.node_name, state) for state in changed)
        return lines + self._count_lines(known, now)

    def _moment(self, state: NodeState) -> tuple[float, int, int]:
        at = _changed_at(state)
        first, last = self._order[self._dag.node_of(state.node_name).name]
        return at.timestamp() if at else inf, last if state.ended_at else first, -first

    def _line(self, state: NodeState, known: Entries, now: datetime) -> str | None:
        name, status = state.node_name, state.status
        before = self._seen.get(name)
        if status is TaskStatus.NEW or (before and _key(before) == _key(state)):
            return None
        place = place_of(self._dag, name)
        if known.is_passed_by(place) or self._is_left_to_counts(place.node, status):
            return None
        facts = [f"{'try' if place.node.scopes else 'attempt'} {state.attempt}"] if state.attempt else []
        if status.is_terminal and (duration_s := node_duration_s(state, now)) is not None:
            facts.append(duration_text(duration_s))
        about = f" ({', '.join(facts)})" if facts else ""
        if state.waits_because is not None:
            return f"{clock_text(now)} {one_line(name)} waits{about}: {one_line(state.waits_because)}"
        at = _changed_at(state) or now
        if (until := wait_end(place.node, state)) is not None:
            return f"{clock_text(at)} {one_line(name)} waits {until_text(until, at)}"
        reason = known.reason(place)
        has_why = state.error is not None or state.went_to is not None or reason
        why = f": {detail_of(place, state, at, reason)}" if has_why else ""
        return f"{clock_text(at)} {one_line(name)} {_said(state)}{about}{why}"

    def _is_left_to_counts(self, node: Node, status: TaskStatus) -> bool:
        """Whether a node stands in a very wide `Parallel`, of which only the first failures have lines."""
        crowd = self._crowd_of.get(node.name)
        if crowd is None:
            return False
        self._failures[crowd] += status is TaskStatus.FAILED
        return status is not TaskStatus.FAILED or self._failures[crowd] > LOG_FAILURES_MAX

    def _count_lines(self, known: Entries, now: datetime) -> list[str]:
        lines = []
        for name, parallel in list(self._crowds.items()):
            place = seen_from(None, parallel, known.attempt)
            if place is None:
                continue
            status = known.state(place).status
            last_at, last = self._counted.get(name, (None, None))
            is_due = last_at is None or (now - last_at).total_seconds() >= LOG_COUNTS_EVERY_S
            if status is TaskStatus.NEW or not (is_due or status.is_terminal):
                continue
            counts = known.counts(place)
            if counts != last:
                self._counted[name] = now, counts
                lines.append(f"{clock_text(now)} {one_line(name)}: {counts_text(counts)}")
            if status.is_terminal:
                del self._crowds[name]
        return lines


def _changed_at(state: NodeState) -> datetime | None:
    """Return the time of the last change of status: the end of the node, or the end or start of an attempt."""
    failed_at = state.ended_at or (state.error and state.error.at)
    waits_for_try = state.status is TaskStatus.RETRYING and state.due_at is not None
    return failed_at or (None if waits_for_try else state.started_at)


def _key(state: NodeState) -> tuple[int, TaskStatus, str | None]:
    """Return the facts of a node whose change adds a line to the log."""
    return state.attempt, _said(state), state.waits_because


def _said(state: NodeState) -> TaskStatus:
    """Return the status for the log, which shows a committed intent and its launch as one status."""
    return TaskStatus.RUNNING if state.status is TaskStatus.STARTING else state.status


def clock_text(at: datetime) -> str:
    """Return the local time of day, ``12:00:01``."""
    return f"{at.astimezone():%H:%M:%S}"
