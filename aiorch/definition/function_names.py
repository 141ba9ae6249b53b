"""
Names for callables in stored definitions: definitions hold names, never code.

    importable callables                    ``module:qualified.name``
    lambdas, closures, partials of those    the same and ``#`` with a hash of all their parts
    objects with state                      the same and ``#`` with a hash that is valid for this object only

The hash of code and constants is the same in every process, so an interrupted run finds its callable again. The
behaviour of an object with state in a different process is unknown: its name is valid in this process only. A run that
does not find its callable waits, which is better than calling a different one.
"""

import functools
import re
import secrets
import sys
import weakref
from collections.abc import Callable, Iterable
from hashlib import sha256
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

_CONSTANTS = (NoneType, bool, int, float, complex, str, bytes, EllipsisType)
_PARTS_MAX = 10_000
"""Largest number of parts to hash; a callable with more parts is identified as an object."""

_tokens: dict[int, tuple["weakref.ref[Any]", str]] = {}
"""Token by the `id` of its object, as long as the object lives."""


class _OpaqueError(Exception):
    """The parts of an object cannot be seen from outside."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of *function*: callables with the same name behave the same."""
    name = _import_name(function)
    if _finds(name, function):
        return name
    try:
        description: object = _Describer().describe(function)
    except _OpaqueError:
        description = secrets.token_hex(8)  # the object has no weak reference, so it gets a new name each time
    return f"{name}#{sha256(repr(description).encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"


def _import_name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    named = function if isinstance(getattr(function, "__qualname__", None), str) else type(function)
    parts = named.__module__ or "builtins", named.__qualname__.replace("<locals>.", "")
    return ":".join(re.sub(r"[^\w.]", "", part) for part in parts)


def _finds(name: str, wanted: Any) -> bool:
    """Whether an import of *name* gives exactly *wanted*."""
    module, _, attributes = name.partition(":")
    found: Any = sys.modules.get(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute, None)
    # A class returns a new object for each access to a class method.
    return found is wanted or (isinstance(wanted, MethodType) and found == wanted)


class _Describer:
    """Describes one callable in constants, so that equal descriptions mean equal behaviour."""

    def __init__(self) -> None:
        self._parts_left = _PARTS_MAX
        self._open: list[Any] = []

    def describe(self, value: Any) -> object:
        kind = type(value)
        if kind in _CONSTANTS:
            return kind.__name__, value
        if isinstance(value, type | FunctionType | BuiltinFunctionType) and _finds(name := _import_name(value), value):
            return "import", name
        for depth, around in enumerate(self._open):
            if value is around:
                return "again", depth  # a function may hold itself
        self._parts_left -= 1
        self._open.append(value)
        try:
            if kind not in _PARTS or self._parts_left < 0:
                raise _OpaqueError
            return kind.__name__, [self.describe(part) for part in _PARTS[kind](value)]
        except _OpaqueError:
            return "object", _token(value)
        finally:
            self._open.pop()


def _token(value: Any) -> str:
    """Return a token for *value* as long as it lives. Raises: _OpaqueError if *value* has no weak reference."""
    key, token = id(value), secrets.token_hex(8)
    known = _tokens.get(key)
    if known is not None and known[0]() is value:
        return known[1]
    try:
        _tokens[key] = weakref.ref(value, lambda _: _tokens.pop(key, None)), token
    except TypeError:
        raise _OpaqueError from None  # its holder gets a token instead
    return token


def _parts_of_module(module: ModuleType) -> Iterable[Any]:
    if sys.modules.get(module.__name__) is not module:
        raise _OpaqueError
    return (module.__name__,)


def _parts_of_code(code: CodeType) -> Iterable[Any]:
    # Neither file nor line: moving a function does not change its behaviour.
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    variables = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_code, code.co_exceptiontable, arguments, variables, code.co_consts


def _parts_of_function(function: FunctionType) -> Iterable[Any]:
    module = sys.modules.get(function.__module__)
    if module is None or function.__globals__ is not vars(module):
        raise _OpaqueError
    try:
        held = tuple(cell.cell_contents for cell in function.__closure__ or ())
    except ValueError:  # a variable without a value yet
        raise _OpaqueError from None
    defaults = (function.__defaults__, tuple((function.__kwdefaults__ or {}).items()))
    return function.__module__, function.__qualname__, function.__code__, held, defaults


_PARTS: dict[type, Callable[[Any], Iterable[Any]]] = {
    tuple: iter,
    frozenset: lambda value: sorted(value, key=repr),
    functools.partial: lambda value: (value.func, value.args, tuple(value.keywords.items())),
    MethodType: lambda value: (value.__self__, value.__func__),
    ModuleType: _parts_of_module,
    CodeType: _parts_of_code,
    FunctionType: _parts_of_function,
}
