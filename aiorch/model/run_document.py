"""
The run document: its entries, to and from JSON.

`runs/<run_id>.json` is one object: ``{"$run": {...}, "<node>": {...}, ...}``, see `RunHeader` and `NodeState` for the
entries. This version keeps fields that it does not know, and refuses values that only a newer version can read.
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
The newest version of run documents that this aiorch reads. A run is written with the version that the DAG needs:
version 1 knows the nodes ``Task`` and ``Parallel``, and neither inputs nor labels of a definition.
"""

NO_SLOT = "no free slot"
"""The reason why a task waits whose target type has a limit."""

HEADER = "$run"

IN_RECORD = "execution"
"""Value of `NodeState.result_in` for a result in the execution record."""

NESTING_MAX = 500
"""Levels of JSON inside a document: half of the levels that the most limited interpreter (Python 3.11) can read."""

NO_RESULT = msgspec.Raw(b"null")
"""The one object that stands for no result, so that the document omits the field."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(rb"[\[\]{}]")
_LIVE = frozenset({TaskStatus.STARTING, TaskStatus.RUNNING})

_encode = msgspec.json.Encoder().encode


class Unanswered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The part of an entry about a call whose answer is lost, or may be lost."""

    answer_lost: bool = False
    """No process waits for the answer any more: the platform's event tells the end of the call."""

    was_refused: bool = False
    """The target may have refused an earlier request of this attempt: an event of a refusal may be about that one."""

    has_succeeded: bool = False
    """An event says that the call succeeded, and no decision about the result was made yet."""

    calls_again: bool = False
    """One more launch is owed, under the same execution id."""

    events: tuple[str, ...] = ()
    """Ids of the events that counted: a repeated event has no effect."""


class NodeState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The entry of a node in a run document. `TaskStatus` has the order of the statuses."""

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
    """The owner: the process that launches, or waits for a retry. Saves work; correctness never depends on it."""

    launches: int = 0
    """Number of launches of this attempt, as far as commits tell: more than 1 after a takeover."""

    ready_at: datetime | None = None
    """Time since which a ``New`` task may start: no process has claimed the task yet."""

    waits_because: str | None = None
    """The reason why this attempt has not started: no slot, no process for the task, or a refused launch."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    retry_at: datetime | None = None
    stop: bool = False
    """The owner is to stop the execution at the target; no attempt follows."""

    lost: int = 0
    """Attempts of this task whose outcome never became known: they do not count against the retry policy."""

    interrupted: int = 0
    """Attempts that their owner gave up because the owner ended: they do not count either."""

    due_at: datetime | None = None
    """The time of the timer that this entry waits for: the end of a wait, the next try, or the end of the time."""

    skipped: str | None = None
    """``when``: the node was skipped by its own condition, which counts as ended well."""

    went_to: str | None = None
    """The node that follows by a decision of this run: of a choice, or of a handler of a failure."""

    caught: bool = False
    """The failure in `error` was caught, and the run went on."""

    retried: tuple[int, ...] = ()
    """Further attempts by each of several retry policies, in the order of the definition."""

    job_id: str | None = None
    """The target's name for the execution, where the target gives one."""

    unanswered: Unanswered | None = None
    """The facts about a call whose answer may be lost."""

    result: msgspec.Raw = NO_RESULT
    """The result as JSON; ``null`` is the same as no result."""

    result_in: str | None = None
    """``execution`` when the result is in the execution record, else the name of the object that holds the result."""

    error: Failure | None = None
    failures: tuple[Failure, ...] = ()
    """The last few failed attempts before the present one."""

    extra: dict[str, msgspec.Raw] | None = None
    """Fields that this version does not know, kept as they are. In the document they stand beside the known fields."""

    @property
    def ended_well(self) -> bool:
        """Whether the run goes on after the node: completed, skipped by its own condition, or with a caught failure."""
        return self.status is TaskStatus.COMPLETED or self.skipped is not None or self.caught

    @property
    def ended_chain(self) -> bool:
        """Whether a chain that may end with this node did: it ended well, and no handler of its failure follows."""
        return self.ended_well and not (self.caught and self.went_to)

    @property
    def is_live(self) -> bool:
        """Whether work may be under way at a target: a run with such an entry cannot become terminal."""
        return self.execution_id is not None and self.status in _LIVE

    @property
    def result_place(self) -> str:
        """Where a result is that is outside the document: the id of the execution with the record, or an object."""
        assert self.result_in is not None
        return self.execution_id or "" if self.result_in == IN_RECORD else self.result_in

    @property
    def calls_again(self) -> bool:
        """Whether the owner owes one more launch of a running attempt."""
        return self.unanswered is not None and self.unanswered.calls_again

    @property
    def never_ran(self) -> bool:
        """Whether an event told that the only request of the attempt was refused before the call ran."""
        known = self.unanswered
        is_told = known is not None and known.answer_lost and bool(known.events) and not known.has_succeeded
        return is_told and self.launches == 1

    @property
    def is_undecided(self) -> bool:
        """Whether an event told the end of the call, and no process waits for the answer or has decided about it."""
        if self.unanswered is None or not self.unanswered.answer_lost:
            return False
        return self.unanswered.has_succeeded or self.never_ran

    @property
    def failure_bytes(self) -> int:
        """Bytes of the failures in this entry."""
        if self.error is None and not self.failures:
            return 0
        return sum(failure.size for failure in (self.error, *self.failures) if failure is not None)

    @property
    def is_active(self) -> bool:
        """Whether the entry requires work: a launch, a wait for the outcome, a retry or a stop."""
        status = self.status
        if status in _LIVE:
            return self.execution_id is not None
        if status is TaskStatus.RETRYING:
            return self.due_at is None  # a timer waits, not a process
        return status is TaskStatus.NEW and self.ready_at is not None


