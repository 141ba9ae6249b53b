"""Each construct of the language, carried out by the engine on the store `memory:`, in virtual time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aiorch import InvalidInputError, Orchestrator, RunResult, RunStatus, Settings, TaskContext
from aiorch.run_handle import RunView
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from aiorch.testing.time import START
from tests.definitions import chain, parallel, task


async def echo(context: TaskContext) -> Any:
    """Return the parameters."""
    return context.parameters


async def fail(context: TaskContext) -> None:
    raise ConnectionResetError(f"attempt {context.attempt}")


async def second(context: TaskContext) -> str:
    """Fail in the first attempt, and in the first try of the node around the step."""
    if context.attempt == 1 and "#" not in context.node:
        raise OSError("not yet")
    return context.node


async def slow(context: TaskContext) -> str:
    await asyncio.sleep(600)
    return "late"


def echoing(value: Any, **keys: Any) -> dict[str, Any]:
    return task(target_name="t:echo", parameters={"value": value}, **keys)


def value(result: Any) -> dict[str, Any]:
    return {"type": "Pass", "result": result}


async def carried_out(definition: dict[str, Any], **start: Any) -> tuple[RunResult, RunView]:
    """The result and the last view of a run."""
    functions = {"t:echo": echo, "t:fail": fail, "t:second": second, "t:slow": slow}
    settings = Settings(drain_s=0, secrets={"api_key": "env:SECRET_OF_A_TEST"})
    given: dict[str, Any] = {"functions": functions, "clock": ManualClock(), "entropy": SeededEntropy()}
    async with Orchestrator("memory:", settings=settings, **given) as orchestrator:
        run = await orchestrator.start({"name": "d", **definition}, **start)
        return await run.wait(), run.view


async def output_of(definition: dict[str, Any], input: Any = None) -> Any:
    result, _ = await carried_out(definition, input=input)
    assert result.status is RunStatus.COMPLETED, result.error
    return result.output


CALM = {"max_attempts": 2, "initial_delay": 60, "jitter": 0}


@in_virtual_time
async def test_inputs() -> None:
    """A run gets the default of an input that the start leaves out; a wrong input starts no run."""
    definition = {
        "inputs": {"day": "string", "limit": {"type": "integer", "default": 5}},
        **chain(A=value("${ input }")),
    }
    assert await output_of(definition, {"day": "monday"}) == {"day": "monday", "limit": 5}
    with pytest.raises(InvalidInputError):
        await output_of(definition, {"limit": "5"})


@in_virtual_time
async def test_labels() -> None:
    """A run has the labels of its definition."""
    _, view = await carried_out({"labels": {"team": "data"}, **chain(A=value(1))})
    assert view.labels == {"team": "data"}


@in_virtual_time
async def test_output() -> None:
    """The output goes before the result of the last step; an error in it fails the run before `finally` begins."""
    steps = {**chain(A=value(2), B=value(3)), "output": {"sum": "${ results.A + results.B }"}}
    assert await output_of(steps) == {"sum": 5}
    final = {"finally": chain(Z=value("${ run.outcome }"))}
    result, _ = await carried_out({**chain(A=value(2)), **final, "output": "${ results.A.rows }"})
    assert result.error is not None
    assert (result.error.type, result.results["Z"]) == ("ExpressionError", "Failed")


@in_virtual_time
async def test_output_of_a_graph_by_default() -> None:
    """The results of the steps that no step needs, by their names."""
    graph = {"A": value(1), "B": {**value("${ results.A + 1 }"), "needs": ["A"]}, "C": value(3)}
    assert await output_of({"steps": graph}) == {"B": 2, "C": 3}


@in_virtual_time
async def test_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task gets the value, and its result holds the mark that stands for the value."""
    monkeypatch.setenv("SECRET_OF_A_TEST", "a-very-secret-value")
    assert await output_of({"secrets": ["api_key"], **chain(A=echoing("${ secrets.api_key }"))}) == {
        "value": "[secret]"
    }


@in_virtual_time
async def test_parameters() -> None:
    """Expressions in parameters keep the type of their value, in texts they become text."""
    both = {"typed": "${ input.n }", "text": "n = ${ input.n }", "nested": ["${ input.n + 1 }"]}
    assert await output_of(chain(A=echoing(both)), {"n": 1}) == {
        "value": {"typed": 1, "text": "n = 1", "nested": [2]},
    }


