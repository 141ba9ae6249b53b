"""What each answer of the store to a commit means, and what follows from it: nothing is lost, nothing is done twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiorch import (
    Client,
    Orchestrator,
    OrchestratorLeftError,
    RunHandle,
    RunStatus,
    Settings,
    StoreError,
    TargetTypes,
    Task,
    TaskContext,
    TaskStatus,
)
from aiorch.core.draft import At, Draft
from aiorch.core.fold import FoldError
from aiorch.core.run_events import CancelRequested, TaskRunning, TaskSucceeded
from aiorch.errors import StoreUnavailable
from aiorch.nodes.task import TaskKind
from aiorch.ports.target import Answer
from aiorch.settings import LaunchSettings
from aiorch.stores.memory import MemoryStore
from aiorch.testing import (
    Armed,
    Call,
    CountingObserver,
    Fault,
    FaultyStore,
    ManualClock,
    SeededEntropy,
    in_virtual_time,
)
from tests.definitions import chain, parallel, task
from tests.freezing import stand_still

SETTINGS = Settings(sweep_interval_s=1, drain_s=0, launches=LaunchSettings(running_after_s=1000))
ANSWERS = [
    Fault.CONFLICT_WITH_ONESELF,
    Fault.THROTTLED,
    Fault.UNAVAILABLE,
    Fault.LOST_REPLY,
    Fault.ONLY_THE_OBJECT,
    Fault.ONLY_WHAT_WAS_BESIDE,
    Fault.REFUSED,
]
Body = Callable[[TaskContext], Awaitable[Any]]


def fan_out(width: int) -> dict[str, Any]:
    """`width` branches of one task, and a task after their join."""
    return chain(P=parallel(*(chain(f"T{number}") for number in range(width))), End=task())


def sample() -> dict[str, Any]:
    """A task, two branches of two and one tasks, and a task after them."""
    return chain(Init=task(), P=parallel(chain("A", "A2"), chain("B")), End=task())


ENDED = ("Completed", "Failed", "Cancelled", "Skipped")
RANKS = ("New", "Starting", "Running", "Retrying", *ENDED)


class WatchedStore(MemoryStore):
    """Takes down when a run document takes back what it said."""

    def __init__(self) -> None:
        super().__init__()
        self.taken_back: list[str] = []

    async def write(self, name: str, data: bytes, **keys: Any) -> int:
        before = self._objects.get(name)
        generation = await super().write(name, data, **keys)
        if before and name.startswith("runs/"):
            self._compare(msgspec.json.decode(before[0]), msgspec.json.decode(data))
        return generation

    def _compare(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        for node, entry in old.items():
            ranks = [RANKS.index(each[node]["status"]) for each in (old, new) if node != "$run"]
            attempts = [each[node].get("attempt", 0) for each in (old, new)]
            if entry["status"] in ENDED and entry != new[node]:
                self.taken_back.append(f"{node} had ended and was changed")
            elif ranks and (attempts[0], ranks[0]) > (attempts[1], ranks[1]):
                self.taken_back.append(f"{node} moved back")


class World:
    """
    One store, and the functions that are called by all orchestrators on it.

    Attributes:
        memory: What is really stored.

        calls: How often each node was called.

        bodies: What a node's function does besides being counted.

        unrecorded: Nodes that were called without their record in the store.
    """

    def __init__(self) -> None:
        self.memory = WatchedStore()
        self.calls: Counter[str] = Counter()
        self.bodies: dict[str, Body] = {}
        self.unrecorded: list[str] = []
        self._seeds = 0

    def faulty(self) -> FaultyStore:
        """A client of the store whose calls may fail."""
        return FaultyStore(self.memory)

    @asynccontextmanager
    async def engine(self, store: Any = None, **options: Any) -> AsyncIterator[Orchestrator]:
        """An orchestrator as a process of its own."""
        self._seeds += 1
        options = {"settings": SETTINGS, "functions": {"t:work": self.work}, **options}
        chance = SeededEntropy(self._seeds)
        async with Orchestrator(store or self.memory, clock=ManualClock(), entropy=chance, **options) as orchestrator:
            yield orchestrator
        assert not self.memory.taken_back

    def client(self, store: Any = None) -> Client:
        self._seeds += 1
        chance = SeededEntropy(self._seeds)
        return Client(store or self.memory, settings=SETTINGS, clock=ManualClock(), entropy=chance)

    async def work(self, context: TaskContext) -> Any:
        self.calls[context.node] += 1
        if f"executions/{context.execution_id}.json" not in self.memory._objects:
            self.unrecorded.append(context.node)
        body = self.bodies.get(context.node)
        return await body(context) if body else context.node

    def document(self, run_id: str = "r") -> dict[str, Any]:
        """The run as it is stored now."""
        return msgspec.json.decode(self.memory._objects[f"runs/{run_id}.json"][0])

    def open_markers(self) -> list[str]:
        return [name for name in self.memory._objects if name.startswith("open/")]

    async def kill(self, store: FaultyStore, orchestrator: Orchestrator) -> Armed:
        """
        Let a process fall silent: nothing of it reaches the store any more, and the others hear that it is dead.

        When what is returned is disarmed it wakes up, knowing nothing.
        """
        silence = store.arm("*", "", times=None, hold=True)
        await self.memory.leave(orchestrator._executor.process.id)
        return silence

    def check_done_once(self, *nodes: str) -> None:
        """Every task was called exactly once, with its record there, and is Completed at its first attempt."""
        assert self.calls == dict.fromkeys(nodes, 1)
        assert not self.unrecorded
        document = self.document()
        assert document["$run"]["status"] == "Completed"
        for name in nodes:
            assert (document[name]["status"], document[name]["attempt"]) == ("Completed", 1)
            assert document[name]["launches"] == 1
            assert "lost" not in document[name]


SAMPLE = ("Init", "A", "A2", "B", "End")


def is_fair(fault: Fault) -> Callable[[Call], bool]:
    """Whether a store could answer so to an operation: reads do not conflict."""
    kinds = {"write", "delete"} if fault is Fault.CONFLICT_WITH_ONESELF else set()
    return lambda call: not kinds or call.kind in kinds


async def finish(
    orchestrator: Orchestrator, definition: dict[str, Any], run_id: str = "r", *, within_s: float = 100
) -> RunHandle:
    """Start a run and see it to its end; what the store refuses meanwhile is tried again, as a user would."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                run = await orchestrator.start(definition, run_id=run_id)
                await run.wait()
            except StoreError:
                await asyncio.sleep(1)
            else:
                return run


