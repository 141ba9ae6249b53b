"""
A run in memory: its entries as they are committed, and what is derived from them.

The encoded form of every entry is kept beside it, so that writing a document again costs what changed and a copy of
the rest.
"""

import copy
from collections.abc import Collection, Container, Mapping
from hashlib import sha256
from weakref import WeakKeyDictionary

import msgspec

from aiorch.errors import DocumentError
from aiorch.model.dag import DAG
from aiorch.model.run_document import (
    HEADER,
    NO_SLOT,
    NodeState,
    RunHeader,
    decode_entry,
    encode_document,
    encode_entry,
)
from aiorch.model.status import RunStatus

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
"""A start whose document could pass this is refused: above 5 MiB Cloud Storage uploads become resumable."""

INLINE_RESULT_BYTES_MAX = 1024
"""A larger result goes to the execution's record."""

INLINE_DOCUMENT_BYTES_MAX = 2 * 1024 * 1024
"""In a document beyond this size no result is kept at all."""


class Run:
    """
    One committed run document in memory, with what is derived from it.

    Mutable, and changed by its committer alone, after a commit: no method awaits between read and write.

    Attributes:
        header: The run's own facts.

        nodes: State of every node by name.

        pending: By entry in no terminal status, how many scopes have to end before the node does.

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
        "pending",
        "reserved",
        "size",
        "spilled",
    )

    def __init__(
        self, dag: DAG, header: RunHeader, nodes: dict[str, NodeState], encoded: dict[str, msgspec.Raw]
    ) -> None:
        self.header: RunHeader = header
        self.nodes: dict[str, NodeState] = nodes
        self._encoded = encoded
        self.size: int = 0
        self.reserved: int = 0
        self.active: dict[str, None] = {}
        self.active_by: dict[str | None, dict[str, None]] = {}
        self.live: int = 0
        self.failure_bytes: int = 0
        self.spilled: dict[str, None] = {}
        self.pending: dict[str, int] = {}
        for name, state in nodes.items():
            self.failure_bytes += state.failure_bytes
            if state.result_in is not None:
                self.spilled[name] = None
            if state.is_active:
                self.active[name] = None
                self.active_by.setdefault(state.by, {})[name] = None
                self.live += state.is_live
        for node in dag.nodes_with_scopes:
            if node.name in nodes and not nodes[node.name].status.is_terminal:
                pending = node.kind.pending(node, nodes)
                if pending is not None:
                    self.pending[node.name] = pending

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

    def encode(
        self, header: RunHeader, changed: Mapping[str, NodeState], gone: Collection[str] = ()
    ) -> tuple[bytes, dict[str, msgspec.Raw]]:
        """
        Encode the document as it will be with *header*, with the *changed* entries and without those that are *gone*.

        Returns:
            The document, and the encoded form of what changed, for `apply`.
        """
        fresh = {name: encode_entry(state) for name, state in changed.items()}
        entries = {HEADER: encode_entry(header), **self._encoded, **fresh}
        for name in gone:
            del entries[name]
        return encode_document(entries), fresh

    def apply(  # noqa: PLR0913, PLR0917  the parts of one commit
        self,
        header: RunHeader,
        changed: Mapping[str, NodeState],
        encoded: Mapping[str, msgspec.Raw],
        pending: Mapping[str, int],
        size: int,
        gone: Collection[str] = (),
    ) -> None:
        """Take over what a commit has made true."""
        self.header = header
        self.reserved = max(0, self.reserved - max(0, size - self.size))
        self.size = size
        for name, state in changed.items():
            before = self.nodes.get(name)
            if before is None:
                self.live += state.is_live
                self.failure_bytes += state.failure_bytes
            else:
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
        self.pending.update(pending)
        for name in gone:
            before = self.nodes[name]
            self.live -= before.is_live
            self.failure_bytes -= before.failure_bytes
            self._unlist(name, before.by)
            self.active.pop(name, None)
            self.spilled.pop(name, None)
            self.pending.pop(name, None)
            del self.nodes[name], self._encoded[name]

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


def run_from_document(dag: DAG, header: RunHeader, entries: Mapping[str, msgspec.Raw], source: str) -> Run:
    """
    Build the state from a document taken apart by `decode_document`.

    Raises:
        DocumentError: An entry is not readable (an unknown status is refused, never guessed), or does not belong to
            the DAG.
    """
    blank, blank_encoded, _ = blank_entries(dag)
    nodes, encoded = dict(blank), dict(blank_encoded)
    for name, raw in entries.items():
        if raw == blank_encoded.get(name):
            continue  # shared by all runs of the DAG
        if name not in blank and not _may_have(dag, name):
            raise DocumentError(
                f"{source} has an entry {name!r}, which its definition {header.definition} does not have; it was left "
                f"alone."
            )
        state = nodes[name] = decode_entry(name, raw, source)
        if state.node_type != dag.node_of(name).node_type:
            raise DocumentError(
                f"{source} has an entry {name!r} of the type {state.node_type!r}, and its definition "
                f"{header.definition} has a {dag.node_of(name).node_type} there; it was left alone."
            )
        encoded[name] = raw.copy()
    return Run(dag, header, nodes, encoded)


_blanks: "WeakKeyDictionary[DAG, tuple[dict[str, NodeState], dict[str, msgspec.Raw], int]]" = WeakKeyDictionary()


def blank_entries(dag: DAG) -> tuple[dict[str, NodeState], dict[str, msgspec.Raw], int]:
    """Entries of a run that has not begun, shared by all runs of *dag*, and the most bytes that these can come to."""
    found = _blanks.get(dag)
    if found is None:
        repeated = {name for node in dag.nodes_with_scopes if node.repeats for name in node.inner_nodes}
        nodes = {name: node.kind.blank(node) for name, node in dag.all_nodes.items() if name not in repeated}
        encoded = {name: encode_entry(state) for name, state in nodes.items()}
        size_max = sum(len(name) + len(raw) + 4 + dag.all_nodes[name].entry_growth for name, raw in encoded.items())
        found = _blanks[dag] = nodes, encoded, size_max
    return found


def _may_have(dag: DAG, entry: str) -> bool:
    try:
        dag.node_of(entry)
    except KeyError:
        return False
    return True
