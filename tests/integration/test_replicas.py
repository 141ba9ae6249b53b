"""Replicas on one bucket at its real pace: what one commits for the others, they learn within seconds, not hours."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aiorch import Orchestrator, Settings, Task, TaskContext
from aiorch.core.run_events import ProcessesDied
from aiorch.errors import DocumentError, StoreUnavailable
from aiorch.model.enums import TargetTypes
from aiorch.model.failure import Failure
from aiorch.model.status import RunStatus
from aiorch.ports.target import Accepted, Answer, Failed, NotStarted, Succeeded, Unknown
from aiorch.settings import LaunchSettings
from aiorch.sources.local import LocalSource
from aiorch.stores.gcs import GCSStore
from aiorch.testing import CountingObserver, ManualClock, SeededEntropy, in_virtual_time
from aiorch.testing.modelled_bucket import ModelledBucket
from tests import definitions
from tests.definitions import chain, job
from tests.integration.test_jobs import fan_out

SOON_S = 130.0
"""What a word to another replica, or the work of a dead one, may take: a sweep, 60 s of silence, and some commits."""


def call(**keys: Any) -> dict[str, Any]:
    return definitions.call(region="us-central1", **keys)


def ended(key: str) -> dict[str, Any]:
    """The platform's log of a call that went well."""
    return {
        "resource": {
            "type": "cloud_run_revision",
            "labels": {"service_name": "load-orders", "location": "us-central1", "project_id": "p"},
        },
        "labels": {"goog-drz-cloudfunctions-id": "load_orders"},
        "logName": "projects/p/logs/run.googleapis.com%2Frequests",
        "timestamp": "2026-01-01T00:00:00Z",
        "trace": f"projects/p/traces/{key}",
        "httpRequest": {"status": 200, "userAgent": "aiorch/0.1", "latency": "0.1s"},
    }


class Calls:
    """Functions that answer what they are told, after so many seconds."""

    def __init__(self, answer: Answer, seconds: float = 0.1) -> None:
        self.answer, self.seconds = answer, seconds
        self.sent: list[TaskContext] = []

    def resolve(self, task: Task) -> None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        context.begin()
        self.sent.append(context)
        answer = self.answer
        await asyncio.sleep(self.seconds)
        return answer

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        return None

    async def aclose(self) -> None:
        return None


