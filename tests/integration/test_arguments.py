"""Functions with parameters of their own, through an orchestrator: calls, results, and mistakes in definitions."""

import asyncio
import datetime as dt
import functools
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from aiorch import (
    DAGBuilder,
    DefinitionError,
    Orchestrator,
    RunStatus,
    TargetTypes,
    TaskContext,
    UnresolvedFunctionError,
)
from aiorch.model.dag import Task
from aiorch.model.failure import NEVER_RETRIED
from aiorch.model.findings import Finding
from aiorch.ports.target import Answer, Succeeded
from aiorch.stores.memory import MemoryStore
from tests import definitions
from tests.definitions import call
from tests.integration.test_orchestrator import chain, engine, named

DAY = dt.date(2026, 11, 23)
TEXT = "2026-11-23"


class Colour(Enum):
    RED = "red"


@dataclass
class Line:
    price: float
    colour: Colour = Colour.RED


class Order(BaseModel):
    day: dt.date
    lines: list[Line]
    place: Path = Path("orders")  # which pydantic alone can write as JSON


PARAMETERS = {"day": TEXT, "lines": [{"price": 1.5, "colour": "red"}]}
ORDER = {**PARAMETERS, "place": "orders"}


def steps(**parameters: dict[str, Any]) -> dict[str, Any]:
    """A chain of steps that call the functions of their names with these parameters."""
    made = {name: definitions.task(target_name=name, parameters=given) for name, given in parameters.items()}
    return named({"name": "chain", **definitions.chain(**made)})


async def test_functions_get_parameters_and_their_results_become_json() -> None:
    """Async and sync functions get converted values, and return models, dates and sets, also inside each other."""
    seen: list[Any] = []

    async def order(day: dt.date, lines: list[Line], context: TaskContext) -> Any:
        seen.append((day, lines, context.node))
        return {"orders": [Order(day=day, lines=lines)], "days": {day}}

    def total(orders: list[Order], *, factor: int = 2) -> Line:
        seen.append((orders, threading.current_thread() is threading.main_thread()))
        return Line(factor * orders[0].lines[0].price)

    definition = steps(order=PARAMETERS, total={"orders": [ORDER]})
    async with engine({"order": order, "total": total}) as orchestrator:
        result = await (await orchestrator.start(definition)).wait()
    assert result.status is RunStatus.COMPLETED
    assert seen == [(DAY, [Line(1.5)], "order"), ([Order(day=DAY, lines=[Line(1.5)])], False)]
    assert dict(result.results) == {
        "order": {"orders": [ORDER], "days": [TEXT]},
        "total": {"price": 3.0, "colour": "red"},
    }


async def test_all_kinds_of_registered_callables_get_parameters() -> None:
    """Methods, partials, classes and callable objects, sync and async, and a function without any parameter."""

    class Loader:
        def __init__(self, day: dt.date) -> None:
            self.day = day

        def load(self, limit: int) -> Any:
            return self.day, limit

        async def __call__(self, limit: int, context: Any) -> Any:
            return self.day, limit, context.node

    def add(a: int, b: int) -> int:
        return a + b

    functions = {
        "method": Loader(DAY).load,
        "object": Loader(DAY),
        "partial": functools.partial(add, b=3),
        "class": Line,
        "nothing": lambda: "called",
    }
    limit = {"limit": "5"}
    definition = steps(
        **{"method": limit, "object": limit, "partial": {"a": "4"}, "class": {"price": 1}, "nothing": {}}
    )
    async with engine(functions) as orchestrator:
        result = await (await orchestrator.start(definition)).wait()
    assert dict(result.results) == {
        "method": [TEXT, 5],
        "object": [TEXT, 5, "object"],
        "partial": 7,
        "class": {"price": 1.0, "colour": "red"},
        "nothing": "called",
    }


