"""
The run document as typed state, to and from JSON.

`runs/<run_id>.json` is one object: ``{"$run": {...}, "<node>": {...}, ...}``, see `RunHeader` and `NodeState` for the
entries. The encoded form of every entry is kept beside it, so that writing a document again costs what changed and a
copy of the rest.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from aiorch.dag import DAG
from aiorch.enums import NodeTypes, RunStatus, TargetTypes, TaskStatus
from aiorch.errors import DocumentError, NewerSchemaError, RunStateError, RunTooLargeError
from aiorch.nodes import Node, Parallel, Task

SCHEMA_VERSION = 1
HEADER = "$run"

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
"""A start whose document could pass this is refused: above 5 MiB Cloud Storage uploads become resumable."""

INLINE_RESULT_BYTES_MAX = 1024
"""A larger result goes to the execution's record."""

INLINE_DOCUMENT_BYTES_MAX = 2 * 1024 * 1024
"""In a document beyond this size no result is kept at all."""

NESTING_MAX = 500
"""Levels of what is embedded in a document: half of what the most limited interpreter can read back (Python 3.11)."""

FAILURES_KEPT = 5
MESSAGE_CHARS_MAX = 1000

WIDE_RUN_NODES = 1000
MESSAGE_CHARS_WIDE = 150
"""A run of more nodes than this keeps shorter messages of failures, and one earlier failure per task: all of its tasks
may fail, and the document must stay small."""


NO_RESULT = msgspec.Raw(b"null")
"""The one object that stands for no result, so that it is omitted from the document."""

REFUSED_RESULTS = frozenset({"ResultTooLarge", "ResultNotJSON"})
"""Types of failures of attempts that succeeded, and whose answer cannot be kept."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(rb"[\[\]{}]")
_LIVE = frozenset({TaskStatus.STARTING, TaskStatus.RUNNING})

_encode = msgspec.json.Encoder().encode


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why an attempt, a `Parallel` or a run failed."""

    type: str
    """E.g. ``ValueError``, ``Timeout``, ``Lost``, ``HTTP 503``."""

    message: str
    cause: str | None = None
    """What lies behind it: the chained exception, the node that failed, the body of the answer."""

    where: str | None = None
    """Line of the user's code that raised it: ``/home/me/orders.py:12 in load``."""

    attempt: int = 0
    """Attempt that failed, 0 where there is none."""

    at: datetime | None = None

    @classmethod
    def of(cls, type: str, message: str, cause: str | None = None, where: str | None = None) -> Self:  # noqa: A002
        """Build one with its texts cut to what a document can carry."""
        return cls(
            _cut(type, 200),
            _cut(message),
            None if cause is None else _cut(cause),
            None if where is None else _cut(where, 400),
        )

    def shortened(self, chars: int) -> "Failure":
        """Return it with texts of at most *chars* characters."""
        texts = {name: _cut(text, chars) for name in ("message", "cause", "where") if (text := getattr(self, name))}
        return msgspec.structs.replace(self, **texts)


def _cut(text: str, limit: int = MESSAGE_CHARS_MAX) -> str:
    # Lone surrogates cannot be encoded as UTF-8; an error message must never be what fails a commit.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


class NodeState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One node's entry in a run document. `TaskStatus` tells how it moves."""

    node_name: str
    node_type: NodeTypes
    status: TaskStatus
    next: str | None = None
    target_type: TargetTypes | None = None
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
        """A task whose work may be under way at its target: a run with such a task cannot become terminal."""
        return self.status in _LIVE and self.node_type is NodeTypes.TASK

    @property
    def is_active(self) -> bool:
        """A task that is owed something: a launch, an outcome, a retry, a stop."""
        status = self.status
        if status in _LIVE:
            return self.node_type is NodeTypes.TASK
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


