"""
Everything that is wrong with a definition, found at once: level by level, step by step, each step by its own model.

The words are ours, not the validator's: what is wrong, what would be right, and what was probably meant.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from aiorch.definition.chain import check_chain
from aiorch.definition.hints import Hints, shown
from aiorch.definition.models import (
    FUNCTION_PATTERN,
    NODE_NAME_PATTERN,
    TASK_STEPS,
    Branch,
    CloudFunctionStep,
    DataflowStep,
    Definition,
    FunctionStep,
    ParallelStep,
    Retry,
    Step,
    TaskStep,
)
from aiorch.definition.source import format_path
from aiorch.definition.syntax import Finding, Key
from aiorch.model.enums import DataflowTemplateType

Model = TypeVar("Model", bound=BaseModel)


class Level:
    """
    One level of a definition: the whole of it, or a branch.

    Attributes:
        key: Where it stands.

        data: It as it was written.

        model: It as validated, `None` when something is wrong with it.

        steps: The validated steps by name.

        branches: The branches of each `Parallel`, by its name.
    """

    __slots__ = ("branches", "data", "key", "model", "steps")

    def __init__(self, key: Key, data: Any) -> None:
        self.key = key
        self.data = data
        self.model: Branch | None = None
        self.steps: dict[str, Step | None] = {}
        self.branches: dict[str, list[Level]] = {}

    @property
    def start(self) -> str:
        """Name of its first step, on a level that is right."""
        assert self.model is not None
        return self.model.start


class Check:
    """
    Looks for everything that is wrong.

    Args:
        reported: Where something was reported already, and is not to be reported in other words again.

    Attributes:
        findings: What was found, in no order.
    """

    def __init__(self, reported: Iterable[Key] = ()) -> None:
        self.findings: list[Finding] = []
        self._reported = frozenset(reported)
        self._names: dict[str, Key] = {}
        self._hints = Hints()

    def definition(self, data: Any) -> Level:
        """Check a whole definition, plain."""
        root = Level((), data)
        levels, done = [root], 0
        while done < len(levels):
            level = levels[done]
            self._level(level, Definition if level is root else Branch)
            for branches in level.branches.values():
                levels += branches
            done += 1
        for level in levels:
            if _has_steps(level.data):
                self.findings += check_chain(level.key, level.data, self._names, self._hints)
        return root

    def step(self, key: Key, data: Any) -> Step | None:
        """Check one step, apart from where it leads; return it validated when it is right."""
        if not isinstance(data, dict):
            self._report(key, f"must be a mapping of keys to values, not {shown(data)}", at_value=True)
            return None
        model = self._model_of(key, data)
        if issubclass(model, TaskStep):
            self._task(key, data, model)
        return self._validate(key, data, model)

    def _level(self, level: Level, model: type[Branch]) -> None:
        if not isinstance(level.data, dict):
            message = f"must be a mapping with `start` and `steps`, not {shown(level.data)}"
            self._report(level.key, message, at_value=True)
            return
        level.model = self._validate(level.key, level.data, model)
        if not _has_steps(level.data):
            return
        for name, step in level.data["steps"].items():
            key = (*level.key, "steps", name)
            self._name(key, name)
            level.steps[name] = self.step(key, step)
            branches = step.get("branches") if isinstance(step, dict) and step.get("type") != "Task" else None
            if isinstance(branches, list):
                level.branches[name] = [
                    Level((*key, "branches", index), branch) for index, branch in enumerate(branches)
                ]

    def _name(self, key: Key, name: str) -> None:
        if name in self._names:
            message = (
                f"a step of this name stands at {format_path(self._names[name])}; names are unique over the whole "
                f"definition, branches included"
            )
            self._report(key, message)
        self._names.setdefault(name, key)
        if name.startswith("$"):
            self._report(key, "the name of a step does not begin with $: such names are kept for aiorch")
        elif not re.fullmatch(NODE_NAME_PATTERN, name) or not name.strip():
            self._report(key, "the name of a step has 1 to 128 characters, no control characters, and is not blank")

    def _model_of(self, key: Key, data: dict[str, Any]) -> type[Step]:
        """Return what *data* is, or was probably meant to be; `TaskStep` when only its target is not known."""
        kind = self._choice((*key, "type"), data, ("Task", "Parallel"))
        if kind == "Parallel" or (kind is None and "branches" in data):
            return ParallelStep
        return TASK_STEPS.get(self._choice((*key, "target_type"), data, tuple(TASK_STEPS)) or "", TaskStep)

    def _choice(self, key: Key, data: dict[str, Any], known: tuple[str, ...]) -> str | None:
        name = str(key[-1])
        value = data.get(name)
        if value in known:
            return str(value)
        *others, last = (f"`{one}`" for one in known)
        options = f"{', '.join(others)} or {last}"
        if name not in data:
            self._report(key, f"this key is missing; it says whether the step is {options}")
            return None
        closest = self._hints.closest(value, known) if isinstance(value, str) else None
        hint = f"; did you mean `{closest}`?" if closest else ""
        if name == "type" and isinstance(value, str) and value in TASK_STEPS:
            hint = f": what a task launches is its target, so write `type: Task` and `target_type: {value}`"
        self._report(key, f"must be {options}, not {shown(value)}{hint}", at_value=True)
        return closest

    def _task(self, key: Key, data: dict[str, Any], model: type[TaskStep]) -> None:
        """Report what the model does not know: rules between keys, and what text means."""
        names = ["function"]
        if model is FunctionStep and "function" not in data:
            names = ["target_name"]
            if "target_name" not in data:
                message = "this key is missing; it is the function that runs, as `module:callable` (or give `function`)"
                self._report((*key, "target_name"), message)
        for name in names:
            wrong = _function_problem(data[name]) if isinstance(data.get(name), str) else None
            if wrong is not None:
                self._report((*key, name), wrong, at_value=True)
        if model is DataflowStep:
            given = [name for name in ("container_gcs_path", "template_path") if name in data]
            if len(given) != 1:
                what = "both" if given else "neither"
                message = (
                    f"this step has {what} of `container_gcs_path` (of a Flex template) and `template_path` (of a "
                    f"Classic one), and needs one of them"
                )
                self._report(key, message)
            elif isinstance(data.get("environment"), dict):
                self._environment((*key, "environment"), data["environment"], is_flex=given == ["container_gcs_path"])
        if model is CloudFunctionStep and isinstance(data.get("url"), str):
            wrong = _url_problem(data["url"])
            if wrong is not None:
                self._report((*key, "url"), wrong, at_value=True)

    def _environment(self, key: Key, environment: dict[str, Any], *, is_flex: bool) -> None:
        from aiorch.definition.environment import check_environment  # noqa: PLC0415  few steps are Dataflow jobs

        template_type = DataflowTemplateType.FLEX if is_flex else DataflowTemplateType.CLASSIC
        for finding in check_environment(key, environment, template_type, self._hints):
            self._report(finding.key, finding.message, at_value=finding.at_value)

    def _validate(self, key: Key, data: dict[str, Any], model: type[Model]) -> Model | None:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._explain(key, detail, model, data)
            return None

    def _explain(self, key: Key, detail: ErrorDetails, model: type[BaseModel], data: dict[str, Any]) -> None:
        """Report what the validator found, in our words."""
        location, kind = detail["loc"], detail["type"]
        name = str(location[0])
        if issubclass(model, Step) and name in ("type", "target_type"):
            return  # reported when the model was chosen
        if name == "function" and kind == "string_pattern_mismatch":
            return  # reported with its hint
        if name == "retry" and len(location) > 1:
            model, name = Retry, str(location[1])
        if kind == "extra_forbidden":
            self._unknown((*key, *location), name, model, data["retry"] if model is Retry else data)
            return
        field = _fields(model)[name]
        if kind == "missing":
            if name != "target_name" or model in TASK_STEPS.values():
                self._report((*key, *location), f"this key is missing. {field.description}")
            return
        example = f", e.g. {json.dumps(field.examples[0])}" if field.examples and location[-1] == name else ""
        self._report((*key, *location), _wrong_value(detail, name) + example, at_value=True)

    def _unknown(self, key: Key, name: str, model: type[BaseModel], given: Iterable[str]) -> None:
        owners = [label for label, step in _STEPS.items() if name in _fields(step)] if issubclass(model, Step) else []
        if owners and model is TaskStep:
            return  # it may be right: which target is meant is not clear
        if owners:
            what = next(label for label, step in _STEPS.items() if step is model)
            message = f"`{name}` is a key of {' and '.join(owners)} steps, and this is a {what} step"
        else:
            closest = self._hints.closest(name, [field for field in _fields(model) if field not in given])
            hint = f"did you mean `{closest}`?" if closest else f"known here: {', '.join(_fields(model))}"
            message = f"unknown key; {hint}"
        self._report(key, message)

    def _report(self, key: Key, message: str, *, at_value: bool = False) -> None:
        if key not in self._reported:
            self.findings.append(Finding(key, message, at_value))


_STEPS: dict[str, type[Step]] = {**TASK_STEPS, "Parallel": ParallelStep}
_SHAPES = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
}
_LIMITS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
}
_WRONG = {
    "null": "this is null; give it a value, or leave the key out",
    "enum": "must be {expected}, not {shown}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "{shown} does not fit here",
}


def _wrong_value(detail: ErrorDetails, name: str) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in _SHAPES:
        shape = "a mapping of steps by name" if name == "steps" else _SHAPES[kind]
        quote = "; put it in quotes" if kind == "string_type" and isinstance(value, bool | int | float) else ""
        return f"must be {shape}, not {shown(value)}{quote}"
    if kind in _LIMITS:
        return f"must be {_LIMITS[kind].format_map(context)}, not {value}"
    words = {"shown": shown(value), "msg": detail["msg"], **context}
    return _WRONG.get(kind, "{msg}, not {shown}").format_map(words)


@cache
def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _has_steps(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("steps"), dict) and bool(data["steps"])


def _function_problem(text: str) -> str | None:
    if re.fullmatch(FUNCTION_PATTERN, text) and ".py:" not in text:
        return None
    module, colon, name = text.partition(":")
    if not colon:
        module, _, name = text.rpartition(".")
    guess = f"{module.removesuffix('.py').replace('/', '.').strip('.')}:{name}"
    hint = f"; did you mean {shown(guess)}?" if re.fullmatch(FUNCTION_PATTERN, guess) else ""
    return f"a function is named `module:callable`, not {shown(text)}{hint}"


def _url_problem(url: str) -> str | None:
    from aiorch.model.url import checked_url  # noqa: PLC0415  most definitions hold no URL

    try:
        checked_url(url)
    except ValueError as error:
        return str(error)
    return None