async def until(condition: Callable[[], bool], *, within_s: float = 1000) -> None:
    """Wait, in virtual time, until *condition* holds."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


# -- one test for each answer -----------------------------------------------------------------------------------


@in_virtual_time
async def test_success_the_next_event_needs_no_read() -> None:
    """What was committed is kept in memory: a run of five tasks is never read, and written once per step."""
    world = World()
    store = world.faulty()
    async with world.engine(store) as orchestrator:
        await finish(orchestrator, chain(*"ABCDE"))
        assert store.count("read", "runs/") == 0
        assert store.count("write", "runs/") == 6
    world.check_done_once(*"ABCDE")


@in_virtual_time
async def test_412_by_somebody_else_is_folded_onto_what_they_wrote() -> None:
    """A completion that meets a cancel by another process is not lost, and what the cancel forbids is not launched."""
    world = World()
    store = world.faulty()
    observer = CountingObserver()
    async with world.engine(store, observer=observer) as orchestrator, world.client() as client:
        held = store.arm("write", "runs/", nth=2, hold=True)
        run = await orchestrator.start(chain("A", "B"), run_id="r")
        await held.reached.wait()
        await client.cancel("r")
        assert world.document()["A"]["stop"]
        held.release()
        result = await run.wait()
        assert observer.conflicts == 1
    assert result.status is RunStatus.CANCELLED
    assert (world.document()["A"]["status"], world.document()["B"]["status"]) == ("Completed", "Skipped")
    assert world.calls == {"A": 1}


@in_virtual_time
async def test_412_by_our_own_earlier_try_is_a_commit() -> None:
    """When the condition fails since our own write had been applied, its launches follow, once."""
    for nth in range(1, 7):
        world = World()
        store = world.faulty()
        armed = store.arm("write", "runs/", Fault.CONFLICT_WITH_ONESELF, nth=nth)
        observer = CountingObserver()
        async with world.engine(store, observer=observer) as orchestrator:
            await finish(orchestrator, sample())
            assert observer.conflicts == armed.count
        world.check_done_once(*SAMPLE)


@in_virtual_time
async def test_429_keeps_the_copy_and_lets_events_gather() -> None:
    """A write that came too often was not applied: nothing is read, and the next try carries what ended meanwhile."""
    world = World()
    store = world.faulty()
    ends = {f"T{number}": asyncio.Event() for number in range(20)}
    for name, end in ends.items():
        world.bodies[name] = lambda _, end=end: end.wait()
    async with world.engine(store) as orchestrator:
        run = await orchestrator.start(fan_out(20), run_id="r")
        await until(lambda: len(world.calls) == 20)
        before = world.memory._objects["runs/r.json"]
        armed = store.arm("write", "runs/", Fault.THROTTLED, times=3)
        ends["T0"].set()
        await until(lambda: armed.count == 2)
        for end in ends.values():
            end.set()
        await until(lambda: armed.count == 3)
        assert world.memory._objects["runs/r.json"] is before, "a throttled write is not applied"
        assert run.run.nodes["T0"].status is TaskStatus.STARTING, "and not taken for a success"
        await run.wait()
    world.check_done_once(*ends, "End")
    assert store.count("read", "runs/") == 0
    assert store.count("write", "runs/") == 1 + 3 + 1 + 1, "start, three refused, one for all that ended, End"


@pytest.mark.parametrize(
    "fault", [Fault.LOST_REPLY, Fault.ONLY_THE_OBJECT, Fault.UNAVAILABLE, Fault.ONLY_WHAT_WAS_BESIDE]
)
@in_virtual_time
async def test_unknown_is_looked_up(fault: Fault) -> None:
    """
    A commit whose answer was lost launches what it owes, with the record that it may not have written, once.

    One that never was is decided again from what is stored; nothing is launched before.
    """
    for nth in range(1, 7):
        world = World()
        store = world.faulty()
        store.arm("write", "runs/", fault, nth=nth)
        async with world.engine(store) as orchestrator:
            await finish(orchestrator, sample())
        world.check_done_once(*SAMPLE)


@in_virtual_time
async def test_the_record_of_a_retry_exists_before_it_is_launched() -> None:
    """Also when the commit that begins it was applied without its record, while the attempt before it is held here."""
    for nth in range(1, 5):
        world = World()

        async def fails_once(context: TaskContext) -> int:
            if context.attempt == 1:
                raise ValueError("no luck")
            return context.attempt

        world.bodies["A"] = fails_once
        store = world.faulty()
        store.arm("write", "runs/", Fault.ONLY_THE_OBJECT, nth=nth)
        async with world.engine(store) as orchestrator:
            definition = chain(A=task(retry={"max_attempts": 2, "initial_delay": 0}))
            assert (await finish(orchestrator, definition)).status is RunStatus.COMPLETED
        assert world.calls == {"A": 2}
        assert not world.unrecorded


@in_virtual_time
async def test_an_outage_of_any_length_only_costs_time() -> None:
    """While the store does not answer nothing is launched; when it does everything goes on, exactly once."""
    world = World()
    store = world.faulty()
    async with world.engine(store) as orchestrator:
        run = await orchestrator.start(sample(), run_id="r")
        outage = store.arm("*", "", Fault.UNAVAILABLE, times=None)
        await asyncio.sleep(4 * 3600)
        assert world.calls == {"Init": 1}
        outage.disarm()
        async with asyncio.timeout(15):
            await run.wait()
    world.check_done_once(*SAMPLE)
    assert 1000 < outage.count < 30_000, "tried again and again, and not in a hurry"


# -- any answer at any moment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ANSWERS)
@in_virtual_time
async def test_any_two_answers_at_any_moment(second: Fault) -> None:
    """
    Whatever the store answers to any operation of a run, and to one soon after it, every task is done exactly once.

    The run has about ten operations: each is met by each answer, and one of the next three by another one.
    """
    for first, nth, gap in product(ANSWERS, range(1, 12), range(3)):
        world = World()
        store = world.faulty()
        async with world.engine(store) as orchestrator:
            store.arm("*", "", first, nth=nth, when=is_fair(first))
            # What the first one takes does not count for this one.
            store.arm("*", "", second, nth=nth + gap, when=is_fair(second))
            await finish(orchestrator, sample())
            await until(lambda world=world: not world.open_markers())
        world.check_done_once(*SAMPLE)


@pytest.mark.parametrize("seed", range(40))
@in_virtual_time
async def test_a_store_that_fails_all_the_time(seed: int) -> None:
    """Two processes that share three runs over a store that fails every third time do everything exactly once."""
    world = World()
    chance = SeededEntropy(1000 + seed)
    stores = world.faulty(), world.faulty()
    async with world.engine(stores[0]) as one, world.engine(stores[1]) as other:
        for store in stores:
            for fault in ANSWERS:
                is_one = is_fair(fault)
                often = lambda call, is_one=is_one: is_one(call) and chance.jitter() < 0.05  # noqa: E731
                store.arm("*", "", fault, times=None, when=often)
        runs = [finish(engine, sample(), run, within_s=1000) for run in ("r", "r2", "r3") for engine in (one, other)]
        await asyncio.gather(*runs)
        for store in stores:
            for armed in store._armed:
                armed.disarm()
        await until(lambda: not world.open_markers())
    assert world.calls == dict.fromkeys(SAMPLE, 3)
    assert not world.unrecorded
    for run_id in ("r", "r2", "r3"):
        document = world.document(run_id)
        assert document["$run"]["status"] == "Completed"
        assert {document[name]["attempt"] for name in SAMPLE} == {1}


# -- group commit -----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_branches_that_end_together_share_a_commit() -> None:
    """A thousand branches that end at once cost one write of the document, and the join is in it."""
    world = World()
    store = world.faulty()
    end = asyncio.Event()
    for number in range(1000):
        world.bodies[f"T{number}"] = lambda _: end.wait()
    async with world.engine(store) as orchestrator:
        run = await orchestrator.start(fan_out(1000), run_id="r")
        await until(lambda: len(world.calls) == 1000)
        assert store.count("write", "runs/") == 1
        end.set()
        await run.wait()
    assert store.count("write", "runs/") == 3, "the start, all ends with the join, and End"
    assert store.count("read", "runs/") == 0
    world.check_done_once(*(f"T{number}" for number in range(1000)), "End")


@in_virtual_time
async def test_branches_that_end_during_a_write_share_the_next_commit() -> None:
    """A thousand branches that end one after the other, while a write takes its time, cost two writes."""
    world = World()
    store = world.faulty()
    start = asyncio.Event()
    for number in range(1000):
        world.bodies[f"T{number}"] = lambda context: start.wait() if context.node == "T0" else _later(context, start)
    async with world.engine(store) as orchestrator:
        run = await orchestrator.start(fan_out(1000), run_id="r")
        await until(lambda: len(world.calls) == 1000)
        slow = store.arm("write", "runs/", hold=True)
        start.set()
        await slow.reached.wait()
        await asyncio.sleep(2)
        slow.release()
        await run.wait()
    assert store.count("write", "runs/") == 4, "the start, the first end, all other ends, and End"


async def _later(context: TaskContext, start: asyncio.Event) -> None:
    await start.wait()
    await asyncio.sleep(int(context.node.removeprefix("T")) / 1000)


# -- errors that are nobody's turn to mend ----------------------------------------------------------------------


@in_virtual_time
async def test_an_event_that_cannot_be_folded_is_refused_alone() -> None:
    """It is told to whoever brought it; the events beside it and the run go on."""
    world = World()
    gate = asyncio.Event()
    world.bodies["A"] = lambda _: gate.wait()
    async with world.engine() as orchestrator:
        run = await orchestrator.start(chain("A", "B"), run_id="r")
        committer = orchestrator._executor.committer("r")
        bad = committer.apply(TaskSucceeded("nobody", 1))
        outcomes = await asyncio.gather(
            committer.apply(TaskRunning("A", 1)),
            bad,
            committer.apply(TaskRunning("A", 1, "job")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), FoldError, type(None)]
        assert world.document()["A"]["job_id"] == "job"
        gate.set()
        await run.wait()
    assert world.calls == {"A": 1, "B": 1}


@in_virtual_time
async def test_a_success_that_cannot_be_folded_fails_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while the success is folded ends the run as Failed: no process waits for the task, or calls it again."""
    world = World()
    handlers = dict(TaskKind.handlers)

    def broken(draft: Draft, at: At[Any], event: TaskSucceeded) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(TaskKind, "handlers", handlers | {TaskSucceeded: broken})
    async with world.engine() as orchestrator:
        result = await finish(orchestrator, chain("A", "B"))
    assert result.status is RunStatus.FAILED
    assert world.document()["A"]["error"]["type"] == "InternalError"
    assert "ZeroDivisionError" in world.document()["A"]["error"]["message"]
    assert world.calls == {"A": 1}


