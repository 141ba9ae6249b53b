"""`Parallel`: branches that run at the same time, joined when all branches have ended."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from msgspec.structs import replace

from aiorch.core.attempts import earlier_failures, next_try
from aiorch.core.draft import Draft
from aiorch.core.kind import Handler, NodeKind
from aiorch.core.run_events import RunEvent, TimerDue
from aiorch.errors import counted
from aiorch.model.dag import DAG, Launcher, Node
from aiorch.model.enums import OnFailure
from aiorch.model.failure import Failure
from aiorch.model.place import At, places_inside
from aiorch.model.retry import RetryPolicy
from aiorch.model.run_document import NodeState
from aiorch.model.scopes import ScopeNames
from aiorch.model.status import TaskStatus

_BLANK = NodeState("", "", TaskStatus.NEW)
_DECIDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED})


class Parallel(Node):
    """
    Branches that run at the same time, each a `DAG` of its own.

    Attributes:
        on_failure: Whether a failed branch stops the branches beside it.

        timeout: Longest duration of one try in seconds, `None` for no limit.
    """

    def __init__(
        self,
        name: str,
        parent_dag: DAG,
        *,
        on_failure: OnFailure = OnFailure.FAIL_FAST,
        timeout: float | None = None,
        retry: tuple[RetryPolicy, ...] = (),
        **node: Any,
    ) -> None:
        super().__init__(name, parent_dag, **node)
        self.on_failure = on_failure
        self.timeout = timeout
        if retry:
            self.retries: tuple[RetryPolicy, ...] = retry
            self.scope_names: ScopeNames = ScopeNames.TRY

    @property
    def branches(self) -> tuple[DAG, ...]:
        """The branches, in the order of the definition."""
        return self.scopes

    def execute(self, launcher: Launcher) -> None:
        """Start the nodes with which every branch begins at once."""
        for branch in self.branches:
            for node in branch.starts:
                node.execute(launcher)


def on_timer_due(draft: Draft, at: At[Parallel], _: TimerDue) -> None:
    """Begin the next try whose time has come, or end a try whose time is over."""
    state = draft.state(at.name)
    if state.due_at is None or state.due_at > draft.now:
        return
    if state.status is TaskStatus.RETRYING:
        _begin(draft, at, state.attempt + 1)
    elif state.status is TaskStatus.RUNNING and not state.stop:
        assert at.node.timeout is not None
        message = f"its branches did not end within the timeout of {at.node.timeout:g} s"
        _fail(draft, at, replace(Failure.of("Timeout", message), at=draft.now))


class ParallelKind(NodeKind[Parallel]):
    """The decisions of a `Parallel`: with `fail_fast` the first failure ends the node, else the last branch does."""

    name = "Parallel"
    handlers: ClassVar[Mapping[type[RunEvent], Handler]] = {TimerDue: on_timer_due}

    def blank(self, node: Parallel) -> NodeState:
        """Return the entry of a node in a run that has not begun, with the start of each branch."""
        branches = tuple({} if branch.start_node is None else {"start": branch.start_node} for branch in node.branches)
        return replace(super().blank(node), branches=branches)

    def pending(self, at: At[Parallel], entries: Mapping[str, NodeState]) -> int:
        """Return the number of branches that have not ended, or of executions that have to be stopped."""
        if entries[at.name].stop:
            return sum(place.name in entries and entries[place.name].is_live for place in places_inside(at, entries))
        return sum(not _has_ended(at, branch, entries) for branch in at.node.branches)

    def enter(self, draft: Draft, at: At[Parallel]) -> None:
        """Start all branches that an earlier run has not completed."""
        _begin(draft, at, 1 if at.node.retries else 0)

    def scope_ended(self, draft: Draft, at: At[Parallel], scope: DAG, failure: Failure | None) -> None:
        """Join when the last branch has ended; with `fail_fast`, fail at the first failure."""
        node, state = at.node, draft.state(at.name)
        if state.status is not TaskStatus.RUNNING or state.stop:
            return
        if failure is not None and node.on_failure is OnFailure.FAIL_FAST:
            _fail(draft, at, _branch_failed(draft, at, [scope]))
        elif not draft.count_down(at):
            waits = node.on_failure is OnFailure.WAIT
            failed = [branch for branch in node.branches if waits and _failed_in(draft, at, branch) is not None]
            if failed:
                _fail(draft, at, _branch_failed(draft, at, failed))
            else:
                _join(draft, at)

    def came_to_rest(self, draft: Draft, at: At[Parallel]) -> None:
        """Let one more try follow the failure, or a handler, or fail: no execution inside is live any more."""
        failure = draft.state(at.name).error
        assert failure is not None
        _handle(draft, at, failure)

    def halt(self, draft: Draft, at: At[Parallel], state: NodeState, committed: NodeState | None) -> None:
        """Cancel a node that began in this fold, if an inner node was decided in this fold; the inner node stays."""
        inner = (draft.state(place.name) for place in draft.inner(at))
        if _begins(state, committed) and any(each.status in _DECIDED or each.skipped for each in inner):
            draft.end(at.name, TaskStatus.CANCELLED)
        else:
            super().halt(draft, at, state, committed)

    def caption(self, node: Parallel) -> tuple[str, str]:
        """Return the number of branches."""
        return self.name, counted(len(node.branches), "branch", "branches")


def _begin(draft: Draft, at: At[Parallel], attempt: int) -> None:
    """Begin a try: the first with the entries of the run, a later one with entries of its own."""
    node = at.node
    due_at = None if node.timeout is None else draft.now + timedelta(seconds=node.timeout)
    draft.running(at, due_at, attempt=attempt, error=None)
    branches = node.branches
    if attempt > 1:
        draft.pending[at.name] = len(branches)
        for place in at.inner(lambda name: attempt if name == at.name else 0):
            draft.set(place.name, replace(place.node.kind.blank(place.node), node_name=place.name))
    elif draft.pending_of(at) < len(branches):
        branches = tuple(branch for branch in branches if not _has_ended(at, branch, draft.base.nodes))
    for branch in reversed(branches):
        draft.enter_level(branch, lambda inner: at.within(attempt, inner))
    if not branches:
        _join(draft, at)


def _join(draft: Draft, at: At[Parallel]) -> None:
    draft.finish(at, lambda: draft.known.scopes(at))


def _fail(draft: Draft, at: At[Parallel], failure: Failure) -> None:
    """Stop all branches; a handler or a further try follows only when no execution inside is live any more."""
    draft.halt(draft.inner(at))
    if draft.goes_on(at) and (at.node.catch or at.node.retries):
        live = sum(draft.state(place.name).is_live for place in draft.inner(at))
        if live:
            draft.set(at.name, replace(draft.state(at.name), stop=True, due_at=None, error=draft.kept(failure)))
            draft.pending[at.name] = live
            return
        _handle(draft, at, failure)
    else:
        draft.fail(at, failure)


def _handle(draft: Draft, at: At[Parallel], failure: Failure) -> None:
    state = draft.state(at.name)
    further = next_try(at.node, state, failure, state.attempt)
    if further is None or not draft.goes_on(at):
        draft.fail(at, failure)
        return
    delay_s, retried = further
    waiting = {"status": TaskStatus.RETRYING, "due_at": draft.now + timedelta(seconds=delay_s), "retried": retried}
    kept = draft.kept(failure)
    failures = earlier_failures(draft, state, kept)
    draft.set(at.name, replace(state, stop=False, error=kept, failures=failures, **waiting))
    draft.pending[at.name] = 0  # no branch of the failed try goes on
    if delay_s <= 0:
        _begin(draft, at, state.attempt + 1)


def _begins(state: NodeState, committed: NodeState | None) -> bool:
    """Whether the node began in this fold: only then is it open whether the node ends as ``Skipped``."""
    return state.status is not TaskStatus.NEW and (committed is None or committed.status is TaskStatus.NEW)


def _has_ended(at: At[Parallel], branch: DAG, entries: Mapping[str, NodeState]) -> bool:
    """Whether a branch has ended: its nodes have, or one has failed in a graph that fails at once."""
    attempt, fails_at_once = entries[at.name].attempt, branch.is_graph and branch.on_failure is OnFailure.FAIL_FAST
    has_ended = True
    for node in branch.nodes.values():
        # In a repeated scope, a node that has not begun may have no entry.
        state = entries.get(at.within(attempt, node).name, _BLANK)
        if fails_at_once and state.status is TaskStatus.FAILED and not state.caught:
            return True
        has_ended = has_ended and state.status.is_terminal
    return has_ended


def _failed_in(draft: Draft, at: At[Parallel], branch: DAG) -> At[Node] | None:
    """Return the first node of a branch with a failure that was not caught."""
    attempt = draft.state(at.name).attempt
    for node in branch.nodes.values():
        place = at.within(attempt, node)
        state = draft.state(place.name)
        if state.status is TaskStatus.FAILED and not state.caught:
            return place
    return None


def _branch_failed(draft: Draft, at: At[Parallel], failed: list[DAG]) -> Failure:
    first = _failed_in(draft, at, failed[0])
    assert first is not None
    error = draft.state(first.name).error
    assert error is not None
    of = counted(len(at.node.branches), "branch", "branches")
    message = f"{len(failed):,} of {of} failed, the first at node {first.name!r}: {error.text}"
    names = (error.type, *error.classes)
    return Failure.of("BranchFailed", message, first.name, classes=names)


PARALLEL = ParallelKind()