class Jobs:
    """Jobs of a region, by execution key, with the process that launched each."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.refused_stops = 0

    @property
    def running(self) -> list[str]:
        return [key for key, state in self.states.items() if state == "running"]


class JobTarget:
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def resolve(self, task: Task) -> None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        self._jobs.states.setdefault(context.execution_id, "running")
        await asyncio.sleep(0.1)
        return Accepted(f"job-{context.execution_id[:8]}")

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        match self._jobs.states.get(context.execution_id):
            case "done":
                return Succeeded(b"1")
            case "failed":
                return Failed(Failure.of("JobFailed", "its workers were lost"))
            case _:
                return None

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        if self._jobs.refused_stops:
            self._jobs.refused_stops -= 1
            raise StoreUnavailable("503")
        self._jobs.states[context.execution_id] = "stopped"

    async def aclose(self) -> None:
        return None


class World:
    """A bucket, a region of jobs, and replicas with sources of their own."""

    def __init__(self) -> None:
        self.bucket, self.jobs = ModelledBucket(), Jobs()
        self._count = 0

    def replica(
        self, calls: Calls | None = None, *, limit: int = 25, at_once: int = 10_000, functions: Any = None
    ) -> Orchestrator:
        self._count += 1
        targets: dict[TargetTypes, Any] = {TargetTypes.DATAFLOW: JobTarget(self.jobs)}
        if calls is not None:
            targets[TargetTypes.CLOUD_FUNCTION] = calls
        launches = LaunchSettings(limits={TargetTypes.DATAFLOW: limit}, at_once_max=at_once)
        return Orchestrator(
            self.bucket.store(),
            targets=targets,
            functions=functions,
            source=LocalSource(ManualClock(), SeededEntropy(100 + self._count)),
            observer=CountingObserver(),
            settings=Settings(launches=launches, drain_s=0),
            clock=ManualClock(),
            entropy=SeededEntropy(self._count),
        )

    @asynccontextmanager
    async def doomed(self, calls: Calls | None = None) -> AsyncIterator[Orchestrator]:
        """A replica that is killed before the context ends."""
        replica = self.replica(calls)
        await replica.__aenter__()
        yield replica

    async def kill(self, replica: Orchestrator) -> None:
        """Let everything of it vanish: it neither finishes nor announces anything."""
        executor, store = replica._executor, replica.store
        executor._is_closing = True
        executor._timers.close()
        for task in (*replica._background, *executor._tasks, *executor._sleepers, *executor._launches._under_way):
            task.cancel()
        for committer in list(executor.committers.values()):
            await committer.abandon()
            committer.in_flight.clear()
        assert isinstance(store, GCSStore)
        for heartbeat in store.heartbeats._joined.values():
            for task in (heartbeat.task, heartbeat.clearing):
                assert task is not None
                task.cancel()
        store.heartbeats._joined.clear()
        await asyncio.sleep(0)

    def document(self, run_id: str = "r") -> dict[str, Any]:
        name = f"runs/{run_id}.json"
        return msgspec.json.decode(self.bucket.objects[name].data) if name in self.bucket.objects else {}

    def status(self, node: str = "$run", run_id: str = "r") -> str | None:
        return self.document(run_id).get(node, {}).get("status")

    async def until(self, condition: Callable[[], Any], limit_s: float = SOON_S) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.1)


def publish(replica: Orchestrator, message: dict[str, Any]) -> LocalSource:
    source = replica.source
    assert isinstance(source, LocalSource)
    source.publish(message)
    return source


@in_virtual_time
async def test_a_failure_on_one_replica_stops_the_jobs_of_another() -> None:
    """`fail_fast` marks what another replica runs, and tells it: its jobs do not go on, and cost, for an hour."""
    world = World()
    async with world.replica(limit=2) as one, world.replica(limit=2):
        await one.start(fan_out(4), run_id="r")
        await world.until(lambda: len(world.jobs.running) == 4)
        entries = [entry for entry in world.document().values() if entry.get("by")]
        owners = {entry["by"] for entry in entries}
        assert len(owners) == 2, "both replicas run some of it"
        await asyncio.sleep(100)
        mine = next(entry["execution_id"] for entry in entries if entry["by"] == one._executor.process.id)
        world.jobs.states[mine] = "failed"
        await world.until(lambda: world.status() == "Failing")
        await world.until(lambda: not world.jobs.running, 45)  # a sweep, not a death by silence
        await world.until(lambda: world.status() == "Failed")


@in_virtual_time
async def test_replica_that_continues_a_run_is_known_as_its_owner() -> None:
    """A replica that goes on with the run of another by an event, and is killed, is taken over from within seconds."""
    world = World()
    lost, long = Calls(Unknown("reset")), Calls(Succeeded(b"1"), seconds=100_000)
    async with world.replica(lost) as one, world.doomed(long) as other:
        await one.start(chain(A=call(), B=call()), run_id="r")
        await asyncio.sleep(60)
        publish(other, ended(world.document()["A"]["execution_id"]))
        await world.until(lambda: bool(long.sent))
        await asyncio.sleep(30)
        await world.kill(other)
        await world.until(lambda: world.document()["B"].get("by") == one._executor.process.id)


@in_virtual_time
async def test_a_process_that_came_back_before_the_takeover_keeps_its_work() -> None:
    """A replica that called another one dead asks once more if it reads the run again before the takeover."""
    world = World()
    async with (
        world.replica(Calls(Succeeded(b"1"), seconds=100)) as one,
        world.replica(Calls(Unknown("reset"))) as other,
    ):
        asked_at = asyncio.get_running_loop().time()
        await one.start(chain(A=call()), run_id="r")
        await world.until(lambda: world.status("A") == "Running")
        called_dead = ProcessesDied(frozenset({one._executor.process.id}), asked_at)
        await other._executor.committer("r").apply(called_dead)
        assert world.document()["A"]["by"] == one._executor.process.id


@in_virtual_time
async def test_a_run_that_another_replica_has_ended_is_noticed_by_who_waits() -> None:
    """Whoever began it need not be the one who ends it: `wait` returns all the same, and nothing is held for it."""
    world = World()
    async with world.replica(Calls(Unknown("reset"))) as one, world.replica(Calls(Succeeded(b"1"))) as other:
        run = await one.start(chain(A=call()), run_id="r")
        await asyncio.sleep(60)
        publish(other, ended(world.document()["A"]["execution_id"]))
        async with asyncio.timeout(SOON_S):
            assert (await run.wait()).status is RunStatus.COMPLETED
        await asyncio.sleep(SOON_S)
        assert "r" not in one._executor.committers


@in_virtual_time
async def test_a_call_that_was_turned_away_is_not_called_running() -> None:
    """Nothing of it runs: a replica that ends meanwhile gives it back, and the next one sends it at once."""
    world = World()
    busy, free = Calls(NotStarted("HTTP 429")), Calls(Succeeded(b"1"))
    async with world.replica(busy) as one:
        await one.start(chain(A=call(on_lost="fail")), run_id="r")
        await asyncio.sleep(60)
        assert world.status("A") == "Starting"
    async with world.replica(free):
        await world.until(lambda: world.status() == "Completed")
    assert len(free.sent) == 1


@in_virtual_time
async def test_a_call_whose_parameters_are_still_made_is_not_called_running() -> None:
    """Nothing was sent: a replica that ends meanwhile gives it back, although it must not be sent twice."""
    world, free = World(), Calls(Succeeded(b"1"))

    async def slow(context: TaskContext) -> None:
        await asyncio.sleep(1000)

    async def quick(context: TaskContext) -> None:
        return None

    async with world.replica(Calls(Succeeded(b"1")), functions={"app:parameters": slow}) as one:
        await one.start(chain(A=call(on_lost="fail", function="app:parameters")), run_id="r")
        await asyncio.sleep(60)
        assert world.status("A") == "Starting"
    async with world.replica(free, functions={"app:parameters": quick}):
        await world.until(lambda: world.status() == "Completed")
    assert len(free.sent) == 1


@in_virtual_time
async def test_a_job_does_not_wait_behind_a_process_that_was_full() -> None:
    """When calls have filled the process, a job that was committed to begins as soon as one of them ends."""
    world = World()
    async with world.replica(Calls(Succeeded(b"1"), seconds=30), at_once=1) as one:
        await one.start(chain(A=call()), run_id="full")
        await world.until(lambda: world.status("A", "full") == "Running")
        await one.start(chain(J=job()), run_id="r")
        await world.until(lambda: bool(world.jobs.running))


@in_virtual_time
async def test_a_cancel_that_was_not_told_is_given_back() -> None:
    """Whoever runs the task could not be told: the message comes again, and the job is stopped within seconds."""
    world = World()
    async with world.replica() as one, world.replica() as other:
        await one.start(chain(J=job()), run_id="r")
        await world.until(lambda: bool(world.jobs.running))
        await asyncio.sleep(100)
        touch, refused = other.runs_status.touch_open, []

        async def refuse_four_times(run_id: Any) -> int | None:
            refused.append(run_id)
            if len(refused) <= 4:
                raise StoreUnavailable("503")
            return await touch(run_id)

        other.runs_status.touch_open = refuse_four_times  # type: ignore[method-assign]
        publish(other, {"resource": {"type": "cancel", "labels": {"run_id": "r"}}})
        await world.until(lambda: not world.jobs.running)
        await world.until(lambda: world.status() == "Cancelled")


@in_virtual_time
async def test_a_run_is_not_held_for_having_been_told_about() -> None:
    """A marker that came back after the end, and is written anew by a word that was late, is removed all the same."""
    world = World()
    async with world.replica(Calls(Succeeded(b"1"))) as one:
        await one.start(chain(A=call()), run_id="r")
        marker = world.bucket.objects["open/r"].data
        await world.until(lambda: world.status() == "Completed" and "open/r" not in world.bucket.objects)
        await asyncio.sleep(100)
        written = await one.store.write("open/r", marker, if_generation_match=0)
        one._executor.notify_replicas(one._executor.committer("r"))
        await world.until(lambda: world.bucket.objects["open/r"].generation != written)
        await world.until(lambda: "open/r" not in world.bucket.objects)
        assert not one._executor.committers


@in_virtual_time
async def test_a_stop_that_the_target_refused_is_tried_again_soon() -> None:
    """One error of an API does not leave a cancelled job running, and billed, until the next look at its run."""
    world = World()
    world.jobs.refused_stops = 3
    async with world.replica() as one:
        await one.start(chain(J=job()), run_id="r")
        await world.until(lambda: bool(world.jobs.running))
        await one.cancel("r")
        await world.until(lambda: world.status() == "Cancelled", 30)


@in_virtual_time
async def test_a_large_result_outlives_its_process() -> None:
    """It is in the record before the commit: when the process dies in between, the event completes the task with it."""
    world = World()
    large = Succeeded(b'"' + b"x" * 5000 + b'"')
    async with world.doomed(Calls(large, seconds=30)) as one, world.replica(Calls(Succeeded(b"1"))) as other:
        await one.start(chain(A=call(), B=call()), run_id="r")
        key = world.document()["A"]["execution_id"]
        await world.until(lambda: b'"succeeded":true' in world.bucket.objects[f"executions/{key}.json"].data)
        await world.kill(one)
        assert world.status("A") != "Completed"
        publish(other, ended(key))
        await world.until(lambda: world.status() == "Completed")
        assert (await (await other.attach("r")).wait()).results["A"] == "x" * 5000


@in_virtual_time
async def test_a_cancel_touches_the_marker_once() -> None:
    """A replica that cancels a run of another replica writes the marker once, and the bucket refuses no write."""
    world = World()
    async with world.replica() as one, world.replica() as two:
        await one.start(chain(J=job()), run_id="r")
        await world.until(lambda: world.status("J") == "Running")
        await asyncio.sleep(100)
        before = world.bucket.requests.copy()
        await two.cancel("r")
        await asyncio.sleep(10)
        sent = world.bucket.requests - before
        assert {each.status: n for each, n in sent.items() if (each.kind, each.prefix) == ("write", "open/")} == {
            200: 1
        }
        await world.until(lambda: world.status() == "Cancelled")


@in_virtual_time
async def test_a_cancel_that_could_not_be_told_is_told_when_it_is_asked_for_again() -> None:
    """After a cancel whose marker could not be written, the next cancel of the same run writes the marker."""
    world = World()
    async with world.replica() as one, world.replica() as two:
        await one.start(chain(J=job()), run_id="r")
        await world.until(lambda: world.status("J") == "Running")
        await asyncio.sleep(100)
        with pytest.MonkeyPatch.context() as patch:

            async def refused(run_id: str) -> int | None:
                raise StoreUnavailable(f"the marker of {run_id} was not written")

            patch.setattr(two.runs_status, "touch_open", refused)
            with pytest.raises(StoreUnavailable, match="Cancel it again"):
                await two.cancel("r")
        before = world.bucket.requests.copy()
        await two.cancel("r")
        sent = world.bucket.requests - before
        assert sum(n for each, n in sent.items() if (each.kind, each.prefix) == ("write", "open/")) == 1


@in_virtual_time
async def test_claims_keep_to_the_slots_there_are() -> None:
    """Runs that begin at the same moment do not all take the last slot: other tasks are left to other processes."""
    world = World()
    async with world.replica(limit=5) as one, world.replica(limit=5):
        definition = chain(J=job())
        await asyncio.gather(*(one.start(definition, run_id=f"r{n}") for n in range(40)))
        await asyncio.sleep(SOON_S)
        assert len(world.jobs.running) == 10, "five in each process"
        statuses = [world.status("J", f"r{n}") for n in range(40)]
        assert (statuses.count("Running"), statuses.count("New")) == (10, 30)


@in_virtual_time
async def test_a_lost_answer_is_counted_and_logged() -> None:
    """Operators see that answers get lost, whatever the events then tell."""
    world = World()
    async with world.replica(Calls(Unknown("connection reset"))) as one:
        await one.start(chain(A=call()), run_id="r")
        await world.until(lambda: world.status("A") == "Running")
        observer = one._executor.observer
        assert isinstance(observer, CountingObserver)
        assert observer.answers[TargetTypes.CLOUD_FUNCTION, "Unknown"] == 1


@in_virtual_time
async def test_an_idle_replica_leaves_at_once() -> None:
    """What only sleeps (a hint that was followed, a store that is asked whether it is back) holds up no end."""
    world = World()
    loop = asyncio.get_running_loop()
    async with world.replica() as one:
        await one.start(chain(J=job()), run_id="r")
        await world.until(lambda: world.status("J") == "Running")
        other = world.replica()
        async with other:
            (key,) = world.jobs.running
            labels = {"job_id": "x", "job_name": f"wc-{key}", "project_id": "1", "region": "us-central1"}
            publish(
                other,
                {
                    "resource": {"type": "dataflow_step", "labels": labels},
                    "logName": "projects/p/logs/dataflow.googleapis.com%2Fjob-message",
                    "timestamp": "2026-01-01T00:00:00Z",
                    "textPayload": "Worker pool stopped.",
                },
            )
            await asyncio.sleep(20)
            assert other._executor._sleepers, "it asks again in a while"
            left_at = loop.time()
        assert loop.time() - left_at < 1


@in_virtual_time
async def test_a_launch_that_cannot_be_looked_at_is_tried_again() -> None:
    """A silent process reads the run before it sends; one reading that fails does not cost the launch an hour."""
    world = World()
    calls = Calls(NotStarted("HTTP 429"))
    async with world.replica(calls) as one:
        process, store = one._executor.process.id, one.store
        assert isinstance(store, GCSStore)
        get_run, failures = one.runs_status.get_run, []

        async def fail_once(run_id: Any) -> Any:
            failures.append(run_id)
            if len(failures) == 1:
                raise DocumentError("not readable just now")
            return await get_run(run_id)

        one.runs_status.get_run = fail_once  # type: ignore[method-assign]
        await one.start(chain(A=call()), run_id="r")
        await world.until(lambda: bool(calls.sent))
        calls.answer = Succeeded(b"1")
        store.heartbeats._joined[process].begun_at = float("-inf")
        await world.until(lambda: world.status() == "Completed")
        assert failures
