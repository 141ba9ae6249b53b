"""Mistakes in a value, found by a JSON Schema, in words of aiorch: the place, the allowed values and the given one."""
# ruff: noqa: PLC0415  imports: see the head of the package

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from aiorch.errors import counted
from aiorch.model.findings import Finding, Hints, shown
from aiorch.model.json_values import canonical
from aiorch.schemas.vocabulary import FORMATS, TYPES

if TYPE_CHECKING:
    from fractions import Fraction

CHECKS_MAX = 50_000
"""Checks of keywords for one start: half a second, or twice that, in which the process does no other work."""

PATTERN_TEXT_CHARS_MAX = 10_000
"""Longest text that is matched with a pattern: the time grows with the text and with the size of the pattern."""

MISTAKES_MAX = 50
"""Mistakes in one value that are reported."""

LISTED_MAX = 10
"""Values, or names of keys, in one message."""


class Checks:
    """The checks that one or several values may take."""

    def __init__(self) -> None:
        self._left = CHECKS_MAX

    def take(self, count: int) -> None:
        """Use up some checks. Raises: TooManyChecksError."""
        self._left -= count
        if self._left < 0:
            raise TooManyChecksError


class TooManyChecksError(Exception):
    """The checks are used up."""


def mistakes_in(value: Any, validator: Any, checks: Checks | None = None) -> list[Finding]:
    """
    Return the mistakes in a value, each with its place in the value.

    Args:
        value: A value of the types of JSON.

        validator: From `make_validator`.

        checks: The checks that this value shares with others; `None`: it has its own.
    """
    _checks.set(checks or Checks())
    try:
        errors = list(islice(validator.iter_errors(value), MISTAKES_MAX))
    except TooManyChecksError:
        return [Finding((), f"takes more than {CHECKS_MAX:,} checks, and must be smaller", at_value=True)]
    except RecursionError:
        return [Finding((), "is nested too deeply to be checked", at_value=True)]
    found = (Finding(tuple(error.absolute_path), _in_words(error), at_value=True) for error in errors)
    return list(dict.fromkeys(found))


def make_validator(schema: Any) -> Any:
    """Return the validator of a valid schema, for `mistakes_in`."""
    kind, formats = _validator_class()
    return kind(schema, format_checker=formats)


def has_type(value: Any, name: str) -> bool:
    """Whether a value has one of the `TYPES`."""
    from jsonschema import Draft202012Validator

    return bool(Draft202012Validator.TYPE_CHECKER.is_type(value, name))


# -- the checks ------------------------------------------------------------------------------------------------------

_Rule = Callable[[Any, Any, Any, Any], Iterable[Any] | None]


_checks: ContextVar[Checks] = ContextVar("checks")


@cache
def _validator_class() -> tuple[Any, Any]:
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.validators import extend

    formats = FormatChecker(formats=())
    for name, form in FORMATS.items():
        formats.checks(name)(form.allows)
    own = {"multipleOf": _multiple_of, "pattern": _pattern, "uniqueItems": _unique_items}
    rules = {**Draft202012Validator.VALIDATORS, **own}
    counted = {name: _counted(rule) for name, rule in rules.items()}
    return extend(Draft202012Validator, counted), formats  # type: ignore[no-untyped-call]


def _counted(rule: _Rule) -> _Rule:
    """Return the check of a keyword that counts itself, more than once for a large value or a large list of values."""

    def check(validator: Any, expected: Any, value: Any, schema: Any) -> Iterable[Any] | None:
        _checks.get().take(1 + _size(value) // 100 + _size(expected) // 10)
        return rule(validator, expected, value, schema)

    return check


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _multiple_of(_: Any, expected: float, value: Any, __: Any) -> Iterator[Any]:
    """Compare the numbers as they are written: 0.3 is a multiple of 0.1. The library divides, and some overflow."""
    from jsonschema import ValidationError

    if has_type(value, "number") and _exactly(value) % _exactly(expected):
        yield ValidationError("multipleOf")


def _exactly(number: Any) -> "Fraction":
    from fractions import Fraction

    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _pattern(_: Any, expected: str, value: Any, __: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and (len(value) > PATTERN_TEXT_CHARS_MAX or not regex(expected).isinstance_python(value)):
        yield ValidationError("pattern")


def _unique_items(_: Any, expected: Any, value: Any, __: Any) -> Iterator[Any]:
    """Compare the items by their texts. The library compares each item with each."""
    from jsonschema import ValidationError

    if expected and isinstance(value, list):
        _checks.get().take(len(value))
        if len({canonical(msgspec.json.encode(item)) for item in value}) < len(value):
            yield ValidationError("uniqueItems")


@lru_cache(1000)
def regex(pattern: str) -> Any:
    """Return a matcher of a pattern in the syntax of Rust's ``regex``. Raises: pydantic_core.SchemaError."""
    from pydantic_core import SchemaValidator, core_schema

    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True))