class Run:
    """
    One committed run document in memory, with what is derived from it.

    Mutable, and changed by its committer alone, after a commit: no method awaits between read and write.

    Attributes:
        header: The run's own facts.

        nodes: State of every node by name.

        open_branches: Of every `Parallel`, how many branches have not ended yet.

        active: Tasks that something is owed to: ready, ``Starting``, ``Running`` or ``Retrying``. In order.

        live: Number of tasks in ``Starting`` or ``Running``.

        size: Bytes of the document.

        reserved: Bytes of results that were promised room in it and may not be committed yet.

        spilled: Nodes whose result is in the execution's record. In order.
    """

    __slots__ = ("_encoded", "active", "header", "live", "nodes", "open_branches", "reserved", "size", "spilled")

    def __init__(
        self, dag: DAG, header: RunHeader, nodes: dict[str, NodeState], encoded: dict[str, msgspec.Raw]
    ) -> None:
        self.header = header
        self.nodes = nodes
        self._encoded = encoded
        self.size = 0
        self.reserved = 0
        self.active: dict[str, None] = {}
        self.live = 0
        self.spilled: dict[str, None] = {}
        self.open_branches: dict[str, int] = {}
        for name, state in nodes.items():
            if state.result_in is not None:
                self.spilled[name] = None
            if state.is_active:
                self.active[name] = None
                self.live += state.is_live
        for name, node in dag.all_nodes.items():
            if isinstance(node, Parallel):
                self.open_branches[name] = sum(
                    not nodes[branch.end_node.name].status.is_terminal for branch in node.branches
                )

    @property
    def status(self) -> RunStatus:
        """Status of the run."""
        return self.header.status

    def has_room(self, result_bytes: int) -> bool:
        """Whether a result of this size may be kept in the document; if so, the room is taken."""
        if self.size + self.reserved + result_bytes > INLINE_DOCUMENT_BYTES_MAX:
            return False
        self.reserved += result_bytes
        return True

    def encode(self, header: RunHeader, changed: Mapping[str, NodeState]) -> tuple[bytes, dict[str, msgspec.Raw]]:
        """
        Encode the document as it will be with *header* and the *changed* entries.

        Returns:
            The document, and the encoded form of what changed, for `apply`.
        """
        fresh = {name: _encode_entry(state) for name, state in changed.items()}
        return _encode({HEADER: _encode_entry(header), **self._encoded, **fresh}), fresh

    def apply(
        self,
        header: RunHeader,
        changed: Mapping[str, NodeState],
        encoded: Mapping[str, msgspec.Raw],
        open_branches: Mapping[str, int],
        size: int,
    ) -> None:
        """Take over what a commit has made true."""
        self.header = header
        self.reserved = max(0, self.reserved - max(0, size - self.size))
        self.size = size
        for name, state in changed.items():
            self.live += state.is_live - self.nodes[name].is_live
            if state.is_active:
                self.active[name] = None
            else:
                self.active.pop(name, None)
                if state.result_in is not None:
                    self.spilled[name] = None
        self.nodes.update(changed)
        self._encoded.update(encoded)
        self.open_branches.update(open_branches)


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


def execution_key(nonce: str, node: str, attempt: int) -> str:
    """
    Return the key of one execution: 32 hex digits, known before the launch, the same on every try of it.

    It serves as trace id, idempotency key, name of the execution record and tail of a Dataflow job name.
    """
    return sha256(f"{nonce}/{attempt}/{node}".encode()).hexdigest()[:32]


def new_header(command: StartCommand, dag: DAG, timeout_at: datetime | None) -> RunHeader:
    """The facts of a run that begins with *command*."""
    return RunHeader(
        schema_version=SCHEMA_VERSION,
        run_id=command.run_id,
        nonce=command.nonce,
        dag=dag.name,
        definition=command.definition,
        status=RunStatus.RUNNING,
        input=command.input,
        created_at=command.created_at,
        updated_at=command.created_at,
        timeout_at=timeout_at,
        resumed_from=command.resumed_from,
    )


def kept_by_resume(run: Run) -> Mapping[str, NodeState]:
    """
    The entries that a resumed run takes over: everything completed.

    Raises:
        RunStateError: The run has neither failed nor been cancelled.
    """
    if run.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        raise RunStateError(
            f"run {run.header.run_id!r} is {run.status}, and only a Failed or Cancelled run can be resumed; "
            f"nothing was started. "
            + ("Start it anew under another run id." if run.status.is_terminal else "Wait for its end, or cancel it.")
        )
    return {name: state for name, state in run.nodes.items() if state.status is TaskStatus.COMPLETED}


