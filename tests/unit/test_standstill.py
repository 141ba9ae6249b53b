"""Timeouts of a process that stood still: a loop in virtual time, whose time jumps while nothing runs."""

import asyncio
from datetime import timedelta

import pytest

from aiorch.engine.standstill import EVENTS_S, LivedTimeout, Standstill
from aiorch.testing import in_virtual_time
from tests.freezing import stand_still


async def ends_after(lived: LivedTimeout, limit_s: float) -> float:
    """Return after how many seconds the timeout ends a block that never ends by itself."""
    began_at = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):  # noqa: PT012  the block is what ends
        async with lived:
            lived.begin(limit_s)
            await asyncio.get_running_loop().create_future()
    return asyncio.get_running_loop().time() - began_at


@in_virtual_time
async def test_a_timeout_in_an_undisturbed_process_is_exact() -> None:
    """Looks at the clock move no timeout."""
    assert await ends_after(LivedTimeout(Standstill(), reading_s=5), 15) == pytest.approx(15)


@in_virtual_time
async def test_a_standstill_does_not_count() -> None:
    """A process that stood still for 25 of its first 26 seconds has its whole 15 s all the same, but for one tick."""
    asyncio.get_running_loop().call_later(1.0, stand_still, 25)
    assert 39 <= await ends_after(LivedTimeout(Standstill(), reading_s=5), 15) <= 41


@in_virtual_time
async def test_a_standstill_that_begins_before_the_block_does_not_count_for_it() -> None:
    """A block that begins after a standstill has its own time and no more."""
    standstill = Standstill()
    stand_still(100)
    assert await ends_after(LivedTimeout(standstill, reading_s=5), 15) == pytest.approx(15)


@in_virtual_time
async def test_a_late_timeout_leaves_time_to_read() -> None:
    """A standstill just before the timeout leaves the time that the events in the subscription need."""
    asyncio.get_running_loop().call_later(14.9, stand_still, 25)
    assert 14.9 + 25 + EVENTS_S <= await ends_after(LivedTimeout(Standstill(), reading_s=EVENTS_S), 15) < 102


@in_virtual_time
async def test_an_answer_that_waits_after_a_standstill_is_read() -> None:
    """The overdue timer fires first, and the answer that arrives some turns of the loop later counts."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def stop_until_answered() -> None:
        stand_still(25)
        asyncio.get_running_loop().call_soon(loop.call_soon, loop.call_soon, answer.set_result, "answered")

    loop.call_later(14.9, stop_until_answered)
    async with LivedTimeout(Standstill(), reading_s=5) as timeout:
        timeout.begin(15)
        assert await answer == "answered"


@in_virtual_time
async def test_a_busy_process_does_not_put_timeouts_off_for_ever() -> None:
    """Callbacks that hold up the loop for more than half of the time double a timeout, and no more."""
    loop = asyncio.get_running_loop()

    def hold_up() -> None:
        stand_still(1.0)
        loop.call_later(1.0, hold_up)

    hold_up()
    assert await ends_after(LivedTimeout(Standstill(), reading_s=EVENTS_S), 30) < 75


@in_virtual_time
async def test_a_block_that_holds_up_the_loop_itself_is_not_given_its_time_back() -> None:
    """The timeout of the code that blocks counts the block, and ends it at once; another one is given that time."""
    standstill, loop = Standstill(), asyncio.get_running_loop()
    other = asyncio.ensure_future(ends_after(LivedTimeout(standstill, reading_s=5), 15))
    await asyncio.sleep(1)
    began_at = loop.time()
    lived = LivedTimeout(standstill, reading_s=EVENTS_S)
    with pytest.raises(TimeoutError):  # noqa: PT012  the block is what ends
        async with lived:
            lived.begin(15)
            stand_still(25)
            lived.count(25)
            await asyncio.sleep(0)
    assert loop.time() - began_at == 25
    assert 39 <= await other <= 41


@in_virtual_time
async def test_a_block_within_the_timeout_leaves_the_rest() -> None:
    """After a block of 10 s a timeout of 15 s has 5 s left."""
    lived = LivedTimeout(Standstill(), reading_s=EVENTS_S)
    began_at = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):  # noqa: PT012  the block is what ends
        async with lived:
            lived.begin(15)
            stand_still(10)
            lived.count(10)
            await asyncio.get_running_loop().create_future()
    assert asyncio.get_running_loop().time() - began_at == pytest.approx(15)


@in_virtual_time
async def test_a_dropped_timeout_never_comes() -> None:
    """What follows `drop` may take as long as it likes."""
    async with LivedTimeout(Standstill(), reading_s=5) as timeout:
        timeout.begin(15)
        timeout.drop()
        await asyncio.sleep(timedelta(days=1).total_seconds())
    assert not timeout.expired()


@in_virtual_time
async def test_idle_process_does_not_tick() -> None:
    """An idle process does not look at the clock."""
    standstill = Standstill()
    await ends_after(LivedTimeout(standstill, reading_s=5), 15)
    await asyncio.sleep(10)
    assert standstill._timer is None


@in_virtual_time
async def test_a_block_that_holds_up_the_loop_after_its_time_is_a_timeout() -> None:
    """Time that is counted for a block whose time is over already changes nothing: the block ends with a timeout."""
    lived = LivedTimeout(Standstill(), reading_s=5)
    with pytest.raises(TimeoutError):  # noqa: PT012  the block is what ends
        async with lived:
            lived.begin(1)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                stand_still(3)
                lived.count(3)
