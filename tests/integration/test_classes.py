"""The classes of the original design work together without an orchestrator: statuses, builder, DAG, executor."""

import asyncio
from typing import Any

import pytest

from aiorch import (
    DAG,
    DAGBuilder,
    DAGExecutor,
    ExecutionStatus,
    OrchestrationStatus,
    RunNotFoundError,
    RunStatus,
    TaskContext,
    TaskStatus,
)
from aiorch.engine.receipt import Outcome
from aiorch.errors import MalformedEventError, UnknownDAGError
from aiorch.stores import MemoryStore
from tests.integration.test_intake import Silent, gen2
from tests.integration.test_intake import start as start_of

NAME = f"{__name__}:work"


async def work(context: TaskContext) -> str:
    return f"{context.node} of {context.run_id}"


def step(**keys: Any) -> dict[str, Any]:
    return {"type": "Task", "target_type": "Function", "function": NAME, **keys}


DEFINITION = {
    "start": "First",
    "steps": {
        "First": step(next="Both"),
        "Both": {
            "type": "Parallel",
            "branches": [
                {"start": "Left", "steps": {"Left": step(end=True)}},
                {"start": "Right", "steps": {"Right": step(end=True)}},
            ],
            "next": "Last",
        },
        "Last": step(end=True),
    },
}


def built(store: MemoryStore, definition: dict[str, Any] = DEFINITION) -> DAG:
    return DAGBuilder(
        definition, execution_status=ExecutionStatus(store), orchestration_status=OrchestrationStatus(store)
    ).build_dag()


async def test_a_start_carries_the_run_to_its_end() -> None:
    """An executor of one argument takes a start, and both statuses hold the finished run."""
    store = MemoryStore()
    runs, executions = OrchestrationStatus(store), ExecutionStatus(store)
    dag = DAGBuilder(DEFINITION, execution_status=executions, orchestration_status=runs).build_dag()
    async with asyncio.timeout(5), DAGExecutor(dag) as executor:
        receipt = await executor.handle({"resource": {"type": "start", "labels": {"run_id": "r"}}})
        assert (receipt.kind, receipt.run_id, receipt.outcome) == ("start", "r", Outcome.APPLIED)
        stored = await executor.wait("r")
    assert stored.run.status is RunStatus.COMPLETED
    again = await runs.get_run(stored.run.header.run_id)  # type: ignore[arg-type]
    assert again is not None
    assert {task.bound_to(again.run).status for task in dag.all_tasks.values()} == {TaskStatus.COMPLETED}
    for name in dag.all_tasks:
        execution = await executions.get_execution(again.run.nodes[name].execution_id or "")
        assert execution is not None
        assert (execution.node_name, execution.succeeded) == (name, True)
        assert bytes(execution.response) == f'"{name} of r"'.encode()


async def test_ends_of_tasks_come_as_events() -> None:
    """An executor that is handed the ends of its calls goes on with each; the same event again changes nothing."""
    call = {"type": "Task", "target_type": "CloudFunction", "target_name": "load_orders", "on_no_result": "accept"}
    dag = built(MemoryStore(), {"start": "A", "steps": {"A": {**call, "next": "B"}, "B": {**call, "end": True}}})
    target = Silent()
    async with asyncio.timeout(5), DAGExecutor(dag, targets={"CloudFunction": target}, awaits_events=True) as executor:
        await executor.handle(start_of(run_id="r"))
        for node in ("A", "B"):
            while not target.sent or target.sent[-1].node != node:
                await asyncio.sleep(0)
            event = gen2(target.sent[-1].execution_id)
            receipts = [await executor.handle(event) for _ in range(2)]
            assert {(receipt.node, receipt.outcome) for receipt in receipts} == {(node, Outcome.APPLIED)}
        assert (await executor.wait("r")).run.status is RunStatus.COMPLETED
        assert [context.node for context in target.sent] == ["A", "B"]
        foreign = await executor.handle(gen2("0" * 32))
        assert foreign.outcome is Outcome.FOREIGN


async def test_events_that_do_not_fit_are_refused() -> None:
    """A start of no DAG, a cancel of no run and an event that cannot be read raise, and nothing is stored."""
    store = MemoryStore()
    async with DAGExecutor(built(store)) as executor:
        with pytest.raises(
            UnknownDAGError, match="this process does not serve a DAG 'etl', so no run was started; served: dag"
        ):
            await executor.handle(start_of("etl"))
        with pytest.raises(RunNotFoundError):
            await executor.handle({"resource": {"type": "cancel", "labels": {"run_id": "r"}}})
        with pytest.raises(MalformedEventError):
            await executor.handle({"resource": {"type": "start", "labels": {"run_id": "../r"}}})
        assert (await executor.handle({"resource": {"type": "gce_instance"}})).outcome is Outcome.FOREIGN
        assert await store.list("") == []


async def test_a_start_without_an_id() -> None:
    """The same message is the same run; a start that no message carried is a run of its own each time."""
    store = MemoryStore()
    async with asyncio.timeout(5), DAGExecutor(built(store)) as executor:
        now = executor.clock.now()
        same = [await executor.handle(start_of(), message_id="m", publish_time=now) for _ in range(2)]
        own = [await executor.handle(start_of()) for _ in range(2)]
        assert len({receipt.run_id for receipt in same}) == 1
        assert len({receipt.run_id for receipt in (*same, *own)}) == 3
        for receipt in (*same, *own):
            assert (await executor.wait(receipt.run_id or "")).run.status is RunStatus.COMPLETED


def test_an_executor_without_a_status_is_not_made() -> None:
    """The message says which status is missing, or that the DAGs do not agree on one."""
    plain, one, other = DAGBuilder(DEFINITION).build_dag(), built(MemoryStore()), built(MemoryStore())
    with pytest.raises(TypeError, match="one orchestration_status, and none was given to the builders of its DAGs"):
        DAGExecutor(plain)
    with pytest.raises(TypeError, match="one orchestration_status, and 2 different ones were given"):
        DAGExecutor(one, other)
    with pytest.raises(TypeError, match="one execution_status, and none was given"):
        DAGExecutor(plain, orchestration_status=OrchestrationStatus(MemoryStore()))
