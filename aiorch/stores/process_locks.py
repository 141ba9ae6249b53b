"""
Liveness by locks that the operating system releases at every end of a process.

Every process holds an exclusive lock on a file that is named after its id. A process that can lock such a file knows
that the owner is dead. The lock belongs to the open file (flock), so two holders within one Python process exclude each
other, too. A child process must not keep the lock of its parent: started programs do not inherit open files, and forked
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
"""Tries of a join, 1 ms apart. An observer holds a file for microseconds; a lock of a second is not an observer's."""


class ProcessLocks:
    """
    The lock files of the processes that share one store. Safe to use from several threads.

    Args:
        directory: The folder of the files; created by the first join, removed by the last leave.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}
        _everyone.add(self)

    def join(self, process: str) -> None:
        """
        Take the lock of *process*.

        Raises:
            InvalidIdError: The id cannot become a file name.

            StoreError: The file cannot be created, or a different process holds its lock.
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
                f"{self._directory.name} cannot be written), so the store was not opened. Make the folder writable, or "
                f"give the URL of a different store."
            ) from error
        raise StoreError(
            f"{self._directory / process} is locked by a different process, so this process did not start under that "
            f"id. Ids are random per start: start again."
        )

    def leave(self, process: str) -> None:
        """Release the lock of *process*, and remove its file."""
        descriptor = self._held.pop(process, None)
        if descriptor is not None:
            with suppress(OSError):  # the next observer removes a file that stays behind
                (self._directory / process).unlink()
                self._directory.rmdir()
            os.close(descriptor)

    def leave_all(self) -> None:
        """Release every lock that is held."""
        for process in list(self._held):
            self.leave(process)

    def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """
        Return those of *processes* whose lock is free.

        Raises:
            StoreError: A file cannot be opened.
        """
        try:
            return frozenset(process for process in processes if not self._is_alive(process))
        except OSError as error:
            raise StoreError(
                f"the files in {self._directory} cannot be opened ({error.strerror}), so no process was called dead. "
                f"Make the files readable for this process."
            ) from error

    def forget(self) -> None:
        """Close the files that a fork inherited. The lock belongs to the parent, and stays there."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _is_alive(self, process: str) -> bool:
        if process in self._held:
            return True
        if not _PROCESS.fullmatch(process):
            return False  # no process can have joined under this id
        path = self._directory / process
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two observers do not mistake each other for the owner.
            if not _lock(descriptor, fcntl.LOCK_SH):
                return True
            # Exclusive, so that the name still means this file when it is removed: no other observer can remove it
            # first and let a new owner create a second one.
            if _lock(descriptor, fcntl.LOCK_EX) and _is_file_at(descriptor, path):
                with suppress(OSError):  # no permission to remove it: it stays behind and does no harm
                    path.unlink()
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def _try_join(path: Path) -> int | None:
        with suppress(
            FileExistsError
        ):  # exist_ok would look again, and the last process to leave may have removed the directory
            path.parent.mkdir(parents=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None  # the last process to leave removed the directory
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