# -- the words -------------------------------------------------------------------------------------------------------

_RULES = {
    "const": "must be {shown_rule}, not {given}",
    "minimum": "must be at least {rule}, not {given}",
    "maximum": "must be at most {rule}, not {given}",
    "exclusiveMinimum": "must be above {rule}, not {given}",
    "exclusiveMaximum": "must be below {rule}, not {given}",
    "multipleOf": "must be a multiple of {rule}, not {given}",
    "uniqueItems": "must not hold an item twice",
    "contains": "must hold an item as `contains` describes",
    "items": "has {size} items, more than `prefixItems` describes",
    "not": "must not be as `not` describes, and {given} is",
    "oneOf": "must fit only one of the alternatives, and {given} fits several",
}
"""The messages of keywords."""

_SIZES = {
    "minLength": ("at least", "character"),
    "maxLength": ("at most", "character"),
    "minItems": ("at least", "item"),
    "maxItems": ("at most", "item"),
    "minProperties": ("at least", "key"),
    "maxProperties": ("at most", "key"),
}
"""The keywords about the size of a value: the bound, and the parts that count."""


def _in_words(error: Any, *, is_inner: bool = False) -> str:  # noqa: PLR0911  one per keyword
    """Return the message for a mistake: the allowed values, and the given one. An inner one lists no alternatives."""
    rule, value = error.validator_value, error.instance
    given = shown(value)
    match error.validator:
        case None:
            return f"holds {given}, where no value is allowed"
        case "type":
            return f"must be {types_in_words(rule)}, not {'the text ' if _is_text(value) else ''}{given}"
        case "enum":
            meant = Hints().closest(value, filter(_is_text, rule)) if _is_text(value) else None
            hint = f"; did you mean {meant!r}?" if meant else ""
            return f"must be {listed(map(shown, rule), 'or')}, not {given}{hint}"
        case "format":
            return f"must be {FORMATS[rule].allowed}, not {given}"
        case "pattern" if len(value) > PATTERN_TEXT_CHARS_MAX:
            return f"must have at most {PATTERN_TEXT_CHARS_MAX:,} characters for its `pattern`, not {len(value):,}"
        case "pattern":
            return f"must match the pattern {shown(rule)}, and {given} does not"
        case "required":
            return f"lacks {listed(shown(each) for each in rule if each not in value)}"
        case "additionalProperties" if rule is False:
            known = error.schema.get("properties", {})
            extra = listed(shown(each) for each in value if each not in known)
            return f"has {extra}, and may have {listed(map(shown, known)) or 'no keys'}"
        case "anyOf" | "oneOf" if is_inner and error.context:
            return "fits none of its alternatives"
        case "anyOf" | "oneOf" if error.context:
            firsts = {each.schema_path[0]: each for each in reversed(error.context)}
            reasons = [_reason(firsts[number]) for number in sorted(firsts)[:LISTED_MAX]]
            return f"fits none of the alternatives: {'; '.join(reasons)}"
        case keyword if keyword in _SIZES:
            bound, noun = _SIZES[keyword]
            return f"must have {bound} {counted(rule, noun)}, not {len(value):,}"
    message = _RULES.get(error.validator, f"breaks the rule `{error.validator}`, and was given as {{given}}")
    return message.format(rule=rule, shown_rule=shown(rule), given=given, size=_size(value))


def _reason(error: Any) -> str:
    """Return the reason why a value does not fit an alternative, with the place inside the value."""
    return " ".join(("/".join(map(str, error.path)), _in_words(error, is_inner=True))).strip()


def types_in_words(types: str | list[str]) -> str:
    """Return the value of a keyword `type` in words: ``a string or null``."""
    return listed((TYPES[each] for each in ([types] if isinstance(types, str) else types)), "or")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def listed(words: Iterable[str], conjunction: str = "and") -> str:
    """Return the words with commas and a conjunction, the first `LISTED_MAX` of them; empty without any."""
    words = list(words)
    if len(words) > LISTED_MAX:
        words = [*words[:LISTED_MAX], f"{len(words) - LISTED_MAX} more"]
    *others, last = words or [""]
    return f"{', '.join(others)} {conjunction} {last}" if others else last
