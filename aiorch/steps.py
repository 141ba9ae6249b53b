"""
The base of steps: the keys that steps share, the types of their values, and the hooks of a kind of step.

A kind of step is a subclass of `Step`: of `TaskStep` for a kind of target, of `LinkedStep` for most kinds of nodes. The
subclass declares its keys as fields. Each field has a description, which the JSON Schema and messages show. The
subclass may override the hooks of `Step`: `find_problems` (rules between keys), `find_scopes` (levels inside the step),
`find_links` (steps that may follow), `find_expressions`, `failure_types` and `make_node` (the node of the step).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Strict, Tag, WithJsonSchema
from pydantic.config import JsonDict, JsonValue
from pydantic_core import PydanticCustomError

from aiorch.expressions.syntax import CHARACTERS_MAX
from aiorch.expressions.values import condition_of, has_expressions, value_of
from aiorch.model.dag import DAG, Catch, Node, Task
from aiorch.model.enums import OnLost
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.model.retry import RetryPolicy

SECONDS_MAX = 1e9
"""Longest time: about 30 years, which can still be added to a date."""

LANGUAGE_VERSION = 2
"""The version of run documents that brought expressions and the keys of this module around them."""

FAILURES_OF_TASKS = frozenset({"Timeout", "Lost", "Interrupted", "NotStarted", "NoResult", "InternalError", "Error"})
"""Types of failures that tasks of all kinds of targets may have."""

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
Condition = Annotated[str, Field(min_length=1, max_length=CHARACTERS_MAX)]
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


class CatchHandler(Model):
    """One handler of `catch`: a step or a value that follows failures of some types."""

    schema_rules: ClassVar[JsonDict] = {"oneOf": needs_one_of("next", "result")}
    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=_add_rules)

    on: Given[Annotated[list[Text], Field(min_length=1)]] = Field(
        None, description="Types of failures to catch, as in `retry`; by default all types.", examples=[["Timeout"]]
    )
    next: Given[str] = Field(None, description="Name of the step that follows the failure. Only in a chain.")
    result: Any = Field(None, description="Value that stands for the result of the step.", examples=[[]])

    @property
    def gives_result(self) -> bool:
        """Whether a value follows the failure, which may be null."""
        return "result" in self.model_fields_set


class Link(NamedTuple):
    """A step that a step of a chain names as one that may follow."""

    key: Key
    name: str
    is_caught: bool = False
    """Whether it follows a failure, see `CatchHandler`."""


class ExpressionPlace(NamedTuple):
    """A value of a step that may hold expressions."""

    key: Key
    value: Any
    """As written, of any type."""

    is_bare: bool = False
    """Whether the value is one expression, not a JSON value with expressions in ``${ … }``."""

    names: frozenset[str] = frozenset()
    """Names that only these expressions may read; `errors` stands for the error of the step itself."""


class FailureTypes(NamedTuple):
    """The types of failures that a step may end with."""

    known: frozenset[str]
    are_all: bool = True
    """Whether there are no others; otherwise the step runs code that raises exceptions of any class."""


class Step(Model):
    """One entry of `steps`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra=_add_rules)

    schema_rules: ClassVar[JsonDict] = {}
    """Rules between keys, as a part of the JSON Schema in addition to those of the base classes."""

    names_next: ClassVar[bool] = True
    """Whether a step without `when` must say with `next` or `end` how its chain goes on."""

    comment: Given[str] = Field(None, description="A note for readers.")
    when: Given[Condition] = Field(
        None,
        description="Condition under which the step runs; otherwise the step is skipped, and its result is null.",
        examples=["results.Load.rows > 0"],
    )

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

    @classmethod
    def find_links(cls, data: Mapping[str, Any]) -> Iterator[Link]:  # noqa: ARG003
        """Yield the steps that may follow in a chain; *data* is the step as written."""
        yield from ()

    @classmethod
    def find_expressions(cls, data: Mapping[str, Any]) -> Iterator[ExpressionPlace]:
        """Yield the values that may hold expressions; *data* is the step as written."""
        if "when" in data:
            yield ExpressionPlace(("when",), data["when"], is_bare=True)

    @classmethod
    def failure_types(cls, data: Mapping[str, Any]) -> FailureTypes:  # noqa: ARG003
        """Return the types of failures of the step itself, without those of the steps inside."""
        return FailureTypes(frozenset({"ExpressionError"}))

    @classmethod
    def has_tries(cls, data: Mapping[str, Any]) -> bool:  # noqa: ARG003
        """Whether the levels inside may be tried again: then the entries of a further try have numbers."""
        return False

    def make_node(self, name: str, parent_dag: DAG) -> Node:
        """
        Return the node of a valid step, without its scopes.

        Args:
            name: Name of the step.

            parent_dag: The DAG whose first level will hold the node. It is not changed.
        """
        raise NotImplementedError

    def add_rules(self, node: Node) -> None:
        """Give a node of this step the rules of the keys that steps of many kinds share."""
        if self.when is not None:
            node.when = condition_of(self.when)
            _needs_version(node, LANGUAGE_VERSION)
        if node.parent_dag.is_graph:
            _needs_version(node, LANGUAGE_VERSION)


def _needs_version(node: Node, version: int) -> None:
    node.schema_version = max(node.schema_version, version)


class Links(Model):
    """The keys that name the steps after and before a step."""

    next: Given[str] = Field(
        None, description="Name of the following step. A step of a chain has either `next` or `end: true`."
    )
    end: bool = Field(
        False, description="Whether the chain ends after this step. A step of a chain has either `end: true` or `next`."
    )
    needs: Given[Annotated[list[str], Field(min_length=1)]] = Field(
        None, description="In a graph, the steps that must have ended well before this one begins.", examples=[["Load"]]
    )


