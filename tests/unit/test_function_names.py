"""Callables in definitions: what is stored of them is a name, and no two share one."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from aiorch.definition.build import DAGBuilder
from aiorch.definition.function_names import name_of
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
    """Names of all kinds pass validation, and give the same id."""
    functions = [run_async, make(1), lambda _: None, functools.partial(run_sync, extra=1), Worker().run, Worker()]
    steps = {f"S{number}": task(function=one) for number, one in enumerate(functions)}
    for number in range(len(functions) - 1):
        steps[f"S{number}"] = {**steps[f"S{number}"], "end": False, "next": f"S{number + 1}"}
    dag = DAGBuilder({"start": "S0", "steps": steps}).build_dag()
    again = DAGBuilder(json.loads(dag.definition)).build_dag()
    assert again.definition_id == dag.definition_id
    assert again.functions == {}
    assert [node.function for node in again.tasks.values()] == list(dag.functions)
    assert list(dag.functions.values()) == functions


def test_two_callables_never_share_a_name():
    """Whatever looks alike gets names of its own; the same object always has the same one."""
    first, second = Worker("x"), Worker("x")
    listing: list[int] = []
    functions = [
        *(make(value) for value in (1, True, 1.0, "1", b"1", None, (1,), frozenset({1}), -0.0, 0.0)),
        *(make(value) for value in ([], [], {}, first, second, listing.append, run_sync, run_async, json, make(1))),
        *(lambda _: 1, lambda _: 2, lambda _, x=1: x, lambda _, *, x=1: x, lambda _, *, x=2: x),
        *(functools.partial(run_sync, extra=1), functools.partial(run_sync, extra=2), functools.partial(run_async)),
        *(first, second, first.run, second.run, Worker.run, Worker.run_class, listing.append, [].append),
        *(make(3), make(3)),
    ]
    names, held = functions_of(*functions)
    assert len(set(names)) == len(functions)
    assert len(held) == len(functions)
    for name, function in zip(names, functions, strict=True):
        assert held[name] == function
    again, held_again = functions_of(first.run, first.run, first, first)
    assert len(set(again)) == len(held_again) == 2


def test_names_of_one_object_stay_the_same_while_it_lives():
    """The same definition built twice in a process is the same definition, with objects in it or not."""
    for function in (make([]), Worker("x"), Worker("x").run, functools.partial(run_sync, extra=[])):
        names = {DAGBuilder(definition(task(function=function))).build_dag().definition_id for _ in range(3)}
        assert len(names) == 1, function


def test_a_name_that_now_means_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch):
    """A function that was defined again is no longer what an import of its name finds."""
    old = run_sync
    monkeypatch.setitem(globals(), "run_sync", make(0))
    assert name_of(old).startswith(f"{__name__}:run_sync#")


def test_names_are_the_same_in_every_process(tmp_path: Path):
    """Lambdas, closures and partials of what can be told apart by content are found again after a restart."""
    (tmp_path / "stable.py").write_text(
        dedent(
            """
            import functools
            def outer(value, depth=0):
                def inner(context, *, other=frozenset({"a", "b", "c"})):
                    return value, [item for item in other], lambda: depth
                return inner
            things = [outer(1), outer("x", 2), lambda context: {1, 2} & {3}, functools.partial(outer, depth=3)]
            things.append(functools.partial(things[0], other=outer))
            """
        )
    )
    program = (
        "import stable; from aiorch.definition.function_names import name_of;"
        "print([name_of(thing) for thing in stable.things])"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            env={**environment, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(runs) == 1
    assert runs.pop().count(b"#") == 5


def test_the_same_code_over_other_globals_is_another_function():
    """A cell of a notebook that was run twice: names of globals mean what their own module says."""
    code = "def outer():\n    return lambda context: setting\nmade = outer()"
    one: dict[str, Any] = {"__name__": __name__, "setting": 1}
    other: dict[str, Any] = {"__name__": __name__, "setting": 2}
    exec(code, one)
    exec(code, other)
    assert name_of(one["made"]) != name_of(other["made"])
    assert name_of(one["made"]) == name_of(one["made"])


def test_a_function_that_holds_itself_gets_a_name():
    """A closure over itself has no end when described from outside."""

    def again(context: object) -> Any:
        return again

    assert name_of(again) == name_of(again)


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