@in_virtual_time
async def test_result() -> None:
    """`result` of a task is made of its answer, and stands for the answer."""
    assert await output_of(chain(A=echoing(7, result="${ result.value + 1 }"), B=value("${ results.A }"))) == 8


@in_virtual_time
async def test_when() -> None:
    """A step whose condition is false is skipped with the result null, and the chain goes on."""
    result, view = await carried_out(
        chain(A={**value(1), "when": "input.n > 1"}, B=value("${ [results.A] }")), input={"n": 1}
    )
    assert (view.nodes["A"].status, result.output) == ("Skipped", [None])


WAYS = {
    "start": "Choose",
    "steps": {
        "Choose": {
            "type": "Choice",
            "choices": [{"when": "input.n == 0", "next": "None"}, {"when": "input.n > 9", "next": "Many"}],
            "default": "Few",
        },
        "None": {**value("none"), "end": True},
        "Many": {**value("many"), "next": "Ship"},
        "Few": {**value("few"), "next": "Ship"},
        "Ship": {**value("${ default(results.Many, default(results.Few, null)) }"), "end": True},
    },
}


@in_virtual_time
async def test_the_result_of_a_run_is_that_of_the_handler_which_ended_it() -> None:
    """A handler that returns nothing lets a run end without a result, though steps in the failed Parallel have one."""
    broken = parallel(chain(Good=echoing(5)), chain(Bad=task(target_name="t:fail")), on_failure="wait", end=True)
    steps = {"Try": broken | {"catch": [{"next": "Handle"}]}, "Handle": {**value(None), "end": True}}
    level = {"start": "Try", "steps": steps}
    assert await output_of(level) is None
    assert await output_of(chain(Around=parallel(level))) is None


@pytest.mark.parametrize(
    ("n", "output", "skipped"),
    [
        pytest.param(10, "many", ["None", "Few"], id="Choice"),
        pytest.param(5, "few", ["None", "Many"], id="default"),
        pytest.param(0, "none", ["Many", "Few", "Ship"], id="several ends"),
    ],
)
def test_choice_default_shared_next_and_several_ends(n: int, output: str, skipped: list[str]) -> None:
    """One way is taken: ways meet in a shared step, or end on their own; the steps of the others are skipped."""

    @in_virtual_time
    async def run() -> tuple[RunResult, RunView]:
        return await carried_out(WAYS, input={"n": n})

    result, view = run()
    assert result.output == output
    assert [name for name, state in view.nodes.items() if state.status == "Skipped"] == skipped


@in_virtual_time
async def test_pass() -> None:
    """A `Pass` without a result gives null."""
    assert await output_of(
        chain(A=value({"a": ["${ 1 + 1 }"]}), B={"type": "Pass"}, C=value("${ [results.A, results.B] }"))
    ) == [
        {"a": [2]},
        None,
    ]


@in_virtual_time
async def test_fail() -> None:
    """A `Fail` fails the run with its own type and message."""
    step = {"type": "Fail", "error": "NoOrders", "message": "none on ${ input.day }"}
    result, _ = await carried_out({"start": "A", "steps": {"A": step}}, input={"day": "monday"})
    assert result.error is not None
    assert result.error.type == "NoOrders"
    assert "none on monday" in result.error.message


@in_virtual_time
async def test_wait_seconds() -> None:
    """The next step begins after the seconds, not before."""
    _, view = await carried_out(
        chain(A={"type": "Wait", "seconds": "${ input.minutes * 60 }"}, B=echoing(1)), input={"minutes": 20}
    )
    assert view.nodes["B"].started_at == START + timedelta(minutes=20)


@in_virtual_time
async def test_wait_until() -> None:
    """The next step begins at the time, whatever its zone."""
    _, view = await carried_out(chain(A={"type": "Wait", "until": "2026-01-01T01:20:00+01:00"}, B=echoing(1)))
    assert view.nodes["B"].started_at == START + timedelta(minutes=20)


@in_virtual_time
async def test_catch_next() -> None:
    """The handler reads the error, and its class covers the failure."""
    steps = {
        "A": task("B", target_name="t:fail", catch=[{"on": ["OSError"], "next": "Handler"}]),
        "B": {**value("not reached"), "end": True},
        "Handler": {**value("${ errors.A.type + ': ' + errors.A.message }"), "end": True},
    }
    assert await output_of({"start": "A", "steps": steps}) == "ConnectionResetError: attempt 1"


