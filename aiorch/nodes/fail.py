"""`Fail`: the end of a chain by a failure with a type from the definition. A `Fail` needs no extra commit."""

from typing import Any

from msgspec.structs import replace

from aiorch.core.draft import At, Draft
from aiorch.core.kind import NodeKind
from aiorch.model.dag import DAG, Node
from aiorch.model.failure import Failure


class Fail(Node):
    """A node that fails as soon as the run gets there."""

    schema_version = 2

    def __init__(self, name: str, parent_dag: DAG, *, error: str, message: str = "", **node: Any) -> None:
        super().__init__(name, parent_dag, **node)
        self.error = error
        self.message = message


class FailKind(NodeKind[Fail]):
    """The decisions of a `Fail`, which fails in the fold that enters the node."""

    name = "Fail"

    def enter(self, draft: Draft, at: At[Fail]) -> None:
        """Fail with the type and the message of the step."""
        draft.set(at.name, replace(draft.state(at.name), started_at=draft.now))
        failure = replace(Failure.of(at.node.error, at.node.message), at=draft.now)
        draft.fail(at, failure.fitted(draft.failure_bytes))

    def caption(self, node: Fail) -> tuple[str, str]:
        """Return the type of the failure."""
        return self.name, node.error


FAIL = FailKind()
