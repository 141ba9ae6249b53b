"""Executions that go on at their target once accepted: asked about, hinted at, taken over, limited, stopped."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aiorch import Orchestrator, RunStatus, Settings, Task, TaskContext
from aiorch.core.run_events import ProcessesDied, TaskLost
from aiorch.engine.execution_context import ExecutionFilter
from aiorch.errors import RunStateError, StoreUnavailable
from aiorch.model.enums import TargetTypes
from aiorch.model.failure import Failure
from aiorch.ports.store import StoredObject
from aiorch.ports.target import Accepted, Answer, Failed, NotStarted, Succeeded
from aiorch.settings import LaunchSettings
from aiorch.sources.local import LocalSource
from aiorch.stores.memory import MemoryStore
from aiorch.testing import FaultyStore, ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, job, parallel

LIMIT = 3


def single(**keys: Any) -> dict[str, Any]:
    return chain(Job=job(**keys))


def fan_out(width: int) -> dict[str, Any]:
    return chain(P=parallel(*(chain(**{f"J{n:02}": job()}) for n in range(width))))


class Jobs:
    """
    The jobs of a region, shared by the targets of all processes.

    Attributes:
        states: By execution key: ``running``, ``done``, ``failed``, ``stopped``.

        launches: How often each execution was launched for good.

        launched: Nodes in the order in which they were.

        polls: How often each execution was asked about, by process.

        stopped: Executions that were stopped.

        most: Most jobs that ran at once.
    """

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.launches: Counter[str] = Counter()
        self.launched: list[str] = []
        self.polls: Counter[str] = Counter()
        self.stopped: list[str] = []
        self.most = 0
        self.hold_launches: asyncio.Event | None = None
        self.refusal: Failure | None = None

    @property
    def running(self) -> list[str]:
        return [key for key, state in self.states.items() if state == "running"]

    def end(self, state: str = "done", key: str | None = None) -> None:
        self.states[key or self.running[0]] = state


class JobTarget:
    """One process's way to the jobs. Adopts what has its key, as the real one does by name and label."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        jobs, key = self._jobs, context.execution_id
        if jobs.refusal is not None:
            return Failed(jobs.refusal)
        if jobs.hold_launches is not None:
            await jobs.hold_launches.wait()
        if key not in jobs.states:
            jobs.states[key] = "running"
            jobs.launches[key] += 1
            jobs.launched.append(context.node)
            jobs.most = max(jobs.most, len(jobs.running))
        await asyncio.sleep(0.1)
        return Accepted(f"job-{key[:8]}")

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        self._jobs.polls[context.execution_id] += 1
        match self._jobs.states.get(context.execution_id):
            case "done":
                return Succeeded(msgspec.json.encode({"job_id": job_id}))
            case "failed":
                return Failed(Failure.of("JobFailed", "its workers were lost"))
            case _:
                return None

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        await asyncio.sleep(0.1)
        self._jobs.stopped.append(context.execution_id)
        if context.execution_id in self._jobs.states:
            self._jobs.states[context.execution_id] = "stopped"

    async def aclose(self) -> None:
        pass


