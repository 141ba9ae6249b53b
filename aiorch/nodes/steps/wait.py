"""The step of a `Wait`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, WithJsonSchema
from pydantic.config import JsonDict

from aiorch.expressions.values import value_of
from aiorch.model.dag import DAG, Node
from aiorch.model.findings import Finding, Hints, shown
from aiorch.nodes.wait import SECONDS_MAX, Wait, as_time
from aiorch.steps import ExpressionPlace, WorkingStep, needs_one_of

_WITH_EXPRESSION: JsonDict = {"type": "string", "pattern": r"\$\{"}
_SECONDS: JsonDict = {"type": "number", "minimum": 0, "maximum": SECONDS_MAX}


class WaitStep(WorkingStep):
    """Goes on later: after a number of seconds, or at a time."""

    schema_rules: ClassVar[JsonDict] = {"oneOf": needs_one_of("seconds", "until")}

    type: Literal["Wait"] = Field(description="A pause; nothing is launched, and no process is needed meanwhile.")
    seconds: Annotated[Any, WithJsonSchema({"anyOf": [_SECONDS, _WITH_EXPRESSION]})] = Field(
        None, description="Seconds to wait, 0 to 366 days; may be an expression.", examples=[3600, "${ input.pause }"]
    )
    until: Annotated[Any, WithJsonSchema({"type": "string"})] = Field(
        None,
        description="Time at which the run goes on, with a time zone; may be an expression. A past time: at once.",
        examples=["2026-12-01T08:00:00+01:00", "${ input.due }"],
    )

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """Yield the problems of `seconds` and `until`: exactly one of them is given, and a literal one is in range."""
        given = [key for key in ("seconds", "until") if key in data]
        if len(given) != 1:
            both = " and ".join(f"`{key}`" for key in given)
            message = f"a Wait has either `seconds` or `until`, and this one has {both or 'neither'}"
            yield Finding((), message)
            return
        key, value = given[0], data[given[0]]
        if isinstance(value, str) and "${" in value:
            return
        if key == "seconds":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= SECONDS_MAX:
                message = f"must be a number of seconds from 0 to {SECONDS_MAX} (366 days), not {shown(value)}"
                yield Finding((key,), message, at_value=True)
        elif not isinstance(value, str) or as_time(value) is None:
            message = f"must be a time with a time zone, e.g. 2026-12-01T08:00:00+01:00, not {shown(value)}"
            yield Finding((key,), message, at_value=True)

    @classmethod
    def find_expressions(cls, data: Mapping[str, Any]) -> Iterator[ExpressionPlace]:
        """Yield the duration and the time, too."""
        yield from super().find_expressions(data)
        for key in ("seconds", "until"):
            if key in data:
                yield ExpressionPlace((key,), data[key])

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """Return the `Wait`."""
        is_until = "until" in self.model_fields_set
        due = value_of(self.until, "until") if is_until else value_of(self.seconds, "seconds")
        return Wait(name, parent_dag, due=due, is_until=is_until, next=self.next, comment=self.comment or "")
