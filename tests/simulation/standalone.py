"""The simulated store and subscription on an ordinary event loop, without faults: for the suites of their contracts."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.simulation.pubsub import SimulatedSource, Subscription
from tests.simulation.storage import Bucket, BucketClient, Fault
from tests.simulation.swarm import Swarm
from tests.simulation.tape import Tape


class _NoOracle:
    """Sees nothing."""

    def fail(self, invariant: str, message: str) -> None:
        """See `Oracle.fail`: what no process of the engine may do, the suites do."""

    def acknowledged(self, data: bytes) -> None:
        """See `Oracle.acknowledged`."""

    def dead(self, observer: object, processes: frozenset[str]) -> None:
        """See `Oracle.dead`."""

    def is_of_nothing(self, data: bytes) -> bool:
        """See `Oracle.is_of_nothing`."""
        return False


class _Loop:
    """The running loop, as the rooms of a world know theirs. Nothing takes time but what is waited for on purpose."""

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def later(self, delay: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay / 100, callback, *args)


class _Process:
    """Lives for ever."""

    name = "standalone"
    is_running = True


class StandaloneWorld:
    """A world of which nothing but its store and its subscription is there."""

    def __init__(self) -> None:
        self.loop = _Loop()
        self.swarm = Swarm()
        self.tape = Tape(replayed={})
        self.oracle = _NoOracle()
        self.operations: Counter[str] = Counter()
        self.is_faulty = self.is_over = False
        self.topic_back_at = 0.0
        self.trace = None

    def count(self, what: str, times: int = 1) -> None:
        """See `World.count`."""

    def note(self, who: str, what: str) -> None:
        """See `World.note`."""

    def store_fault(self, process: object, kind: str, name: str) -> Fault:
        """See `World.store_fault`."""
        return Fault.NONE

    async def before_call(self, process: object, fault: Fault) -> Fault:
        """See `World.before_call`."""
        return fault

    def time_of_day(self) -> datetime:
        """See `World.time_of_day`."""
        return datetime.now(UTC)


def standalone_store() -> BucketClient:
    """Return a client of a bucket of its own."""
    world: Any = StandaloneWorld()
    world.bucket = Bucket(world)
    return BucketClient(world, None)


def standalone_subscription() -> Subscription:
    """Return a subscription."""
    world: Any = StandaloneWorld()
    return Subscription(world)


def standalone_source(subscription: Subscription) -> SimulatedSource:
    """Return one more source of a subscription."""
    process: Any = _Process()
    return SimulatedSource(subscription, process)
