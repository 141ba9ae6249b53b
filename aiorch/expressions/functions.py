"""The functions of expressions, with the names and meanings that they have in Google Workflows. None does I/O."""

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from aiorch.expressions.errors import ExpressionError
from aiorch.model.findings import shown

STEPS = 10_000
"""Steps that one evaluation may take, besides those that `STEPS_PER_ITEM` grants."""

STEPS_PER_ITEM = 50
"""Further steps for each item of a list or mapping that an expression goes through, once for each of them."""

TEXT_CHARACTERS_MAX = 100_000
"""Longest text that an expression makes."""

CHARACTERS_PER_STEP = 100
DIGITS_MAX = 25
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_Number = TypeVar("_Number", int, float)


class Budget:
    """
    The steps that one evaluation may still take.

    Attributes:
        left: Number of steps.
    """

    __slots__ = ("granted", "left")

    def __init__(self) -> None:
        self.left: int = STEPS
        self.granted: set[int] = set()

    def spend(self, steps: int) -> None:
        """Take *steps*. Raises: ExpressionError."""
        if steps > self.left:
            raise ExpressionError(
                f"the expression takes more than {STEPS} steps, and {STEPS_PER_ITEM} for each item that it goes through"
            )
        self.left -= steps

    def grant(self, read: Any) -> None:
        """Allow for a list or mapping among the values that the expression reads, when it is first gone through."""
        if id(read) not in self.granted:
            self.granted.add(id(read))
            self.left += STEPS_PER_ITEM * len(read)


class Function(NamedTuple):
    """A function of expressions."""

    form: str
    """A call of it, for messages."""

    least: int
    most: int
    """Numbers of arguments."""

    apply: Callable[..., Any] | None
    """Takes the budget and the arguments; `None` for a function that does not evaluate all of its arguments."""


def type_of(value: Any) -> str:
    """Return the name of the type of a value."""
    return _TYPES.get(type(value), "mapping")


_TYPES: Mapping[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "double",
    str: "text",
    list: "list",
    dict: "mapping",
}


def _expect(value: Any, kind: type, function: str) -> Any:
    if type(value) is not kind:
        raise ExpressionError(f"`{function}` takes a {type_of(kind())}, and this is {shown(value)}")
    return value


def text_of(value: Any, function: str) -> str:
    """Return *value*, a text. Raises: ExpressionError."""
    text: str = _expect(value, str, function)
    return text


def number_of(value: Any, function: str) -> Any:
    """Return *value*, a number. Raises: ExpressionError."""
    if type(value) is not int and type(value) is not float:
        raise ExpressionError(f"`{function}` takes numbers, and this is {shown(value)}")
    return value


def checked_number(value: Any) -> Any:
    """Return a computed number. Raises: ExpressionError: it has more than 64 bits, or is not finite."""
    if type(value) is int:
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise ExpressionError("the number needs more than 64 bits")
    elif not math.isfinite(value):
        raise ExpressionError("the number is not finite")
    return value


