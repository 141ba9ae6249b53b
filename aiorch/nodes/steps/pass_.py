"""The step of a `Pass`."""

from typing import Any, Literal

from pydantic import Field

from aiorch.model.dag import DAG, Node
from aiorch.nodes.pass_ import Pass
from aiorch.steps import LinkedStep


class PassStep(LinkedStep):
    """Completes at once, with a value from the definition."""

    type: Literal["Pass"] = Field(description="A value; nothing is launched.")
    result: Any = Field(None, description="The result of the step: any JSON.", examples=[{"region": "europe-west1"}])

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Pass`."""
        return Pass(name, parent_dag, result=self.result, next=self.next, comment=self.comment or "")
