"""A run as lines of text: everything that happens is told, and nothing floods a terminal."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO

import msgspec
import pytest

from aiorch.documents.results import end_results
from aiorch.documents.runs import RunSummary
from aiorch.model.failure import Failure
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.views.failures import failure_lines
from aiorch.views.live import LiveView
from aiorch.views.progress import LOG_FAILURES_MAX, NOTABLE_MAX, ProgressLog, Rows, clock_text
from aiorch.views.report import headline, interrupted_runs_line, runs_lines, show_lines
from tests.unit.run_examples import STARTED, build, chain, fan, parallel, run_of, sample

NOW = STARTED + timedelta(seconds=5)
TIME = clock_text(STARTED + timedelta(seconds=1))
END_TIME = clock_text(STARTED + timedelta(seconds=3))


def names(rows):
    return [row.guides + row.name for row in rows]


def replaced(run, name, **changes):
    run.nodes[name] = msgspec.structs.replace(run.nodes[name], **changes)


def written(*words: str) -> str:
    """Write a command as the command line does."""
    return " ".join(("aiorch", *words))


def test_all_nodes_have_rows_where_they_fit():
    """A small DAG is shown whole, with guides that tell branches and their steps apart."""
    rows = Rows(sample()).of(run_of(sample()), now=NOW, rows_max=20)
    assert names(rows) == ["Init", "Par", "├ A1", "│ A2", "└ Inner", "  ├ C1", "  └ C2", "End"]


@pytest.mark.parametrize("rows_max", [3, 4, 6, 7, 8])
def test_rows_never_exceed_the_terminal(rows_max):
    """However small the terminal is, there are no more rows than it has."""
    run = run_of(sample(), {"Init": TaskStatus.COMPLETED, "Par": TaskStatus.RUNNING, "A1": TaskStatus.RUNNING})
    assert len(Rows(sample()).of(run, now=NOW, rows_max=rows_max)) <= rows_max


def test_parallel_at_work_is_unfolded_before_one_that_has_ended():
    """With room for one of two, the `Parallel` that runs shows its nodes and the other one counts."""
    definition = chain("P1", "P2")
    for name, branch in (("P1", "A"), ("P2", "B")):
        step = {"type": "Parallel", "branches": [chain(f"{branch}1"), chain(f"{branch}2")]}
        definition["steps"][name] = step | ({"next": "P2"} if name == "P1" else {"end": True})
    dag = build(definition)
    done = dict.fromkeys(["P1", "A1", "A2"], TaskStatus.COMPLETED)
    rows = Rows(dag).of(run_of(dag, done | {"P2": TaskStatus.RUNNING}), now=NOW, rows_max=5)
    assert names(rows) == ["P1", "P2", "├ B1", "└ B2"]
    assert rows[0].counts == Counter({TaskStatus.COMPLETED: 2})


def test_ten_thousand_branches_are_one_row_and_what_is_notable():
    """A fan-out of 10,000 is one row of counts, and below it only what failed, is retried or runs."""
    dag = fan(10_000)
    run = run_of(dag, {f"B{index}": TaskStatus.COMPLETED for index in range(7_000)} | {"Fan": TaskStatus.RUNNING})
    for index in range(7_000, 7_050):
        replaced(run, f"B{index}", status=TaskStatus.RUNNING, started_at=STARTED)
    replaced(run, "B9999", status=TaskStatus.FAILED, error=Failure("OSError", "gone"))
    rows = Rows(dag).of(run, now=NOW, rows_max=40)
    assert rows[0].counts == Counter(
        {TaskStatus.COMPLETED: 7_000, TaskStatus.RUNNING: 50, TaskStatus.FAILED: 1, TaskStatus.NEW: 2_949}
    )
    assert len(rows) == 1 + NOTABLE_MAX
    assert (rows[1].name, rows[1].detail) == ("B9999", "OSError: gone")


def test_long_chain_shows_the_part_at_work():
    """Of a chain longer than the terminal the rows around the node at work are shown, with counts of the others."""
    steps = [f"S{index}" for index in range(100)]
    dag = build(chain(*steps))
    statuses = dict.fromkeys(steps[:60], TaskStatus.COMPLETED) | {"S60": TaskStatus.RUNNING}
    rows = Rows(dag).of(run_of(dag, statuses), now=NOW, rows_max=12)
    assert len(rows) == 12
    assert "S60" in names(rows)
    assert (rows[0].name, rows[0].detail) == ("… 57 before", "57 Completed")
    assert (rows[-1].name, rows[-1].detail) == ("… 33 after", "33 New")


def test_log_tells_each_change_once_and_in_order():
    """Each status of each node is one line, a `Parallel` ends after what is in it, and a second look adds nothing."""
    dag = build(parallel("Par", [chain("A"), chain("B")]))
    log = ProgressLog(dag)
    assert log.lines(run_of(dag), NOW) == []
    run = run_of(dag, {"Par": TaskStatus.RUNNING, "A": TaskStatus.STARTING, "B": TaskStatus.STARTING})
    assert log.lines(run, NOW) == [
        f"{TIME} Par Running",
        f"{TIME} A Running (attempt 1)",
        f"{TIME} B Running (attempt 1)",
    ]
    run = run_of(dag, {"Par": TaskStatus.RUNNING, "A": TaskStatus.RUNNING, "B": TaskStatus.RUNNING})
    assert log.lines(run, NOW) == []
    run = run_of(dag, dict.fromkeys(["Par", "A", "B"], TaskStatus.COMPLETED))
    assert log.lines(run, NOW) == [
        f"{END_TIME} A Completed (attempt 1, 2.0 s)",
        f"{END_TIME} B Completed (attempt 1, 2.0 s)",
        f"{END_TIME} Par Completed (2.0 s)",
    ]
    assert log.lines(run, NOW) == []


def test_log_tells_why_and_when_a_task_is_tried_again():
    """Each failed attempt has its line with the reason and the delay, and so has the last one."""
    dag = build(chain("A"))
    log = ProgressLog(dag)
    failed = Failure("OSError", "busy", attempt=1, at=STARTED + timedelta(seconds=3))
    run = run_of(dag, {"A": TaskStatus.RETRYING})
    replaced(run, "A", error=failed, retry_at=STARTED + timedelta(seconds=5))
    assert log.lines(run, NOW) == [f"{END_TIME} A Retrying (attempt 1): again in 2.0 s: OSError: busy"]
    replaced(run, "A", attempt=2)
    assert log.lines(run, NOW) == [f"{END_TIME} A Retrying (attempt 2): again in 2.0 s: OSError: busy"]
    run = run_of(dag, {"A": TaskStatus.FAILED}, A={"attempt": 3})
    assert log.lines(run, NOW) == [f"{END_TIME} A Failed (attempt 3, 2.0 s): ValueError: no number: 'n/a'"]


def test_log_counts_a_wide_fan_out():
    """A thousand branches make a line of counts every two seconds and one at the end, and failures are capped."""
    dag = fan(1_000)
    log = ProgressLog(dag)
    run = run_of(dag, {"Fan": TaskStatus.RUNNING} | dict.fromkeys([f"B{n}" for n in range(500)], TaskStatus.COMPLETED))
    assert log.lines(run, NOW) == [f"{TIME} Fan Running", f"{clock_text(NOW)} Fan: 500 New, 500 Completed"]
    replaced(run, "B500", status=TaskStatus.COMPLETED)
    assert log.lines(run, NOW + timedelta(seconds=1)) == []
    later = NOW + timedelta(seconds=2)
    assert log.lines(run, later) == [f"{clock_text(later)} Fan: 499 New, 501 Completed"]
    over = run_of(dag, {"Fan": TaskStatus.FAILED} | dict.fromkeys([f"B{n}" for n in range(1_000)], TaskStatus.FAILED))
    lines = log.lines(over, later)
    assert len(lines) == LOG_FAILURES_MAX + 2
    assert lines[-1] == f"{clock_text(later)} Fan: 1,000 Failed"
    assert log.lines(over, later + timedelta(seconds=9)) == []


def test_text_from_outside_cannot_act_on_the_terminal():
    """Every line about a run shows escape sequences and line breaks in ids, names and failures as plain text."""
    hostile = "\x1b[31m\n\x07\u202e"
    name = "A\u202e\u2028"  # a definition lets no name hold more than that
    dag = build(chain(name))
    error = Failure(*(f"{field}{hostile}" for field in ("type", "message", "cause", "where")))
    run = run_of(dag, {name: TaskStatus.FAILED}, RunStatus.FAILED, **{name: {"error": error}})
    run.header = msgspec.structs.replace(run.header, run_id=f"r{hostile}", resumed_from=f"r{hostile}")
    summary = RunSummary(f"r{hostile}", f"dag{hostile}", RunStatus.FAILED, "then", "now")
    printed = [
        *ProgressLog(dag).lines(run, NOW),
        *failure_lines(dag, run),
        *show_lines(dag, run, NOW, show_all=True, command=written),
        *runs_lines([summary]),
        interrupted_runs_line([f"r{hostile}", f"s{hostile}"], written),
    ]
    assert all(line.isprintable() for line in printed)
    assert "type\\u001b[31m" in "".join(printed)


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24), (40, 8), (30, 5)])
def test_live_view_fits_the_terminal(width, height, monkeypatch):
    """What is redrawn is never higher or wider than the terminal, so that redrawing stays in its place."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", str(height))
    dag = sample()
    stream = StringIO()
    view = LiveView(stream, dag)
    statuses = {"Init": TaskStatus.COMPLETED, "Par": TaskStatus.RUNNING, "A1": TaskStatus.FAILED}
    view._console.print(view.picture(run_of(dag, statuses), NOW))
    lines = stream.getvalue().splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("sample  r1")


