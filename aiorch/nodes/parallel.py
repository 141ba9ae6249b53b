"""`Parallel`: branches that run at the same time, joined when all branches have ended."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from aiorch.core.draft import At, Draft
from aiorch.core.kind import NodeKind
from aiorch.errors import counted
from aiorch.model.dag import DAG, Launcher, Node
from aiorch.model.enums import OnFailure
from aiorch.model.failure import Failure
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus

_DECIDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED})


class Parallel(Node):
    """Branches that run at the same time, each a `DAG` of its own."""

    def __init__(self, name: str, parent_dag: DAG, *, on_failure: OnFailure = OnFailure.FAIL_FAST, **node: Any) -> None:
        super().__init__(name, parent_dag, **node)
        self.on_failure = on_failure

    @property
    def branches(self) -> tuple[DAG, ...]:
        """The branches, in the order of the definition."""
        return self.scopes

    def execute(self, launcher: Launcher) -> None:
        """Start the start node of every branch at once."""
        for branch in self.branches:
            branch.nodes[branch.start_node].execute(launcher)


class ParallelKind(NodeKind[Parallel]):
    """The decisions of a `Parallel`: with `fail_fast` the first failure ends the node, else the last branch does."""

    name = "Parallel"

    def blank(self, node: Parallel) -> NodeState:
        """Return the entry of a node in a run that has not begun, with the start of each branch."""
        branches = tuple({"start": branch.start_node} for branch in node.branches)
        return replace(super().blank(node), branches=branches)

    def pending(self, node: Parallel, entries: Mapping[str, NodeState]) -> int:
        """Return the number of branches that have not ended."""
        return sum(not _has_ended(branch, entries) for branch in node.branches)

    def enter(self, draft: Draft, at: At[Parallel]) -> None:
        """Start all branches that an earlier run has not completed."""
        draft.running(at)
        pending, branches = draft.pending_of(at), at.node.branches
        if pending < len(branches):
            branches = tuple(branch for branch in branches if not _has_ended(branch, draft.base.nodes))
        for branch in reversed(branches):
            draft.enter(at.beside(branch.nodes[branch.start_node]))
        if not pending:
            draft.complete(at)

    def scope_ended(self, draft: Draft, at: At[Parallel], scope: DAG, failure: Failure | None) -> None:
        """Join when the last branch has ended; with `fail_fast`, fail at the first failure."""
        node = at.node
        if draft.state(at.name).status is not TaskStatus.RUNNING:
            return
        if failure is not None and node.on_failure is OnFailure.FAIL_FAST:
            draft.halt(at.beside(inner) for inner in node.inner_nodes.values())
            draft.fail(at, _branch_failed(draft, at, [scope]))
        elif not draft.count_down(at):
            failed = [branch for branch in node.branches if not _has_completed(draft, at, branch)]
            if failed:
                draft.fail(at, _branch_failed(draft, at, failed))
            else:
                draft.complete(at)

    def halt(self, draft: Draft, at: At[Parallel], state: NodeState, committed: NodeState | None) -> None:
        """Cancel a node that began in this fold, if an inner node was decided in this fold; the inner node stays."""
        inner = (draft.state(at.entry_of(node)).status for node in at.node.inner_nodes.values())
        if _begins(state, committed) and any(status in _DECIDED for status in inner):
            draft.end(at.name, TaskStatus.CANCELLED)
        else:
            super().halt(draft, at, state, committed)

    def caption(self, node: Parallel) -> tuple[str, str]:
        """Return the number of branches."""
        return self.name, counted(len(node.branches), "branch", "branches")


def _begins(state: NodeState, committed: NodeState | None) -> bool:
    """Whether the node began in this fold: only then is it open whether the node ends as ``Skipped``."""
    return state.status is TaskStatus.RUNNING and (committed is None or committed.status is TaskStatus.NEW)


def _has_ended(branch: DAG, entries: Mapping[str, NodeState]) -> bool:
    return all(entries[name].status.is_terminal for name in branch.nodes)


def _has_completed(draft: Draft, at: At[Parallel], branch: DAG) -> bool:
    """Whether a branch that has ended reached one of the nodes that end the branch."""
    for node in branch.ends:  # noqa: SIM110  no generator: a wide Parallel has thousands of branches
        if draft.state(at.entry_of(node)).status is TaskStatus.COMPLETED:
            return True
    return False


def _branch_failed(draft: Draft, at: At[Parallel], failed: list[DAG]) -> Failure:
    places = (at.beside(node) for node in failed[0].nodes.values())
    first = next(place for place in places if draft.state(place.name).status is not TaskStatus.COMPLETED)
    error = draft.state(first.name).error
    why = f"node {first.name!r}: {error.text}" if error else f"node {first.name!r}"
    of = counted(len(at.node.branches), "branch", "branches")
    message = f"{len(failed):,} of {of} failed, the first at {why}"
    return Failure.of("BranchFailed", message, first.name).fitted(draft.failure_bytes)


PARALLEL = ParallelKind()