@in_virtual_time
async def test_an_error_that_no_store_may_raise_stops_only_its_run() -> None:
    """Our own bugs are told to whoever waits, and neither hang anybody nor touch other runs."""
    world = World()
    store = world.faulty()
    async with world.engine(store) as orchestrator:
        armed = store.arm("write", "runs/bad", Fault.BROKEN, times=None)
        with pytest.raises(RuntimeError, match="breaks the store"):
            await orchestrator.start(chain("A"), run_id="bad")
        await finish(orchestrator, chain("B"))
        armed.disarm()
        assert (await finish(orchestrator, chain("A"), "bad")).status is RunStatus.COMPLETED
    assert world.calls == {"A": 1, "B": 1}


@in_virtual_time
async def test_a_refusal_for_good_is_told_to_those_who_wait() -> None:
    """`wait` and `changes` raise what the store says, and the run goes on by itself when the store works again."""
    world = World()
    store = world.faulty()
    async with world.engine(store) as orchestrator:
        full = store.arm("write", "runs/", Fault.REFUSED, nth=3, times=None)
        run = await orchestrator.start(sample(), run_id="r")
        with pytest.raises(StoreError, match=r"'runs/r.json' is refused"):
            await run.wait()
        with pytest.raises(StoreError, match=r"'runs/r.json' is refused"):
            async for _ in run.changes():
                pass
        full.disarm()
        await until(lambda: world.document()["$run"]["status"] == "Completed")
        assert (await run.wait()).status is RunStatus.COMPLETED
    world.check_done_once(*SAMPLE)


