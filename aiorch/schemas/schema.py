"""Mistakes in a JSON Schema of a definition."""
# ruff: noqa: PLC0415, SIM905  imports: see the head of the package; lists would take a line for each keyword

from collections.abc import Iterator
from functools import cache
from typing import Any

from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.schemas.value import make_validator, mistakes_in, regex
from aiorch.schemas.vocabulary import FORMATS, IN_OTHER_LANGUAGES, TYPES

DEPTH_MAX = 30
"""Levels of schemas, one inside the other. Each takes some ten frames of the 1,000 that Python allows."""

CHECKS_AT_ONCE_MAX = 10_000
"""Checks that a schema may make of one place of a value. A part counts each time that a reference leads to it."""

PATTERN_CHARS_MAX = 1000

DRAFT = "https://json-schema.org/draft/2020-12/schema"

# The keywords that hold schemas: one, a list of them, or a mapping of names to them.
_WITH_ONE = frozenset(
    """
    additionalProperties contains contentSchema else if items not propertyNames then unevaluatedItems
    unevaluatedProperties
    """.split()
)
_WITH_LIST = frozenset("allOf anyOf oneOf prefixItems".split())
_WITH_NAMES = frozenset("$defs dependentSchemas properties".split())

_IN_PLACE = frozenset("allOf anyOf dependentSchemas else if not oneOf then".split())
"""The keywords whose schemas are about the same value as the schema that holds them."""

_KEYWORDS = frozenset(
    """
    $comment $ref $schema const contentEncoding contentMediaType default dependentRequired deprecated description enum
    examples exclusiveMaximum exclusiveMinimum format maxContains maxItems maxLength maxProperties maximum minContains
    minItems minLength minProperties minimum multipleOf pattern readOnly required title type uniqueItems writeOnly
    """.split()
).union(_WITH_ONE, _WITH_LIST, _WITH_NAMES)

_INSTEAD = {
    **dict.fromkeys(
        ("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$vocabulary"),
        "is not supported; put the part below `$defs`, and refer to it by `$ref: '#/$defs/…'`",
    ),
    "definitions": "belongs to older drafts; write `$defs`",
    "patternProperties": "is not supported; write `propertyNames: {pattern: …}` and `additionalProperties`",
}
"""Keywords of JSON Schema that a schema may not have here."""


def mistakes_in_schema(schema: dict[str, Any], hints: Hints) -> list[Finding]:
    """Return the mistakes in a schema, each with its place in the schema."""
    walk = _Walk(hints)
    walk.run(schema)
    if not walk.is_too_deep:
        for finding in mistakes_in(schema, _schema_validator()):
            walk.report(finding.key, finding.message)
    if not walk.findings:
        walk.check_references()
    return list(walk.findings.values())


@cache
def _schema_validator() -> Any:
    from jsonschema import Draft202012Validator

    return make_validator(Draft202012Validator.META_SCHEMA)


