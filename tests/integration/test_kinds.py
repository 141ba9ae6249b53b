"""Kinds of nodes that the fold decides, in runs that the engine carries out."""

import json

from aiorch import RunStatus, TaskContext
from aiorch.stores.memory import MemoryStore
from aiorch.testing import CountingObserver
from tests.definitions import parallel
from tests.integration.test_orchestrator import chain, engine, named, task
from tests.unit.test_kinds import Copy


async def test_a_result_that_decides_is_read_from_its_record() -> None:
    """The engine reads a large result that the fold asks for, and the run goes on with it."""
    calls: list[str] = []

    async def large(context: object) -> str:
        return "x" * 5000

    async def after(context: object) -> None:
        calls.append("after")

    async with engine({"large": large, "after": after}) as orchestrator:
        definition = chain("A", "C", "End")
        definition["steps"] |= {"A": task("large", next="C"), "C": task("after", next="End"), "End": task("after")}
        dag = orchestrator.dag(named(definition))
        dag.nodes["C"].kind = Copy()
        result = await (await orchestrator.start(dag)).wait()
    assert result.status is RunStatus.COMPLETED
    assert result.results["C"] == "x" * 5000
    assert calls == ["after"]


async def test_nodes_that_the_fold_decides_cost_no_commit_of_their_own() -> None:
    """A chain of tasks and values takes as many commits as the tasks alone."""
    observer = CountingObserver()

    async def value_of(context: TaskContext) -> object:
        return context.results["Before"]

    definition = {
        "name": "values",
        "start": "First",
        "steps": {
            "First": {"type": "Pass", "result": 1, "next": "Before"},
            "Before": {"type": "Pass", "result": {"day": 2}, "next": "Ask"},
            "Ask": task("ask", next="After"),
            "After": {"type": "Pass", "next": "Last"},
            "Last": {"type": "Pass", "result": "end", "end": True},
        },
    }
    async with engine({"ask": value_of}, observer=observer) as orchestrator:
        run = await orchestrator.start(named(definition))
        result = await run.wait()
        assert await run.result() == "end"
    assert result.status is RunStatus.COMPLETED
    assert dict(result.results) == {"First": 1, "Before": {"day": 2}, "Ask": {"day": 2}, "After": None, "Last": "end"}
    assert observer.commits == 2


async def test_a_run_without_any_task_is_one_commit() -> None:
    """A DAG of values alone has ended when it has begun, and its marker goes."""
    observer, store = CountingObserver(), MemoryStore()
    definition = {"name": "value", "start": "A", "steps": {"A": {"type": "Pass", "result": [1], "end": True}}}
    async with engine(store=store, observer=observer) as orchestrator:
        run = await orchestrator.start(definition)
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert await run.result() == [1]
    assert observer.commits == 1
    assert await store.list("open/") == []


async def test_a_fail_ends_its_run_with_its_own_type_and_message() -> None:
    """The run fails in the commit that reaches the node, and a resumed run fails there again."""
    observer = CountingObserver()

    async def ask(context: TaskContext) -> None:
        pass

    definition = {
        "name": "fails",
        "start": "Ask",
        "steps": {
            "Ask": task("ask", next="Reject"),
            "Reject": {"type": "Fail", "error": "NoOrders", "message": "the export holds no orders"},
        },
    }
    async with engine({"ask": ask}, observer=observer) as orchestrator:
        run = await orchestrator.start(named(definition))
        result = await run.wait()
        assert result.status is RunStatus.FAILED
        assert result.error is not None
        assert result.error.text == "NoOrders: node 'Reject' failed: the export holds no orders"
        assert observer.commits == 2
        again = await (await orchestrator.resume(run.run_id)).wait()
        assert again.status is RunStatus.FAILED
        assert observer.launches == {"Function": 1}


async def test_a_fail_in_a_branch_stops_the_branches_beside_it() -> None:
    """A Parallel that fails fast skips the branches that come after the one that fails at its first node."""

    async def never(context: TaskContext) -> None:
        raise AssertionError

    definition = {
        "name": "fails",
        "start": "P",
        "steps": {
            "P": parallel(
                {"start": "No", "steps": {"No": {"type": "Fail", "error": "No"}}},
                {"start": "Other", "steps": {"Other": task("never")}},
            ),
        },
    }
    async with engine({"never": never}) as orchestrator:
        run = await orchestrator.start(named(definition))
        result = await run.wait()
        document = json.loads(run.document())
    assert result.status is RunStatus.FAILED
    assert {name: document[name]["status"] for name in ("P", "No", "Other")} == {
        "P": "Failed", "No": "Failed", "Other": "Skipped",
    }  # fmt: skip