@in_virtual_time
async def test_catch_result() -> None:
    """The value stands for the result."""
    caught = task(target_name="t:fail", catch=[{"result": {"rows": 0}}])
    assert await output_of(chain(A=caught, B=value("${ results.A.rows }"))) == 0


@in_virtual_time
async def test_list_of_retry() -> None:
    """Each failure counts for the first policy that covers its type."""
    policies = [{**CALM, "on": ["ValueError"], "max_attempts": 9}, {**CALM, "on": ["OSError"], "max_attempts": 3}]
    result, view = await carried_out(chain(A=task(target_name="t:fail", retry=policies)))
    assert (result.status, view.nodes["A"].attempt, view.nodes["A"].retried) == ("Failed", 3, (0, 2))


@in_virtual_time
async def test_retry_on_parallel() -> None:
    """All branches run again, in entries of their own, after the delay."""
    _, view = await carried_out(
        chain(Fan=parallel(chain(X=task(target_name="t:second")), chain(Y=echoing(1)), retry=CALM))
    )
    ended = {name: state.status for name, state in view.nodes.items()}
    assert ended == {"Fan": "Completed", "X": "Failed", "Y": ended["Y"], "Fan#2.X": "Completed", "Fan#2.Y": "Completed"}
    assert view.nodes["Fan#2.X"].started_at == START + timedelta(seconds=60)


@in_virtual_time
async def test_timeout_on_parallel() -> None:
    """The node fails with `Timeout` when the time has passed, and its tasks are stopped."""
    result, view = await carried_out(chain(Fan=parallel(chain(X=task(target_name="t:slow")), timeout=30)))
    assert view.nodes["Fan"].error is not None
    assert (view.nodes["Fan"].error.type, view.nodes["X"].status, result.status) == ("Timeout", "Cancelled", "Failed")
    assert view.ended_at == START + timedelta(seconds=30)


@in_virtual_time
async def test_catch_on_parallel() -> None:
    """The handler begins after what still ran in the other branches was stopped."""
    fan = parallel(chain(X=task(target_name="t:fail")), chain(Y=task(target_name="t:slow")), next="B")
    fan["catch"] = [{"on": ["BranchFailed"], "next": "Handler"}]
    steps = {"Fan": fan, "B": {**value(1), "end": True}, "Handler": {**value("${ errors.Fan.cause }"), "end": True}}
    result, view = await carried_out({"start": "Fan", "steps": steps})
    assert (view.nodes["Y"].status, result.output) == ("Cancelled", "X")


@in_virtual_time
async def test_graph() -> None:
    """Steps without needs begin at once, the others when all that they need has ended well."""
    wait = {"type": "Wait", "seconds": 60}
    steps = {"A": wait, "B": echoing(1), "C": {**echoing("${ results.B.value }"), "needs": ["A", "B"]}}
    steps = {name: {key: each for key, each in step.items() if key != "end"} for name, step in steps.items()}
    result, view = await carried_out({"steps": steps})
    begun = [view.nodes[name].started_at for name in "ABC"]
    assert begun == [START, START, START + timedelta(seconds=60)]
    assert result.output == {"C": {"value": 1}}


@in_virtual_time
async def test_finally() -> None:
    """The level runs after a failure, reads it, and changes neither status nor error of the run."""
    final = chain(Clean=echoing("${ run.outcome + ' ' + run.error.type }"))
    result, _ = await carried_out({**chain(A=task(target_name="t:fail")), "finally": final})
    assert result.error is not None
    assert (result.status, result.error.type) == ("Failed", "ConnectionResetError")
    assert result.results["Clean"] == {"value": "Failed ConnectionResetError"}


@in_virtual_time
async def test_no_timer_is_left_of_a_parallel_that_ended_in_time() -> None:
    """A process that looks after many runs keeps no timer of an entry that waits no more."""
    given: dict[str, Any] = {"functions": {"t:echo": echo}, "clock": ManualClock(), "entropy": SeededEntropy()}
    branches = parallel(chain(A=echoing(1)), timeout=3600)
    async with Orchestrator("memory:", settings=Settings(drain_s=0), **given) as orchestrator:
        await orchestrator.start({"name": "d", **chain(Fan=branches, Patience={"type": "Wait", "seconds": 60})})
        await asyncio.sleep(5)
        timers = orchestrator._executor._timers._of_entries
        assert [name for _, name in timers] == ["Patience"]
