"""
Cloud Storage, as the engine sees it through its ports: one bucket, and one client per process.

Every operation is a request that takes time, is carried out at one moment, and is answered after some more time. The
bucket knows nothing of processes: a request of one that has lost power is carried out all the same.

Source: Cloud Storage documentation, "Consistency", "Request preconditions", "Quotas and limits"; what a client is told
when only some of several objects could be written is that of `aiorch.stores.gcs`.
"""

import asyncio
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiorch.errors import GenerationConflict, StoreThrottled, StoreUnavailable
from aiorch.ports.store import ObjectInfo, Pace, StoredObject
from aiorch.stores.concurrency import ConcurrencyLimit, Gate
from aiorch.stores.gcs import BUCKET_PACE
from aiorch.stores.heartbeats import Heartbeats

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedProcess
    from tests.simulation.world import World

_NO_METADATA: Mapping[str, str] = {}

# 20 ms, then what a log-normal distribution with a long tail gives, up to 20 times 200 ms.
LATENCIES_S = (0.02, 0.02, 0.03, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.2, 0.5, 1.0, 4.0)

GIVE_UP_S = 10.0
"""After how long a client gives up a request."""


class Fault(IntEnum):
    """What becomes of one operation."""

    NONE = 0
    REFUSED = 1
    """Not applied, no answer."""
    REPLY_LOST = 2
    """Applied, no answer."""
    LATE = 3
    """No answer; applied when nobody reckons with it any more."""
    REPEATED = 4
    """Applied, and once more by the client itself, whose second answer counts."""
    THROTTLED = 5
    CUT_BEFORE = 6
    """The process loses power before the request goes out."""
    CUT_AFTER = 7
    """The process loses power after the request was carried out and before its answer."""
    PAUSE_BEFORE = 8
    """The process stands still before the request goes out, for so long that it is called dead."""
    PAUSE_AFTER = 9
    """The same after the request has gone out."""
    DAMAGED = 10
    """A read brings other content than what is stored, as if nobody had verified it."""


DAMAGES = (b"null", b"", b"[]", b"5", b"{}", None)
"""Content that a damaged read brings; `None`: the first half of what is stored."""

SLOWER_S = 1.0
"""How much longer a request takes for each one that is under way beyond the bucket's capacity."""

UNDER_WAY_MIN, UNDER_WAY_MAX = 4, 32
"""Bounds of the requests that one process has under way: few, since a world has few."""


class Watcher(Protocol):
    """Who is told of every change."""

    def changed(self, name: str, before: bytes | None, after: bytes | None) -> None:
        """An object was written, or deleted."""


class _Object(NamedTuple):
    data: bytes
    generation: int
    metadata: Mapping[str, str]


