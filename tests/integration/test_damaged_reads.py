"""Reads that bring something else than what is stored: messages come again, outcomes wait, nothing is overwritten."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import pytest

from aiorch import Orchestrator, RunStatus, Settings, TargetTypes, TaskContext
from aiorch.engine.sweeper import Sweeper
from aiorch.errors import DocumentError, ResultUnreadableError
from aiorch.model.names import run_id
from aiorch.model.run import INLINE_RESULT_BYTES_MAX
from aiorch.ports.target import Answer, Succeeded
from aiorch.settings import LaunchSettings
from aiorch.stores.memory import MemoryStore
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, task
from tests.integration.test_intake import Engine, engine, gen2, start

DAMAGE = [b"", b"null", b"[]", b"5", b"{}", b'{"$run":']
KINDS = ["executions/", "runs/", "definitions/"]


@contextmanager
def damaged(memory: MemoryStore, prefix: str, data: bytes) -> Iterator[None]:
    """Let reads of the one object whose name begins so bring *data*, with the generation of what is stored."""
    (name,) = (name for name in memory._objects if name.startswith(prefix))
    whole, generation, metadata = memory._objects[name]
    memory._objects[name] = data, generation, metadata
    yield
    assert memory._objects[name] == (data, generation, metadata), "what was read was written back"
    memory._objects[name] = whole, generation, metadata


class OneDelivery:
    """A delivery that tells what became of it."""

    attributes: dict[str, str] = {}  # noqa: RUF012  as the port has it

    def __init__(self, message: Any, attempt: int | None, published_at: datetime) -> None:
        self.data = message if isinstance(message, bytes) else msgspec.json.encode(message)
        self.message_id = "m"
        self.publish_time = published_at
        self.delivery_attempt = attempt
        self.settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def ack(self) -> None:
        self.settled.set_result("acknowledged")

    def nack(self) -> None:
        self.settled.set_result("given back")


async def deliver(made: Engine, message: Any, *, attempt: int | None = None, published_at: datetime) -> tuple[str, int]:
    """Hand a message over. Return what became of it, and how many messages are parked."""
    delivery = OneDelivery(message, attempt, published_at)
    made.intake.handle([delivery])
    return await delivery.settled, len(made.names("rejected/"))


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_a_message_comes_again_until_its_document_can_be_read(kind: str, data: bytes) -> None:
    """A completion whose record, run or definition reads badly is neither parked nor acknowledged, and counts later."""
    async with engine() as first:
        key = await first.start()
        async with engine(beside=first) as made:  # it has read nothing yet
            with damaged(made.memory, kind, data):
                made.source.publish(gen2(key))
                await asyncio.sleep(60)
                assert made.source.outstanding + len(made.source._messages) <= 1
                assert not made.names("rejected/")
                assert made.executor.observer.settled["function", "returned"] > 1
            await made.settled()
            assert made.status() == "Completed"
            assert not made.names("rejected/")
            assert len(first.target.sent) == 1


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_a_message_is_parked_after_five_deliveries(kind: str) -> None:
    """Where deliveries are counted the fifth is the last one; a document that cannot be read then is broken."""
    async with engine() as first:
        key = await first.start()
        async with engine(beside=first) as made:
            now = made.executor.clock.now()
            with damaged(made.memory, kind, b"null"):
                for attempt in range(1, 5):
                    assert await deliver(made, gen2(key), attempt=attempt, published_at=now) == ("given back", 0)
                assert await deliver(made, gen2(key), attempt=5, published_at=now) == ("acknowledged", 1)


@in_virtual_time
async def test_a_message_is_parked_after_ten_minutes_without_a_count() -> None:
    """Where nobody counts deliveries the time since the publication decides."""
    async with engine() as made:
        key = await made.start()
        now = made.executor.clock.now()
        with damaged(made.memory, "executions/", b"null"):
            made.executor.clock.advance(599)
            assert await deliver(made, gen2(key), published_at=now) == ("given back", 0)
            made.executor.clock.advance(2)
            assert await deliver(made, gen2(key), published_at=now) == ("acknowledged", 1)


@in_virtual_time
async def test_a_malformed_message_is_parked_at_its_first_delivery() -> None:
    """The message itself is broken, and no read could mend it."""
    async with engine() as made:
        now = made.executor.clock.now()
        assert await deliver(made, b"not json", attempt=1, published_at=now) == ("acknowledged", 1)


@in_virtual_time
async def test_a_start_comes_again_until_its_run_can_be_read() -> None:
    """A start that meets a run of its id, and cannot read it, neither begins another one nor is lost."""
    async with engine() as first:
        await first.start()
        async with engine(beside=first) as made:
            with damaged(made.memory, "runs/", b"null"):
                made.source.publish(start(run_id="r"))
                await asyncio.sleep(60)
                assert not made.names("rejected/")
            await made.settled()
            assert made.executor.observer.settled["start", "applied"] == 1
            assert made.names("runs/") == ["runs/r.json"]


# -- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_an_outcome_waits_until_its_run_can_be_read(data: bytes) -> None:
    """The answer of a call that ends while its run reads badly is committed afterwards, and nothing is called again."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    async with engine() as made:

        async def launch(task: Any, context: TaskContext) -> Answer:
            made.target.sent.append(context)
            return await answer

        made.target.launch = launch  # type: ignore[method-assign]
        await made.start()
        stored = made.memory._objects["runs/r.json"]
        await made.memory.write("runs/r.json", stored[0], if_generation_match=stored[1])  # so that it must be read
        with damaged(made.memory, "runs/", data):
            answer.set_result(Succeeded(b'"done"'))
            await asyncio.sleep(100)
        await made.until(lambda: made.status() == "Completed")
        assert made.document()["Load"]["result"] == "done"
        assert [context.node for context in made.target.sent] == ["Load", "Done"]


