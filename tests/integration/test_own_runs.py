"""An orchestrator of `only_own_runs` beside other runs of its store."""

import asyncio
from typing import Any

import pytest

from aiorch import (
    AiorchError,
    Client,
    Orchestrator,
    OrchestratorLeftError,
    RunStatus,
    Settings,
    TargetTypes,
    TaskContext,
    TaskStatus,
)
from aiorch.settings import LaunchSettings
from aiorch.sources.local import LocalSource
from aiorch.stores.memory import MemoryStore
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, job, task
from tests.fakes.jobs import Jobs

WORK = chain(A=task(function="tests:work"), B=task(function="tests:work"))
QUICK = Settings(drain_s=0, launches=LaunchSettings(limits={TargetTypes.DATAFLOW: 1}))


class Work:
    """A callable that knows which nodes have called it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, context: TaskContext) -> str:
        self.calls.append(f"{context.run_id}/{context.node}")
        return context.node


def own(store: MemoryStore, work: Work, jobs: Jobs, seed: int) -> Orchestrator:
    return Orchestrator(
        store,
        only_own_runs=True,
        functions={"tests:work": work},
        targets={TargetTypes.DATAFLOW: jobs},
        settings=QUICK,
        clock=ManualClock(),
        entropy=SeededEntropy(seed),
    )


async def recorded(store: MemoryStore, definition: dict[str, Any], run_id: str) -> None:
    """Record the start of a run that no process carries out."""
    async with Client(store, clock=ManualClock(), entropy=SeededEntropy(99)) as client:
        await client.start(definition, run_id=run_id)


async def document(store: MemoryStore, run_id: str) -> bytes:
    stored = await store.read(f"runs/{run_id}.json")
    assert stored is not None
    return stored.data


@in_virtual_time
async def test_other_runs_stay_as_they_are() -> None:
    """Neither sweeps, nor a wait for a run, nor a free slot of a limit lets it begin a task of another run."""
    store, work, jobs = MemoryStore(), Work(), Jobs()
    await recorded(store, WORK, "functions")
    await recorded(store, chain(A=job(), B=job()), "jobs")
    before = [await document(store, run_id) for run_id in ("functions", "jobs")]
    async with own(store, work, jobs, 1) as orchestrator:
        run = await orchestrator.start(chain(A=job(), B=task(function="tests:work"), C=job()), run_id="mine")
        watches = [asyncio.create_task((await orchestrator.attach(run_id)).wait()) for run_id in ("functions", "jobs")]
        assert await orchestrator.interrupted_runs() == ["functions", "jobs"]
        assert (await run.wait()).status is RunStatus.COMPLETED
        await asyncio.wait(watches, timeout=100)
        assert not any(watch.done() for watch in watches)
    assert all(isinstance(watch.exception(), OrchestratorLeftError) for watch in watches)
    assert [await document(store, run_id) for run_id in ("functions", "jobs")] == before
    assert (jobs.launched, work.calls) == (["mine/A", "mine/C"], ["mine/B"])


async def left_by_a_dead_process(definition: dict[str, Any], run_id: str) -> MemoryStore:
    """Return a store as a process leaves it that is killed while it carries out the first task of a run."""
    store, called = MemoryStore(), asyncio.Event()

    async def never_ends(context: TaskContext) -> None:
        called.set()
        await asyncio.Event().wait()

    async with Orchestrator(
        store,
        functions={"tests:work": never_ends},
        settings=QUICK,
        clock=ManualClock(),
        entropy=SeededEntropy(98),
    ) as killed:
        run = await killed.start(definition, run_id=run_id)
        await called.wait()
        while run.run.nodes["A"].status is not TaskStatus.RUNNING:
            await asyncio.sleep(0.1)
        left = MemoryStore()  # in which nothing is known of the process
        for info in await store.list(""):
            stored = await store.read(info.name)
            assert stored is not None
            await left.write(info.name, stored.data, if_generation_match=0, metadata=info.metadata)
        return left


@in_virtual_time
@pytest.mark.parametrize("on_lost", ["fail", "retry"])
async def test_tasks_of_a_dead_process_stay_as_they_are(on_lost: str) -> None:
    """A task that a killed process left running is neither failed nor launched, however long the own run takes."""
    foreign = chain(A=task(function="tests:work", on_lost=on_lost), B=task(function="tests:work"))
    store = await left_by_a_dead_process(foreign, "killed")
    before, work, jobs = await document(store, "killed"), Work(), Jobs()
    async with own(store, work, jobs, 1) as orchestrator:
        assert await orchestrator.interrupted_runs() == ["killed"]
        run = await orchestrator.start(WORK, run_id="mine")
        watch = asyncio.create_task((await orchestrator.attach("killed")).wait())
        assert (await run.wait()).status is RunStatus.COMPLETED
        await asyncio.wait({watch}, timeout=100)
        assert not watch.done()
    assert isinstance(watch.exception(), OrchestratorLeftError)
    assert await document(store, "killed") == before
    assert work.calls == ["mine/A", "mine/B"]


@in_virtual_time
@pytest.mark.parametrize("definition", [WORK, chain(A=job(), B=job())], ids=["functions", "jobs with a limit"])
@pytest.mark.parametrize("how", ["start", "continue_run"])
async def test_an_interrupted_run_goes_on_when_it_is_asked_for(definition: dict[str, Any], how: str) -> None:
    """A run that another process has recorded completes once it is started again by its id, or continued."""
    store, work, jobs = MemoryStore(), Work(), Jobs()
    await recorded(store, definition, "one")
    async with own(store, work, jobs, 1) as orchestrator:
        asked = orchestrator.start(definition, run_id="one") if how == "start" else orchestrator.continue_run("one")
        run = await asked
        assert (await run.wait()).status is RunStatus.COMPLETED
    assert (work.calls or jobs.launched) == ["one/A", "one/B"]


@in_virtual_time
async def test_the_cancel_of_another_run_begins_none_of_its_tasks() -> None:
    """A cancel of a run that no process works on ends that run at once, and launches nothing."""
    store, work, jobs = MemoryStore(), Work(), Jobs()
    await recorded(store, WORK, "functions")
    async with own(store, work, jobs, 1) as orchestrator:
        run = await orchestrator.cancel("functions")
        assert run.status is RunStatus.CANCELLED
    assert (work.calls, jobs.launched) == ([], [])


def test_messages_from_a_source_are_refused() -> None:
    """A source brings messages about any run, so an orchestrator of its own runs takes none."""
    source = LocalSource(ManualClock(), SeededEntropy(1))
    with pytest.raises(AiorchError, match="Leave out `source` or `only_own_runs`"):
        Orchestrator("memory:", only_own_runs=True, source=source)


@in_virtual_time
async def test_timers_that_the_start_of_an_own_run_sets_fire_at_their_time() -> None:
    """A `Parallel` and a `Wait` with which a run begins end at their times, not when a sweep finds them."""
    branch = {"steps": {"Long": {"type": "Wait", "seconds": 100}, "Short": {"type": "Wait", "seconds": 1}}}
    first = {"type": "Parallel", "branches": [branch], "timeout": 2, "catch": [{"result": "late"}], "end": True}
    async with own(MemoryStore(), Work(), Jobs(), 1) as orchestrator:
        begun_at = asyncio.get_running_loop().time()
        result = await orchestrator.run({"start": "First", "steps": {"First": first}})
        assert asyncio.get_running_loop().time() - begun_at < 3
        nodes = (await orchestrator.attach(result.run_id)).run.nodes
    assert (result.status, result.output) == ("Completed", "late")
    assert [str(nodes[name].status) for name in ("First", "Short", "Long")] == ["Failed", "Completed", "Cancelled"]
