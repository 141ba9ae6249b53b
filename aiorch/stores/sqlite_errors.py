"""The meaning of SQLite errors for the caller of a store: the cause, the missing effect, the remedy."""

import sqlite3
from pathlib import Path

from aiorch.errors import StoreError, StoreUnavailable, in_words

BUSY_S = 10
"""Longest wait for a transaction of another process. Those of aiorch take milliseconds; a shell may hold one longer."""

_FULL = (
    "cannot grow, because the disk or a quota is full; no part of this write was applied. Free some space: the store "
    "continues by itself"
)

_MEANINGS = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE: _FULL,
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened, so no object was read or written. Check that it is not a directory, and that this user may "
        "write the file and create files in its folder"
    ),
    sqlite3.SQLITE_READONLY: (
        "may only be read, so no object was written. Make the file, its -wal and -shm files and its directory writable "
        "for this user, or choose a different store"
    ),
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; it was not changed. Choose a different path",
    sqlite3.SQLITE_CORRUPT: (
        "is damaged, so no object was written. Stop every process that uses it, keep a copy of it and of its -wal and "
        "-shm files, and restore a backup (or try `sqlite3 FILE .recover`)"
    ),
    sqlite3.SQLITE_BUSY: (
        f"was locked by a different process for {BUSY_S} s, so no change was applied. Look for a long transaction on "
        f"the file, such as an open `sqlite3` shell"
    ),
    sqlite3.SQLITE_PROTOCOL: (
        "was locked by other processes at every try, so no change was applied. Try again; if this repeats, look for a "
        "process that hangs"
    ),
    sqlite3.SQLITE_IOERR: (
        "could not be read or written, so the change may have been applied or not. Check that the disk works"
    ),
}
"""Meanings by the code of SQLite, the extended code or its lowest byte."""

_UNAVAILABLE = {_MEANINGS[code] for code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR)}


def store_error(error: Exception, path: Path) -> StoreError:
    """
    Return the error for the caller of an operation that failed with *error*. A new object for each caller.

    Args:
        error: An error of SQLite or of the operating system, or already a `StoreError`.

        path: The file of the store.
    """
    if isinstance(error, StoreError):
        return type(error)(*error.args)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    meaning = _MEANINGS.get(code) or _MEANINGS.get(code & 0xFF) or "cannot be used, and no change was applied"
    kind = StoreUnavailable if meaning in _UNAVAILABLE else StoreError
    told = kind(f"{path} {meaning} ({in_words(error)}).")
    told.__cause__ = error
    return told
