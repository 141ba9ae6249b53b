"""`SQLiteStore` on files that cannot be used: every error names the file, what did not happen and what to do."""

import ctypes
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiorch.errors import StoreError, StoreUnavailable
from aiorch.stores import sqlite_schema
from aiorch.stores.sqlite import SQLiteStore

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user may reach."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def permissions_bind() -> Iterator[None]:
    """
    Give up root's right to ignore permissions, for this thread and those that it starts (the store's, at first use).

    On Linux the user that permissions of files are checked for belongs to the thread.
    """
    is_root = os.geteuid() == 0
    if is_root:
        ctypes.CDLL(None).setfsuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            ctypes.CDLL(None).setfsuid(0)


async def refusal(store: SQLiteStore) -> str:
    """The error that a write and a creation get alike."""
    with pytest.raises(StoreError) as on_write:
        await store.write("runs/a", b"", if_generation_match=0)
    with pytest.raises(StoreError) as on_create:
        await store.create_all([("runs/a", b"")])
    assert str(on_write.value) == str(on_create.value)
    assert type(on_write.value) is StoreError
    return str(on_write.value)


async def test_the_root_directory_is_no_store() -> None:
    """Not even the path without a name breaks anything but the calls."""
    store = SQLiteStore("/")
    assert "/ cannot be opened" in await refusal(store)
    await store.aclose()


async def test_a_directory_is_no_store(tmp_path: Path) -> None:
    """Naming a directory is reported for writes and reads, and nothing is put into it."""
    store = SQLiteStore(tmp_path)
    assert f"{tmp_path} cannot be opened" in await refusal(store)
    with pytest.raises(StoreError, match="Check that it is not a directory"):
        await store.read("runs/a")
    await store.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_a_file_in_the_way_of_a_directory_is_reported(tmp_path: Path) -> None:
    """A path through a plain file cannot exist, and the message names it."""
    (tmp_path / "file").write_bytes(b"")
    store = SQLiteStore(tmp_path / "file" / "state.db")
    assert "file" in await refusal(store)
    await store.aclose()


async def test_a_read_only_directory_is_reported(directory: Path) -> None:
    """Without the right to create the file nothing is written, and the message says which right is missing."""
    directory.chmod(0o555)
    store, deeper = SQLiteStore(directory / "state.db"), SQLiteStore(directory / "deeper" / "state.db")
    with permissions_bind():
        assert "may write the file and create files in its folder" in await refusal(store)
        assert "Permission denied" in await refusal(deeper)
    await store.aclose()
    await deeper.aclose()


@pytest.mark.parametrize("directory_mode", [0o555, 0o777], ids=["in a read-only directory", "in a writable directory"])
async def test_a_read_only_file_is_reported(directory: Path, directory_mode: int) -> None:
    """An existing store that may only be read refuses writes, changes nothing, and works once it may be written."""
    path = directory / "state.db"
    store = SQLiteStore(path)
    await store.write("runs/before", b"1", if_generation_match=0)
    await store.aclose()
    path.chmod(0o444)
    directory.chmod(directory_mode)
    content = path.read_bytes()
    store = SQLiteStore(path)
    with permissions_bind():
        message = await refusal(store)
    assert f"{path} may only be read, so no object was written. Make the file, its -wal and -shm files" in message
    assert path.read_bytes() == content
    for file in directory.iterdir():
        file.chmod(0o666)
    directory.chmod(0o777)
    await store.write("runs/a", b"2", if_generation_match=0)
    assert [info.name for info in await store.list("")] == ["runs/a", "runs/before"]
    await store.aclose()


