"""The SQLite file itself: its identification, tables and settings."""

import sqlite3
import time
from pathlib import Path

from aiorch.errors import StoreError
from aiorch.stores.sqlite_errors import BUSY_S

SCHEMA_VERSION = 1

APPLICATION_ID = int.from_bytes(b"aior")
"""Number in the header of the file: it distinguishes a store from other SQLite databases."""

PAGE_BYTES = 16_384
"""Rewriting a document of 2.5 MB takes 4 ms of CPU, and 12 ms with the default of 4,096. Small writes cost the same."""

WAL_PAGES = 1_000
"""
The log is copied into the database at 16 MB, that is at every sixth commit of a document of 2.5 MB: pages that were
rewritten meanwhile are copied once. A longer log does not make large documents cheaper, and makes small commits more
expensive: the file system has more to note for a growing file than for an overwritten one. A start after a crash also
reads the whole log.
"""

CACHE_KIB = 16_000
"""
A transaction whose pages do not fit into the cache is written twice. This size fits a transaction that starts 10,000
tasks, with records and document. Half of it would save 5 MB of memory and cost a tenth of the CPU time of that fan-out.
"""

_SETTINGS = (
    "PRAGMA synchronous = FULL",  # every commit is on disk before a caller learns of it
    f"PRAGMA wal_autocheckpoint = {WAL_PAGES}",
    f"PRAGMA journal_size_limit = {4 * WAL_PAGES * PAGE_BYTES}",  # returns the space of an unusually large log
    f"PRAGMA cache_size = -{CACHE_KIB}",
    "PRAGMA secure_delete = OFF",  # otherwise every rewritten document would be overwritten with zeros first
)

# Small columns come first: a listing never touches the pages that hold the data.
_SCHEMA = (
    """CREATE TABLE objects (
        name TEXT NOT NULL PRIMARY KEY, generation INTEGER NOT NULL, metadata TEXT NOT NULL, data BLOB NOT NULL
    )""",
    "CREATE TABLE counter (generation INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

# One statement, so that it sees one state of the file although a second process creates the tables.
_IDENTITY = """
    SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
    FROM pragma_application_id, pragma_user_version
"""


def open_file(path: Path) -> sqlite3.Connection:
    """
    Open the file, and create missing directories, file and tables. A foreign file is not changed.

    Args:
        path: Absolute path of the file: SQLite gives special meanings to other names.

    Raises:
        StoreError: The file belongs to a different program or to a newer aiorch, or cannot be shared between processes.

        sqlite3.Error: The file cannot be used.

        OSError: The directory cannot be created.
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
    """Check that the file is a store, and create the tables in a new file."""
    if _is_new(connection, path):
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        _enter_wal(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        if _is_new(connection, path):  # a second process may have been faster
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
                f"{path} has schema version {version}, and this aiorch knows up to {SCHEMA_VERSION}; no object was "
                f"read or written. Upgrade aiorch, or choose a different store."
            )
        return False
    if application or version or tables:
        raise StoreError(
            f"{path} is the SQLite database of some other program (application id {application}, {tables} tables and "
            f"indexes); it was not changed. Choose a different path."
        )
    return True


def _enter_wal(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not wait here for a second process that does the same; otherwise both would wait for ever.
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
                f"{path} is on a file system without shared memory for SQLite's write-ahead log, so no object was "
                f"written. Choose a path on a local disk."
            )
        return
