"""What runs and idle replicas cost in a bucket, in counted requests: the budgets that must never be broken again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from aiorch import Failure, Orchestrator, TargetTypes, Task, TaskContext
from aiorch.ports.target import Accepted, Answer, Failed, Succeeded
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from aiorch.testing.modelled_bucket import ModelledBucket
from tests.definitions import chain, parallel, task

OF_RUN = ("runs/", "executions/", "open/")
LATENCY_S_MAX = 1.5


def steps(length: int) -> dict[str, Any]:
    return chain(*(f"T{n}" for n in range(1, length + 1)))


def fan_out(width: int) -> dict[str, Any]:
    return chain(Init=task(), Fan=parallel(*(chain(f"T{n}") for n in range(width))), End=task())


class World:
    """A bucket, replicas on it, and when their tasks ran."""

    def __init__(self, seconds: Callable[[TaskContext], float], seed: int = 0) -> None:
        self.bucket = ModelledBucket(seed)
        self.began_at: dict[str, float] = {}
        self.ended_at: dict[str, float] = {}
        self._seconds = seconds
        self._replicas = seed * 10

    async def work(self, context: TaskContext) -> None:
        self.began_at[context.node] = asyncio.get_running_loop().time()
        await asyncio.sleep(self._seconds(context))
        self.ended_at[context.node] = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def replica(self, **options: Any) -> AsyncIterator[Orchestrator]:
        self._replicas += 1
        entropy = SeededEntropy(self._replicas)
        options = {"functions": {"t:work": self.work}, "clock": ManualClock(), "entropy": entropy, **options}
        async with Orchestrator(self.bucket.store(), **options) as orchestrator:
            yield orchestrator

    async def run(self, definition: dict[str, Any]) -> None:
        async with self.replica() as orchestrator:
            run = await orchestrator.start(definition, run_id="r")
            assert (await run.wait()).status == "Completed"

    def class_a_of_run(self) -> int:
        """Writes of the run's own objects, refused ones included."""
        return sum(self.bucket.count("write", prefix=prefix) for prefix in OF_RUN)

    def refused(self) -> int:
        return self.bucket.count("write", status=429) + self.bucket.count("write", status=412)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.2, 4.0])
@in_virtual_time
async def test_a_chain_costs_a_record_and_a_commit_a_task(seconds: float) -> None:
    """Of n tasks, however short: a marker, the first document, and two writes each; none is refused and sent again."""
    world = World(lambda _: seconds)
    await world.run(steps(20))
    assert world.class_a_of_run() == 2 + 2 * 20
    assert world.refused() == 0


@in_virtual_time
async def test_a_task_that_takes_long_costs_one_commit_more() -> None:
    """It is recorded as running, once."""
    world = World(lambda _: 9.0)
    await world.run(steps(5))
    assert world.class_a_of_run() == 2 + 3 * 5


@in_virtual_time
async def test_runs_that_begin_at_once_share_their_definition() -> None:
    """It is written once, for a hundred runs of a DAG that the store does not know: none is refused for that."""
    world = World(lambda _: 1.0)
    async with world.replica() as orchestrator:
        dag = orchestrator.dag(steps(1))
        runs = await asyncio.gather(*(orchestrator.start(dag) for _ in range(100)))
        assert {(await run.wait()).status for run in runs} == {"Completed"}
    assert world.bucket.count("write", prefix="definitions/") == 1
    assert world.class_a_of_run() == 100 * (2 + 2)


@in_virtual_time
async def test_a_record_is_written_once_however_often_the_run_is_read() -> None:
    """What a commit lets begin has its record: a look at the document in the same moment does not write it again."""
    world = World(lambda _: 0.1)
    async with world.replica() as orchestrator:
        run = await orchestrator.start(steps(5), run_id="r")
        while not run.status.is_terminal:
            orchestrator._executor.committers["r"].refresh()
            await asyncio.sleep(0.25)
    assert world.bucket.count("read", prefix="runs/") > 5
    assert world.class_a_of_run() == 2 + 2 * 5