class World:
    """One store, one region of jobs, and any number of processes."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.jobs = Jobs()
        self._seeds = 0

    @asynccontextmanager
    async def process(self, store: Any = None, **options: Any) -> AsyncIterator[Orchestrator]:
        self._seeds += 1
        launches = LaunchSettings(running_after_s=2, limits={TargetTypes.DATAFLOW: LIMIT})
        settings = Settings(sweep_interval_s=1, drain_s=0, launches=launches)
        clock, chance = ManualClock(), SeededEntropy(self._seeds)
        targets = {TargetTypes.DATAFLOW: JobTarget(self.jobs)}
        options = {"settings": settings, "targets": targets, "clock": clock, "entropy": chance, **options}
        async with Orchestrator(store or self.memory, **options) as orchestrator:
            yield orchestrator

    async def die(self, orchestrator: Orchestrator) -> None:
        """Let a process end as if it had been killed: what it has under way vanishes, and it writes nothing more."""
        for task in orchestrator._background:
            task.cancel()
        executor = orchestrator._executor
        executor._is_closing = True
        executor._timers.close()
        for handle in list(executor._launches._under_way):
            handle.cancel()
        for committer in list(executor.committers.values()):
            await committer.abandon()
            committer.in_flight.clear()
        await self.memory.leave(executor.process.id)

    def document(self, run_id: str = "r") -> dict[str, Any]:
        return msgspec.json.decode(self.memory._objects[f"runs/{run_id}.json"][0])

    async def let_another_take_over(self) -> None:
        """Commit what a process that is called ``another`` would, and which is alive."""
        document = self.document()
        document["Job"] |= {"by": "another", "launches": 2}
        await self.memory.join("another")
        name = "runs/r.json"
        generation = self.memory._objects[name][1]
        await self.memory.write(name, msgspec.json.encode(document), if_generation_match=generation)

    def entry(self, node: str = "Job", run_id: str = "r") -> dict[str, Any]:
        return self.document(run_id)[node]

    async def until(self, condition: Callable[[], bool], limit_s: float = 1000) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.05)

    async def until_running(self, node: str = "Job") -> None:
        await self.until(lambda: "runs/r.json" in self.memory._objects and self.entry(node)["status"] == "Running")


def line(world: World, text: str = "Worker pool stopped.") -> dict[str, Any]:
    """The log line of the only job that was launched."""
    (key,) = world.jobs.states
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
        "textPayload": text,
    }


@in_virtual_time
async def test_a_job_is_asked_about_until_it_has_ended() -> None:
    """It is recorded as running with its id as soon as it is accepted, and its end completes the task."""
    world = World()
    async with world.process() as process:
        run = await process.start(chain(Job=job(), Then=job()), run_id="r")
        await world.until_running()
        key = world.entry()["execution_id"]
        assert world.entry()["job_id"] == f"job-{key[:8]}"
        assert f"executions/job-{key[:8]}.json" in world.memory._objects, "found under the job's own id, too"
        execution = await process.executions.get_execution(f"job-{key[:8]}")
        assert execution is not None
        assert (execution.execution_id, execution.node_name) == (key, "Job")
        await asyncio.sleep(3600)
        assert 100 < world.jobs.polls[key] < 140, "every half a minute or so"
        world.jobs.end()
        await world.until(lambda: len(world.jobs.launched) == 2)
        world.jobs.end()
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert world.entry()["result"] == {"job_id": f"job-{key[:8]}"}


@in_virtual_time
async def test_a_job_that_failed_is_retried_as_another_job() -> None:
    """The retry policy decides, and the new attempt has a key, and so a job, of its own."""
    world = World()
    async with world.process() as process:
        run = await process.start(single(retry={"max_attempts": 2, "initial_delay": 5}), run_id="r")
        await world.until_running()
        world.jobs.end("failed")
        await world.until(lambda: len(world.jobs.states) == 2)
        world.jobs.end()
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert world.entry()["failures"][0]["type"] == "JobFailed"


@in_virtual_time
async def test_a_hint_makes_its_owner_ask_at_once() -> None:
    """A log line that says "over" never completes anything by itself: it makes the process ask, and ask again soon."""
    world = World()
    async with world.process() as process:
        run = await process.start(single(), run_id="r")
        await world.until_running()
        await asyncio.sleep(600)
        key = world.jobs.running[0]
        before = world.jobs.polls[key]
        process.publish(line(world))
        await asyncio.sleep(0.5)
        assert world.jobs.polls[key] == before + 1, "asked, and it goes on as far as the API knows"
        await asyncio.sleep(20)
        assert world.jobs.polls[key] >= before + 3, "the API lags: asked again soon"
        assert run.status is RunStatus.RUNNING
        world.jobs.end()
        assert (await run.wait()).status is RunStatus.COMPLETED


@pytest.mark.parametrize(("end", "status"), [("done", "Completed"), ("failed", "Failed")])
@in_virtual_time
async def test_a_hint_that_comes_to_another_process_is_followed_there(end: str, status: str) -> None:
    """Whichever replica receives the event asks, and commits the end: the owner need not be asked, nor be alive."""
    world = World()
    async with world.process() as owner, world.process(settings=Settings(sweep_interval_s=10_000)) as other:
        await owner.start(single(), run_id="r")
        await world.until_running()
        await asyncio.sleep(600)
        world.jobs.end(end)
        other.publish(line(world))
        other.publish(line(world))
        await world.until(lambda: world.document()["$run"]["status"] == status, limit_s=2)
        assert world.jobs.launches.most_common(1)[0][1] == 1


@pytest.mark.parametrize("has_secret", [True, False])
@in_virtual_time
async def test_a_hint_is_followed_although_a_question_fails(
    has_secret: bool,  # noqa: FBT001  a parameter of a test
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The process asks again; its log shows the exception without the secret, or names the secret it cannot hide."""
    monkeypatch.setenv("SECRET_OF_A_TEST", "a-very-secret-value")
    caplog.handler.addFilter(hiding := ExecutionFilter())
    world = World()
    settings = Settings(sweep_interval_s=10_000, secrets={"s": "env:SECRET_OF_A_TEST"})
    others = settings if has_secret else Settings(sweep_interval_s=10_000)
    definition = {"secrets": ["s"], **single(parameters={"key": "${ secrets.s }"})}
    async with world.process(settings=settings) as owner, world.process(settings=others) as other:
        await owner.start(definition, run_id="r")
        await world.until_running()
        await asyncio.sleep(600)
        world.jobs.end()
        poll, polls = JobTarget.poll, []

        async def fail_first(*args: Any) -> Any:
            polls.append(args)
            if len(polls) == 1:
                raise OSError("no answer to a-very-secret-value")
            return await poll(*args)

        monkeypatch.setattr(JobTarget, "poll", fail_first)
        other.publish(line(world))
        await world.until(lambda: world.document()["$run"]["status"] == "Completed", limit_s=10)
    caplog.handler.removeFilter(hiding)
    assert "execution cannot be asked about, trying again" in caplog.text
    assert ("a-very-secret-value" not in caplog.text) == has_secret
    assert ("secrets not hidden in answers and logs of a task" not in caplog.text) == has_secret


