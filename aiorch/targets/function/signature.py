"""
The signature of a callable, with its annotations resolved.

An annotation may be a text: every one is in a module with ``from __future__ import annotations``. A name that only type
checkers import has no value here. So an annotation with such a name counts as none, unless the name is `TaskContext`.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import MethodType, NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from aiorch.ports.context import TaskContext
from aiorch.targets.function.conversion import Conversion

NONE = inspect.Parameter.empty
"""Stands for a default that a parameter does not have."""

UNKNOWN_NAMES_MAX = 20

WRAPPERS_MAX = 100
"""Wrappers around a callable or an annotation, like decorators and aliases, within each other."""

_KNOWN: Mapping[str, Any] = {TaskContext.__name__: TaskContext, "aiorch": sys.modules["aiorch"]}
"""Names that a module may import for type checkers only, and that tell which parameter gets the context."""


class Parameter:
    """
    One parameter of a callable.

    Attributes:
        name: Its name.

        kind: Its kind, one of those of `inspect.Parameter`.

        default: Its default, or `NONE`.

        convert: Converts a value to the annotated type; `None`: a value is passed as it is.

        is_context: Whether the parameter is annotated with `TaskContext`.

        may_be_context: Whether its annotation allows a `TaskContext`, or whether there is no annotation.
    """

    __slots__ = ("convert", "default", "is_context", "kind", "may_be_context", "name")

    def __init__(self, parameter: inspect.Parameter, namespace: dict[str, Any]) -> None:
        self.name: str = parameter.name
        self.kind: Any = parameter.kind
        self.default: Any = parameter.default
        annotation, is_resolved = _resolved(parameter.annotation, namespace)
        allows_context = _allows_context(annotation)
        self.is_context: bool = allows_context is True
        self.may_be_context: bool = allows_context is not False or (not is_resolved and self.name == "context")
        is_needed = is_resolved and not _says_nothing(annotation)
        self.convert: Conversion | None = Conversion(annotation) if is_needed else None

    @property
    def is_variadic(self) -> bool:
        """Whether it is ``*args`` or ``**kwargs``."""
        return self.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

    @property
    def is_positional_only(self) -> bool:
        """Whether it takes no value by name."""
        return self.kind is inspect.Parameter.POSITIONAL_ONLY

    @property
    def is_positional(self) -> bool:
        """Whether it takes a value by position."""
        return self.kind is not inspect.Parameter.KEYWORD_ONLY

    def gets_context(self, given: Mapping[str, Any]) -> bool:
        """
        Whether it gets the context in a call.

        Args:
            given: The `parameters` of the step.
        """
        return self.is_context or (self.may_be_context and self.name not in given)


def parameters_of(function: Callable[..., Any]) -> list[Parameter] | None:
    """Return the parameters of a callable, `None` if no signature can be read: some built-in callables have none."""
    try:
        found = inspect.signature(function).parameters.values()
        namespace = _namespace(function)
        return [Parameter(each, namespace) for each in found]
    except Exception:  # noqa: BLE001  attributes of a callable object may run code of the user
        return None


def _namespace(function: Any) -> dict[str, Any]:
    """Return the names that the texts of the annotations of a callable may use: those of its module."""
    for _ in range(WRAPPERS_MAX):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    called = "__init__" if isinstance(function, type) else "__call__"
    found = getattr(function, "__globals__", None) or getattr(getattr(function, called), "__globals__", None)
    return found if isinstance(found, dict) else {}


def _resolved(annotation: Any, namespace: dict[str, Any]) -> tuple[Any, bool]:
    """Return an annotation with the values of all texts in it, and whether all names in the texts are known."""
    holder = SimpleNamespace(__annotations__={"it": annotation})
    unknown: dict[str, Any] = {}
    while len(unknown) < UNKNOWN_NAMES_MAX:
        try:
            found = get_type_hints(holder, namespace, unknown, include_extras=True)["it"]
        except NameError as error:
            if not error.name or error.name in unknown:
                break
            unknown[error.name] = _KNOWN.get(error.name) or type(error.name, (), {})
        except Exception:  # noqa: BLE001  a text may be any expression
            break
        else:
            return found, unknown.keys() <= _KNOWN.keys()
    names_context = isinstance(annotation, str) and annotation.rpartition(".")[2] == TaskContext.__name__
    return (TaskContext, True) if names_context else (annotation, False)


def _says_nothing(annotation: Any) -> bool:
    return annotation is NONE or annotation is Any or annotation is object


def _allows_context(annotation: Any) -> bool | None:
    """Whether an annotation names `TaskContext`; `None` if it allows one without the name."""
    for _ in range(WRAPPERS_MAX):
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            break
    if isinstance(annotation, TypeVar):
        annotation = annotation.__bound__ or Any
    if get_origin(annotation) in (Union, UnionType):
        parts = {_allows_context(each) for each in get_args(annotation) if each is not NoneType}
        return True if True in parts else None if None in parts else False
    if isinstance(annotation, type) and issubclass(annotation, TaskContext):
        return True
    is_protocol = getattr(annotation, "_is_protocol", False)
    return None if is_protocol or _says_nothing(annotation) else False