@in_virtual_time
async def test_a_large_result_that_cannot_be_stored_is_told_to_those_who_wait() -> None:
    """The same where it is not the run's document that the store refuses; the result is not lost."""
    world = World()
    store = world.faulty()

    async def large(context: TaskContext) -> str:
        return "x" * 5000

    world.bodies["A"] = large
    async with world.engine(store) as orchestrator:
        full = store.arm("write", "executions/", Fault.REFUSED, times=None, when=lambda call: len(call.names) == 1)
        run = await orchestrator.start(chain("A", "B"), run_id="r")
        with pytest.raises(StoreError, match=r"'executions/\w+.json' is refused"):
            await run.wait()
        full.disarm()
        await until(lambda: world.document()["$run"]["status"] == "Completed")
        assert (await run.wait()).results["A"] == "x" * 5000
    world.check_done_once("A", "B")


@in_virtual_time
async def test_a_command_that_the_store_refuses_raises() -> None:
    """A cancel that cannot be committed is told to who asked for it, and is not carried out later behind their back."""
    world = World()
    store = world.faulty()
    gate = asyncio.Event()
    world.bodies["A"] = lambda _: gate.wait()
    async with world.engine(store) as orchestrator:
        run = await orchestrator.start(chain("A"), run_id="r")
        full = store.arm("write", "runs/", Fault.REFUSED, times=None)
        async with asyncio.timeout(60):
            with pytest.raises(StoreError, match="is refused"):
                await run.cancel()
        full.disarm()
        await asyncio.sleep(20)
        gate.set()
        assert (await run.wait()).status is RunStatus.COMPLETED


@in_virtual_time
async def test_a_start_that_the_store_refuses_raises() -> None:
    """Whatever the start writes, a refusal is raised; asked again, when it works, the run is done once."""
    for kind, prefix in (("create_all", "definitions/"), ("write", "open/"), ("write", "runs/")):
        world = World()
        store = world.faulty()
        async with world.engine(store) as orchestrator:
            full = store.arm(kind, prefix, Fault.REFUSED, times=None)
            async with asyncio.timeout(60):
                with pytest.raises(StoreError, match="is refused"):
                    await orchestrator.start(chain("A", "B"), run_id="r")
            await asyncio.sleep(50)
            assert not world.calls
            full.disarm()
            await finish(orchestrator, chain("A", "B"))
        world.check_done_once("A", "B")


@in_virtual_time
async def test_an_outage_while_the_orchestrator_is_entered() -> None:
    """A store that does not answer yet is waited for: what was open goes on as soon as it does."""
    for kind, prefix in (("list", "open/"), ("read", "runs/"), ("write", "runs/"), ("read", "definitions/")):
        world = World()
        async with world.client() as client:
            await client.start(sample(), run_id="r")
        store = world.faulty()
        store.arm(kind, prefix, Fault.UNAVAILABLE, times=2)
        async with asyncio.timeout(100), world.engine(store) as orchestrator:
            while True:
                try:
                    await (await orchestrator.attach("r")).wait()
                except StoreError:
                    await asyncio.sleep(1)
                else:
                    break
        world.check_done_once(*SAMPLE)


@in_virtual_time
async def test_a_store_that_refuses_while_the_orchestrator_is_entered() -> None:
    """What only a human can mend is raised at once, and nothing is left behind: no process that counts as alive."""
    world = World()
    store = world.faulty()
    store.arm("list", "open/", Fault.REFUSED)
    with pytest.raises(StoreError, match="is refused"):
        async with world.engine(store):
            raise AssertionError("entered")
    assert not world.memory._alive


@in_virtual_time
async def test_one_run_that_cannot_be_committed_does_not_keep_the_others_waiting() -> None:
    """An orchestrator that is entered takes on every other run."""
    world = World()
    async with world.client() as client:
        for run_id in ("bad", "r"):
            await client.start(sample(), run_id=run_id)
    store = world.faulty()
    store.arm("write", "runs/bad", Fault.REFUSED, times=None)
    async with asyncio.timeout(100), world.engine(store):
        await until(lambda: world.document()["$run"]["status"] == "Completed")
    world.check_done_once(*SAMPLE)


# -- leaving ----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_leaving_commits_what_ended_meanwhile() -> None:
    """Work that ends within the grace is recorded; nothing new is begun by the one that leaves."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.sleep(3)
    async with world.engine(settings=Settings(drain_s=5)) as orchestrator:
        await orchestrator.start(chain("A", "B"), run_id="r")
        await until(lambda: "A" in world.calls)
    document = world.document()
    assert (document["A"]["status"], world.calls) == ("Completed", {"A": 1})
    async with world.engine() as orchestrator:
        await (await orchestrator.attach("r")).wait()
    world.check_done_once("A", "B")


@in_virtual_time
async def test_leaving_does_not_lose_what_must_not_be_sent_twice() -> None:
    """A task with `on_lost: fail` that was not begun when its process left is begun by the next one."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.sleep(3)
    async with world.engine(settings=Settings(drain_s=5)) as orchestrator:
        await orchestrator.start(chain(A=task(on_lost="fail"), B=task(on_lost="fail")), run_id="r")
        await until(lambda: "A" in world.calls)
    async with world.engine() as orchestrator:
        assert (await (await orchestrator.attach("r")).wait()).status is RunStatus.COMPLETED
    world.check_done_once("A", "B")


@pytest.mark.parametrize("what", ["a retry", "the time of the run"])
@in_virtual_time
async def test_due_timers_fire_although_the_clock_goes_back(what: str) -> None:
    """The time of day is set back between the moment at which something is due and the commit that would say so."""
    world = World()
    store = world.faulty()

    async def fails_at_first(context: TaskContext) -> None:
        if world.calls["A"] == 1 or what == "the time of the run":
            raise RuntimeError("not yet")

    world.bodies |= {"A": fails_at_first, "B": lambda _: asyncio.sleep(9)}
    definition = chain(
        P=parallel(chain(A=task(retry={"max_attempts": 2, "initial_delay": 10, "jitter": 0})), chain("B"))
    )
    if what == "the time of the run":
        definition["timeout"] = 10
        world.bodies["A"] = lambda _: asyncio.Event().wait()
    async with world.engine(store) as orchestrator:
        await orchestrator.start(definition, run_id="r")
        await asyncio.sleep(5)
        slow = store.arm("write", "runs/", hold=True)
        await slow.reached.wait()  # B has ended, and while that is committed A's time comes
        await asyncio.sleep(2)
        orchestrator._executor.clock.advance(-5)
        slow.release()
        await until(lambda: world.document()["$run"]["status"] in ENDED, within_s=100)
    assert world.document()["$run"]["status"] == ("Completed" if what == "a retry" else "Failed")


