"""
A run in memory: the committed entries, and the facts derived from them.

A run keeps the encoded form of every entry, so that a write of the document encodes the changed entries and copies the
rest.
"""

import copy
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from aiorch.errors import DocumentError
from aiorch.model.dag import DAG, Node
from aiorch.model.place import At
from aiorch.model.run_document import (
    HEADER,
    NO_SLOT,
    NodeState,
    RunHeader,
    decode_entry,
    encode_document,
    encode_entry,
)
from aiorch.model.scopes import ScopeNames
from aiorch.model.status import RunStatus, TaskStatus

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
"""A start whose document could grow larger is refused: above 5 MiB Cloud Storage uploads become resumable."""

INLINE_RESULT_BYTES_MAX = 1024
"""A larger result goes to the execution record."""

INLINE_DOCUMENT_BYTES_MAX = 2 * 1024 * 1024
"""A larger document keeps no further result."""


class Changes(msgspec.Struct):
    """The decisions of a fold. They take effect with the commit."""

    header: RunHeader
    nodes: dict[str, NodeState]
    """Entries that change or are added."""

    gone: tuple[str, ...]
    """Entries that are removed."""

    pending: dict[str, int]
    """By entry, the number of scopes that have still to end, see `Run.pending`."""

    joins: dict[str, int]
    """By entry, the number of nodes before it that have still to end, see `Run.joins`."""

    live: int
    """`Run.live` after the commit."""

    failure_bytes: int
    """`Run.failure_bytes` after the commit."""

    values: Mapping[str, bytes] = {}
    """Values that are too large for the document, by the names of their objects: they are written before it."""

    is_stale: bool = False
    """
    An event was of an attempt that the run does not know yet, or of an entry that there is not: the copy may be old,
    and must be read again.
    """

    is_empty: bool = True
    """The run stays as it is: every fact in the events is committed already."""

    needs: Mapping[str, str] = {}
    """
    Results on which a decision depends and which the fold was not given: by entry, the id of the execution whose record
    holds the result, or the name of an object. No decision was made; read the results and fold again.
    """


