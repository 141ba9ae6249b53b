"""
One SQLite file of named objects, used by one thread.

Operations come in batches, and a batch is one transaction. It looks up the present generations of all objects that it
changes, decides each change, and writes all changed objects. That takes a few statements for hundreds of operations.
Few statements also mean few waits: at every step of a statement the thread releases the lock of the interpreter, and a
busy event loop keeps the lock for 5 ms or more.

All operations of a batch are under way at the same time, so every order among them is valid. Changes are decided in the
order of arrival, then objects are created, and reads come last: they see the state that is about to be durable.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from aiorch.errors import StoreError
from aiorch.ports.store import ObjectInfo, StoredObject
from aiorch.stores.preconditions import conflict
from aiorch.stores.sqlite_errors import store_error
from aiorch.stores.sqlite_schema import open_file

GENERATIONS_RESERVED = 1 << 20
"""Generations reserved in advance, so that a commit writes one page less. 2**43 starts use up the numbers."""

ROWS_MAX = 256
"""Largest number of rows of one statement. Larger statements are not faster."""

NO_METADATA = "{}"

_T = TypeVar("_T")
_Statement = tuple[str, str]
"""SQL with a gap for any number of rows, and the text for one row."""

_LOOK_UP = ("SELECT json_group_object(name, generation) FROM objects WHERE name IN ({})", "?")
_DELETE = ("DELETE FROM objects WHERE name IN ({})", "?")
_CREATE = (
    "INSERT INTO objects (name, generation, metadata, data) VALUES {} ON CONFLICT (name) DO NOTHING",
    "(?,?,?,?)",
)
_PUT = (
    """INSERT INTO objects (name, generation, metadata, data) VALUES {} ON CONFLICT (name) DO UPDATE
    SET generation = excluded.generation, metadata = excluded.metadata, data = excluded.data""",
    "(?,?,?,?)",
)

_decode_generations = msgspec.json.Decoder(dict[str, int]).decode
_decode_listing = msgspec.json.Decoder(list[ObjectInfo]).decode


class Operation(msgspec.Struct, Generic[_T], kw_only=True):
    """One operation on the file. `outcome` is set when its batch was applied."""

    outcome: _T | StoreError | None = None


class Read(Operation[StoredObject | None]):
    """Read one object."""

    name: str


class Change(Operation[int]):
    """Write or delete one object. The outcome is the new generation, 0 for none."""

    name: str
    expected: int
    data: bytes | None
    """`None`: delete it."""

    metadata: str = NO_METADATA
    create: Sequence[tuple[str, bytes]] = ()
    """Objects to create with the change, if it is allowed."""


class CreateAll(Operation[None]):
    """Create the objects that do not exist."""

    objects: Sequence[tuple[str, bytes]]


class ListAll(Operation[list[ObjectInfo]]):
    """List the objects whose names begin with `prefix`."""

    prefix: str


class FileVersion(Operation[tuple[int, int]]):
    """Return a number that changes when a different connection has changed the file, without reading rows."""


class ObjectFile:
    """
    The file, opened by the first batch, and again by the next one after a failure.

    Args:
        path: Absolute path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._reserved = range(0)
        self._openings = 0

    def apply(self, batch: Sequence[Operation[Any]]) -> None:
        """
        Apply a batch in one transaction, durable on return, and leave the outcome of each operation on it.

        Raises no error: when the transaction fails, the failure is the outcome of each operation.
        """
        try:
            if self._connection is None:
                self._connection = open_file(self._path)
                self._openings += 1
            connection = self._connection
            is_read = all(isinstance(operation, Read | ListAll | FileVersion) for operation in batch)
            connection.execute("BEGIN" if is_read else "BEGIN IMMEDIATE")
            self._change(connection, [operation for operation in batch if isinstance(operation, Change)])
            self._create(connection, [each for operation in batch for each in _creations(operation)])
            for operation in batch:
                if isinstance(operation, Read):
                    operation.outcome = _read(connection, operation.name)
                elif isinstance(operation, ListAll):
                    operation.outcome = _list(connection, operation.prefix)
                elif isinstance(operation, FileVersion):
                    # The number is valid only for the connection that returned it.
                    (version,) = connection.execute("PRAGMA data_version").fetchone()
                    operation.outcome = self._openings, version
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  every caller of the batch must get the error
            self.close()
            for operation in batch:
                operation.outcome = store_error(error, self._path)

    def close(self) -> None:
        """Close the file; an open transaction is undone. The last close moves the log into the database."""
        connection, self._connection = self._connection, None
        self._reserved = range(0)  # a failed transaction has reserved no generations
        if connection is not None:
            connection.close()

    def _change(self, connection: sqlite3.Connection, changes: list[Change]) -> None:
        if not changes:
            return
        current = _generations_of(connection, [change.name for change in changes])
        puts: dict[str, tuple[str, int, str, bytes]] = {}
        deletions: dict[str, None] = {}
        for change, fresh in zip(changes, self._take_generations(connection, len(changes)), strict=True):
            name, data = change.name, change.data
            generation = current.get(name, 0)
            if data is None and not generation:
                change.outcome = 0
            elif refusal := conflict(name, expected=change.expected, current=generation):
                change.outcome = refusal
            elif data is None:
                change.outcome = current[name] = 0
                deletions[name] = None
            else:
                change.outcome = current[name] = fresh
                puts[name] = (name, fresh, change.metadata, data)
                deletions.pop(name, None)
        _execute_many(connection, _PUT, tuple(puts.values()))
        _execute_many(connection, _DELETE, [(name,) for name in deletions])

    def _create(self, connection: sqlite3.Connection, objects: list[tuple[str, bytes]]) -> None:
        generations = self._take_generations(connection, len(objects))
        rows = [
            (name, generation, NO_METADATA, data) for (name, data), generation in zip(objects, generations, strict=True)
        ]
        _execute_many(connection, _CREATE, rows)

    def _take_generations(self, connection: sqlite3.Connection, count: int) -> range:
        """Return *count* generations that this file has never seen; not all of them need be used."""
        if count > len(self._reserved):
            reserved = max(count, GENERATIONS_RESERVED)
            (last,) = connection.execute(
                "UPDATE counter SET generation = generation + ? RETURNING generation", (reserved,)
            ).fetchone()
            self._reserved = range(last - reserved + 1, last + 1)
        taken, self._reserved = self._reserved[:count], self._reserved[count:]
        return taken


