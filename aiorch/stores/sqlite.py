"""
Objects in one SQLite file: the embedded default.

The event loop puts operations into a queue. One thread takes all waiting operations, applies them in one transaction,
waits until the transaction is on disk, and wakes all callers. Meanwhile the next batch gathers (group commit). So the
number of operations per transaction follows the load, and no operation waits for further ones.
"""

import asyncio
import math
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Hashable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import msgspec

from aiorch.errors import StoreError
from aiorch.ports.store import LOCAL_PACE, ObjectInfo, Pace, StoredObject
from aiorch.stores.process_locks import ProcessLocks
from aiorch.stores.sqlite_file import NO_METADATA, Change, CreateAll, FileVersion, ListAll, ObjectFile, Operation, Read

BATCH_OPERATIONS_MAX = 1_000
BATCH_BYTES_MAX = 16 * 1024 * 1024
"""
Limits of a batch: the first operation of a flood must not wait for the last, and one failure must not affect all of
them. Smaller batches already spread the cost of a commit thin.
"""

_T = TypeVar("_T")
_Waiting = tuple[Operation[Any] | None, Future[Any], int]
"""An operation (`None`: close the file), the future of its caller, and its size in bytes."""

_Batch = list[_Waiting]

_encode = msgspec.json.Encoder().encode


class SQLiteStore:
    """
    `ObjectStore` and `Liveness` in one file, for any number of processes of one machine.

    The first call opens the file, and creates its directory if necessary. If the file is unusable (read-only, full,
    damaged, foreign, of a newer schema), calls raise `StoreError`, and the next call tries again. To be used from one
    event loop, and to be closed.

    Args:
        path: The file. SQLite keeps two more beside it (``-wal``, ``-shm``), and there is a directory
            ``<file>.processes`` while processes are alive.
    """

    pace: Pace = LOCAL_PACE

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._file = ObjectFile(self._path)
        self._locks = ProcessLocks(Path(f"{self._path}.processes"))
        self._queue: SimpleQueue[_Waiting] = SimpleQueue()
        self._loop: AbstractEventLoop | None = None
        self._closing: Future[None] | None = None
        self._changes = 0
        """Changes by this store: the version of the file counts only those of other connections."""

    def __str__(self) -> str:
        return f"sqlite:///{self._path}"

    async def read(self, name: str) -> StoredObject | None:
        """See `ObjectStore.read`."""
        return await self._submit(Read(name))

    async def write(
        self,
        name: str,
        data: bytes,
        *,
        if_generation_match: int,
        metadata: Mapping[str, str] | None = None,
        create: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        """See `ObjectStore.write`. All objects are written, or none. A cancelled call may still be applied."""
        self._changes += 1
        encoded = _encode(metadata).decode() if metadata else NO_METADATA
        change = Change(name, if_generation_match, data, encoded, create)
        return await self._submit(change, len(data) + _size_of(create))

    async def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `ObjectStore.create_all`. All objects are created, or none."""
        self._changes += 1
        await self._submit(CreateAll(objects), _size_of(objects))

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """See `ObjectStore.list`."""
        return await self._submit(ListAll(prefix))

    async def delete(self, name: str, *, if_generation_match: int) -> None:
        """See `ObjectStore.delete`. A cancelled call may still be applied."""
        self._changes += 1
        await self._submit(Change(name, if_generation_match, None))

    async def version(self) -> Hashable | None:
        """See `ObjectStore.version`. Reads no row."""
        changes = self._changes
        return await self._submit(FileVersion()), changes

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:  # noqa: ARG002
        """See `Liveness.join`."""
        await asyncio.to_thread(self._locks.join, process)

    async def leave(self, process: str) -> None:
        """See `Liveness.leave`."""
        await asyncio.to_thread(self._locks.leave, process)

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """See `Liveness.dead_among`."""
        return await asyncio.to_thread(self._locks.dead_among, processes)

    def is_silent(self, process: str) -> bool:  # noqa: ARG002
        """See `Liveness.is_silent`. Always `False`: every process learns of a death at once."""
        return False

    def heard_since(self, process: str) -> float:  # noqa: ARG002
        """See `Liveness.heard_since`."""
        return -math.inf

    async def announce(self, process: str) -> None:
        """See `Liveness.announce`. No announcement is needed."""

    async def aclose(self) -> None:
        """Finish accepted operations, close the file, and leave on behalf of every process that joined here."""
        if self._closing is None:
            self._closing = self._submit(None)
            self._loop = None
        await asyncio.shield(self._closing)
        await asyncio.to_thread(self._locks.leave_all)

    def _submit(self, operation: Operation[_T] | None, size: int = 0) -> "Future[_T]":
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._start(loop)
        future: Future[_T] = loop.create_future()
        self._queue.put((operation, future, size))
        return future

    def _start(self, loop: AbstractEventLoop) -> None:
        if self._closing is not None:
            raise StoreError(
                f"{self} is closed, so no object was read or written. Create a new store for the same file."
            )
        if self._loop is not None:
            raise StoreError(
                f"{self} belongs to the event loop that used it first, so no object was read or written. Create one "
                f"store per event loop: several stores may use one file."
            )
        self._loop = loop
        # A daemon: a program that ends without closing the store ends at once; every commit is on disk anyway.
        Thread(target=self._work, args=(loop,), name=f"aiorch {self._path.name}", daemon=True).start()

    def _work(self, loop: AbstractEventLoop) -> None:
        is_closing = False
        while not is_closing:
            batch = self._gather()
            is_closing = batch[-1][0] is None
            operations = [operation for operation, _, _ in batch if operation is not None]
            if operations:
                self._file.apply(operations)
            if is_closing:
                self._file.close()
            try:
                loop.call_soon_threadsafe(_settle, batch)
            except RuntimeError:  # the loop was closed before the store: no caller waits, and none can come
                self._file.close()
                return

    def _gather(self) -> _Batch:
        """Wait for an operation, and take all waiting ones. `None` in place of an operation is the end of the queue."""
        batch = [self._queue.get()]
        size = batch[0][2]
        while (
            batch[-1][0] is not None
            and len(batch) < BATCH_OPERATIONS_MAX
            and size < BATCH_BYTES_MAX
            and not self._queue.empty()
        ):
            batch.append(self._queue.get())
            size += batch[-1][2]
        return batch


def _size_of(objects: Sequence[tuple[str, bytes]]) -> int:
    return sum(len(data) for _, data in objects)


def _settle(batch: _Batch) -> None:
    for operation, future, _ in batch:
        if future.done():
            continue  # its caller was cancelled
        outcome = operation.outcome if operation is not None else None
        if isinstance(outcome, StoreError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
