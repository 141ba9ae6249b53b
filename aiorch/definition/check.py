"""
All mistakes of a definition, found at once: level by level, step by step, each step with its own model.

The messages replace those of the validator: they name the mistake, the allowed values, and the most similar one.
"""

import json
import re
from collections.abc import Container, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from aiorch.definition.failures import check_handlers
from aiorch.definition.level import Level
from aiorch.definition.levels import check_level
from aiorch.definition.models import (
    FILLED_IN,
    NODE_NAME_PATTERN,
    TASK,
    TYPES,
    Branch,
    Definition,
    FinalLevel,
    all_steps,
    step_of_target,
    step_of_type,
)
from aiorch.definition.references import CONDITION, References, Scope
from aiorch.definition.source import format_path
from aiorch.definition.version import LanguageVersion
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.model.labels import label_mistakes
from aiorch.nodes.steps import STEPS
from aiorch.steps import Step, TaskStep
from aiorch.targets.kind import target_kinds, why_unusable
from aiorch.targets.unknown import UnknownStep

M = TypeVar("M", bound=BaseModel)

_NEEDS_IN_OTHER_LANGUAGES = frozenset({"after", "depends", "depends_on", "dependencies", "dependsOn", "upstream"})

_NODE_NAME = re.compile(NODE_NAME_PATTERN)
_IN_NAMES_OF_ENTRIES = re.compile(r"[\[\]#]")


