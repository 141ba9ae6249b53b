"""
The base of steps: the keys that steps share, the types of their values, and the hooks of a kind of step.

A kind of step is a subclass of `Step`: of `TaskStep` for a kind of target, of `LinkedStep` for most kinds of nodes. It
declares its keys as fields, with a description each, which stands in the JSON Schema and in messages. It may override
`Step.find_problems` (rules between keys), `Step.find_scopes` (levels inside it) and `Step.make_node` (its node).
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
"""About 30 years: the most that can be added to a date."""

FUNCTION_PATTERN = r"^[^\s:/\\]+:[^\s:/\\]+$"


def _not_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("null", "null")
    return value


T = TypeVar("T")
Given = Annotated[T | None, BeforeValidator(_not_null)]
"""May be left out, but not be null: a null does not tell which meaning its author had in mind."""

Text = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=SECONDS_MAX, allow_inf_nan=False)]
GcsPath = Annotated[str, Field(max_length=1024, pattern=r"^gs://[^/\s]+/\S+$")]
FunctionName = Annotated[str, Field(max_length=300, pattern=FUNCTION_PATTERN)]
ProjectId = Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9.:-]*$")]
Region = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9-]*$")]
JsonObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]


class Model(BaseModel):
    """A mapping that has known keys only; a number is no text, and a text no number."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


class Retry(Model):
    """The further attempts after a failed one."""

    max_attempts: int = Field(1, ge=1, le=100, description="Attempts in all, the first included.")
    initial_delay: Delay = Field(1.0, description="Seconds before the second attempt.")
    backoff: float = Field(2.0, ge=1, le=100, allow_inf_nan=False, description="Factor from one delay to the next.")
    max_delay: Delay = Field(300.0, description="Seconds that no delay exceeds.")
    jitter: float = Field(0.1, ge=0, le=1, description="Share of a delay that is taken off at random.")
    on: Given[Annotated[list[Text], Field(min_length=1)]] = Field(
        None,
        description="Types of failure to retry. All of them when left out.",
        examples=[["Timeout", "ValueError", "503", "5xx"]],
    )


def needs_one_of(*keys: str) -> JsonValue:
    """Return the part of a JSON Schema by which one of *keys* has to be there, for ``anyOf`` or ``oneOf``."""
    return [{"required": [key]} for key in keys]


def _add_rules(schema: JsonDict, model: type[Any]) -> None:
    for base in reversed(model.__mro__):
        schema.update(vars(base).get("schema_rules", {}))


class Step(Model):
    """One entry of `steps`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=_add_rules)

    schema_rules: ClassVar[JsonDict] = {}
    """Rules between keys, as a part of the JSON Schema beside those of the base classes."""

    ends_chain: ClassVar[bool] = False
    """No step ever follows this one, so it has neither `next` nor `end`."""

    comment: Given[str] = Field(None, description="A note for readers.")

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """
        Yield the mistakes that the fields alone do not show: rules between keys, and the meaning of texts.

        Args:
            data: The step as it was written, with values of any type.

            hints: Finds the known word that is most like an unknown one.

        Returns:
            Findings whose `key` begins within the step.
        """
        yield from ()

    @classmethod
    def find_scopes(cls, data: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:  # noqa: ARG003
        """Yield the levels inside the step: where each stands in the step, and the level as it was written."""
        yield from ()

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """
        Return the node that a valid step becomes, without its scopes.

        Args:
            name: Name of the step.

            parent_dag: The DAG that the node will be on the first level of. It is not changed.
        """
        raise NotImplementedError


class Links(Model):
    """The keys that tell which step follows."""

    schema_rules: ClassVar[JsonDict] = {
        "oneOf": [
            {"required": ["next"], "properties": {"end": {"const": False}}},
            {"required": ["end"], "properties": {"end": {"const": True}}, "not": {"required": ["next"]}},
        ]
    }

    next: Given[str] = Field(None, description="Name of the step that follows. Either this or `end: true`.")
    end: bool = Field(False, description="Whether this is the last step. Either this or `next`.")


class LinkedStep(Step, Links):
    """A step that names the step that follows, or ends its level."""


class TaskStep(LinkedStep):
    """A step that launches something."""

    task_class: ClassVar[type[Task]]
    """The class of its nodes."""

    type: Literal["Task"] = Field(description="A task: it launches something.")
    target_type: str = Field(description="The kind of target that is launched.")
    target_name: Given[Text] = Field(description="Name of what is launched.")
    parameters: JsonObject = Field(default_factory=dict, description="What the target is called with: any JSON.")
    function: Given[FunctionName] = Field(
        None,
        description="Python function, called just before the launch; what it returns is merged into `parameters`.",
        examples=["my_tasks:load"],
    )
    timeout: Given[Seconds] = Field(None, description="Seconds that one attempt may take.", examples=[60])
    retry: Given[Retry] = Field(
        None,
        description="The further attempts after a failed one: none, if left out.",
        examples=[{"max_attempts": 3}],
    )
    on_lost: Annotated[OnLost, Strict(False)] = Field(
        OnLost.RETRY, description="What to do with an attempt whose outcome will never be known."
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
    """Yield the problem of a key that names a Python function: its text is not of the form ``module:callable``."""
    text = data.get(key)
    if not isinstance(text, str) or (re.fullmatch(FUNCTION_PATTERN, text) and ".py:" not in text):
        return
    module, colon, name = text.partition(":")
    if not colon:
        module, _, name = text.rpartition(".")
    guess = f"{module.removesuffix('.py').replace('/', '.').strip('.')}:{name}"
    hint = f"; did you mean {shown(guess)}?" if re.fullmatch(FUNCTION_PATTERN, guess) else ""
    yield Finding((key,), f"a function is named `module:callable`, not {shown(text)}{hint}", at_value=True)
