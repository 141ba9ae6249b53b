"""
A run in memory: its entries as they are committed, and what is derived from them.

The encoded form of every entry is kept beside it, so that writing a document again costs what changed and a copy of
the rest.
"""

import copy
from collections.abc import Container, Mapping
from datetime import datetime
from hashlib import sha256
from weakref import WeakKeyDictionary

import msgspec

from aiorch.errors import DocumentError, RunStateError, RunTooLargeError, counted
from aiorch.model.dag import DAG, Node, Parallel, Task
from aiorch.model.enums import NodeTypes
from aiorch.model.run_document import (
    HEADER,
    NO_SLOT,
    SCHEMA_VERSION,
    NodeState,
    RunHeader,
    StartCommand,
    decode_entry,
    encode_document,
    encode_entry,
)
from aiorch.model.status import RunStatus, TaskStatus

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
"""A start whose document could pass this is refused: above 5 MiB Cloud Storage uploads become resumable."""

INLINE_RESULT_BYTES_MAX = 1024
"""A larger result goes to the execution's record."""

INLINE_DOCUMENT_BYTES_MAX = 2 * 1024 * 1024
"""In a document beyond this size no result is kept at all."""

_ENTRY_GROWTH_BYTES = 250
"""What an entry gains, without a result, between ``New`` and its end."""


class Run:
    """
    One committed run document in memory, with what is derived from it.

    Mutable, and changed by its committer alone, after a commit: no method awaits between read and write.

    Attributes:
        header: The run's own facts.

        nodes: State of every node by name.

        open_branches: Of every `Parallel`, how many branches have not ended yet.

        active: Tasks that something is owed to: ready, ``Starting``, ``Running`` or ``Retrying``. In order.

        active_by: The same tasks by the process that owes it, under `None` those that no process has claimed.

        live: Number of tasks in ``Starting`` or ``Running``.

        size: Bytes of the document.

        reserved: Bytes of results that were promised room in it and may not be committed yet.

        failure_bytes: Bytes of the failures in the entries.

        spilled: Nodes whose result is in the execution's record. In order.
    """

    __slots__ = (
        "_encoded",
        "active",
        "active_by",
        "failure_bytes",
        "header",
        "live",
        "nodes",
        "open_branches",
        "reserved",
        "size",
        "spilled",
    )

    def __init__(
        self, dag: DAG, header: RunHeader, nodes: dict[str, NodeState], encoded: dict[str, msgspec.Raw]
    ) -> None:
        self.header = header
        self.nodes = nodes
        self._encoded = encoded
        self.size = 0
        self.reserved = 0
        self.active: dict[str, None] = {}
        self.active_by: dict[str | None, dict[str, None]] = {}
        self.live = 0
        self.failure_bytes = 0
        self.spilled: dict[str, None] = {}
        self.open_branches: dict[str, int] = {}
        for name, state in nodes.items():
            self.failure_bytes += state.failure_bytes
            if state.result_in is not None:
                self.spilled[name] = None
            if state.is_active:
                self.active[name] = None
                self.active_by.setdefault(state.by, {})[name] = None
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

    @property
    def owners(self) -> frozenset[str]:
        """The processes that owe something to the run."""
        return frozenset(by for by in self.active_by if by is not None)

    def snapshot(self) -> "Run":
        """Return a copy that stays as the run is now."""
        copied = copy.copy(self)
        copied.nodes, copied.spilled = dict(self.nodes), dict(self.spilled)
        return copied

    def waits_for_process(self, dead: Container[str]) -> bool:
        """
        Whether no living process works on the run, as far as its entries tell.

        Args:
            dead: Processes that are known to be gone.
        """
        owed = [self.nodes[name] for name in self.active]
        return bool(owed) and all(
            state.waits_because != NO_SLOT and (state.by is None or state.by in dead) for state in owed
        )

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
        fresh = {name: encode_entry(state) for name, state in changed.items()}
        return encode_document({HEADER: encode_entry(header), **self._encoded, **fresh}), fresh

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
            before = self.nodes[name]
            self.live += state.is_live - before.is_live
            self.failure_bytes += state.failure_bytes - before.failure_bytes
            self._unlist(name, before.by)
            if state.is_active:
                self.active[name] = None
                self.active_by.setdefault(state.by, {})[name] = None
            else:
                self.active.pop(name, None)
                if state.result_in is not None:
                    self.spilled[name] = None
        self.nodes.update(changed)
        self._encoded.update(encoded)
        self.open_branches.update(open_branches)

    def _unlist(self, name: str, by: str | None) -> None:
        names = self.active_by.get(by)
        if names is not None:
            names.pop(name, None)
            if not names:
                del self.active_by[by]


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
            f"run {header.run_id!r} of DAG {dag.name!r} was not started: with {counted(len(blank), 'node')} and "
            f"{len(header.input)} bytes of input its document could grow to {size_max} bytes, and the limit is "
            f"{DOCUMENT_BYTES_MAX}. Split the DAG, or pass a reference (e.g. an object name) instead of the data."
        )
    nodes, entries = dict(blank), dict(encoded)
    for name, state in (kept or {}).items():
        nodes[name] = state
        entries[name] = encode_entry(state)
    return Run(dag, header, nodes, entries)


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
        nodes[name] = decode_entry(name, raw, source)
        encoded[name] = raw.copy()
    return Run(dag, header, nodes, encoded)


_blanks: "WeakKeyDictionary[DAG, tuple[dict[str, NodeState], dict[str, msgspec.Raw], int]]" = WeakKeyDictionary()


def _blank_entries(dag: DAG) -> tuple[dict[str, NodeState], dict[str, msgspec.Raw], int]:
    """Entries of a run that has not begun, shared by all runs of *dag*."""
    found = _blanks.get(dag)
    if found is None:
        nodes = {name: _blank_entry(node) for name, node in dag.all_nodes.items()}
        encoded = {name: encode_entry(state) for name, state in nodes.items()}
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
