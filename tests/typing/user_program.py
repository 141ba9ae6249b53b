"""A program that uses the whole public API. Type checkers read it in their strictest modes, and a test runs it."""

import asyncio
from collections.abc import Mapping
from typing import Any, assert_type

from aiorch import (
    DAG,
    AiorchError,
    Client,
    DAGBuilder,
    DAGExecutor,
    DefinitionError,
    EventFactory,
    ExecutionStatus,
    Failure,
    InvalidInputError,
    Node,
    OrchestrationStatus,
    Orchestrator,
    Parallel,
    RunHandle,
    RunNotFoundError,
    RunResult,
    RunStatus,
    Settings,
    StartEvent,
    StoreError,
    TargetTypes,
    Task,
    TaskContext,
    TaskStatus,
)
from aiorch.documents import Execution, Results, RunSummary, StoredRun
from aiorch.engine.receipt import Receipt
from aiorch.errors import Problem
from aiorch.events import Event
from aiorch.model import NodeState
from aiorch.ports import Answer, Store, Succeeded, Target
from aiorch.run_handle import RunView
from aiorch.stores import MemoryStore, open_store
from aiorch.testing import Answer as ScriptedAnswer
from aiorch.testing import Case, CaseFailedError, Expectation, Outcome, TargetCall, run_case


async def load(context: TaskContext) -> list[int]:
    assert_type(context.attempt, int)
    assert_type(context.parameters, dict[str, Any])
    limit: int = context.input["limit"]
    return list(range(limit))


def total(context: TaskContext) -> int:
    numbers: list[int] = context.results["Load"]
    return sum(numbers)


DEFINITION: dict[str, Any] = {
    "name": "typed",
    "inputs": {"limit": "integer"},
    "labels": {"team": "data"},
    "start": "Load",
    "steps": {
        "Load": {"type": "Task", "target_type": "Function", "function": load, "next": "Both"},
        "Both": {
            "type": "Parallel",
            "branches": [
                {
                    "start": "Total",
                    "steps": {"Total": {"type": "Task", "target_type": "Function", "function": total, "end": True}},
                },
                {
                    "start": "Call",
                    "steps": {
                        "Call": {"type": "Task", "target_type": "CloudFunction", "target_name": "bill", "end": True}
                    },
                },
            ],
            "end": True,
        },
    },
}


class Fake:
    """A target without a network."""

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        return Succeeded(b'"billed"')

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        pass

    async def aclose(self) -> None:
        pass


def look_at(dag: DAG) -> list[str]:
    assert dag.start_node is not None
    node: Node = dag.nodes[dag.start_node]
    assert_type(dag.all_tasks, dict[str, Task])
    assert_type(node.next_node, Node | None)
    parallels = [each for each in dag.all_nodes.values() if isinstance(each, Parallel)]
    return [str(branch.start_node) for each in parallels for branch in each.branches]


async def orchestrate(store: Store) -> RunResult:
    target: Target = Fake()
    async with Orchestrator(
        store, dags=[DEFINITION], targets={TargetTypes.CLOUD_FUNCTION: target}, settings=Settings(drain_s=1)
    ) as orchestrator:
        assert_type(orchestrator, Orchestrator)
        run: RunHandle = await orchestrator.start(DEFINITION, input={"limit": 3}, run_id="one")
        async for view in run.changes():
            assert_type(view, RunView)
            assert_type(view.nodes["Load"], NodeState)
            assert_type(view.counts, dict[TaskStatus, int])
            assert_type(view.labels, dict[str, str])
        result = await run.wait()
        assert_type(result.status, RunStatus)
        assert_type(result.error, Failure | None)
        assert_type(result.results, Results)
        assert_type(await run.document_with_results(), bytes)
        try:
            await orchestrator.start(DEFINITION, input={"limit": "3"})
        except InvalidInputError as error:
            assert_type([(problem.name, problem.path) for problem in error.problems], list[tuple[str, str]])
        return await orchestrator.run(DEFINITION, input={"limit": 4})


async def ask(store: Store) -> list[str]:
    async with Client(store) as client:
        assert_type(client, Client)
        summaries = await client.runs(labels={"team": "data"})
        assert_type(summaries, list[RunSummary])
        assert_type([summary.labels for summary in summaries], list[Mapping[str, str]])
        try:
            await client.cancel("none", reason="no longer needed")
        except RunNotFoundError as error:
            assert_type(error.run_id, str)
        except (StoreError, AiorchError):
            raise
        return [summary.run_id for summary in summaries]


async def execute(store: Store) -> StoredRun:
    runs, executions = OrchestrationStatus(store), ExecutionStatus(store)
    dag = DAGBuilder(DEFINITION, execution_status=executions, orchestration_status=runs).build_dag()
    event = EventFactory().create_from_event({"resource": {"type": "start"}})
    assert_type(event, Event | None)
    assert isinstance(event, StartEvent)
    functions = {TargetTypes.CLOUD_FUNCTION: Fake(), TargetTypes.FUNCTION: Fake()}
    async with DAGExecutor(dag, targets=functions) as executor:
        assert_type(executor, DAGExecutor)
        receipt = await executor.handle(
            {"resource": {"type": "start", "labels": {"run_id": "two"}}, "parameters": {"limit": 3}}
        )
        assert_type(receipt, Receipt)
        stored = await executor.wait("two")
    assert_type(await executions.get_execution(stored.run.nodes["Load"].execution_id or ""), Execution | None)
    assert_type([task.bound_to(stored.run).status for task in dag.all_tasks.values()], list[TaskStatus])
    return stored


def rehearse() -> Outcome:
    case = Case(
        DEFINITION,
        name="a step that fails",
        input={"limit": 2},
        answers={
            "Load": ScriptedAnswer(result=[1, 2]),
            "Total": [ScriptedAnswer(error="OSError", message="busy", after=60)],
            "Call": ScriptedAnswer(result={"billed": True}),
        },
        expect=Expectation(error="BranchFailed", steps={"Total": "Completed"}, calls={"Call": 1}),
    )
    try:
        return run_case(case)
    except CaseFailedError as error:
        assert_type(error.problems, tuple[Problem, ...])
        assert_type(error.outcome.calls["Load"], tuple[TargetCall, ...])
        assert_type(error.outcome.way, tuple[str, ...])
        return error.outcome


async def main() -> tuple[RunResult, list[str], StoredRun, list[str]]:
    try:
        DAGBuilder({"start": "A"}).build_dag()
    except DefinitionError as error:
        assert_type([problem.path for problem in error.problems], list[str])
    assert_type(open_store("memory:"), Store)
    assert rehearse().status == "Failed"
    store = MemoryStore()
    result = await orchestrate(store)
    return result, await ask(store), await execute(store), look_at(DAGBuilder(DEFINITION).build_dag())


if __name__ == "__main__":
    asyncio.run(main())
