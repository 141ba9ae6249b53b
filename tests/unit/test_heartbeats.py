"""Who is alive, told by heartbeats, in virtual time."""

import asyncio

import pytest

from aiorch.errors import InvalidIdError, StoreError, StoreUnavailable
from aiorch.stores.heartbeats import Heartbeats
from aiorch.stores.memory import MemoryStore
from aiorch.testing import Fault, FaultyStore, in_virtual_time
from tests.freezing import stand_still

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32
BOTH = frozenset({ONE, TWO})
JUST_ONE = frozenset({ONE})


async def silence(heartbeats: Heartbeats, process: str) -> None:
    """Let *process* be as dead as if it had been killed: it neither writes nor leaves."""
    heartbeat = heartbeats._joined.pop(process)
    assert heartbeat.task is not None
    assert heartbeat.clearing is not None
    heartbeat.task.cancel()
    heartbeat.clearing.cancel()
    await asyncio.wait([heartbeat.task, heartbeat.clearing])


async def first_death(observer: Heartbeats, *, every_s: float = 1.0, until_s: float = 1000.0) -> float:
    """Look at process ONE now and then, and return when it was called dead."""
    loop = asyncio.get_running_loop()
    while loop.time() < until_s:
        if await observer.dead_among(JUST_ONE):
            return loop.time()
        await asyncio.sleep(every_s)
    raise AssertionError("it was never called dead")


@in_virtual_time
async def test_a_process_that_beats_is_never_called_dead() -> None:
    """However often or seldom somebody looks, a process that goes on writing is alive."""
    store = MemoryStore()
    alive, often, seldom = Heartbeats(store), Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    for second in range(3600):
        assert await often.dead_among(BOTH) == {TWO}
        if second % 50 == 0:
            assert await seldom.dead_among(BOTH) == {TWO}
        await asyncio.sleep(1)
    await alive.leave(ONE)


@in_virtual_time
async def test_silence_is_death_after_sixty_seconds() -> None:
    """An observer that saw the last heartbeat says so 60 s later: not earlier, and not much later."""
    store = MemoryStore()
    alive, observer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    await observer.dead_among(JUST_ONE)
    await silence(alive, ONE)
    assert 60 <= await first_death(observer) < 66
    assert await observer.dead_among(JUST_ONE) == JUST_ONE, "and it stays dead"


@in_virtual_time
async def test_an_observer_that_comes_later_waits_as_long() -> None:
    """Only its own clock counts: however old the object is, the first look begins the 60 s."""
    store = MemoryStore()
    alive, observer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    await silence(alive, ONE)
    await asyncio.sleep(500)
    assert await observer.dead_among(JUST_ONE) == frozenset()
    assert 560 <= await first_death(observer) < 566


@in_virtual_time
async def test_the_dead_leave_nothing_behind() -> None:
    """Who calls a process dead removes its object, so that the next observer need not wait."""
    store = MemoryStore()
    alive, observer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    await silence(alive, ONE)
    await first_death(observer)
    assert await store.list("") == []
    assert await Heartbeats(store).dead_among(JUST_ONE) == JUST_ONE


@in_virtual_time
async def test_one_that_died_owing_nothing_leaves_nothing_behind() -> None:
    """Nobody ever asks about it: whoever joins next removes its object, and no other that is kept up."""
    store = MemoryStore()
    dead, alive, next_one = Heartbeats(store), Heartbeats(store), Heartbeats(store)
    await dead.join(ONE)
    await silence(dead, ONE)
    await alive.join(TWO)
    await asyncio.sleep(30)
    await next_one.join(THREE)
    await asyncio.sleep(25)
    assert {info.name for info in await store.list("")} == {f"alive/{process}" for process in (ONE, TWO, THREE)}
    await asyncio.sleep(6)
    assert {info.name for info in await store.list("")} == {f"alive/{process}" for process in (TWO, THREE)}
    await alive.leave(TWO)
    await next_one.leave(THREE)
    assert await store.list("") == []


@in_virtual_time
async def test_an_idle_process_is_heard_again_before_it_works() -> None:
    """Its object was removed while it owed nothing: by its own clock it is silent, so it announces itself first."""
    store = MemoryStore()
    idle, next_one = Heartbeats(store), Heartbeats(store)
    await idle.join(ONE, lambda: False)
    await next_one.join(TWO, lambda: True)
    await asyncio.sleep(61)
    assert [info.name for info in await store.list("")] == [f"alive/{TWO}"]
    assert idle.is_silent(ONE)
    await idle.announce(ONE)
    assert await next_one.dead_among(JUST_ONE) == frozenset()
    await idle.leave(ONE)
    await next_one.leave(TWO)
    assert await store.list("") == []