@pytest.mark.parametrize("width", [10, 100, 1000])
@in_virtual_time
async def test_a_join_waits_for_one_commit_at_most(width: int) -> None:
    """Whenever the last branch ends, the next task starts within the time that the store needs for two commits."""
    for seed in range(2000 // width if width < 1000 else 1):
        world = World(lambda context: part_of(context) * 9, seed)
        await world.run(fan_out(width))
        last = max(at for name, at in world.ended_at.items() if name not in ("Init", "End"))
        assert world.began_at["End"] - last <= LATENCY_S_MAX
        assert world.refused() == 0


def part_of(context: TaskContext) -> float:
    """A number in [0, 1) that is another one for every execution."""
    return int(context.execution_id[:8], 16) / 2**32


@in_virtual_time
async def test_a_fan_out_costs_a_record_a_task() -> None:
    """A thousand branches that end within a minute share their commits: a tenth of a write each at most."""
    world = World(lambda context: part_of(context) * 50)
    await world.run(fan_out(1000))
    assert world.class_a_of_run() <= 1.1 * 1002
    assert world.bucket.count("write", prefix="runs/") <= 60


class Calls:
    """A target whose calls take as long as the world says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.keys: list[str] = []

    def resolve(self, task: Task) -> None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        await self._world.work(context)
        self.keys.append(context.execution_id)
        return Succeeded()

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None: ...

    async def aclose(self) -> None: ...


def request_log(execution_key: str) -> dict[str, Any]:
    """What the platform tells of a call that has ended."""
    return {
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": "work", "location": "us-central1"}},
        "httpRequest": {"status": 200, "userAgent": "aiorch/0.1"},
        "timestamp": "2026-01-01T00:00:00Z",
        "logName": "projects/acme-data-dev/logs/run.googleapis.com%2Frequests",
        "trace": f"projects/acme-data-dev/traces/{execution_key}",
    }


@in_virtual_time
async def test_events_of_a_run_in_other_hands_share_their_reads() -> None:
    """A replica that is told the end of each of 500 calls of another one reads the run twice a second at most."""
    world = World(lambda context: 1 + 20 * part_of(context))
    calls = Calls(world)
    step = task(target_type="CloudFunction", target_name="work", region="us-central1")
    definition = chain(Fan=parallel(*(chain(**{f"T{n}": step}) for n in range(500))))
    targets = {TargetTypes.CLOUD_FUNCTION: calls}
    async with world.replica(targets=targets) as owner, world.replica(targets=targets) as other:
        run = await owner.start(definition, run_id="r")
        told = 0
        while not run.status.is_terminal or told < len(calls.keys):
            for key in calls.keys[told:]:
                other.publish(request_log(key))
            told = len(calls.keys)
            await asyncio.sleep(0.05)
        seconds = asyncio.get_running_loop().time()
        await asyncio.sleep(20)
        assert other.source.outstanding == 0
    assert told == 500
    assert world.bucket.count("read", prefix="executions/") == 500
    assert world.bucket.count("read", prefix="runs/") <= 2 * seconds + 10
    assert world.refused() == 0


DAY_S = 86_400.0
COUNTED_DAYS = 0.25


class Waiting(Calls):
    """A target whose executions do not end within days, or whose first attempt fails."""

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        if task.execution.is_polled:
            return Accepted(f"job-{context.execution_id}")
        if task.retry.max_attempts > 1:
            return Failed(Failure.of("Busy", "not now"))
        await asyncio.sleep(100 * DAY_S)
        return Succeeded()

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> None: ...


CALL = {"target_type": "CloudFunction", "target_name": "f", "timeout": 100 * DAY_S}
RETRY = {"max_attempts": 2, "initial_delay": 100 * DAY_S, "max_delay": 100 * DAY_S}
WAITS = {
    "nothing": task(),
    "call": task(**CALL),
    "job": task(target_type="Dataflow", target_name="j", template_path="gs://b/t", project_id="p", region="r"),
    "retry": task(**CALL, retry=RETRY),
    "nobody": task(target_name="modules:elsewhere"),
}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("waits_for", WAITS)
@in_virtual_time
async def test_waiting_stays_within_its_daily_requests(waits_for: str, replicas: int) -> None:
    """Per replica: so many listings and heartbeats, none of these without a run of its own; some reads of each run."""
    world = World(lambda _: 0.0)
    runs = 0 if waits_for == "nothing" else 20 * replicas
    targets = {kind: Waiting(world) for kind in TargetTypes if kind is not TargetTypes.FUNCTION}
    async with AsyncExitStack() as stack:
        dag = {"name": "d", "start": "A", "steps": {"A": WAITS[waits_for]}}
        engines = [await stack.enter_async_context(world.replica(targets=targets, dags=[dag])) for _ in range(replicas)]
        for number in range(runs):
            engines[number % replicas].publish({"resource": {"type": "start", "labels": {"run_id": f"r{number}"}}})
        await asyncio.sleep(300)
        assert sum(name.startswith("open/") for name in world.bucket.objects) == runs
        before = world.bucket.requests.copy()
        await asyncio.sleep(COUNTED_DAYS * DAY_S)
        counts = world.bucket.requests - before
    has_own_work = waits_for in ("call", "job", "retry")
    budgets = {
        ("list", "open/"): 5800 * replicas,
        ("write", "alive/"): 4400 * replicas if has_own_work else 0,
        ("read", "alive/"): 2 * 2900 if has_own_work and replicas > 1 else 0,
        ("read", "runs/"): 30 * replicas * runs,
    }
    for request, count in counts.items():
        assert count <= COUNTED_DAYS * budgets.get(request[:2], 0), request