@in_virtual_time
async def test_a_hint_of_a_job_that_goes_on_is_acknowledged_and_forgotten() -> None:
    """After a minute of asking the other process gives up: the owner asks on."""
    world = World()
    async with world.process() as owner, world.process(settings=Settings(sweep_interval_s=10_000)) as other:
        await owner.start(single(), run_id="r")
        await world.until_running()
        source = other.source
        assert isinstance(source, LocalSource)
        other.publish(line(world))
        await asyncio.sleep(1)
        assert source.outstanding == 0, "acknowledged at once"
        await asyncio.sleep(200)
        assert not other._executor._launches._outcomes._asked_about
        assert "r" not in other._executor.committers


@in_virtual_time
async def test_a_job_whose_process_died_is_taken_over() -> None:
    """Another process asks about it from then on, and no second job is launched."""
    world = World()
    async with world.process() as first, world.process() as second:
        await first.start(single(), run_id="r")
        await world.until_running()
        await world.die(first)
        await asyncio.sleep(60)
        assert world.entry()["by"] == second._executor.process.id
        world.jobs.end()
        await world.until(lambda: world.document()["$run"]["status"] == "Completed", limit_s=60)
        assert list(world.jobs.launches.values()) == [1]


@in_virtual_time
async def test_a_launch_whose_process_died_is_adopted() -> None:
    """The job was launched and nobody recorded it: whoever takes over finds it by its key."""
    world = World()
    async with world.process() as first, world.process() as second:
        world.jobs.hold_launches = asyncio.Event()
        await first.start(single(), run_id="r")
        await asyncio.sleep(1)
        key = world.entry()["execution_id"]
        world.jobs.states[key] = "running"  # it was accepted, and the process dies before it hears of it
        world.jobs.launches[key] += 1
        await world.die(first)
        world.jobs.hold_launches.set()
        await world.until_running()
        assert world.entry()["by"] == second._executor.process.id
        world.jobs.end()
        await world.until(lambda: world.document()["$run"]["status"] == "Completed", limit_s=60)
        assert world.jobs.launches[key] == 1


