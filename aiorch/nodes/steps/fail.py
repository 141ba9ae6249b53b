"""The step of a `Fail`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from aiorch.model.dag import DAG, Node
from aiorch.nodes.fail import Fail
from aiorch.steps import Given, Step, Text


class FailStep(Step):
    """Fails as soon as the run gets there, with a type and a message of your own."""

    ends_chain: ClassVar[bool] = True

    type: Literal["Fail"] = Field(description="A failure; nothing is launched, and no step follows.")
    error: Text = Field(description="Type of the failure.", examples=["NoOrders"])
    message: Given[Annotated[str, Field(max_length=1000)]] = Field(None, description="Message of the failure.")

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Fail`."""
        return Fail(name, parent_dag, error=self.error, message=self.message or "", comment=self.comment or "")
