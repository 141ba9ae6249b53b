"""Callables in definitions: their names are stored, and callables without a name are refused."""

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest

from aiorch import Orchestrator, RunStatus
from aiorch.definition.build import DAGBuilder
from aiorch.definition.function_names import import_name
from aiorch.errors import DefinitionError


def task(**keys: Any) -> dict[str, Any]:
    return {"type": "Task", "target_type": "Function", **({} if "next" in keys else {"end": True}), **keys}


def definition(step: dict[str, Any]) -> dict[str, Any]:
    return {"start": "A", "steps": {"A": step}}


def problem_paths(source: Any) -> list[str]:
    with pytest.raises(DefinitionError) as raised:
        DAGBuilder(source).build_dag()
    return [problem.path for problem in raised.value.problems]


async def run_async(context: object) -> None:
    """A function that can be imported."""


def run_sync(context: object, extra: int = 0) -> int:
    return extra


class Worker:
    def __init__(self, name: str = "") -> None:
        self.name = name

    def run(self, context: object) -> str:
        return self.name

    @classmethod
    def run_class(cls, context: object) -> None: ...

    @staticmethod
    def run_static(context: object) -> None: ...

    def __call__(self, context: object) -> str:
        return self.name


def make(value: Any) -> Callable[[object], Any]:
    def closure(context: object) -> Any:
        return value

    return closure


def functions_of(*functions: Any) -> tuple[list[str], dict[str, Any]]:
    """Build a chain of tasks of these callables; return the names in order, and what the DAG holds."""
    steps = {f"S{number}": task(function=one, next=f"S{number + 1}") for number, one in enumerate(functions)}
    dag = DAGBuilder({"start": "S0", "steps": {**steps, f"S{len(functions)}": task(target_name="m:f")}}).build_dag()
    names = [node.function for node in dag.tasks.values()][:-1]
    assert [dag.nodes[f"S{number}"].target_name for number in range(len(functions))] == names
    return names, dict(dag.functions)


def test_callables_are_stored_by_name():
    """The definition holds names only; the objects are kept beside it, by those names."""
    names, functions = functions_of(run_async, run_sync, Worker.run_class, Worker.run_static, Worker, json.dumps, len)
    here = __name__
    assert names == [
        f"{here}:run_async",
        f"{here}:run_sync",
        f"{here}:Worker.run_class",
        f"{here}:Worker.run_static",
        f"{here}:Worker",
        "json:dumps",
        "builtins:len",
    ]
    assert functions[f"{here}:run_async"] is run_async
    assert functions[f"{here}:Worker.run_class"] == Worker.run_class


def test_a_definition_with_callables_can_be_built_again_from_its_names():
    """The stored definition has the names, and gives the same id."""
    steps = {"S0": task(function=run_async, next="S1"), "S1": task(function=Worker.run_class)}
    dag = DAGBuilder({"start": "S0", "steps": steps}).build_dag()
    again = DAGBuilder(json.loads(dag.definition)).build_dag()
    assert again.definition_id == dag.definition_id
    assert again.functions == {}
    assert [node.function for node in again.tasks.values()] == list(dag.functions)


@pytest.mark.parametrize(
    ("function", "kind", "name"),
    [
        (lambda _: None, "a lambda", "A"),
        (make(1), "the function 'make.<locals>.closure'", "closure"),
        (functools.partial(run_sync, extra=1), "a partial", "A"),
        (Worker().run, "a method of an object of type Worker", "run"),
        ([].append, "an object of type builtin_function_or_method", "append"),
        (Worker(), "an object of type Worker", "A"),
    ],
    ids=["lambda", "closure", "partial", "method", "built-in method", "object"],
)
def test_callables_without_a_name_are_refused(function: Any, kind: str, name: str):
    """The problem names the step, says of which kind the callable is, and how to register it."""
    with pytest.raises(DefinitionError) as raised:
        DAGBuilder(definition(task(function=function))).build_dag()
    (problem,) = raised.value.problems
    assert problem.path == "steps.A.function"
    assert problem.message == (
        f"this is {kind}, which no import finds, so no run could find it again after a restart or an upgrade of "
        f"Python; register it: Orchestrator(functions={{'local:{name}': ...}}), and write 'local:{name}' here"
    )


def test_every_callable_without_a_name_is_reported():
    """A definition with several such callables, nested ones included, names the step of each."""
    branch = {"start": "C", "steps": {"C": task(function=make(2))}}
    steps = {
        "A": task(function=make(1), next="B"),
        "B": {"type": "Parallel", "branches": [branch], "end": True},
    }
    assert problem_paths({"start": "A", "steps": steps}) == [
        "steps.A.function",
        "steps.B.branches[0].steps.C.function",
    ]


async def test_the_advice_of_the_refusal_works():
    """A lambda that is registered under the name that the message gives runs under this name."""
    functions = {"local:A": lambda context: context.input + 1}
    async with Orchestrator("memory:", functions=functions) as orchestrator:
        result = await orchestrator.run(definition(task(function="local:A")), input=1)
        assert (result.status, result.results["A"]) == (RunStatus.COMPLETED, 2)


def test_a_name_that_now_means_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch):
    """A function that was defined again is no longer the one that an import of its name finds."""
    old = run_sync
    assert import_name(old) == f"{__name__}:run_sync"
    monkeypatch.setitem(globals(), "run_sync", make(0))
    assert import_name(old) is None


def test_a_callable_elsewhere_than_a_function_is_refused():
    """Only `function` of a step may be a callable, however alike the place looks."""
    steps = {"X": {"function": run_sync}}
    parameters = {"b": {"steps": steps}, "steps": steps}
    found = problem_paths(definition(task(target_name="m:f", parameters=parameters)))
    assert found == [
        "steps.A.parameters.b.steps.X.function",
        "steps.A.parameters.steps.X.function",
    ]
    assert problem_paths(definition(task(target_name=run_sync))) == ["steps.A.target_name"]


def test_callables_in_branches_are_found():
    """Nested steps may hold callables as well."""
    branch = {"start": "B", "steps": {"B": task(function=run_sync)}}
    inner = {"type": "Parallel", "branches": [branch], "end": True}
    outer = {"type": "Parallel", "branches": [{"start": "I", "steps": {"I": inner}}], "end": True}
    dag = DAGBuilder(definition(outer)).build_dag()
    assert dag.all_tasks["B"].function == f"{__name__}:run_sync"
    assert dag.functions == {f"{__name__}:run_sync": run_sync}