@pytest.mark.parametrize("takes_s", [0, 1, 1000])
@in_virtual_time
async def test_a_job_is_stopped_when_what_comes_before_its_launch_goes_wrong(takes_s: float) -> None:
    """Whoever takes over asks for parameters again, in vain or for too long: the launched job goes on no more."""
    world, calls = World(), []

    async def parameters(context: TaskContext) -> None:
        calls.append(context.node)
        if len(calls) == 1:
            return
        if not takes_s:
            world.jobs.refusal = Failure.of("ConfigurationError", "nothing was launched: these are no parameters")
            return
        await asyncio.sleep(takes_s)
        raise ValueError("no parameters today")

    functions = {"app:parameters": parameters}
    async with world.process(functions=functions) as first, world.process(functions=functions):
        world.jobs.hold_launches = asyncio.Event()
        await first.start(single(function="app:parameters", timeout=60), run_id="r")
        await asyncio.sleep(1)
        key = world.entry()["execution_id"]
        world.jobs.states[key] = "running"  # it was accepted, and the process dies before it hears of it
        await world.die(first)
        await world.until(lambda: world.document()["$run"]["status"] == "Failed")
        assert len(calls) == 2
        assert world.jobs.states[key] == "stopped"


@in_virtual_time
async def test_a_drain_leaves_jobs_to_whoever_comes_next() -> None:
    """A process that ends neither waits for its jobs nor gives them up: they go on, and so does their run."""
    world = World()
    loop = asyncio.get_running_loop()
    async with world.process(settings=Settings(drain_s=100)) as first:
        await first.start(single(on_lost="fail"), run_id="r")
        await world.until_running()
        left_at = loop.time()
    assert loop.time() - left_at < 5, "no grace for what ends in an hour"
    assert world.entry()["status"] == "Running"
    async with world.process():
        await asyncio.sleep(60)
        world.jobs.end()
        await world.until(lambda: world.document()["$run"]["status"] == "Completed", limit_s=60)
    assert list(world.jobs.launches.values()) == [1]


@in_virtual_time
async def test_a_launch_that_was_not_answered_is_not_given_back() -> None:
    """It may still arrive: a process that ends says nothing of it, and whoever takes over looks for the job."""
    world = World()
    async with world.process() as process:

        async def unanswered(task: Task, context: TaskContext) -> Answer:
            return NotStarted("no answer, and no job of that name")

        process._executor.targets[TargetTypes.DATAFLOW].launch = unanswered  # type: ignore[method-assign]
        await process.start(single(on_lost="fail"), run_id="r")
        await asyncio.sleep(10)
    assert (world.entry()["status"], world.entry()["attempt"]) == ("Starting", 1)


@in_virtual_time
async def test_a_launch_that_was_not_answered_is_stopped_when_the_next_one_is_refused() -> None:
    """It may have arrived: the task has failed, and the job is not left running."""
    world = World()
    async with world.process() as process:

        async def unanswered_then_refused(task: Task, context: TaskContext) -> Answer:
            if world.jobs.states:
                return Failed(Failure.of("HTTP 403", "no more"))
            world.jobs.states[context.execution_id] = "running"
            return NotStarted("no answer, and no job of that name", may_arrive=True)

        process._executor.targets[TargetTypes.DATAFLOW].launch = unanswered_then_refused  # type: ignore[method-assign]
        await process.start(single(), run_id="r")
        await world.until(lambda: world.document()["$run"]["status"] == "Failed")
        assert list(world.jobs.states.values()) == ["stopped"]


@in_virtual_time
async def test_no_more_jobs_at_once_than_allowed() -> None:
    """Surplus tasks wait as ``New``, and begin in the order in which they became ready as others end."""
    world = World()
    async with world.process() as process:
        run = await process.start(fan_out(10), run_id="r")
        await asyncio.sleep(5)
        assert len(world.jobs.running) == LIMIT
        waiting = [name for name, entry in world.document().items() if entry.get("status") == "New"]
        assert len(waiting) == 10 - LIMIT
        while world.jobs.running:
            world.jobs.end()
            await asyncio.sleep(60)
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert world.jobs.most == LIMIT
        assert world.jobs.launched == [f"J{n:02}" for n in range(10)]


@in_virtual_time
async def test_runs_wait_for_one_another_in_turn() -> None:
    """The limit is the process's, not the run's: whoever became ready first is first, also a retry that is due."""
    world = World()
    async with world.process() as process:
        await process.start(fan_out(LIMIT), run_id="r")
        await asyncio.sleep(5)
        for number in range(4):
            await process.start(single(), run_id=f"s{number}")
            await asyncio.sleep(5)
        assert world.jobs.most == LIMIT
        await asyncio.sleep(100)
        assert [world.entry(run_id=f"s{number}")["status"] for number in range(4)] == ["New"] * 4
        for number in range(4):
            world.jobs.end()
            await asyncio.sleep(60)
            assert world.entry(run_id=f"s{number}")["status"] == "Running"
        assert world.jobs.most == LIMIT


