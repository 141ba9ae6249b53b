"""Cases run through the real engine: answers of every sort, virtual time, and each part of an expectation."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aiorch import Failure, RunStatus, TaskContext, UnresolvedFunctionError
from aiorch.client import build
from aiorch.core.draft import At, Draft
from aiorch.core.kind import NodeKind
from aiorch.errors import DefinitionError
from aiorch.model.dag import Node
from aiorch.model.status import TaskStatus
from aiorch.testing import Answer, Case, CaseFailedError, Expectation, Outcome, in_virtual_time, load_cases, run_case
from tests.definitions import call, chain, job, parallel, task
from tests.documentation import REPOSITORY

ORDERS = chain(
    Load=call(parameters={"table": "orders", "limit": 2}),
    Both=parallel(chain(Note={"type": "Pass", "result": [1, {"a": 2}]}), chain(Count=job())),
    Ship=task(),
)
ANSWERS = {"Load": Answer(result={"rows": [1, 2]}), "Count": Answer(result=2), "Ship": Answer(result={"sent": 2})}


def run(definition: Any = ORDERS, expect: dict[str, Any] | None = None, **case: Any) -> Outcome:
    expected = None if expect is None else Expectation(**expect)
    return run_case(Case(definition, **{"answers": ANSWERS, **case}, expect=expected))


def problems(definition: Any = ORDERS, expect: dict[str, Any] | None = None, **case: Any) -> list[str]:
    with pytest.raises(CaseFailedError) as failed:
        run(definition, expect, **case)
    return [str(problem) for problem in failed.value.problems]


# -- answers ---------------------------------------------------------------------------------------------------------


def test_an_outcome_has_all_facts_of_the_run() -> None:
    """Status, output, way, entries, results and calls of tasks of every kind of target."""
    outcome = run(input={"order": 17})
    assert (outcome.status, outcome.output, outcome.error) == (RunStatus.COMPLETED, {"sent": 2}, None)
    assert outcome.way == ("Load", "Both", "Note", "Count", "Ship")
    assert {name: state.status for name, state in outcome.steps.items()} == dict.fromkeys(outcome.way, "Completed")
    assert outcome.results == {"Load": {"rows": [1, 2]}, "Note": [1, {"a": 2}], "Count": 2, "Ship": {"sent": 2}}
    assert outcome.calls.keys() == {"Load", "Count", "Ship"}
    assert [(made.entry, made.attempt, made.parameters) for made in outcome.calls["Load"]] == [
        ("Load", 1, {"table": "orders", "limit": 2})
    ]


@pytest.mark.parametrize(
    ("error", "on", "status", "calls"),
    [
        ("FileNotFoundError", "OSError", RunStatus.COMPLETED, 2),
        ("FileNotFoundError", "Exception", RunStatus.COMPLETED, 2),
        ("ValueError", "OSError", RunStatus.FAILED, 1),
        ("MyError", "Exception", RunStatus.FAILED, 1),
    ],
)
def test_the_error_of_an_answer_has_the_classes_of_a_built_in_exception(
    error: str, on: str, status: RunStatus, calls: int
) -> None:
    """`on` covers a scripted failure through its base classes, as it covers the failure of a function."""
    handled = task(retry={"on": [on], "max_attempts": 2, "initial_delay": 0}, catch=[{"on": [on], "result": "caught"}])
    outcome = run(chain(A=handled), answers={"A": Answer(error=error)})
    assert (outcome.status, len(outcome.calls["A"])) == (status, calls)


def test_a_list_answers_one_attempt_after_the_other() -> None:
    """Retries wait in virtual time between the answers, and the calls tell when they were made."""
    retried = chain(Load=call(retry={"max_attempts": 3, "initial_delay": 3600, "max_delay": 9999, "jitter": 0}))
    answers = {"Load": [Answer(error="OSError", after=5), Answer(error="HTTP 503"), Answer(result=1)]}
    outcome = run(retried, answers=answers)
    assert [made.at_s for made in outcome.calls["Load"]] == pytest.approx([0, 3605, 3605 + 7200])
    assert [failure.type for failure in outcome.steps["Load"].failures] == ["OSError", "HTTP 503"]
    assert outcome.output == 1


def test_a_year_of_waiting_takes_a_moment() -> None:
    """Seconds before answers pass in virtual time, and timeouts of steps and runs end the wait as in real time."""
    year = 366 * 86400
    slow = {"Load": Answer(result=1, after=year)}
    assert run(chain(Load=job(timeout=2 * year)), answers=slow).seconds == pytest.approx(year)
    timed_out = run(chain(Load=call(timeout=60)), answers=slow)
    assert (timed_out.error and timed_out.error.type, timed_out.seconds) == ("Timeout", pytest.approx(60))
    run_out = run({**chain(Load=call(timeout=2 * year)), "timeout": 3600}, answers=slow)
    assert run_out.error is not None
    assert "3600 s" in run_out.error.message
    assert run_out.steps["Load"].status == "Cancelled"


@pytest.mark.parametrize("kind", [call, job, task])
def test_a_lost_answer_follows_on_lost(kind: Any) -> None:
    """`Lost` is an answer that never comes: the step is tried again, or fails, as the definition says."""
    answers = {"Load": [Answer(error="Lost"), Answer(result=1)]}
    assert run(chain(Load=kind()), answers=answers).output == 1
    lost = run(chain(Load=kind(on_lost="fail")), answers=answers)
    assert lost.error is not None
    assert (lost.error.type, len(lost.calls["Load"])) == ("Lost", 1)


def test_a_star_answers_all_other_steps() -> None:
    """An own answer of a step goes before that of `*`."""
    outcome = run(answers={"*": Answer(result="any"), "Count": Answer(result=7)})
    assert outcome.results == {"Load": "any", "Note": [1, {"a": 2}], "Count": 7, "Ship": "any"}


def test_a_large_result_is_read_from_its_record() -> None:
    """A result that is too large for the run document is in the outcome, too."""
    large = ["x" * 100] * 50
    assert run(answers={**ANSWERS, "Ship": Answer(result=large)}, expect={"output": large}).results["Ship"] == large


def ship(context: TaskContext) -> str:
    if context.attempt == 1:
        raise OSError("no ship yet")
    return f"{len(context.results['Load']['rows'])} of {context.input}"


async def wait_and_ship(context: TaskContext) -> str:
    await asyncio.sleep(86400)
    return context.node


def with_table(context: TaskContext) -> dict[str, Any]:
    return {"table": f"orders_{context.input}"}


def test_real_functions_are_called_where_the_case_says_so() -> None:
    """Sync and async functions run in virtual time; the supplementary function changes the parameters of the call."""
    definition = chain(
        Load=call(function="cases:with_table", parameters={"table": "orders", "limit": 1}),
        Ship=task(function=ship, retry={"max_attempts": 2}),
        Wait=task(target_name="cases:wait"),
    )
    called = Answer(call=True)
    case = Case(definition, input=3, answers={"Load": ANSWERS["Load"], "Ship": called, "Wait": called})
    outcome = run_case(case, functions={"cases:with_table": with_table, "cases:wait": wait_and_ship})
    assert outcome.calls["Load"][0].parameters == {"table": "orders_3", "limit": 1}
    assert (outcome.results["Ship"], outcome.output) == ("2 of 3", "Wait")
    assert outcome.steps["Ship"].failures[0].text == "OSError: no ship yet"
    assert 86400 < outcome.seconds < 86500


def test_functions_that_are_not_called_are_not_imported() -> None:
    """Scripted steps need no module; one that is to be called must be found, else no run begins."""
    missing = chain(Ship=task(target_name="no_such_module:ship"))
    assert run(missing, answers={"Ship": Answer(result=1)}).output == 1
    with pytest.raises(UnresolvedFunctionError, match="no_such_module"):
        run(missing, answers={"*": Answer(call=True)})


def test_time_of_day_and_cancel_are_those_of_the_case() -> None:
    """The run starts at the given time, and is cancelled after the given seconds."""
    started_at = datetime(2026, 11, 23, 8, tzinfo=UTC)
    outcome = run(
        answers={"*": Answer(result=1, after=60)},
        started_at=started_at,
        cancel_after=90,
        expect={"status": "Cancelled", "steps": {"Load": "Completed", "Count": "Cancelled", "Ship": "Skipped"}},
    )
    assert outcome.steps["Load"].started_at == started_at
    assert outcome.seconds == pytest.approx(90)
    assert run(cancel_after=90).status is RunStatus.COMPLETED  # it has ended by then


# -- expectations ----------------------------------------------------------------------------------------------------

FAILING = {**ANSWERS, "Count": Answer(error="ValueError", message="17 is no number")}


@pytest.mark.parametrize(
    ("expect", "case"),
    [
        ({}, {}),
        ({"status": "Completed", "output": {"sent": 2.0}}, {}),
        ({"error": "BranchFailed"}, {"answers": FAILING}),
        ({"status": "Failed"}, {"answers": FAILING}),
        ({"error": {"message": "17 is no number"}}, {"answers": FAILING}),
        ({"error": "BranchFailed", "steps": {"Count": {"error": "ValueError"}}}, {"answers": FAILING}),
        ({"error": {}, "steps": {"Ship": "Skipped", "Both": {"status": "Failed", "error": {}}}}, {"answers": FAILING}),
        ({"steps": {"Note": {"result": [1, {"a": 2}]}, "Load": "Completed"}}, {}),
        ({"way": ["Load", "Both", "Note", "Count", "Ship"]}, {}),
        ({"way": ["Load", "Both", "Note", "Count"], "error": {}}, {"answers": FAILING}),
        ({"calls": {"Load": 1, "Count": [{"parameters": {}}], "Ship": [{}]}}, {}),
        (
            {"calls": {"Ship": 0, "Load": [{"parameters": {"table": "orders", "limit": 2}}]}, "error": {}},
            {"answers": FAILING},
        ),
    ],
)
def test_an_expectation_that_is_met_passes(expect: dict[str, Any], case: dict[str, Any]) -> None:
    """Only the given parts are compared; the status is always."""
    run(expect=expect, **case)


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        (
            {},
            "status: expected Completed, got Failed (BranchFailed: node 'Both' failed: 1 of 2 branches failed, the …",
        ),
        ({"status": "Cancelled"}, "status: expected Cancelled, got Failed (BranchFailed: …"),
        ({"error": "Timeout"}, "error: expected Timeout, got BranchFailed: …"),
        ({"error": {"message": "18"}}, "error.message: expected a message with '18', got \"node 'Both' failed: …"),
        ({"steps": {"Ship": "Completed"}}, "steps.Ship: expected Completed, got Skipped"),
        ({"steps": {"Count": "Skipped"}}, "steps.Count: expected Skipped, got Failed (ValueError: 17 is no number)"),
        ({"steps": {"Ship": {"error": "OSError"}}}, "steps.Ship.error: expected OSError, got no failure"),
        ({"steps": {"Ship": {"result": 1}}}, "steps.Ship.result: expected 1, and there is none: the step is Skipped"),
        ({"steps": {"Note": {"result": [1, {"a": 3}]}}}, "steps.Note.result[1].a: expected 3, got 2"),
        ({"steps": {"Note": {"result": [True, {"a": 2}]}}}, "steps.Note.result[0]: expected true, got 1"),
        ({"steps": {"Note": {"result": [1]}}}, 'steps.Note.result: expected [1], got [1, {"a": 2}]'),
        ({"steps": {"Note": {"result": [1, {}]}}}, "steps.Note.result[1].a: expected no such key, got 2"),
        ({"output": 1}, "output: expected 1, got null"),
        (
            {"way": ["Load", "Note", "Both"]},
            "way: expected Load → Note → Both; got Load → Both → Note → Count; number 2 is Both, not Note",
        ),
        ({"way": []}, "way: expected no step; got Load → Both → Note → Count; Load began, too"),
        (
            {"way": ["Load", "Both", "Note", "Count", "Ship"]},
            "way: expected Load → Both → Note → Count → Ship; got Load → Both → Note → Count; Ship did not begin",
        ),
        ({"calls": {"Count": 2}}, "calls.Count: expected 2 calls, got 1"),
        ({"calls": {"Ship": [{}]}}, "calls.Ship: expected 1 call, got 0"),
        (
            {"calls": {"Load": [{"parameters": {"table": "orders"}}]}},
            "calls.Load[0].parameters.limit: expected no such key, got 2",
        ),
        (
            {"calls": {"Load": [{"parameters": {"table": "o", "limit": 2}}]}},
            'calls.Load[0].parameters.table: expected "o", got "orders"',
        ),
    ],
)
def test_an_expectation_that_is_not_met_says_what_differs(expect: dict[str, Any], said: str) -> None:
    """Each difference has its path and both values; here of a run that fails in a branch."""
    (problem,) = problems(expect={"error": {}, **expect} if expect else expect, answers=FAILING)
    assert problem == said or (said.endswith("…") and problem.startswith(said[:-1]))


def test_all_differences_are_told_with_the_way_of_the_run() -> None:
    """The text of the failure lists every difference, and each step with its calls and its end."""
    with pytest.raises(CaseFailedError) as failed:
        run(expect={"output": {"sent": 3, "more": 1}, "calls": {"Load": 2}}, place="orders.cases.yaml:4", name="x")
    assert isinstance(failed.value, AssertionError)
    assert str(failed.value) == TEXT


TEXT = """\
case 'x' (orders.cases.yaml:4) failed:
  output.sent: expected 3, got 2
  output.more: expected 1, got no such key
  calls.Load: expected 2 calls, got 1
  the way of the run, Completed after 0 ms:
    STEP   STATUS     BEGAN AFTER  CALLS  DETAIL
    Load   Completed  0 ms         1      → {"rows":[1,2]}
    Both   Completed  0 ms
    Note   Completed  0 ms                → [1,{"a":2}]
    Count  Completed  0 ms         1      → 2
    Ship   Completed  0 ms         1      → {"sent":2}"""


def test_names_that_the_definition_does_not_have_are_refused() -> None:
    """A case of a program is checked like one of a file, before the run begins."""
    expect = {"way": ["Laod"], "steps": {"Note": {"status": "Done"}}, "calls": {"Note": 1}}
    with pytest.raises(DefinitionError) as error:
        run(answers={"Shipp": Answer(result=1), "Load": [Answer(call=True)]}, expect=expect, name="x")
    assert error.value.source == "case 'x'"
    assert [problem.path for problem in error.value.problems] == [
        "answers.Load[0].call",
        "answers.Shipp",
        "expect.calls.Note",
        "expect.steps.Note.status",
        "expect.way[0]",
    ]


# -- runs that cannot go on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            {"Load": ANSWERS["Load"]},
            "Count: this step was called (attempt 1), and the case has no answer for it; add one",
        ),
        (
            {**ANSWERS, "Load": [Answer(error="X")]},
            "Load: this step was called 2 times, and its list under `answers` ends",
        ),
        ({"*": Answer(call=True), "Load": Answer(result=1)}, "Count: this step was called, and the answer '*' calls"),
    ],
)
def test_a_call_without_an_answer_fails_the_case(answers: Any, said: str) -> None:
    """Also where a retry would follow: the message names the step and the next move."""
    definition = chain(Load=call(retry={"max_attempts": 5}), Count=job(), Ship=task(target_name=f"{__name__}:ship"))
    (problem,) = problems(definition, answers=answers)
    assert problem.startswith(said)


class Stuck(NodeKind[Node]):
    """Waits for an event that never comes."""

    name = "Pass"

    def enter(self, draft: Draft, at: At[Node]) -> None:
        draft.running(at)


def test_a_run_that_waits_for_ever_fails_the_case() -> None:
    """When no timer is left, the case ends with the steps that wait, and not with a hanging test."""
    dag = build(chain(Load=call(), Wait={"type": "Pass"}, Ship=task()))
    dag.all_nodes["Wait"].kind = Stuck()
    with pytest.raises(CaseFailedError) as failed:
        run(dag, answers={"Load": Answer(result=1, after=60)})
    whole, step = failed.value.problems
    assert str(whole).startswith("the run is Running and waits for ever")
    assert str(step) == "Wait: this step is Running"
    assert (failed.value.outcome.way, failed.value.outcome.seconds) == (("Load", "Wait"), pytest.approx(60))


async def waits_for_a_socket(context: TaskContext) -> None:
    await asyncio.get_running_loop().create_future()


def test_a_function_that_waits_outside_of_virtual_time_fails_the_case() -> None:
    """The message says why its step does not end, and what to do."""
    (_, step) = problems(chain(Load=task(function=waits_for_a_socket)), answers={"Load": Answer(call=True)})
    assert step.startswith("Load: this step is Running (attempt 1); its async function waits for a thread")


class Fork(NodeKind[Node]):
    """Enters a later step in the fold that began it, against the order of the definition."""

    name = "Pass"

    def enter(self, draft: Draft, at: At[Node]) -> None:
        draft.end("Last", TaskStatus.COMPLETED)
        draft.complete(at)


def test_steps_that_begin_in_one_commit_stand_in_the_order_of_the_decisions() -> None:
    """The way follows the engine, whatever the order of the definition, and knows no kind of node."""
    dag = build(chain(First={"type": "Pass"}, Middle={"type": "Pass"}, Last={"type": "Pass"}))
    dag.all_nodes["First"].kind = Fork()
    assert run(dag, answers={}).way == ("Last", "First", "Middle")


# -- around ----------------------------------------------------------------------------------------------------------


def test_cases_are_the_same_every_time() -> None:
    """Two runs of a case make the same decisions at the same times: chance is that of a fixed seed."""
    flaky = chain(Load=call(retry={"max_attempts": 4, "initial_delay": 10, "jitter": 1}))
    answers = {"Load": [Answer(error="X"), Answer(error="X"), Answer(result=1)]}
    first, second = (run(flaky, answers=answers) for _ in range(2))
    assert first.calls == second.calls
    assert first.steps == second.steps


async def test_a_case_runs_in_a_coroutine_of_a_real_loop() -> None:
    """Also where an event loop runs in this thread already."""
    assert run().status is RunStatus.COMPLETED


@in_virtual_time
async def test_a_case_runs_in_a_coroutine_in_virtual_time() -> None:
    """The time of the case is its own."""
    before = asyncio.get_running_loop().time()
    assert run(answers={"*": Answer(result=1, after=60)}).seconds > 100
    assert asyncio.get_running_loop().time() == before


def test_an_error_inside_of_a_case_is_raised_as_it_is() -> None:
    """An input that is no JSON is no difference of an outcome."""
    with pytest.raises(ValueError, match="is not JSON"):
        run(input=object())


@pytest.mark.parametrize("case", load_cases(REPOSITORY / "examples/sample.cases.yaml"), ids=str)
def test_the_example_passes(case: Case) -> None:
    """Every case of the example file passes, its functions called from the folder of the definition."""
    run_case(case)


def test_the_example_can_fail(tmp_path: Path) -> None:
    """A definition that tries only once fails the cases that count attempts."""
    for name in ("sample.yaml", "sample.cases.yaml", "sample_functions.py"):
        text = (REPOSITORY / "examples" / name).read_text()
        text = re.sub("max_attempts: 3", "max_attempts: 1", text).replace("sample_functions", "fewer_functions")
        (tmp_path / name.replace("sample_functions", "fewer_functions")).write_text(text)
    case = next(each for each in load_cases(tmp_path / "sample.cases.yaml") if "three times" in each.name)
    with pytest.raises(CaseFailedError, match=r"calls\.Step1: expected 3 calls, got 1"):
        run_case(case)


def test_a_failure_is_that_of_the_case() -> None:
    """Type and message of an answer are those of the failure, for jobs and calls alike."""
    for kind in (call, job, task):
        outcome = run(chain(Load=kind()), answers={"Load": Answer(error="Own", message="words")})
        assert isinstance(outcome.steps["Load"].error, Failure)
        assert outcome.steps["Load"].error.text == "Own: words"


def test_secrets_of_a_case_need_no_source() -> None:
    """A case may give the value of a secret, each other one has a placeholder; an undeclared name is a mistake."""
    keys = {"key": "${ secrets.api_key }", "token": "${ secrets.token }"}
    definition = {"name": "d", "secrets": ["api_key", "token"], **chain(A=task(parameters=keys))}
    answers = {"A": Answer(result=1)}
    outcome = run(definition, answers=answers, secrets={"api_key": "k-123"})
    assert outcome.status == "Completed"
    assert outcome.calls["A"][0].parameters == {"key": "k-123", "token": "value of token"}
    with pytest.raises(DefinitionError, match="did you mean `api_key`"):
        run(definition, answers=answers, secrets={"api_kye": "k-123"})


def test_large_results_of_every_try_are_among_the_results() -> None:
    """A result outside the document of a step in a repeated level has the name of its entry."""
    fan = parallel(chain(A=task(), B=task()), retry={"max_attempts": 2, "initial_delay": 0})
    answers = {"A": Answer(result="x" * 2000), "B": [Answer(error="OSError"), Answer(result="y" * 2000)]}
    outcome = run(chain(Fan=fan), answers=answers)
    assert outcome.status == "Completed"
    assert {name: outcome.results.get(name, "")[:1] for name in ("A", "Fan#2.A", "Fan#2.B")} == {
        "A": "x",
        "Fan#2.A": "x",
        "Fan#2.B": "y",
    }
