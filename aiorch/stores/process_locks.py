"""
Who is alive, told by locks that the operating system drops when a process ends, however it ends.

Every process holds an exclusive lock on a file of its own, named after it. Whoever can lock that file knows that its
owner is gone. The lock belongs to the open file (flock), so two holders within one Python process exclude each other
as well. A child process must not keep its parent alive: programs that are started do not inherit open files, and forked
children close theirs.
"""

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from aiorch.errors import InvalidIdError, StoreError

_PROCESS = re.compile(r"[A-Za-z0-9_\-]{1,128}", re.ASCII)

_TRIES_MAX = 1000
"""Of a join, 1 ms apart. An observer holds a file for microseconds: one second of them is somebody else's lock."""


class ProcessLocks:
    """
    The lock files of the processes that share one store. Safe to use from several threads.

    Args:
        directory: Where they are; created by the first join, removed by the last leave.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}
        _everyone.add(self)

    def join(self, process: str) -> None:
        """
        Hold the lock of *process* from now on.

        Raises:
            InvalidIdError: The id cannot become a file name.

            StoreError: The file cannot be created, or is locked by somebody else.
        """
        if not _PROCESS.fullmatch(process):
            raise InvalidIdError("process id", process)
        if process in self._held:
            return
        try:
            for _ in range(_TRIES_MAX):
                descriptor = self._try_join(self._directory / process)
                if descriptor is not None:
                    self._held[process] = descriptor
                    return
                time.sleep(0.001)
        except OSError as error:
            raise StoreError(
                f"the store's folder {self._directory.parent} cannot be used ({error.strerror}: the directory "
                f"{self._directory.name} cannot be written), so nothing was opened. Make the folder writable, or "
                f"choose another store."
            ) from error
        raise StoreError(
            f"{self._directory / process} is locked by somebody else, so this process did not start under that id. "
            f"Ids are random per start: start again."
        )

    def leave(self, process: str) -> None:
        """Give the lock of *process* back, and remove its file."""
        descriptor = self._held.pop(process, None)
        if descriptor is not None:
            with suppress(OSError):  # a file that stays behind is removed by whoever looks at it next
                (self._directory / process).unlink()
                self._directory.rmdir()
            os.close(descriptor)

    def leave_all(self) -> None:
        """Give back every lock that is held."""
        for process in list(self._held):
            self.leave(process)

    def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """
        Return those of *processes* that nobody holds the lock of.

        Raises:
            StoreError: A file cannot be looked at.
        """
        try:
            return frozenset(process for process in processes if not self._is_alive(process))
        except OSError as error:
            raise StoreError(
                f"the files in {self._directory} cannot be looked at ({error.strerror}), so nobody was taken for dead. "
                f"Make them readable for this process."
            ) from error

    def forget(self) -> None:
        """Close what was inherited by a fork. The lock is the parent's, and stays with it."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _is_alive(self, process: str) -> bool:
        if process in self._held:
            return True
        if not _PROCESS.fullmatch(process):
            return False  # nobody can have joined under it
        path = self._directory / process
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two observers do not take each other for the owner.
            if not _lock(descriptor, fcntl.LOCK_SH):
                return True
            # Exclusive, so that the name still means this file when it is removed: nobody else can remove it first and
            # let a new owner create another.
            if _lock(descriptor, fcntl.LOCK_EX) and _is_file_at(descriptor, path):
                with suppress(OSError):  # not ours to remove: it stays behind, which harms nobody
                    path.unlink()
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def _try_join(path: Path) -> int | None:
        with suppress(FileExistsError):  # exist_ok would look again, and the last to leave may have removed it by then
            path.parent.mkdir(parents=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None  # the last one to leave took the directory along
        joined = False
        try:
            # An observer may have removed the file between its creation and the lock.
            joined = _lock(descriptor, fcntl.LOCK_EX) and _is_file_at(descriptor, path)
        finally:
            if not joined:
                os.close(descriptor)
        return descriptor if joined else None


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


_everyone: WeakSet[ProcessLocks] = WeakSet()


def _after_fork() -> None:
    for locks in _everyone:
        locks.forget()


os.register_at_fork(after_in_child=_after_fork)