@in_virtual_time
async def test_a_run_whose_time_was_over_during_a_standstill_takes_the_answer_that_waits() -> None:
    """The process stood still when the time of the run was over; the answer arrives after some turns of the loop."""
    world = World()
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    world.bodies["A"] = lambda _: answer
    async with world.engine() as orchestrator:
        await orchestrator.start({**chain("A"), "timeout": 10}, run_id="r")
        await asyncio.sleep(9.9)
        asyncio.get_running_loop().call_later(0.5, answer.set_result, None)
        stand_still(30)
        await until(lambda: world.document()["$run"]["status"] in ENDED, within_s=100)
    assert world.document()["$run"]["status"] == "Completed"


@in_virtual_time
async def test_leaving_while_a_task_fails_leaves_the_retry_to_others() -> None:
    """A retry that is not due yet is waited for by whichever process comes next, and happens when it is due."""
    world = World()

    async def flaky(context: TaskContext) -> int:
        await asyncio.sleep(1)
        if context.attempt == 1:
            raise ValueError("no luck")
        return context.attempt

    world.bodies["A"] = flaky
    async with world.engine(settings=Settings(drain_s=5)) as orchestrator:
        retry = {"max_attempts": 2, "initial_delay": 30, "jitter": 0}
        await orchestrator.start(chain(A=task(retry=retry)), run_id="r")
        await until(lambda: "A" in world.calls)
    begun = asyncio.get_running_loop().time()
    async with world.engine() as orchestrator:
        result = await (await orchestrator.attach("r")).wait()
    assert (result.status, world.calls) == (RunStatus.COMPLETED, {"A": 2})
    assert 25 < asyncio.get_running_loop().time() - begun < 40


@in_virtual_time
async def test_leaving_gives_back_what_does_not_end() -> None:
    """What is still under way after the grace is given back, and begun anew elsewhere without a lost retry."""
    world = World()

    async def hangs_at_first(context: TaskContext) -> int:
        if context.attempt == 1:
            await asyncio.Event().wait()
        return context.attempt

    world.bodies["A"] = hangs_at_first
    async with world.engine(settings=Settings(drain_s=5)) as orchestrator:
        await orchestrator.start(chain("A", "B"), run_id="r")
        await until(lambda: "A" in world.calls)
    assert world.document()["A"]["status"] == "Retrying"
    async with world.engine() as orchestrator:
        result = await (await orchestrator.attach("r")).wait()
    assert (result.status, world.calls) == (RunStatus.COMPLETED, {"A": 2, "B": 1})


@in_virtual_time
async def test_leaving_is_bounded_while_the_store_does_not_answer() -> None:
    """An outage does not hold up the end, and nobody waits for ever for what was not committed."""
    world = World()
    store = world.faulty()
    async with asyncio.timeout(100), asyncio.TaskGroup() as group, world.engine(store) as orchestrator:
        run = await orchestrator.start(chain("A", "B"), run_id="r")
        store.arm("*", "runs/", Fault.UNAVAILABLE, times=None)
        waiting = group.create_task(_outcome(run.wait()))
        cancelling = group.create_task(_outcome(run.cancel()))
        await asyncio.sleep(1)
    assert isinstance(waiting.result(), OrchestratorLeftError)
    assert isinstance(cancelling.result(), OrchestratorLeftError)
    async with world.engine() as orchestrator:
        await (await orchestrator.attach("r")).wait()
    assert world.document()["$run"]["status"] == "Completed"


