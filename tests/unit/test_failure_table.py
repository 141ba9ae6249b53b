"""Tasks and a `Parallel` that failed, were lost, timed out or were cancelled; caught by type, by all, or not."""

from typing import Any, NamedTuple

import pytest

from aiorch.core.run_events import CancelRequested, TaskFailed, TaskLost, TimerDue
from aiorch.model.failure import Failure
from aiorch.testing import Answer, Case, run_case
from tests.definitions import chain, parallel, task
from tests.unit.test_levels_fold import Driven


class Row(NamedTuple):
    what: str
    how: str
    caught: str
    status: str
    error: str | None
    """The type of the failure of the step that is described."""

    others: str
    """The statuses of the step after it, of the handler, and of the run."""


TABLE = [
    Row("task", "failed", "by type", "Failed, caught", "ValueError", "Skipped, Completed, Completed"),
    Row("task", "failed", "by all", "Failed, caught", "ValueError", "Skipped, Completed, Completed"),
    Row("task", "failed", "not", "Failed", "ValueError", "Skipped, Skipped, Failed"),
    Row("task", "lost", "by type", "Failed, caught", "Lost", "Skipped, Completed, Completed"),
    Row("task", "lost", "by all", "Failed, caught", "Lost", "Skipped, Completed, Completed"),
    Row("task", "lost", "not", "Failed", "Lost", "Skipped, Skipped, Failed"),
    Row("task", "timed out", "by type", "Failed, caught", "Timeout", "Skipped, Completed, Completed"),
    Row("task", "timed out", "by all", "Failed, caught", "Timeout", "Skipped, Completed, Completed"),
    Row("task", "timed out", "not", "Failed", "Timeout", "Skipped, Skipped, Failed"),
    Row("task", "cancelled", "by type", "Cancelled", None, "Skipped, Skipped, Cancelled"),
    Row("task", "cancelled", "by all", "Cancelled", None, "Skipped, Skipped, Cancelled"),
    Row("task", "cancelled", "not", "Cancelled", None, "Skipped, Skipped, Cancelled"),
    Row("Parallel", "failed", "by type", "Failed, caught", "BranchFailed", "Skipped, Completed, Completed"),
    Row("Parallel", "failed", "by all", "Failed, caught", "BranchFailed", "Skipped, Completed, Completed"),
    Row("Parallel", "failed", "not", "Failed", "BranchFailed", "Skipped, Skipped, Failed"),
    Row("Parallel", "lost", "by type", "Failed, caught", "BranchFailed", "Skipped, Completed, Completed"),
    Row("Parallel", "lost", "by all", "Failed, caught", "BranchFailed", "Skipped, Completed, Completed"),
    Row("Parallel", "lost", "not", "Failed", "BranchFailed", "Skipped, Skipped, Failed"),
    Row("Parallel", "timed out", "by type", "Failed, caught", "Timeout", "Skipped, Completed, Completed"),
    Row("Parallel", "timed out", "by all", "Failed, caught", "Timeout", "Skipped, Completed, Completed"),
    Row("Parallel", "timed out", "not", "Failed", "Timeout", "Skipped, Skipped, Failed"),
    Row("Parallel", "cancelled", "by type", "Cancelled", None, "Skipped, Skipped, Cancelled"),
    Row("Parallel", "cancelled", "by all", "Cancelled", None, "Skipped, Skipped, Cancelled"),
    Row("Parallel", "cancelled", "not", "Cancelled", None, "Skipped, Skipped, Cancelled"),
]

TYPES = {"failed": "ValueError", "lost": "Lost", "timed out": "Timeout", "cancelled": "ValueError"}

each_cell = pytest.mark.parametrize("row", [pytest.param(row, id="-".join(row[:3])) for row in TABLE])


def definition_of(row: Row) -> dict[str, Any]:
    """A task, or two of them in a `Parallel`; what follows; and a handler that does not follow."""
    on: dict[str, Any] = {"by type": {"on": [TYPES[row.how]]}, "by all": {}, "not": {"on": ["KeyError"]}}[row.caught]
    keys = {"catch": [{**on, "next": "Handler"}], **({"timeout": 60} if row.how == "timed out" else {})}
    inner = task(**({"on_lost": "fail"} if row.how == "lost" else {}))
    tried = parallel(chain(A=inner), chain(B=inner), **keys) if row.what == "Parallel" else {**inner, **keys}
    steps = {"Tried": {**tried, "next": "After"}, "After": task(), "Handler": {"type": "Pass", "end": True}}
    del steps["Tried"]["end"]
    return {"start": "Tried", "steps": steps}


def seen(row: Row, states: Any, run_status: str) -> Row:
    """The row that was seen."""
    tried = states["Tried"]
    others = f"{states['After'].status}, {states['Handler'].status}, {run_status}"
    error = tried.error and tried.error.type
    return Row(*row[:3], f"{tried.status}{', caught' if tried.caught else ''}", error, others)


def test_the_table_has_every_cell() -> None:
    """Each combination stands in the table once."""
    ways = {(what, how, caught) for what, how, caught, *_ in TABLE}
    assert len(ways) == len(TABLE) == 4 * 3 * 2


@each_cell
def test_failure_table_in_the_fold(row: Row) -> None:
    """Events alone decide the cell; what runs beside the failed task is stopped before the handler begins."""
    run = Driven(definition_of(row)).start()
    name = "A" if row.what == "Parallel" else "Tried"
    if row.how == "cancelled":
        run.fold(CancelRequested())
    elif row.how == "lost":
        run.fold(TaskLost(name, 1, "its process died"))
    elif row.how == "timed out" and row.what == "Parallel":
        run.fold(TimerDue("Tried"), after_s=60)
    else:
        run.fold(TaskFailed(name, 1, Failure.of(TYPES[row.how], "no luck")))
    while stopping := [each for each, state in run.run.nodes.items() if state.is_live and state.stop and state.by]:
        assert run["Handler"].status in ("New", "Skipped")
        run.stop(stopping[0])
    assert seen(row, run.run.nodes, run.status) == row


@each_cell
def test_failure_table_in_a_run(row: Row) -> None:
    """The engine comes to the same cell, in virtual time."""
    error = {"failed": "ValueError", "lost": "Lost"}.get(row.how)
    answer = Answer(error=error, after=5) if error else Answer(result=1, after=300)
    answers = {"*": Answer(result=1, after=300), "A" if row.what == "Parallel" else "Tried": answer}
    cancel_after = 30 if row.how == "cancelled" else None
    outcome = run_case(Case(definition_of(row), answers=answers, cancel_after=cancel_after))
    assert seen(row, outcome.steps, outcome.status) == row
