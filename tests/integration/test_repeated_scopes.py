"""Runs with repeated scopes, which the engine carries out: the kinds of `tests.kinds` in real processes."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aiorch import NoResultError, Orchestrator, RunStatus, TaskContext, TaskNotFoundError, TaskStatus
from aiorch.core.run_events import TaskWaits
from aiorch.definition.build import DAGBuilder
from aiorch.documents.executions import ExecutionStatus
from aiorch.engine.receipt import Outcome
from aiorch.errors import ResultPendingError
from aiorch.model.dag import DAG
from aiorch.model.enums import TargetTypes
from aiorch.ports.target import Answer, NotStarted
from aiorch.testing import in_virtual_time
from tests import definitions
from tests.definitions import chain, job, parallel
from tests.integration.test_jobs import LIMIT, JobTarget, World
from tests.kinds import Items, Repeating, Rounds, Tries, repeat

LARGE = "x" * 5000
"""A result that goes to the execution record."""


def task(name: str, **keys: Any) -> dict[str, Any]:
    return definitions.task(target_name=f"t:{name}", **keys)


def dag_of(definition: dict[str, Any], **kinds: Repeating) -> DAG:
    return repeat(DAGBuilder({"name": "repeated", **definition}).build_dag(), **kinds)


async def run(dag: DAG, functions: dict[str, Callable[..., Any]], status: RunStatus = RunStatus.COMPLETED) -> Any:
    """Carry out a run in one process that forgets the run at the end, and return its handle."""
    world = World()
    async with world.process(functions={f"t:{name}": each for name, each in functions.items()}) as process:
        handle = await process.start(dag, run_id="r")
        assert (await handle.wait()).status is status
        await world.until(lambda: not process._executor.committers)  # no execution of a scope that is gone is left
        return handle


# -- results -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_task_sees_the_results_of_its_own_scope() -> None:
    """Each round has its own results, small or large, beside those from before the node with the rounds."""
    seen: dict[str, Any] = {}
    numbers = iter(range(1, 9))

    async def check(context: TaskContext) -> list[Any]:
        return [next(numbers), LARGE]

    async def note(context: TaskContext) -> None:
        seen[context.node] = {name: context.results[name] for name in context.results}

    level = chain(Check=task("check"), P=parallel(chain(Note=task("note"))))
    definition = chain(Before=task("check"), Poll=parallel(level), End=task("note"))
    handle = await run(dag_of(definition, Poll=Rounds(2)), {"check": check, "note": note})
    assert seen == {
        "Poll[1].Note": {"Check": [2, LARGE], "Before": [1, LARGE]},
        "Poll[2].Note": {"Check": [3, LARGE], "Before": [1, LARGE]},
        "End": {"Before": [1, LARGE]},
    }
    assert set(handle.view.nodes) == {"Before", "Poll", "End"}


@in_virtual_time
async def test_a_result_that_a_task_in_a_scope_does_not_see_is_explained() -> None:
    """The error names the reason: the task itself, a later node, the node around, or a scope of a different node."""
    said: dict[str, str] = {}

    async def look(context: TaskContext) -> None:
        for name in ("In", "Next", "Many", "After"):
            try:
                context.results[name]
            except NoResultError as error:
                said[f"{context.node} {name}"] = str(error)

    definition = chain(Many=parallel(chain(In=task("look"), Next=task("look"))), After=task("look"))
    await run(dag_of(definition, Many=Items(1)), {"look": look})
    assert set(said) == {
        "Many[0].In In", "Many[0].In Next", "Many[0].In Many", "Many[0].In After",
        "Many[0].Next Next", "Many[0].Next Many", "Many[0].Next After",
        "After In", "After Next", "After Many", "After After",
    }  # fmt: skip
    assert "'In' is this task itself. 'Many[0].In' sees the results of no node." in said["Many[0].In In"]
    assert "'Next' is a node that begins only after 'In'." in said["Many[0].In Next"]
    assert "'Many' is a Items around 'In', which ends only after this task." in said["Many[0].In Many"]
    assert "'Many[0].Next' sees the results of 'In'." in said["Many[0].Next After"]
    assert "'In' is a node in 'Many', which has an entry for each of its repeated scopes." in said["After In"]
    assert "it is a Items, and has no result of its own." in said["After Many"]


@in_virtual_time
async def test_the_last_try_is_seen_from_outside() -> None:
    """Tasks after a node that was tried again, and users, see the results of the last try under the plain names."""
    seen: dict[str, Any] = {}

    async def load(context: TaskContext) -> list[str]:
        return [context.node, LARGE]

    async def store(context: TaskContext) -> str:
        seen[context.node] = dict(context.results)
        if not context.node.startswith("Fan#3."):
            raise OSError("no luck")
        return "stored"

    async def last(context: TaskContext) -> int:
        seen["Last"] = dict(context.results)
        return 1

    level = chain(Load=task("load"), P=parallel(chain(Store=task("store"))))
    dag = dag_of(chain(Fan=parallel(level), Last=task("last")), Fan=Tries())
    handle = await run(dag, {"load": load, "store": store, "last": last})
    assert seen == {
        "Store": {"Load": ["Load", LARGE]},
        "Fan#2.Store": {"Load": ["Fan#2.Load", LARGE]},
        "Fan#3.Store": {"Load": ["Fan#3.Load", LARGE]},
        "Last": {"Load": ["Fan#3.Load", LARGE], "Store": "stored"},
    }
    assert dict(await handle.results()) == {"Load": ["Fan#3.Load", LARGE], "Store": "stored", "Last": 1}
    assert await handle.result("Load") == ["Fan#3.Load", LARGE]
    assert await handle.result("Fan#2.Load") == ["Fan#2.Load", LARGE]
    assert {name: str(state.status) for name, state in handle.view.nodes.items()} == {
        "Fan": "Completed", "Load": "Completed", "P": "Failed", "Store": "Failed",
        "Fan#2.Load": "Completed", "Fan#2.P": "Failed", "Fan#2.Store": "Failed",
        "Fan#3.Load": "Completed", "Fan#3.P": "Completed", "Fan#3.Store": "Completed", "Last": "Completed",
    }  # fmt: skip


@in_virtual_time
async def test_a_user_reads_results_by_the_names_of_entries() -> None:
    """The handle of a run has the results of each repeated scope, and explains a plain name that means none."""
    world, go_on = World(), asyncio.Event()

    async def work(context: TaskContext) -> str:
        if context.node == "Many[1].Next":
            await go_on.wait()
        return LARGE if context.node == "Many[1].In" else context.node

    dag = dag_of(chain(Many=parallel(chain(In=task("work"), Next=task("work")))), Many=Items(2))
    async with world.process(functions={"t:work": work}) as process:
        handle = await process.start(dag, run_id="r")
        await world.until(lambda: "Many[0].In" not in handle.view.nodes)
        assert dict(await handle.results()) == {"Many[1].In": LARGE}
        assert await handle.result("Many[1].In") == LARGE
        with pytest.raises(ResultPendingError, match=r"no result of 'Many\[1\].Next' yet: it is Starting"):
            await handle.result("Many[1].Next")
        with pytest.raises(TaskNotFoundError, match=r"no result of 'In' alone.*such as 'Many\[0\].In'"):
            await handle.result("In")
        with pytest.raises(TaskNotFoundError, match="the DAG has no node of this name"):
            await handle.result("Many[0].In")
        go_on.set()
        await handle.wait()


# -- attempts ----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_tasks_of_all_scopes_are_tried_again_on_their_own() -> None:
    """Entries of one node have attempts, executions and records of their own, which name the entry."""
    sent: list[tuple[str, int, str]] = []

    async def work(context: TaskContext) -> None:
        sent.append((context.node, context.attempt, context.execution_id))
        if context.attempt == 1 and context.node != "Many[1].In":
            raise OSError("no luck")

    world = World()
    retried = task("work", retry={"max_attempts": 2, "initial_delay": 30})
    dag = dag_of(chain(Many=parallel(chain(In=retried))), Many=Items(3))
    async with world.process(functions={"t:work": work}) as process:
        handle = await process.start(dag, run_id="r")
        await world.until(lambda: len(sent) == 3)
        await world.until(lambda: "Many[1].In" not in world.document())
        assert {name: each["status"] for name, each in world.document().items() if name.startswith("Many[")} == {
            "Many[0].In": "Retrying", "Many[2].In": "Retrying",
        }  # fmt: skip
        assert (await handle.wait()).status is RunStatus.COMPLETED
        assert sorted((node, attempt) for node, attempt, _ in sent) == [
            ("Many[0].In", 1), ("Many[0].In", 2), ("Many[1].In", 1), ("Many[2].In", 1), ("Many[2].In", 2),
        ]  # fmt: skip
        records = ExecutionStatus(world.memory)
        for node, attempt, key in sent:
            record = await records.get_execution(key)
            assert record is not None
            assert (record.node_name, record.attempt) == (node, attempt)
        assert len({key for *_, key in sent}) == 5


@in_virtual_time
async def test_a_parallel_is_tried_again_in_entries_of_its_own() -> None:
    """The job of the first try is stopped, and the second try runs all branches again, one level deeper as well."""
    world = World()

    async def work(context: TaskContext) -> str:
        await world.until(lambda: bool(world.jobs.running))
        if context.node == "Store":
            raise OSError("no luck")
        return context.node

    inner = chain(Deep=parallel(chain(Store=task("work"))))
    fan = parallel(chain(Job=job()), inner, retry={"max_attempts": 2, "initial_delay": 10})
    async with world.process(functions={"t:work": work}) as process:
        handle = await process.start(chain(Fan=fan, Last=task("work")), run_id="r")
        await world.until(lambda: "Fan#2.Job" in world.document() and bool(world.jobs.running))
        assert [world.jobs.states[key] for key in world.jobs.stopped] == ["stopped"]
        await world.until(lambda: world.entry("Fan#2.Store")["status"] == "Completed")
        world.jobs.end()
        await world.until(lambda: world.entry("Fan")["status"] == "Completed")
        world.jobs.states["more"] = "running"  # lets `Last` end
        assert (await handle.wait()).status is RunStatus.COMPLETED
    assert world.jobs.launched == ["Job", "Fan#2.Job"]
    results = await handle.results()
    assert (results["Store"], results["Last"]) == ("Fan#2.Store", "Last")
    assert {name: str(state.status) for name, state in handle.view.nodes.items()} == {
        "Fan": "Completed", "Job": "Cancelled", "Deep": "Failed", "Store": "Failed", "Last": "Completed",
        "Fan#2.Job": "Completed", "Fan#2.Deep": "Completed", "Fan#2.Store": "Completed",
    }  # fmt: skip


@in_virtual_time
async def test_a_limit_holds_over_repeated_scopes() -> None:
    """Tasks of all scopes wait for the slots of one limit, and each begins once."""
    world = World()
    dag = dag_of(chain(Many=parallel(chain(Job=job()))), Many=Items(5))
    async with world.process() as process:
        handle = await process.start(dag, run_id="r")
        for left in (5, 4, 3, 2, 1):
            await world.until(lambda left=left: len(world.jobs.running) == min(left, LIMIT))  # type: ignore[misc]
            world.jobs.end()
        assert (await handle.wait()).status is RunStatus.COMPLETED
    assert world.jobs.most == LIMIT
    assert sorted(world.jobs.launched) == [f"Many[{number}].Job" for number in range(5)]


@in_virtual_time
async def test_a_task_in_a_scope_says_why_it_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The entry holds the reason of a refused launch; log records about the execution name the entry."""

    class Refusing(JobTarget):
        is_refusing = True

        async def launch(self, task: Any, context: TaskContext) -> Answer:
            return NotStarted("quota") if self.is_refusing else await super().launch(task, context)

    world = World()
    target = Refusing(world.jobs)
    dag = dag_of(chain(Many=parallel(chain(Job=job()))), Many=Items(1))
    with caplog.at_level(logging.WARNING):
        async with world.process(targets={TargetTypes.DATAFLOW: target}) as process:
            await process.start(dag, run_id="r")
            await world.until(lambda: world.document().get("Many[0].Job", {}).get("waits_because") == "quota")
            target.is_refusing = False
            await world.until(lambda: "waits_because" not in world.document()["Many[0].Job"])
            world.jobs.end()
            await world.until(lambda: "Many[0].Job" not in world.document())
    nodes = {vars(record)["node"] for record in caplog.records if "launch did not start" in record.getMessage()}
    assert nodes == {"Many[0].Job"}


