"""
A run with the changes of one fold on top, and the vocabulary in which the kinds of nodes decide.

A name identifies an entry. A node and its entry have the same name, unless the entry stands in a repeated scope:
``Resize[17].Convert`` is the entry of the node ``Convert`` in the 17th scope of ``Resize``.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from aiorch.core.run_events import RunEvent
from aiorch.model.dag import DAG, Node, Task
from aiorch.model.execution_kind import EndTold
from aiorch.model.failure import Failure
from aiorch.model.run import Run
from aiorch.model.run_document import NO_RESULT, NodeState, RunHeader
from aiorch.model.status import RunStatus, TaskStatus

N_co = TypeVar("N_co", bound=Node, covariant=True)


class At(msgspec.Struct, Generic[N_co], frozen=True, gc=False):
    """A place in a run: a node of the definition, and the name of one entry of the node."""

    node: N_co
    name: str

    def beside(self, node: Node) -> "At[Node]":
        """Return the place of *node*, which stands in the same scope."""
        return At(node, self.entry_of(node))

    def entry_of(self, node: Node) -> str:
        """Return the name of the entry of another node in the same scope."""
        return node.name if self.name == self.node.name else self._scope + node.name

    def around(self) -> "At[Node] | None":
        """Return the place of the node whose scope this one stands in, `None` on the first level of the DAG."""
        parent = self.node.parent_dag.parent_node
        if parent is None:
            return None
        if self.name == self.node.name:
            return At(parent, parent.name)
        outer, _, _ = self._scope.rpartition("[")
        is_repeated = outer == parent.name or outer.endswith(f".{parent.name}")
        return At(parent, outer if is_repeated else self._scope + parent.name)

    @property
    def _scope(self) -> str:
        return self.name.removesuffix(self.node.name)


class Process(msgspec.Struct, frozen=True):
    """The process that folds, and that launches the executions of its fold."""

    id: str
    """Random per start of the process."""

    can_launch: Callable[[Task], bool]
    """Whether this process can launch the task. A process that is about to end can launch no task."""

    awaits_events: bool = False
    """Whether completion events arrive in this process, so that waiting for the end of a lost call makes sense."""

    why_not: Callable[[Task], str | None] = lambda _: None
    """The reason why this process will never be able to launch the task, `None` when the process is about to end."""

    slots: Mapping[str, Callable[[], int]] = {}
    """By target type with a limit, the number of executions that this process may still start. The rest stays ready."""

    def awaits_event_of(self, task: Task) -> bool:
        """Whether an event will tell the end of the task's call although the calling process is gone."""
        return self.awaits_events and task.execution.end_told is EndTold.BY_EVENT


class Changes(msgspec.Struct):
    """The decisions of a fold. They take effect with the commit."""

    header: RunHeader
    nodes: dict[str, NodeState]
    """Entries that change or are added."""

    gone: tuple[str, ...]
    """Entries that are removed."""

    pending: dict[str, int]
    """By entry, the number of scopes that have still to end."""

    is_stale: bool = False
    """An event was of an attempt that the run does not know yet: the copy is old, and must be read again."""

    is_empty: bool = True
    """The run stays as it is: every fact in the events is committed already."""

    needs: Mapping[str, str] = {}
    """
    Results on which a decision depends and which the fold was not given: by entry, the id of the execution whose record
    holds the result. No decision was made; read the results and fold again.
    """


class NeedsResults(Exception):  # noqa: N818  an answer, not an error
    """A decision depends on results in execution records that the fold was not given."""

    def __init__(self, executions: Mapping[str, str]) -> None:
        self.executions = executions
        super().__init__(f"results of {', '.join(sorted(executions))}")