class Check:
    """
    Looks for mistakes.

    Args:
        reported: Paths with a reported mistake, which must not be reported again in different words.

        is_stored: A process has checked and stored the definition: a target type that is not known here is right.

    Attributes:
        findings: The mistakes, without an order.

        newer: Path and description of a part that this version does not know, in a stored definition.

        language: The version of the language of the definition.
    """

    def __init__(self, reported: Iterable[Key] = (), *, is_stored: bool = False) -> None:
        self.findings: list[Finding] = []
        self.newer: tuple[Key, str] | None = None
        self.language: LanguageVersion = LanguageVersion({})
        self._is_stored = is_stored
        self._reported = frozenset(reported)
        self._homes: dict[str, Level] = {}
        self._handlers: list[tuple[Level, str]] = []
        """The steps with handlers of failures."""
        self._has_tries = False
        self._references: References | None = None
        """Holds the parsed expressions, until the DAG is built from the same ones."""
        self._hints = Hints()

    @property
    def places(self) -> Mapping[str, Key]:
        """The paths of the steps of the checked definition, by name."""
        return {name: (*level.key, "steps", name) for name, level in self._homes.items()}

    def definition(self, data: Any) -> Level:
        """Check a whole definition of plain data."""
        root = Level((), data)
        if isinstance(data, dict):
            self.language = LanguageVersion(data, is_stored=self._is_stored)
        if self._is_stored and not self.language.is_known:
            self.newer = ("schema_version",), f"version {self.language.number} of the language"
            return root
        levels, done = [root], 0
        if isinstance(data, dict) and "finally" in data:
            root.final = Level(("finally",), data["finally"])
            levels.append(root.final)
        while done < len(levels):
            level = levels[done]
            self._level(level, Definition if level is root else FinalLevel if level is root.final else Branch)
            for scopes in level.scopes.values():
                levels += scopes
            done += 1
        for level in levels:
            if level.kinds:
                self.findings += check_level(level, self._homes, self._hints)
        self._check_handlers()
        if self._has_tries:
            self._check_names_of_entries()
        if self.language.has_expressions:
            self._check_expressions(root, levels)
        if isinstance(data, dict) and "inputs" in data:
            from aiorch.definition.inputs import input_mistakes  # noqa: PLC0415  most definitions declare none

            self._report_inside("inputs", input_mistakes(data["inputs"], self._hints))
        if isinstance(data, dict) and "labels" in data:
            self._report_inside("labels", label_mistakes(data["labels"]))
        return root

    def single_step(self, data: Any) -> Step | None:
        """Check one step of plain data that belongs to no level; return the validated step if it is valid."""
        level = Level((), {"steps": {"": data}})
        self._step(level, "", data)
        self._check_handlers()
        if isinstance(data, dict):
            references = References(Scope(level, {}, None, frozenset()), self._hints, has_templates=True)
            references.check_syntax(level, "")
            self.findings += references.findings
        self.findings = [finding._replace(key=finding.key[2:]) for finding in self.findings]
        return level.steps[""]

    def step(self, key: Key, data: Any) -> tuple[type[Step], Step | None]:
        """Check one step without its successor; return its kind, and the validated step if it is valid."""
        if not isinstance(data, dict):
            self._report(key, f"must be a mapping of keys to values, not {shown(data)}", at_value=True)
            return Step, None
        model = self._model_of(key, data)
        explained = set()
        for finding in model.find_problems(data, self._hints) if not self._is_stored else ():
            self._report((*key, *finding.key), finding.message, at_value=finding.at_value)
            explained.add(finding.key)
        return model, self.validate(key, data, model, explained)

    def _level(self, level: Level, model: type[Branch]) -> None:
        if not isinstance(level.data, dict):
            message = f"must be a mapping with `start` and `steps`, not {shown(level.data)}"
            self._report(level.key, message, at_value=True)
            return
        level.model = self.validate(level.key, level.data, model)
        if not _has_steps(level.data):
            return
        for name, step in level.data["steps"].items():
            self._name(level, name)
            self._step(level, name, step)

    def _step(self, level: Level, name: str, data: Any) -> None:
        key = (*level.key, "steps", name)
        kind, level.steps[name] = self.step(key, data)
        level.kinds[name] = kind
        if not isinstance(data, dict):
            return
        scopes = [Level((*key, *inside), scope, (level, name)) for inside, scope in kind.find_scopes(data)]
        if scopes:
            level.scopes[name] = scopes
            self._has_tries = self._has_tries or kind.has_tries(data)
        if ("retry" in data or "catch" in data) and not self._is_stored:
            self._handlers.append((level, name))

    def _check_handlers(self) -> None:
        for level, name in self._handlers:
            for finding in check_handlers(level, name, self._hints):
                self._report(finding.key, finding.message, at_value=finding.at_value)

    def _check_expressions(self, root: Level, levels: list[Level]) -> None:
        inputs, secrets = root.data.get("inputs"), root.data.get("secrets")
        scope = Scope(
            root,
            self._homes,
            frozenset(inputs) if isinstance(inputs, dict) else None,
            frozenset(each for each in secrets if isinstance(each, str)) if isinstance(secrets, list) else frozenset(),
        )
        references = self._references = References(
            scope, self._hints, has_templates=self.language.has_templates, is_stored=self._is_stored
        )
        for level in levels:
            for name in level.kinds:
                references.check_step(level, name)
        if "output" in root.data:
            references.check_output()
        references.check_literals(root.data, (), [(key,) for key in ("steps", "finally", "inputs", "labels", "output")])
        self.newer = self.newer or references.newer
        reported = self._reported | {finding.key for finding in self.findings}
        for finding in references.findings:
            if not any(finding.key[:length] in reported for length in range(1, len(finding.key) + 1)):
                self.findings.append(finding)

    def _check_names_of_entries(self) -> None:
        for name, key in self.places.items():
            if _IN_NAMES_OF_ENTRIES.search(name):
                message = (
                    "the name of a step must not hold [, ] or # in a definition with a `Parallel` that has `retry`: "
                    "the steps of its second try are named like `Fan#2.Step`"
                )
                self._report(key, message)

    def _name(self, level: Level, name: str) -> None:
        key = (*level.key, "steps", name)
        home = self._homes.setdefault(name, level)
        if home is not level:
            message = (
                f"a step with this name exists at {format_path((*home.key, 'steps', name))}; names are unique in the "
                f"whole definition, including branches and `finally`"
            )
            self._report(key, message)
        if name.startswith("$"):
            self._report(key, "the name of a step must not begin with $: aiorch uses these names itself")
        elif not _NODE_NAME.fullmatch(name) or not name.strip():
            self._report(key, "the name of a step has 1 to 128 characters, no control characters, and is not blank")

    def _model_of(self, key: Key, data: dict[str, Any]) -> type[Step]:
        """Return the kind of a step; `TaskStep` for a task whose target type is unknown."""
        chosen = self._choice((*key, "type"), data, TYPES)
        kind = chosen or _kind_by_keys(data)
        if isinstance(data.get("type"), str) and data["type"] not in TYPES:
            self.newer = (*key, "type"), f"a step of type {data['type']!r}"
        if kind != TASK:
            return step_of_type(kind)
        if chosen is None and "type" in data and "target_type" not in data:
            return TaskStep  # the type is reported, and it is not clear whether a task was meant
        name = data.get("target_type")
        step = step_of_target(name) if isinstance(name, str) else None
        if step is not None:
            return step
        if self._is_stored and isinstance(name, str):
            return UnknownStep
        meant = self._choice((*key, "target_type"), data, tuple(target_kinds()))
        return (meant and step_of_target(meant)) or TaskStep

    def _choice(self, key: Key, data: dict[str, Any], known: tuple[str, ...]) -> str | None:
        name = str(key[-1])
        value = data.get(name)
        if value in known:
            return str(value)
        *others, last = (f"`{one}`" for one in known)
        options = f"{', '.join(others)} or {last}"
        if name not in data:
            self._report(key, f"this key is missing; its value is {options}")
            return None
        unusable = why_unusable(value) if name == "target_type" and isinstance(value, str) else None
        closest = self._hints.closest(value, known) if isinstance(value, str) and not unusable else None
        hint = f"; did you mean `{closest}`?" if closest else ""
        if not closest and name == "target_type" and isinstance(value, str):
            hint = f"; {unusable or _not_installed(value)}"
        if name == "type" and isinstance(value, str) and step_of_target(value) is not None:
            hint = f": this is a kind of target, so write `type: Task` and `target_type: {value}`"
        self._report(key, f"must be {options}, not {shown(value)}{hint}", at_value=True)
        return closest

    def validate(
        self, key: Key, data: dict[str, Any], model: type[M], explained: Container[Key] = frozenset()
    ) -> M | None:
        """Validate the mapping at *key*; `None` if it has mistakes, which are then among the findings."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["loc"] not in explained:
                    self._explain(key, detail, model, data)
            return None

    def _explain(self, key: Key, detail: ErrorDetails, model: type[BaseModel], data: dict[str, Any]) -> None:
        """Report the errors of the validator in messages of aiorch."""
        location, kind = detail["loc"], detail["type"]
        if issubclass(model, Step) and location[:1] in (("type",), ("target_type",)):
            return  # reported when the model was chosen
        place = _find_place(detail, model, data)
        path = (*key, *place.key)
        if kind == "extra_forbidden":
            self._unknown(path, str(location[-1]), place.model, place.given)
        elif kind == "missing":
            if location != ("target_name",) or model is not TaskStep:
                meaning = f". {place.field.description}" if place.field and place.field.description else ""
                self._report(path, f"this key is missing{meaning}")
        else:
            message = _wrong_value(detail, str(path[-1]) if path else "")
            examples = place.field.examples if place.field and kind != "value_error" else None
            if examples and CONDITION not in message:  # which has an example
                message += f", e.g. {json.dumps(examples[0], default=str)}"
            self._report(path, message, at_value=True)

    def _unknown(self, key: Key, name: str, model: type[BaseModel] | None, given: Iterable[str]) -> None:
        if model is None:
            self._report(key, "unknown key")
            return
        steps = all_steps() if issubclass(model, Step) else {}
        owners = [label for label, step in steps.items() if name in _fields(step)]
        if model is TaskStep:
            return  # the key may be valid: the target type is not clear
        if owners:
            own = next((label for label, step in steps.items() if step is model), model.__name__)
            message = f"`{name}` is a key of {_in_words(owners)} steps, and this is a {own} step"
            if name == "catch":
                message += "; to catch its failure, put the step into a `Parallel` with one branch and `catch`"
        else:
            known = [field for field in _fields(model) if field not in FILLED_IN]
            closest = self._hints.closest(name, [field for field in known if field not in given])
            if "needs" in known and name in _NEEDS_IN_OTHER_LANGUAGES:
                closest = "needs"
            hint = f"did you mean `{closest}`?" if closest else f"known here: {', '.join(known)}"
            message = f"unknown key; {hint}"
        self._report(key, message)

    def _report_inside(self, name: str, findings: Iterable[Finding]) -> None:
        """Report mistakes in the value of a key of the definition."""
        for finding in findings:
            self._report((name, *finding.key), finding.message, at_value=finding.at_value)

    def _report(self, key: Key, message: str, *, at_value: bool = False) -> None:
        if key not in self._reported:
            self.findings.append(Finding(key, message, at_value))


class _Place(NamedTuple):
    """The place of an error in a mapping."""

    key: Key

    model: type[BaseModel] | None
    """The model of the innermost mapping around the place, `None` if the mapping has none."""

    given: Mapping[str, Any]
    """The innermost mapping around the place."""

    field: FieldInfo | None
    """The field of the place, `None` for an item, and for a mapping as a whole."""


def _find_place(detail: ErrorDetails, model: type[BaseModel], data: dict[str, Any]) -> _Place:
    """Follow the location of an error into *data*, past the labels that are no keys, like those of types of a union."""
    place = _Place((), model, data, None)
    value: Any = data
    inner: type[BaseModel] | None = model
    given: Mapping[str, Any]
    for number, part in enumerate(detail["loc"], 1):
        if isinstance(value, dict):
            if part not in value and (detail["type"] != "missing" or number < len(detail["loc"])):
                continue
            given, value = value, value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            given, value = place.given, value[part]
        else:
            continue
        field = _fields(inner).get(str(part)) if inner is not None else None
        place = _Place((*place.key, part), inner, given, field)
        if field is not None:
            inner = _model_in(field.annotation)
    return place


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
    "string_pattern_mismatch": "{shown} has a wrong form",
    "literal_error": "must be {expected}, not {shown}",
}


def _wrong_value(detail: ErrorDetails, name: str) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind not in ("string_type", "extra_forbidden") and isinstance(value, str) and "${" in value:
        return f"this key takes no expression, and this is {shown(value)}"
    if name == "when" and kind == "string_type" and not isinstance(value, bool):
        return f"{CONDITION}, and this is {shown(value)}"
    if kind in _SHAPES:
        shape = "a mapping of steps by name" if name == "steps" else _SHAPES[kind]
        quote = "; put it in quotes" if kind == "string_type" and isinstance(value, bool | int | float) else ""
        return f"must be {shape}, not {shown(value)}{quote}"
    if kind in ("value_error", "assertion_error"):  # raised by a validator, in words of its own
        return str(context["error"]) or detail["msg"]
    if kind in _LIMITS:
        return f"must be {_LIMITS[kind].format_map(context)}, not {value}"
    words = {"shown": shown(value), "msg": detail["msg"], **context}
    return _WRONG.get(kind, "{msg}, not {shown}").format_map(words)


@cache
def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _not_installed(target_type: str) -> str:
    return (
        f"no installed package brings the target type {shown(target_type)}: install the package that does, or correct "
        f"the name"
    )


def _in_words(owners: list[str]) -> str:
    """Return the kinds of steps that own a key, all kinds of tasks as ``Task``."""
    tasks = set(target_kinds())
    if tasks <= set(owners):
        owners = [TASK, *(name for name in owners if name not in tasks)]
    *others, last = owners
    return f"{', '.join(others)} and {last}" if others else last


def _has_steps(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("steps"), dict) and bool(data["steps"])


def _kind_by_keys(data: dict[str, Any]) -> str:
    """Return the type of step whose required keys are all present, `Task` if there is none."""
    for name in STEPS:
        needed = {key for key, field in _fields(step_of_type(name)).items() if field.is_required()} - {"type"}
        if needed and needed <= data.keys():
            return name
    return TASK


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a value, or of the items of a value; `None` if they have no model."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)
