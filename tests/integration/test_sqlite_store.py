"""`SQLiteStore` on a real disk: several processes, crashes, transactions, event loops."""

import asyncio
import gc
import random
import sqlite3
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aiorch.errors import GenerationConflict, StoreError
from aiorch.ports.store import StoredObject
from aiorch.stores import sqlite, sqlite_schema
from aiorch.stores.sqlite import SQLiteStore
from aiorch.stores.sqlite_file import Change, CreateAll, ListAll, ObjectFile, Operation, Read
from tests.integration.children import child, finish, kill

INCREMENTS = """
import asyncio, sys
from aiorch.errors import GenerationConflict
from aiorch.stores.sqlite import SQLiteStore

async def work(store):
    for _ in range(25):
        while True:
            stored = await store.read("counter")
            generation = stored.generation if stored else 0
            value = int(stored.data) if stored else 0
            try:
                print(await store.write("counter", b"%d" % (value + 1), if_generation_match=generation))
            except GenerationConflict:
                continue
            break

async def main():
    store = SQLiteStore(sys.argv[1])
    sys.stdin.readline()
    await asyncio.gather(*(work(store) for _ in range(4)))
    await store.aclose()

asyncio.run(main())
"""

ENDLESS_WRITES = """
import asyncio, sys
from aiorch.stores.sqlite import SQLiteStore

async def write(store, worker):
    generation = number = 0
    while True:
        number += 1
        data = b"%d " % number * 2000
        generation = await store.write(f"{sys.argv[2]}/{worker}", data, if_generation_match=generation)
        await store.create_all([(f"{sys.argv[2]}/{worker}/{number}", data)])
        print(worker, number, generation, flush=True)

async def main():
    store = SQLiteStore(sys.argv[1])
    await asyncio.gather(*(write(store, worker) for worker in range(8)))

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


# -- several stores and processes ------------------------------------------------------------------------------------


async def test_two_stores_on_one_file_lose_no_increment(path: Path) -> None:
    """Generations guard an object against writers through other connections."""
    stores = [SQLiteStore(path), SQLiteStore(path)]

    async def work(store: SQLiteStore) -> None:
        for _ in range(50):
            while True:
                stored = await store.read("counter")
                generation, value = (stored.generation, int(stored.data)) if stored else (0, 0)
                try:
                    await store.write("counter", b"%d" % (value + 1), if_generation_match=generation)
                except GenerationConflict:
                    continue
                break

    await asyncio.gather(*map(work, stores))
    assert [(await store.read("counter") or (b"",))[0] for store in stores] == [b"100", b"100"]
    for store in stores:
        await store.aclose()


async def test_processes_on_one_file_lose_no_increment(path: Path) -> None:
    """Three processes make 300 increments, from a file that none of them finds, and no generation appears twice."""
    children = [await child(INCREMENTS, path) for _ in range(3)]
    outputs = await asyncio.gather(*(finish(each, b"go\n") for each in children))
    generations = [int(line) for output in outputs for line in output.split()]
    assert len(generations) == len(set(generations)) == 300
    store = SQLiteStore(path)
    assert (await store.read("counter") or (b"",))[0] == b"300"
    await store.aclose()


async def test_many_connections_may_create_the_file_at_once(tmp_path: Path) -> None:
    """However openers of a new file meet, each ends with a usable store, and there is one counter."""
    for number in range(20):
        stores = [SQLiteStore(tmp_path / f"{number}.db") for _ in range(6)]
        generations = await asyncio.gather(
            *(store.write(f"runs/{index}", b"", if_generation_match=0) for index, store in enumerate(stores))
        )
        assert len(set(generations)) == len(stores)
        await asyncio.gather(*(store.aclose() for store in stores))


async def test_generations_go_on_after_a_restart(path: Path) -> None:
    """A generation that an earlier process gave to a deleted object is not given out again."""
    seen = []
    for _ in range(5):
        store = SQLiteStore(path)
        seen.append(await store.write("runs/a", b"", if_generation_match=0))
        await store.delete("runs/a", if_generation_match=seen[-1])
        await store.aclose()
    assert len(set(seen)) == len(seen)


async def test_acknowledged_writes_survive_sigkill(path: Path) -> None:
    """Killed in the middle of writing, several times over, a process leaves everything that it had acknowledged."""
    points = random.Random(7)
    for crash in range(6):
        writer = await child(ENDLESS_WRITES, path, crash)
        assert writer.stdout is not None
        acknowledged = [await writer.stdout.readline() for _ in range(points.randrange(1, 300))]
        acknowledged += (await kill(writer)).splitlines(keepends=True)
        store = SQLiteStore(path)
        latest: dict[int, tuple[int, int]] = {}
        for line in acknowledged:
            if not line.endswith(b"\n"):
                continue  # the last one was cut
            worker, number, generation = map(int, line.split())
            latest[worker] = number, generation
            assert await store.read(f"{crash}/{worker}/{number}") is not None
        assert latest
        for worker, (number, generation) in latest.items():
            stored = await store.read(f"{crash}/{worker}")
            assert stored is not None
            found = int(stored.data.split()[0])
            assert stored.data == b"%d " % found * 2000, "half of a write"
            assert found == number + 1 or (found, stored.generation) == (number, generation)
        await store.aclose()


# -- group commit ----------------------------------------------------------------------------------------------------


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of operations in each transaction."""
    sizes: list[int] = []
    apply = ObjectFile.apply

    def counted(self: ObjectFile, batch: list[Operation[Any]]) -> None:
        sizes.append(len(batch))
        apply(self, batch)

    monkeypatch.setattr(ObjectFile, "apply", counted)
    return sizes


