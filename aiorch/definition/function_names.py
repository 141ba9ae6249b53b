"""
The name that stands for a callable in a stored definition: definitions hold names, never code.

The name is ``module:qualified.name``, if an import of that gives the very callable. Any process and any later version
of Python can find the callable by such a name. Lambdas, closures, partials and other objects have none. A name made of
their parts would differ between versions of Python, and their runs would wait for ever after an upgrade.
"""

import functools
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any


def import_name(function: Callable[..., Any]) -> str | None:
    """Return the name by which an import finds *function*, `None` when there is none."""
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str):
        return None
    found: Any = sys.modules.get(module)
    for attribute in path.split("."):
        found = getattr(found, attribute, None)
    # A class hands out a new object each time that one of its class methods is asked for.
    is_found = found is function or (isinstance(function, MethodType) and found == function)
    return f"{module}:{path}" if is_found else None


def refusal(function: Callable[..., Any], step: str) -> str:
    """Return the reason why *function* cannot stand in the definition of *step*, and the next move."""
    candidates = (getattr(function, "__name__", None), step)
    name = "local:" + next((each for each in candidates if isinstance(each, str) and each.isidentifier()), "callable")
    return (
        f"this is {_description(function)}, which no import finds, so no run could find it again after a restart or an "
        f"upgrade of Python; register it: Orchestrator(functions={{{name!r}: ...}}), and write {name!r} here"
    )


def _description(function: Callable[..., Any]) -> str:
    match function:
        case FunctionType(__name__="<lambda>"):
            return "a lambda"
        case FunctionType():
            return f"the function {function.__qualname__!r}"
        case MethodType():
            return f"a method of an object of type {type(function.__self__).__name__}"
        case functools.partial():
            return "a partial"
    return f"an object of type {type(function).__name__}"
