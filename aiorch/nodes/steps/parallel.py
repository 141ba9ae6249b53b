"""The step of a `Parallel`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, WithJsonSchema

from aiorch.model.dag import DAG, Node
from aiorch.model.enums import OnFailure
from aiorch.model.findings import Key
from aiorch.nodes.parallel import Parallel
from aiorch.steps import LinkedStep

Branches = Annotated[
    list[Any],
    Field(min_length=1),
    WithJsonSchema({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Branch"}}),
]


class ParallelStep(LinkedStep):
    """Runs branches at the same time, and goes on when all branches have ended."""

    type: Literal["Parallel"] = Field(description="Branches at the same time.")
    branches: Branches = Field(description="DAGs that run at the same time, each with its own `start` and `steps`.")
    on_failure: Annotated[OnFailure, Strict(False)] = Field(
        OnFailure.FAIL_FAST, description="When a branch fails: cancel the remaining branches, or wait for them."
    )

    @classmethod
    def find_scopes(cls, data: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
        """Yield the branches."""
        if isinstance(data.get("branches"), list):
            for index, branch in enumerate(data["branches"]):
                yield ("branches", index), branch

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Parallel`."""
        return Parallel(name, parent_dag, next=self.next, on_failure=self.on_failure, comment=self.comment or "")
