"""A run with the changes of one fold on top, and the vocabulary in which the kinds of nodes decide."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from aiorch.core.run_events import RunEvent
from aiorch.core.values import NeedsResults as NeedsResults  # noqa: PLC0414  a word of the vocabulary
from aiorch.core.values import Values, encode_value
from aiorch.expressions.errors import ExpressionError
from aiorch.model import names
from aiorch.model.dag import DAG, Catch, Node, Task, Value
from aiorch.model.enums import OnFailure
from aiorch.model.execution_kind import EndTold
from aiorch.model.failure import MESSAGE_CHARS_WIDE, WIDE_RUN_NODES, Failure
from aiorch.model.place import At as At  # noqa: PLC0414  a word of the vocabulary, which kinds import from here
from aiorch.model.place import places_inside
from aiorch.model.retry import covers, is_among
from aiorch.model.run import INLINE_DOCUMENT_BYTES_MAX, INLINE_RESULT_BYTES_MAX, Changes, Run
from aiorch.model.run_document import NO_RESULT, Final, NodeState, RunHeader
from aiorch.model.scopes import ScopeNames
from aiorch.model.status import RunStatus, TaskStatus

_Step = Callable[["Draft", At[Node], Failure | None], None]
"""A step of the agenda: a decision about a place, after a failure or after none."""

EVALUATIONS_MAX = 10_000
"""Values of the definition that one fold works out; the nodes that are left begin in the next fold."""


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


class Draft:
    """
    A run with the changes of a fold on top.

    Attributes:
        base: The run as committed; the draft never changes it.

        header, nodes, gone, pending, joins, values: The changes so far, see `Changes`.

        live: Number of tasks in ``Starting`` or ``Running``, with the changes.

        failure_bytes: Bytes of the failures in the entries, with the changes.

        slots: By target type, the slots that are left since a task of the type has begun in this fold.
    """

    __slots__ = (
        "_agenda",
        "_decoded",
        "_evaluated",
        "_kept_bytes",
        "_results",
        "base",
        "dag",
        "failure_bytes",
        "gone",
        "header",
        "is_stale",
        "joins",
        "live",
        "nodes",
        "now",
        "pending",
        "process",
        "slots",
        "values",
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
        self.joins: dict[str, int] = {}
        self.values: dict[str, bytes] = {}
        self.live: int = run.live
        self.failure_bytes: int = run.failure_bytes
        self.is_stale: bool = False
        self.slots: dict[str, int] = {}
        self._results = results
        self._decoded: dict[str, Any] = {}
        self._evaluated = 0
        self._kept_bytes = 0
        self._agenda: list[tuple[_Step, At[Node], Failure | None]] = []

    def changes(self) -> Changes:
        """Return all decisions of this fold."""
        is_empty = not self.nodes and not self.gone and self.header is self.base.header
        header = self.header if is_empty else replace(self.header, updated_at=self.now)
        return Changes(
            header,
            self.nodes,
            tuple(self.gone) if self.gone else (),
            self.pending,
            self.joins,
            self.live,
            self.failure_bytes,
            self.values,
            self.is_stale,
            is_empty,
        )

    # -- entries -------------------------------------------------------------------------------------------------

    def at(self, name: str) -> At[Any]:
        """Return the place of an entry. Raises: KeyError."""
        return At(self.dag.all_nodes.get(name) or self.dag.node_of(name), name)

    def state(self, name: str) -> NodeState:
        """Return an entry with the changes. Raises: KeyError."""
        return self.nodes.get(name) or self.base.nodes[name]

    def has(self, name: str) -> bool:
        """Whether there is an entry, with the changes: those in repeated scopes come, and may go."""
        return name in self.nodes or (name in self.base.nodes and name not in self.gone)

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
            self.nodes[name] = state
            self._count_added(name)
        else:
            change = state.is_live - before.is_live
            self.live += change
            if change < 0 and self.dag.catches:
                self._count_live_down(self.at(name))
            if state.error is not before.error or state.failures is not before.failures:
                self.failure_bytes += state.failure_bytes - before.failure_bytes
        self.nodes[name] = state

    def _count_added(self, name: str) -> None:
        """Count the scopes of an entry that this fold adds, and the nodes before the entry: none of them has ended."""
        at = self.at(name)
        level, before = at.node.parent_dag, at.node.previous_nodes
        if len(before) > 1:
            self.joins[name] = len(before)
        if level.is_graph and at.node is level.starts[0]:
            self.joins[at.scope + level.end_name] = len(level.nodes)
        if at.node.scopes:
            pending = at.node.kind.pending(at, self.nodes)
            if pending is not None:
                self.pending[name] = pending

    def drop(self, name: str) -> None:
        """Remove an entry that has no live execution."""
        before = self.state(name)
        assert not before.is_live, name
        self.failure_bytes -= before.failure_bytes
        self.nodes.pop(name, None)
        self.pending.pop(name, None)
        self.joins.pop(name, None)
        if name in self.base.nodes:
            self.gone[name] = None

    def running(self, at: At[Node], due_at: datetime | None = None, **changes: object) -> None:
        """Give a node that waits for scopes or for a timer the status ``Running``."""
        running = {"status": TaskStatus.RUNNING, "started_at": self.now, "due_at": due_at}
        self.set(at.name, replace(self.state(at.name), **running, **changes))

    def end(self, name: str, status: TaskStatus, **changes: object) -> NodeState:
        """Give an entry a terminal status, and clear all obligations of the entry. Return the entry as it was."""
        before = self.state(name)
        self.set(
            name,
            replace(
                before,
                status=status,
                ended_at=self.now,
                by=None,
                ready_at=None,
                retry_at=None,
                due_at=None,
                waits_because=None,
                stop=False,
                unanswered=None,
                **changes,
            ),
        )
        return before

    def skip(self, name: str, committed: NodeState) -> None:
        """Skip a node: the entry is as committed, without the changes of this fold."""
        self.set(name, replace(committed, status=TaskStatus.SKIPPED, ready_at=None, due_at=None, waits_because=None))

    def _skip_all(self, places: Iterable[At[Node]]) -> None:
        """Skip the nodes at *places*, except those that a resumed run has taken over."""
        for at in places:
            state = self.state(at.name)
            if state.status is TaskStatus.NEW:
                self.skip(at.name, state)

    def inner(self, at: At[Node]) -> Iterable[At[Node]]:
        """Return the places of all entries inside the present try of a node, at any depth, a node before its scopes."""
        if not self.dag.has_indexed_scopes:
            return at.inner(lambda name: self.state(name).attempt)
        entries = ChainMap(self.nodes, self.base.nodes)
        return [place for place in places_inside(at, entries) if self.has(place.name)]

    # -- values --------------------------------------------------------------------------------------------------

    @property
    def known(self) -> Values:
        """The values that expressions read, with the changes."""
        return Values(self.header, self.state, self._results, self.values, self._decoded)

    def evaluate(self, at: At[Node], value: Value, **more: Any) -> Any:
        """
        Work out a value of the definition for a node.

        Args:
            at: The place of the node.

            value: The value, with its expressions.

            more: Values by name that only this value may read.

        Raises:
            ExpressionError: There is no value.

            NeedsResults: The value depends on results that the fold was not given.
        """
        self._evaluated += 1
        return value.evaluate(self.known.names(at, value.reads, **more))

    def keep(self, value: Any) -> tuple[msgspec.Raw, str | None]:
        """
        Return the form in which a document keeps a computed value: as JSON, or the name of the object that holds it.

        The name is made from the content, so that each try of a commit and each process names the same object.
        """
        if value is None:
            return NO_RESULT, None
        encoded = encode_value(value)
        size = self.base.size + self._kept_bytes + len(encoded)
        if len(encoded) <= INLINE_RESULT_BYTES_MAX and size <= INLINE_DOCUMENT_BYTES_MAX:
            self._kept_bytes += len(encoded)
            return msgspec.Raw(encoded), None
        name = names.value_object(names.RunId(self.header.run_id), encoded)
        self.values[name] = encoded
        return NO_RESULT, name

    def result(self, name: str) -> msgspec.Raw:
        """
        Return the result of a completed entry, as JSON.

        Raises:
            NeedsResults: The result is outside the document, and the fold was not given it.
        """
        return msgspec.Raw(self.known.encoded(name))

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

    def _left_before(self, at: At[Node], key: str) -> int:
        """Count the node at *at* as ended among those before an entry, and return the number that is left."""
        left = self.joins.get(key)
        left = self.base.joins.get(key, 1) if left is None else left
        before = self.base.nodes.get(at.name)
        if before is None or not before.status.is_terminal:  # else the committed count leaves the node out already
            left = self.joins[key] = left - 1
        return left

    def enter(self, at: At[Node]) -> None:
        """Put a node on the agenda, before all nodes that are on the agenda already."""
        self._agenda.append((Draft._enter, at, None))

    def enter_level(self, level: DAG, place_of: Callable[[Node], At[Node]]) -> None:
        """Put the nodes with which a level begins on the agenda; in a resumed run, those after the kept nodes."""
        if not level.is_graph:
            self._agenda.append((Draft._enter, place_of(level.starts[0]), None))
            return
        for node in reversed(level.nodes.values()):
            before = (place_of(each).name for each in node.previous_nodes)
            if all(self.state(name).status.is_terminal for name in before):
                self.enter(place_of(node))
        if all(self.state(place_of(node).name).status.is_terminal for node in level.nodes.values()):
            self._agenda.append((Draft._end_graph, place_of(level.ends[0]), None))

    def complete(
        self,
        at: At[Node],
        result: msgspec.Raw = NO_RESULT,
        result_in: str | None = None,
        *,
        went_to: str | None = None,
    ) -> None:
        """Complete a node with a result in the form that the entry keeps, and go on with the node that follows."""
        outcome = {"error": None, "result": result, "result_in": result_in, "went_to": went_to}
        before = self.end(at.name, TaskStatus.COMPLETED, **outcome)
        if not before.stop:  # else the run or the level ends, and no node follows
            self._leave(at, went_to or at.node.next)

    def finish(self, at: At[Node], own: Callable[[], Any] = lambda: None) -> None:
        """
        Complete a node that is no task, with the result that the step gives, if any.

        Args:
            at: The place of the node.

            own: Returns the node's own result, which the result of the step may read.
        """
        value = at.node.result_value
        result: tuple[msgspec.Raw, str | None] = NO_RESULT, None
        if value is not None:
            try:
                more = {"result": own()} if any(read.root == "result" for read in value.reads) else {}
                result = self.keep(self.evaluate(at, value, **more))
            except ExpressionError as error:
                self.fail(at, expression_failure(error))
                return
        self.complete(at, *result)

    def fail(self, at: At[Node], failure: Failure) -> None:
        """Fail a node for good: a handler follows if the step has one for the failure, else the level fails."""
        state = self.state(at.name)
        if state.stop and not at.node.scopes:  # the run or the level ends, and no handler follows
            self.end(at.name, TaskStatus.FAILED, error=self.kept(failure))
            return
        handler = self.handler_of(at, failure)
        if handler is None:
            self._fail_level(at, failure)
        elif handler.next is not None:
            self.end(at.name, TaskStatus.FAILED, error=self.kept(failure), caught=True, went_to=handler.next)
            self._leave(at, handler.next)
        else:
            assert handler.result is not None
            self.end(at.name, TaskStatus.FAILED, error=self.kept(failure), caught=True)
            try:
                result, result_in = self.keep(self.evaluate(at, handler.result))
            except ExpressionError as error:
                self.set(at.name, replace(self.state(at.name), caught=False))
                self._fail_level(at, expression_failure(error))
                return
            self.set(at.name, replace(self.state(at.name), result=result, result_in=result_in))
            self._leave(at, at.node.next)

    def handler_of(self, at: At[Node], failure: Failure) -> Catch | None:
        """Return the handler that follows a failure of a node, `None` if the level fails."""
        if not at.node.catch or not self.goes_on(at):
            return None
        return next((each for each in at.node.catch if covers(each.on, failure)), None)

    def goes_on(self, at: At[Node]) -> bool:
        """Whether nodes may still begin in the part of the run to which a node belongs: all others, or `finally`."""
        if at.node.name in self.dag.final_nodes:
            return self.header.final is not None and self.header.final.ended_at is None
        return self.header.status is RunStatus.RUNNING

    def kept(self, failure: Failure) -> Failure:
        """
        Return the part of a failure that an entry keeps: shorter in a wide run, and in a document with many failures.

        It keeps the names by which a node around may handle the failure, so that its length decides nothing.
        """
        if len(self.base.nodes) > WIDE_RUN_NODES:
            failure = failure.shortened(MESSAGE_CHARS_WIDE)
        fitted = replace(failure, classes=()).fitted(self.failure_bytes)
        names = (failure.type, *failure.classes)
        asked = tuple(name for name in names if name != fitted.type and is_among(name, self.dag.types_caught))
        return replace(fitted, classes=asked) if asked else fitted

    def _fail_level(self, at: At[Node], failure: Failure) -> None:
        self.end(at.name, TaskStatus.FAILED, error=self.kept(failure))
        level = at.node.parent_dag
        if level.is_graph and level.on_failure is OnFailure.WAIT:
            self._leave(at, None)
            return
        following = level.nodes.values() if level.is_graph else level.after(at.node)
        for node in following:
            if node is not at.node:
                self.halt(self._with_inner(at.beside(node)))
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

    def _with_inner(self, at: At[Node]) -> Iterable[At[Node]]:
        return (at, *self.inner(at)) if at.node.scopes else (at,)

    def halt_run(self, status: RunStatus, error: Failure) -> None:
        """Let a running run end: no node begins any more but those of `finally`, and live tasks are stopped."""
        if self.header.status is RunStatus.RUNNING:
            self.header = replace(self.header, status=status, error=error)
            self._halt_entries(lambda at: at.node.name not in self.dag.final_nodes)

    def _halt_entries(self, is_meant: Callable[[At[Node]], bool]) -> None:
        entries = self.base.nodes if not self.nodes else {**self.base.nodes, **self.nodes}
        places = [self.at(name) for name in entries if name not in self.gone]
        self.halt(at for at in places if is_meant(at))

    # -- the level `finally` -------------------------------------------------------------------------------------

    def halt_final(self, failure: Failure | None) -> None:
        """End the level `finally` before its nodes have ended."""
        final = self.header.final
        if final is not None and final.ended_at is None:
            self._end_final(failure)
            self._halt_entries(lambda at: at.node.name in self.dag.final_nodes)

    def forgo_final(self, failure: Failure) -> None:
        """Cancel the run without `finally`: the level is stopped if it has begun."""
        header = self.header
        if header.status.is_terminal:
            return
        if header.final is None:
            if self.dag.final is not None:
                outcome = _OUTCOMES.get(header.status, RunStatus.CANCELLED)
                self.header = replace(header, final=Final(outcome, self.now, ended_at=self.now))
                self._halt_entries(lambda at: at.node.name in self.dag.final_nodes)
            self.halt_run(RunStatus.CANCELLING, failure)
        elif header.final.ended_at is None:
            if header.status is RunStatus.RUNNING:
                self.header = replace(header, status=RunStatus.CANCELLING, error=failure)
            self.halt_final(None)

    def _begin_final(self, outcome: RunStatus, error: Failure | None) -> None:
        assert self.dag.final is not None
        due = None if self.dag.final.timeout is None else self.now + timedelta(seconds=self.dag.final.timeout)
        self.header = replace(self.header, final=Final(outcome, self.now, error), timeout_at=due)
        self.enter_level(self.dag.final, lambda node: At(node, node.name))

    def _end_final(self, failure: Failure | None) -> None:
        assert self.header.final is not None
        self.header = replace(self.header, final=replace(self.header.final, ended_at=self.now))
        if failure is not None and self.header.status is RunStatus.RUNNING:
            self.header = replace(self.header, status=RunStatus.FAILING, error=failure)

    # -- the agenda ----------------------------------------------------------------------------------------------

    def work_off(self) -> None:
        """Work off all consequences of the last event, without recursion along chains or into scopes."""
        agenda = self._agenda
        while True:
            while agenda:
                step, at, failure = agenda.pop()
                step(self, at, failure)
            if self.live or self.header.status.is_terminal or not self._end_run():
                return

    def _enter(self, at: At[Node], _: Failure | None) -> None:
        state = self.state(at.name)
        if state.status is TaskStatus.NEW:
            if self._evaluated >= EVALUATIONS_MAX:
                self.set(at.name, replace(state, due_at=self.now))
                return
            if state.due_at is not None:
                self.set(at.name, replace(state, due_at=None))
            try:
                if at.node.when is not None and not self.evaluate(at, at.node.when):
                    self._skip_by_condition(at)
                else:
                    at.node.kind.enter(self, at)
            except ExpressionError as error:
                self._skip_all(self.inner(at))
                self.fail(at, expression_failure(error))
        elif state.ended_well and not at.node.parent_dag.is_graph:  # only in a resumed run: it ended before
            self._leave(at, state.went_to or at.node.next)

    def _skip_by_condition(self, at: At[Node]) -> None:
        self.set(at.name, replace(self.state(at.name), status=TaskStatus.SKIPPED, skipped="when", ended_at=self.now))
        if at.node.scopes:
            self._skip_all(self.inner(at))
        self._leave(at, at.node.next)

    def _leave(self, at: At[Node], target: str | None) -> None:
        """Go on after a node that has ended: in a chain with the node *target*, `None` at the end of the chain."""
        node = at.node
        if node.parent_dag.is_graph:
            self._leave_in_graph(at)
            return
        step: _Step = Draft._end_scope
        place = at
        for following in node.following_nodes:
            if following.name == target:
                step, place = Draft._enter, at.beside(following)
            else:
                self._lose_way(at, following)
        self._agenda.append((step, place, None))

    def _lose_way(self, at: At[Node], following: Node) -> None:
        """Skip a node to which no way leads any more, since the node before it went a different way or was skipped."""
        lost = [(at, following)]
        while lost:
            before, node = lost.pop()
            place = before.beside(node)
            is_joined = len(node.previous_nodes) > 1 and self._left_before(before, place.name) > 0
            if self.state(place.name).status is TaskStatus.NEW and not is_joined:
                self._skip_all(self._with_inner(place))
                lost += [(place, each) for each in node.following_nodes]

    def _leave_in_graph(self, at: At[Node]) -> None:
        """Begin the nodes of a graph whose needs are met now, and skip those whose needs can be met no more."""
        ended = [at]
        while ended:
            at = ended.pop()
            is_met = self.state(at.name).ended_well
            for following in reversed(at.node.following_nodes):
                place = at.beside(following)
                left = len(following.previous_nodes) > 1 and self._left_before(at, place.name)
                if self.state(place.name).status is not TaskStatus.NEW:
                    continue
                if not is_met:
                    self._skip_all(self._with_inner(place))
                    ended.append(place)
                elif not left:
                    self.enter(place)
            if not self._left_before(at, at.scope + at.node.parent_dag.end_name):
                self._agenda.append((Draft._end_graph, at, None))

    def _end_graph(self, at: At[Node], _: Failure | None) -> None:
        """End a graph all of whose nodes have ended: with the first failure in the order of the definition, if any."""
        for node in at.node.parent_dag.nodes.values():
            state = self.state(at.entry_of(node))
            if state.status is TaskStatus.FAILED and not state.caught:
                self._end_scope(at.beside(node), state.error)
                return
        self._end_scope(at, None)

    def _end_scope(self, at: At[Node], failure: Failure | None) -> None:
        """End the scope whose last node, or whose failed node, stands at *at*."""
        level, around = at.node.parent_dag, at.around()
        if around is not None:
            is_of_try = around.node.scope_names is ScopeNames.TRY
            if not is_of_try or at == around.within(self.state(around.name).attempt, at.node):
                around.node.kind.scope_ended(self, around, level, failure)
            return
        if failure is not None:
            message = f"node {at.name!r} failed: {failure.message}"
            failure = Failure.of(failure.type, message, failure.cause)
        if level is self.dag.final:
            if failure is None:
                self._end_final(None)
            else:
                self.halt_final(failure)
        elif failure is not None:
            self.halt_run(RunStatus.FAILING, failure)
        elif self.header.status is RunStatus.RUNNING and self.header.final is None:
            self._complete_run(at)

    def _complete_run(self, at: At[Node]) -> None:
        """Work out the output of a run whose nodes have all ended; then `finally` follows, or the end of the run."""
        if self.dag.output is not None:
            try:
                output, output_in = self.keep(self.evaluate(at, self.dag.output))
            except ExpressionError as error:
                self.halt_run(RunStatus.FAILING, expression_failure(error))
                return
            self.header = replace(self.header, output=output, output_in=output_in)
        if self.dag.final is not None:
            self._begin_final(RunStatus.COMPLETED, None)
        else:
            self.header = replace(self.header, status=RunStatus.COMPLETED, ended_at=self.now)

    def _end_run(self) -> bool:
        """End a run in which nothing goes on, or begin `finally`. Return whether there is more to work off."""
        header, final = self.header, self.header.final
        outcome = _OUTCOMES.get(header.status)
        if final is None and self.dag.final is not None and outcome is not None:
            self._begin_final(outcome, header.error)
            return True
        if final is not None and final.ended_at is None:
            return False
        if outcome is None and final is not None:
            outcome = final.outcome
        if outcome is not None:
            self.header = replace(header, status=outcome, ended_at=self.now)
        return False

    def _count_live_down(self, at: At[Node]) -> None:
        """Count an execution as ended for the nodes around it that wait for its end to handle a failure."""
        around = at.around()
        while around is not None:
            state = self.state(around.name)
            if state.stop and state.status is TaskStatus.RUNNING and not self.count_down(around):
                self._agenda.append((Draft._come_to_rest, around, None))
            around = around.around()

    def _come_to_rest(self, at: At[Node], _: Failure | None) -> None:
        at.node.kind.came_to_rest(self, at)


def expression_failure(error: ExpressionError) -> Failure:
    """Return the failure of a step whose expression has no value."""
    return Failure.of("ExpressionError", str(error))


_OUTCOMES = {RunStatus.FAILING: RunStatus.FAILED, RunStatus.CANCELLING: RunStatus.CANCELLED}
