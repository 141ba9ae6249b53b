"""
`NodeKind`: the decisions of one kind of node.

A new kind is one module in `aiorch.nodes` with its step model in `aiorch.nodes.steps`. The fold, the run document and
the views ask the kind, and know none by name.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from msgspec.structs import replace

from aiorch.core.draft import Draft
from aiorch.core.run_events import RunEvent
from aiorch.model.dag import DAG, Node
from aiorch.model.failure import Failure
from aiorch.model.place import At
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus

N = TypeVar("N", bound=Node)

Handler = Callable[[Draft, At[Any], Any], None]
"""Applies an event to an entry."""


class NodeKind(Generic[N]):
    """
    The decisions of one kind of node: one object without state, which all nodes of the kind carry.

    Attributes:
        name: The `type` of steps in definitions, the `node_type` of entries in run documents.

        has_result: Whether a completed node has a result.

        handlers: By type of event, the function that applies an event to an entry.
    """

    name: ClassVar[str]
    has_result: ClassVar[bool] = False
    handlers: ClassVar[Mapping[type[RunEvent], Handler]] = {}

    def blank(self, node: N) -> NodeState:
        """Return the entry of a node in a run that has not begun."""
        return NodeState(node.name, self.name, TaskStatus.NEW, next=node.next)

    def pending(self, at: At[N], entries: Mapping[str, NodeState]) -> int | None:  # noqa: ARG002
        """
        Return the number of scopes that have to end before the node does, `None` for a node without scopes.

        Args:
            at: The node, whose entry is in no terminal status.

            entries: The entries of the run, by name.
        """
        return None

    def enter(self, draft: Draft, at: At[N]) -> None:
        """Let a node begin: complete, fail, or wait for an event or for scopes."""
        raise NotImplementedError

    def scope_ended(self, draft: Draft, at: At[N], scope: DAG, failure: Failure | None) -> None:
        """Apply the end of one scope of the node: well, or with a failure."""
        raise NotImplementedError

    def halt(self, draft: Draft, at: At[N], state: NodeState, committed: NodeState | None) -> None:  # noqa: ARG002
        """
        Stop a node, or let the node never begin, because the run or the branch ends.

        Args:
            draft: The run with the changes of this fold.

            at: The node, whose entry is in no terminal status.

            state: The entry with the changes.

            committed: The entry as committed, `None` for an entry that this fold has added.
        """
        committed = committed or replace(at.node.kind.blank(at.node), node_name=at.name)
        if committed.status is TaskStatus.NEW:
            draft.skip(at.name, committed)
        else:
            draft.end(at.name, TaskStatus.CANCELLED)

    def came_to_rest(self, draft: Draft, at: At[N]) -> None:
        """Handle the failure of a node that has waited until no execution inside was live: see `NodeState.stop`."""
        raise NotImplementedError

    def caption(self, node: N) -> tuple[str, str]:  # noqa: ARG002
        """Return the name of the kind, or a more precise one, and words for the work of the node."""
        return self.name, ""
