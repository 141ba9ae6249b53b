"""What tests lean on: the store that fails as ordered, and time and chance under control."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aiorch.errors import GenerationConflict, StoreError, StoreThrottled, StoreUnavailable
from aiorch.stores.memory import MemoryStore
from aiorch.testing import Call, Fault, FaultyStore, ManualClock, SeededEntropy, in_virtual_time
from aiorch.testing.modelled_bucket import ModelledBucket

APPLIED = {
    Fault.CONFLICT_WITH_ONESELF: (GenerationConflict, {"runs/a", "executions/b"}),
    Fault.THROTTLED: (StoreThrottled, set()),
    Fault.UNAVAILABLE: (StoreUnavailable, set()),
    Fault.LOST_REPLY: (StoreUnavailable, {"runs/a", "executions/b"}),
    Fault.ONLY_THE_OBJECT: (StoreUnavailable, {"runs/a"}),
    Fault.ONLY_WHAT_WAS_BESIDE: (StoreUnavailable, {"executions/b"}),
    Fault.REFUSED: (StoreError, set()),
    Fault.BROKEN: (RuntimeError, set()),
}


@pytest.mark.parametrize("fault", Fault)
async def test_a_fault_does_what_it_says(fault: Fault) -> None:
    """Of a write with something beside it: what is stored, and what its caller is told."""
    memory = MemoryStore()
    store = FaultyStore(memory)
    store.arm("write", "runs/", fault)
    error, stored = APPLIED[fault]
    with pytest.raises(error) as raised:
        await store.write("runs/a", b"1", if_generation_match=0, create=[("executions/b", b"2")])
    assert type(raised.value) is error
    assert {info.name for info in await memory.list("")} == stored
    await store.write("runs/c", b"1", if_generation_match=0)
    assert set(APPLIED) == set(Fault)


async def test_an_order_chooses_its_operations() -> None:
    """By kind, by name, by number, by what else is said; the first order that applies takes the operation."""
    store = FaultyStore(MemoryStore())
    store.arm("read", "a", Fault.THROTTLED, nth=2, times=2)
    store.arm("*", "", Fault.UNAVAILABLE, nth=3, when=lambda call: call.kind != "list")
    outcomes = []
    for name in ("a", "b", "a1", "a2", "b", "a"):
        await store.list(name)
        try:
            await store.read(name)
        except StoreError as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("read")
    assert outcomes == ["read", "read", "StoreThrottled", "StoreThrottled", "StoreUnavailable", "read"]
    assert (store.count("read", "a"), store.count("list", ""), store.calls[0]) == (4, 6, Call("list", ("a",)))


async def test_an_order_is_taken_back() -> None:
    """A disarmed order applies no more."""
    store = FaultyStore(MemoryStore())
    armed = store.arm("*", "", Fault.REFUSED, times=None)
    for _ in range(3):
        with pytest.raises(StoreError):
            await store.delete("a", if_generation_match=0)
    armed.disarm()
    await store.delete("a", if_generation_match=0)
    assert armed.count == 3


async def test_an_operation_is_held_before_it_is_done() -> None:
    """It tells that it was reached, and goes on when it is released."""
    memory = MemoryStore()
    store = FaultyStore(memory)
    held = store.arm("create_all", "b", hold=True)
    creating = asyncio.create_task(store.create_all([("a", b""), ("b", b"")]))
    await held.reached.wait()
    assert await memory.list("") == []
    held.release()
    await creating
    assert len(await memory.list("")) == 2


async def test_liveness_is_handed_on() -> None:
    """Who is alive is what the store behind it says; that may fail too."""
    store = FaultyStore(MemoryStore())
    await store.join("p")
    assert await store.dead_among(frozenset({"p", "q"})) == {"q"}
    store.arm("leave", "p", Fault.UNAVAILABLE)
    with pytest.raises(StoreUnavailable):
        await store.leave("p")
    assert await store.dead_among(frozenset({"p"})) == frozenset()
    await store.leave("p")
    assert await store.dead_among(frozenset({"p"})) == {"p"}


def test_chance_repeats_itself() -> None:
    """The same seed gives the same tokens and jitters, another seed others."""

    def drawn(seed: int) -> list[object]:
        entropy = SeededEntropy(seed)
        return [entropy.token(), entropy.jitter(), entropy.token()]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(SeededEntropy().token()) == 32
    assert 0 <= SeededEntropy().jitter() < 1


def test_a_manual_clock_stands_still() -> None:
    """Until it is advanced, with a loop and without one."""
    clock = ManualClock(datetime(2026, 5, 1, tzinfo=UTC))

    async def now() -> datetime:
        await asyncio.sleep(0.001)
        return clock.now()

    assert clock.now() == asyncio.run(now()) == datetime(2026, 5, 1, tzinfo=UTC)
    clock.advance(90)
    assert clock.now() == datetime(2026, 5, 1, 0, 1, 30, tzinfo=UTC)


@in_virtual_time
async def test_virtual_time_passes_at_once_and_in_order() -> None:
    """A day of sleeping ends in the order of what was asked for, and the clock goes with it."""
    clock = ManualClock()
    began, ended = clock.now(), []

    async def sleep(hours: float) -> None:
        await asyncio.sleep(hours * 3600)
        ended.append(hours)

    await asyncio.gather(*(sleep(hours) for hours in (24, 0.5, 3)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()
    assert ended == [0.5, 3, 24]
    assert clock.now() - began == timedelta(hours=25)


@in_virtual_time
async def test_virtual_time_passes_for_decades() -> None:
    """Timers run although a nanosecond is lost in the rounding of so long a time."""
    loop = asyncio.get_running_loop()
    for days in (1, 366, 10_000):
        due_at = loop.time() + days * 86400.1
        await asyncio.sleep(days * 86400.1)
        await asyncio.sleep(1e-4)
        assert due_at <= loop.time() < due_at + 1


def test_loop_that_never_waits_raises() -> None:
    """A loop in which time could never pass raises, instead of hanging the test."""

    @in_virtual_time
    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="without waiting"):
        spins()


@in_virtual_time
async def test_a_modelled_bucket_takes_its_time() -> None:
    """A write takes a tenth of a second, a read less, and an object is changed once a second, deletes included."""
    bucket = ModelledBucket()
    store = bucket.store(retry_base_s=0.0)
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    generation = await store.write("runs/a", b"1", if_generation_match=0)
    assert 0.08 <= loop.time() - begun_at <= 0.12
    begun_at = loop.time()
    assert await store.read("runs/a") == (b"1", generation)
    assert 0.024 <= loop.time() - begun_at <= 0.036
    with pytest.raises(StoreThrottled):
        await store.write("runs/a", b"2", if_generation_match=generation)
    with pytest.raises(StoreThrottled):
        await store.delete("runs/a", if_generation_match=generation)
    await store.write("runs/b", b"1", if_generation_match=0)
    await asyncio.sleep(1)
    with pytest.raises(GenerationConflict):
        await store.write("runs/a", b"2", if_generation_match=generation + 100)
    assert await store.write("runs/a", b"2", if_generation_match=generation) != generation
    assert await store.read("open/c") is None
    assert bucket.count("write", prefix="runs/") == store.operations["A"] == 5
    assert (bucket.count("write", status=429), bucket.count("delete", status=429)) == (1, 4)
    assert bucket.count("read") == store.operations["B"] == 2
    await store.aclose()


@in_virtual_time
async def test_a_modelled_bucket_lists_in_pages() -> None:
    """A thousand names a request, as what is paid for."""
    bucket = ModelledBucket()
    store = bucket.store()
    await store.create_all([(f"open/{number:04}", b"{}") for number in range(2500)])
    assert [info.name for info in await store.list("open/")] == [f"open/{number:04}" for number in range(2500)]
    assert bucket.count("list") == 3
    await store.aclose()
