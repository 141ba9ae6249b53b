"""Objects in memory, as strict about generations as every store. For tests, simulations and benchmarks."""

import math
from asyncio import sleep
from collections.abc import Callable, Hashable, Mapping, Sequence

from aiorch.ports.store import LOCAL_PACE, ObjectInfo, Pace, StoredObject
from aiorch.stores.preconditions import conflict

_NO_METADATA: Mapping[str, str] = {}


class MemoryStore:
    """
    `ObjectStore` and `Liveness` for the engines of one Python process. The content ends with the object.

    Every call yields to the event loop once and then acts without awaiting, so callers race as on a real store, and no
    lock is needed.
    """

    pace: Pace = LOCAL_PACE

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, int, Mapping[str, str]]] = {}
        self._generation = 0
        self._deletions = 0
        self._alive: set[str] = set()

    def __str__(self) -> str:
        return "memory:"

    async def read(self, name: str) -> StoredObject | None:
        """See `ObjectStore.read`."""
        await sleep(0)
        found = self._objects.get(name)
        return StoredObject(found[0], found[1]) if found else None

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
        await sleep(0)
        self._check(name, if_generation_match)
        self._create(create)
        self._put(name, data, dict(metadata) if metadata else _NO_METADATA)
        return self._generation

    async def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `ObjectStore.create_all`."""
        await sleep(0)
        self._create(objects)

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """See `ObjectStore.list`."""
        await sleep(0)
        return [
            ObjectInfo(name, self._objects[name][1], self._objects[name][2])
            for name in sorted(self._objects)
            if name.startswith(prefix)
        ]

    async def delete(self, name: str, *, if_generation_match: int) -> None:
        """See `ObjectStore.delete`."""
        await sleep(0)
        if name in self._objects:
            self._check(name, if_generation_match)
            del self._objects[name]
            self._deletions += 1

    async def version(self) -> Hashable | None:
        """See `ObjectStore.version`."""
        await sleep(0)
        return self._generation, self._deletions

    async def aclose(self) -> None:
        """Keep the content, so that a second engine can continue with it."""

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:  # noqa: ARG002
        """See `Liveness.join`."""
        await sleep(0)
        self._alive.add(process)

    async def leave(self, process: str) -> None:
        """See `Liveness.leave`."""
        await sleep(0)
        self._alive.discard(process)

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """See `Liveness.dead_among`."""
        await sleep(0)
        return processes - self._alive

    def is_silent(self, process: str) -> bool:  # noqa: ARG002
        """See `Liveness.is_silent`. Always `False`: every process learns of a death at once."""
        return False

    def heard_since(self, process: str) -> float:  # noqa: ARG002
        """See `Liveness.heard_since`."""
        return -math.inf

    async def announce(self, process: str) -> None:
        """See `Liveness.announce`. No announcement is needed."""

    def _check(self, name: str, expected: int) -> None:
        current = self._objects[name][1] if name in self._objects else 0
        if error := conflict(name, expected=expected, current=current):
            raise error

    def _create(self, objects: Sequence[tuple[str, bytes]]) -> None:
        for name, data in objects:
            if name not in self._objects:
                self._put(name, data, _NO_METADATA)

    def _put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        self._generation += 1
        self._objects[name] = (data, self._generation, metadata)