async def test_wrong_parameters_fail_the_task_without_a_retry() -> None:
    """A start by message is not checked. The attempt fails with all mistakes, the function is not called, no retry."""
    calls = []

    def load(day: dt.date, limit: int) -> None:
        calls.append(day)

    definition = steps(load={"day": "tomorrow", "limti": 3})
    definition["steps"]["load"]["retry"] = {"max_attempts": 3, "initial_delay": 0}
    async with engine({"load": load}, dags=[definition]) as orchestrator:
        orchestrator.publish({"resource": {"type": "start", "labels": {"run_id": "r", "dag": "chain"}}})
        async with asyncio.timeout(5):
            while not await orchestrator.store.list("runs/"):
                await asyncio.sleep(0.01)
        run = await orchestrator.attach("r")
        assert (await run.wait()).status is RunStatus.FAILED
    entry = run.view.nodes["load"]
    assert entry.error is not None
    assert (entry.attempt, entry.error.type, calls) == (1, "ParameterError", [])
    for said in (
        "'t:load' was not called",
        "'tomorrow'",
        "`parameters.limit`: this key is missing",
        "did you mean `limit`",
    ):
        assert said in entry.error.message


async def test_a_result_whose_model_cannot_be_written_fails_the_task() -> None:
    """A serializer of the user may raise anything: the attempt fails with the usual words."""

    class Broken(BaseModel):
        def model_dump(self, **_: Any) -> Any:
            raise KeyError("no such field")

    async with engine({"works": lambda context: [Broken()]}) as orchestrator:
        run = await orchestrator.start(named(chain("works")))
        await run.wait()
    error = run.view.nodes["works"].error
    assert error is not None
    assert error.type == "ResultNotJSON"
    assert error.message.startswith("'t:works' returned 'list', which is not JSON, so the result was not stored: ")


# -- before a run starts ---------------------------------------------------------------------------------------------

FILE = """\
name: etl
start: Load
steps:
  Load:
    type: Task
    target_type: Function
    target_name: t:load
    parameters:
      day: tomorrow
      lines: [{price: 1}, {price: much}]
      rest: ${ input.rest }
    next: Fan
  Fan:
    type: Parallel
    branches:
      - start: Save
        steps:
          Save: {type: Task, target_type: Function, target_name: "t:save", parameters: {tabel: x}, end: true}
    end: true
"""


def load(day: dt.date, lines: list[Line], rest: int) -> None: ...


def save(table: str, context: TaskContext) -> None: ...


