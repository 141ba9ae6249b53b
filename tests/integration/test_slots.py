"""Limits per target type: a task that waits for a slot begins as soon as one is free."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from aiorch import Orchestrator, RunStatus, Settings, TargetTypes, TaskContext
from aiorch.engine.executor import DAGExecutor
from aiorch.errors import StoreError
from aiorch.model.dag import Task
from aiorch.model.failure import Failure
from aiorch.ports.store import LOCAL_PACE, StoredObject
from aiorch.ports.target import Answer, Failed, Succeeded
from aiorch.settings import LaunchSettings
from aiorch.stores.memory import MemoryStore
from aiorch.targets import Functions
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, job, parallel, task
from tests.fakes.jobs import Jobs

RETRY = {"max_attempts": 2, "initial_delay": 5}


class Endless(Jobs):
    """A polled target whose jobs end once `ended` has them, as ``<run id>/<node>``."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: set[str] = set()

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        return Succeeded() if f"{context.run_id}/{context.node}" in self.ended else None


class Seldom(MemoryStore):
    """A store that is hardly ever looked at without a reason."""

    pace = LOCAL_PACE._replace(sweep_interval_s=10_000, relook_s=10_000, refresh_s=10_000)


def engine(jobs: Jobs, **options: Any) -> Orchestrator:
    """An orchestrator that may launch one job at a time."""
    settings = Settings(launches=LaunchSettings(limits={TargetTypes.DATAFLOW: 1}), drain_s=1)
    given = {"store": MemoryStore(), "settings": settings, "clock": ManualClock(), "entropy": SeededEntropy(1)}
    return Orchestrator(targets={TargetTypes.DATAFLOW: jobs}, **{**given, **options})


def side_by_side(**steps: dict[str, Any]) -> dict[str, Any]:
    """A DAG of branches of one step each."""
    return chain(p=parallel(*(chain(**{name: step}) for name, step in steps.items())))


@in_virtual_time
async def test_the_next_task_takes_the_slot_of_the_one_before() -> None:
    """A task that waits for the slot which the task before it gives back begins without a look at the run."""
    async with engine(Jobs()) as orchestrator:
        run = await orchestrator.start(chain(a=job(), b=job(), c=job()))
        async with asyncio.timeout(30):
            await run.wait()