@in_virtual_time
async def test_a_retry_waits_for_a_slot_too() -> None:
    """A due retry that finds no slot is made when one is free."""
    world = World()
    async with world.process() as process:
        run = await process.start(single(retry={"max_attempts": 2, "initial_delay": 10}), run_id="r")
        await world.until_running()
        world.jobs.end("failed")
        await world.until(lambda: world.entry()["status"] == "Retrying")
        await process.start(fan_out(LIMIT), run_id="full")
        await asyncio.sleep(100)
        assert (world.entry()["status"], world.jobs.most) == ("Retrying", LIMIT)
        world.jobs.end()
        await world.until_running()
        assert world.entry()["attempt"] == 2
        for key in list(world.jobs.running):
            world.jobs.end(key=key)
        assert (await run.wait()).status is RunStatus.COMPLETED


@in_virtual_time
async def test_a_process_with_free_slots_takes_the_tasks_of_a_full_one() -> None:
    """Ready tasks that one replica may not launch are launched by one that may."""
    world = World()
    async with world.process() as first, world.process():
        await first.start(fan_out(2 * LIMIT), run_id="r")
        await world.until(lambda: len(world.jobs.running) == 2 * LIMIT, limit_s=30)
        assert max(world.jobs.launches.values()) == 1
        owners = Counter(entry["by"] for entry in world.document().values() if entry.get("by"))
        assert sorted(owners.values()) == [LIMIT, LIMIT]


@in_virtual_time
async def test_a_job_beyond_its_timeout_is_stopped_before_another_begins() -> None:
    """A timeout must not leave a job running, and billed, beside the next attempt."""
    world = World()
    async with world.process() as process:
        run = await process.start(single(timeout=100, retry={"max_attempts": 2}), run_id="r")
        await world.until_running()
        first = world.entry()["execution_id"]
        await world.until(lambda: len(world.jobs.states) == 2)
        assert world.jobs.stopped == [first]
        assert world.jobs.states[first] == "stopped"
        assert world.jobs.most == 1
        world.jobs.end()
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert world.entry()["failures"][0]["type"] == "Timeout"


@in_virtual_time
async def test_a_timeout_survives_the_process_that_launched_the_job() -> None:
    """Whoever takes the job over gives it what is left of its time, not all of it again."""
    world = World()
    async with world.process() as first, world.process():
        await first.start(single(timeout=1000), run_id="r")
        await world.until_running()
        await asyncio.sleep(900)
        await world.die(first)
        await world.until(lambda: world.document()["$run"]["status"] == "Failed", limit_s=200)
        assert len(world.jobs.stopped) == 1


@pytest.mark.parametrize("at_s", [0, 0.01, 0.05, 0.1, 0.15, 0.3, 3, 100])
@in_virtual_time
async def test_a_cancel_that_races_with_a_launch_leaves_no_job_running(at_s: float) -> None:
    """Before the launch, during it, just after it and long after it: when the run is cancelled, no job goes on."""
    world = World()
    async with world.process() as process, world.process() as other:
        run = await process.start(single(), run_id="r")
        await asyncio.sleep(at_s)
        await other.cancel("r")
        assert (await run.wait()).status is RunStatus.CANCELLED
        await asyncio.sleep(1000)
        assert not world.jobs.running
        assert world.entry()["status"] == "Cancelled"


@in_virtual_time
async def test_a_cancel_of_a_job_whose_process_died_stops_it() -> None:
    """A stop that is owed by a dead process is owed by whoever finds it."""
    world = World()
    async with world.process() as first, world.process() as second:
        await first.start(single(), run_id="r")
        await world.until_running()
        await world.die(first)
        await second.cancel("r")
        await world.until(lambda: world.document()["$run"]["status"] == "Cancelled", limit_s=60)
        assert not world.jobs.running


