"""The step of a `Choice`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from aiorch.expressions.values import condition_of
from aiorch.model.dag import DAG, Node
from aiorch.model.findings import Finding, Hints
from aiorch.nodes.choice import Choice, Option
from aiorch.steps import Condition, ExpressionPlace, FailureTypes, Given, Link, Model, Step


class OptionModel(Model):
    """One option of a `Choice`."""

    when: Condition = Field(description="Condition under which the option is chosen.")
    next: str = Field(description="Name of the step that follows then.")


class ChoiceStep(Step):
    """Chooses the step that follows: that of the first option whose condition is true."""

    names_next: ClassVar[bool] = False
    schema_rules: ClassVar[JsonDict] = {"not": {"required": ["when"]}}

    type: Literal["Choice"] = Field(description="A choice of the following step; nothing is launched.")
    choices: Annotated[list[OptionModel], Field(min_length=1)] = Field(
        description="The options in the order in which they are tried.",
        examples=[[{"when": "results.Load.rows > 0", "next": "Ship"}]],
    )
    default: Given[str] = Field(
        None, description="Name of the step that follows when no condition is true; without it the step fails then."
    )

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """Yield the keys that a `Choice` does not have although other steps have them."""
        for key in ("next", "end"):
            if key in data:
                message = "a `Choice` has no `next` and no `end`: name the steps in `choices` and `default`"
                yield Finding((key,), message)
        if "when" in data:
            yield Finding(("when",), "a `Choice` has no `when` of its own: add the condition to its `choices`")

    @classmethod
    def find_links(cls, data: Mapping[str, Any]) -> Iterator[Link]:
        """Yield the steps of the options, and the default."""
        for index, option in _options(data):
            if isinstance(option.get("next"), str):
                yield Link(("choices", index, "next"), option["next"])
        if isinstance(data.get("default"), str):
            yield Link(("default",), data["default"])

    @classmethod
    def find_expressions(cls, data: Mapping[str, Any]) -> Iterator[ExpressionPlace]:
        """Yield the conditions of the options."""
        for index, option in _options(data):
            if "when" in option:
                yield ExpressionPlace(("choices", index, "when"), option["when"], is_bare=True)

    @classmethod
    def failure_types(cls, data: Mapping[str, Any]) -> FailureTypes:
        """Return the type of the failure without a true condition, too."""
        return FailureTypes(super().failure_types(data).known | {"NoChoiceMatched"})

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Choice`."""
        options = tuple(Option(condition_of(each.when), each.next) for each in self.choices)
        return Choice(name, parent_dag, options=options, default=self.default, comment=self.comment or "")


def _options(data: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the options of a step as written that are mappings, each with its index."""
    given = data.get("choices")
    for index, option in enumerate(given) if isinstance(given, list) else ():
        if isinstance(option, dict):
            yield index, option