def new_run(dag: DAG, header: RunHeader, kept: Mapping[str, NodeState] | None = None) -> Run:
    """
    Return the state of a run of which nothing has begun.

    Args:
        dag: The DAG to run.

        header: The run's own facts.

        kept: Entries taken over from an earlier run, by node name (resume).

    Raises:
        RunTooLargeError: Its document could pass `DOCUMENT_BYTES_MAX`.
    """
    blank, encoded, size = _blank_entries(dag)
    size_max = size + len(header.input) + len(blank) * _ENTRY_GROWTH_BYTES
    if size_max > DOCUMENT_BYTES_MAX:
        raise RunTooLargeError(
            f"run {header.run_id!r} of DAG {dag.name!r} was not started: with {len(blank)} nodes and "
            f"{len(header.input)} bytes of input its document could grow to {size_max} bytes, and the limit is "
            f"{DOCUMENT_BYTES_MAX}. Split the DAG, or pass a reference (e.g. an object name) instead of the data."
        )
    nodes, entries = dict(blank), dict(encoded)
    for name, state in (kept or {}).items():
        nodes[name] = state
        entries[name] = _encode_entry(state)
    return Run(dag, header, nodes, entries)


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


def run_from_document(dag: DAG, header: RunHeader, entries: Mapping[str, msgspec.Raw], source: str) -> Run:
    """
    Build the state from a document taken apart by `decode_document`.

    Raises:
        DocumentError: An entry is not readable (an unknown status is refused, never guessed), or does not belong to
            the DAG.
    """
    blank, blank_encoded, _ = _blank_entries(dag)
    nodes, encoded = dict(blank), dict(blank_encoded)
    for name, raw in entries.items():
        if name not in blank:
            raise DocumentError(
                f"{source} has an entry {name!r}, which its definition {header.definition} does not have; it was left "
                f"alone."
            )
        if raw == blank_encoded[name]:
            continue  # shared by all runs of the DAG
        try:
            nodes[name] = _decode_entry(raw)
        except msgspec.DecodeError as error:
            _refuse_unknown_status(raw, source)
            raise DocumentError(f"{source}: entry {name!r} cannot be read, and was left alone: {error}") from error
        encoded[name] = raw.copy()
    return Run(dag, header, nodes, encoded)


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


_ENTRY_GROWTH_BYTES = 250
"""What an entry gains, without a result, between ``New`` and its end."""


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
_blanks: "WeakKeyDictionary[DAG, tuple[dict[str, NodeState], dict[str, msgspec.Raw], int]]" = WeakKeyDictionary()


def _blank_entries(dag: DAG) -> tuple[dict[str, NodeState], dict[str, msgspec.Raw], int]:
    """Entries of a run that has not begun, shared by all runs of *dag*."""
    found = _blanks.get(dag)
    if found is None:
        nodes = {name: _blank_entry(node) for name, node in dag.all_nodes.items()}
        encoded = {name: _encode_entry(state) for name, state in nodes.items()}
        found = _blanks[dag] = nodes, encoded, sum(len(name) + len(raw) + 4 for name, raw in encoded.items())
    return found


def _blank_entry(node: Node) -> NodeState:
    if isinstance(node, Task):
        return NodeState(
            node.name,
            NodeTypes.TASK,
            TaskStatus.NEW,
            next=node.next,
            target_type=node.target_type,
            target_name=node.target_name,
        )
    assert isinstance(node, Parallel)
    branches = tuple({"start": branch.start_node} for branch in node.branches)
    return NodeState(node.name, NodeTypes.PARALLEL, TaskStatus.NEW, next=node.next, branches=branches)


def _encode_entry(entry: NodeState | RunHeader) -> msgspec.Raw:
    if entry.extra is None:
        return msgspec.Raw(_encode(entry))
    known = _decode_entries(_encode(msgspec.structs.replace(entry, extra=None)))
    return msgspec.Raw(_encode({**known, **entry.extra}))


def _decode_entry(raw: msgspec.Raw) -> NodeState:
    return _with_extra(_decode_known_entry(raw), raw, _NODE_FIELDS)


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
