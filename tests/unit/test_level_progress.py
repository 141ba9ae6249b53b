"""Rows, log and summaries of runs whose ways part and join, that wait, and whose failures are caught."""

from datetime import datetime, timedelta
from io import StringIO

import pytest

from aiorch.core.run_events import CancelRequested, TimerDue
from aiorch.model.dag import DAG
from aiorch.model.run import Run
from aiorch.views.failures import failure_lines
from aiorch.views.live import LiveView
from aiorch.views.progress import ProgressLog, Row, Rows
from aiorch.views.report import headline, show_lines
from tests.definitions import chain, parallel, task
from tests.unit.run_examples import DAILY, TRIES
from tests.unit.test_level_pictures import DECLINED, orders, shipped
from tests.unit.test_levels_fold import BEGIN, Driven
from tests.unit.test_progress import written

DUE = BEGIN + timedelta(days=3, seconds=63)


def rows_of(run: Driven, after_s: float = 0, rows_max: int = 40) -> dict[str, Row]:
    now = run.now + timedelta(seconds=after_s)
    return {row.name: row for row in Rows(run.dag).of(run.run, now=now, rows_max=rows_max)}


def details(run: Driven, after_s: float = 0) -> dict[str, str]:
    return {name: row.detail for name, row in rows_of(run, after_s).items()}


def shown(run: Driven, now: datetime) -> list[str]:
    return list(show_lines(run.dag, run.run, now, command=written))


def live_lines(dag: DAG, run: Run, now: datetime, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "40")
    stream = StringIO()
    view = LiveView(stream, dag)
    view._console.print(view.picture(run, now))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_rows_stand_in_the_order_of_the_level_and_finally_is_a_part() -> None:
    """A step stands before all that may follow, and the steps of `finally` under a heading."""
    rows = list(rows_of(orders()).values())
    names = [row.name for row in rows]
    assert names.index("Pay") < names.index("Ask") < names.index("PayAgain") < names.index("Ship")
    assert [row.guides + row.name for row in rows[-3:]] == ["finally", "  Clean", "  Log"]
    assert rows[-3].detail == "after all other steps, however they end"
    assert rows_of(shipped())["finally"].detail == "after Completed · 2.0 s"


def test_rows_tell_decisions() -> None:
    """A choice tells where it went, a skipped step why, and a caught failure what followed."""
    found = details(shipped())
    assert found["Size"] == "on to Notify"
    assert found["Split"] == "the run took another way"
    assert found["Notify"] == "its condition is false: input.mail"
    assert details(orders())["Pay"] == "caught, on to Ask: Declined: no cover"


def test_a_step_of_a_graph_tells_the_need_that_failed() -> None:
    """A step that is skipped for a need names the need; one that is halted with the graph names nothing."""
    run = Driven(DAILY | {"on_failure": "wait"}, {"export": False}).start().succeed("Orders").fail("Rates")
    found = details(run)
    assert found["Convert"] == "needs Rates, which has failed"
    assert found["Score"] == "needs Convert, which was skipped"


def test_steps_that_a_failure_or_a_cancel_has_skipped_show_their_work() -> None:
    """Where the run ended before a step, no way was chosen."""
    run = Driven(chain("A", "B")).start().fold(CancelRequested())
    assert details(run)["B"] == "Function t:work"


def test_a_step_to_which_one_way_still_led_took_no_other_way() -> None:
    """A cancel during the wait skips `Ship`, to which the way over `PayAgain` led, and `Refused`, to which none did."""
    found = details(orders().fold(CancelRequested()))
    assert (found["Ship"], found["Split"]) == ("Function t:work", "Function t:work")
    assert found["Release"] == "Function t:work"


def test_a_wait_tells_its_end_and_the_rest_of_the_time() -> None:
    """The time in UTC, and how long that is from now; a wait whose time has come is due."""
    assert details(orders())["Pause"] == "waits until 2026-01-04 00:01:03 UTC (in 3 d 0 h)"
    assert details(orders(), 2.5 * 86400)["Pause"] == "waits until 2026-01-04 00:01:03 UTC (in 12 h 0 min)"
    assert details(orders(), 3 * 86400)["Pause"] == "waits until 2026-01-04 00:01:03 UTC (due)"


def test_a_time_limit_of_a_node_is_no_wait() -> None:
    """A `Parallel` with a timeout tells how long its branches may still take, and the run does not wait for it."""
    run = Driven(chain(Fan=parallel(chain("A"), chain("B"), timeout=3600))).start()
    assert details(run, 600)["Fan"] == "2 branches, at most until 2026-01-01 01:00 UTC (in 50 min 0 s)"
    assert not any("waits" in line for line in shown(run, run.now))