class Bucket:
    """
    The objects. Everything is carried out at once, in the order in which it is asked for.

    Attributes:
        objects: Content, generation and metadata by name.

        digest: Of all changes so far.

        changes: How many there were, heartbeats aside.

        watchers: Told of every change.

        writer: The process whose request is carried out, `None` for a newer version and for nobody.

        under_way: Requests that were sent and are not carried out yet.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._loop = world.loop
        self._generation = 1000
        self._changed_at: dict[str, float] = {}
        self.objects: dict[str, _Object] = {}
        self.digest = 0
        self.changes = 0
        self.watchers: list[Watcher] = []
        self.under_way = 0
        self.writer: SimulatedProcess | None = None

    def data(self, name: str) -> bytes | None:
        found = self.objects.get(name)
        return None if found is None else found.data

    def read(self, name: str) -> StoredObject | None:
        found = self.objects.get(name)
        return None if found is None else StoredObject(found.data, found.generation)

    def list(self, prefix: str) -> list[ObjectInfo]:
        return [
            ObjectInfo(name, found.generation, found.metadata)
            for name, found in sorted(self.objects.items())
            if name.startswith(prefix)
        ]

    def write(self, name: str, data: bytes, expected: int, metadata: Mapping[str, str]) -> int:
        """Replace an object. Raises: GenerationConflict, StoreThrottled."""
        self._admit(name, expected)
        found = self.objects.get(name)
        self._generation += 1
        self.objects[name] = _Object(data, self._generation, metadata)
        self._took(name, None if found is None else found.data, data)
        return self._generation

    def delete(self, name: str, expected: int) -> None:
        """Delete an object; one that is gone is none to delete. Raises: GenerationConflict, StoreThrottled."""
        found = self.objects.get(name)
        if found is None:
            return
        self._admit(name, expected)
        del self.objects[name]
        self._took(name, found.data, None)

    def _admit(self, name: str, expected: int) -> None:
        is_rate_first = self._world.swarm.is_rate_first
        if is_rate_first:
            self._check_rate(name)
        found = self.objects.get(name)
        current = found.generation if found is not None else 0
        if current != expected:
            self._world.count("conflict")
            raise GenerationConflict(f"object {name!r} is at generation {current}, and the condition was {expected}")
        if not is_rate_first:
            self._check_rate(name)

    def _check_rate(self, name: str) -> None:
        limit = self._world.swarm.rate_limit if self._world.is_faulty else 0
        if limit and self._loop.time() - self._changed_at.get(name, -1.0) < 1.0:
            if limit == 1 and not self._world.tape.draw("rate limit", 2):
                return
            self._world.count("429 for its rate")
            raise StoreThrottled(f"object {name!r} was changed less than a second ago")

    def _took(self, name: str, before: bytes | None, after: bytes | None) -> None:
        self._changed_at[name] = self._loop.time()
        self.changes += not name.startswith("alive/")
        # Why a message was put away is told in words, which the interpreter's version may change.
        content = b"" if after is None or name.startswith("rejected/") else after
        self.digest = zlib.crc32(content, zlib.crc32(name.encode(), self.digest))
        for watcher in self.watchers:
            watcher.changed(name, before, after)


class BucketClient:
    """
    The `Store` of one process: objects in the bucket, and `Heartbeats` over them.

    Attributes:
        heartbeats: The engine's own, over this store.

        known_at: When the last read or write of an object began that was answered, by name.
    """

    def __init__(self, world: "World", process: "SimulatedProcess | None") -> None:
        self._world = world
        self._bucket = world.bucket
        self._loop = world.loop
        self._process = process
        self._who = process.name if process is not None else "world"
        self.heartbeats = Heartbeats(self)
        self.known_at: dict[str, float] = {}
        self._heard_until_left: float | None = None
        self._writing: set[str] = set()
        self._gate = Gate(ConcurrencyLimit(least=UNDER_WAY_MIN, most=UNDER_WAY_MAX))
        self._restraint = Restraint()

    def __str__(self) -> str:
        return f"bucket of {self._who}"

    async def read(self, name: str) -> StoredObject | None:
        """See `ObjectStore.read`."""
        return await self._ask("read", name, partial(self._bucket.read, name))

    async def write(
        self,
        name: str,
        data: bytes,
        *,
        if_generation_match: int,
        metadata: Mapping[str, str] | None = None,
        create: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        """See `ObjectStore.write`: the document is one request, and each object to create is one more."""
        apply = partial(self._bucket.write, name, data, if_generation_match, dict(metadata or _NO_METADATA))
        if name in self._writing and name.startswith("runs/"):
            self._world.oracle.fail("S8", f"{self._who} writes {name} twice at once")
        self._writing.add(name)
        try:
            return await self._write(name, apply, create)
        except GenerationConflict:
            if self._process is not None:
                self._world.oracle.race_lost(self._process)
            raise
        finally:
            self._writing.discard(name)

    async def _write(self, name: str, apply: Callable[[], Any], create: Sequence[tuple[str, bytes]]) -> int:
        if not create:
            return await self._ask("write", name, apply)
        written, *created = await asyncio.gather(
            self._ask("write", name, apply),
            *(self._create(beside, content) for beside, content in create),
            return_exceptions=True,
        )
        if isinstance(written, BaseException):
            raise written
        for each in created:
            if isinstance(each, BaseException):
                raise StoreUnavailable(f"{name} was written, and not all that was to be created beside it") from each
        return written

    async def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `ObjectStore.create_all`."""
        created = await asyncio.gather(*(self._create(*each) for each in objects), return_exceptions=True)
        for each in created:
            if isinstance(each, BaseException):
                raise each

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """See `ObjectStore.list`."""
        return await self._ask("list", prefix, partial(self._bucket.list, prefix))

    async def version(self) -> Hashable | None:
        """See `ObjectStore.version`. In some worlds the store tells, as a file does, and in others it does not."""
        swarm = self._world.swarm
        return self._bucket.changes if swarm.is_order_drawn and not swarm.is_latency_drawn else None

    async def delete(self, name: str, *, if_generation_match: int) -> None:
        """See `ObjectStore.delete`."""
        await self._ask("delete", name, partial(self._bucket.delete, name, if_generation_match))

    async def aclose(self) -> None:
        """Leave on behalf of the process that joined here."""
        await self.heartbeats.aclose()

    @property
    def pace(self) -> Pace:
        """That of a bucket."""
        return BUCKET_PACE

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:
        """See `Liveness.join`."""
        await self.heartbeats.join(process, is_working)

    def is_silent(self, process: str) -> bool:
        """See `Liveness.is_silent`."""
        return self.heartbeats.is_silent(process)

    def heard_since(self, process: str) -> float:
        """See `Liveness.heard_since`. Of a process that has left, the time that held until then."""
        return self.heartbeats.heard_since(process) if self._heard_until_left is None else self._heard_until_left

    async def announce(self, process: str) -> None:
        """See `Liveness.announce`."""
        await self.heartbeats.announce(process)

    async def leave(self, process: str) -> None:
        """See `Liveness.leave`."""
        if self._heard_until_left is None:
            self._heard_until_left = self.heartbeats.heard_since(process)
        await self.heartbeats.leave(process)

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """See `Liveness.dead_among`."""
        dead = await self.heartbeats.dead_among(processes)
        if dead:
            self._world.count("called dead", len(dead))
            self._world.oracle.dead(self._process, dead)
            if self._process is not None:
                self._world.cluster.were_called_dead(dead, self._process)
        return dead

    async def _create(self, name: str, data: bytes) -> None:
        if self._process is not None:
            self._world.oracle.record_written(name, self._process)
        try:
            await self._ask("write", name, partial(self._bucket.write, name, data, 0, _NO_METADATA))
        except GenerationConflict:
            return  # the record exists already

    # -- requests ------------------------------------------------------------------------------------------------

    async def _ask(self, kind: str, name: str, apply: Callable[[], Any]) -> Any:
        """Send a request in its turn, as `aiorch.stores.gcs_api` does."""
        is_urgent = name.startswith("alive/")
        async with self._gate.turn(is_urgent=is_urgent) as turn:
            number = self._restraint.began(is_urgent=is_urgent)
            if self._restraint.is_broken:
                self._world.oracle.fail(
                    "S13", f"{self._who} sends more requests at once than it may after giving others up"
                )
            try:
                told = await self._send(kind, name, apply)
            except (StoreUnavailable, StoreThrottled, GenerationConflict) as error:
                if isinstance(error, StoreUnavailable):
                    turn.overloaded()
                    self._restraint.gave_up(number, self._gate.under_way)
                elif isinstance(error, GenerationConflict):
                    turn.answered()
                    self._restraint.answered()
                raise
            finally:
                self._restraint.ended(is_urgent=is_urgent)
            turn.answered()
            self._restraint.answered()
            return told

    async def _send(self, kind: str, name: str, apply: Callable[[], Any]) -> Any:
        world = self._world
        fault = world.store_fault(self._process, kind, name)
        world.operations[kind] += 1
        fault = await world.before_call(self._process, fault)
        answer = self._loop.create_future()
        self._bucket.under_way += 1
        delay = self._latency(kind) + self._slowness()
        self._loop.later(delay, self._carry_out, kind, name, partial(self._apply, apply), fault, answer)
        if delay > GIVE_UP_S:
            world.count("given up while it is carried out")
            self._loop.later(GIVE_UP_S, _answer, answer, StoreUnavailable(f"{kind} {name!r} got no answer in time"))
        begun_at = self._loop.time()
        process = self._process
        if process is not None and kind == "read" and 0 < begun_at - process.woke_at < 10:
            # Whoever looks after a silence may be silent again while it does.
            world.cluster.may_pause(process, "looks", 0.1, 0.0)
        told = await answer
        if fault is not Fault.DAMAGED:
            self.known_at[name] = begun_at
        return told

    def _slowness(self) -> float:
        """How much longer a request takes that is sent now, since others are under way."""
        world = self._world
        if not (world.swarm.capacity and world.is_faulty):
            return 0.0
        return SLOWER_S * max(0, self._bucket.under_way - world.swarm.capacity)

    def _apply(self, apply: Callable[[], Any]) -> Any:
        """Carry out a request in the name of this process. Return what it came to, an error included."""
        self._bucket.writer = self._process
        try:
            return apply()
        except (GenerationConflict, StoreThrottled) as error:
            return error
        finally:
            self._bucket.writer = None

    def _latency(self, kind: str) -> float:
        world = self._world
        if world.swarm.is_latency_drawn and world.is_faulty:
            latencies = LATENCIES_S[len(LATENCIES_S) // 2 :] if world.swarm.is_slow else LATENCIES_S
            return world.tape.pick(f"latency of {kind} by {self._who}", latencies)
        return LATENCIES_S[0]

    def _carry_out(
        self, kind: str, name: str, apply: Callable[[], Any], fault: Fault, answer: "asyncio.Future[Any]"
    ) -> None:
        """The request has arrived."""
        world = self._world
        self._bucket.under_way -= 1
        told: Any
        delay = self._latency(kind)
        if fault in (Fault.NONE, Fault.CUT_AFTER, Fault.DAMAGED):
            told = apply()
            if fault is Fault.DAMAGED and isinstance(told, StoredObject):
                damage = world.tape.pick("damage", DAMAGES)
                told = told._replace(data=told.data[: len(told.data) // 2] if damage is None else damage)
        elif fault is Fault.REPEATED:
            first, told = apply(), apply()
            if isinstance(told, GenerationConflict) and not isinstance(first, Exception):
                world.count("conflict with oneself")
        elif fault is Fault.THROTTLED:
            told = StoreThrottled(f"{kind} {name!r} is refused for its rate")
        elif fault is Fault.REFUSED:
            told, delay = StoreUnavailable(f"{kind} {name!r} got no answer"), min(delay * 5, GIVE_UP_S)
        else:
            told, delay = StoreUnavailable(f"{kind} {name!r} got no answer"), GIVE_UP_S
            if fault is Fault.REPLY_LOST:
                if not isinstance(apply(), Exception) and kind in ("write", "delete"):
                    world.count("applied and not told")
            else:
                after = GIVE_UP_S + world.tape.pick(f"late {kind}", (1.0, 5.0, 30.0, 120.0))
                self._loop.later(after, self._carry_out_late, kind, name, apply)
        if world.trace is not None:
            what = told if isinstance(told, Exception) else ""
            world.note(self._who, f"{kind} {name} {fault.name.lower() if fault else ''} {what}".rstrip())
        if fault is Fault.CUT_AFTER:
            world.cut(self._process)
        self._loop.later(delay, _answer, answer, told)

    def _carry_out_late(self, kind: str, name: str, apply: Callable[[], Any]) -> None:
        told = apply()
        if kind in ("write", "delete"):
            self._world.count("late and refused" if isinstance(told, Exception) else "late and applied")
        self._world.note(self._who, f"{kind} {name} late {told if isinstance(told, Exception) else ''}".rstrip())


def _answer(answer: "asyncio.Future[Any]", told: Any) -> None:
    if answer.done():
        return  # given up
    if isinstance(told, Exception):
        answer.set_exception(told)
    else:
        answer.set_result(told)


ESTIMATE = 2
"""By how many requests, beside one halving, the oracle may be wrong about those that were let in and had not begun."""


class Restraint:
    """
    S13: how many requests a process may have under way, told from when they begin and how they end.

    After one was given up that is half of those that were under way then, and one more with each answer. Others that
    began before the same moment tell nothing new. Those that were let in before it, and had not begun, still begin, and
    so do urgent ones. Which ones were let in is an estimate, hence `ESTIMATE`.

    Attributes:
        is_broken: The request that began last is one too many.
    """

    def __init__(self) -> None:
        self._ordinary = self._urgent = 0
        self._number = 0
        self._learned_at = 0
        self._let_in = 0
        self._most = float(UNDER_WAY_MAX)
        self.is_broken = False

    def began(self, *, is_urgent: bool) -> int:
        """A request begins. Return its number."""
        self._urgent += is_urgent
        self._ordinary += not is_urgent
        self._number += 1
        self.is_broken = False
        if self._let_in and not is_urgent:
            self._let_in -= 1
        elif not is_urgent:
            self.is_broken = self._ordinary > 2 * self._most + ESTIMATE
        return self._number

    def gave_up(self, number: int, in_gate: int) -> None:
        """A request got no answer; so many were let in, itself included."""
        if number > self._learned_at:
            self._let_in = in_gate - self._ordinary - self._urgent
            self._learned_at = self._number + self._let_in
            self._most = max(UNDER_WAY_MIN, in_gate / 2)

    def answered(self) -> None:
        """A request was answered."""
        self._most += 1

    def ended(self, *, is_urgent: bool) -> None:
        """A request is under way no more."""
        self._urgent -= is_urgent
        self._ordinary -= not is_urgent
