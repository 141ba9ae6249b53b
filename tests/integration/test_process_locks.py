"""Liveness by locks on files: processes that die, and those that only look dead or alive."""

import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiorch.errors import InvalidIdError, StoreError
from aiorch.stores import process_locks
from aiorch.stores.process_locks import ProcessLocks
from aiorch.stores.sqlite import SQLiteStore

ONE, TWO = "1" * 32, "2" * 32

JOIN = """
import asyncio, os, subprocess, sys
from aiorch.stores.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.join(sys.argv[2])
    if sys.argv[3] == "with a program":
        program = [sys.executable, "-c", "print(flush=True); input()"]
        child = subprocess.Popen(program, close_fds=False, stdout=subprocess.PIPE)
        child.stdout.readline()  # what is not inherited may still be open for a moment after Popen has returned
    has_forked = sys.argv[3] == "with a fork" and os.fork() != 0
    if not has_forked:
        print("joined", flush=True)
    sys.stdin.read()
    await store.aclose()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def directory(path: Path) -> Path:
    return path.with_name("state.db.processes")


@contextmanager
def joined(path: Path, company: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that has joined as `ONE`, and ends with its input, as do those that it started."""
    command = [sys.executable, "-c", JOIN, path, ONE, company]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"joined\n"
        yield process


@pytest.mark.parametrize("company", ["alone", "with a program", "with a fork"])
def test_a_killed_process_is_dead_at_once(path: Path, directory: Path, company: str) -> None:
    """It is alive while it runs and dead as soon as it is gone, even when processes that it started live on."""
    locks = ProcessLocks(directory)
    with joined(path, company) as process:
        assert locks.dead_among(frozenset({ONE})) == frozenset()
        process.kill()
        process.wait()
        assert locks.dead_among(frozenset({ONE})) == {ONE}
        assert list(directory.iterdir()) == []


def test_closing_a_store_leaves(path: Path, directory: Path) -> None:
    """Whoever closes its store acts no more, and leaves nothing behind."""
    with joined(path, "alone") as process:
        process.communicate()
        assert process.returncode == 0
    assert ProcessLocks(directory).dead_among(frozenset({ONE})) == {ONE}
    assert not directory.exists()


async def test_two_stores_in_one_process_see_each_other(path: Path) -> None:
    """A lock belongs to the store that took it: another one in the same program is no exception."""
    one, two = SQLiteStore(path), SQLiteStore(path)
    await one.join(ONE)
    await two.join(TWO)
    for store in (one, two):
        assert await store.dead_among(frozenset({ONE, TWO})) == frozenset()
    await two.aclose()
    assert await one.dead_among(frozenset({ONE, TWO})) == {TWO}
    await one.aclose()


def test_a_file_that_nobody_holds_is_removed(directory: Path) -> None:
    """What a killed process left behind is gone after the first look, and what another holds stays."""
    locks, other = ProcessLocks(directory), ProcessLocks(directory)
    other.join(TWO)
    (directory / ONE).touch()
    assert locks.dead_among(frozenset({ONE, TWO})) == {ONE}
    assert [file.name for file in directory.iterdir()] == [TWO]
    other.leave_all()
    assert not directory.exists()


def test_an_id_that_is_taken_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes under one id would each be taken for the other: the second does not start."""
    monkeypatch.setattr(process_locks, "_TRIES_MAX", 3)
    first, second = ProcessLocks(directory), ProcessLocks(directory)
    first.join(ONE)
    with pytest.raises(StoreError, match="locked by a different process"):
        second.join(ONE)
    second.leave(ONE)
    assert second.dead_among(frozenset({ONE})) == frozenset()
    first.leave_all()


@pytest.mark.parametrize("process", ["", ".", "..", "../state.db", "a/b", "a\0b", "ä", "x" * 129])
async def test_an_id_never_becomes_a_path(path: Path, process: str) -> None:
    """An id from a damaged document names no file: it cannot join, and it is simply dead."""
    path.write_bytes(b"precious")
    store = SQLiteStore(path)
    with pytest.raises(InvalidIdError):
        await store.join(process)
    assert await store.dead_among(frozenset({process})) == {process}
    assert list(path.parent.iterdir()) == [path]


async def test_a_directory_that_cannot_be_made_is_reported(path: Path, directory: Path) -> None:
    """Without its lock a process does not start: others would take over what it does."""
    directory.write_bytes(b"a file in the way")
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="cannot be used"):
        await store.join(ONE)
    with pytest.raises(StoreError, match="no process was called dead"):
        await store.dead_among(frozenset({ONE}))
    await store.aclose()


def test_the_file_of_a_new_owner_is_never_removed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a file and its removal another process may have taken the name: then the file stays."""
    directory.mkdir()
    (directory / ONE).touch()
    owner, lock = ProcessLocks(directory), process_locks._lock

    def lock_slowly(descriptor: int, kind: int) -> bool:
        locked = lock(descriptor, kind)
        if kind == fcntl.LOCK_SH:
            monkeypatch.undo()
            (directory / ONE).unlink()  # by another observer, who saw the same dead file
            owner.join(ONE)
        return locked

    monkeypatch.setattr(process_locks, "_lock", lock_slowly)
    assert ProcessLocks(directory).dead_among(frozenset({ONE})) == {ONE}, "that file's owner was dead"
    assert (directory / ONE).exists()
    assert ProcessLocks(directory).dead_among(frozenset({ONE})) == frozenset()
    owner.leave_all()


def test_observers_never_take_a_joining_process_for_dead(directory: Path) -> None:
    """However observers, who remove files of the dead, meet a joining process: once it has joined it is alive."""
    everyone_is_done = threading.Event()
    observer = ProcessLocks(directory)

    def observe() -> None:
        while not everyone_is_done.is_set():
            ProcessLocks(directory).dead_among(frozenset({ONE}))

    def neighbour() -> None:
        locks = ProcessLocks(directory)
        while not everyone_is_done.is_set():
            locks.join(TWO)  # leaving last, it takes the directory along
            locks.leave(TWO)

    threads = [threading.Thread(target=target) for target in (observe, observe, neighbour)]
    for thread in threads:
        thread.start()
    try:
        locks = ProcessLocks(directory)
        for _ in range(300):
            locks.join(ONE)
            # An observer may hold the file for a moment as well, but never in place of its owner.
            assert observer.dead_among(frozenset({ONE})) == frozenset()
            assert (directory / ONE).exists()
            locks.leave(ONE)
    finally:
        everyone_is_done.set()
        for thread in threads:
            thread.join()