class Draft:
    """
    A run with the changes of a fold on top.

    Attributes:
        base: The run as committed; the draft never changes it.

        header, nodes, gone, pending: The changes so far, see `Changes`.

        live: Number of tasks in ``Starting`` or ``Running``, with the changes.

        failure_bytes: Bytes of the failures in the entries, with the changes.

        slots: By target type, the slots that are left since a task of the type has begun in this fold.
    """

    __slots__ = (
        "_agenda",
        "_results",
        "base",
        "dag",
        "failure_bytes",
        "gone",
        "header",
        "is_stale",
        "live",
        "nodes",
        "now",
        "pending",
        "process",
        "slots",
    )

    def __init__(self, dag: DAG, run: Run, now: datetime, process: Process, results: Mapping[str, msgspec.Raw]) -> None:
        self.dag: DAG = dag
        self.base: Run = run
        self.now: datetime = now
        self.process: Process = process
        self.header: RunHeader = run.header
        self.nodes: dict[str, NodeState] = {}
        self.gone: dict[str, None] = {}
        self.pending: dict[str, int] = {}
        self.live: int = run.live
        self.failure_bytes: int = run.failure_bytes
        self.is_stale: bool = False
        self.slots: dict[str, int] = {}
        self._results = results
        self._agenda: list[tuple[Callable[[Draft, At[Node], Failure | None], None], At[Node], Failure | None]] = []

    def changes(self) -> Changes:
        """Return all decisions of this fold."""
        is_empty = not self.nodes and not self.gone and self.header is self.base.header
        header = self.header if is_empty else replace(self.header, updated_at=self.now)
        return Changes(header, self.nodes, tuple(self.gone) if self.gone else (), self.pending, self.is_stale, is_empty)

    # -- entries -------------------------------------------------------------------------------------------------

    def at(self, name: str) -> At[Any]:
        """Return the place of an entry. Raises: KeyError."""
        return At(self.dag.all_nodes.get(name) or self.dag.node_of(name), name)

    def state(self, name: str) -> NodeState:
        """Return an entry with the changes. Raises: KeyError."""
        return self.nodes.get(name) or self.base.nodes[name]

    def current(self, event: RunEvent) -> NodeState | None:
        """Return the entry of *event*, `None` if the event is of an earlier attempt or of one that is not known yet."""
        state = self.state(event.node)
        if event.attempt > state.attempt:
            self.is_stale = True
            return None
        return state if event.attempt == state.attempt > 0 else None

    def set(self, name: str, state: NodeState) -> None:
        """Change or add an entry."""
        before = self.nodes.get(name) or self.base.nodes.get(name)
        if before is None or (self.gone and self.gone.pop(name, False) is None):
            self.live += state.is_live
            self.failure_bytes += state.failure_bytes
        else:
            self.live += state.is_live - before.is_live
            if state.error is not before.error or state.failures is not before.failures:
                self.failure_bytes += state.failure_bytes - before.failure_bytes
        self.nodes[name] = state

    def drop(self, name: str) -> None:
        """Remove an entry that has no live execution."""
        before = self.state(name)
        assert not before.is_live, name
        self.failure_bytes -= before.failure_bytes
        self.nodes.pop(name, None)
        self.pending.pop(name, None)
        if name in self.base.nodes:
            self.gone[name] = None

    def running(self, at: At[Node]) -> None:
        """Give a node that waits for scopes the status ``Running``."""
        self.set(at.name, replace(self.state(at.name), status=TaskStatus.RUNNING, started_at=self.now))

    def end(self, name: str, status: TaskStatus, **changes: object) -> None:
        """Give an entry a terminal status, and clear all obligations of the entry."""
        self.set(
            name,
            replace(
                self.state(name),
                status=status,
                ended_at=self.now,
                by=None,
                ready_at=None,
                retry_at=None,
                waits_because=None,
                stop=False,
                unanswered=None,
                **changes,
            ),
        )

    def skip(self, name: str, committed: NodeState) -> None:
        """Skip a node: the entry is as committed, without the changes of this fold."""
        self.set(name, replace(committed, status=TaskStatus.SKIPPED, ready_at=None, waits_because=None))

    def result(self, name: str) -> msgspec.Raw:
        """
        Return the result of a completed entry, as JSON.

        Raises:
            NeedsResults: The record of the execution holds the result, and the fold was not given it.
        """
        state = self.state(name)
        if state.result_in is None:
            return state.result
        found = self._results.get(name)
        if found is None:
            raise NeedsResults({name: state.execution_id or ""})
        return found

    # -- scopes --------------------------------------------------------------------------------------------------

    def pending_of(self, at: At[Node]) -> int:
        """Return the number of scopes that have to end before the node does."""
        count = self.pending.get(at.name)
        return self.base.pending[at.name] if count is None else count

    def count_down(self, at: At[Node]) -> int:
        """Count one more scope as ended, and return the number of scopes that are left."""
        left = self.pending.get(at.name)
        left = self.pending[at.name] = (self.base.pending[at.name] if left is None else left) - 1
        return left

    def enter(self, at: At[Node]) -> None:
        """Put a node on the agenda, before all nodes that are on the agenda already."""
        self._agenda.append((Draft._enter, at, None))

    def complete(self, at: At[Node], result: msgspec.Raw = NO_RESULT, result_in: str | None = None) -> None:
        """Complete a node with a result in the form that the entry keeps, and enter the node that follows."""
        self.end(at.name, TaskStatus.COMPLETED, error=None, result=result, result_in=result_in)
        self._pass_on(at)

    def fail(self, at: At[Node], failure: Failure) -> None:
        """Fail a node for good: halt the rest of the scope, and end the scope."""
        self.end(at.name, TaskStatus.FAILED, error=failure)
        self.halt(at.beside(node) for node in at.node.parent_dag.all_from(at.node.next_node))
        self._agenda.append((Draft._end_scope, at, failure))

    def halt(self, places: Iterable[At[Node]]) -> None:
        """
        Stop the nodes at *places*, and let none of them begin.

        An attempt that began in this fold is taken back: no commit holds the attempt, so it never existed.
        """
        for at in places:
            state = self.state(at.name)
            if not state.status.is_terminal:
                at.node.kind.halt(self, at, state, self.base.nodes.get(at.name))

    def halt_run(self, status: RunStatus, error: Failure) -> None:
        """Let a running run end: no node begins any more, and live tasks are stopped."""
        if self.header.status is RunStatus.RUNNING:
            self.header = replace(self.header, status=status, error=error)
            entries = self.base.nodes if not self.nodes else {**self.base.nodes, **self.nodes}
            self.halt(self.at(name) for name in entries if name not in self.gone)

    # -- the agenda ----------------------------------------------------------------------------------------------

    def work_off(self) -> None:
        """Work off all consequences of the last event, without recursion along chains or into scopes."""
        agenda = self._agenda
        while agenda:
            step, at, failure = agenda.pop()
            step(self, at, failure)
        if not self.live and self.header.status is not RunStatus.RUNNING:
            self._end_run()

    def _enter(self, at: At[Node], _: Failure | None) -> None:
        status = self.state(at.name).status
        if status is TaskStatus.NEW:
            at.node.kind.enter(self, at)
        elif status is TaskStatus.COMPLETED:  # only in a resumed run: the node was completed before
            self._pass_on(at)

    def _pass_on(self, at: At[Node]) -> None:
        following = at.node.next_node
        if following is None:
            self._agenda.append((Draft._end_scope, at, None))
        else:
            self._agenda.append((Draft._enter, at.beside(following), None))

    def _end_scope(self, at: At[Node], failure: Failure | None) -> None:
        """End the scope whose last node, or whose failed node, stands at *at*."""
        around = at.around()
        if around is not None:
            around.node.kind.scope_ended(self, around, at.node.parent_dag, failure)
        elif failure is not None:
            message = f"node {at.name!r} failed: {failure.message}"
            self.halt_run(RunStatus.FAILING, Failure.of(failure.type, message, failure.cause))
        elif self.header.status is RunStatus.RUNNING:
            self.header = replace(self.header, status=RunStatus.COMPLETED, ended_at=self.now)

    def _end_run(self) -> None:
        """End a run that was only waiting for its last live tasks."""
        if self.header.status is RunStatus.FAILING:
            self.header = replace(self.header, status=RunStatus.FAILED, ended_at=self.now)
        elif self.header.status is RunStatus.CANCELLING:
            self.header = replace(self.header, status=RunStatus.CANCELLED, ended_at=self.now)