@in_virtual_time
async def test_a_launch_that_was_taken_over_is_not_given_back() -> None:
    """Its first owner may have launched the job: the second one, which has not had its turn when it ends, leaves it."""
    world = World()
    world.jobs.hold_launches = asyncio.Event()
    async with world.process() as first:
        await first.start(single(), run_id="r")
        await world.die(first)
        full = LaunchSettings(running_after_s=2, limits={TargetTypes.DATAFLOW: 0})
        async with world.process(settings=Settings(sweep_interval_s=1, drain_s=0, launches=full)) as second:
            await world.until(lambda: world.entry().get("by") == second._executor.process.id)
    assert (world.entry()["status"], world.entry()["attempt"], world.entry()["launches"]) == ("Starting", 1, 2)


class Unheard(MemoryStore):
    """A store in which one process was silent for long, until it announces itself."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[str] = set()
        self.announced: list[str] = []
        self.heard_at = float("-inf")

    def is_silent(self, process: str) -> bool:
        return process in self.silent

    async def announce(self, process: str) -> None:
        self.announced.append(process)
        self.silent.discard(process)
        self.heard_at = asyncio.get_running_loop().time()

    def heard_since(self, process: str) -> float:
        return self.heard_at


@in_virtual_time
async def test_a_silent_process_is_heard_before_it_commits_to_work() -> None:
    """Others would call it dead, and launch again what it has just begun to launch."""
    world = World()
    world.memory = store = Unheard()
    faulty = FaultyStore(store)
    async with world.process(faulty) as process:
        store.silent.add(process._executor.process.id)
        run = await process.start(single(), run_id="r")
        calls = [call.kind for call in faulty.calls]
        document = next(n for n, call in enumerate(faulty.calls) if call.names[:1] == ("runs/r.json",))
        assert calls.index("announce") < document
        await world.until_running()
        world.jobs.end()
        assert (await run.wait()).status is RunStatus.COMPLETED


@pytest.mark.parametrize("heard_again", [False, True], ids=["silent still", "heard again since"])
@in_virtual_time
async def test_a_process_that_was_silent_reads_again_before_it_sends(heard_again: bool) -> None:  # noqa: FBT001
    """What another process has taken over meanwhile is not sent by the one that was paused, heartbeat or not."""
    world = World()
    world.memory = store = Unheard()
    async with world.process() as paused:
        jobs = paused._executor.targets[TargetTypes.DATAFLOW]
        sends: list[str] = []
        launch = jobs.launch

        async def refused_once(task: Task, context: TaskContext) -> Answer:
            sends.append(context.execution_id)
            return NotStarted("quota") if len(sends) == 1 else await launch(task, context)

        jobs.launch = refused_once  # type: ignore[method-assign]
        await paused.start(single(), run_id="r")
        await world.until(lambda: len(sends) == 1)
        await store.leave(paused._executor.process.id)  # it is paused, and called dead
        store.silent.add(paused._executor.process.id)
        await world.let_another_take_over()
        if heard_again:
            await asyncio.sleep(0.01)
            await store.announce(paused._executor.process.id)
        await asyncio.sleep(100)
        assert len(sends) == 1
        assert set(store.announced) == {paused._executor.process.id}


@in_virtual_time
async def test_a_process_that_is_silent_again_while_it_looks_looks_again() -> None:
    """What it has read is as old as the silence since: another process may have taken over after that."""
    world = World()
    world.memory = store = Unheard()
    async with world.process() as paused:
        me = paused._executor.process.id
        read = store.read

        async def read_slowly(name: str) -> StoredObject | None:
            stored = await read(name)
            if name == "runs/r.json" and len(store.announced) == 1:
                await world.let_another_take_over()
                await asyncio.sleep(100)
                store.silent.add(me)
            return stored

        store.read = read_slowly  # type: ignore[method-assign]
        store.heard_at = float("inf")  # it has not been heard since it last knew the run
        await paused.start(single(), run_id="r")
        await asyncio.sleep(300)
        assert not world.jobs.launches
        assert len(store.announced) > 1


@in_virtual_time
async def test_a_timeout_of_what_another_process_has_taken_over_is_none() -> None:
    """The one that has it launches it just now perhaps: nobody else stops it, or says that it has failed."""
    world = World()
    world.jobs.hold_launches = asyncio.Event()
    async with world.process() as paused:
        await paused.start(single(timeout=100), run_id="r")
        await asyncio.sleep(50)
        await world.let_another_take_over()
        await asyncio.sleep(200)
        assert (world.entry()["status"], world.entry()["by"]) == ("Starting", "another")
        assert not world.jobs.stopped


@in_virtual_time
async def test_unsent_execution_survives_a_failed_preparation_after_takeover() -> None:
    """Its own function fails in the one that has lost it, which does not know that yet: the other one goes on."""
    world, calls = World(), []

    async def fail_late(context: TaskContext) -> None:
        calls.append(context.node)
        await asyncio.sleep(50)
        raise ValueError("no parameters today")

    async with world.process(functions={"app:parameters": fail_late}, settings=Settings(sweep_interval_s=1000)) as one:
        await one.start(single(function="app:parameters"), run_id="r")
        await world.until(lambda: bool(calls))
        await world.let_another_take_over()
        await asyncio.sleep(100)
        assert (world.entry()["status"], world.entry().get("by")) == ("Starting", "another")


@in_virtual_time
async def test_a_refusal_is_none_where_another_process_has_the_job() -> None:
    """The one that has lost it is refused: no attempt follows beside the job that the other one has launched."""
    world, goes_on = World(), asyncio.Event()
    async with world.process(settings=Settings(sweep_interval_s=1000)) as process:

        async def refuse_late(task: Task, context: TaskContext) -> Answer:
            await goes_on.wait()
            return Failed(Failure.of("HTTP 403", "no more"))

        process._executor.targets[TargetTypes.DATAFLOW].launch = refuse_late  # type: ignore[method-assign]
        await process.start(single(retry={"max_attempts": 3}), run_id="r")
        await world.let_another_take_over()
        goes_on.set()
        await asyncio.sleep(20)
        assert (world.entry()["attempt"], world.entry().get("by")) == (1, "another")


@in_virtual_time
async def test_a_stop_is_not_tried_again_by_a_process_that_has_lost_the_job() -> None:
    """The other one may have launched it anew meanwhile, and wants it to go on."""
    world, tries = World(), []
    async with world.process(settings=Settings(sweep_interval_s=1000)) as process:

        async def refuse(task: Task, context: TaskContext, job_id: str | None) -> None:
            tries.append(context.node)
            raise StoreUnavailable("503")

        process._executor.targets[TargetTypes.DATAFLOW].stop = refuse  # type: ignore[method-assign]
        await process.start(single(timeout=100), run_id="r")
        await world.until_running()
        await world.until(lambda: bool(tries))
        await world.let_another_take_over()
        await process._executor.committers["r"].apply(None)
        tries.clear()
        await asyncio.sleep(300)
        assert not tries


@in_virtual_time
async def test_the_timeout_does_not_hide_why_a_launch_was_refused() -> None:
    """It is over once that is known, however long it takes to see that no job goes on."""
    world = World()
    async with world.process() as process:
        answers = [NotStarted("no answer", may_arrive=True), Failed(Failure.of("HTTP 400", "bad parameters"))]

        async def refuse(task: Task, context: TaskContext) -> Answer:
            return answers.pop(0)

        async def look_for_long(task: Task, context: TaskContext, job_id: str | None) -> None:
            await asyncio.sleep(30)

        target = process._executor.targets[TargetTypes.DATAFLOW]
        target.launch, target.stop = refuse, look_for_long  # type: ignore[method-assign]
        await process.start(single(timeout=20, retry={"max_attempts": 2, "on": ["Timeout"]}), run_id="r")
        await world.until(lambda: world.document()["$run"]["status"] == "Failed")
        assert world.entry()["error"]["type"] == "HTTP 400"


@in_virtual_time
async def test_a_job_is_not_stopped_by_a_process_that_has_read_of_its_loss() -> None:
    """A process that reads, to resume a run, that another one has its job does not stop the job at its timeout."""
    world = World()
    launches = LaunchSettings(running_after_s=2, limits={TargetTypes.DATAFLOW: LIMIT})
    seldom = Settings(sweep_interval_s=10_000, relook_s=10_000, drain_s=0, launches=launches)
    async with world.process(settings=seldom) as process:
        await process.start(single(timeout=50), run_id="r")
        await world.until_running()
        await world.let_another_take_over()
        with pytest.raises(RunStateError):
            await process.resume("r")
        await asyncio.sleep(100)
        assert world.jobs.stopped == []


@in_virtual_time
async def test_a_launch_that_was_never_sent_is_not_looked_for() -> None:
    """Nothing can arrive of it: a refusal after it ends the task at once, though the API would refuse the stop, too."""
    world = World()
    async with world.process() as process:
        answers = [NotStarted("no access token in time"), Failed(Failure.of("HTTP 403", "no permission"))]

        async def refuse(task: Task, context: TaskContext) -> Answer:
            return answers.pop(0)

        async def refuse_too(task: Task, context: TaskContext, job_id: str | None) -> None:
            raise StoreUnavailable("403")

        target = process._executor.targets[TargetTypes.DATAFLOW]
        target.launch, target.stop = refuse, refuse_too  # type: ignore[method-assign]
        await process.start(single(), run_id="r")
        await world.until(lambda: world.document()["$run"]["status"] == "Failed")


@in_virtual_time
async def test_a_supplementary_function_that_is_cancelled_from_within_fails() -> None:
    """It is the user's code that has done so: the attempt has failed, and nobody waits for ever."""
    world = World()

    async def cancelled(context: TaskContext) -> None:
        raise asyncio.CancelledError

    async with world.process(functions={"app:parameters": cancelled}) as process:
        await process.start(single(function="app:parameters"), run_id="r")
        await world.until(lambda: world.document()["$run"]["status"] == "Failed")
        assert world.entry()["error"]["type"] == "CancelledError"


