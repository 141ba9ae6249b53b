"""
The base of steps: the keys that steps share, the types of their values, and the hooks of a kind of step.

A kind of step is a subclass of `Step`: of `TaskStep` for a kind of target, of `LinkedStep` for most kinds of nodes. The
subclass declares its keys as fields. Each field has a description, which the JSON Schema and messages show. The
subclass may override `Step.find_problems` (rules between keys), `Step.find_scopes` (levels inside the step) and
`Step.make_node` (the node of the step).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema
from pydantic.config import JsonDict, JsonValue
from pydantic_core import PydanticCustomError

from aiorch.model.dag import DAG, Node, Task
from aiorch.model.enums import OnLost
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.model.retry import RetryPolicy

SECONDS_MAX = 1e9
"""Longest time: about 30 years, which can still be added to a date."""

_FUNCTION = re.compile(r"^[^\s:/\\]+:[^\s:/\\]+$")


def _not_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("null", "null")
    return value


T = TypeVar("T")
Given = Annotated[T | None, BeforeValidator(_not_null)]
"""A key that may be left out, but not be null: the intended meaning of null would be unclear."""

Text = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=SECONDS_MAX, allow_inf_nan=False)]
GcsPath = Annotated[str, Field(max_length=1024, pattern=r"^gs://[^/\s]+/\S+$")]
FunctionName = Annotated[str, Field(max_length=300, pattern=_FUNCTION.pattern)]
ProjectId = Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9.:-]*$")]
Region = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9-]*$")]
JsonObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]


class Model(BaseModel):
    """A mapping with known keys only. Numbers and texts are not converted into each other."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


class Retry(Model):
    """The further attempts after a failed one."""

    max_attempts: int = Field(1, ge=1, le=100, description="Attempts in all, including the first.")
    initial_delay: Delay = Field(1.0, description="Seconds before the second attempt.")
    backoff: float = Field(2.0, ge=1, le=100, allow_inf_nan=False, description="Factor from one delay to the next.")
    max_delay: Delay = Field(300.0, description="Longest delay in seconds.")
    jitter: float = Field(0.1, ge=0, le=1, description="Share of a delay that is subtracted at random.")
    on: Given[Annotated[list[Text], Field(min_length=1)]] = Field(
        None,
        description="Types of failures to retry; by default all types.",
        examples=[["Timeout", "ValueError", "503", "5xx"]],
    )


def needs_one_of(*keys: str) -> JsonValue:
    """Return the part of a JSON Schema that requires one of *keys*, for ``anyOf`` or ``oneOf``."""
    return [{"required": [key]} for key in keys]


def _add_rules(schema: JsonDict, model: type[Any]) -> None:
    for base in reversed(model.__mro__):
        schema.update(vars(base).get("schema_rules", {}))


class Step(Model):
    """One entry of `steps`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=_add_rules)

    schema_rules: ClassVar[JsonDict] = {}
    """Rules between keys, as a part of the JSON Schema in addition to those of the base classes."""

    ends_chain: ClassVar[bool] = False
    """Whether the step allows no following step, and so has neither `next` nor `end`."""

    comment: Given[str] = Field(None, description="A note for readers.")

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """
        Yield the mistakes that the types of the fields do not show: rules between keys, and the meaning of texts.

        Args:
            data: The step as written, with values of any type.

            hints: Finds the known word that is most similar to an unknown one.

        Returns:
            Findings whose `key` is relative to the step.
        """
        yield from ()

    @classmethod
    def find_scopes(cls, data: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:  # noqa: ARG003
        """Yield the levels inside the step: the path of each within the step, and the level as written."""
        yield from ()

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """
        Return the node of a valid step, without its scopes.

        Args:
            name: Name of the step.

            parent_dag: The DAG whose first level will hold the node. It is not changed.
        """
        raise NotImplementedError


class Links(Model):
    """The keys that name the following step."""

    schema_rules: ClassVar[JsonDict] = {
        "oneOf": [
            {"required": ["next"], "properties": {"end": {"const": False}}},
            {"required": ["end"], "properties": {"end": {"const": True}}, "not": {"required": ["next"]}},
        ]
    }

    next: Given[str] = Field(None, description="Name of the following step. A step has either `next` or `end: true`.")
    end: bool = Field(False, description="Whether this is the last step. A step has either `end: true` or `next`.")


class LinkedStep(Step, Links):
    """A step that names the following step, or ends its level."""


class TaskStep(LinkedStep):
    """A step that launches executions of a target."""

    task_class: ClassVar[type[Task]]
    """The class of the nodes of this step."""

    type: Literal["Task"] = Field(description="A task, which launches a target.")
    target_type: str = Field(description="Kind of the target.")
    target_name: Given[Text] = Field(description="Name of the target.")
    parameters: JsonObject = Field(default_factory=dict, description="Parameters of the call: any JSON.")
    function: Given[FunctionName] = Field(
        None,
        description="Python function, called just before the launch; the returned mapping is merged into `parameters`.",
        examples=["my_tasks:load"],
    )
    timeout: Given[Seconds] = Field(None, description="Longest duration of one attempt in seconds.", examples=[60])
    retry: Given[Retry] = Field(
        None,
        description="Further attempts after a failed one; by default none.",
        examples=[{"max_attempts": 3}],
    )
    on_lost: Annotated[OnLost, Strict(False)] = Field(
        OnLost.RETRY, description="Consequence of an attempt whose outcome will never be known."
    )

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """Yield the problem of the name of `function`."""
        yield from function_problems("function", data)

    def make_node(self, name: str, parent_dag: DAG) -> Task:
        """Return the task."""
        return self.task_class(name, parent_dag, **self.task_arguments(name))

    def task_arguments(self, name: str) -> dict[str, Any]:
        """Return the arguments of the task: the keys that all tasks share, and the remaining keys as its `options`."""
        own = _own_keys(type(self))
        options = self.model_dump(include=own, exclude_none=True, by_alias=True) if own else {}
        return {
            "target_name": self.target_name or name,
            "next": self.next,
            "parameters": self.parameters,
            "function": self.function,
            "timeout": self.timeout,
            "retry": RetryPolicy(**{**dict(self.retry), "on": tuple(self.retry.on or ())}) if self.retry else None,
            "on_lost": self.on_lost,
            "comment": self.comment or "",
            **options,
        }


@cache
def _own_keys(step: type[TaskStep]) -> set[str]:
    return set(step.model_fields).difference(TaskStep.model_fields)


def function_problems(key: str, data: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the problem of a key for a Python function whose text does not have the form ``module:callable``."""
    text = data.get(key)
    if not isinstance(text, str) or (_FUNCTION.fullmatch(text) and ".py:" not in text):
        return
    module, colon, name = text.partition(":")
    if not colon:
        module, _, name = text.rpartition(".")
    guess = f"{module.removesuffix('.py').replace('/', '.').strip('.')}:{name}"
    hint = f"; did you mean {shown(guess)}?" if _FUNCTION.fullmatch(guess) else ""
    yield Finding((key,), f"a function is named `module:callable`, not {shown(text)}{hint}", at_value=True)
