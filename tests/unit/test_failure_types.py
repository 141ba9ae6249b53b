"""Types of failures in `retry` and `catch`: a name that no failure of the step can have is a mistake."""

from typing import Any

import pytest

from aiorch.definition.build import DAGBuilder
from aiorch.errors import DefinitionError
from tests.definitions import call, chain, job, only_problem, parallel, problems_if_any, task

FAIL = {"type": "Fail", "error": "NoOrders"}
STEPS = {
    "Function": task(),
    "CloudFunction": call(),
    "CloudFunction with function": call(function="m:f"),
    "Dataflow": job(),
    "Wait": {"type": "Wait", "seconds": 1},
    "Parallel of calls": parallel(chain(C=call())),
    "Parallel with Fail": parallel({"start": "F", "steps": {"F": FAIL}}, chain(P=parallel(chain(J=job())))),
    "Parallel with function": parallel(chain(C=call(), F=task())),
}
EVERYWHERE = ["Timeout", "Lost", "Interrupted", "NotStarted", "NoResult", "InternalError", "ExpressionError"]


def caught(step: str, *on: str) -> dict[str, Any]:
    """A definition whose only step catches failures of these types."""
    return chain(A={**STEPS[step], "catch": [{"on": list(on), "result": 0}]})


def retried(step: str, *on: str) -> dict[str, Any]:
    return chain(A={**STEPS[step], "retry": {"max_attempts": 2, "on": list(on)}})


@pytest.mark.parametrize(
    ("step", "names"),
    [
        ("Function", [*EVERYWHERE, "ValueError", "Exception", "OSError", "CancelledError", "ParameterError"]),
        (
            "Function",
            ["MyError", "httpx.ConnectError", "ReadTimeout", "ResultTooLarge", "503", "5xx", "OssError"],
        ),
        ("CloudFunction", [*EVERYWHERE, "503", "5xx", "HTTP 404", "4xx", "301", "NoCredentials", "crash"]),
        ("CloudFunction", ["ResultNotJSON", "ResultTooLarge", "ConfigurationError", "429", "503"]),
        ("CloudFunction with function", ["ValueError", "MyError", "5xx", "NoCredentials"]),
        ("Dataflow", [*EVERYWHERE, "JobFailed", "JobCancelled", "JobNameTaken", "HTTP 403"]),
        ("Wait", ["ExpressionError"]),
        ("Parallel of calls", ["BranchFailed", "Timeout", "503", "NoCredentials", "Lost"]),
        ("Parallel with Fail", ["BranchFailed", "NoOrders", "JobFailed"]),
        ("Parallel with function", ["BranchFailed", "ValueError", "MyError", "NoCredentials", "5xx"]),
    ],
)
def test_a_type_that_a_failure_of_the_step_can_have_is_accepted(step: str, names: list[str]) -> None:
    """Types of aiorch, statuses, exceptions of Python where it runs, and the types of the steps inside."""
    assert problems_if_any(caught(step, *names)) == ()


@pytest.mark.parametrize(
    ("step", "name", "words"),
    [
        ("Function", "timeout", "did you mean 'Timeout'?"),
        ("Function", "Time_Out", "did you mean 'Timeout'?"),
        ("Function", "Timout", "did you mean 'Timeout'?"),
        ("Function", "ValueErorr", "did you mean 'ValueError'?"),
        ("Function", "ConectionError", "did you mean 'ConnectionError'?"),
        ("Function", "ResultTooLargee", "did you mean 'ResultTooLarge'?"),
        ("Function", "builtins.ValeuError", "did you mean 'ValueError'?"),
        ("Function", "IOError", "'IOError' is an old name of OSError"),
        ("Function", "HTTP 5xx", "did you mean '5xx'?"),
        ("Function", "600", "no failure of this step has the type '600'"),
        ("Function", "200", "no failure of this step has the type '200'"),
        ("Function", "my error", "has the type 'my error'; give the name of a class of exceptions, or one of "),
        ("Function", "States.Timeout", "did you mean 'Timeout'?"),
        ("CloudFunction", "ValueError", "an exception of Python, since it runs no Python"),
        ("CloudFunction", "MyError", "; its failures are ConfigurationError, ExpressionError, Interrupted, Lost, No"),
        ("CloudFunction", "NoCredential", "did you mean 'NoCredentials'?"),
        ("CloudFunction", "JobFailed", "no failure of this step has the type 'JobFailed'"),
        ("CloudFunction", "2xx", "no failure of this step has the type '2xx'"),
        ("CloudFunction with function", "ValueEror", "did you mean 'ValueError'?"),
        ("Dataflow", "NoCredentials", "no failure of this step has the type"),
        ("Dataflow", "BranchFailed", "no failure of this step has the type"),
        ("Wait", "Timeout", "its failures are ExpressionError"),
        ("Parallel of calls", "NoOrders", "no failure of this step has the type"),
        ("Parallel of calls", "ValueError", "it runs no Python"),
        ("Parallel with Fail", "NoOrder", "did you mean 'NoOrders'?"),
        ("Parallel with function", "NoCredentails", "did you mean 'NoCredentials'?"),
        ("Function", "Cancelled", "no handler and no further attempt follow a cancel"),
    ],
)
def test_a_type_that_no_failure_of_the_step_has_is_a_mistake(step: str, name: str, words: str) -> None:
    """The message names the similar type, or the types that there are; beside right names, and in a retry, too."""
    problem = only_problem(caught(step, "Timeout" if step != "Wait" else "ExpressionError", name))
    assert problem.path == "steps.A.catch[0].on[1]"
    assert words in problem.message
    if step != "Wait":
        assert only_problem(retried(step, name)).path == "steps.A.retry.on[0]"