@in_virtual_time
async def test_a_process_that_was_only_paused_comes_back() -> None:
    """It knows by its own age that it may have been called dead, and is alive again with its next heartbeat."""
    store = FaultyStore(MemoryStore())
    paused, observer = Heartbeats(store), Heartbeats(store)
    await paused.join(ONE)
    assert paused.own_age_s(ONE) < 1
    pause = store.arm("write", f"alive/{ONE}", hold=True, times=None)
    assert await first_death(observer) >= 60
    assert paused.own_age_s(ONE) > 40
    pause.disarm()
    await asyncio.sleep(30)
    assert await observer.dead_among(JUST_ONE) == frozenset()
    assert paused.own_age_s(ONE) < 30
    await paused.leave(ONE)
    assert await store.list("") == []


@in_virtual_time
async def test_a_heartbeat_in_the_very_moment_of_death_counts() -> None:
    """The removal names the generation that was silent: a process that has just written is not called dead."""
    store = FaultyStore(MemoryStore())
    paused, observer = Heartbeats(store), Heartbeats(store)
    await paused.join(ONE)
    await silence(paused, ONE)
    for _ in range(2):
        assert await observer.dead_among(JUST_ONE) == frozenset()
        await asyncio.sleep(31)
    removal = store.arm("delete", hold=True)
    looking = asyncio.create_task(observer.dead_among(JUST_ONE))
    await removal.reached.wait()
    stored = await store.read(f"alive/{ONE}")
    assert stored is not None
    await store.write(f"alive/{ONE}", b"{}", if_generation_match=stored.generation)
    removal.release()
    assert await looking == frozenset()


@in_virtual_time
@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.UNAVAILABLE, Fault.THROTTLED, Fault.BROKEN])
async def test_one_heartbeat_that_fails_is_not_taken_for_death(fault: Fault) -> None:
    """It is tried again at once, by the generation that is there, and nobody notices."""
    store = FaultyStore(MemoryStore())
    alive, observer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    for _ in range(5):
        store.arm("write", f"alive/{ONE}", fault)
        for _ in range(100):
            assert await observer.dead_among(JUST_ONE) == frozenset()
            assert alive.own_age_s(ONE) < 40
            await asyncio.sleep(1)
    await alive.leave(ONE)
    assert await store.list("") == []


@in_virtual_time
@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.UNAVAILABLE, Fault.THROTTLED])
async def test_a_join_outlives_a_blip(fault: Fault) -> None:
    """A store that does not answer for a moment fails no start, and leaving finds the object all the same."""
    store = FaultyStore(MemoryStore())
    alive = Heartbeats(store)
    store.arm("write", "alive/", fault, times=2)
    await alive.join(ONE)
    assert [info.name for info in await store.list("")] == [f"alive/{ONE}"]
    await alive.leave(ONE)
    assert await store.list("") == []


@in_virtual_time
async def test_a_join_that_nobody_can_hear_of_fails() -> None:
    """Without a first heartbeat nothing may be launched, and no task is left behind."""
    store = FaultyStore(MemoryStore())
    alive = Heartbeats(store)
    outage = store.arm("write", fault=Fault.UNAVAILABLE, times=None)
    with pytest.raises(StoreUnavailable):
        await alive.join(ONE)
    outage.disarm()
    await asyncio.sleep(100)
    assert await store.list("") == []
    assert alive.own_age_s(ONE) == float("inf")


@in_virtual_time
async def test_an_outage_of_the_store_kills_nobody() -> None:
    """While nobody can write and nobody can look, silence means nothing; the dead are found in the usual time after."""
    store = FaultyStore(MemoryStore())
    alive, observer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    await alive.join(TWO)
    await observer.dead_among(BOTH)
    outage = store.arm("*", fault=Fault.UNAVAILABLE, times=None)
    await silence(alive, TWO)
    await asyncio.sleep(300)
    with pytest.raises(StoreUnavailable):
        await observer.dead_among(BOTH)
    outage.disarm()
    for _ in range(66):
        assert ONE not in await observer.dead_among(BOTH)
        await asyncio.sleep(1)
    assert await observer.dead_among(BOTH) == {TWO}
    await alive.leave(ONE)


@in_virtual_time
async def test_any_number_of_questions_costs_one_look() -> None:
    """A thousand runs with the same owners ask at once, and every process is read once in a quarter of the interval."""
    store = FaultyStore(MemoryStore())
    alive, observer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    answers = await asyncio.gather(*(observer.dead_among(BOTH) for _ in range(1000)))
    assert set(answers) == {frozenset({TWO})}
    assert store.count("read") == 2
    await asyncio.sleep(5)
    await observer.dead_among(BOTH)
    assert store.count("read") == 4
    await alive.leave(ONE)


@in_virtual_time
async def test_a_day_of_heartbeats_is_counted() -> None:
    """A process lists once, writes every 20 s, 4,320 times a day, and does nothing else by itself."""
    store = FaultyStore(MemoryStore())
    alive = Heartbeats(store)
    await alive.join(ONE)
    await asyncio.sleep(86_399)
    assert store.count("write", f"alive/{ONE}") == 4320
    assert len(store.calls) == 4320 + store.count("list") == 4321
    await alive.aclose()
    assert await store.list("") == []