@in_virtual_time
async def test_a_task_in_a_scope_waits_for_a_process_that_can_launch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot launch the tasks says so in their entries, and a second process launches them."""

    class Unable(JobTarget):
        asked = 0

        def resolve(self, task: Any) -> str | None:
            self.asked += 1
            return "no credentials" if self.asked > 1 else None  # else the start would be refused

    world = World()
    dag = dag_of(chain(Many=parallel(chain(Job=job()))), Many=Items(2))
    monkeypatch.setattr(DAGBuilder, "build_stored_dag", lambda _: dag)
    names = ["Many[0].Job", "Many[1].Job"]
    async with world.process(targets={TargetTypes.DATAFLOW: Unable(world.jobs)}) as unable:
        await unable.start(dag, run_id="r")
        reason = "no process that can launch it: no credentials"
        await world.until(lambda: [world.entry(name).get("waits_because") for name in names] == [reason] * 2)
        async with world.process() as able:
            await world.until(lambda: len(world.jobs.running) == 2)
            assert {world.entry(name)["by"] for name in names} == {able._executor.process.id}
            for _ in names:
                world.jobs.end()
            await world.until(lambda: world.document()["$run"]["status"] == "Completed")
    assert sorted(world.jobs.launched) == names


# -- ends --------------------------------------------------------------------------------------------------------


@in_virtual_time
@pytest.mark.parametrize("kind", [Items(2), Tries()])
async def test_a_cancel_stops_the_executions_of_all_scopes(kind: Repeating) -> None:
    """The jobs of all items, and those of a later try, are stopped; then the run is Cancelled."""
    world = World()
    level = parallel(chain(Job=job()), chain(Other=job()))
    dag = dag_of(chain(Many=parallel(chain(P=level)), End=job()), Many=kind)
    async with world.process() as process:
        handle = await process.start(dag, run_id="r")
        await world.until(lambda: len(world.jobs.running) == (2 if kind.name == "Tries" else 3))
        if kind.name == "Tries":
            world.jobs.end("failed", world.entry("Job")["execution_id"])
            await world.until(lambda: "Many#2.Job" in world.document())
        live = [name for name, each in world.document().items() if each.get("by") is not None]
        await handle.cancel()
        assert (await handle.wait()).status is RunStatus.CANCELLED
        assert not world.jobs.running
        nodes = handle.view.nodes
        assert nodes["End"].status is TaskStatus.SKIPPED
        assert {str(nodes[name].status) for name in live} == {"Cancelled"}
        await world.until(lambda: not process._executor.committers)


@in_virtual_time
async def test_a_failure_beside_a_repeated_scope_stops_its_executions() -> None:
    """A Parallel that fails fast stops the jobs in all scopes of its other branch, and the run fails."""
    world, fails = World(), asyncio.Event()

    async def bad(context: TaskContext) -> None:
        await fails.wait()
        raise OSError("no luck")

    items = chain(Many=parallel(chain(Job=job(), Next=job())))
    dag = dag_of(chain(Both=parallel(items, chain(Bad=task("bad"))), End=job()), Many=Items(2))
    async with world.process(functions={"t:bad": bad}) as process:
        handle = await process.start(dag, run_id="r")
        await world.until(lambda: len(world.jobs.running) == 2)
        fails.set()
        assert (await handle.wait()).status is RunStatus.FAILED
        assert sorted(world.jobs.states.values()) == ["stopped", "stopped"]
        assert {name: str(state.status) for name, state in handle.view.nodes.items()} == {
            "Both": "Failed", "Many": "Cancelled", "Bad": "Failed", "End": "Skipped",
            "Many[0].Job": "Cancelled", "Many[0].Next": "Skipped",
            "Many[1].Job": "Cancelled", "Many[1].Next": "Skipped",
        }  # fmt: skip


# -- several processes -------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_second_process_takes_over_the_executions_of_all_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of a dead process are asked about, not launched again, and the run goes on with the next round."""
    world = World()
    dag = dag_of(chain(Poll=parallel(chain(P=parallel(chain(Job=job()), chain(Other=job()))))), Poll=Rounds(2))
    monkeypatch.setattr(DAGBuilder, "build_stored_dag", lambda _: dag)
    async with world.process() as first:
        await first.start(dag, run_id="r")
        await world.until(lambda: len(world.jobs.running) == 2)
        world.jobs.end(key=world.entry("Poll[1].Job")["execution_id"])
        await world.until(lambda: world.entry("Poll[1].Job")["status"] == "Completed")
        await world.until_running("Poll[1].Other")
        await world.die(first)
        async with world.process() as second:
            await world.until(lambda: world.entry("Poll[1].Other")["by"] == second._executor.process.id)
            world.jobs.end()
            await world.until(lambda: len(world.jobs.running) == 2)
            for _ in range(2):
                world.jobs.end()
            await world.until(lambda: world.document()["$run"]["status"] == "Completed")
            await world.until(lambda: not second._executor.committers)
    assert sorted(world.jobs.launched) == ["Poll[1].Job", "Poll[1].Other", "Poll[2].Job", "Poll[2].Other"]
    assert set(world.jobs.launches.values()) == {1}


