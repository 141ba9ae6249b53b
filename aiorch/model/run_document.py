"""
The run document: its entries, to and from JSON.

`runs/<run_id>.json` is one object: ``{"$run": {...}, "<node>": {...}, ...}``, see `RunHeader` and `NodeState` for the
entries. Fields that this version does not know are kept; what only a newer version can read is refused, never guessed.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from aiorch.errors import DocumentError, NewerSchemaError
from aiorch.model.failure import Failure
from aiorch.model.status import RunStatus, TaskStatus

SCHEMA_VERSION = 2
"""
The newest version of run documents that this aiorch reads. A run is written with the version that its DAG needs: 1
knows the nodes ``Task`` and ``Parallel``.
"""

NO_SLOT = "no free slot"
"""Why a task waits whose target type has a limit."""

HEADER = "$run"

NESTING_MAX = 500
"""Levels of what is embedded in a document: half of what the most limited interpreter can read back (Python 3.11)."""

NO_RESULT = msgspec.Raw(b"null")
"""The one object that stands for no result, so that it is omitted from the document."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(rb"[\[\]{}]")
_LIVE = frozenset({TaskStatus.STARTING, TaskStatus.RUNNING})

_encode = msgspec.json.Encoder().encode


class Unanswered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of an attempt whose call may have lost its answer, or did: the part of an entry for that."""

    answer_lost: bool = False
    """No process waits for the answer any more: the platform's event tells how the call ended."""

    was_refused: bool = False
    """An earlier request of this attempt may have been refused: an event that says so may be about that one."""

    has_succeeded: bool = False
    """An event says that the call succeeded, and nothing was decided about its result yet."""

    calls_again: bool = False
    """One more launch is owed, under the same execution id."""

    events: tuple[str, ...] = ()
    """Ids of the events that counted: the same event again changes nothing."""


class NodeState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One node's entry in a run document. `TaskStatus` tells how it moves."""

    node_name: str
    node_type: str
    status: TaskStatus
    next: str | None = None
    target_type: str | None = None
    target_name: str | None = None
    branches: tuple[dict[str, str], ...] = ()
    """Of a `Parallel`: ``{"start": <node name>}`` each."""

    attempt: int = 0
    execution_id: str | None = None
    by: str | None = None
    """Process that launches, or waits for a retry. Saves work, never decides what is right."""

    launches: int = 0
    """How often this attempt was sent, as far as commits tell: more than 1 after a takeover."""

    ready_at: datetime | None = None
    """On a ``New`` task: it may start, but no process that can launch it has done so yet."""

    waits_because: str | None = None
    """Why this attempt has not started: there is no slot, or no process for it, or its last try was refused."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    retry_at: datetime | None = None
    stop: bool = False
    """It shall be stopped at its target; no attempt follows."""

    lost: int = 0
    """Attempts of this task whose outcome never became known: they do not count against its retries."""

    interrupted: int = 0
    """Attempts that their own process gave up, since it ended: these do not count either."""

    job_id: str | None = None
    """The target's own name for the execution, where it has one."""

    unanswered: Unanswered | None = None
    """Of a call whose answer may be lost."""

    result: msgspec.Raw = NO_RESULT
    """As JSON; a result of ``null`` and none are the same."""

    result_in: str | None = None
    """``execution`` when the result is in the execution's record."""

    error: Failure | None = None
    failures: tuple[Failure, ...] = ()
    """Earlier failed attempts, the last few."""

    extra: dict[str, msgspec.Raw] | None = None
    """Fields that this version does not know, kept as they are. In the document they stand among the others."""

    @property
    def is_live(self) -> bool:
        """Work may be under way at a target: a run with such an entry cannot become terminal."""
        return self.execution_id is not None and self.status in _LIVE

    @property
    def calls_again(self) -> bool:
        """One more launch of a running attempt is owed."""
        return self.unanswered is not None and self.unanswered.calls_again

    @property
    def is_undecided(self) -> bool:
        """The call succeeded, no process waits for its answer, and nobody has decided about the missing result."""
        return self.unanswered is not None and self.unanswered.has_succeeded and self.unanswered.answer_lost

    @property
    def failure_bytes(self) -> int:
        """Bytes that the failures in this entry take."""
        if self.error is None and not self.failures:
            return 0
        return sum(failure.size for failure in (self.error, *self.failures) if failure is not None)

    @property
    def is_active(self) -> bool:
        """Something is owed to the entry: a launch, an outcome, a retry, a stop."""
        status = self.status
        if status in _LIVE:
            return self.execution_id is not None
        return status is TaskStatus.RETRYING or (status is TaskStatus.NEW and self.ready_at is not None)


