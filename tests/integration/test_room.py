"""Limits per target type: what waits for room begins as soon as there is some."""

import asyncio
from typing import Any

from aiorch import Orchestrator, Settings, TargetTypes, TaskContext
from aiorch.launches import LaunchSettings
from aiorch.nodes import Task
from aiorch.ports import LOCAL_PACE, Accepted, Answer, Failed, Succeeded
from aiorch.run_state import Failure
from aiorch.stores.memory import MemoryStore
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time


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


def job(**link: Any) -> dict[str, Any]:
    target = {"target_name": "etl", "template_path": "gs://bucket/etl", "project_id": "acme", "region": "europe-west1"}
    return {"type": "Task", "target_type": "Dataflow", **target, **link}


@in_virtual_time
async def test_the_room_of_the_task_before_is_free_for_the_next() -> None:
    """A task that waits for the room which the one before has just left waits for no look at the run."""
    definition = {"start": "a", "steps": {"a": job(next="b"), "b": job(next="c"), "c": job(end=True)}}
    settings = Settings(launches=LaunchSettings(limits={TargetTypes.DATAFLOW: 1}))
    async with Orchestrator(
        MemoryStore(),
        targets={TargetTypes.DATAFLOW: Jobs()},
        settings=settings,
        clock=ManualClock(),
        entropy=SeededEntropy(1),
    ) as orchestrator:
        run = await orchestrator.start(definition)
        async with asyncio.timeout(30):
            await run.wait()


@in_virtual_time
async def test_what_waits_for_a_full_process_begins_when_anything_ends() -> None:
    """A job for which its target type has room and its process has not begins as soon as something else has ended."""

    async def work(context: TaskContext) -> None:
        await asyncio.sleep(5)

    function = {"type": "Task", "target_type": "Function", "target_name": "t:work", "end": True}
    branches = [{"start": "f", "steps": {"f": function}}, {"start": "j", "steps": {"j": job(end=True)}}]
    definition = {"start": "p", "steps": {"p": {"type": "Parallel", "branches": branches, "end": True}}}
    async with Orchestrator(
        MemoryStore(),
        functions={"t:work": work},
        targets={TargetTypes.DATAFLOW: Jobs()},
        settings=Settings(launches=LaunchSettings(at_once_max=1)),
        clock=ManualClock(),
        entropy=SeededEntropy(1),
    ) as orchestrator:
        run = await orchestrator.start(definition)
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

    retry = {"max_attempts": 2, "initial_delay": 5}
    function = {"type": "Task", "target_type": "Function", "target_name": "t:hang", "end": True}
    steps = {"fails": job(end=True, retry=retry), "runs": job(end=True), "hangs": function}
    branches = [{"start": name, "steps": {name: step}} for name, step in steps.items()]
    one_at_a_time = LaunchSettings(limits={TargetTypes.DATAFLOW: 1})
    async with Orchestrator(
        MemoryStore(),
        functions={"t:hang": hang},
        targets={TargetTypes.DATAFLOW: Uneven()},
        settings=Settings(drain_s=1, launches=one_at_a_time),
        clock=ManualClock(),
        entropy=SeededEntropy(1),
    ) as orchestrator:
        run = await orchestrator.start(
            {"start": "p", "steps": {"p": {"type": "Parallel", "branches": branches, "end": True}}}
        )
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

    steps = {"fails": job(end=True, retry={"max_attempts": 2, "initial_delay": 5}), "runs": job(end=True)}
    branches = [{"start": name, "steps": {name: step}} for name, step in steps.items()]
    clock = ManualClock()
    async with Orchestrator(
        Seldom(),
        targets={TargetTypes.DATAFLOW: Uneven()},
        settings=Settings(launches=LaunchSettings(limits={TargetTypes.DATAFLOW: 1})),
        clock=clock,
        entropy=SeededEntropy(1),
    ) as orchestrator:
        run = await orchestrator.start(
            {"start": "p", "steps": {"p": {"type": "Parallel", "branches": branches, "end": True}}}
        )
        await asyncio.sleep(60)
        assert launched == ["fails", "runs"]
        clock.advance(-70)
        ended.add("runs")
        async with asyncio.timeout(240):
            await run.wait()
    assert launched == ["fails", "runs", "fails"]
