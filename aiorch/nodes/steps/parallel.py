"""The step of a `Parallel`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, WithJsonSchema

from aiorch.model.dag import DAG, Node
from aiorch.model.enums import OnFailure
from aiorch.model.findings import Key
from aiorch.nodes.parallel import Parallel
from aiorch.steps import LANGUAGE_VERSION, FailureTypes, Given, Retries, Seconds, WorkingStep, retry_policies

Branches = Annotated[
    list[Any],
    Field(min_length=1),
    WithJsonSchema({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Branch"}}),
]


class ParallelStep(WorkingStep):
    """Runs branches at the same time, and goes on when all branches have ended."""

    type: Literal["Parallel"] = Field(description="Branches at the same time.")
    branches: Branches = Field(description="DAGs that run at the same time, each with its own `start` and `steps`.")
    on_failure: Annotated[OnFailure, Strict(False)] = Field(
        OnFailure.FAIL_FAST, description="When a branch fails: cancel the remaining branches, or wait for them."
    )

    timeout: Given[Seconds] = Field(None, description="Longest duration of one try in seconds.", examples=[3600])
    retry: Given[Retries] = Field(
        None,
        description="Further tries of all branches after a failure; by default none.",
        examples=[{"max_attempts": 2}],
    )

    @classmethod
    def find_scopes(cls, data: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
        """Yield the branches."""
        if isinstance(data.get("branches"), list):
            for index, branch in enumerate(data["branches"]):
                yield ("branches", index), branch

    @classmethod
    def failure_types(cls, data: Mapping[str, Any]) -> FailureTypes:
        """Return the types of failures of the step itself; its `on` also covers the failure at the root."""
        return FailureTypes(super().failure_types(data).known | {"BranchFailed", "Timeout"})

    @classmethod
    def has_tries(cls, data: Mapping[str, Any]) -> bool:
        """Whether the branches may be tried again."""
        return data.get("retry") is not None

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Parallel`."""
        return Parallel(
            name,
            parent_dag,
            next=self.next,
            on_failure=self.on_failure,
            timeout=self.timeout,
            retry=retry_policies(self.retry),
            comment=self.comment or "",
        )

    def add_rules(self, node: Node) -> None:
        """Give the node the rules; a timeout and further tries are rules of version 2."""
        super().add_rules(node)
        if self.timeout is not None or self.retry is not None:
            node.schema_version = LANGUAGE_VERSION