@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_a_large_result_waits_until_its_record_can_be_read(data: bytes) -> None:
    """A result that belongs into its record is written there as soon as that reads well, and the task completes."""
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    large = msgspec.json.encode("x" * (INLINE_RESULT_BYTES_MAX + 1))

    async with engine() as made:

        async def launch(task: Any, context: TaskContext) -> Answer:
            made.target.sent.append(context)
            return await answer if task.name == "Load" else Succeeded(b"1")

        made.target.launch = launch  # type: ignore[method-assign]
        key = await made.start()
        with damaged(made.memory, "executions/", data):
            answer.set_result(Succeeded(large))
            await asyncio.sleep(100)
            assert made.status() in ("Starting", "Running")
        await made.until(lambda: made.document()["$run"]["status"] == "Completed")
        assert made.document()["Load"]["result_in"] == "execution"
        assert await made.executor.executions.get_response(key) == large


@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_a_run_waits_for_a_result_that_cannot_be_read_and_stops_no_other_run(data: bytes) -> None:
    """A decision that needs the result is made when the object is restored; until then, messages are pulled."""
    store = MemoryStore()

    async def large(context: TaskContext) -> str:
        return "x" * (INLINE_RESULT_BYTES_MAX + 1)

    reading = chain(
        A=task(target_name="t:large"),
        Patience={"type": "Wait", "seconds": 5},
        Last={"type": "Pass", "result": "${ len(results.A) }"},
    )
    options: dict[str, Any] = {"functions": {"t:large": large}, "clock": ManualClock(), "entropy": SeededEntropy(1)}
    async with Orchestrator(store, settings=Settings(drain_s=0), **options) as orchestrator:
        await orchestrator.start(reading, run_id="r")
        await asyncio.sleep(3)
    async with Orchestrator(store, settings=Settings(drain_s=0), **options) as orchestrator:
        pauses: list[None] = []
        orchestrator._executor.on_store_away = lambda: pauses.append(None)
        with damaged(store, "executions/", data):
            run = await orchestrator.attach("r")
            with pytest.raises(ResultUnreadableError, match="executions/"):
                await run.wait()
        assert not pauses
        result = await run.wait()
        assert (result.status, result.output) == (RunStatus.COMPLETED, INLINE_RESULT_BYTES_MAX + 1)


