"""The outcome of a failed case as lines of plain text: the differences, and the way that the run took. Pure."""

from collections.abc import Iterator, Sequence

import msgspec

from aiorch.errors import Problem, counted
from aiorch.model.dag import DAG
from aiorch.testing.cases.records import Outcome
from aiorch.views.escaping import one_line
from aiorch.views.outline import duration_text
from aiorch.views.report import table

STEPS_SHOWN = 50
"""Steps of a way that are listed; the rest is counted."""

COLUMNS = 120


def outcome_lines(dag: DAG, outcome: Outcome, problems: Sequence[Problem]) -> list[str]:
    """Return the problems of a case, and the way that its run took."""
    lines = [f"  {one_line(str(problem))}" for problem in problems]
    if not outcome.way:
        return [*lines, "  no step began"]
    rows = list(_rows(dag, outcome))
    lines.append(f"  the way of the run, {outcome.status} after {duration_text(outcome.seconds)}:")
    heads = ("STEP", "STATUS", "BEGAN AFTER", "CALLS", "DETAIL")
    lines += [f"    {line}" for line in table(heads, rows, COLUMNS)]
    if left := len(outcome.way) - len(rows):
        lines.append(f"    … and {counted(left, 'more step')}")
    return lines


def _rows(dag: DAG, outcome: Outcome) -> Iterator[tuple[str, ...]]:
    for name in outcome.way[:STEPS_SHOWN]:
        state, node = outcome.steps[name], dag.node_of(name)
        calls = len([call for call in outcome.calls.get(node.name, ()) if call.entry == name])
        detail = ""
        if state.error is not None:
            detail = state.error.text
        elif name in outcome.results:
            detail = f"→ {msgspec.json.encode(outcome.results[name]).decode()}"
        yield one_line(name), state.status, duration_text(outcome.began[name]), str(calls or ""), one_line(detail)