class _Walk:
    """A walk through a schema and the schemas inside, without recursion. Keeps the first mistake of each place."""

    def __init__(self, hints: Hints) -> None:
        self.findings: dict[Key, Finding] = {}
        self.is_too_deep = False
        self._hints = hints
        self._schemas: dict[Key, dict[str, Any] | bool] = {}
        self._about_same_value: dict[Key, list[Key]] = {}

    def report(self, key: Key, message: str, *, at_value: bool = True) -> None:
        self.findings.setdefault(key, Finding(key, message, at_value))

    def run(self, schema: Any) -> None:
        waiting: list[tuple[Key, Any, int]] = [((), schema, 1)]
        while waiting:
            key, schema, depth = waiting.pop()
            if not isinstance(schema, dict | bool):
                continue  # the schema of schemas tells
            self._schemas[key] = schema
            if depth > DEPTH_MAX:
                self.is_too_deep = True
                self.report(key, f"schemas are nested at most {DEPTH_MAX} levels deep")
            elif isinstance(schema, dict):
                self._keywords(key, schema)
                waiting += [(inner, each, depth + 1) for inner, each in _inside(key, schema)]

    def _keywords(self, key: Key, schema: dict[str, Any]) -> None:
        for keyword, value in schema.items():
            place = (*key, keyword)
            if keyword in _INSTEAD:
                self.report(place, f"this keyword {_INSTEAD[keyword]}", at_value=False)
            elif keyword not in _KEYWORDS and not keyword.startswith("x-"):
                meant = self._hints.closest(keyword, _KEYWORDS - schema.keys())
                hint = f"did you mean `{meant}`?" if meant else "keywords of your own begin with `x-`"
                self.report(place, f"unknown keyword of JSON Schema; {hint}", at_value=False)
            elif isinstance(value, str):
                self._text(place, value)
            elif keyword == "required" and isinstance(value, bool):
                self.report(place, _wrong_required(is_input=not key, is_required=value))

    def _text(self, place: Key, value: str) -> None:
        """Check the text that is the value of a keyword."""
        match place[-1]:
            case "type" if value not in TYPES:
                self.report(place, no_type(value, self._hints))
            case "format" if value not in FORMATS:
                self.report(place, not_one_of(FORMATS, value, self._hints))
            case "pattern" if (wrong := _wrong_pattern(value)) is not None:
                self.report(place, wrong)
            case "$ref" if value != "#" and not value.startswith("#/"):
                message = f"must refer to a part of this schema, like '#/$defs/Address', not to {shown(value)}"
                self.report(place, message)
            case "$schema" if value.rstrip("#") != DRAFT:
                self.report(place, f"must be {shown(DRAFT)}, or left out")

    def check_references(self) -> None:
        """Report references that lead to no schema, that never end, or that repeat too many checks."""
        from graphlib import CycleError, TopologicalSorter

        by_path = {tuple(map(str, key)): key for key in self._schemas}
        for key, schema in self._schemas.items():
            about = self._about_same_value[key] = []
            if isinstance(schema, bool):
                continue
            about += [inner for inner, _ in _inside(key, schema, _IN_PLACE)]
            if "$ref" in schema:
                target = by_path.get(_path_of(schema["$ref"]))
                if target is None:
                    known = [_pointer(each) for each in self._schemas if each]
                    meant = self._hints.closest(schema["$ref"], known)
                    hint = f"; did you mean {meant!r}?" if meant else ""
                    self.report((*key, "$ref"), f"{shown(schema['$ref'])} is no schema inside this schema{hint}")
                else:
                    about.append(target)
        try:
            order = list(TopologicalSorter(self._about_same_value).static_order())
        except CycleError as error:
            first = next(each for each in error.args[1] if "$ref" in self._schemas[each])  # type: ignore[operator]
            message = "leads back to itself about the same value, so no check would end; refer to a part of the value"
            self.report((*first, "$ref"), message)
            return
        checks: dict[Key, int] = {}
        for key in order:
            schema = self._schemas[key]
            own = 1 if isinstance(schema, bool) else len(schema)
            checks[key] = own + sum(checks[each] for each in self._about_same_value[key])
            if checks[key] > CHECKS_AT_ONCE_MAX:
                self.report(key, f"makes more than {CHECKS_AT_ONCE_MAX:,} checks of one value; refer to each part once")
                return


def _inside(key: Key, schema: dict[str, Any], keywords: frozenset[str] = _KEYWORDS) -> Iterator[tuple[Key, Any]]:
    """Yield the place and the value of each schema directly inside *schema*, below these keywords."""
    for keyword, value in schema.items():
        if keyword not in keywords:
            continue
        if keyword in _WITH_ONE:
            yield (*key, keyword), value
        elif keyword in _WITH_LIST and isinstance(value, list):
            yield from (((*key, keyword, index), each) for index, each in enumerate(value))
        elif keyword in _WITH_NAMES and isinstance(value, dict):
            yield from (((*key, keyword, name), each) for name, each in value.items())


def _path_of(reference: str) -> tuple[str, ...]:
    """Return the parts of a reference like ``#/$defs/Address``. Source: RFC 6901, section 3 and 6."""
    from urllib.parse import unquote

    parts = unquote(reference).split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _pointer(key: Key) -> str:
    return "/".join(("#", *(str(part).replace("~", "~0").replace("/", "~1") for part in key)))


def _wrong_pattern(pattern: str) -> str | None:
    """Return the reason why a pattern is not allowed, `None` if it is."""
    from pydantic_core import SchemaError

    if len(pattern) > PATTERN_CHARS_MAX:
        return f"must have at most {PATTERN_CHARS_MAX} characters"
    try:
        regex(pattern)
    except SchemaError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = lines[-1].removeprefix("error: ").removeprefix("SchemaError: ")
        return f"{shown(pattern)} is no pattern of the syntax of Rust's `regex`: {reason.rstrip('.')}"
    return None


def _wrong_required(*, is_input: bool, is_required: bool) -> str:
    if not is_input:
        return "must be a list of the names of required `properties`, in the schema that has these"
    if is_required:
        return "take this away: an input without `default` is required"
    return "take this away, and give the input a `default`: without one it is required"


def no_type(value: str, hints: Hints) -> str:
    """Return the message about a text that is no type."""
    meant = IN_OTHER_LANGUAGES.get(value.lower(), value)
    if meant in FORMATS:
        return f"{_must_be(TYPES, value)}; write `{{type: string, format: {meant}}}`"
    return f"{_must_be(TYPES, value)}; did you mean `{meant}`?" if meant in TYPES else not_one_of(TYPES, value, hints)


def not_one_of(known: dict[str, Any], value: str, hints: Hints) -> str:
    """Return the message about a text that is none of the *known* names."""
    meant = hints.closest(value, known)
    return _must_be(known, value) + (f"; did you mean `{meant}`?" if meant else "")


def _must_be(known: dict[str, Any], value: str) -> str:
    *others, last = (f"`{each}`" for each in known)
    return f"must be {', '.join(others)} or {last}, not {shown(value)}"