class LinkedStep(Step, Links):
    """A step that names the following step or ends its chain, or that names the steps it needs in a graph."""

    @classmethod
    def find_links(cls, data: Mapping[str, Any]) -> Iterator[Link]:
        """Yield the following step."""
        if isinstance(data.get("next"), str):
            yield Link(("next",), data["next"])

    def add_rules(self, node: Node) -> None:
        """Give a node the rules, and the names of the nodes that it needs."""
        super().add_rules(node)
        if self.needs is not None:
            node.needs = tuple(self.needs)


class WorkingStep(LinkedStep):
    """A step whose work takes time, and may fail: its failure may be caught, and its result replaced."""

    result: Any = Field(
        None,
        description="Result of the step instead of its own, which is `result` in expressions.",
        examples=["${ result.rows }"],
    )
    catch: Given[Annotated[list[CatchHandler], Field(min_length=1)]] = Field(
        None,
        description="Handlers of failures; the first one that covers the failure counts.",
        examples=[[{"on": ["Timeout"], "result": []}]],
    )

    @classmethod
    def find_links(cls, data: Mapping[str, Any]) -> Iterator[Link]:
        """Yield the following step, and those of the handlers."""
        yield from super().find_links(data)
        for index, handler in _handlers(data):
            if isinstance(handler.get("next"), str):
                yield Link(("catch", index, "next"), handler["next"], is_caught=True)

    @classmethod
    def find_expressions(cls, data: Mapping[str, Any]) -> Iterator[ExpressionPlace]:
        """Yield the result of the step and those of the handlers, too."""
        yield from super().find_expressions(data)
        if "result" in data:
            yield ExpressionPlace(("result",), data["result"], names=frozenset({"result"}))
        for index, handler in _handlers(data):
            if "result" in handler:
                yield ExpressionPlace(("catch", index, "result"), handler["result"], names=frozenset({"errors"}))

    def add_rules(self, node: Node) -> None:
        """Give a node the rules, the result of the step and the handlers of its failures."""
        super().add_rules(node)
        if "result" in self.model_fields_set:
            node.result_value = value_of(self.result, "result")
            _needs_version(node, LANGUAGE_VERSION)
        if self.catch is not None:
            node.catch = tuple(
                Catch(tuple(each.on or ()), each.next, value_of(each.result, "catch") if each.gives_result else None)
                for each in self.catch
            )
            _needs_version(node, LANGUAGE_VERSION)


def _handlers(data: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the handlers of a step as written that are mappings, each with its index."""
    given = data.get("catch")
    for index, handler in enumerate(given) if isinstance(given, list) else ():
        if isinstance(handler, dict):
            yield index, handler


# Without the labels, a mistake in one form would be reported as a mistake in each of the two.
Retries = Annotated[
    Annotated[Retry, Tag("one policy")] | Annotated[list[Retry], Field(min_length=1), Tag("a list of policies")],
    Discriminator(lambda value: "a list of policies" if isinstance(value, list) else "one policy"),
]
"""The value of `retry`: one policy, or several in the order in which they are tried."""


def retry_policies(retry: "Retry | list[Retry] | None") -> tuple[RetryPolicy, ...]:
    """Return the policies of the key `retry`, in the order in which they are tried."""
    each = [] if retry is None else [retry] if isinstance(retry, Retry) else retry
    return tuple(RetryPolicy(**{**dict(one), "on": tuple(one.on or ())}) for one in each)


class TaskStep(WorkingStep):
    """A step that launches executions of a target."""

    task_class: ClassVar[type[Task]]
    """The class of the nodes of this step."""

    target_failures: ClassVar[frozenset[str] | None] = None
    """All types of failures of the target; `None` if it runs code that raises exceptions of any class."""

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
    retry: Given[Retries] = Field(
        None,
        description="Further attempts after a failed one; by default none. Of several policies, the first one whose "
        "`on` covers the failure counts.",
        examples=[{"max_attempts": 3}],
    )
    on_lost: Annotated[OnLost, Strict(False)] = Field(
        OnLost.RETRY, description="Consequence of an attempt whose outcome will never be known."
    )

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """Yield the problem of the name of `function`."""
        yield from function_problems("function", data)

    @classmethod
    def find_expressions(cls, data: Mapping[str, Any]) -> Iterator[ExpressionPlace]:
        """Yield the parameters, too."""
        yield from super().find_expressions(data)
        if "parameters" in data:
            yield ExpressionPlace(("parameters",), data["parameters"], names=frozenset({"task", "secrets"}))

    @classmethod
    def failure_types(cls, data: Mapping[str, Any]) -> FailureTypes:
        """Return the types of failures of the target and of the engine; a `function` raises exceptions of any class."""
        types = FAILURES_OF_TASKS | super().failure_types(data).known
        if cls.target_failures is None:
            return FailureTypes(types, are_all=False)
        return FailureTypes(types | cls.target_failures, are_all="function" not in data)

    def make_node(self, name: str, parent_dag: DAG) -> Task:
        """Return the task."""
        return self.task_class(name, parent_dag, **self.task_arguments(name))

    def add_rules(self, node: Node) -> None:
        """Give the task the rules, and the parameters with their expressions."""
        super().add_rules(node)
        assert isinstance(node, Task)
        if node.parent_dag.language_version >= LANGUAGE_VERSION and has_expressions(self.parameters):
            value = node.parameters_value = value_of(self.parameters, "parameters")
            node.secrets = frozenset(read.name for read in value.reads if read.root == "secrets" and read.name)
            _needs_version(node, LANGUAGE_VERSION)
        if isinstance(self.retry, list):
            _needs_version(node, LANGUAGE_VERSION)

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
            "retry": retry_policies(self.retry),
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
