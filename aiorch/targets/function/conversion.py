"""The conversion of JSON values to the annotated type of a parameter, by the rules of pydantic for JSON."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from types import NoneType
from typing import Any

import msgspec

from aiorch.errors import words_of
from aiorch.model.findings import Key, shown

REASONS_MAX = 3
"""Reasons about one value: a union has one for each of its types."""

TYPE_CHARS_MAX = 100

_JSON_TYPES = (str, int, float, bool, list, dict, NoneType)

_encode = msgspec.json.Encoder().encode


class NotConvertedError(Exception):
    """
    A value does not convert.

    Attributes:
        reasons: The reasons, by the place in the value.
    """

    def __init__(self, reasons: dict[Key, str]) -> None:
        self.reasons: dict[Key, str] = reasons
        super().__init__(reasons)


class Conversion:
    """
    Converts JSON values to one type. With a type that cannot be read from JSON, values stay as they are.

    Args:
        annotation: The type.
    """

    __slots__ = ("_annotation", "_decode", "_is_prepared")

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._is_prepared = False

    def __str__(self) -> str:
        text = inspect.formatannotation(self._annotation)
        return text if len(text) <= TYPE_CHARS_MAX else text[: TYPE_CHARS_MAX - 1] + "…"

    def __call__(self, value: Any) -> Any:
        """Return *value* as the type. Raises: NotConvertedError."""
        if type(value) is self._annotation and self._annotation in _JSON_TYPES:
            return value
        if not self._is_prepared:
            self._decode = _decoder(self._annotation)
            self._is_prepared = True
        if self._decode is None:
            return value
        try:
            return self._decode(_encode(value))
        except Exception as error:
            raise NotConvertedError(_reasons(error, value)) from error  # validators of the user may raise anything


def _decoder(annotation: Any) -> Callable[[bytes], Any] | None:
    """Return a function that reads a type from JSON, `None` if there is none."""
    from pydantic import TypeAdapter  # noqa: PLC0415  most callables need no conversion

    try:
        return TypeAdapter(annotation).validate_json
    except Exception:  # noqa: BLE001  the type may bring code of the user
        return _decoder_of_msgspec(annotation)


def _decoder_of_msgspec(annotation: Any) -> Callable[[bytes], Any] | None:
    """Return the same for types that msgspec alone knows: a `Struct`, and before Python 3.12 a `TypedDict`."""
    import msgspec.inspect  # noqa: PLC0415  few types come here

    try:
        is_known = "CustomType(" not in repr(msgspec.inspect.type_info(annotation))
        return msgspec.json.Decoder(annotation, strict=False).decode if is_known else None
    except Exception:  # noqa: BLE001  as above
        return None


def _reasons(error: Exception, value: Any) -> dict[Key, str]:
    from pydantic import ValidationError  # noqa: PLC0415  only a mistake needs it

    if not isinstance(error, ValidationError):
        return {(): f"this is {shown(value)}: {words_of(error) or type(error).__name__}"}
    found: dict[Key, list[str]] = {}
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        key, inner = _place(each["loc"], value)
        if each["type"] == "missing":
            found[*key, each["loc"][-1]] = ["a field is missing here"]
        elif len(reasons := found.setdefault(key, [])) < REASONS_MAX:
            reasons.append(each["msg"] if reasons else f"this is {shown(inner)}: {each['msg']}")
    return {key: " or ".join(reasons) for key, reasons in found.items()}


def _place(location: Key, value: Any) -> tuple[Key, Any]:
    """Follow the location of an error into *value*, past labels that are no keys, like those of types of a union."""
    key: Key = ()
    for part in location:
        with suppress(LookupError, TypeError):
            key, value = (*key, part), value[part]
    return key, value
