"""What the command line says about runs, as lines of plain text. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from aiorch.dag import DAG
from aiorch.enums import NodeTypes, RunStatus, TaskStatus
from aiorch.failure import Failure
from aiorch.run_state import Run
from aiorch.status import RunSummary
from aiorch.views.escaping import one_line
from aiorch.views.outline import BRANCHES_MAX, counts_text, duration_text
from aiorch.views.progress import Row, Rows

FAILURES_SHOWN = 10
RUNS_NAMED = 5
"""Ids in one line; more are counted."""

TASKS_NAMED = 5
ROWS_SHOWN = 200
"""Rows of `aiorch show` unless all are asked for."""


def headline(dag: DAG, run: Run, now: datetime) -> str:
    """Return one line: the run, its status, how long it took, and what became of its tasks."""
    header = run.header
    took = duration_text(((header.ended_at or now) - header.created_at).total_seconds())
    counts = Counter(run.nodes[name].status for name in dag.all_tasks)
    return f"Run {one_line(header.run_id)} {header.status} after {took}: {counts_text(counts)}"


def failure_lines(dag: DAG, run: Run) -> Iterator[str]:
    """Say what failed, and why: every task, and the run itself where no task tells it."""
    failed = [
        (name, state.error)
        for name, state in run.nodes.items()
        if state.status is TaskStatus.FAILED and state.node_type is NodeTypes.TASK and state.error is not None
    ]
    for name, error in failed[:FAILURES_SHOWN]:
        yield from _failure(f"{one_line(name)} (attempt {error.attempt})", error)
    if len(failed) > FAILURES_SHOWN:
        yield f"  … and {len(failed) - FAILURES_SHOWN:,} more failed tasks"
    if not failed and run.header.error is not None:
        yield from _failure(one_line(dag.name), run.header.error)


def _failure(what: str, error: Failure) -> Iterator[str]:
    yield f"  {what}: {one_line(f'{error.type}: {error.message}')}"
    if error.where:
        yield f"    at {one_line(error.where)}"
    if error.cause:
        yield f"    caused by: {one_line(error.cause)}"


def show_lines(
    dag: DAG, run: Run, now: datetime, *, show_all: bool, dead: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Return everything that `aiorch show` prints: the run, its nodes as a table, what failed."""
    header = run.header
    yield headline(dag, run, now)
    yield f"DAG {one_line(header.dag)}, definition {one_line(header.definition)}"
    yield f"started {_time(header.created_at)}, last change {_time(header.updated_at)}"
    if header.resumed_from is not None:
        yield f"resumed from {one_line(header.resumed_from)}"
    yield ""
    limits = {"rows_max": len(run.nodes)} if show_all else {"rows_max": ROWS_SHOWN, "branches_max": BRANCHES_MAX}
    rows = Rows(dag).of(run, now=now, **limits)
    yield from table(("NODE", "STATUS", "DURATION", "ATTEMPT", "DETAIL"), [_cells(row) for row in rows])
    left = [one_line(name) for name in run.active if run.nodes[name].by in dead]
    if left:
        more = f" and {len(left) - TASKS_NAMED:,} more" if len(left) > TASKS_NAMED else ""
        yield ""
        named = ", ".join(left[:TASKS_NAMED]) + more
        yield f"Left by a process that is gone, until another one serves the store: {named}"
    failures = list(failure_lines(dag, run))
    if failures:
        yield ""
        yield "Failures:"
        yield from failures


def _cells(row: Row) -> tuple[str, ...]:
    if row.state is None:
        return row.name, "", "", "", row.detail
    detail = row.detail if row.counts is None else counts_text(row.counts)
    return (
        row.guides + one_line(row.name),
        row.state.status,
        "" if row.duration_s is None else duration_text(row.duration_s),
        str(row.state.attempt or ""),
        detail,
    )


def runs_lines(runs: Sequence[RunSummary]) -> Iterator[str]:
    """Return the table of `aiorch runs`."""
    cells = [(one_line(run.run_id), one_line(run.dag), run.status, run.created_at, run.updated_at) for run in runs]
    yield from table(("RUN", "DAG", "STATUS", "STARTED", "LAST CHANGE"), cells)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return *rows* under *heads*, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def next_moves(run: Run, command: Callable[..., str]) -> Iterator[str]:
    """Say what can be done about a run that did not complete; *command* writes a command with its arguments."""
    run_id = run.header.run_id
    if run.header.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        yield f"Keep what completed and go on from there: {command('resume', run_id)}"
        yield f"Look at every node: {command('show', run_id)}"


def interrupted_runs_line(run_ids: Sequence[str], command: Callable[..., str]) -> str:
    """Name other runs that wait for a process; *command* writes a command with its arguments."""
    if len(run_ids) == 1:
        return f"Another run of this store was interrupted. Continue it with: {one_line(command('resume', *run_ids))}"
    named = ", ".join(one_line(run_id) for run_id in run_ids[-RUNS_NAMED:])
    if len(run_ids) > RUNS_NAMED:
        named += f" and {len(run_ids) - RUNS_NAMED:,} more"
    return (
        f"{len(run_ids):,} other runs of this store were interrupted: {named}. Continue one with "
        f"`{one_line(command('resume', run_ids[-1]))}`, all with `{command('serve')}`."
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