def test_tries_of_a_node_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries a node tells when the next one begins; then its rows are those of the present try."""
    run = Driven(TRIES).start().fail("A").stop("Left")
    assert details(run, 10)["Fan"].startswith("again in 50 s: BranchFailed: 1 of 2 branches failed")
    assert f"The run waits until {run.now + timedelta(seconds=60):%Y-%m-%d %H:%M} UTC (in 1 min 0 s), at Fan." in shown(
        run, run.now
    )
    run.fold(TimerDue("Fan"), after_s=60)
    rows = rows_of(run)
    assert rows["Fan"].detail == "2 branches, try 2"
    assert (rows["A"].state is run["Fan#2.A"], rows["A"].look) == (True, "Starting")
    assert headline(run.dag, run.run, run.now) == "Run r Running after 1 min 0 s: 2 New, 2 Starting"
    assert "▶ Fan Running #2 0 ms 2 branches, try 2" in live_lines(run.dag, run.run, run.now, monkeypatch)


def test_caught_failures_do_not_count_as_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headline counts them apart, no summary lists them, and the live view says so."""
    run = orders()
    assert headline(run.dag, run.run, run.now).endswith(": 7 New, 2 Completed, 1 failure caught")
    assert list(failure_lines(run.dag, run.run)) == []
    lines = live_lines(run.dag, run.run, run.now, monkeypatch)
    assert "3 of 10 tasks, 1 failure caught, waits until 2026-01-04 00:01:03 UTC (in 3 d 0 h)" in lines[0]
    assert "✘ Pay Failed 0 ms caught, on to Ask: Declined: no cover" in lines


def test_failures_inside_of_a_caught_node_are_no_failures_of_the_run() -> None:
    """A run that went on after a failed node lists none of the failures inside, of no try."""
    run = Driven(TRIES).start().fail("A").stop("Left").fold(TimerDue("Fan"), after_s=60)
    run.fail("Fan#2.A").stop("Fan#2.Left").succeed("End")
    assert headline(run.dag, run.run, run.now).endswith("1 Completed, 1 failure caught, 1 Cancelled, 1 Skipped")
    assert list(failure_lines(run.dag, run.run)) == []
    assert details(run)["A"] == "caught by Fan: ValueError: no luck"


def test_a_run_that_only_waits_says_so() -> None:
    """While the time has not come nothing is wrong; a minute after it, a process is missing, and commands are named."""
    run = orders()
    assert shown(run, DUE - timedelta(days=1))[-1] == (
        "The run waits until 2026-01-04 00:01:03 UTC (in 1 d 0 h), at Pause."
    )
    assert shown(run, DUE + timedelta(minutes=5))[-1] == (
        "Pause has been due for 5 min 0 s, so the run waits for a process: aiorch serve, or for this run alone: "
        "aiorch resume r"
    )


def test_a_run_that_works_beside_a_wait_does_not_wait() -> None:
    """With a running task, the run as a whole waits for nothing but the task."""
    pause = {"type": "Wait", "seconds": 60, "end": True}
    run = Driven(chain(Fan=parallel(chain(Pause=pause), chain("A")))).start()
    assert not any(line.startswith("The run waits") for line in shown(run, run.now))


def test_the_log_tells_decisions_once() -> None:
    """Waits, caught failures, choices and conditions have a line; steps on ways not taken have none."""
    run = Driven(TRIES).start()
    log = ProgressLog(run.dag)

    def told() -> list[str]:
        return [line.partition(" ")[2] for line in log.lines(run.run, run.now)]

    told()
    run.fail("A").stop("Left")
    why = "BranchFailed: 1 of 2 branches failed, the first at node 'A': ValueError: no luck"
    assert f"Fan Retrying (try 1): again in 1 min 0 s: {why}" in told()
    run.fold(TimerDue("Fan"), after_s=60)
    assert told() == ["Fan Running (try 2)", "Fan#2.Left Running (attempt 1)", "Fan#2.A Running (attempt 1)"]

    run = orders()
    log = ProgressLog(run.dag)
    assert told()[-1] == "Pause waits until 2026-01-04 00:01:03 UTC (in 3 d 0 h)"
    assert told() == []
    run.fold(TimerDue("Pause"), after_s=3 * 86400)
    run.succeed("PayAgain").succeed("Ship")
    lines = told()
    assert "Size Completed (0 ms): on to Notify" in lines
    assert "Notify Skipped: its condition is false: input.mail" in lines
    assert not any(line.startswith(("Split", "Release", "Refused")) for line in lines)
    again = Driven({"start": "Pay", "steps": {"Pay": task("X", catch=[{"next": "H"}]), "X": task("H"), "H": task()}})
    log, run = ProgressLog(again.dag), again.start().fail("Pay", DECLINED)
    assert "Pay Failed (attempt 1, 0 ms): caught, on to H: Declined: no cover" in told()


def test_a_folded_node_without_tasks_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no space for the branches of a node, and no task inside to be counted, its words remain."""
    branches = [chain(**{f"P{number}": {"type": "Pass"}}) for number in range(50)]
    run = Driven(chain(A=task(), Fan=parallel(*branches))).start()
    lines = live_lines(run.dag, run.run, run.now, monkeypatch)
    assert lines[2:] == ["· Fan New 50 branches"]