def checked_text(budget: Budget, text: str) -> str:
    """Return a computed text. Raises: ExpressionError: the text is too long."""
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ExpressionError(f"the text has {len(text)} characters, and the limit is {TEXT_CHARACTERS_MAX}")
    budget.spend(1 + len(text) // CHARACTERS_PER_STEP)
    return text


def as_text(value: Any) -> str:
    """Return a text, number or boolean as text. Raises: ExpressionError."""
    if type(value) is str:
        return value
    if value is None or type(value) in (list, dict):
        raise ExpressionError(f"{shown(value)} is no text; `json.encode` turns any value into text")
    return json.dumps(value)


def equal(budget: Budget, left: Any, right: Any) -> bool:
    """Compare two values: `true` is no number, 1 and 1.0 are the same, and mappings have no order."""
    stack = [(left, right)]
    while stack:
        one, other = stack.pop()
        kind, others = type(one), type(other)
        if kind is not others:
            if {kind, others} != {int, float} or one != other:
                return False
        elif kind is list:
            if len(one) != len(other):
                return False
            budget.spend(len(one))
            stack += zip(one, other, strict=True)
        elif kind is dict:
            if one.keys() != other.keys():
                return False
            budget.spend(len(one))
            stack += [(value, other[key]) for key, value in one.items()]
        elif one != other:
            return False
    return True


def less(left: Any, right: Any) -> bool:
    """Whether *left* is less than *right*, both numbers or both texts. Raises: ExpressionError."""
    if type(left) is str and type(right) is str:
        return left < right
    if type(left) in (int, float) and type(right) in (int, float):
        return bool(left < right)
    raise ExpressionError(f"{shown(left)} and {shown(right)} have no order")


def _len(budget: Budget, value: Any) -> int:
    if type(value) not in (str, list, dict):
        raise ExpressionError(f"`len` takes a text, list or mapping, and this is {shown(value)}")
    budget.spend(1)
    return len(value)


def _keys(budget: Budget, value: Any) -> list[str]:
    budget.spend(len(_expect(value, dict, "keys")))
    return list(value)


def _int(_: Budget, value: Any) -> int:
    return _converted(value, int, DIGITS_MAX, "integer")


def _double(_: Budget, value: Any) -> float:
    return _converted(value, float, 400, "number")


def _converted(value: Any, kind: type[_Number], characters_max: int, noun: str) -> _Number:
    try:
        if type(value) in (int, float) or (type(value) is str and len(value) <= characters_max and "_" not in value):
            number: _Number = checked_number(kind(value))
            return number
    except (ValueError, OverflowError) as error:
        if isinstance(error, ExpressionError):
            raise
    raise ExpressionError(f"{shown(value)} is no {noun}")


def _string(budget: Budget, value: Any) -> str:
    return checked_text(budget, as_text(value))


def _split(budget: Budget, source: Any, separator: Any) -> list[str]:
    source, separator = text_of(source, "text.split"), text_of(separator, "text.split")
    if not separator:
        raise ExpressionError("`text.split` takes a separator of at least one character")
    budget.spend(1 + len(source) // CHARACTERS_PER_STEP + source.count(separator))
    parts: list[str] = source.split(separator)
    return parts


def _join(budget: Budget, parts: Any, separator: Any) -> str:
    budget.spend(len(_expect(parts, list, "text.join")))
    separator = text_of(separator, "text.join")
    size = sum(len(text_of(part, "text.join")) for part in parts) + len(separator) * max(0, len(parts) - 1)
    if size > TEXT_CHARACTERS_MAX:
        raise ExpressionError(f"the text has {size} characters, and the limit is {TEXT_CHARACTERS_MAX}")
    return checked_text(budget, separator.join(parts))


def _replace_all(budget: Budget, source: Any, old: Any, new: Any) -> str:
    source, old, new = (text_of(each, "text.replace_all") for each in (source, old, new))
    if not old:
        raise ExpressionError("`text.replace_all` takes a text of at least one character to replace")
    budget.spend(1 + len(source) // CHARACTERS_PER_STEP)
    size = len(source) + source.count(old) * (len(new) - len(old))
    if size > TEXT_CHARACTERS_MAX:
        raise ExpressionError(f"the text has {size} characters, and the limit is {TEXT_CHARACTERS_MAX}")
    return checked_text(budget, source.replace(old, new))


def _substring(budget: Budget, source: Any, start: Any, end: Any) -> str:
    source = text_of(source, "text.substring")
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(source):
        raise ExpressionError(
            f"`text.substring` takes integers with 0 <= start <= end <= {len(source)}, and these are {shown(start)} "
            f"and {shown(end)}"
        )
    return checked_text(budget, source[start:end])


def _of_text(name: str, change: Callable[[str], str]) -> Callable[[Budget, Any], str]:
    def apply(budget: Budget, source: Any) -> str:
        budget.spend(1 + len(text_of(source, name)) // CHARACTERS_PER_STEP)
        return checked_text(budget, change(source))

    return apply


def _json_encode(budget: Budget, value: Any) -> str:
    try:
        encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise ExpressionError("`json.encode` takes no value that is nested so deeply") from None
    return checked_text(budget, encoded)


def _json_decode(budget: Budget, source: Any) -> Any:
    budget.spend(1 + len(text_of(source, "json.decode")) // CHARACTERS_PER_STEP)
    try:
        decoded = json.loads(source, parse_int=_json_int, parse_float=_json_float, parse_constant=_json_float)
        json.dumps(decoded, ensure_ascii=False).encode()  # half of a character is none
    except ExpressionError:
        raise
    except (ValueError, RecursionError) as error:
        raise ExpressionError(f"`json.decode` takes JSON: {error}") from None
    return decoded


def _json_int(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ExpressionError("the number needs more than 64 bits")
    number: int = checked_number(int(digits))
    return number


def _json_float(digits: str) -> float:
    number: float = checked_number(float(digits))
    return number


def _base64_encode(budget: Budget, source: Any) -> str:
    return checked_text(budget, base64.b64encode(text_of(source, "base64.encode").encode()).decode())


def _base64_decode(budget: Budget, source: Any) -> str:
    try:
        decoded = base64.b64decode(text_of(source, "base64.decode"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ExpressionError("`base64.decode` takes base64 of a text in UTF-8") from None
    return checked_text(budget, decoded)


def _list_concat(budget: Budget, items: Any, value: Any) -> list[Any]:
    budget.spend(len(_expect(items, list, "list.concat")) + 1)
    return [*items, value]


def _map_get(budget: Budget, mapping: Any, keys: Any) -> Any:
    found: Any = _expect(mapping, dict, "map.get")
    path = keys if type(keys) is list else [keys]
    budget.spend(1 + len(path))
    for key in path:
        if type(found) is not dict:
            return None
        found = found.get(text_of(key, "map.get"))
    return found


def _merge_all(budget: Budget, mappings: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for each in _expect(mappings, list, "map.merge_all"):
        budget.spend(1 + len(_expect(each, dict, "map.merge_all")))
        merged |= each
    return merged


def _map_delete(budget: Budget, mapping: Any, key: Any) -> dict[str, Any]:
    budget.spend(1 + len(_expect(mapping, dict, "map.delete")))
    return {name: value for name, value in mapping.items() if name != text_of(key, "map.delete")}


def _abs(_: Budget, value: Any) -> Any:
    return checked_number(abs(number_of(value, "math.abs")))


def _least(_: Budget, one: Any, other: Any) -> Any:
    return min(number_of(one, "math.min"), number_of(other, "math.min"))


def _most(_: Budget, one: Any, other: Any) -> Any:
    return max(number_of(one, "math.max"), number_of(other, "math.max"))


def _floor(_: Budget, value: Any) -> int:
    floor: int = math.floor(number_of(value, "math.floor"))
    return floor


def _sum(budget: Budget, items: Any) -> Any:
    budget.spend(1 + len(_expect(items, list, "sum")))
    total: Any = 0
    for item in items:
        total = checked_number(total + number_of(item, "sum"))
    return total


def _sorted(budget: Budget, items: Any) -> list[Any]:
    budget.spend(1 + 2 * len(_expect(items, list, "sorted")))
    kinds = {type(item) for item in items}
    if not (kinds <= {int, float} or kinds == {str}):
        raise ExpressionError("`sorted` takes a list of numbers, or a list of texts")
    budget.spend(sum(len(item) for item in items) // CHARACTERS_PER_STEP if kinds == {str} else 0)
    return sorted(items)


def moment(text: Any, function: str) -> datetime:
    """Return the time that a text names, with its zone. Raises: ExpressionError."""
    try:
        found = datetime.fromisoformat(text_of(text, function))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ExpressionError(
            f"`{function}` takes a time with a zone, as 2026-11-28T06:00:00Z, and this is {shown(text)}"
        )
    return found


def _time_parse(_: Budget, text: Any) -> float:
    return moment(text, "time.parse").timestamp()


def _time_format(_: Budget, seconds: Any) -> str:
    try:
        return _written(datetime.fromtimestamp(number_of(seconds, "time.format"), UTC))
    except (ValueError, OverflowError, OSError):
        raise ExpressionError(f"{shown(seconds)} is no time: `time.format` takes seconds since 1970") from None


def _time_add(_: Budget, text: Any, seconds: Any) -> str:
    try:
        return _written(moment(text, "time.add") + timedelta(seconds=number_of(seconds, "time.add")))
    except OverflowError:
        raise ExpressionError("`time.add` leaves the years 1 to 9999") from None


def _written(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


FUNCTIONS: Mapping[str, Function] = {
    "default": Function("default(results.Load.rows, 0)", 2, 2, None),
    "if": Function('if(input.full, "all", "new")', 3, 3, None),
    "len": Function("len(input.files)", 1, 1, _len),
    "keys": Function("keys(input)", 1, 1, _keys),
    "int": Function('int("12")', 1, 1, _int),
    "double": Function('double("1.5")', 1, 1, _double),
    "string": Function("string(12)", 1, 1, _string),
    "get_type": Function("get_type(input)", 1, 1, lambda _, value: type_of(value)),
    "text.split": Function('text.split("a,b", ",")', 2, 2, _split),
    "text.join": Function('text.join(["a", "b"], ",")', 2, 2, _join),
    "text.replace_all": Function('text.replace_all("a-b", "-", "_")', 3, 3, _replace_all),
    "text.to_lower": Function('text.to_lower("A")', 1, 1, _of_text("text.to_lower", str.lower)),
    "text.to_upper": Function('text.to_upper("a")', 1, 1, _of_text("text.to_upper", str.upper)),
    "text.substring": Function('text.substring("abc", 0, 2)', 3, 3, _substring),
    "text.url_encode": Function(
        'text.url_encode("a b")', 1, 1, _of_text("text.url_encode", lambda text: quote(text, ""))
    ),
    "json.encode": Function("json.encode(input)", 1, 1, _json_encode),
    "json.decode": Function('json.decode("[1]")', 1, 1, _json_decode),
    "base64.encode": Function('base64.encode("a")', 1, 1, _base64_encode),
    "base64.decode": Function('base64.decode("YQ==")', 1, 1, _base64_decode),
    "list.concat": Function("list.concat([1], 2)", 2, 2, _list_concat),
    "map.get": Function('map.get(input, "day")', 2, 2, _map_get),
    "map.merge_all": Function("map.merge_all([input, {}])", 1, 1, _merge_all),
    "map.delete": Function('map.delete(input, "day")', 2, 2, _map_delete),
    "math.abs": Function("math.abs(-1)", 1, 1, _abs),
    "math.min": Function("math.min(1, 2)", 2, 2, _least),
    "math.max": Function("math.max(1, 2)", 2, 2, _most),
    "math.floor": Function("math.floor(1.5)", 1, 1, _floor),
    "sum": Function("sum([1, 2])", 1, 1, _sum),
    "sorted": Function("sorted([2, 1])", 1, 1, _sorted),
    "time.parse": Function('time.parse("2026-11-28T06:00:00Z")', 1, 1, _time_parse),
    "time.format": Function("time.format(0)", 1, 1, _time_format),
    "time.add": Function('time.add("2026-11-28T06:00:00Z", 60)', 2, 2, _time_add),
}
