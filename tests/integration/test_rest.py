"""Sweeps of a store to which nothing is written: they read nothing, and notice the first thing that happens."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiorch import Client, Orchestrator, RunHandle, RunStatus, Settings, StoreError, TaskContext, TaskStatus
from aiorch.ports.store import ObjectInfo, StoredObject
from aiorch.stores import sqlite_file, sqlite_schema
from aiorch.stores.memory import MemoryStore
from aiorch.stores.sqlite import SQLiteStore
from aiorch.stores.sqlite_file import FileVersion, ObjectFile
from aiorch.testing import Fault, FaultyStore, ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, task

RELOOK_S = MemoryStore.pace.relook_s
SETTLED_S = 2 * MemoryStore.pace.refresh_s
STATUSES = {"call": TaskStatus.RUNNING, "retry": TaskStatus.RETRYING, "nobody": TaskStatus.NEW}
RETRY = {"max_attempts": 2, "initial_delay": 36_000, "max_delay": 36_000}
STEPS = {"call": task(), "retry": task(retry=RETRY), "nobody": task(target_name="t:elsewhere")}


class CountingStore(MemoryStore):
    """Counts listings and reads of objects."""

    def __init__(self) -> None:
        super().__init__()
        self.listings = 0
        self.reads = 0

    async def list(self, prefix: str) -> list[ObjectInfo]:
        self.listings += 1
        return await super().list(prefix)

    async def read(self, name: str) -> StoredObject | None:
        self.reads += 1
        return await super().read(name)


def client_of(store: MemoryStore) -> Client:
    return Client(store, settings=Settings(drain_s=0), clock=ManualClock(), entropy=SeededEntropy(1))


def engine(store: Any, kind: str = "call", *, seed: int = 1, **options: Any) -> Orchestrator:
    """An orchestrator whose function ``t:work`` never ends, or fails when runs are to wait for a retry."""

    async def work(context: TaskContext) -> None:
        if kind == "retry":
            raise ValueError("not now")
        await asyncio.Event().wait()

    functions = {"t:work": work}
    if isinstance(store, MemoryStore):
        options = {"clock": ManualClock(), "entropy": SeededEntropy(seed), **options}
    return Orchestrator(store, functions=functions, **{"settings": Settings(drain_s=0), **options})


async def start(orchestrator: Orchestrator, kind: str, run_id: str) -> RunHandle:
    """Start a run that waits, whether or not this process knows its function."""
    dag = orchestrator.dag({"name": kind, **chain(a=STEPS[kind])})
    command = orchestrator._executor.start_command(dag, run_id, b"null")
    return RunHandle(orchestrator._executor, await orchestrator._executor.start(dag, command))


@in_virtual_time
async def at_rest(kind: str) -> None:
    store = CountingStore()
    async with engine(store, kind) as orchestrator:
        runs = [await start(orchestrator, kind, f"r{number}") for number in range(5)]
        waiters = [asyncio.create_task(run.wait()) for run in runs]
        await asyncio.sleep(SETTLED_S)
        assert {run.run.nodes["a"].status for run in runs} == {STATUSES[kind]}
        store.listings = store.reads = 0
        await asyncio.sleep(RELOOK_S - 2 * SETTLED_S)
        assert (store.listings, store.reads) == (0, 0)
        await asyncio.sleep(4 * SETTLED_S)
        assert store.reads >= 5, "every run is looked at without a reason now and then"
        for waiter in waiters:
            waiter.cancel()


@pytest.mark.parametrize("kind", STEPS)
def test_sweeps_read_nothing_while_nothing_is_written(kind: str) -> None:
    """Sweeps of open runs that wait list no markers and read no runs until the runs are due to be looked at anyway."""
    at_rest(kind)


@in_virtual_time
async def test_the_death_of_an_owner_is_noticed_although_nothing_is_written() -> None:
    """A process that sweeps a store at rest takes over the run of another process that has died."""
    store = CountingStore()
    async with engine(store) as one, engine(store, seed=2) as two:
        await start(one, "call", "r")
        await asyncio.sleep(SETTLED_S)
        store.listings = 0
        await asyncio.sleep(SETTLED_S)
        assert store.listings == 0
        await store.leave(one._executor.process.id)
        await asyncio.sleep(SETTLED_S)
        assert (await two.attach("r")).run.nodes["a"].by == two._executor.process.id


@in_virtual_time
async def test_a_run_of_which_a_look_failed_is_looked_at_again_although_nothing_is_written() -> None:
    """A sweep whose look at a run was refused is followed by another one, until the look succeeds."""
    memory = MemoryStore()
    store = FaultyStore(memory)
    async with client_of(memory) as client, engine(store, seed=2, clock=ManualClock()) as orchestrator:
        refusal = store.arm("read", "runs/", Fault.REFUSED, times=None)
        await start(client, "call", "r")
        await asyncio.sleep(SETTLED_S)
        refusal.disarm()
        await asyncio.sleep(SETTLED_S)
        assert (await orchestrator.attach("r")).run.nodes["a"].by == orchestrator._executor.process.id


@in_virtual_time
async def test_a_sweep_follows_when_this_process_learns_of_an_owner() -> None:
    """An owner that a process learns of by a read between two sweeps is asked after although nothing is written."""
    store = CountingStore()
    async with engine(store, "retry") as orchestrator:
        run = await start(orchestrator, "retry", "r")
        waiter = asyncio.create_task(run.wait())  # keeps the run in memory
        await asyncio.sleep(SETTLED_S)
        stored = await store.read("runs/r.json")
        assert stored is not None
        document = msgspec.json.decode(stored.data)
        document["a"]["by"] = "a-process-that-died-before-it-told-of-itself"
        await store.write("runs/r.json", msgspec.json.encode(document), if_generation_match=stored.generation)
        await asyncio.sleep(SETTLED_S)
        await orchestrator.attach("r")
        await asyncio.sleep(SETTLED_S)
        waiter.cancel()
        stored = await store.read("runs/r.json")
        assert stored is not None
        assert msgspec.json.decode(stored.data)["a"]["by"] == orchestrator._executor.process.id


@in_virtual_time
async def test_a_sweep_follows_when_this_process_forgets_a_run() -> None:
    """A run whose start fails after its marker was written is begun by a sweep although nothing is written then."""
    store = FaultyStore(MemoryStore())
    async with engine(store) as orchestrator:
        refusal = store.arm("write", "runs/", Fault.REFUSED, hold=True)
        starting = asyncio.create_task(start(orchestrator, "call", "r"))
        await asyncio.sleep(SETTLED_S)
        refusal.release()
        with pytest.raises(StoreError):
            await starting
        await asyncio.sleep(SETTLED_S)
        assert (await orchestrator.attach("r")).run.nodes["a"].status is TaskStatus.RUNNING


async def rested(orchestrator: Orchestrator) -> None:
    """Wait until the sweeps of an orchestrator have nothing to find any more."""
    sweeper, executor = orchestrator._sweeper, orchestrator._executor
    async with asyncio.timeout(20):
        while executor._tasks or sweeper._swept != (await orchestrator.store.version(), executor.activity):
            await asyncio.sleep(0.01)


async def test_a_start_and_a_cancel_by_another_connection_are_noticed_at_rest(tmp_path: Path) -> None:
    """A process that sweeps a file at rest carries out what another connection to the file starts and cancels."""
    path = tmp_path / "state.db"
    settings = Settings(sweep_interval_s=0.05, drain_s=0)
    async with (
        engine(SQLiteStore(path), settings=settings) as orchestrator,
        Client(SQLiteStore(path), settings=settings) as client,
    ):
        await rested(orchestrator)
        async with asyncio.timeout(20):
            run = await client.start(chain(a=task()), run_id="r")
            async for _ in run.changes():
                if run.run.nodes["a"].status is TaskStatus.RUNNING:
                    break
            await rested(orchestrator)
            await run.cancel()
            assert (await run.wait()).status is RunStatus.CANCELLED


async def test_sweeps_of_a_file_at_rest_read_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement of ten sweeps of a file at rest names the table of objects."""
    statements: list[str] = []

    def open_traced(path: Path) -> sqlite3.Connection:
        connection = sqlite_schema.open_file(path)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite_file, "open_file", open_traced)
    settings = Settings(sweep_interval_s=0.05, drain_s=0)
    async with engine(SQLiteStore(tmp_path / "state.db"), settings=settings) as orchestrator:
        for number in range(5):
            await start(orchestrator, "nobody", f"r{number}")
        await orchestrator._sweeper.sweep()
        await rested(orchestrator)
        assert any("objects" in statement for statement in statements)
        statements.clear()
        for _ in range(10):
            await orchestrator._sweeper.sweep()
        assert sum("data_version" in statement for statement in statements) >= 10
        assert not [statement for statement in statements if "objects" in statement]


async def test_the_version_of_a_file_tells_of_changes_by_any_connection(tmp_path: Path) -> None:
    """The version stays while nothing is written, and changes after each kind of change by any connection."""
    one, two = SQLiteStore(tmp_path / "state.db"), SQLiteStore(tmp_path / "state.db")
    version = await one.version()
    for store in (one, two):
        generation = await store.write("open/r", b"", if_generation_match=0)
        created = await one.version()
        await store.create_all([(f"executions/{store is one}", b"")])
        more = await one.version()
        await store.delete("open/r", if_generation_match=generation)
        deleted = await one.version()
        assert len({version, created, more, deleted}) == 4
        await two.list("")
        await two.read("open/r")
        assert await one.version() == deleted
        version = deleted
    await one.aclose()
    await two.aclose()


def test_the_version_of_a_file_that_was_opened_again_is_another_one(tmp_path: Path) -> None:
    """A version that the connection before told is equal to none of the present connection."""
    file = ObjectFile(tmp_path / "state.db")
    operations = FileVersion(), FileVersion(), FileVersion()
    file.apply(operations[:1])
    file.apply(operations[1:2])
    file.close()
    file.apply(operations[2:])
    file.close()
    before, same, after = (operation.outcome for operation in operations)
    assert before == same != after