@pytest.mark.parametrize("name", ["States.ALL", "States.TaskFailed", "*", "all", "ALL", "Any"])
@pytest.mark.parametrize("step", ["Function", "CloudFunction", "Parallel with function"])
def test_a_name_of_every_failure_in_other_languages_is_a_mistake(step: str, name: str) -> None:
    """As a type it would cover no failure at all; the message says that `on` is left out instead."""
    for data in (caught(step, name), retried(step, name)):
        assert only_problem(data).message == f"{name!r} is no type of failures; leave `on` out to cover every failure"


def test_the_types_in_a_message_are_true_for_a_function() -> None:
    """They name the exceptions of the function and `ParameterError`, and in a retry no type that is never retried."""
    in_catch, in_retry = (only_problem(each("Function", "my error")).message for each in (caught, retried))
    assert "give the name of a class of exceptions, or one of ExpressionError, Inter" in in_catch
    assert "ParameterError, ResultNotJSON" in in_catch
    assert "ParameterError" not in in_retry
    assert "ExpressionError" not in in_retry


@pytest.mark.parametrize("name", ["ExpressionError", "ParameterError", "InvalidInput"])
@pytest.mark.parametrize("step", ["Function", "CloudFunction", "Parallel with function"])
def test_a_failure_that_would_come_again_is_not_named_in_a_retry(step: str, name: str) -> None:
    """The next attempt would read the same values."""
    assert f"a failure of type {name} is never retried" in only_problem(retried(step, name)).message


@pytest.mark.parametrize("name", ["Lost", "Interrupted"])
def test_lost_attempts_are_not_retried_by_a_policy(name: str) -> None:
    """`on_lost` decides; a `Parallel` around may be tried again after the task has failed for that reason."""
    assert "`on_lost` decides" in only_problem(retried("Function", name)).message
    assert problems_if_any(retried("Parallel with function", name)) == ()
    assert problems_if_any(caught("Function", name)) == ()


@pytest.mark.parametrize("step", ["CloudFunction", "CloudFunction with function", "Dataflow", "Parallel of calls"])
@pytest.mark.parametrize("names", [("429",), ("HTTP 429",), ("429", "HTTP 429")])
def test_a_status_that_is_no_failure_is_a_mistake_where_it_stands_alone(step: str, names: tuple[str, ...]) -> None:
    """A call that is turned away did not run, and is sent again as the same attempt."""
    problem = only_problem(retried(step, *names))
    assert (problem.path, "did not run" in problem.message) == ("steps.A.retry.on", True)
    assert problems_if_any(retried(step, *names, "5xx")) == ()


def test_each_policy_and_each_handler_is_checked() -> None:
    """The path of a mistake in a list has the index of the policy."""
    policies = [{"on": ["429"]}, {"on": ["5xx"]}, {"on": ["Timeot"]}]
    found = problems_if_any(
        chain(A=call(retry=policies, catch=[{"on": ["5xx"], "result": 1}, {"on": ["5x"], "result": 1}]))
    )
    assert [problem.path for problem in found] == [
        "steps.A.catch[1].on[0]",
        "steps.A.retry[0].on",
        "steps.A.retry[2].on[0]",
    ]