def test_live_view_shows_status_attempt_duration_and_reason(monkeypatch):
    """One look tells for each node what it is doing, for how long, in which attempt, and why it failed."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    dag = build(parallel("Par", [chain("A"), chain("B")]))
    run = run_of(dag, {"Par": TaskStatus.RUNNING, "A": TaskStatus.RUNNING, "B": TaskStatus.FAILED}, A={"attempt": 3})
    stream = StringIO()
    view = LiveView(stream, dag)
    view._console.print(view.picture(run, NOW))
    headline_, par, a, b = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert headline_ == "sample r1 Running 5.0 s 1 of 2 tasks"
    assert par == "▶ Par Running 4.0 s 2 branches"
    assert a == "├ ▶ A Running #3 4.0 s Function work"
    assert b == "└ ✘ B Failed 2.0 s ValueError: no number: 'n/a'"


def test_summary_names_every_failure_with_its_cause():
    """The end of a failed run says how many tasks came to what, and for each failure type, message and cause."""
    dag = sample()
    statuses = {"Init": TaskStatus.COMPLETED, "Par": TaskStatus.FAILED, "A1": TaskStatus.FAILED}
    run = run_of(dag, statuses, RunStatus.FAILED)
    assert headline(dag, run, NOW) == "Run r1 Failed after 10 s: 4 New, 1 Completed, 1 Failed"
    assert list(failure_lines(dag, run)) == [
        "  A1 (attempt 1): ValueError: no number: 'n/a'",
        "    caused by: row 17",
    ]


def test_summary_tells_why_a_run_failed_without_a_failed_task():
    """A run that timed out has no failed task: its own error is told."""
    dag = sample()
    run = run_of(dag, {}, RunStatus.FAILED)
    run.header = msgspec.structs.replace(run.header, error=Failure("Timeout", "took longer than 3 s"))
    assert list(failure_lines(dag, run)) == ["  sample: Timeout: took longer than 3 s"]


def ended(dag, results):
    return end_results(dag, run_of(dag, dict.fromkeys(dag.all_nodes, TaskStatus.COMPLETED)), results)


def test_end_results_are_those_of_the_last_tasks():
    """A DAG that ends with a task comes to its result; one that ends with a `Parallel` to those of its last tasks."""
    results = {"Init": 1, "End": {"n": 2}, "A": 3, "C": 5}
    assert ended(sample(), results) == {"n": 2}
    nested = build(parallel("Par", [chain("A"), parallel("In", [chain("B", "C"), chain("D")])]))
    assert ended(nested, results) == {"A": 3, "C": 5}
    assert ended(build(chain("Nothing")), results) is None


def test_show_folds_what_is_wide_unless_all_is_wanted():
    """`aiorch show` counts a wide `Parallel`; with --all every branch has its line."""
    dag = fan(300)
    run = run_of(dag, {"Fan": TaskStatus.RUNNING})
    assert sum(" New" in line for line in show_lines(dag, run, NOW, show_all=False, command=written)) == 2
    assert sum("B299" in line for line in show_lines(dag, run, NOW, show_all=True, command=written)) == 1


def test_show_names_what_a_dead_process_has_left():
    """Only tasks that something is owed to, and whose process is among the dead, are named; many are counted."""
    tasks = [f"B{number}" for number in range(7)]
    run = run_of(fan(7), {"Fan": TaskStatus.RUNNING} | dict.fromkeys(tasks, TaskStatus.RUNNING))
    for name in tasks:
        replaced(run, name, by="alive" if name == "B0" else "dead")
        run.active[name] = None
    shown = list(show_lines(fan(7), run, NOW, show_all=False, command=written, dead=frozenset({"dead"})))
    assert shown[-1].endswith("takes them over: B1, B2, B3, B4, B5 and 1 more")
    assert not any("gone" in line for line in show_lines(fan(7), run, NOW, show_all=False, command=written))


def test_show_names_the_commands_for_a_run_without_a_living_process():
    """A run that only dead processes owned waits for a process, and so does a run that was given back."""
    for by in ("dead", None):
        run = run_of(fan(2), {"Fan": TaskStatus.RUNNING, "B0": TaskStatus.RETRYING, "B1": TaskStatus.COMPLETED})
        error = Failure("Interrupted", "its process was stopped before it had ended")
        replaced(run, "B0", by=by, retry_at=NOW - timedelta(seconds=5), error=error)
        run.active["B0"] = None
        shown = list(show_lines(fan(2), run, NOW, command=written, dead=frozenset({"dead"})))
        assert "The run waits for a process: aiorch serve, or for this run alone: aiorch resume r1" in shown
        assert any(f"{'waits for a process' if by is None else 'due'}: Interrupted" in line for line in shown)


def test_the_reason_of_a_task_that_waits_is_told_once():
    """The log has a line for each new reason why a call has not started, and one when the call runs."""
    run = run_of(build(chain("A")), {"A": TaskStatus.STARTING})
    log = ProgressLog(build(chain("A")))
    replaced(run, "A", attempt=1, waits_because="no connection")
    assert [line.partition(" ")[2] for line in log.lines(run, NOW)] == ["A waits (attempt 1): no connection"]
    replaced(run, "A", launches=2)
    assert log.lines(run, NOW) == []
    replaced(run, "A", status=TaskStatus.RUNNING, waits_because=None)
    assert [line.partition(" ")[2] for line in log.lines(run, NOW)] == ["A Running (attempt 1)"]


def test_runs_are_a_table():
    """Columns are as wide as their widest cell, so that a list can be read and cut by other tools."""
    created = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    lines = list(runs_lines([RunSummary("a-long-run-id", "etl", "Completed", created, created)]))
    assert [line.index("etl") if "etl" in line else line.index("DAG") for line in lines] == [15, 15]
