"""The SQLite file itself: what makes it ours, its tables and its settings."""

import sqlite3
import time
from pathlib import Path

from aiorch.errors import StoreError
from aiorch.stores.sqlite_errors import BUSY_S

SCHEMA_VERSION = 1

APPLICATION_ID = int.from_bytes(b"aior")
"""In the file's header: tells a file of ours from any other SQLite database."""

PAGE_BYTES = 16_384
"""Rewriting a document of 2.5 MB takes 4 ms of CPU, and 12 ms with the default of 4,096. Small writes cost the same."""

WAL_PAGES = 1_000
"""
The log is copied into the database when it has 16 MB, at every sixth commit of a document of 2.5 MB: pages that were
rewritten meanwhile are copied once. A longer log makes no document cheaper and small commits dearer (the file system
has more to note for a file that grows than for one that is written over), and a start after a crash reads all of it.
"""

CACHE_KIB = 16_000
"""
A transaction whose pages do not fit is written twice: this is one that starts 10,000 tasks, records and document. Half
of it saves 5 MB of memory and costs a tenth of that fan-out's CPU time.
"""

_SETTINGS = (
    "PRAGMA synchronous = FULL",  # every commit is on disk before anyone hears of it
    f"PRAGMA wal_autocheckpoint = {WAL_PAGES}",
    f"PRAGMA journal_size_limit = {4 * WAL_PAGES * PAGE_BYTES}",  # gives the disk back after an unusually large log
    f"PRAGMA cache_size = -{CACHE_KIB}",
    "PRAGMA secure_delete = OFF",  # where it is on by default, every rewritten document is overwritten with zeros first
)

# Small columns stand first: a listing never touches the pages that hold the data.
_SCHEMA = (
    """CREATE TABLE objects (
        name TEXT NOT NULL PRIMARY KEY, generation INTEGER NOT NULL, metadata TEXT NOT NULL, data BLOB NOT NULL
    )""",
    "CREATE TABLE counter (generation INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

# One statement, so that it sees one state of the file while another process creates the tables.
_IDENTITY = """
    SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
    FROM pragma_application_id, pragma_user_version
"""


def open_file(path: Path) -> sqlite3.Connection:
    """
    Open the file, and create what is missing: directories, file, tables. What is not ours is left alone.

    Args:
        path: Where it is, absolute: SQLite gives a meaning of its own to other names.

    Raises:
        StoreError: It belongs to another program or to a newer aiorch, or cannot be shared between processes.

        sqlite3.Error: It cannot be used.

        OSError: Its directory cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that the file is ours, and create what is missing in a new one."""
    if _is_new(connection, path):
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        _enter_wal(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        if _is_new(connection, path):  # another process may have been faster
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    for statement in _SETTINGS:
        connection.execute(statement)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    application, version, tables = connection.execute(_IDENTITY).fetchone()
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema version {version}, and this aiorch knows up to {SCHEMA_VERSION}; nothing was read "
                f"or written. Upgrade aiorch, or choose another store."
            )
        return False
    if application or version or tables:
        raise StoreError(
            f"{path} is the SQLite database of some other program (application id {application}, {tables} tables and "
            f"indexes); it was left alone. Choose another path."
        )
    return True


def _enter_wal(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not wait here for another process that does the same, lest both wait for ever.
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
            continue
        if mode != "wal":
            raise StoreError(
                f"{path} is on a file system without shared memory for SQLite's write-ahead log, so nothing was "
                f"written. Choose a path on a local disk."
            )
        return
