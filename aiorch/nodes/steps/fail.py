"""The step of a `Fail`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from aiorch.expressions.values import has_expressions, value_of
from aiorch.model.dag import DAG, Node
from aiorch.model.findings import Finding, Hints, shown
from aiorch.nodes.fail import Fail
from aiorch.steps import LANGUAGE_VERSION, ExpressionPlace, FailureTypes, Given, LinkedStep, Text

OF_THE_ENGINE = ("Cancelled", "Interrupted", "Lost")
"""Types of failures that no step may have as its own: the engine treats them in a way of their own."""


class FailStep(LinkedStep):
    """Fails as soon as the run gets there, with a type and a message of your own."""

    names_next: ClassVar[bool] = False
    schema_rules: ClassVar[JsonDict] = {
        "if": {"not": {"required": ["when"]}},
        "then": {"properties": {"end": {"const": False}}, "not": {"required": ["next"]}},
    }

    type: Literal["Fail"] = Field(description="A failure; nothing is launched, and no step follows.")
    error: Text = Field(description="Type of the failure.", examples=["NoOrders"])
    message: Given[Annotated[str, Field(max_length=1000)]] = Field(
        None, description="Message of the failure, with expressions."
    )

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """Yield the problem of a type that only the engine gives to failures."""
        if data.get("error") in OF_THE_ENGINE:
            message = f"{shown(data['error'])} is a type that only aiorch itself gives to failures; choose another name"
            yield Finding(("error",), message, at_value=True)

    @classmethod
    def find_expressions(cls, data: Mapping[str, Any]) -> Iterator[ExpressionPlace]:
        """Yield the message, too."""
        yield from super().find_expressions(data)
        if "message" in data:
            yield ExpressionPlace(("message",), data["message"])

    @classmethod
    def failure_types(cls, data: Mapping[str, Any]) -> FailureTypes:
        """Return the type that the step names, too."""
        own = {data["error"]} if isinstance(data.get("error"), str) else set()
        return FailureTypes(super().failure_types(data).known | own)

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Fail`."""
        value, message = None, self.message or ""
        if parent_dag.language_version >= LANGUAGE_VERSION and has_expressions(message):
            value = value_of(message, "message")
        return Fail(
            name,
            parent_dag,
            error=self.error,
            message=message,
            value=value,
            next=self.next,
            comment=self.comment or "",
        )