async def test_concurrent_writes_share_a_transaction(path: Path, batches: list[int]) -> None:
    """500 writers at once cost a handful of transactions, not 500."""
    store = SQLiteStore(path)
    await store.read("warm")
    writes = (store.write(f"runs/{number}", b"x", if_generation_match=0) for number in range(500))
    assert len(set(await asyncio.gather(*writes))) == 500
    assert sum(batches[1:]) == 500
    assert len(batches) < 50
    await store.aclose()


async def test_a_transaction_is_bounded(path: Path, batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood is cut into transactions of a limited number of operations and of bytes."""
    monkeypatch.setattr(sqlite, "BATCH_OPERATIONS_MAX", 10)
    monkeypatch.setattr(sqlite, "BATCH_BYTES_MAX", 3_000)
    store = SQLiteStore(path)
    await asyncio.gather(*(store.read(f"runs/{number}") for number in range(100)))
    assert max(batches) <= 10
    batches.clear()
    await asyncio.gather(
        *(store.write(f"runs/{number}", bytes(1_000), if_generation_match=0) for number in range(20)),
        *(store.create_all([(f"executions/{number}", bytes(1_500))]) for number in range(20)),
    )
    assert max(batches) <= 3
    assert len(await store.list("")) == 40
    await store.aclose()


def test_a_failed_batch_fails_every_operation_and_applies_none(path: Path) -> None:
    """Nobody waits for ever and nothing is half there when one operation breaks the transaction; the next one works."""
    file = ObjectFile(path)
    batch = [Change("runs/a", 0, b""), CreateAll([("executions/lone surrogate \ud800", b"")]), ListAll("runs/")]
    file.apply(batch)
    assert [type(operation.outcome) for operation in batch] == [StoreError] * 3
    assert len({id(operation.outcome) for operation in batch}) == 3, "an exception object belongs to one caller"
    listing = ListAll("")
    file.apply([listing])
    assert listing.outcome == []
    file.close()


async def test_a_refused_write_creates_nothing(path: Path) -> None:
    """Here a write and what belongs to it are one: also beside writes of the same batch that go ahead."""
    store = SQLiteStore(path)
    taken = await store.write("runs/0", b"", if_generation_match=0)
    outcomes = await asyncio.gather(
        *(
            store.write(f"runs/{number}", b"", if_generation_match=0, create=[(f"executions/{number}", b"")])
            for number in range(3)
        ),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [GenerationConflict, int, int]
    assert [info.name for info in await store.list("executions/")] == ["executions/1", "executions/2"]
    assert await store.read("runs/0") == (b"", taken)
    await store.aclose()


def test_changes_of_one_batch_see_each_other(path: Path) -> None:
    """A delete and a creation that meet in one transaction happen one after the other, as they came."""
    file = ObjectFile(path)
    first = Change("runs/a", 0, b"old")
    file.apply([first])
    assert isinstance(first.outcome, int)
    batch = [
        Change("runs/a", first.outcome, b"newer"),
        Change("runs/a", first.outcome, None),
        Change("runs/b", 0, b"b"),
        Change("runs/b", 0, b"late"),
    ]
    file.apply(batch)
    assert [type(change.outcome) for change in batch] == [int, GenerationConflict, int, GenerationConflict]
    second = batch[0].outcome
    assert isinstance(second, int)
    recreation = [Change("runs/a", second, None), Change("runs/a", 0, b"again"), Read("runs/a"), Read("runs/b")]
    file.apply(recreation)
    assert recreation[2].outcome == (b"again", recreation[1].outcome)
    assert recreation[3].outcome == (b"b", batch[2].outcome)
    file.close()


# -- callers and event loops -----------------------------------------------------------------------------------------


async def test_a_cancelled_caller_disturbs_nobody(path: Path) -> None:
    """What it asked for may still happen, all others get their answers, and nothing is reported to the loop."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    store = SQLiteStore(path)
    writes = [
        asyncio.create_task(store.write(f"runs/{number}", b"x", if_generation_match=number % 3))
        for number in range(300)
    ]
    await asyncio.sleep(0)
    for write in writes[::2]:
        write.cancel()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds == {asyncio.CancelledError: 150, int: 50, GenerationConflict: 100}
    await store.aclose()
    gc.collect()
    assert reported == []


async def test_a_second_event_loop_is_refused(path: Path) -> None:
    """A store belongs to the loop that used it first; another one gets an error that says so, not a hang."""
    store = SQLiteStore(path)
    await store.write("runs/a", b"1", if_generation_match=0)
    for call in (store.read("runs/a"), store.aclose()):
        with pytest.raises(StoreError, match="event loop that used it first"):
            await asyncio.to_thread(asyncio.run, call)
    assert await store.read("runs/a") is not None
    await store.aclose()


async def test_close_finishes_what_was_accepted(path: Path) -> None:
    """Writes that were under way when the store was closed are on disk, and only the one file is left."""
    store = SQLiteStore(path)
    await store.join("1" * 32)
    writes = [asyncio.create_task(store.write(f"runs/{n}", b"x", if_generation_match=0)) for n in range(100)]
    await asyncio.sleep(0)
    await asyncio.gather(store.aclose(), store.aclose())
    assert len(set(await asyncio.gather(*writes))) == 100
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(StoreError, match="closed"):
        await store.read("runs/0")
    again = SQLiteStore(path)
    assert len(await again.list("")) == 100
    await again.aclose()


async def test_a_store_that_was_never_used_may_be_closed(path: Path) -> None:
    """Closing needs no file, makes none, and may be repeated."""
    store = SQLiteStore(path)
    await store.aclose()
    await store.aclose()
    assert list(path.parent.iterdir()) == []


def test_a_loop_that_ends_first_leaves_no_thread_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ends its loop while a write is under way gets no error from the thread, and the write is whole."""
    loop_has_ended = threading.Event()
    apply = ObjectFile.apply

    def apply_late(self: ObjectFile, batch: list[Operation[Any]]) -> None:
        loop_has_ended.wait()
        apply(self, batch)

    async def write_and_go() -> threading.Thread:
        store = SQLiteStore(path)
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await store.write("runs/a", b"1", if_generation_match=0)
        return next(thread for thread in threading.enumerate() if path.name in thread.name)

    monkeypatch.setattr(ObjectFile, "apply", apply_late)
    thread = asyncio.run(write_and_go())
    loop_has_ended.set()
    thread.join(10)
    assert not thread.is_alive()
    monkeypatch.undo()
    read = Read("runs/a")
    file = ObjectFile(path)
    file.apply([read])
    assert isinstance(read.outcome, StoredObject)
    file.close()


# -- the file --------------------------------------------------------------------------------------------------------


async def test_missing_directories_are_created(tmp_path: Path) -> None:
    """The default `.aiorch/state.db` needs no preparation."""
    store = SQLiteStore(tmp_path / "a" / "b" / "state.db")
    await store.write("runs/a", b"", if_generation_match=0)
    await store.aclose()
    assert list((tmp_path / "a").rglob("*.db*")) == [tmp_path / "a" / "b" / "state.db"]


async def test_a_path_means_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names with a meaning for SQLite are plain files, and a later change of directory changes nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for name in (":memory:", "file:x?mode=memory"):
        store = SQLiteStore(name)
        monkeypatch.chdir(tmp_path / "elsewhere")
        await store.write("runs/a", b"", if_generation_match=0)
        await store.aclose()
        monkeypatch.chdir(tmp_path)
        assert (tmp_path / name).is_file()
        assert str(store) == f"sqlite:///{tmp_path / name}"


def test_every_commit_is_synced(path: Path) -> None:
    """WAL with full synchronous: a commit is on disk, not in the operating system's memory, when it is answered."""
    connection = sqlite_schema.open_file(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


async def test_objects_can_be_looked_at_with_sqlite_alone(path: Path) -> None:
    """The file is readable without aiorch: plain columns, and the document as it was written."""
    store = SQLiteStore(path)
    generation = await store.write("runs/a", b'{"x": 1}', if_generation_match=0, metadata={"status": "Running"})
    await store.aclose()
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, generation, metadata, data FROM objects").fetchall()
    assert rows == [("runs/a", generation, '{"status":"Running"}', b'{"x": 1}')]
    connection.close()


async def test_generations_of_a_failed_transaction_are_not_lost_count_of(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers reserved in a transaction that was undone are not given out as if they had been reserved."""
    store = SQLiteStore(path)
    apply_create = ObjectFile._create

    def fail(self: ObjectFile, connection: sqlite3.Connection, objects: list[tuple[str, bytes]]) -> None:
        apply_create(self, connection, objects)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(ObjectFile, "_create", fail)
    with pytest.raises(StoreError):
        await store.write("runs/a", b"", if_generation_match=0)
    monkeypatch.undo()
    other = SQLiteStore(path)
    generations = [
        await each.write(f"runs/{number}/{index}", b"", if_generation_match=0)
        for number in range(5)
        for index, each in enumerate((store, other))
    ]
    assert len(set(generations)) == len(generations)
    await store.aclose()
    await other.aclose()