async def _outcome(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:  # noqa: BLE001  it is what the test looks at
        return error


@in_virtual_time
async def test_wait_raises_when_its_orchestrator_is_closed() -> None:
    """A wait that can never end raises, and says what becomes of the run."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.Event().wait()
    async with asyncio.timeout(100), asyncio.TaskGroup() as group, world.engine() as orchestrator:
        run = await orchestrator.start(chain("A"), run_id="r")
        waiting = group.create_task(_outcome(run.wait()))
        await until(lambda: "A" in world.calls)
    assert isinstance(waiting.result(), OrchestratorLeftError)
    assert "The next process continues the run" in str(waiting.result())


# -- cancel and completion --------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", range(12))
@in_virtual_time
async def test_a_cancel_that_races_with_a_completion(delay: int) -> None:
    """At whatever moment the cancel comes, the run ends, nothing begins after it, and what is recorded was done."""
    world = World()
    async with asyncio.timeout(100), world.engine() as orchestrator:
        run = await orchestrator.start(sample(), run_id="r")
        for _ in range(delay):
            await asyncio.sleep(0)
        await run.cancel()
        calls = dict(world.calls)
        result = await run.wait()
        await until(lambda: not world.open_markers())
    assert result.status in (RunStatus.CANCELLED, RunStatus.COMPLETED)
    document = world.document()
    assert {name for name in SAMPLE if document[name]["status"] == "Completed"} <= calls.keys()
    assert world.calls.keys() - calls.keys() <= {name for name in SAMPLE if document[name]["status"] == "Cancelled"}
    assert {document[name]["status"] for name in SAMPLE} <= {"Completed", "Cancelled", "Skipped"}


@in_virtual_time
async def test_a_cancel_in_the_batch_of_a_completion() -> None:
    """A completion that waits for the same commit as a cancel is kept, and the next task is not begun."""
    world = World()
    gate = asyncio.Event()
    world.bodies["Init"] = lambda _: gate.wait()
    store = world.faulty()
    async with world.engine(store) as orchestrator:
        run = await orchestrator.start(sample(), run_id="r")
        slow = store.arm("write", "runs/", hold=True)
        committer = orchestrator._executor.committer("r")
        committer.post(TaskRunning("Init", 1))
        await slow.reached.wait()
        committer.post(CancelRequested())
        gate.set()
        await asyncio.sleep(1)
        slow.release()
        result = await run.wait()
    assert (result.status, world.document()["Init"]["status"]) == (RunStatus.CANCELLED, "Completed")
    assert world.calls == {"Init": 1}


# -- starts that meet -------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_start_is_not_disturbed_by_those_who_ask_for_its_run() -> None:
    """Somebody who looks for the run while it is being started finds it or does not; the start succeeds."""
    for kind, prefix in (("write", "open/"), ("create_all", "definitions/"), ("write", "runs/")):
        world = World()
        store = world.faulty()
        async with world.engine(store) as orchestrator:
            slow = store.arm(kind, prefix, hold=True)
            starting = asyncio.create_task(finish(orchestrator, chain("A")))
            await slow.reached.wait()
            asking = [asyncio.create_task(_outcome(orchestrator.attach("r"))) for _ in range(3)]
            await asyncio.sleep(0.1)
            asking.append(asyncio.create_task(_outcome(orchestrator.attach("r"))))
            slow.release()
            assert (await starting).status is RunStatus.COMPLETED
            await asyncio.gather(*asking)
            assert not orchestrator._executor.committers
        world.check_done_once("A")


@in_virtual_time
async def test_a_start_is_not_disturbed_by_another_that_fails() -> None:
    """Of three starts of one run, one fails while the others write the marker: neither of these is told of no run."""
    world = World()
    store = world.faulty()
    async with world.engine(store) as orchestrator:
        refused = store.arm("write", "open/", Fault.UNAVAILABLE, hold=True)
        slow = store.arm("write", "open/", hold=True)
        slower = store.arm("write", "open/", hold=True)
        failing = asyncio.create_task(_outcome(orchestrator.start(chain("A"), run_id="r")))
        await refused.reached.wait()
        first = asyncio.create_task(finish(orchestrator, chain("A")))
        await slow.reached.wait()
        refused.release()
        assert type(await failing) is StoreUnavailable
        second = asyncio.create_task(finish(orchestrator, chain("A")))
        await slower.reached.wait()
        slow.release()
        assert (await first).status is RunStatus.COMPLETED
        slower.release()
        assert (await second).status is RunStatus.COMPLETED
    world.check_done_once("A")


@in_virtual_time
async def test_marker_of_an_ended_run_goes_though_its_removal_failed() -> None:
    """The next sweep removes what the end of the run could not."""
    for fault in (Fault.UNAVAILABLE, Fault.REFUSED, Fault.LOST_REPLY):
        world = World()
        store = world.faulty()
        gate = asyncio.Event()
        world.bodies["A"] = lambda _, gate=gate: gate.wait()
        async with world.engine(store) as orchestrator:
            armed = store.arm("delete", "open/", fault)
            run = await orchestrator.start(chain("A"), run_id="r")
            await asyncio.sleep(10)
            gate.set()
            await run.wait()
            await until(lambda armed=armed, world=world: armed.count == 1 and not world.open_markers(), within_s=30)


@in_virtual_time
async def test_marker_of_a_run_that_was_taken_on_goes_though_its_removal_failed() -> None:
    """The same of a run whose marker is none of our own making, and was looked at when the run was still open."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.sleep(10)
    async with world.client() as client:
        await client.start(chain("A"), run_id="r")
    store = world.faulty()
    async with world.engine(store):
        armed = store.arm("delete", "open/", Fault.UNAVAILABLE, times=3)
        await until(lambda: armed.count == 3 and not world.open_markers(), within_s=60)
    world.check_done_once("A")


@in_virtual_time
async def test_a_start_that_got_as_far_as_its_marker_is_carried_out() -> None:
    """The marker is the command: whatever became of the start behind it, the next sweep begins the run, here too."""
    world = World()
    store = world.faulty()
    async with world.engine(store) as orchestrator:
        refused = store.arm("write", "runs/", Fault.REFUSED, hold=True)
        starting = asyncio.create_task(_outcome(orchestrator.start(chain("A", "B"), run_id="r")))
        await refused.reached.wait()
        await asyncio.sleep(5)  # sweeps that find the marker leave it to the start
        refused.release()
        assert type(await starting) is StoreError
        await until(lambda: "B" in world.calls and not world.open_markers(), within_s=10)
    world.check_done_once("A", "B")


@in_virtual_time
async def test_a_death_is_noticed_by_those_who_knew_the_run_before() -> None:
    """Not only a process that looks at the run for the first time takes over, and it does so with the next sweep."""
    world = World()

    async def hangs_at_first(context: TaskContext) -> None:
        if world.calls["A"] == 1:
            await asyncio.Event().wait()

    world.bodies["A"] = hangs_at_first
    store = world.faulty()
    async with world.engine(store) as one, world.engine():
        await one.start(chain("A", "B"), run_id="r")
        await asyncio.sleep(60)
        assert world.calls == {"A": 1}
        silence = await world.kill(store, one)
        await until(lambda: world.document()["$run"]["status"] == "Completed", within_s=10)
        silence.disarm()
    assert world.calls == {"A": 2, "B": 1}


@in_virtual_time
async def test_a_death_is_noticed_of_a_process_that_an_event_made_the_owner() -> None:
    """Whoever goes on with a run that others began, since a completion came to it, is known to all of them."""
    world = World()

    async def hangs_at_first(context: TaskContext) -> None:
        if world.calls["C"] == 1:
            await asyncio.Event().wait()

    answers = {"A": asyncio.Event(), "B": asyncio.Event()}
    world.bodies |= {"A": lambda _: answers["A"].wait(), "B": lambda _: answers["B"].wait(), "C": hangs_at_first}
    store = world.faulty()
    async with world.engine() as first, world.engine() as second, world.engine(store) as third:
        await first.start(chain("A", "B", "C"), run_id="r")
        for node, process in (("A", second), ("B", third)):
            await asyncio.sleep(10)
            await process._executor.committer("r").apply(TaskSucceeded(node, 1))
            answers[node].set()
        await asyncio.sleep(10)
        assert world.calls == {"A": 1, "B": 1, "C": 1}
        silence = await world.kill(store, third)
        await until(lambda: world.document()["$run"]["status"] == "Completed", within_s=10)
        silence.disarm()
    assert world.calls == {"A": 1, "B": 1, "C": 2}


@in_virtual_time
async def test_a_death_before_the_others_were_told_is_noticed() -> None:
    """Whoever a run was taken from reads who has it now, and keeps that in mind: nobody else knows of the new owner."""
    world = World()
    answer = asyncio.Event()
    world.bodies |= {
        "A": lambda _: answer.wait(),
        "B": lambda _: asyncio.Event().wait() if world.calls["B"] == 1 else asyncio.sleep(0),
    }
    store = world.faulty()
    async with world.engine() as first, world.engine(store) as second:
        await first.start(chain("A", "B"), run_id="r")
        await second._executor.runs.touch_open("r")  # for whatever reason: now it is no marker of the first one's own
        await asyncio.sleep(10)
        store.arm("*", "open/", times=None, hold=True)
        await second._executor.committer("r").apply(TaskSucceeded("A", 1))
        answer.set()
        await asyncio.sleep(10)
        assert world.calls == {"A": 1, "B": 1}
        silence = await world.kill(store, second)
        await until(lambda: world.document()["$run"]["status"] == "Completed", within_s=10)
        silence.disarm()
    assert world.calls == {"A": 1, "B": 2}


@in_virtual_time
async def test_task_made_ready_by_a_late_write_is_started() -> None:
    """It is of a process that is gone, and nobody reckons with it: whoever reads the run begins the rest."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.Event().wait()
    async with world.engine() as orchestrator:
        await orchestrator.start(chain("A", "B"), run_id="r")
        await orchestrator._executor.runs.touch_open("r")  # it has been looked at since
        await asyncio.sleep(10)
        document, now = world.document(), orchestrator._executor.clock.now().isoformat()
        document["A"] |= {"status": "Completed", "ended_at": now}
        del document["A"]["by"]
        document["B"]["ready_at"] = now
        generation = world.memory._objects["runs/r.json"][1]
        await world.memory.write("runs/r.json", msgspec.json.encode(document), if_generation_match=generation)
        await until(lambda: world.document()["$run"]["status"] == "Completed", within_s=60)
    assert world.calls["B"] == 1


@in_virtual_time
async def test_a_death_is_noticed_although_the_run_was_started_again_meanwhile() -> None:
    """A sweep during a second start, whose copy of the run is only to be, does not forget who owes something to it."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.Event().wait() if world.calls["A"] == 1 else asyncio.sleep(0)
    store, others = world.faulty(), world.faulty()
    async with world.engine(store) as one, world.engine(others) as other:
        await one.start(chain("A"), run_id="r")
        await asyncio.sleep(60)
        slow = others.arm("write", "runs/", hold=True)
        again = asyncio.create_task(other.start(chain("A"), run_id="r"))
        await slow.reached.wait()
        await asyncio.sleep(10)
        slow.release()
        await again
        silence = await world.kill(store, one)
        await until(lambda: world.document()["$run"]["status"] == "Completed", within_s=10)
        silence.disarm()
    assert world.calls == {"A": 2}


@in_virtual_time
async def test_a_target_that_cannot_stop_is_asked_again() -> None:
    """A stop that raises is not reported as done, and tried again soon: what goes on at the target costs money."""
    world = World()
    refusals = ["not now", "not yet"]

    class Stubborn:
        def resolve(self, task: Task) -> None:
            return None

        async def launch(self, task: Task, context: TaskContext) -> Answer:
            return await asyncio.get_running_loop().create_future()

        async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
            if refusals:
                raise RuntimeError(refusals.pop())

        async def aclose(self) -> None:
            return None

    call = {"type": "Task", "target_type": "CloudFunction", "target_name": "f", "url": "https://f.example/"}
    async with world.engine(targets={TargetTypes.CLOUD_FUNCTION: Stubborn()}) as orchestrator:
        run = await orchestrator.start({"start": "A", "steps": {"A": {**call, "end": True}}}, run_id="r")
        await asyncio.sleep(1)
        await run.cancel()
        await asyncio.sleep(0.1)
        assert (run.status, refusals) == (RunStatus.CANCELLING, ["not now"])
        async with asyncio.timeout(10):
            assert (await run.wait()).status is RunStatus.CANCELLED
    assert not refusals


# -- several processes ------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Two clients of one store, as two processes have them."""
    if request.param == "memory":
        memory = MemoryStore()
        return memory, memory
    return f"sqlite:///{tmp_path}/state.db", f"sqlite:///{tmp_path}/state.db"


async def test_two_orchestrators_that_work_on_the_same_runs(stores: Any) -> None:
    """Both start the same 20 runs at once: each function of each run is called once, and no marker is left."""
    calls: Counter[tuple[str, str]] = Counter()

    async def work(context: TaskContext) -> str:
        calls[context.run_id, context.node] += 1
        await asyncio.sleep(0)
        return context.node

    settings = Settings(sweep_interval_s=0.02, drain_s=0, launches=LaunchSettings(running_after_s=0.001))
    keys: Any = {"functions": {"t:work": work}, "settings": settings}
    async with (
        asyncio.timeout(30),
        Orchestrator(stores[0], **keys) as one,
        Orchestrator(stores[1], **keys) as other,
    ):
        runs = await asyncio.gather(
            *(each.start(sample(), run_id=f"r{number}") for number in range(20) for each in (one, other))
        )
        results = await asyncio.gather(*(run.wait() for run in runs))
        assert {result.status for result in results} == {RunStatus.COMPLETED}
        assert {result.results["End"] for result in results} == {"End"}
        while await one.store.list("open/"):
            await asyncio.sleep(0.01)
    assert calls == {(f"r{number}", name): 1 for number in range(20) for name in SAMPLE}


@pytest.mark.parametrize("launched", [False, True], ids=["before it was called", "after it was called"])
@in_virtual_time
async def test_launches_owed_by_a_dead_process_are_taken_over(launched: bool) -> None:  # noqa: FBT001
    """The same attempt under the same key is launched by another process, with its record, and the run ends."""
    world = World()
    keys = []

    async def hangs_at_first(context: TaskContext) -> None:
        keys.append(context.execution_id)
        if len(keys) == 1 and launched:
            await asyncio.Event().wait()

    world.bodies["A"] = hangs_at_first
    store = world.faulty()
    async with asyncio.timeout(100), world.engine(store) as one, world.engine() as other:
        lost = store.arm("write", "runs/", Fault.ONLY_THE_OBJECT, hold=True)
        starting = asyncio.create_task(_outcome(one.start(chain("A", "B"), run_id="r")))
        await lost.reached.wait()
        lost.release()
        if launched:
            await until(lambda: bool(keys))
        else:
            await until(lambda: "runs/r.json" in world.memory._objects)
        silence = await world.kill(store, one)
        result = await (await other.attach("r")).wait()
        assert (result.status, world.calls["B"]) == (RunStatus.COMPLETED, 1)
        assert (world.document()["A"]["attempt"], world.document()["A"]["launches"]) == (1, 2)
        before = world.memory._objects["runs/r.json"]
        silence.disarm()
        await starting
        await asyncio.sleep(50)
        assert world.memory._objects["runs/r.json"] is before, "the one that wakes up changes nothing any more"
    assert len(keys) == world.calls["A"] == (2 if launched else 1)
    assert len(set(keys)) == 1
    assert not world.unrecorded


@pytest.mark.parametrize("seed", range(30))
@in_virtual_time
async def test_a_process_that_is_called_dead_and_lives(seed: int) -> None:
    """
    Processes that are paused again and again, called dead, and wake up: both act, and the document is right.

    Every task completes exactly once there, no status is ever taken back, and no task is called more often than
    commits say.
    """
    world = World()
    chance = SeededEntropy(2000 + seed)

    async def works(context: TaskContext) -> str:
        await asyncio.sleep(chance.jitter() * 5)
        return context.execution_id

    world.bodies = dict.fromkeys(SAMPLE, works)
    settings = Settings(sweep_interval_s=1, drain_s=0, launches=LaunchSettings(running_after_s=2))
    clients = world.faulty(), world.faulty()
    async with (
        asyncio.timeout(2000),
        world.engine(clients[0], settings=settings) as one,
        world.engine(clients[1], settings=settings) as other,
    ):
        run = await one.start(sample(), run_id="r")
        for _ in range(4):
            victim = int(chance.jitter() * 2)
            await asyncio.sleep(chance.jitter() * 4)
            silence = await world.kill(clients[victim], (one, other)[victim])
            await asyncio.sleep(chance.jitter() * 8)
            silence.disarm()
            await world.memory.join((one, other)[victim]._executor.process.id)
        result = await run.wait()
        await until(lambda: not world.open_markers())
    document = world.document()
    assert result.status is RunStatus.COMPLETED
    for name in SAMPLE:
        entry = document[name]
        assert entry["status"] == "Completed"
        assert entry["result"] == entry["execution_id"]
        launches = entry["launches"] + 10 * entry.get("lost", 0)
        assert 1 <= world.calls[name] <= launches
    assert not world.unrecorded


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.UNAVAILABLE, Fault.CONFLICT_WITH_ONESELF, Fault.THROTTLED])
@in_virtual_time
async def test_tasks_left_to_the_other_process_start_despite_store_faults(fault: Fault) -> None:
    """Tasks whose callables are in two processes alternate between them, though each commit may meet a fault."""
    steps = chain(*"ABCD")
    for name, function in zip("ABCD", ("t:left", "t:right") * 2, strict=True):
        steps["steps"][name]["target_name"] = function
    for nth in range(1, 5):
        for faulty in (0, 1):
            world = World()
            clients = world.faulty(), world.faulty()
            left, right = {"t:left": world.work}, {"t:right": world.work}
            async with (
                asyncio.timeout(200),
                world.engine(clients[0], functions=left) as one,
                world.engine(clients[1], functions=right),
            ):
                one.check = lambda _: None  # type: ignore[method-assign]  # as when the definition came from elsewhere
                clients[faulty].arm("write", "runs/", fault, nth=nth)
                await finish(one, steps)
            world.check_done_once(*"ABCD")