@in_virtual_time
async def test_a_process_gives_up_an_execution_whose_scope_has_ended_elsewhere() -> None:
    """A second process has taken the execution over and ended the round: the first one forgets the execution."""
    world, calls, cancelled = World(), [], []

    async def work(context: TaskContext) -> None:
        calls.append(context.node)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(context.node)
            raise

    dag = dag_of(chain(Poll=parallel(chain(In=task("work"))), End=task("work")), Poll=Rounds(1))
    async with world.process(functions={"t:work": work}) as process:
        handle = await process.start(dag, run_id="r")
        await world.until(lambda: calls == ["Poll[1].In"])
        document = world.document()
        del document["Poll[1].In"]
        document["Poll"]["status"] = "Completed"
        document["$run"]["status"] = "Completed"
        document["End"]["status"] = "Completed"
        generation = world.memory._objects["runs/r.json"][1]
        await world.memory.write("runs/r.json", msgspec.json.encode(document), if_generation_match=generation)
        handle._committer.refresh()
        await world.until(lambda: cancelled == ["Poll[1].In"])
        await world.until(lambda: not process._executor.committers)


@in_virtual_time
async def test_an_event_about_a_scope_that_has_ended_changes_nothing() -> None:
    """The platform's line about a job of the first round, which comes in the second round, is acknowledged."""
    world = World()
    dag = dag_of(chain(Poll=parallel(chain(Job=job()))), Poll=Rounds(2))
    async with world.process() as process:
        handle = await process.start(dag, run_id="r")
        await world.until(lambda: len(world.jobs.running) == 1)
        key = world.jobs.running[0]
        world.jobs.end()
        await world.until(lambda: "Poll[2].Job" in world.document() and len(world.jobs.running) == 1)
        assert set(handle._committer.in_flight) == {"Poll[2].Job"}, "the execution of the first round is forgotten"
        handle._committer.note(TaskWaits("Poll[1].Job", 1, "quota"))
        assert not handle._committer._notes
        receipt = await process._executor.handle(line_of(key))
        assert (receipt.outcome, receipt.node) == (Outcome.HINTED, "Poll[1].Job")
        world.jobs.end()
        assert (await handle.wait()).status is RunStatus.COMPLETED


