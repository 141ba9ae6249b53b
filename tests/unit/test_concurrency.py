"""How many requests a store has under way: the decision, the gate, and a slow server that does not collapse."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from aiorch.errors import StoreUnavailable
from aiorch.stores.concurrency import REQUESTS_MAX, REQUESTS_MIN, ConcurrencyLimit, Gate
from aiorch.stores.gcs import GCSStore
from aiorch.stores.gcs_api import BucketApi
from aiorch.testing import in_virtual_time

# -- the decision ----------------------------------------------------------------------------------------------------


def test_a_healthy_server_never_meets_the_limit() -> None:
    """The limit begins at its maximum, and answers keep it there."""
    limit = ConcurrencyLimit()
    assert limit.value == REQUESTS_MAX
    for _ in range(1000):
        limit.answered()
    assert limit.value == REQUESTS_MAX


def test_all_requests_under_way_that_time_out_together_halve_the_limit_once() -> None:
    """One stall of the server is one sign, however many requests it meets; the next round halves the limit again."""
    limit = ConcurrencyLimit()
    for left in range(256, 0, -1):
        limit.overloaded(0, left)
    assert (limit.value, limit.round) == (128, 1)
    for left in range(128, 0, -1):
        limit.overloaded(1, left)
    assert (limit.value, limit.round) == (64, 2)


def test_the_limit_shrinks_from_what_was_under_way() -> None:
    """A limit that was never reached says nothing: half of the forty requests that were too many are twenty."""
    limit = ConcurrencyLimit()
    limit.overloaded(0, 40)
    assert limit.value == 20


def test_the_limit_stays_within_its_bounds() -> None:
    """Any number of timeouts leaves a few requests, and any number of answers no more than the maximum."""
    limit = ConcurrencyLimit()
    for number in range(100):
        limit.overloaded(number, 256)
    assert limit.value == REQUESTS_MIN
    for _ in range(20_000):
        limit.answered()
    assert limit.value == REQUESTS_MAX


def test_the_limit_grows_by_a_constant_in_each_round_of_answers() -> None:
    """Additive increase: as many answers as may be under way at once add four, at any size of the limit."""
    limit = ConcurrencyLimit()
    limit.overloaded(0, 100)
    sizes = [limit.value]
    for _ in range(10):
        for _ in range(limit.value):
            limit.answered()
        sizes.append(limit.value)
    assert sizes[0] == 50
    assert all(3 <= after - before <= 4 for before, after in pairwise(sizes))


# -- the gate --------------------------------------------------------------------------------------------------------


class Requests:
    """Requests through a gate, which end when they are told to."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.entered: list[int] = []
        self.ends: dict[int, asyncio.Future[str]] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    def send(self, *numbers: int, is_urgent: bool = False) -> None:
        for number in numbers:
            self.ends[number] = asyncio.get_running_loop().create_future()
            self.tasks[number] = asyncio.create_task(self._send(number, is_urgent=is_urgent))

    async def _send(self, number: int, *, is_urgent: bool) -> None:
        async with self.gate.turn(is_urgent=is_urgent) as turn:
            self.entered.append(number)
            match await self.ends[number]:
                case "answered":
                    turn.answered()
                case "overloaded":
                    turn.overloaded()

    async def end(self, how: str, *numbers: int) -> None:
        for number in numbers:
            self.ends[number].set_result(how)
        await self.settle()

    @staticmethod
    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def small(most: int = 4, least: int = 1) -> Requests:
    return Requests(Gate(ConcurrencyLimit(least=least, most=most)))


async def test_requests_enter_in_the_order_of_their_arrival() -> None:
    """Each one that ends lets the one in that has waited longest."""
    requests = small()
    requests.send(*range(8))
    await requests.settle()
    assert requests.entered == [0, 1, 2, 3]
    await requests.end("answered", 2)
    await requests.end("answered", 0)
    assert requests.entered == [0, 1, 2, 3, 4, 5]
    await requests.end("answered", 1, 3, 4, 5)
    await requests.end("answered", 6, 7)
    assert requests.entered == list(range(8))
    assert requests.gate.under_way == 0


async def test_fewer_enter_after_an_overload_and_more_after_answers() -> None:
    """Of four that end without an answer only two are replaced; once these are answered, four may enter again."""
    requests = small()
    requests.send(*range(20))
    await requests.settle()
    await requests.end("overloaded", 0, 1, 2, 3)
    assert requests.entered[4:] == [4, 5]
    await requests.end("answered", 4, 5)
    assert len(requests.entered[6:]) == 4
    for task in requests.tasks.values():
        task.cancel()


