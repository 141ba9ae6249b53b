"""
A definition as plain JSON data, which is validated, stored and hashed.

Every mapping and sequence becomes a new dict or list, so that later changes by the caller have no effect. Callables
become their names, and values that JSON cannot hold are reported with their paths.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiorch.definition.function_names import import_name, refusal
from aiorch.definition.source import LoadedDefinition
from aiorch.definition.syntax import (
    NESTING_MAX,
    TEXT_BYTES_MAX,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY,
    VALUES_MAX,
)
from aiorch.model.findings import Finding, Key

_SURROGATE = re.compile("[\ud800-\udfff]")


class PlainDefinition:
    """
    The plain form of a definition.

    Attributes:
        data: The definition, with `None` in place of each reported value.

        functions: Callables that the definition held as objects, by the names that replace them.

        findings: Values that JSON cannot hold.

    Raises:
        DefinitionError: The definition is too large, or nested too deeply.
    """

    def __init__(self, loaded: LoadedDefinition) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self.findings: list[Finding] = []
        self._loaded = loaded
        self._values = 0
        self._characters = 0
        # A stack, not recursion. A new container is put into its parent before it is filled, so keys keep their order.
        self._unfilled: list[tuple[Iterable[tuple[Any, Any]], Any, Key]] = []
        self.data: Any = self._plain(loaded.data, ())
        while self._unfilled:
            container = self._unfilled.pop()
            already = len(self._unfilled)
            self._fill(*container)
            self._unfilled[already:] = reversed(self._unfilled[already:])  # the first container is filled first

    def _fill(self, items: Iterable[tuple[Any, Any]], container: Any, key: Key) -> None:
        if isinstance(container, list):
            container += [self._plain(value, (*key, index)) for index, value in items]
        else:
            for part, value in items:
                if type(part) is type(value) is str and part.isascii() and value.isascii():  # most entries
                    self._characters += len(part) + len(value)
                    container[part] = value
                    continue
                inside = (*key, str(part))
                if not isinstance(part, str):
                    self._report(inside, f"the key {part!r} is no string; put it in quotes")
                elif (name := self._plain(part, inside)) is not None:
                    container[name] = self._plain(value, inside)
        self._values += len(container)
        if self._values > VALUES_MAX:
            raise self._loaded.error([Finding((), TOO_MANY)])
        if self._characters > TEXT_BYTES_MAX:
            raise self._loaded.error([Finding((), TOO_LONG)])

    def _plain(self, value: Any, key: Key) -> Any:
        kind = type(value)
        if (kind is str and value.isascii()) or kind is bool:  # nearly all values
            self._characters += len(value) if kind is str else 0
            return value
        if kind is dict or isinstance(value, Mapping):  # the second question is slow
            return self._open(value.items(), {}, key)
        if isinstance(value, list | tuple):
            return self._open(enumerate(value), [], key)
        if callable(value) and _is_function_of_step(key):
            return self._name(value, key)
        wrong = _wrong(value)
        if wrong is not None:
            return self._report(key, wrong)
        self._characters += len(value) if isinstance(value, str) else 0
        return _exactly(value)

    def _open(self, items: Iterable[tuple[Any, Any]], container: Any, key: Key) -> Any:
        if len(key) >= NESTING_MAX:
            raise self._loaded.error([Finding(key[:8], TOO_DEEP)])
        self._unfilled.append((items, container, key))
        return container

    def _name(self, function: Callable[..., Any], key: Key) -> str | None:
        name = import_name(function)
        if name is None:
            self._report(key, refusal(function, str(key[-2])))
            return None
        self.functions[name] = function
        return name

    def _report(self, key: Key, message: str) -> None:
        self.findings.append(Finding(key, message, at_value=True))


def _wrong(value: Any) -> str | None:
    """Return the reason why JSON cannot hold *value*, `None` if it can."""
    match value:
        case str():
            half = not value.isascii() and _SURROGATE.search(value)
            return "this holds half of a character (a lone surrogate)" if half else None
        case int():
            fits = -(2**63) <= value < 2**64
            return None if fits else "this number needs more than 64 bits; put it in quotes"
        case float():
            return None if math.isfinite(value) else "this number is not finite"
        case None:
            return None
    noun = type(value).__name__
    return f"this is {'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}, which JSON cannot hold"


def _exactly(value: Any) -> Any:
    """Return *value* as a plain type, if its class is a subclass: a member of an enumeration, a number of numpy."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_function_of_step(key: Key) -> bool:
    """Whether *key* is ``steps.X.function``, with any number of ``steps.P.branches[0]`` before it."""
    levels, rest = divmod(len(key), 4)
    shape = [key[index : index + 4 : 2] for index in range(0, 4 * levels, 4)]
    return rest == 3 and key[-3] == "steps" and key[-1] == "function" and set(shape) <= {("steps", "branches")}