def _generations_of(connection: sqlite3.Connection, names: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for piece in _pieces(names):
        (listing,) = connection.execute(_text(_LOOK_UP, len(piece)), piece).fetchone()
        found.update(_decode_generations(listing))
    return found


def _creations(operation: Operation[Any]) -> Sequence[tuple[str, bytes]]:
    if isinstance(operation, CreateAll):
        return operation.objects
    if isinstance(operation, Change) and not isinstance(operation.outcome, StoreError):
        return operation.create
    return ()


def _read(connection: sqlite3.Connection, name: str) -> StoredObject | None:
    row = connection.execute("SELECT data, generation FROM objects WHERE name = ?", (name,)).fetchone()
    return StoredObject(*row) if row else None


def _list(connection: sqlite3.Connection, prefix: str) -> list[ObjectInfo]:
    # No byte of UTF-8 is 0xFF: this is above every name with the prefix, and below all greater names.
    (listing,) = connection.execute(
        "SELECT json_group_array(json_array(name, generation, json(metadata))) FROM objects"
        " WHERE name >= ? AND name < CAST(? AS TEXT)",
        (prefix, prefix.encode() + b"\xff"),
    ).fetchone()
    return sorted(_decode_listing(listing))


def _execute_many(connection: sqlite3.Connection, statement: _Statement, rows: Sequence[tuple[object, ...]]) -> None:
    for piece in _pieces(rows):
        connection.execute(_text(statement, len(piece)), list(chain.from_iterable(piece)))


def _pieces(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Cut *rows* into pieces of 256, 128, 64, …, 1: so few different statements serve any number of rows."""
    start, left = 0, len(rows)
    while left:
        size = min(ROWS_MAX, 1 << left.bit_length() - 1)
        yield rows[start : start + size]
        start, left = start + size, left - size


@cache
def _text(statement: _Statement, count: int) -> str:
    template, row = statement
    return template.format(",".join([row] * count))
