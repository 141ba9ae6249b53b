"""Limits per target type: what waits for room begins as soon as there is some."""

import asyncio
from typing import Any

import msgspec

from aiorch import Orchestrator, RunStatus, Settings, TargetTypes, TaskContext
from aiorch.failure import Failure
from aiorch.launches import LaunchSettings
from aiorch.nodes import Task
from aiorch.ports import LOCAL_PACE, Accepted, Answer, Failed, Succeeded
from aiorch.stores.memory import MemoryStore
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, job, parallel, task

RETRY = {"max_attempts": 2, "initial_delay": 5}


class Jobs:
    """A polled target whose jobs end at the first question."""

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        return Accepted(f"job-{context.node}")

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        return Succeeded()

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        pass

    async def aclose(self) -> None:
        pass


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
async def test_the_room_of_the_task_before_is_free_for_the_next() -> None:
    """A task that waits for the room which the one before has just left waits for no look at the run."""
    async with engine(Jobs()) as orchestrator:
        run = await orchestrator.start(chain(a=job(), b=job(), c=job()))
        async with asyncio.timeout(30):
            await run.wait()


@in_virtual_time
async def test_what_waits_for_a_full_process_begins_when_anything_ends() -> None:
    """A job for which its target type has room and its process has not begins as soon as something else has ended."""

    async def work(context: TaskContext) -> None:
        await asyncio.sleep(5)

    settings = Settings(launches=LaunchSettings(at_once_max=1))
    async with engine(Jobs(), functions={"t:work": work}, settings=settings) as orchestrator:
        run = await orchestrator.start(side_by_side(f=task(), j=job()))
        async with asyncio.timeout(30):
            await run.wait()


@in_virtual_time
async def test_a_process_that_ends_offers_itself_nothing() -> None:
    """A retry that waits for room when its process is told to end is left to others: the end is not held up."""

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
        room = orchestrator._executor.room
        offer_room = room.offer

        def offer(kind: TargetTypes) -> None:
            offers.append(kind)
            assert len(offers) < 100, "for ever"
            offer_room(kind)

        room.offer = offer  # type: ignore[method-assign]
    assert len(offers) < 100


@in_virtual_time
async def test_a_retry_that_waits_for_room_survives_a_clock_that_is_set_back() -> None:
    """It was due, found no room, and is not due any more when there is some: it is made when it is due again."""
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
async def test_a_retry_that_is_not_due_is_waited_for_although_there_is_no_room() -> None:
    """Nobody has claimed it, and another job has taken all the room: whoever looks at the run waits for it."""

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