@in_virtual_time
async def test_a_message_that_needs_a_result_is_not_parked_when_its_object_is_gone() -> None:
    """However often the message of a task's end came: a person may restore the object that the next decision reads."""
    async with engine() as made:
        hopeless = made.intake._is_hopeless(
            ResultUnreadableError("gone"), OneDelivery({}, 99, made.executor.clock.now())
        )
        assert not hopeless


# -- markers and sweeps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_a_marker_that_reads_badly_is_not_written_back(data: bytes) -> None:
    """A touch passes on what it has read: damage would be stored for good, and the run never begin elsewhere."""
    async with engine() as made:
        await made.start()
        with damaged(made.memory, "open/", data), pytest.raises(DocumentError, match="open/r"):
            await made.executor.runs.touch_open("r")
        assert await made.executor.runs.touch_open("r") is not None
        command = await made.executor.runs.get_start_command(run_id("r"))
        assert command is not None


@pytest.mark.parametrize("kind", ["runs/", "definitions/"])
@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_a_run_that_reads_badly_is_looked_at_in_the_next_sweep(kind: str, data: bytes) -> None:
    """A sweeper that could not read an open run does not leave it alone for an hour."""
    async with engine() as first:
        await first.start()
        async with engine(beside=first) as made:
            sweeper = Sweeper(made.executor, made.memory, interval_s=30, relook_s=3600, refresh_s=3600)
            with damaged(made.memory, kind, data):
                await sweeper.sweep()
            reads = made.store.count("read", "runs/")
            await sweeper.sweep()
            assert made.store.count("read", "runs/") > reads
            await sweeper.sweep()
            reads = made.store.count("read", "runs/")
            await sweeper.sweep()
            assert made.store.count("read", "runs/") == reads, "a run that reads well is not looked at without a reason"


@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_a_closed_run_that_reads_badly_is_read_again_in_the_next_sweep(data: bytes) -> None:
    """A process that holds a run which another one has ended learns of the end, though its first look failed."""
    async with engine() as made:
        await made.start()
        sweeper = Sweeper(made.executor, made.memory, interval_s=30, relook_s=3600, refresh_s=3600)
        await sweeper.sweep()
        await made.memory.delete("open/r", if_generation_match=made.memory._objects["open/r"][1])
        with damaged(made.memory, "runs/", data):
            await sweeper.sweep()
            await asyncio.sleep(20)
        reads = made.store.count("read", "runs/")
        await sweeper.sweep()
        await asyncio.sleep(20)
        assert made.store.count("read", "runs/") == reads + 1


@pytest.mark.parametrize("data", DAMAGE)
@in_virtual_time
async def test_a_definition_that_cannot_be_built_is_a_document_that_cannot_be_read(data: bytes) -> None:
    """The error names the object and says that it is the document, as for runs and records."""
    async with engine() as first:
        await first.start()
        made = Engine(beside=first)
        with (
            damaged(made.memory, "definitions/", data),
            pytest.raises(DocumentError, match=r"definitions/[0-9a-f]+\.json"),
        ):
            await made.executor.runs.get_run(run_id("r"))
        assert await made.executor.runs.get_run(run_id("r")) is not None


@in_virtual_time
async def test_a_retry_that_waits_for_a_slot_is_made_although_the_last_read_was_damaged() -> None:
    """A look at the run brought no document; the retry of a limited target type is due, and the run is read again."""
    store = MemoryStore()
    calls: list[int] = []

    async def work(context: TaskContext) -> None:
        calls.append(context.attempt)
        if context.attempt == 1:
            raise RuntimeError("not yet")

    limits = LaunchSettings(limits={TargetTypes.FUNCTION: 1})
    options: dict[str, Any] = {"clock": ManualClock(), "entropy": SeededEntropy(1)}
    async with Orchestrator(
        store, functions={"t:work": work}, settings=Settings(launches=limits, sweep_interval_s=10_000), **options
    ) as orchestrator:
        await orchestrator.start(chain(A=task(retry={"max_attempts": 2, "initial_delay": 30, "jitter": 0})), run_id="r")
        await asyncio.sleep(10)
        with damaged(store, "runs/", b"null"), pytest.raises(DocumentError):
            await orchestrator._executor.committer("r").apply(None)
        await asyncio.sleep(30)
        assert calls == [1, 2]