@pytest.mark.parametrize("content", [b"hello", b"garbage, and more than a page of it. " * 2_000], ids=["short", "long"])
async def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    """Whatever somebody keeps there stays as it is."""
    path.write_bytes(content)
    store = SQLiteStore(path)
    assert f"{path} is not an SQLite database; it was not changed" in await refusal(store)
    await store.aclose()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE objects (name, generation, metadata, data)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"],
)
async def test_the_database_of_another_program_is_left_alone(path: Path, statement: str) -> None:
    """A database that is not ours is neither adopted nor changed, even where its tables look like ours."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    content = path.read_bytes()
    store = SQLiteStore(path)
    assert f"{path} is the SQLite database of some other program" in await refusal(store)
    await store.aclose()
    assert path.read_bytes() == content


async def test_a_newer_schema_is_left_alone(path: Path) -> None:
    """A file that a newer aiorch wrote is not touched; the message names both versions and the way out."""
    store = SQLiteStore(path)
    await store.write("runs/before", b"1", if_generation_match=0)
    await store.aclose()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA user_version = {sqlite_schema.SCHEMA_VERSION + 1}")
    connection.close()
    store = SQLiteStore(path)
    message = await refusal(store)
    assert message.startswith(f"{path} has schema version 2, and this aiorch knows up to 1")
    assert "Upgrade aiorch" in message
    with pytest.raises(StoreError, match="schema version 2"):
        await store.read("runs/before")
    await store.aclose()


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """What a crash between creation and the first transaction leaves behind is taken over."""
    path.write_bytes(b"")
    store = SQLiteStore(path)
    await store.write("runs/a", b"", if_generation_match=0)
    await store.aclose()


async def test_a_damaged_file_is_reported(path: Path) -> None:
    """Corruption is an error that names the file and what to do, not an empty answer."""
    store = SQLiteStore(path)
    await store.create_all([(f"runs/{number}", bytes(500)) for number in range(200)])
    await store.aclose()
    with path.open("r+b") as file:
        file.seek(sqlite_schema.PAGE_BYTES)
        file.write(b"\xff" * sqlite_schema.PAGE_BYTES)
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match=r"state\.db is damaged.*restore a backup"):
        await store.read("runs/7")
    await store.aclose()


async def test_a_lock_that_stays_is_unavailable_and_then_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads go on beside another program's transaction, writes wait, then fail unapplied, and work once it ends."""
    monkeypatch.setattr(sqlite_schema, "BUSY_S", 0.05)
    store = SQLiteStore(path)
    await store.write("runs/a", b"1", if_generation_match=0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await store.read("runs/a") is not None
    with pytest.raises(StoreUnavailable, match=r"state\.db was locked by a different process.*no change was applied"):
        await store.write("runs/b", b"1", if_generation_match=0)
    other.execute("ROLLBACK")
    other.close()
    await store.write("runs/b", b"1", if_generation_match=0)
    await store.aclose()


async def test_a_full_store_says_so_and_goes_on_once_there_is_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is refused whole, what was there stays readable, and freed space is all that it needs."""
    limit = f"PRAGMA max_page_count = {1_000_000 // sqlite_schema.PAGE_BYTES}"
    monkeypatch.setattr(sqlite_schema, "_SETTINGS", (*sqlite_schema._SETTINGS, limit))
    store = SQLiteStore(path)
    await store.write("runs/a", bytes(500_000), if_generation_match=0)
    with pytest.raises(StoreError, match=r"state\.db cannot grow.*no part of this write was applied.*Free some space"):
        await store.create_all([(f"executions/{number}", bytes(50_000)) for number in range(20)])
    assert [info.name for info in await store.list("")] == ["runs/a"]
    monkeypatch.undo()
    with pytest.raises(StoreError, match="cannot grow"):  # this connection keeps its limit until it has failed
        await store.write("runs/b", bytes(1_000_000), if_generation_match=0)
    await store.write("runs/b", bytes(1_000_000), if_generation_match=0)
    await store.aclose()


FILL = """
import asyncio, sys
from pathlib import Path
from aiorch.errors import StoreError
from aiorch.stores.sqlite import SQLiteStore

async def main():
    ballast = Path(sys.argv[1], "ballast")
    store = SQLiteStore(Path(sys.argv[1], "state.db"))
    kept, messages = {}, set()
    ballast.write_bytes(bytes(400_000))
    for number in range(30):
        try:
            kept[f"runs/{number:02}"] = await store.write(f"runs/{number:02}", bytes(50_000), if_generation_match=0)
        except StoreError as error:
            messages.add(str(error))
    assert 0 < len(kept) < 30
    assert all("cannot grow" in message for message in messages), messages
    ballast.unlink()
    kept["runs/99"] = await store.write("runs/99", bytes(50_000), if_generation_match=0)
    assert {info.name: info.generation for info in await store.list("")} == kept
    await store.aclose()

asyncio.run(main())
"""


def test_a_full_disk_says_so_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """The same on a file system that really is full, where committing fails and not the statement before it."""
    in_small_space = [
        *("unshare", "--mount", "--map-root-user", "sh", "-c"),
        *('mount -t tmpfs -o size=1200k tmpfs "$0" && exec "$@"', tmp_path),
    ]
    if shutil.which("unshare") is None or subprocess.run([*in_small_space, "true"], check=False).returncode:
        pytest.skip("this user may not mount a small file system in a namespace of its own")
    subprocess.run([*in_small_space, sys.executable, "-c", FILL, tmp_path], check=True)