class Run:
    """
    One committed run document in memory, with derived facts.

    Mutable, and changed by the committer alone, after a commit: no method awaits between read and write.

    Attributes:
        header: The facts of the run as a whole.

        nodes: Entries by name.

        pending: By entry without a terminal status, the number of scopes that have to end before the node does.

        active: Tasks with an obligation: ready, ``Starting``, ``Running`` or ``Retrying``. In order.

        active_by: The same tasks by owner, under `None` those that no process has claimed.

        live: Number of tasks in ``Starting`` or ``Running``.

        size: Bytes of the document.

        reserved: Bytes of results that have room in the document, but may not be committed yet.

        failure_bytes: Bytes of the failures in the entries.

        due: Times of the timers that entries wait for, by name.

        joins: By name of a ``New`` entry that several nodes precede, the number of those that have not ended, or from
            which the token of a chain has still to come. In the same way for the end of a graph, which all of its nodes
            precede, under `DAG.end_name`.

        spilled: Nodes whose result is in the execution record. In order.
    """

    __slots__ = (
        "_encoded",
        "active",
        "active_by",
        "due",
        "failure_bytes",
        "header",
        "joins",
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
        self.due: dict[str, datetime] = {}
        blank, has_begun = blank_entries(dag), False
        for name, state in nodes.items():
            if state is blank.nodes.get(name):
                continue
            has_begun = True
            self.failure_bytes += state.failure_bytes
            if state.result_in is not None:
                self.spilled[name] = None
            if state.is_active:
                self.active[name] = None
                self.active_by.setdefault(state.by, {})[name] = None
                self.live += state.is_live
            if state.due_at is not None:
                self.due[name] = state.due_at
        self.pending: dict[str, int] = _pending(dag, nodes) if has_begun else dict(blank.pending)
        self.joins: dict[str, int] = _joins(dag, nodes) if has_begun else dict(blank.joins)

    @property
    def status(self) -> RunStatus:
        """Status of the run."""
        return self.header.status

    @property
    def owners(self) -> frozenset[str]:
        """The processes that own an entry of the run."""
        return frozenset(by for by in self.active_by if by is not None)

    def snapshot(self) -> "Run":
        """Return a copy of the present state, which no later commit changes."""
        copied = copy.copy(self)
        copied.nodes, copied.spilled = dict(self.nodes), dict(self.spilled)
        return copied

    def waits_for_process(self, dead: Container[str]) -> bool:
        """
        Whether no living process works on the run, as far as the entries tell.

        Args:
            dead: Processes that are known to be gone.
        """
        owed = [self.nodes[name] for name in self.active]
        return bool(owed) and all(
            state.waits_because != NO_SLOT and (state.by is None or state.by in dead) for state in owed
        )

    def has_room(self, result_bytes: int) -> bool:
        """Take room in the document for a result of this size. Return whether there was room."""
        if self.size + self.reserved + result_bytes > INLINE_DOCUMENT_BYTES_MAX:
            return False
        self.reserved += result_bytes
        return True

    def encode(
        self, header: RunHeader, changed: Mapping[str, NodeState], gone: Collection[str] = ()
    ) -> tuple[bytes, dict[str, msgspec.Raw]]:
        """
        Encode the document with *header* and the *changed* entries, without the entries that are *gone*.

        Returns:
            The document, and the encoded form of the changed entries, for `apply`.
        """
        fresh = {name: encode_entry(state) for name, state in changed.items()}
        entries = {HEADER: encode_entry(header), **self._encoded, **fresh}
        for name in gone:
            del entries[name]
        return encode_document(entries), fresh

    def apply(self, changes: Changes, encoded: Mapping[str, msgspec.Raw], size: int) -> None:
        """
        Take over the changes of a commit.

        Args:
            changes: The changes of a fold of this run, as it is now.

            encoded: The encoded form of the changed entries, from `encode`.

            size: Bytes of the document.
        """
        self.header, self.live, self.failure_bytes = changes.header, changes.live, changes.failure_bytes
        self.reserved = max(0, self.reserved - max(0, size - self.size))
        self.size = size
        nodes, active, due = self.nodes, self.active, self.due
        for name, state in changes.nodes.items():
            if not state.is_active:
                if name in active:
                    del active[name]
                    self._unlist(name)
                if state.result_in is not None:
                    self.spilled[name] = None
            elif name not in active:
                active[name] = None
                self.active_by.setdefault(state.by, {})[name] = None
            elif state.by != nodes[name].by:
                self._unlist(name)
                self.active_by.setdefault(state.by, {})[name] = None
            if state.due_at is not None:
                due[name] = state.due_at
            elif due:
                due.pop(name, None)
        nodes.update(changes.nodes)
        self._encoded.update(encoded)
        self.pending.update(changes.pending)
        self.joins.update(changes.joins)
        for name in changes.gone:
            self._unlist(name)
            for facts in (active, self.spilled, self.pending, due, self.joins):
                facts.pop(name, None)
            del nodes[name], self._encoded[name]

    def _unlist(self, name: str) -> None:
        """Take an entry, which is as before the commit, from those of its owner."""
        by = self.nodes[name].by
        names = self.active_by.get(by)
        if names is not None:
            names.pop(name, None)
            if not names:
                del self.active_by[by]


def _pending(dag: DAG, nodes: Mapping[str, NodeState]) -> dict[str, int]:
    """Return the initial `Run.pending`."""
    pending = {}
    for at in _places_with_scopes(dag, nodes):
        if not nodes[at.name].status.is_terminal:
            count = at.node.kind.pending(at, nodes)
            if count is not None:
                pending[at.name] = count
    return pending


def _joins(dag: DAG, nodes: Mapping[str, NodeState]) -> dict[str, int]:
    """Return the initial `Run.joins`."""
    if not dag.has_joins:
        return {}

    def open_among(before: Iterable[Node], prefix: str, to: Node | None = None) -> int:
        return sum(not _is_behind(each, nodes[prefix + each.name], to) for each in before)

    joins = {}
    for name, state in nodes.items():
        node = dag.node_of(name)
        level, prefix = node.parent_dag, name.removesuffix(node.name)
        if len(node.previous_nodes) > 1 and state.status is TaskStatus.NEW:
            joins[name] = open_among(node.previous_nodes, prefix, None if level.is_graph else node)
        if level.is_graph and node is level.starts[0]:
            joins[prefix + level.end_name] = open_among(level.nodes.values(), prefix)
    return joins


def _is_behind(node: Node, state: NodeState, to: Node | None) -> bool:
    """
    Whether a node has ended and no way leads from it to the node *to* any more.

    The token of a chain has still to pass the nodes that a resumed run has taken over.
    """
    if to is not None and state.ended_well and (state.went_to or node.next) == to.name:
        return False
    return state.status.is_terminal


def execution_key(nonce: str, node: str, attempt: int) -> str:
    """
    Return the id of one execution: 32 hex digits, known before the launch, the same for every launch.

    The id serves as trace id, idempotency key, name of the execution record and tail of a Dataflow job name.
    """
    return sha256(f"{nonce}/{attempt}/{node}".encode()).hexdigest()[:32]


def run_from_document(dag: DAG, header: RunHeader, entries: Mapping[str, msgspec.Raw], source: str) -> Run:
    """
    Build the run from a document that `decode_document` has taken apart.

    Raises:
        NewerSchemaError: An entry has a status that a newer aiorch has added.

        DocumentError: An entry is not readable, or does not belong to the DAG.
    """
    blank = blank_entries(dag)
    nodes, encoded = dict(blank.nodes), dict(blank.encoded)
    for name, raw in entries.items():
        if raw == blank.encoded.get(name):
            continue  # shared by all runs of the DAG
        try:
            node = dag.node_of(name)
        except KeyError:
            raise DocumentError(
                f"{source} has an entry {name!r}, which the definition {header.definition} does not have; the document "
                f"was left alone."
            ) from None
        state = nodes[name] = decode_entry(name, raw, source)
        if state.node_type != node.node_type:
            raise DocumentError(
                f"{source} has an entry {name!r} of the type {state.node_type!r}, and the definition "
                f"{header.definition} has a {node.node_type} there; the document was left alone."
            )
        encoded[name] = raw.copy()
    return Run(dag, header, nodes, encoded)


class BlankEntries(NamedTuple):
    """The entries of a run that has not begun, shared by all runs of a DAG, and the most that they may grow to."""

    nodes: dict[str, NodeState]
    encoded: dict[str, msgspec.Raw]
    pending: dict[str, int]
    joins: dict[str, int]

    entries_max: int
    """Entries after all tries of each `Parallel`."""

    size_max: int
    """Bytes of these entries."""


_blanks: "WeakKeyDictionary[DAG, BlankEntries]" = WeakKeyDictionary()


def blank_entries(dag: DAG) -> BlankEntries:
    """Return the entries of a run of *dag* that has not begun."""
    found = _blanks.get(dag)
    if found is None:
        nodes = {name: node.kind.blank(node) for name, node in dag.plain_nodes.items()}
        encoded = {name: encode_entry(state) for name, state in nodes.items()}
        derived = _pending(dag, nodes), _joins(dag, nodes)
        found = _blanks[dag] = BlankEntries(nodes, encoded, *derived, *_most(dag, encoded))
    return found


def _most(dag: DAG, encoded: Mapping[str, msgspec.Raw]) -> tuple[int, int]:
    """Return the number of entries after all tries, and their bytes: a product of tries stops far above every limit."""
    inside: dict[Node | None, tuple[int, int]] = {None: (1, 0)}  # the entries of each node inside, and their prefix
    entries = size = 0
    for name, raw in encoded.items():  # a node comes before the nodes in its scopes
        node = dag.all_nodes[name]
        tries, prefix = inside[node.parent_dag.parent_node]
        entries += tries
        size += tries * (2 * prefix + len(name) + len(raw) + 4 + node.entry_growth)  # an entry repeats its name
        if node.scope_names is ScopeNames.TRY:
            prefix += len(node.scope_names.scope(name, node.tries_max))
            tries = min(tries * node.tries_max, DOCUMENT_BYTES_MAX)
        if node.scopes:
            inside[node] = tries, prefix
    return entries, size


def _places_with_scopes(dag: DAG, entries: Mapping[str, NodeState]) -> Iterator[At[Node]]:
    """Yield the places of the entries whose node has scopes."""
    plain = dag.plain_nodes
    for node in dag.nodes_with_scopes:
        if node.name in plain:
            yield At(node, node.name)
    if len(entries) > len(plain):  # the rest stands in repeated scopes
        for name in entries:
            if name not in plain and (node := dag.node_of(name)).scopes:
                yield At(node, name)
