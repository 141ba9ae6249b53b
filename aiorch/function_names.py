"""
The name that stands for a callable in a stored definition: definitions hold names, never code.

    what an import finds                    ``module:qualified.name``
    lambdas, closures, partials of those    the same and ``#`` with a hash of all that they are made of
    everything else                         the same and ``#`` with a token of this very object

A hash comes out the same in every process as long as the code is the same, so a run that was interrupted finds its
callable again. A token does not: what an object with a state of its own would do elsewhere cannot be known, and a run
that does not find its callable waits, which is better than calling another one.
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
_DEPTH_MAX = 30
"""A function may be held by the closure of another, and even by its own: that would be described without end."""

_tokens: dict[int, tuple["weakref.ref[Any]", str]] = {}
"""Token by `id` of the object it was given to, for as long as that object lives."""


class _OpaqueError(Exception):
    """What a callable is made of cannot be told from outside."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of *function*: the same for the same object, another for one that could do something else."""
    name = _import_name(function)
    if _finds(name, function):
        return name
    try:
        tail = sha256(repr(_description(function, 0)).encode("utf-8", "backslashreplace")).hexdigest()[:16]
    except _OpaqueError:
        tail = _token(function)
    return f"{name}#{tail}"


def _import_name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    named = function if isinstance(getattr(function, "__qualname__", None), str) else type(function)
    parts = named.__module__ or "builtins", named.__qualname__.replace("<locals>.", "")
    return ":".join(re.sub(r"[^\w.]", "", part) for part in parts)


def _finds(name: str, wanted: Any) -> bool:
    """Whether an import of *name* gives *wanted* and nothing else."""
    module, _, attributes = name.partition(":")
    found: Any = sys.modules.get(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute, None)
    # A class hands out a new object each time that one of its class methods is asked for.
    return found is wanted or (isinstance(wanted, MethodType) and found == wanted)


def _description(value: Any, depth: int) -> object:
    """Return *value* in constants only, equal to that of another value only when both do the same."""
    kind = type(value)
    if kind in _CONSTANTS:
        return kind.__name__, value
    if isinstance(value, type | FunctionType | BuiltinFunctionType) and _finds(name := _import_name(value), value):
        return "import", name
    if kind not in _PARTS or depth > _DEPTH_MAX:
        raise _OpaqueError
    return kind.__name__, [_description(part, depth + 1) for part in _PARTS[kind](value)]


def _parts_of_module(module: ModuleType) -> Iterable[Any]:
    if sys.modules.get(module.__name__) is not module:
        raise _OpaqueError
    return (module.__name__,)


def _parts_of_code(code: CodeType) -> Iterable[Any]:
    # Neither file nor line: moving a function does not change what it does.
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    variables = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_code, code.co_exceptiontable, arguments, variables, code.co_consts


def _parts_of_function(function: FunctionType) -> Iterable[Any]:
    module = sys.modules.get(function.__module__)
    if module is None or function.__globals__ is not vars(module):
        raise _OpaqueError
    try:
        held = tuple(cell.cell_contents for cell in function.__closure__ or ())
    except ValueError:  # a variable that has no value yet
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


def _token(function: Any) -> str:
    key, token = id(function), secrets.token_hex(8)
    known = _tokens.get(key)
    if known is not None and known[0]() is function:
        return known[1]
    try:
        _tokens[key] = weakref.ref(function, lambda _: _tokens.pop(key, None)), token
    except TypeError:
        return token  # it cannot be referred to weakly, so it gets a new one each time
    return token
