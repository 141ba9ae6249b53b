"""
The arguments of a callable: its signature decides whether it gets the context, the `parameters` of the step, or both.

Pure, apart from validators of the user's own types, which a conversion runs.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aiorch.errors import AiorchError
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.ports.context import TaskContext
from aiorch.targets.function.conversion import NotConvertedError
from aiorch.targets.function.signature import NONE, Parameter, parameters_of

NAMES_SHOWN = 10

_CONTEXT_ALONE = inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY, annotation=TaskContext)
"""The parameter of a callable that gets the context whatever its signature is."""

_NO_NAMES: Mapping[str, Any] = {}


class ParameterError(AiorchError):
    """The `parameters` of a step do not fit the signature of its callable, so the callable was not called."""


class Arguments:
    """
    The rule by which one callable gets its arguments.

    A callable with one parameter gets the context, unless the parameter is a key of the step's `parameters`, or is
    annotated with another type than `TaskContext`. With more parameters, the one annotated with `TaskContext`, or else
    the one named ``context``, gets the context, and the others get `parameters` by name. A callable with ``*args``
    alone, or without a readable signature, gets the context.

    Args:
        name: Name of the callable in messages.

        function: The callable. Its signature is read once.

    Attributes:
        are_context_alone: Whether the context is the one argument in every call, by position.
    """

    __slots__ = ("_alone", "_name", "_named", "_surplus", "are_context_alone")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        found = parameters_of(function)
        variadic = {each.kind: each for each in found or () if each.is_variadic}
        named = [each for each in found or () if not each.is_variadic]
        if found is None or (not named and inspect.Parameter.VAR_POSITIONAL in variadic):
            named, variadic = [Parameter(_CONTEXT_ALONE, {})], {}
        is_annotated = any(each.is_context for each in named)
        for each in named:
            is_meant = len(named) == 1 or (each.name == "context" and not is_annotated)
            each.may_be_context = each.may_be_context and is_meant
        self._named = named
        self._surplus = variadic.get(inspect.Parameter.VAR_KEYWORD)
        self._alone = alone = named[0] if len(named) == 1 and self._surplus is None else None
        self.are_context_alone: bool = alone is not None and alone.is_context and alone.is_positional

    def of(self, context: TaskContext) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """
        Return the arguments of a call: those by position, and those by name.

        Raises:
            ParameterError: With every parameter that is missing, unknown or of a wrong type.
        """
        alone = self._alone
        if alone is not None and alone.gets_context(context.parameters):
            return ((context,), _NO_NAMES) if alone.is_positional else ((), {alone.name: context})
        by_position, by_name, findings = self._fill(context.parameters, context, lambda _: True)
        if findings:
            mistakes = "; ".join(f"`{_path(each.key)}`: {each.message}" for each in findings)
            raise ParameterError(
                f"{self._name!r} was not called: correct the `parameters` of the step, or its signature: {mistakes}"
            )
        return by_position, by_name

    def find_problems(self, given: Mapping[str, Any], is_known: Callable[[Any], bool]) -> list[Finding]:
        """
        Return the mistakes in the `parameters` of a step, before any launch.

        Args:
            given: The `parameters` as the definition has them.

            is_known: Whether a launch will pass this very value. Any other value is not converted.

        Returns:
            Findings whose `key` is relative to the step.
        """
        if self._alone is not None and self._alone.gets_context(given):
            return []
        return self._fill(given, None, is_known)[2]

    def _fill(
        self, given: Mapping[str, Any], context: TaskContext | None, is_known: Callable[[Any], bool]
    ) -> tuple[list[Any], dict[str, Any], list[Finding]]:
        by_position: list[Any] = []
        by_name: dict[str, Any] = {}
        findings: list[Finding] = []

        def converted(parameter: Parameter, key: str) -> Any:
            value = given[key]
            if parameter.convert is None or not is_known(value):
                return value
            try:
                return parameter.convert(value)
            except NotConvertedError as error:
                findings.extend(self._wrong(parameter, key, error))
                return value

        left = dict(given)
        for each in self._named:
            if each.gets_context(given):
                value: Any = context
            elif each.name in left:
                del left[each.name]
                value = converted(each, each.name)
            elif each.default is NONE:
                findings.append(self._missing(each, given))
                continue
            elif each.is_positional_only:
                value = each.default  # a parameter behind it may be given
            else:
                continue
            if each.is_positional_only:
                by_position.append(value)
            else:
                by_name[each.name] = value
        for key in left:
            if self._surplus is None or key in by_name:
                findings.append(self._unknown(key, given))
            else:
                by_name[key] = converted(self._surplus, key)
        return by_position, by_name, findings

    def _missing(self, parameter: Parameter, given: Mapping[str, Any]) -> Finding:
        message = f"this key is missing, and the parameter `{parameter.name}` of {self._name!r} has no default"
        if parameter.convert is None and not any(each.gets_context(given) for each in self._named):
            message += "; to get the context instead, name it `context`, or annotate it with TaskContext"
        return Finding(("parameters", parameter.name), message)

    def _unknown(self, key: str, given: Mapping[str, Any]) -> Finding:
        if any(each.name == key for each in self._named):
            message = f"the parameter `{key}` of {self._name!r} gets the context; rename the parameter or this key"
        else:
            names = [each.name for each in self._named if not each.gets_context(given)]
            meant = Hints().closest(key, [name for name in names if name not in given])
            known = ", ".join(f"`{name}`" for name in names[:NAMES_SHOWN]) or "none"
            hint = f"did you mean `{meant}`?" if meant else f"its parameters: {known}"
            message = f"{self._name!r} has no parameter for this key, which is {shown(given[key])}; {hint}"
        return Finding(("parameters", key), message)

    def _wrong(self, parameter: Parameter, key: str, error: NotConvertedError) -> Iterator[Finding]:
        for place, reason in error.reasons.items():
            message = f"the parameter `{parameter.name}` of {self._name!r} is {parameter.convert}, and {reason}"
            yield Finding(("parameters", key, *place), message, at_value=True)


def _path(key: Key) -> str:
    first, *rest = key
    return f"{first}" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
