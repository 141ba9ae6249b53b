"""Declared inputs and labels of runs: at every start, in the store, and in lists of runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiorch import Client, InvalidInputError, Orchestrator, RunConflictError, RunStatus, Settings, TaskContext
from aiorch.stores.memory import MemoryStore
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, task

INPUTS = {
    "day": {"type": "string", "format": "date"},
    "limit": {"type": "integer", "default": 100},
    "tags": {"type": "array", "default": []},
}
REPORT = {"name": "report", "inputs": INPUTS, "labels": {"team": "data", "env": "prod"}, **chain(A=task())}
PLAIN = {"name": "plain", **chain(A=task())}
COMPLETE = {"limit": 100, "tags": [], "day": "2026-11-28"}


def work(context: TaskContext) -> Any:
    return context.input


@asynccontextmanager
async def engine(store: Any = None, work: Callable[[TaskContext], Any] = work) -> AsyncIterator[Orchestrator]:
    async with Orchestrator(
        store or MemoryStore(),
        dags=[REPORT, PLAIN],
        functions={"t:work": work},
        clock=ManualClock(),
        entropy=SeededEntropy(),
        settings=Settings(drain_s=0),
    ) as orchestrator:
        yield orchestrator


# -- starts ----------------------------------------------------------------------------------------------------------


async def test_a_run_has_its_input_with_the_defaults() -> None:
    """The task and the run document see the complete input, and the start command in the marker holds it, too."""
    store = MemoryStore()
    async with engine(store) as orchestrator:
        run = await orchestrator.start(REPORT, input={"day": "2026-11-28"})
        assert run.view.input == COMPLETE
        assert (await run.wait()).results["A"] == COMPLETE
        command = orchestrator._start_command(REPORT, {"day": "2026-11-28"}, "r")[1]
        assert msgspec.json.decode(command.input) == COMPLETE


@pytest.mark.parametrize("start", ["start", "run"])
async def test_a_wrong_input_starts_nothing(start: str) -> None:
    """Every mistake is in one error, and the store holds neither a run, nor a marker, nor the definition."""
    store = MemoryStore()
    async with engine(store) as orchestrator:
        with pytest.raises(InvalidInputError) as raised:
            await getattr(orchestrator, start)(REPORT, input={"dya": "2026-11-28", "limit": "5"})
        assert [problem.path for problem in raised.value.problems] == ["dya", "limit", "day"]
        assert not [name for name in store._objects if not name.startswith("alive/")]


async def test_a_client_checks_inputs(tmp_path: Path) -> None:
    """A process that carries out no runs completes and refuses inputs in the same way."""
    store = f"sqlite:///{tmp_path}/state.db"
    async with Client(store) as client:
        run = await client.start(REPORT, input={"day": "2026-11-28"})
        assert run.view.input == COMPLETE
        with pytest.raises(InvalidInputError):
            await client.start(REPORT)
        assert [each.run_id for each in await client.runs()] == [run.run_id]


async def test_values_that_are_not_json_are_named() -> None:
    """The error names each value of a mapping that JSON cannot hold, whether the DAG declares inputs or not."""
    async with engine() as orchestrator:
        for dag in (REPORT, PLAIN):
            with pytest.raises(InvalidInputError) as raised:
                await orchestrator.start(dag, input={"day": object(), "limit": 5, "tags": {1 + 2j}})
            assert [(each.name, each.path) for each in raised.value.problems] == [("day", "day"), ("tags", "tags")]
            assert all(each.message.startswith("is not JSON: ") for each in raised.value.problems)
        with pytest.raises(InvalidInputError) as raised:
            await orchestrator.start(PLAIN, input=object())
        [problem] = raised.value.problems
        assert (problem.name, problem.path) == ("", "")


async def test_python_values_are_checked_as_the_json_that_they_become() -> None:
    """A date is a text of the format `date`, and a tuple is a list."""
    async with engine() as orchestrator:
        run = await orchestrator.start(REPORT, input={"day": date(2026, 11, 28), "tags": ("a",)})
        assert run.view.input == {**COMPLETE, "tags": ["a"]}
        with pytest.raises(InvalidInputError, match="limit: must be a whole number, not null"):
            await orchestrator.start(REPORT, input={"day": date(2026, 11, 28), "limit": float("nan")})


@pytest.mark.parametrize(
    "same",
    [
        {"day": "2026-11-28"},
        {"day": "2026-11-28", "limit": 100},
        {"tags": [], "limit": 100.0, "day": "2026-11-28"},
    ],
)
async def test_the_same_input_in_another_spelling_is_the_same_run(same: dict[str, Any]) -> None:
    """Neither the order of keys, nor a default written out, nor 100.0 makes a second start a conflict."""
    async with engine() as orchestrator:
        await orchestrator.run(REPORT, input={"day": "2026-11-28"}, run_id="r")
        again = await orchestrator.run(REPORT, input=same, run_id="r")
        assert again.results["A"] == COMPLETE
        for other in ({"day": "2026-11-28", "limit": 101}, {"day": "2026-11-29"}):
            with pytest.raises(RunConflictError, match="different input"):
                await orchestrator.start(REPORT, input=other, run_id="r")


async def test_inputs_without_a_declaration_are_compared_as_json_values() -> None:
    """Also where any JSON is an input; and the bytes of the first start stay."""
    async with engine() as orchestrator:
        run = await orchestrator.start(PLAIN, input={"b": 1.0, "a": [True]}, run_id="r")
        await orchestrator.start(PLAIN, input={"a": [True], "b": 1}, run_id="r")
        assert b'"input":{"b":1.0,"a":[true]}' in run.document()
        with pytest.raises(RunConflictError):
            await orchestrator.start(PLAIN, input={"a": [1], "b": 1}, run_id="r")


async def test_a_resumed_run_keeps_the_input_unchecked() -> None:
    """The input of the old run is taken over, also if a later version of aiorch would refuse it."""
    failing = [True]

    def fails_once(context: TaskContext) -> Any:
        if failing.pop() if failing else False:
            raise ValueError("not yet")
        return context.input

    store = MemoryStore()
    async with engine(store, fails_once) as orchestrator:
        failed = await orchestrator.run(REPORT, input={"day": "2026-11-28"}, run_id="r")
        assert failed.status is RunStatus.FAILED
        data, _, metadata = store._objects["runs/r.json"]
        document = msgspec.json.decode(data)
        document["$run"]["input"]["day"] = "no day"
        store._put("runs/r.json", msgspec.json.encode(document), metadata)
    async with engine(store) as orchestrator:
        resumed = await orchestrator.resume("r")
        assert (await resumed.wait()).results["A"] == {**COMPLETE, "day": "no day"}
        assert resumed.view.labels == {"team": "data", "env": "prod"}


async def test_a_new_input_of_a_resumed_run_is_checked_and_completed() -> None:
    """With a step to run anew, the whole input is replaced: the defaults are filled in, and a wrong one is refused."""
    async with engine() as orchestrator:
        await orchestrator.run(REPORT, input={"day": "2026-11-28", "limit": 5}, run_id="r")
        with pytest.raises(InvalidInputError) as raised:
            await orchestrator.resume("r", from_step="A", input={"limit": "5"})
        assert [problem.path for problem in raised.value.problems] == ["limit", "day"]
        with pytest.raises(InvalidInputError, match=r"^the input is not valid .*\n  - day: is not JSON: "):
            await orchestrator.resume("r", from_step="A", input={"day": object()})
        assert [each.run_id for each in await orchestrator.runs()] == ["r"]
        resumed = await orchestrator.resume("r", from_step="A", input={"day": "2026-11-29"})
        assert (await resumed.wait()).results["A"] == {**COMPLETE, "day": "2026-11-29"}


@in_virtual_time
async def test_a_start_message_is_checked_and_completed(caplog: pytest.LogCaptureFixture) -> None:
    """A right message starts its run with the defaults; a wrong one is parked with the reason, which no log shows."""
    store = MemoryStore()
    async with engine(store) as orchestrator:
        for run_id, parameters in (("good", {"day": "2026-11-28"}), ("bad", {"day": "secret", "limit": 5.5})):
            labels = {"dag": "report", "run_id": run_id}
            orchestrator.publish({"resource": {"type": "start", "labels": labels}, "parameters": parameters})
        await asyncio.sleep(100)
        assert (await orchestrator.attach("good")).view.input == COMPLETE
        assert [each.run_id for each in await orchestrator.runs()] == ["good"]
    [parked] = [data for name, (data, *_) in store._objects.items() if name.startswith("rejected/")]
    reason = msgspec.json.decode(parked)["reason"]
    assert "  - day: must be a date like '2026-11-28', not 'secret'" in reason
    assert "  - limit: must be a whole number, not the number 5.5" in reason
    [line] = [each for each in caplog.records if getattr(each, "outcome", "") == "parked"]
    assert "the input for DAG 'report' is not valid, so no run was started: day, limit" in line.getMessage()
    assert "secret" not in caplog.text


# -- labels ----------------------------------------------------------------------------------------------------------


async def test_runs_are_listed_by_their_labels() -> None:
    """A list of runs has those with all wanted labels, resumed ones, too, and shows the labels of each."""
    async with engine() as orchestrator:
        labelled = await orchestrator.run(REPORT, input={"day": "2026-11-28"})
        other = await orchestrator.run({**REPORT, "labels": {"team": "data"}}, input={"day": "2026-11-28"})
        plain = await orchestrator.run(PLAIN)
        of_team = await orchestrator.runs(labels={"team": "data"})
        assert {each.run_id: dict(each.labels) for each in of_team} == {
            labelled.run_id: {"team": "data", "env": "prod"},
            other.run_id: {"team": "data"},
        }
        assert [each.run_id for each in await orchestrator.runs(labels={"team": "data", "env": "prod"})] == [
            labelled.run_id
        ]
        assert {each.run_id for each in await orchestrator.runs()} == {labelled.run_id, other.run_id, plain.run_id}


async def test_a_view_has_the_labels() -> None:
    """`RunView.labels` is a copy of those in the document; an unlabelled run has none."""
    async with engine() as orchestrator:
        run = await orchestrator.start(REPORT, input={"day": "2026-11-28"})
        run.view.labels["team"] = "changed"
        assert run.view.labels == {"team": "data", "env": "prod"}
        assert msgspec.json.decode(run.document())["$run"]["labels"] == {"env": "prod", "team": "data"}
        assert (await orchestrator.start(PLAIN)).view.labels == {}