@pytest.mark.parametrize("key", ["retry", "catch"])
def test_a_handler_after_one_of_all_failures_is_never_used(key: str) -> None:
    """The first one that covers a failure counts."""
    more = {"result": 1} if key == "catch" else {}
    first, second = {"on": ["Timeout"], **more}, more or {"max_attempts": 2}
    assert problems_if_any(chain(A=call(**{key: [first, second]}))) == ()
    problem = only_problem(chain(A=call(**{key: [second, first]})))
    assert (problem.path, problem.message) == (
        f"steps.A.{key}[1]",
        f"{key}[0] has no `on` and covers every failure, so this one is never used",
    )


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ({"next": "B", "result": 1}, "has both `next` and `result`"),
        ({"on": ["5xx"]}, "has neither `next` nor `result`"),
    ],
)
def test_a_handler_gives_a_step_or_a_value(handler: dict[str, Any], words: str) -> None:
    """Null is a value."""
    problem = only_problem(chain(A=call(catch=[handler]), B=call()))
    assert (problem.path, words in problem.message) == ("steps.A.catch[0]", True)
    assert problems_if_any(chain(A=call(catch=[{"result": None}]))) == ()


@pytest.mark.parametrize("error", ["Cancelled", "Interrupted", "Lost"])
def test_a_step_has_no_failure_of_the_engine(error: str) -> None:
    """The engine treats these types in a way of their own."""
    problem = only_problem({"start": "A", "steps": {"A": {"type": "Fail", "error": error}}})
    assert (problem.path, "only aiorch itself gives" in problem.message) == ("steps.A.error", True)


@pytest.mark.parametrize("kind", ["Choice", "Pass", "Fail"])
def test_steps_that_only_decide_catch_nothing(kind: str) -> None:
    """The message says how their failures are caught."""
    step = {
        "Choice": {"type": "Choice", "choices": [{"when": "true", "next": "B"}]},
        "Pass": {"type": "Pass", "next": "B"},
        "Fail": {**FAIL, "when": "input.x", "next": "B"},
    }[kind]
    data = {"start": "A", "steps": {"A": {**step, "catch": [{"result": 1}]}, "B": task()}}
    problem = only_problem(data)
    assert problem.path == "steps.A.catch"
    assert f"`catch` is a key of Task, Wait and Parallel steps, and this is a {kind} step; to catch" in problem.message


@pytest.mark.parametrize("kind", ["Choice", "Fail"])
def test_steps_without_a_result_have_no_key_for_it(kind: str) -> None:
    """A choice decides, and a failure has no result."""
    step = {"type": "Choice", "choices": [{"when": "true", "next": "B"}]} if kind == "Choice" else FAIL
    steps = {"A": {**step, "result": 1}} | ({"B": task()} if kind == "Choice" else {})
    problem = only_problem({"start": "A", "steps": steps})
    assert (problem.path, "`result` is a key of" in problem.message) == ("steps.A.result", True)


@pytest.mark.parametrize("name", ["Load[1]", "Load]", "Fan#2"])
def test_names_of_entries_are_kept_free_beside_tries(name: str) -> None:
    """The entries of a further try are named like `Fan#2.Step`; without tries, such a name is a name like others."""
    plain = chain(A=parallel(chain(name)), B=task())
    assert problems_if_any(plain) == ()
    beside = chain(A=parallel(chain("C"), retry={"max_attempts": 2}), **{name: task()})
    problem = only_problem(beside)
    assert "must not hold [, ] or #" in problem.message
    assert problem.path.startswith("steps[")


def test_a_stored_definition_keeps_the_names_that_it_has() -> None:
    """A process has checked the definition before, perhaps by fewer rules."""
    data = {**retried("CloudFunction", "NoSuch", "ExpressionError"), "name": "old"}
    with pytest.raises(DefinitionError):
        DAGBuilder(data).build_dag()
    assert DAGBuilder(data).build_stored_dag().nodes["A"].retry.on == ("NoSuch", "ExpressionError")


def test_a_list_of_policies_needs_the_second_version() -> None:
    """An older aiorch takes one policy."""
    policy = {"max_attempts": 2}
    assert DAGBuilder(chain(A=call(retry=policy))).build_dag().schema_version == 1
    assert DAGBuilder(chain(A=call(retry=[policy]))).build_dag().schema_version == 2