@in_virtual_time
async def test_an_announcement_takes_the_place_of_a_heartbeat() -> None:
    """A process that begins to work just before its heartbeat would be due is heard once, and goes on from there."""
    store = FaultyStore(MemoryStore())
    alive = Heartbeats(store)
    works = False
    await alive.join(ONE, lambda: works)
    await asyncio.sleep(99.9)
    assert store.count("write", "alive/") == 1
    works = True
    await alive.announce(ONE)
    await asyncio.sleep(19.9)
    assert store.count("write", "alive/") == 2
    await asyncio.sleep(20)
    assert store.count("write", "alive/") == 3
    await alive.leave(ONE)


@in_virtual_time
async def test_a_silence_is_remembered_after_its_end() -> None:
    """What a process knew before it was silent may be wrong, also when it is heard again: the end of it is told."""
    loop = asyncio.get_running_loop()
    store = FaultyStore(MemoryStore())
    alive = Heartbeats(store)
    await alive.join(ONE)
    joined_at = alive.heard_since(ONE)
    assert joined_at <= loop.time()
    await asyncio.sleep(100)
    assert alive.heard_since(ONE) == joined_at, "it was heard all the time"
    away = store.arm("write", fault=Fault.UNAVAILABLE, times=None)
    await asyncio.sleep(50)
    assert alive.is_silent(ONE)
    away.disarm()
    back_at = loop.time()
    await asyncio.sleep(30)
    assert not alive.is_silent(ONE)
    assert back_at <= alive.heard_since(ONE) <= loop.time()
    await alive.aclose()


@in_virtual_time
async def test_a_process_counts_as_heard_from_the_end_of_a_slow_write() -> None:
    """Until the write ends, observers still take the process for dead, so a copy from before the end is too old."""
    loop = asyncio.get_running_loop()
    store = FaultyStore(MemoryStore())
    alive = Heartbeats(store)
    await alive.join(ONE)
    away = store.arm("write", fault=Fault.UNAVAILABLE, times=None)
    await asyncio.sleep(50)
    away.disarm()
    slow = store.arm("write", hold=True)
    announcing = asyncio.create_task(alive.announce(ONE))
    await slow.reached.wait()
    await asyncio.sleep(15)
    ended_at = loop.time()
    slow.release()
    await announcing
    assert alive.heard_since(ONE) >= ended_at
    await alive.aclose()


@in_virtual_time
async def test_an_id_that_can_be_no_object_name_is_refused() -> None:
    """Nobody joins under it, so whoever is said to have is dead; nothing is read under such a name."""
    store = FaultyStore(MemoryStore())
    heartbeats = Heartbeats(store)
    for bad in ("../runs/x", "", "a b"):
        with pytest.raises(InvalidIdError):
            await heartbeats.join(bad)
        assert await heartbeats.dead_among(frozenset({bad})) == {bad}
    assert store.calls == []


@in_virtual_time
async def test_a_refusal_for_good_is_told_at_once() -> None:
    """What repeating does not mend, a missing permission, fails the start with its own message."""
    store = FaultyStore(MemoryStore())
    store.arm("write", fault=Fault.REFUSED)
    with pytest.raises(StoreError, match="is refused"):
        await Heartbeats(store).join(ONE)
    assert asyncio.get_running_loop().time() == 0


def test_intervals_that_do_not_fit_are_refused() -> None:
    """One lost heartbeat must not be taken for death."""
    with pytest.raises(ValueError, match="every 50 s and death after 60 s"):
        Heartbeats(MemoryStore(), interval_s=50, dead_after_s=60)


@pytest.mark.parametrize("frozen_s", [50, 400])
@in_virtual_time
async def test_an_observer_that_stood_still_calls_nobody_dead_for_that_time(frozen_s: float) -> None:
    """Both processes of a machine that was paused go on; the observer looks before the other one has written."""
    store = MemoryStore()
    alive, observer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    await observer.join(TWO)
    await silence(alive, ONE)  # it is the last to go on
    assert await observer.dead_among(JUST_ONE) == frozenset()
    await asyncio.sleep(15)
    assert await observer.dead_among(JUST_ONE) == frozenset()
    stand_still(frozen_s)
    went_on_at = asyncio.get_running_loop().time()
    assert 60 <= await first_death(observer) - went_on_at < 66
    await observer.leave(TWO)


@in_virtual_time
async def test_a_newcomer_that_stood_still_removes_no_heartbeat_for_that_time() -> None:
    """A process looks for 60 s that it has lived at objects that stay the same before it removes any."""
    store = MemoryStore()
    alive, newcomer = Heartbeats(store), Heartbeats(store)
    await alive.join(ONE)
    await newcomer.join(TWO)
    await silence(alive, ONE)
    await asyncio.sleep(5)
    stand_still(100)
    await asyncio.sleep(50)
    assert f"alive/{ONE}" in {info.name for info in await store.list("")}
    await asyncio.sleep(20)
    assert f"alive/{ONE}" not in {info.name for info in await store.list("")}
    await newcomer.leave(TWO)