class RunHeader(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """The run's own facts, the entry ``$run`` of its document."""

    schema_version: int
    run_id: str
    nonce: str
    """Random per run: keys of two deployments never meet."""

    dag: str
    definition: str
    status: RunStatus
    input: msgspec.Raw
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    timeout_at: datetime | None = None
    resumed_from: str | None = None
    error: Failure | None = None
    extra: dict[str, msgspec.Raw] | None = None


class StartCommand(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    The body of ``open/<run_id>``: all that is needed to begin the run.

    Written first of all, so that whoever finds a marker without a run document can apply it.
    """

    schema_version: int
    run_id: str
    nonce: str
    dag: str
    definition: str
    input: msgspec.Raw
    created_at: datetime
    resumed_from: str | None = None


def is_json(encoded: bytes) -> bool:
    """
    Whether *encoded* is JSON that can be read back from inside a document, by any process and any supported Python.

    JSON that is nested too deeply could be written into a document and never be read again.
    """
    try:
        msgspec.json.decode(encoded)
    except (ValueError, RecursionError):
        return False
    if encoded.count(b"[") + encoded.count(b"{") <= NESTING_MAX:
        return True
    level = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", encoded)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest <= NESTING_MAX


def decode_document(data: bytes, source: str) -> tuple[RunHeader, dict[str, msgspec.Raw]]:
    """
    Take a run document apart: the run's own facts, and the entries still encoded.

    Raises:
        NewerSchemaError: A newer aiorch wrote it.

        DocumentError: It is no run document.
    """
    raw = msgspec.Raw(b"null")
    try:
        entries = _decode_entries(data)
        raw = entries.pop(HEADER)
        _refuse_newer(raw, source)
        return _decode_header(raw), entries
    except KeyError:
        raise DocumentError(f"{source} has no entry {HEADER!r}, so it is no run document; it was left alone.") from None
    except msgspec.DecodeError as error:
        _refuse_unknown_status(raw, source)
        raise DocumentError(
            f"{source} is no run document that this aiorch can read, and was left alone: {error}"
        ) from error


def decode_start_command(data: bytes, source: str) -> StartCommand:
    """
    Read the body of an open marker.

    Raises:
        NewerSchemaError: A newer aiorch wrote it.

        DocumentError: It is no start command.
    """
    try:
        _refuse_newer(data, source)
        return msgspec.json.decode(data, type=StartCommand)
    except msgspec.DecodeError as error:
        raise DocumentError(
            f"{source} is no start command that this aiorch can read; it was left alone: {error}"
        ) from error


def _refuse_newer(data: bytes | msgspec.Raw, source: str) -> None:
    version = _decode_version(data).schema_version
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{source} has schema version {version}, and this aiorch knows up to {SCHEMA_VERSION}; it was left "
            f"alone. Upgrade this process; messages for the run are given back until then."
        )


def decode_entry(name: str, raw: msgspec.Raw, source: str) -> NodeState:
    """
    Read the entry of the node *name*.

    Raises:
        NewerSchemaError: It has a status that a newer aiorch has added.

        DocumentError: It is no entry.
    """
    try:
        return _with_extra(_decode_known_entry(raw), raw, _NODE_FIELDS)
    except msgspec.DecodeError as error:
        _refuse_unknown_status(raw, source)
        raise DocumentError(f"{source}: entry {name!r} cannot be read, and was left alone: {error}") from error


def encode_entry(entry: NodeState | RunHeader) -> msgspec.Raw:
    """Return the entry as it stands in a document."""
    if entry.extra is None:
        return msgspec.Raw(_encode(entry))
    known = _decode_entries(_encode(msgspec.structs.replace(entry, extra=None)))
    return msgspec.Raw(_encode({**known, **entry.extra}))


def encode_document(entries: Mapping[str, msgspec.Raw]) -> bytes:
    """Return a document of encoded entries, by name."""
    return _encode(entries)


def _refuse_unknown_status(raw: msgspec.Raw, source: str) -> None:
    """Raise NewerSchemaError when what cannot be read is an entry whose status a newer aiorch has added."""
    try:
        status = _decode_status(raw).status
    except msgspec.DecodeError:
        return
    if status not in _STATUSES:
        raise NewerSchemaError(
            f"{source} has the status {status!r}, which this aiorch does not know; it was left alone. Upgrade this "
            f"process; messages for the run are given back until then."
        )


class _Version(msgspec.Struct):
    schema_version: int


class _Status(msgspec.Struct):
    status: str


_STATUSES = {status.value for status in (*TaskStatus, *RunStatus)}
_decode_status = msgspec.json.Decoder(_Status).decode
_decode_entries = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_version = msgspec.json.Decoder(_Version).decode
_decode_known_entry = msgspec.json.Decoder(NodeState).decode
_decode_known_header = msgspec.json.Decoder(RunHeader).decode


def _decode_header(raw: msgspec.Raw) -> RunHeader:
    return _with_extra(_decode_known_header(raw), raw, _HEADER_FIELDS)


_Entry = TypeVar("_Entry", NodeState, RunHeader)


def _with_extra(entry: _Entry, raw: msgspec.Raw, known: frozenset[str]) -> _Entry:
    fields = _decode_entries(raw)
    # msgspec.Raw of what was decoded is a view that would keep the whole document in memory.
    changes: dict[str, Any] = {key: fields[key].copy() for key in ("result", "input") if key in known & fields.keys()}
    extra = {key: value.copy() for key, value in fields.items() if key not in known}
    if extra:
        changes["extra"] = extra
    return msgspec.structs.replace(entry, **changes) if changes else entry


_NODE_FIELDS = frozenset(NodeState.__struct_fields__) - {"extra"}
_HEADER_FIELDS = frozenset(RunHeader.__struct_fields__) - {"extra"}
