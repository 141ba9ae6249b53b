"""Corner cases of the language that the fold decides, beside those of `test_levels_fold`."""

import msgspec
import pytest

from aiorch.core.run_events import CancelRequested, TaskSucceeded, TimerDue
from aiorch.model.failure import Failure
from tests.definitions import chain, only_problem, parallel, task
from tests.unit.test_levels_fold import BAD, BEGIN, Driven, finally_of

AGAIN = {"max_attempts": 3, "initial_delay": 0}
WAIT = {"type": "Wait", "seconds": "${ input.n }"}


def test_a_retry_does_not_evaluate_when_again() -> None:
    """The condition reads a large result, which the fold asks for when the step begins, and not for its retry."""
    run = Driven(chain(A=task(), B=task(when="len(results.A) > 0", retry=AGAIN))).start()
    run.values["kept"] = msgspec.json.encode("x")
    run.fold(TaskSucceeded("A", 1, result_in="kept"))
    asked = len(run.asked)
    assert asked > 0
    run.fail("B")
    assert (run["B"].attempt, run["B"].status, len(run.asked)) == (2, "Starting", asked)


def test_an_error_in_the_seconds_of_a_wait_is_caught_by_the_wait() -> None:
    """The step fails with `ExpressionError` and without an attempt, and its own handler follows."""
    caught = {**WAIT, "catch": [{"on": ["ExpressionError"], "result": 0}]}
    run = Driven(chain(A=caught, B=task()), {"n": "soon"}).start()
    error = run["A"].error
    assert error is not None
    assert (error.type, run["A"].attempt, run["A"].execution_id) == ("ExpressionError", 0, None)
    assert (run["A"].caught, run["B"].status) == (True, "Starting")


@pytest.mark.parametrize("n", [-1, 366 * 86400 + 1, True, None, "60"])
def test_a_wait_of_wrong_seconds_fails(n: object) -> None:
    """`seconds` is a number from 0 to 366 days."""
    run = Driven(chain(A=WAIT), {"n": n}).start()
    assert run["A"].error is not None
    assert (run.status, run["A"].error.type) == ("Failed", "ExpressionError")


@pytest.mark.parametrize("until", ["2026-01-02T00:00:00", "2026-01-02", "tomorrow", 5])
def test_a_wait_until_a_time_without_a_zone_fails(until: object) -> None:
    """A time of day without a zone means another moment at each place."""
    run = Driven(chain(A={"type": "Wait", "until": "${ input.until }"}), {"until": until}).start()
    assert run["A"].error is not None
    assert (run.status, run["A"].error.type) == ("Failed", "ExpressionError")


def test_a_branch_that_ends_with_a_skipped_step_has_no_result() -> None:
    """The result of a chain is that of the step at which its token left, null if that was skipped."""
    fan = parallel(chain(X=task(when="false")), chain(Y={"type": "Pass", "result": 1}))
    run = Driven(chain(Fan=fan, B={"type": "Pass", "result": "${ results.Fan }"})).start()
    assert run.result("B") == [None, 1]


def test_a_graph_that_waits_fails_with_the_first_failure_of_the_definition() -> None:
    """Neither the time of the failures nor the order of their events decides."""
    steps = {name: {key: value for key, value in task().items() if key != "end"} for name in "AB"}
    run = Driven({"steps": steps, "on_failure": "wait"}).start().fail("B")
    assert run.status == "Running"
    run.fail("A", Failure.of("OSError", "later"))
    assert run.run.header.error is not None
    assert (run.status, run.run.header.error.message) == ("Failed", "node 'A' failed: later")


def test_a_success_of_a_stopped_step_is_recorded_and_moves_no_token() -> None:
    """The handler of the `Parallel` follows; the step behind the success does not begin."""
    fan = parallel(chain("X"), chain("Y", "Z"), next="End", catch=[{"result": 0}])
    run = Driven({"start": "Fan", "steps": {"Fan": fan, "End": task()}}).start().fail("X").succeed("Y", 1)
    assert run.statuses == "Fan:F X:F Y:C Z:K End:S"


def test_retries_come_before_handlers() -> None:
    """The handler follows the last attempt alone."""
    steps = {"A": task("B", retry=AGAIN, catch=[{"next": "H"}]), "B": task(), "H": task()}
    run = Driven({"start": "A", "steps": steps}).start().fail("A").fail("A")
    assert (run["A"].attempt, run["H"].status) == (3, "New")
    assert run.fail("A").statuses == "A:F B:K H:S"


def test_an_error_of_an_expression_is_not_retried() -> None:
    """A policy for all failures leaves it out, since the next attempt would read the same values."""
    run = Driven(chain(A=task(retry=AGAIN))).start().fail("A", Failure.of("ExpressionError", "no such key"))
    assert (run.status, run["A"].attempt) == ("Failed", 1)
    assert run.fold(TaskSucceeded("A", 1)).changes.is_empty, "a later event of the platform does not complete it"


def test_an_error_in_the_output_is_the_outcome_that_finally_reads() -> None:
    """The output is computed when the main level has ended, before `finally` begins."""
    level = finally_of(Z={"type": "Pass", "result": "${ run.outcome + ' ' + run.error.type }"})
    run = Driven({**level, "output": "${ results.A.rows }"}).start().succeed("A", {})
    assert (run.status, run.result("Z")) == ("Failed", "Failed ExpressionError")


def test_a_failure_of_finally_leaves_the_error_of_a_failed_run_alone() -> None:
    """The first failure is the one to mend."""
    run = Driven(finally_of(Z=task())).start().fail("A").fail("Z", Failure.of("OSError", "not cleaned"))
    assert run.run.header.error is not None
    assert (run.status, run.run.header.error.type) == ("Failed", BAD.type)


def test_failures_in_finally_are_retried_and_caught() -> None:
    """The steps of `finally` are an exception to the rule that a failing run neither retries nor catches."""
    run = Driven(finally_of(Z=task(retry={**AGAIN, "max_attempts": 2}, catch=[{"result": 0}]), Y=task())).start()
    run.fail("A").fail("Z")
    assert (run.status, run["Z"].attempt) == ("Failing", 2)
    run.fail("Z")
    assert (run["Z"].caught, run["Y"].status) == (True, "Starting")


def test_a_wait_has_no_owner_and_no_execution() -> None:
    """The committing process posts its timer, any other one may, and a cancel ends it at once."""
    run = Driven(chain(A={"type": "Wait", "seconds": 60})).start()
    assert (run["A"].by, run["A"].execution_id, run["A"].due_at) == (None, None, BEGIN.replace(minute=1))
    run.fold(CancelRequested())
    assert run.fold(TimerDue("A"), after_s=60).changes.is_empty
    assert run.status == "Cancelled"


def test_a_wait_has_no_timeout() -> None:
    """It has a time of its own."""
    assert "timeout" in only_problem(chain(A={"type": "Wait", "seconds": 60, "timeout": 5})).message
