"""The key `inputs` of a definition: its mistakes, and the input of a run against it."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from aiorch.definition.source import format_path
from aiorch.errors import InputProblem, InvalidInputError
from aiorch.model.findings import Finding, Hints, shown
from aiorch.schemas.schema import mistakes_in_schema, no_type
from aiorch.schemas.value import Checks, has_type, listed, make_validator, mistakes_in, types_in_words
from aiorch.schemas.vocabulary import FORMATS, TYPES

INPUTS_MAX = 200
"""The check of one schema takes about half a millisecond."""


class DeclaredInputs:
    """
    The declared inputs of a DAG.

    Args:
        dag: Name of the DAG, for messages.

        declared: The value of the key `inputs` of a valid definition.
    """

    def __init__(self, dag: str, declared: Mapping[str, Any]) -> None:
        self._dag = dag
        self._schemas = {name: _schema_of(each) for name, each in declared.items()}
        defaults = {name: schema["default"] for name, schema in self._schemas.items() if "default" in schema}
        self._defaults = msgspec.json.encode(defaults)

    def complete(self, value: Any) -> dict[str, Any]:
        """
        Return the input of a run, with the defaults filled in. Completing a complete input changes nothing.

        Args:
            value: The given input, of the types of JSON: a mapping of values by the names of inputs, or `None`.

        Raises:
            InvalidInputError: With every mistake in *value*.
        """
        given = {} if value is None else value
        if not isinstance(given, dict):
            message = f"must be a mapping of values by the names of inputs, not {shown(given)}"
            raise InvalidInputError([InputProblem("", "", message)], dag=self._dag)
        completed = {**msgspec.json.decode(self._defaults), **given}
        problems = list(self._problems(given))
        for name, schema in self._schemas.items():
            if name not in completed:
                problems.append(InputProblem(name, format_path((name,)), f"is missing{_allowed(schema)}"))
        if problems:
            raise InvalidInputError(problems, dag=self._dag)
        return completed

    def read(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """
        Return the values of *texts*, by the names of inputs: as JSON where the input is no string, else the text.

        An input that may be a string or not is read as JSON where that gives one of its other types.
        """
        values = {}
        for name, text in texts.items():
            declared = self._schemas.get(name, {}).get("type", [])
            types = [declared] if isinstance(declared, str) else declared
            value = read_text(text)
            values[name] = text if "string" in types and not any(has_type(value, each) for each in types) else value
        return values

    def _problems(self, given: Mapping[str, Any]) -> Iterator[InputProblem]:
        hints, checks = Hints(), Checks()
        for name, value in given.items():
            if name in self._schemas:
                for finding in mistakes_in(value, self._validators[name], checks):
                    yield InputProblem(name, format_path((name, *finding.key)), finding.message)
            else:
                meant = hints.closest(name, [each for each in self._schemas if each not in given])
                hint = f"did you mean {meant!r}?" if meant else f"its inputs: {listed(self._schemas) or 'none'}"
                yield InputProblem(name, format_path((name,)), f"is no input of this DAG; {hint}")

    @cached_property
    def _validators(self) -> dict[str, Any]:
        return {name: make_validator(schema) for name, schema in self._schemas.items()}


def read_text(text: str) -> Any:
    """Return the value of a text that is JSON, and no string of JSON; any other text is itself the value."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str) else value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _schema_of(declared: Any) -> dict[str, Any]:
    return {"type": declared} if isinstance(declared, str) else declared


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return the allowed values of an input, as the end of a sentence about a missing value."""
    if "format" in schema:
        return f"; it must be {FORMATS[schema['format']].allowed}"
    return f"; it must be {types_in_words(schema['type'])}" if "type" in schema else ""


def input_mistakes(inputs: Any, hints: Hints) -> Iterator[Finding]:
    """Yield the mistakes in the value of the key `inputs`, each with its place in this value."""
    if not isinstance(inputs, dict):
        return
    if len(inputs) > INPUTS_MAX:
        yield Finding((), f"must declare at most {INPUTS_MAX} inputs, not {len(inputs)}; put them into an `object`")
        return
    for name, declared in inputs.items():
        if isinstance(declared, str):
            if declared not in TYPES:
                yield Finding((name,), no_type(declared, hints), at_value=True)
        elif not isinstance(declared, dict):
            yield Finding((name,), f"must be a type or a JSON Schema, not {shown(declared)}", at_value=True)
        else:
            found = mistakes_in_schema(declared, hints)
            if not found and "default" in declared:
                of_default = mistakes_in(declared["default"], make_validator(declared))
                found = [finding.inside(("default",)) for finding in of_default]
            yield from (finding.inside((name,)) for finding in found)