@in_virtual_time
async def test_a_client_may_wait_for_a_run_that_others_carry_out() -> None:
    """It hears of the end, of every change, and of a cancel, though it launches nothing itself."""
    world = World()
    gate = asyncio.Event()
    world.bodies["B"] = lambda _: gate.wait()
    store = world.faulty()
    async with asyncio.timeout(200), world.engine(), world.client(store) as client:
        run = await client.start(sample(), run_id="r")
        async for _ in run.changes():
            if run.run.nodes["A2"].status is TaskStatus.COMPLETED:
                gate.set()
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert store.count("read", "runs/") < 20, "it looks now and then, and not all the time"
    world.check_done_once(*SAMPLE)


@in_virtual_time
async def test_an_event_of_a_later_attempt_than_the_copy_knows_is_not_lost() -> None:
    """A process that holds an old copy reads again before it calls anything a thing of the past."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.Event().wait()
    slow = Settings(sweep_interval_s=10_000, drain_s=0, launches=LaunchSettings(running_after_s=1))
    store = world.faulty()
    async with asyncio.timeout(200), world.engine(store, settings=slow) as one:
        await one.start(chain("A", "B"), run_id="r")
        await until(lambda: world.document()["A"]["status"] == "Running")
        await world.memory.leave(one._executor.process.id)
        async with world.engine():
            await until(lambda: world.document()["A"]["attempt"] == 2)
            assert one._executor.committers["r"].run.nodes["A"].attempt == 1
            await one._executor.committer("r").apply(TaskSucceeded("A", 2))
            assert world.document()["A"]["status"] == "Completed"
            assert store.count("read", "runs/") == 1


@in_virtual_time
async def test_a_run_has_one_committer_in_a_process() -> None:
    """One that was forgotten hands its events on to the one that has taken its place."""
    world = World()
    world.bodies["A"] = lambda _: asyncio.Event().wait()
    async with asyncio.timeout(200), world.engine(), world.client() as client:
        await client.start(chain("A"), run_id="r")
        await until(lambda: "A" in world.calls)
        forgotten = client._executor.committer("r")
        await forgotten.apply(None)
        assert "r" not in client._executor.committers
        run = await client.attach("r")
        waiting = asyncio.create_task(run.wait())
        await asyncio.sleep(0.1)
        held = client._executor.committers["r"]
        assert held is not forgotten
        await forgotten.apply(CancelRequested())
        assert held.run.status is RunStatus.CANCELLING
        assert client._executor.committers["r"] is held
        assert (await waiting).status is RunStatus.CANCELLED


@in_virtual_time
async def test_many_may_ask_for_a_run_while_it_goes_on() -> None:
    """Handles that are asked for while the document is being read again show what was last committed."""
    world = World()
    for name in SAMPLE:
        world.bodies[name] = lambda _: asyncio.sleep(3)
    store = world.faulty()
    async with asyncio.timeout(200), world.engine(store) as orchestrator, asyncio.TaskGroup() as group:
        await orchestrator.start(sample(), run_id="r")

        async def ask(number: int) -> RunStatus:
            await asyncio.sleep(number // 10 / 5)
            for _ in range(number % 10):
                await asyncio.sleep(0)  # so that some come while the document is read for others
            run = await orchestrator.attach("r")
            assert run.run.nodes["Init"].attempt == 1
            return (await run.wait()).status

        store.arm("read", "runs/", Fault.UNAVAILABLE, nth=30, times=5)
        asked = [group.create_task(ask(number)) for number in range(400)]
    assert {each.result() for each in asked} == {RunStatus.COMPLETED}
    world.check_done_once(*SAMPLE)