@in_virtual_time
async def test_timers_of_repeated_scopes_fire_and_go() -> None:
    """Each round waits for its own timer, and no timer of a round outlives the round."""
    world, pause = World(), {"type": "Wait", "seconds": 3600}
    dag = dag_of(chain(Poll=parallel(chain(Pause=pause, In=task("work")))), Poll=Rounds(2))
    begun: list[tuple[str, float]] = []

    async def work(context: TaskContext) -> None:
        begun.append((context.node, round(asyncio.get_running_loop().time() / 60)))

    async with world.process(functions={"t:work": work}) as process:
        started_at = asyncio.get_running_loop().time()
        handle = await process.start(dag, run_id="r")
        timers = process._executor._timers._of_entries
        await world.until(lambda: "Poll[2].Pause" in world.document(), limit_s=4000)
        assert [name for _, name in timers] == ["Poll[2].Pause"]
        assert (await handle.wait()).status is RunStatus.COMPLETED
        assert not timers
        assert [(node, at - round(started_at / 60)) for node, at in begun] == [("Poll[1].In", 60), ("Poll[2].In", 120)]


def line_of(key: str) -> dict[str, Any]:
    labels = {
        "job_id": f"job-{key[:8]}",
        "job_name": f"word-count-{key}",
        "project_id": "1",
        "region": "us-central1",
        "step_id": "",
    }
    return {
        "resource": {"type": "dataflow_step", "labels": labels},
        "logName": "projects/p/logs/dataflow.googleapis.com%2Fjob-message",
        "timestamp": "2026-01-01T00:00:00Z",
        "textPayload": "Worker pool stopped.",
    }


async def test_names_are_not_taken_apart_where_no_scope_is_repeated() -> None:
    """A definition without repeated scopes may have nodes with such names."""
    definition = chain(**{"A[1].B": task("work"), "C#2.D": task("work")})

    async def work(context: TaskContext) -> str:
        return context.node

    async with Orchestrator("memory:", functions={"t:work": work}) as orchestrator:
        result = await orchestrator.run({"name": "d", **definition})
    assert dict(result.results) == {"A[1].B": "A[1].B", "C#2.D": "C#2.D"}