@in_virtual_time
async def test_a_limit_of_functions_holds() -> None:
    """Of twenty callables that could run at once, at most as many run as `Functions.limit` says; all end."""
    running, most = 0, 0

    async def work(_: TaskContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(5)
        running -= 1

    targets = [Functions(functions={"t:work": work}, limit=2)]
    async with Orchestrator("memory:", targets=targets, clock=ManualClock(), entropy=SeededEntropy(1)) as orchestrator:
        dag = side_by_side(**{f"n{number}": task(function="t:work") for number in range(20)})
        result = await orchestrator.run(dag)
    assert result.status is RunStatus.COMPLETED
    assert most == 2


@in_virtual_time
async def test_a_job_of_a_full_process_begins_when_another_execution_ends() -> None:
    """A job whose target type has a free slot and whose process is full begins when an execution of any kind ends."""

    async def work(context: TaskContext) -> None:
        await asyncio.sleep(5)

    settings = Settings(launches=LaunchSettings(at_once_max=1))
    async with engine(Jobs(), functions={"t:work": work}, settings=settings) as orchestrator:
        run = await orchestrator.start(side_by_side(f=task(), j=job()))
        async with asyncio.timeout(30):
            await run.wait()


@in_virtual_time
async def test_a_process_that_ends_offers_itself_nothing() -> None:
    """A retry that waits for a slot when its process is told to end is left to others and does not delay the end."""

    class Uneven(Jobs):
        async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
            return Failed(Failure.of("JobFailed", "no luck")) if context.node == "fails" else None

    async def hang(context: TaskContext) -> None:
        await asyncio.Event().wait()

    steps = {"fails": job(retry=RETRY), "runs": job(), "hangs": task()}
    async with engine(Uneven(), functions={"t:work": hang}) as orchestrator:
        run = await orchestrator.start(side_by_side(**steps))
        await asyncio.sleep(60)
        assert {name: str(run.run.nodes[name].status) for name in steps} == {
            "fails": "Retrying",
            "runs": "Running",
            "hangs": "Running",
        }
        offers = []
        slots = orchestrator._executor.slots
        start_waiting = slots.start_waiting

        def offer(kind: TargetTypes) -> None:
            offers.append(kind)
            assert len(offers) < 100, "for ever"
            start_waiting(kind)

        slots.start_waiting = offer  # type: ignore[method-assign]
    assert len(offers) < 100


@in_virtual_time
async def test_a_retry_that_waits_for_a_slot_survives_a_clock_that_is_set_back() -> None:
    """A retry that was due, found no slot, and is not due any more when a slot is free is made when it is due again."""
    ended: set[str] = set()
    launched: list[str] = []

    class Uneven(Jobs):
        async def launch(self, task: Task, context: TaskContext) -> Answer:
            launched.append(context.node)
            return await super().launch(task, context)

        async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
            if context.node == "fails":
                return Succeeded() if context.attempt == 2 else Failed(Failure.of("JobFailed", "no luck"))
            return Succeeded() if ended else None

    clock = ManualClock()
    async with engine(Uneven(), store=Seldom(), clock=clock) as orchestrator:
        run = await orchestrator.start(side_by_side(fails=job(retry=RETRY), runs=job()))
        await asyncio.sleep(60)
        assert launched == ["fails", "runs"]
        clock.advance(-70)
        ended.add("runs")
        async with asyncio.timeout(240):
            await run.wait()
    assert launched == ["fails", "runs", "fails"]


@in_virtual_time
async def test_a_retry_that_is_not_due_is_claimed_although_no_slot_is_free() -> None:
    """A process that looks at a run waits for its unclaimed retry although another job has taken the only slot."""

    class Uneven(Jobs):
        async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
            if context.attempt == 1 and context.node == "fails":
                return Failed(Failure.of("JobFailed", "no luck"))
            return Succeeded()

    store, clock = Seldom(), ManualClock()
    steps = {"fails": job(retry={"max_attempts": 2, "initial_delay": 60, "jitter": 0}), "runs": job()}
    async with engine(Uneven(), store=store, clock=clock) as first:
        await first.start(side_by_side(**steps), run_id="r")
        while first._executor.committers["r"].run.nodes["fails"].status != "Retrying":  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
    document = msgspec.json.decode(store._objects["runs/r.json"][0])
    document["fails"].pop("by", None)
    blank = ("node_name", "node_type", "target_type", "target_name", "branches")
    ready = {"status": "New", "ready_at": clock.now().isoformat()}
    document["runs"] = {key: value for key, value in document["runs"].items() if key in blank} | ready
    generation = store._objects["runs/r.json"][1]
    await store.write("runs/r.json", msgspec.json.encode(document), if_generation_match=generation)
    async with engine(Uneven(), store=store, clock=clock, entropy=SeededEntropy(2)) as second, asyncio.timeout(300):
        run = await (await second.attach("r")).wait()
    assert run.status is RunStatus.COMPLETED


@in_virtual_time
async def test_the_task_that_has_waited_longest_begins_first_over_all_runs() -> None:
    """Slots that become free go to tasks in the order of their readiness, whatever run the tasks are of."""
    jobs = Endless()
    async with engine(jobs) as orchestrator:
        runs = [await orchestrator.start(chain(j=job()), run_id="first")]
        for name in ("b", "c", "a"):
            orchestrator._executor.clock.advance(1)  # type: ignore[attr-defined]
            runs.append(await orchestrator.start(side_by_side(j=job(), i=job()), run_id=name))
        jobs.ended.update(f"{run.run_id}/{node}" for run in runs for node in "ij")
        async with asyncio.timeout(300):
            for run in runs:
                await run.wait()
    assert jobs.launched == ["first/j", "b/j", "b/i", "c/j", "c/i", "a/j", "a/i"]


@in_virtual_time
async def test_the_work_per_ended_execution_does_not_grow_with_the_tasks_that_wait() -> None:
    """Four times as many tasks that wait for a slot cost four times as many looks at a task, not sixteen times."""

    async def looks(width: int) -> int:
        counted = 0

        class Counting(DAGExecutor):
            def _can_launch(self, task: Task) -> bool:
                nonlocal counted
                counted += 1
                return super()._can_launch(task)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiorch.client.DAGExecutor", Counting)
            async with engine(Jobs()) as orchestrator:
                steps = {f"j{number}": job() for number in range(width)}
                await (await orchestrator.start(side_by_side(**steps))).wait()
        return counted

    few, many = await looks(25), await looks(100)
    assert many <= 4.5 * few


@in_virtual_time
async def test_a_slot_that_was_claimed_in_vain_is_offered() -> None:
    """A task begins in the slot that another run had claimed in a commit which then lost to another process."""
    gate = asyncio.Event()
    writer: list[Any] = []

    class Gated(Seldom):
        async def write(self, name: str, *args: Any, **options: Any) -> int:
            if name == "runs/r.json" and writer and asyncio.current_task() is writer[0]._working:
                await gate.wait()
            return await super().write(name, *args, **options)

    store, jobs = Gated(), Endless()
    async with engine(jobs, store=store) as one, engine(jobs, store=store, entropy=SeededEntropy(2)) as other:
        definition = chain(j=job())
        writer.append(one._executor.committer("r"))
        starting = asyncio.create_task(one.start(definition, run_id="r"))
        await asyncio.sleep(1)
        await other.start(definition, run_id="r")
        await one.start(definition, run_id="later")
        await asyncio.sleep(60)
        assert jobs.launched == ["r/j"], "the only slot of the first process is claimed"
        gate.set()
        await starting
        await asyncio.sleep(60)
        assert jobs.launched == ["r/j", "later/j"]


@in_virtual_time
async def test_a_run_that_cannot_be_committed_keeps_no_slot_from_other_runs() -> None:
    """A slot that is offered to a run which the store refuses goes to the next run; the run begins when it can."""

    class Refusing(MemoryStore):
        refused = ""

        async def write(self, name: str, *args: Any, **options: Any) -> int:
            if name == self.refused:
                launched_at_refusals.append(tuple(jobs.launched))
                raise StoreError("refused for good")
            return await super().write(name, *args, **options)

    launched_at_refusals: list[tuple[str, ...]] = []
    store, jobs = Refusing(), Endless()
    async with engine(jobs, store=store) as orchestrator:
        for run_id in ("first", "broken", "later"):
            await orchestrator.start(side_by_side(a=job(), b=job(), c=job()), run_id=run_id)
            await asyncio.sleep(1)
        store.refused = "runs/broken.json"
        jobs.ended.update(("first/a", "first/b", "first/c", "later/b", "later/c"))
        await asyncio.sleep(300)
        assert jobs.launched == ["first/a", "first/b", "first/c", "later/a"]
        assert launched_at_refusals.count(("first/a", "first/b", "first/c")) == 1, "the run is offered one slot"
        store.refused = ""
        jobs.ended.update(("later/a", "broken/a", "broken/b", "broken/c"))
        async with asyncio.timeout(60):
            while any(run.status != "Completed" for run in await orchestrator.runs()):
                await asyncio.sleep(1)


@in_virtual_time
async def test_a_task_whose_run_could_not_be_read_begins_once_it_can() -> None:
    """A run that waits for a slot when a read of its document is refused is read again by the next sweeps."""

    class Unreadable(MemoryStore):
        refused = ""

        async def read(self, name: str) -> StoredObject | None:
            if name == self.refused:
                raise StoreError("refused for good")
            return await super().read(name)

    store, jobs = Unreadable(), Endless()
    async with engine(jobs, store=store) as orchestrator:
        await orchestrator.start(chain(a=job()), run_id="first")
        await orchestrator.start(chain(a=job()), run_id="unreadable")
        await asyncio.sleep(10)
        store.refused = "runs/unreadable.json"
        orchestrator._executor.committer("unreadable").refresh()
        await asyncio.sleep(10)
        store.refused = ""
        jobs.ended.add("first/a")
        await asyncio.sleep(60)
        assert jobs.launched == ["first/a", "unreadable/a"]


@in_virtual_time
async def test_a_retry_without_an_owner_takes_its_slot_when_it_is_due() -> None:
    """A retry that another process left, in a run that this process holds, is made although no marker tells of it."""
    store, clock, jobs = Seldom(), ManualClock(), Endless()
    async with engine(jobs, store=store, clock=clock) as orchestrator:
        run = await orchestrator.start(side_by_side(runs=job(), waits=job(retry=RETRY)), run_id="r")
        await asyncio.sleep(60)
        document = msgspec.json.decode(store._objects["runs/r.json"][0])
        due = clock.now() + timedelta(seconds=200)
        waits = {**document["waits"], "status": "Retrying", "attempt": 1, "retry_at": due.isoformat()}
        document["waits"] = {key: value for key, value in waits.items() if key != "ready_at"}
        generation = store._objects["runs/r.json"][1]
        await store.write("runs/r.json", msgspec.json.encode(document), if_generation_match=generation)
        jobs.ended.update(("r/runs", "r/waits"))
        async with asyncio.timeout(400):
            await run.wait()
    assert jobs.launched == ["r/runs", "r/waits"]
