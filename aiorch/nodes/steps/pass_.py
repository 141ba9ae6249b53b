"""The step of a `Pass`."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from aiorch.expressions.values import has_expressions, value_of
from aiorch.model.dag import DAG, Node
from aiorch.nodes.pass_ import Pass
from aiorch.steps import LANGUAGE_VERSION, ExpressionPlace, LinkedStep


class PassStep(LinkedStep):
    """Completes at once, with a value from the definition."""

    type: Literal["Pass"] = Field(description="A value; nothing is launched.")
    result: Any = Field(
        None, description="The result of the step: any JSON, with expressions.", examples=[{"region": "europe-west1"}]
    )

    @classmethod
    def find_expressions(cls, data: Mapping[str, Any]) -> Iterator[ExpressionPlace]:
        """Yield the result, too."""
        yield from super().find_expressions(data)
        if "result" in data:
            yield ExpressionPlace(("result",), data["result"])

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Pass`."""
        value = None
        if parent_dag.language_version >= LANGUAGE_VERSION and has_expressions(self.result):
            value = value_of(self.result, "result")
        return Pass(name, parent_dag, result=self.result, value=value, next=self.next, comment=self.comment or "")
