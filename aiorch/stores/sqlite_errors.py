"""What SQLite's errors mean for the caller of a store: the cause, what did not happen, the next move."""

import sqlite3
from pathlib import Path

from aiorch.errors import StoreError, StoreUnavailable, in_words

BUSY_S = 10
"""How long another process's transaction is waited for. Ours take milliseconds; a copy or a shell may take longer."""

_FULL = (
    "cannot grow, because the disk or a quota is full; nothing of this was written. Free some space: the store goes on "
    "by itself"
)

_MEANINGS = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE: _FULL,
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened, so nothing was read or written. Look whether it is a directory, and whether this user may "
        "write the file and create others beside it"
    ),
    sqlite3.SQLITE_READONLY: (
        "may only be read, so nothing was written. Make the file, those beside it (-wal, -shm) and its directory "
        "writable for this user, or choose another store"
    ),
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; it was left alone. Choose another path",
    sqlite3.SQLITE_CORRUPT: (
        "is damaged, so nothing was written. Stop every process that uses it, keep a copy of it and of the files "
        "beside it, and restore a backup (or try `sqlite3 FILE .recover`)"
    ),
    sqlite3.SQLITE_BUSY: (
        f"was locked by another process for {BUSY_S} s, so nothing was applied. Look for a long transaction on it, "
        f"such as an open `sqlite3` shell"
    ),
    sqlite3.SQLITE_PROTOCOL: (
        "was locked by other processes at every try, so nothing was applied. Repeat it; if it stays like this, look "
        "for a process that hangs"
    ),
    sqlite3.SQLITE_IOERR: (
        "could not be read or written, and whether this was applied is unknown. Look whether the disk fails or is gone"
    ),
}
"""By SQLite's code, whole or without its details (all but the lowest byte)."""

_UNAVAILABLE = {_MEANINGS[code] for code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR)}


def store_error(error: Exception, path: Path) -> StoreError:
    """
    Return what a caller is told whose operation failed with *error*. A new object each time: each is raised elsewhere.

    Args:
        error: From SQLite, from the operating system, or a `StoreError` already.

        path: The store's file.
    """
    if isinstance(error, StoreError):
        return type(error)(*error.args)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    meaning = _MEANINGS.get(code) or _MEANINGS.get(code & 0xFF) or "cannot be used, and nothing was applied"
    kind = StoreUnavailable if meaning in _UNAVAILABLE else StoreError
    told = kind(f"{path} {meaning} ({in_words(error)}).")
    told.__cause__ = error
    return told
