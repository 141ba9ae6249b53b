"""A store that fails on demand, around a store that works."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from aiorch.errors import GenerationConflict, StoreError, StoreThrottled, StoreUnavailable
from aiorch.ports.store import ObjectInfo, Pace, Store, StoredObject


class Fault(StrEnum):
    """The effect of an operation, and the error that its caller gets."""

    CONFLICT_WITH_ONESELF = "applied, told GenerationConflict"
    """The earlier try of the same client was applied, and the second try conflicts with it."""

    THROTTLED = "not applied, told StoreThrottled"
    UNAVAILABLE = "not applied, told StoreUnavailable"
    LOST_REPLY = "applied, told StoreUnavailable"
    ONLY_THE_OBJECT = "applied without the objects to create, told StoreUnavailable"
    ONLY_WHAT_WAS_BESIDE = "only the objects to create are applied, told StoreUnavailable"
    REFUSED = "not applied, told StoreError, as by a full disk"
    BROKEN = "not applied, told an error that no store may raise"


class Call(NamedTuple):
    """One requested operation."""

    kind: str
    """Name of the method, e.g. ``write``."""

    names: tuple[str, ...]
    """Names of its objects, the one to write first; for `list` the prefix; for `Liveness` the processes."""


class Armed:
    """
    One fault of a `FaultyStore`.

    Attributes:
        reached: Set when the fault meets an operation for the first time, before the operation has an effect.

        count: Number of operations that the fault has met.
    """

    def __init__(
        self,
        fault: Fault | None,
        *,
        matches: Callable[[Call], bool],
        skip: int,
        times: int | None,
        hold: bool,
    ) -> None:
        self.fault = fault
        self.reached: asyncio.Event = asyncio.Event()
        self.count: int = 0
        self._matches = matches
        self._skip = skip
        self._times = times
        self._released = asyncio.Event()
        if not hold:
            self._released.set()

    def release(self) -> None:
        """Let held operations continue."""
        self._released.set()

    def disarm(self) -> None:
        """End the fault, and let held operations continue."""
        self._times = self.count
        self.release()

    def takes(self, call: Call) -> bool:
        """Whether the fault meets *call*, which is then counted."""
        if self.count == self._times or not self._matches(call):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.count += 1
        return True

    async def wait(self) -> None:
        """Hold an operation until `release`, if the fault demands it."""
        self.reached.set()
        await self._released.wait()


class FaultyStore:
    """
    A `Store` that passes all operations on to *store*, except those with an armed fault.

    Attributes:
        calls: Every operation so far, in order.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: list[Call] = []
        self._armed: list[Armed] = []

    def __str__(self) -> str:
        return f"faulty {self.store}"

    def arm(  # noqa: PLR0913  one argument per way to choose operations
        self,
        kind: str,
        prefix: str = "",
        fault: Fault | None = None,
        *,
        nth: int = 1,
        times: int | None = 1,
        when: Callable[[Call], bool] | None = None,
        hold: bool = False,
    ) -> Armed:
        """
        Let operations fail, or wait.

        The fault that was armed first takes precedence; an operation that it meets does not count for other faults.

        Args:
            kind: Name of the method; ``*`` for all methods.

            prefix: Beginning of the name of one of the objects.

            fault: The fault; `None`: the operation is only held.

            nth: Number of the first operation to fail, counted from now, from 1.

            times: Number of operations to fail; `None`: all operations, until `Armed.disarm`.

            when: A further condition on the operation.

            hold: Keep the operation waiting until `Armed.release`, before it has an effect.
        """

        def matches(call: Call) -> bool:
            return (
                kind in (call.kind, "*")
                and any(name.startswith(prefix) for name in call.names)
                and (when is None or when(call))
            )

        armed = Armed(fault, matches=matches, skip=nth - 1, times=times, hold=hold)
        self._armed.append(armed)
        return armed

    def count(self, kind: str, prefix: str = "") -> int:
        """Return the number of operations so far."""
        return sum(call.kind == kind and any(name.startswith(prefix) for name in call.names) for call in self.calls)

    async def read(self, name: str) -> StoredObject | None:
        """See `ObjectStore.read`."""
        fault = await self._meet("read", name)
        found = await self.store.read(name)
        _raise(fault, name)
        return found

    async def write(
        self,
        name: str,
        data: bytes,
        *,
        if_generation_match: int,
        metadata: Mapping[str, str] | None = None,
        create: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        """See `ObjectStore.write`."""
        fault = await self._meet("write", name, *(each for each, _ in create))
        if fault is Fault.ONLY_WHAT_WAS_BESIDE:
            await self.store.create_all(create)
        generation = 0
        if _is_applied(fault):
            generation = await self.store.write(
                name,
                data,
                if_generation_match=if_generation_match,
                metadata=metadata,
                create=() if fault is Fault.ONLY_THE_OBJECT else create,
            )
        _raise(fault, name)
        return generation

    async def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `ObjectStore.create_all`."""
        names = [name for name, _ in objects]
        fault = await self._meet("create_all", *names)
        if _is_applied(fault):
            await self.store.create_all(objects)
        _raise(fault, ", ".join(names))

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """See `ObjectStore.list`."""
        fault = await self._meet("list", prefix)
        found = await self.store.list(prefix)
        _raise(fault, prefix)
        return found

    async def delete(self, name: str, *, if_generation_match: int) -> None:
        """See `ObjectStore.delete`."""
        fault = await self._meet("delete", name)
        if _is_applied(fault):
            await self.store.delete(name, if_generation_match=if_generation_match)
        _raise(fault, name)

    async def version(self) -> Hashable | None:
        """See `ObjectStore.version`."""
        fault = await self._meet("version", "")
        found = await self.store.version()
        _raise(fault, "version")
        return found

    async def aclose(self) -> None:
        """See `ObjectStore.aclose`. Never fails."""
        await self.store.aclose()

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:
        """See `Liveness.join`."""
        fault = await self._meet("join", process)
        if _is_applied(fault):
            await self.store.join(process, is_working)
        _raise(fault, process)

    async def leave(self, process: str) -> None:
        """See `Liveness.leave`."""
        fault = await self._meet("leave", process)
        if _is_applied(fault):
            await self.store.leave(process)
        _raise(fault, process)

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """See `Liveness.dead_among`."""
        fault = await self._meet("dead_among", *sorted(processes))
        found = await self.store.dead_among(processes)
        _raise(fault, ", ".join(sorted(processes)))
        return found

    def is_silent(self, process: str) -> bool:
        """See `Liveness.is_silent`. Never fails."""
        return self.store.is_silent(process)

    def heard_since(self, process: str) -> float:
        """See `Liveness.heard_since`. Never fails."""
        return self.store.heard_since(process)

    async def announce(self, process: str) -> None:
        """See `Liveness.announce`."""
        fault = await self._meet("announce", process)
        if _is_applied(fault):
            await self.store.announce(process)
        _raise(fault, process)

    @property
    def pace(self) -> Pace:
        """The name of the store behind this one."""
        return self.store.pace

    async def _meet(self, kind: str, *names: str) -> Fault | None:
        call = Call(kind, names)
        self.calls.append(call)
        for armed in self._armed:
            if armed.takes(call):
                await armed.wait()
                return armed.fault
        return None


_APPLIED = frozenset({None, Fault.CONFLICT_WITH_ONESELF, Fault.LOST_REPLY, Fault.ONLY_THE_OBJECT})


def _is_applied(fault: Fault | None) -> bool:
    return fault in _APPLIED


def _raise(fault: Fault | None, name: str) -> None:
    match fault:
        case None:
            return
        case Fault.CONFLICT_WITH_ONESELF:
            raise GenerationConflict(f"object {name!r} has a different generation, as armed")
        case Fault.THROTTLED:
            raise StoreThrottled(f"object {name!r} is written too often, as armed")
        case Fault.UNAVAILABLE | Fault.LOST_REPLY | Fault.ONLY_THE_OBJECT | Fault.ONLY_WHAT_WAS_BESIDE:
            raise StoreUnavailable(f"no answer about object {name!r}, as armed")
        case Fault.REFUSED:
            raise StoreError(f"object {name!r} is refused, as armed")
        case Fault.BROKEN:
            raise RuntimeError(f"object {name!r} breaks the store, as armed")
