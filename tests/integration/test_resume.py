"""Resume from a step, with a new input or a new definition: the whole way from the call to the end of the new run."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiorch import (
    Client,
    InvalidInputError,
    Orchestrator,
    RunConflictError,
    RunStateError,
    RunStatus,
    TaskContext,
)
from aiorch.errors import DefinitionChangedError, NewerSchemaError, StepMissingError, StepNotResumableError
from aiorch.model.run_document import StartCommand
from aiorch.stores.memory import MemoryStore
from tests import golden_decoder
from tests.integration.test_orchestrator import FAST, chain, engine, named


class Calls(Counter[str]):
    """Callables that count their calls, and return their inputs; ``second`` fails while `is_broken`."""

    is_broken = False

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        async def work(context: TaskContext) -> Any:
            self[context.node] += 1
            if self.is_broken and context.node == "second":
                raise RuntimeError("broken")
            return [context.input, "x" * 2000 if context.node == "first" else len(context.results)]

        return dict.fromkeys(("first", "second", "third"), work)


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path}/state.db"


STEPS = named(chain("first", "second", "third"))


async def completed(orchestrator: Orchestrator, **keys: Any) -> None:
    run = await orchestrator.start(STEPS, run_id="r", **keys)
    assert (await run.wait()).status is RunStatus.COMPLETED


async def test_a_completed_run_runs_anew_from_a_step(store_url: Any) -> None:
    """What came before keeps its result, also a large one; the step and all after it see the new input."""
    calls = Calls()
    async with engine(calls.functions, store=store_url) as orchestrator:
        await completed(orchestrator, input=1)
        with pytest.raises(RunStateError, match="Completed"):
            await orchestrator.resume("r")
        run = await orchestrator.resume("r", from_step="second", input=2)
        result = await run.wait()
    assert result.status is RunStatus.COMPLETED
    assert calls == {"first": 1, "second": 2, "third": 2}
    assert result.results["first"] == [1, "x" * 2000]
    assert (result.results["second"], result.results["third"]) == ([2, 1], [2, 2])
    assert (run.run_id, run.run.header.resumed_from, run.run.header.resumed_from_step) == ("r.2", "r", "second")
    assert msgspec.json.decode(run.run.header.input) == 2


async def test_the_same_resume_is_one_run_and_a_different_one_a_conflict() -> None:
    """The refusal names the difference: step, input or definition. A null is an input, too."""
    calls = Calls()
    async with engine(calls.functions) as orchestrator:
        await completed(orchestrator, input=1)
        runs = await asyncio.gather(*(orchestrator.resume("r", from_step="third") for _ in range(5)))
        assert {(await run.wait()).run_id for run in runs} == {"r.2"}
        assert calls["third"] == 2
        with pytest.raises(RunConflictError, match=r"a different step to resume from.*Resume 'r.2' when it has ended"):
            await orchestrator.resume("r", from_step="second")
        with pytest.raises(RunConflictError, match="a different input"):
            await orchestrator.resume("r", from_step="third", input=None)
        with pytest.raises(RunConflictError, match="a different definition"):
            await orchestrator.resume("r", from_step="third", definition={**STEPS, "comment": "new"})
        again = await orchestrator.resume("r.2", from_step="third", input=5)
        assert (await again.wait()).results["third"] == [5, 2]
    assert again.run_id == "r.3"


async def test_a_wrong_resume_starts_nothing() -> None:
    """An unknown step, an input without a step, a changed step before it: the old run is still to be resumed."""
    calls = Calls()
    async with engine(calls.functions) as orchestrator:
        await completed(orchestrator)
        with pytest.raises(StepNotResumableError, match="did you mean 'second'"):
            await orchestrator.resume("r", from_step="secnd")
        with pytest.raises(StepMissingError, match="--from STEP"):
            await orchestrator.resume("r", input=3)
        with pytest.raises(InvalidInputError, match="not JSON"):
            await orchestrator.resume("r", from_step="second", input=object())
        changed = msgspec.json.decode(msgspec.json.encode(STEPS))
        changed["steps"]["first"]["timeout"] = 7
        with pytest.raises(DefinitionChangedError, match="step 'first': 'timeout' was none, and is 7"):
            await orchestrator.resume("r", from_step="second", definition=changed)
        assert [run.run_id for run in await orchestrator.runs()] == ["r"]


async def test_a_failed_run_goes_on_with_a_corrected_definition() -> None:
    """The failed step may change; the completed one is not called again."""
    calls = Calls()
    calls.is_broken = True
    mended = msgspec.json.decode(msgspec.json.encode(STEPS))
    mended["steps"]["second"] |= {"next": "between"}
    mended["steps"]["between"] = {**mended["steps"]["second"], "next": "third"}
    async with engine(calls.functions) as orchestrator:
        assert (await (await orchestrator.start(STEPS, run_id="r")).wait()).status is RunStatus.FAILED
        calls.is_broken = False
        run = await orchestrator.resume("r", definition=mended)
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert run.dag.definition_id != (await orchestrator.attach("r")).dag.definition_id
    assert calls == {"first": 1, "second": 2, "between": 1, "third": 1}


@pytest.mark.parametrize("definition", [None, {**STEPS, "comment": "new"}])
async def test_a_process_begins_the_resumed_run_from_the_marker_alone(definition: Any) -> None:
    """The process that resumed the run died before it wrote the document: another one keeps the same entries."""
    calls, store = Calls(), MemoryStore()
    async with engine(calls.functions, store=store) as orchestrator:
        await completed(orchestrator, input=1)
    async with Client(store, settings=FAST) as client:
        dag = None if definition is None else client.dag(definition)
        dag, command = await client._executor.resume_command(
            "r", from_step="second", encoded_input=b"2", definition=dag
        )
        await client.runs_status.save_dag(dag)
        assert await client.runs_status.open_run(command) is not None
    async with engine(calls.functions, store=store) as orchestrator, asyncio.timeout(10):
        run = await orchestrator.attach("r.2")
        result = await run.wait()
    assert (result.status, result.results["second"]) == (RunStatus.COMPLETED, [2, 1])
    assert calls == {"first": 1, "second": 2, "third": 2}
    assert (run.run.header.nonce, run.run.header.resumed_from_step) == (command.nonce, "second")


async def test_two_replicas_resume_one_run_at_once() -> None:
    """With the same step there is one run; with different ones, one wins and the other learns the difference."""
    calls, store = Calls(), MemoryStore()
    async with engine(calls.functions, store=store) as one, engine(calls.functions, store=store) as other:
        await completed(one)
        runs = await asyncio.gather(one.resume("r", from_step="second"), other.resume("r", from_step="second"))
        assert {(await run.wait()).run_id for run in runs} == {"r.2"}
        assert calls == {"first": 1, "second": 2, "third": 2}
        outcomes = await asyncio.gather(
            one.resume("r.2", from_step="second"), other.resume("r.2", from_step="third"), return_exceptions=True
        )
        refused = [each for each in outcomes if isinstance(each, RunConflictError)]
        assert [each.difference for each in refused] == ["step to resume from"]
        (run,) = [each for each in outcomes if not isinstance(each, BaseException)]
        assert (await run.wait()).status is RunStatus.COMPLETED
    assert calls["first"] == 1


async def command_of(definition: Any, **keys: Any) -> StartCommand:
    calls = Calls()
    calls.is_broken = True
    async with engine(calls.functions) as orchestrator:
        await (await orchestrator.start(STEPS, run_id="r")).wait()
        dag = None if definition is None else orchestrator.dag(definition)
        _, command = await orchestrator._executor.resume_command("r", definition=dag, **keys)
    return command


async def test_the_start_command_of_a_plain_resume_is_that_of_0_1() -> None:
    """Same version, same fields: a replica of that version may begin the run."""
    encoded = msgspec.json.encode(await command_of(None))
    golden_decoder.decode_start_command(encoded)
    assert list(msgspec.json.decode(encoded)) == [
        "schema_version", "run_id", "nonce", "dag", "definition", "input", "created_at", "resumed_from",
    ]  # fmt: skip


@pytest.mark.parametrize(("definition", "keys"), [(None, {"from_step": "second"}), ({**STEPS, "comment": "new"}, {})])
async def test_a_replica_of_0_1_leaves_other_resumes_alone(definition: Any, keys: dict[str, Any]) -> None:
    """It would keep other entries, so the start command has version 2, although the run document has version 1."""
    command = await command_of(definition, **keys)
    with pytest.raises(NewerSchemaError):
        golden_decoder.decode_start_command(msgspec.json.encode(command))


async def test_the_header_of_a_plain_resume_is_that_of_0_1() -> None:
    """The field of the step is left out."""
    calls, store = Calls(), MemoryStore()
    calls.is_broken = True
    async with engine(calls.functions, store=store) as orchestrator:
        await (await orchestrator.start(STEPS, run_id="r")).wait()
        run = await orchestrator.resume("r")
        await run.wait()
        header = msgspec.json.decode(run.document())["$run"]
    assert header["resumed_from"] == "r"
    assert "resumed_from_step" not in header


async def test_the_kept_input_is_completed_for_a_new_definition() -> None:
    """Inputs that the new definition adds get their defaults, and a kept input that it refuses starts no run."""
    calls = Calls()
    calls.is_broken = True
    async with engine(calls.functions) as orchestrator:
        await (await orchestrator.start(STEPS, run_id="r", input={"n": 1})).wait()
        calls.is_broken = False
        for inputs, problem in (({"n": "string"}, "n"), ({"m": "integer"}, "m"), ({"n": "integer", "m": "null"}, "m")):
            with pytest.raises(InvalidInputError, match=f"no run was started.*\n.*{problem}"):
                await orchestrator.resume("r", definition={**STEPS, "inputs": inputs})
        assert [run.run_id for run in await orchestrator.runs()] == ["r"]
        inputs = {"n": "integer", "limit": {"type": "integer", "default": 5}}
        run = await orchestrator.resume("r", definition={**STEPS, "inputs": inputs})
        result = await run.wait()
    assert run.view.input == {"n": 1, "limit": 5}
    assert result.results["second"][0] == {"n": 1, "limit": 5}