class Final(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The part of a run's header about the level `finally`, from its beginning on."""

    outcome: RunStatus
    """The end of all other steps: ``Completed``, ``Failed`` or ``Cancelled``."""

    begun_at: datetime
    error: Failure | None = None
    """The failure of the other steps."""

    ended_at: datetime | None = None
    """When the level ended, or was stopped."""


class RunHeader(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """The facts of a run as a whole: the entry ``$run`` of the run document."""

    schema_version: int
    run_id: str
    nonce: str
    """Random per run: execution ids of two deployments never meet."""

    dag: str
    definition: str
    status: RunStatus
    input: msgspec.Raw
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    timeout_at: datetime | None = None
    resumed_from: str | None = None
    """Id of the run whose results this run has taken over."""

    resumed_from_step: str | None = None
    """The step with which this run began anew, where the resume named one."""

    error: Failure | None = None
    final: Final | None = msgspec.field(default=None, name="finally")
    output: msgspec.Raw = NO_RESULT
    """The result of the run that the key `output` of the definition gives."""

    output_in: str | None = None
    """The name of the object that holds a large output."""

    labels: dict[str, str] = {}
    extra: dict[str, msgspec.Raw] | None = None


class StartCommand(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    The body of ``open/<run_id>``: all facts that the beginning of the run needs.

    The marker is written first of all, so that any process can begin the run of a marker without a run document.
    """

    schema_version: int
    run_id: str
    nonce: str
    dag: str
    definition: str
    input: msgspec.Raw
    created_at: datetime
    resumed_from: str | None = None
    from_step: str | None = msgspec.field(default=None, name="from")
    """Of a resumed run, the step that runs anew together with all steps that may follow."""


def is_json(encoded: bytes) -> bool:
    """
    Whether *encoded* is JSON that can be read back from inside a document, by any process and any supported Python.

    JSON with too many levels could be written into a document and never be read again.
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
    Take a run document apart: the header, and the entries still encoded.

    Raises:
        NewerSchemaError: A newer aiorch wrote the document.

        DocumentError: *data* is no run document.
    """
    raw = msgspec.Raw(b"null")
    try:
        entries = _decode_entries(data)
        raw = entries.pop(HEADER)
        _refuse_newer(raw, source)
        return _decode_header(raw), entries
    except KeyError:
        raise DocumentError(
            f"{source} has no entry {HEADER!r}, so the object is no run document; the object was left alone."
        ) from None
    except msgspec.DecodeError as error:
        _refuse_unknown_status(raw, source)
        raise DocumentError(
            f"{source} is no run document that this aiorch can read, and was left alone: {error}"
        ) from error


def decode_start_command(data: bytes, source: str) -> StartCommand:
    """
    Read the body of an open marker.

    Raises:
        NewerSchemaError: A newer aiorch wrote the marker.

        DocumentError: *data* is no start command.
    """
    try:
        _refuse_newer(data, source)
        return msgspec.json.decode(data, type=StartCommand)
    except msgspec.DecodeError as error:
        raise DocumentError(
            f"{source} is no start command that this aiorch can read, and was left alone: {error}"
        ) from error


def _refuse_newer(data: bytes | msgspec.Raw, source: str) -> None:
    version = _decode_version(data).schema_version
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{source} has schema version {version}, and this aiorch knows up to {SCHEMA_VERSION}; the object was "
            f"left alone. Upgrade this process; messages for the run are given back until then."
        )


def decode_entry(name: str, raw: msgspec.Raw, source: str) -> NodeState:
    """
    Read the entry of the node *name*.

    Raises:
        NewerSchemaError: The entry has a status that a newer aiorch has added.

        DocumentError: *raw* is no entry.
    """
    try:
        return _with_extra(_decode_known_entry(raw), raw, _NODE_FIELDS)
    except msgspec.DecodeError as error:
        _refuse_unknown_status(raw, source)
        raise DocumentError(f"{source}: entry {name!r} cannot be read, and was left alone: {error}") from error


def encode_entry(entry: NodeState | RunHeader) -> msgspec.Raw:
    """Return the entry in the form for a document."""
    if entry.extra is None:
        return msgspec.Raw(_encode(entry))
    known = _decode_entries(_encode(msgspec.structs.replace(entry, extra=None)))
    return msgspec.Raw(_encode({**known, **entry.extra}))


def encode_document(entries: Mapping[str, msgspec.Raw]) -> bytes:
    """Return a document of encoded entries, by name."""
    return _encode(entries)


def _refuse_unknown_status(raw: msgspec.Raw, source: str) -> None:
    """Raise NewerSchemaError when *raw* is an entry with a status that a newer aiorch has added."""
    try:
        status = _decode_status(raw).status
    except msgspec.DecodeError:
        return
    if status not in _STATUSES:
        raise NewerSchemaError(
            f"{source} has the status {status!r}, which this aiorch does not know; the object was left alone. Upgrade "
            f"this process; messages for the run are given back until then."
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
    # msgspec.Raw from a decoder is a view that would keep the whole document in memory.
    changes: dict[str, Any] = {
        key: fields[key].copy() for key in ("result", "input", "output") if key in known & fields.keys()
    }
    extra = {key: value.copy() for key, value in fields.items() if key not in known}
    if extra:
        changes["extra"] = extra
    return msgspec.structs.replace(entry, **changes) if changes else entry


_NODE_FIELDS = frozenset(NodeState.__struct_encode_fields__) - {"extra"}
_HEADER_FIELDS = frozenset(RunHeader.__struct_encode_fields__) - {"extra"}