@in_virtual_time
async def test_abandoned_execution_is_relaunched_after_reread() -> None:
    """A process says of an execution that it is lost, just when the one that had taken it over has died as well."""
    world = World()
    world.jobs.hold_launches = asyncio.Event()
    async with world.process() as process:
        await process.start(single(), run_id="r")
        await asyncio.sleep(10)
        await world.let_another_take_over()
        committer = process._executor.committers["r"]
        sent = committer.in_flight["Job"]
        await committer.apply(None)
        assert sent.handle is not None
        sent.handle.cancel()
        sent.has_ended = True
        world.jobs.hold_launches = None
        await committer.apply(TaskLost("Job", 1, "no answer"), ProcessesDied(frozenset({"another"})))
        assert (world.entry()["by"], world.entry()["launches"]) == (process._executor.process.id, 3)
        await world.until_running()
        assert list(world.jobs.launches.values()) == [1]


@in_virtual_time
async def test_a_death_is_noticed_of_a_process_that_owned_nothing_for_a_moment() -> None:
    """Between two jobs that wait for room it owns nothing, and others who look just then forget about it."""
    world = World()
    slow = FaultyStore(world.memory)
    two = chain(Job=job(), Next=job())
    one, none = (
        Settings(sweep_interval_s=1, drain_s=0, launches=LaunchSettings(limits={TargetTypes.DATAFLOW: limit}))
        for limit in (1, 0)
    )
    async with world.process(slow, settings=one) as first, world.process(settings=none) as second:
        await first.start(two, run_id="r")
        await world.until_running()
        claim = slow.arm("write", "runs/", nth=2, hold=True)
        world.jobs.end()
        await claim.reached.wait()
        assert (world.entry("Job")["status"], world.entry("Next")["status"]) == ("Completed", "New")
        await second._executor.runs.touch_open("r")
        await asyncio.sleep(5)
        claim.release()
        await world.until_running("Next")
        await world.die(first)
        await world.until(lambda: world.entry("Next")["by"] == second._executor.process.id, limit_s=60)


@in_virtual_time
async def test_a_slot_that_is_offered_in_vain_is_offered_again() -> None:
    """A task that another process has launched meanwhile takes no slot here: the next task begins instead."""
    world = World()
    one_at_a_time = LaunchSettings(limits={TargetTypes.DATAFLOW: 1})
    seldom = Settings(sweep_interval_s=10_000, drain_s=0, launches=one_at_a_time)
    often = Settings(sweep_interval_s=1, drain_s=0, launches=one_at_a_time)
    async with world.process(settings=seldom) as one:
        await one.start(fan_out(2), run_id="r")
        await world.until_running("J00")
        async with world.process(settings=often):
            await world.until(lambda: world.jobs.launched == ["J00", "J01"])
            await one.start(single(), run_id="later")
            world.jobs.end(key=world.entry("J00")["execution_id"])
            await world.until(lambda: "Job" in world.jobs.launched, limit_s=60)
