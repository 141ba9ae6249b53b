"""Reports about runs for the command line, as lines of plain text. Pure."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import msgspec

from aiorch.documents.runs import RunSummary
from aiorch.errors import counted
from aiorch.model.dag import DAG, Node
from aiorch.model.place import At
from aiorch.model.run import Run
from aiorch.model.run_document import NO_RESULT
from aiorch.model.status import RunStatus
from aiorch.views.cells import cut, padded, width_of
from aiorch.views.entries import Entries
from aiorch.views.escaping import one_line
from aiorch.views.failures import failure_lines
from aiorch.views.outline import BRANCHES_MAX, counts_text, duration_text
from aiorch.views.progress import Row, Rows, until_text

RUNS_NAMED = 5
"""Ids in one line; the rest is counted."""

TASKS_NAMED = 5
ROWS_SHOWN = 200
"""Rows of `aiorch show` without `--all`."""

OVERDUE_S = 60.0
"""Seconds after a due time at which a living process would have let the run go on."""

COLUMNS = 120
"""Width of a line without a terminal."""

LAST_COLUMNS_MIN = 20
"""Smallest width of the last column of a table, also on a narrow terminal."""

BYTES_SHOWN = 2000
"""Characters of an input or a result: more than the columns of any screen."""


def headline(dag: DAG, run: Run, now: datetime) -> str:
    """Return one line: the run, its status and duration, and the statuses of its tasks."""
    header = run.header
    took = duration_text(((header.ended_at or now) - header.created_at).total_seconds())
    counts = counts_text(Entries(dag, run).counts())
    return f"Run {one_line(header.run_id)} {header.status} after {took}{f': {counts}' if counts else ''}"


def show_lines(  # noqa: PLR0913  all optional but the first three
    dag: DAG,
    run: Run,
    now: datetime,
    *,
    command: Callable[..., str],
    show_all: bool = False,
    dead: frozenset[str] = frozenset(),
    columns: int = COLUMNS,
) -> Iterator[str]:
    """
    Return the output of `aiorch show`: the run, its input, its nodes as a table, its failures.

    Args:
        dag: The DAG of the run.

        run: The run.

        now: Time for the durations of running nodes.

        show_all: Give every node a row, name every failed task.

        command: Returns a command line for the store of the run, from the name and arguments of a command.

        dead: Processes that are known to be dead.

        columns: Width of the screen: the input and the details of nodes are cut to it.
    """
    header = run.header
    run_id = one_line(header.run_id)
    yield headline(dag, run, now)
    yield f"DAG {one_line(header.dag)}, definition {one_line(header.definition)}"
    yield f"started {_time(header.created_at)}, last change {_time(header.updated_at)}"
    if header.resumed_from is not None:
        step = header.resumed_from_step
        anew = "" if step is None else f", from step {one_line(step)} on"
        yield f"resumed from {one_line(header.resumed_from)}{anew}"
    if header.labels:
        yield f"labels {one_line(', '.join(f'{key}={value}' for key, value in sorted(header.labels.items())))}"
    if bytes(header.input) != b"null":
        yield cut(f"input {_beginning(header.input)}", columns)
    yield ""
    limits = {"rows_max": len(run.nodes)} if show_all else {"rows_max": ROWS_SHOWN, "branches_max": BRANCHES_MAX}
    rows = Rows(dag).of(run, now=now, **limits)
    yield from table(("NODE", "STATUS", "DURATION", "ATTEMPT", "DETAIL"), [_cells(row) for row in rows], columns)
    if run.waits_for_process(dead):
        yield ""
        yield f"The run waits for a process: {command('serve')}, or for this run alone: {command('resume', run_id)}"
    elif left := [one_line(name) for name in run.active if run.nodes[name].by in dead]:
        more = f" and {len(left) - TASKS_NAMED:,} more" if len(left) > TASKS_NAMED else ""
        yield ""
        named = ", ".join(left[:TASKS_NAMED]) + more
        yield f"Tasks of a dead process, until another process takes them over: {named}"
    elif (wait := Entries(dag, run).next_wait()) is not None:
        yield ""
        yield _wait_line(*wait, now, command, run_id)
    failures = list(failure_lines(dag, run, show_all=show_all, tracebacks=True))
    if failures:
        yield ""
        yield "Failures:"
        yield from failures


def _wait_line(at: At[Node], until: datetime, now: datetime, command: Callable[..., str], run_id: str) -> str:
    late_s = (now - until).total_seconds()
    if late_s < OVERDUE_S:
        return f"The run waits {until_text(until, now)}, at {one_line(at.name)}."
    return (
        f"{one_line(at.name)} has been due for {duration_text(late_s)}, so the run waits for a process: "
        f"{command('serve')}, or for this run alone: {command('resume', run_id)}"
    )


def failed_lines(dag: DAG, run: Run, now: datetime, *, show_all: bool) -> Iterator[str]:
    """Return the output of `aiorch show --failed`: the run, and the failed tasks in groups."""
    yield headline(dag, run, now)
    yield from list(failure_lines(dag, run, show_all=show_all, tracebacks=True)) or ["No task of the run has failed."]


def _cells(row: Row) -> tuple[str, ...]:
    if row.state is None:
        return row.name, "", "", "", row.detail
    detail = counts_text(row.counts) if row.counts else row.detail
    if row.state.result_in is not None:
        detail += " → a large result"
    elif row.state.result is not NO_RESULT:
        detail += f" → {_beginning(row.state.result)}"
    return (
        row.guides + one_line(row.name),
        row.state.status,
        "" if row.duration_s is None else duration_text(row.duration_s),
        str(row.state.attempt or ""),
        detail,
    )


def _beginning(encoded: msgspec.Raw) -> str:
    """Return the beginning of a JSON text, on one line."""
    return one_line(bytes(encoded)[:BYTES_SHOWN].decode(errors="ignore"))


def runs_lines(runs: Sequence[RunSummary]) -> Iterator[str]:
    """Return the table of `aiorch runs`."""
    cells = [(one_line(run.run_id), one_line(run.dag), run.status, run.created_at, run.updated_at) for run in runs]
    yield from table(("RUN", "DAG", "STATUS", "STARTED", "LAST CHANGE"), cells)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> Iterator[str]:
    """Return *rows* under *heads*, each column as wide as its widest cell, the last column cut to the screen."""
    widths = [max(width_of(row[number]) for row in (heads, *rows)) for number in range(len(heads) - 1)]
    left = None if columns is None else max(columns - sum(widths) - 2 * len(widths), LAST_COLUMNS_MIN)
    for row in (heads, *rows):
        last = row[-1] if left is None else cut(row[-1], left)
        yield "  ".join((*map(padded, row, widths), last)).rstrip()


def next_moves(run: Run, command: Callable[..., str], resume_options: Sequence[str] = ()) -> Iterator[str]:
    """Yield the next steps for a run that did not complete; *command* returns a command line."""
    run_id = run.header.run_id
    if run.header.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        yield f"Keep the completed results and continue from there: {command('resume', run_id, *resume_options)}"
        if run.header.status is RunStatus.FAILED:
            yield "With a changed definition or input, add --definition FILE, or --from STEP and --input JSON."
        yield f"Look at every node: {command('show', run_id)}"


def interrupted_runs_line(run_ids: Sequence[str], command: Callable[..., str]) -> str:
    """Name other runs that wait for a process; *command* returns a command line."""
    if len(run_ids) == 1:
        return (
            f"Another run of this store waits for a process. Continue it with: {one_line(command('resume', *run_ids))}"
        )
    named = ", ".join(one_line(run_id) for run_id in run_ids[-RUNS_NAMED:])
    if len(run_ids) > RUNS_NAMED:
        named += f" and {len(run_ids) - RUNS_NAMED:,} more"
    return (
        f"{counted(len(run_ids), 'other run')} of this store wait for a process: {named}. Continue one with "
        f"`{one_line(command('resume', run_ids[-1]))}`, all with `{command('serve')}`."
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