PLACES = [
    ("steps.Load.parameters.day", 9, 12),
    ("steps.Load.parameters.lines[1].price", 10, 35),
    ("steps.Fan.branches[0].steps.Save.parameters.table", 18, 76),
    ("steps.Fan.branches[0].steps.Save.parameters.tabel", 18, 89),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "etl.yaml"
    path.write_text(FILE)
    return path


async def test_mistakes_are_found_before_a_run_starts_at_their_places(file: Path) -> None:
    """A start from a file tells line and column of each mistake, in branches too; a template is not converted."""
    async with engine({"load": load, "save": save}) as orchestrator:
        with pytest.raises(DefinitionError, match=r"etl.yaml is not valid \(4 problems\), so no run") as raised:
            await orchestrator.start(file)
        assert not await orchestrator.store.list("")
    assert [problem[::2][:1] + problem[2:] for problem in raised.value.problems] == PLACES


async def test_mistakes_of_a_changed_file_have_no_positions(file: Path) -> None:
    """The places in a file that has changed since the DAG was built would be wrong: the paths are still right."""
    async with engine({"load": load, "save": save}) as orchestrator:
        dag = orchestrator.dag(file)
        file.write_text(FILE.replace("name: etl", "\n\nname: etl").replace("tabel: x", "tabel: y"))
        with pytest.raises(DefinitionError) as raised:
            orchestrator.check(dag)
        file.unlink()
        with pytest.raises(DefinitionError) as raised_without:
            orchestrator.check(dag)
    for error in (raised.value, raised_without.value):
        assert {problem.path for problem in error.problems} == {path for path, *_ in PLACES}
        assert {problem.line for problem in error.problems} == {None}


async def test_tasks_without_a_callable_are_told_together_with_mistakes(file: Path) -> None:
    """One error has everything: mistakes in parameters, and a task that cannot be launched, all with their places."""
    async with engine({"save": save}) as orchestrator:
        with pytest.raises(DefinitionError) as raised:
            await orchestrator.start(file)
    first, *others = raised.value.problems
    assert (first.path, first.line) == ("steps.Load", 4)
    assert first.message.startswith("'t:load' cannot be launched: ")
    assert [problem.path for problem in others] == [path for path, *_ in PLACES[2:]]


async def test_a_missing_callable_alone_is_told_with_its_place(file: Path) -> None:
    """The error that lists the tasks has the places of their steps, too."""
    async with engine({"load": load}) as orchestrator:
        dag = orchestrator.dag(file)
        orchestrator.check(dag, callables=False)
        with pytest.raises(DefinitionError):
            orchestrator.check(dag)
    async with engine({"load": lambda context: None}) as orchestrator:
        with pytest.raises(UnresolvedFunctionError) as raised:
            orchestrator.check(orchestrator.dag(file))
    assert [name for name, *_ in raised.value.missing] == ["Save"]
    assert [(problem.path, problem.line) for problem in raised.value.problems] == [
        ("steps.Fan.branches[0].steps.Save", 18)
    ]


async def test_a_resume_finds_mistakes_in_the_stored_definition() -> None:
    """A function that has changed since fails no further attempt of a resumed run: the resume is refused."""
    store = MemoryStore()

    def fails(context: TaskContext) -> None:
        raise OSError("broken")

    async with engine({"load": fails}, store=store) as orchestrator:
        await (await orchestrator.start(steps(load={"day": TEXT}), run_id="r")).wait()
    async with engine({"load": load}, store=store) as orchestrator:
        with pytest.raises(DefinitionError, match=r"DAG 'chain' is not valid \(2 problems\), so no run was started"):
            await orchestrator.resume("r")


def takes_two(day: str, limit: int) -> dict[str, Any]:
    return {"day": day}


def takes_one(day: str) -> dict[str, Any]:
    return {"context": type(day).__name__}


async def test_a_supplementary_function_gets_the_context_alone() -> None:
    """Whatever its annotations are: a function beside another target is called with the context, or refused."""
    launched: list[Any] = []

    class Target:
        def resolve(self, task: Task) -> str | None:
            return None

        async def launch(self, task: Task, context: TaskContext) -> Answer:
            launched.append(dict(context.parameters))
            return Succeeded()

        async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None: ...

        async def aclose(self) -> None: ...

    functions = {"t:two": takes_two, "t:one": takes_one}
    async with Orchestrator("memory:", functions=functions, targets={TargetTypes.CLOUD_FUNCTION: Target()}) as it:
        with pytest.raises(
            UnresolvedFunctionError, match="a function beside another target is called with one argument"
        ):
            await it.start(definitions.chain(A=call(function="t:two", parameters={"day": TEXT, "limit": 1})))
        run = await it.start(definitions.chain(A=call(function="t:one", parameters={"day": TEXT})))
        assert (await run.wait()).status is RunStatus.COMPLETED
    assert launched == [{"day": TEXT, "context": "TaskContext"}]


async def test_a_target_of_a_user_may_find_mistakes() -> None:
    """A target with a method `find_problems` is asked about each task that it can launch."""

    class Target:
        def resolve(self, task: Task) -> str | None:
            return None

        def find_problems(self, task: Task) -> Iterable[Finding]:
            yield Finding(("parameters", "size"), f"{task.name} is too large")

        async def launch(self, task: Task, context: TaskContext) -> Answer:
            return Succeeded()

        async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None: ...

        async def aclose(self) -> None: ...

    async with Orchestrator("memory:", targets={TargetTypes.CLOUD_FUNCTION: Target()}) as orchestrator:
        with pytest.raises(DefinitionError, match=r"steps\.A\.parameters\.size: A is too large"):
            await orchestrator.start(definitions.chain(A=call(parameters={"size": 9})))


# -- never retried ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NEVER_RETRIED))
def test_a_policy_cannot_name_a_type_that_is_never_retried(name: str) -> None:
    """The mistake stands at the item of the list."""
    step = definitions.task(retry={"max_attempts": 2, "on": ["Timeout", name]})
    with pytest.raises(DefinitionError) as raised:
        DAGBuilder(definitions.chain(A=step)).build_dag()
    (problem,) = raised.value.problems
    assert problem.path == "steps.A.retry.on[1]"
    assert problem.message.startswith(f"a failure of type {name} is never retried, because")


def test_a_stored_definition_may_name_such_a_type() -> None:
    """An earlier version has accepted the name, so runs of the stored definition go on."""
    step = definitions.task(retry={"max_attempts": 2, "on": ["ParameterError", "OSError"]})
    stored = msgspec.json.decode(msgspec.json.encode(definitions.chain(A=step)))
    (policy,) = DAGBuilder(stored).build_stored_dag().all_tasks["A"].retries
    assert policy.on == ("ParameterError", "OSError")