async def test_an_urgent_request_does_not_wait() -> None:
    """A heartbeat enters at once, whatever waits, and counts as under way."""
    requests = small()
    requests.send(*range(100))
    await requests.settle()
    requests.send(100, is_urgent=True)
    await requests.settle()
    assert requests.entered == [0, 1, 2, 3, 100]
    await requests.end("answered", 0)
    assert requests.gate.under_way == 4
    assert requests.entered == [0, 1, 2, 3, 100]
    for task in requests.tasks.values():
        task.cancel()


@pytest.mark.parametrize("moment", ["waiting", "let in", "passed over"])
async def test_a_cancelled_request_leaves_no_place_taken(moment: str) -> None:
    """Whenever the cancellation comes, the others enter as if it had never been there."""
    requests = small(most=1)
    requests.send(0, 1, 2)
    await requests.settle()
    if moment == "waiting":
        requests.tasks[1].cancel()
        await requests.settle()
        requests.ends[0].set_result("answered")
    elif moment == "passed over":  # cancelled when request 0 is about to leave, and not yet told so
        requests.ends[0].set_result("answered")
        requests.tasks[1].cancel()
    else:  # it has a place already, and does not know yet
        requests.ends[0].set_result("answered")
        await asyncio.sleep(0)
        requests.tasks[1].cancel()
    await requests.settle()
    assert requests.entered == [0, 2]
    await requests.end("answered", 2)
    assert requests.gate.under_way == 0


async def test_an_empty_gate_is_told_when_the_last_one_has_gone() -> None:
    """Those who wait are let in and waited for; a gate without requests is empty at once."""
    requests = small(most=1)
    await requests.gate.until_empty()
    requests.send(0, 1, 2)
    await requests.settle()
    emptying = asyncio.create_task(requests.gate.until_empty())
    await requests.end("answered", 0)
    requests.tasks[2].cancel()
    await requests.settle()
    assert not emptying.done()
    await requests.end("answered", 1)
    await emptying


# -- the store over a server that is slow ----------------------------------------------------------------------------


class SlowServer:
    """A server that carries out one request after another, those included whose clients have given up."""

    def __init__(self, *, per_second: float) -> None:
        self._service_s = 1 / per_second
        self._free_at = 0.0
        self.sent = 0
        self.answered = 0
        self.slowest_heartbeat_s = 0.0

    async def upload(self, bucket: str, name: str, data: bytes, **_: Any) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        self.sent += 1
        self._free_at = max(loop.time(), self._free_at) + self._service_s
        await asyncio.sleep(self._free_at - loop.time())
        self.answered += 1
        return {"generation": str(self.sent)}


class _Api(BucketApi):
    def __init__(self, server: SlowServer) -> None:
        super().__init__("slow", api_url=None, token=None, request_s=10.0)
        self._server = server

    def _open(self, about: str) -> Any:
        return self._server


def store_over(server: SlowServer) -> GCSStore:
    store = GCSStore("slow")
    store._api = _Api(server)
    return store


async def until_written(write: Callable[[], Awaitable[int]]) -> None:
    while True:
        try:
            await write()
        except StoreUnavailable:
            continue
        return


STARTS = 3000
PER_SECOND = 20.0


@in_virtual_time
async def test_a_slow_server_answers_all_of_three_thousand_requests() -> None:
    """
    A server for which 256 requests at once are too many answers them all in little more than the time of its own.

    With a fixed limit of 256 each request would wait for 12.8 s, and be given up and sent again after 10 s, for ever.
    """
    server = SlowServer(per_second=PER_SECOND)
    store = store_over(server)
    begun_at = asyncio.get_running_loop().time()
    async with asyncio.timeout(3 * STARTS / PER_SECOND):
        await asyncio.gather(
            *(
                until_written(lambda number=number: store.write(f"open/{number}", b"{}", if_generation_match=0))
                for number in range(STARTS)
            )
        )
    seconds = asyncio.get_running_loop().time() - begun_at
    assert server.answered == STARTS
    assert seconds <= 1.5 * STARTS / PER_SECOND
    assert server.sent <= 1.3 * STARTS


@in_virtual_time
async def test_heartbeats_get_through_while_thousands_of_requests_wait() -> None:
    """A heartbeat never stands behind the queue: it takes no longer than the requests that the server has already."""
    server = SlowServer(per_second=PER_SECOND)
    store, loop = store_over(server), asyncio.get_running_loop()
    waiting = [
        asyncio.create_task(until_written(lambda: store.write("open/x", b"{}", if_generation_match=0)))
        for _ in range(STARTS)
    ]
    await asyncio.sleep(60)
    for _ in range(5):
        begun_at = loop.time()
        await store.write("alive/p", b"{}", if_generation_match=0)
        assert loop.time() - begun_at < 10
        await asyncio.sleep(5)
    assert not all(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
