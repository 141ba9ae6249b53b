"""`Fail`: the end of a chain by a failure with a type from the definition. A `Fail` needs no extra commit."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from aiorch.core.draft import Draft
from aiorch.core.kind import NodeKind
from aiorch.model.dag import DAG, Node, Value
from aiorch.model.failure import Failure
from aiorch.model.place import At


class Fail(Node):
    """A node that fails as soon as the run gets there."""

    schema_version = 2

    def __init__(
        self,
        name: str,
        parent_dag: DAG,
        *,
        error: str,
        message: str = "",
        value: Value | None = None,
        **node: Any,
    ) -> None:
        super().__init__(name, parent_dag, **node)
        self.error = error
        self.message = message
        self.value = value

    @property
    def may_end_well(self) -> bool:
        """Whether the DAG may end with this node and without a failure: only where a condition may skip the node."""
        return self.when is not None and super().may_end_well

    def values(self) -> Iterator[Value]:
        """Yield the values of the definition, the message among them."""
        yield from super().values()
        if self.value is not None:
            yield self.value


class FailKind(NodeKind[Fail]):
    """The decisions of a `Fail`, which fails in the fold that enters the node."""

    name = "Fail"

    def enter(self, draft: Draft, at: At[Fail]) -> None:
        """Fail with the type and the message of the step."""
        draft.set(at.name, replace(draft.state(at.name), started_at=draft.now))
        message = at.node.message if at.node.value is None else str(draft.evaluate(at, at.node.value))
        draft.fail(at, replace(Failure.of(at.node.error, message), at=draft.now))

    def caption(self, node: Fail) -> tuple[str, str]:
        """Return the type of the failure."""
        return self.name, node.error


FAIL = FailKind()
