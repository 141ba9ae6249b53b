"""JSON Schemas in definitions: mistakes in a schema, mistakes in a value, and bounds on the time of both."""

import json
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aiorch.model.findings import Hints
from aiorch.schemas.schema import CHECKS_AT_ONCE_MAX, DEPTH_MAX, DRAFT, mistakes_in_schema
from aiorch.schemas.value import CHECKS_MAX, MISTAKES_MAX, PATTERN_TEXT_CHARS_MAX, make_validator, mistakes_in
from aiorch.schemas.vocabulary import FORMATS, TYPES

PROMPT_S = 15.0
"""CPU seconds: several times those of any check here, and far fewer than a check without a bound would take."""


def in_schema(schema: dict[str, Any]) -> dict[str, str]:
    """The mistakes in *schema*: messages by place."""
    return {_place(finding.key): finding.message for finding in mistakes_in_schema(schema, Hints())}


def in_value(schema: dict[str, Any], value: Any) -> dict[str, str]:
    """The mistakes in *value* by a schema without mistakes: messages by place."""
    assert in_schema(schema) == {}
    return {_place(finding.key): finding.message for finding in mistakes_in(value, make_validator(schema))}


def _place(key: tuple[str | int, ...]) -> str:
    return "/".join(map(str, key))


# -- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date", "2026-11-28"),
        ("date", "2024-02-29"),
        ("date", "0001-01-01"),
        ("date-time", "2026-11-28T06:30:00Z"),
        ("date-time", "2026-11-28t06:30:00z"),
        ("date-time", "2026-11-28T06:30:00.123456789+05:30"),
        ("date-time", "2026-11-28T23:59:59-23:59"),
        ("uuid", "6b3f5a1e-2c7d-4e8f-9a0b-1c2d3e4f5a6b"),
        ("uuid", "6B3F5A1E-2C7D-4E8F-9A0B-1C2D3E4F5A6B"),
        ("uuid", "00000000-0000-0000-0000-000000000000"),
        ("email", "ops@example.com"),
        ("email", "a.b+c'd@x-y.example"),
        ("email", "root@localhost"),
        ("email", f"{'a' * 242}@example.com"),
    ],
)
def test_a_format_allows_a_text(name: str, text: str) -> None:
    """A text of the documented form has the format."""
    assert in_value({"format": name}, text) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date", "2026-02-29"),
        ("date", "2026-11-28\n"),
        ("date", "20261128"),
        ("date", "2026-W48-6"),
        ("date", "26-11-28"),
        ("date", "0000-01-01"),
        ("date", "2026-1-28"),
        ("date", "2026-11-2\N{ARABIC-INDIC DIGIT EIGHT}"),
        ("date", "2026-11-28T00:00:00Z"),
        ("date", ""),
        ("date-time", "2026-11-28"),
        ("date-time", "2026-11-28T06:30:00"),
        ("date-time", "2026-11-28 06:30:00Z"),
        ("date-time", "2026-11-28T06:30Z"),
        ("date-time", "2026-11-28T24:00:00Z"),
        ("date-time", "2026-11-28T06:30:60Z"),
        ("date-time", "2026-11-28T06:30:00.Z"),
        ("date-time", "2026-11-28T06:30:00.1234567890Z"),
        ("date-time", "2026-11-28T06:30:00+24:00"),
        ("date-time", "2026-11-28T06:30:00+05:60"),
        ("date-time", "2026-11-28T06:30:00+0530"),
        ("date-time", "2026-02-30T06:30:00Z"),
        ("date-time", "2026-11-28T06:30:00Z\n"),
        ("uuid", "6b3f5a1e2c7d4e8f9a0b1c2d3e4f5a6b"),
        ("uuid", "{6b3f5a1e-2c7d-4e8f-9a0b-1c2d3e4f5a6b}"),
        ("uuid", "6b3f5a1e-2c7d-4e8f-9a0b-1c2d3e4f5a6g"),
        ("email", "ops"),
        ("email", "ops@"),
        ("email", "@example.com"),
        ("email", "ops@-example.com"),
        ("email", "ops@example..com"),
        ("email", "ops@example.com."),
        ("email", "ops@exämple.com"),
        ("email", "a b@example.com"),
        ("email", f"ops@{'a' * 64}.com"),
        ("email", f"{'a' * 243}@example.com"),
    ],
)
def test_a_format_refuses_a_text(name: str, text: str) -> None:
    """A text of a different form is a mistake, and the message has an example of the form."""
    assert in_value({"format": name}, text)[""].startswith(f"must be {FORMATS[name].allowed}, not '")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_concerns_texts_only(name: str) -> None:
    """As JSON Schema says, a value that is no text has every format; `type` excludes it."""
    assert in_value({"format": name}, 5) == {}
    assert in_value({"format": name, "type": "string"}, 5) == {"": "must be a string, not the number 5"}


def test_the_example_of_each_format_has_it() -> None:
    """The example that messages show is right."""
    for name, form in FORMATS.items():
        assert in_value({"format": name}, form.allowed.split("'")[1]) == {}


# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value", "place", "message"),
    [
        ({"type": "integer"}, "5", "", "must be a whole number, not the text '5'"),
        ({"type": "integer"}, 5.5, "", "must be a whole number, not the number 5.5"),
        ({"type": "integer"}, True, "", "must be a whole number, not true"),
        ({"type": "string"}, None, "", "must be a string, not null"),
        ({"type": ["string", "null"]}, [], "", "must be a string or null, not a list"),
        ({"type": "object"}, "{}", "", "must be a mapping, not the text '{}'"),
        ({"enum": ["fast", "slow"]}, "fsat", "", "must be 'fast' or 'slow', not 'fsat'; did you mean 'fast'?"),
        ({"enum": [1, None]}, 2, "", "must be the number 1 or null, not the number 2"),
        ({"const": 3}, 4, "", "must be the number 3, not the number 4"),
        ({"minimum": 1}, 0, "", "must be at least 1, not the number 0"),
        ({"maximum": 1.5}, 2, "", "must be at most 1.5, not the number 2"),
        ({"exclusiveMinimum": 1}, 1, "", "must be above 1, not the number 1"),
        ({"exclusiveMaximum": 1}, 1, "", "must be below 1, not the number 1"),
        ({"multipleOf": 0.1}, 0.25, "", "must be a multiple of 0.1, not the number 0.25"),
        ({"minLength": 2}, "a", "", "must have at least 2 characters, not 1"),
        ({"maxLength": 2}, "abc", "", "must have at most 2 characters, not 3"),
        ({"pattern": "^[a-z]+$"}, "A", "", "must match the pattern '^[a-z]+$', and 'A' does not"),
        ({"pattern": "^a$"}, "a\n", "", "must match the pattern '^a$', and 'a\\n' does not"),
        ({"minItems": 1}, [], "", "must have at least 1 item, not 0"),
        ({"maxItems": 1}, [1, 2], "", "must have at most 1 item, not 2"),
        ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], "", "must not hold an item twice"),
        ({"minProperties": 1}, {}, "", "must have at least 1 key, not 0"),
        ({"maxProperties": 0}, {"a": 1}, "", "must have at most 0 keys, not 1"),
        ({"contains": {"const": 1}}, [2], "", "must hold an item as `contains` describes"),
        ({"prefixItems": [True], "items": False}, [1, 2], "", "has 2 items, more than `prefixItems` describes"),
        ({"not": {"type": "null"}}, None, "", "must not be as `not` describes, and null is"),
        ({"required": ["id", "day"]}, {}, "", "lacks 'id' and 'day'"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "", "breaks the rule `dependentRequired`"),
        ({"properties": {"a": False}}, {"a": 1}, "", "holds the number 1, where no value is allowed"),
        (
            {"properties": {"a": True}, "additionalProperties": False},
            {"b": 1, "c": 2},
            "",
            "has 'b' and 'c', and may have 'a'",
        ),
        ({"items": {"properties": {"id": {"type": "integer"}}}}, [{}, {"id": "x"}], "1/id", "must be a whole number"),
        ({"propertyNames": {"pattern": "^x-"}}, {"y": 1}, "", "must match the pattern '^x-', and 'y' does not"),
        (
            {"anyOf": [{"type": "integer"}, {"properties": {"a": {"type": "null"}}, "type": "object"}]},
            {"a": 1},
            "",
            "fits none of the alternatives: must be a whole number, not a mapping; a must be null, not the number 1",
        ),
        (
            {"anyOf": [{"anyOf": [{"type": "integer"}]}, {"type": "null"}]},
            "x",
            "",
            "fits none of the alternatives: fits none of its alternatives; must be null, not the text 'x'",
        ),
        ({"oneOf": [{}, {}]}, 1, "", "must fit only one of the alternatives, and the number 1 fits several"),
        ({"if": {"const": 1}, "then": {"type": "string"}}, 1, "", "must be a string, not the number 1"),
    ],
)
def test_a_mistake_says_what_is_allowed_and_what_was_given(
    schema: dict[str, Any], value: Any, place: str, message: str
) -> None:
    """Each keyword has a message with the rule and the value, at the place of the value."""
    found = in_value(schema, value)
    assert found.keys() == {place}
    assert found[place].startswith(message)


def test_numbers_are_compared_as_they_are_written() -> None:
    """0.3 is a multiple of 0.1, though the quotient of the two floats is not whole; no number is too large."""
    assert in_value({"multipleOf": 0.1}, 0.3) == {}
    assert in_value({"multipleOf": 0.1}, 10**400) == {}
    assert in_value({"multipleOf": 1e-300}, 1e308) == {}
    assert in_value({"type": "integer"}, 5.0) == {}


def test_patterns_are_found_anywhere_in_a_text() -> None:
    """A pattern without anchors is no pattern of the whole text."""
    assert in_value({"pattern": "b+"}, "abbc") == {}
    assert in_value({"pattern": "b+"}, "ac").keys() == {""}


def test_many_mistakes_are_cut() -> None:
    """A value with a mistake in each of very many items is reported with the first ones only."""
    found = in_value({"items": {"type": "string"}}, list(range(1000)))
    assert list(found) == [str(index) for index in range(MISTAKES_MAX)]


def test_many_allowed_values_are_cut() -> None:
    """A message lists ten values of a long `enum`, and the number of the others."""
    assert in_value({"enum": list(range(30))}, "x")[""].endswith("the number 9 or 20 more, not 'x'")


# -- schemas ---------------------------------------------------------------------------------------------------------

REF = "#/$defs/Node"
TREE = {"$ref": REF, "$defs": {"Node": {"properties": {"left": {"$ref": REF}, "right": {"$ref": REF}}}}}


@pytest.mark.parametrize(
    ("schema", "place", "message"),
    [
        ({"type": "integr"}, "type", "or `null`, not 'integr'; did you mean `integer`?"),
        ({"type": "list"}, "type", "not 'list'; did you mean `array`?"),
        ({"properties": {"day": {"type": "date"}}}, "properties/day/type", "write `{type: string, format: date}`"),
        ({"type": "DateTime"}, "type", "write `{type: string, format: date-time}`"),
        ({"required": True}, "required", "take this away: an input without `default` is required"),
        ({"required": False}, "required", "take this away, and give the input a `default`"),
        ({"properties": {"day": {"required": True}}}, "properties/day/required", "must be a list of the names"),
        ({"type": 5}, "type", "fits none of the alternatives"),
        ({"type": []}, "type", "fits none of the alternatives"),
        ({"type": ["string", "text"]}, "type", "fits none of the alternatives"),
        ({"typ": "string"}, "typ", "unknown keyword of JSON Schema; did you mean `type`?"),
        ({"zzz": 1}, "zzz", "unknown keyword of JSON Schema; keywords of your own begin with `x-`"),
        ({"properties": {"a": {"minimun": 1}}}, "properties/a/minimun", "did you mean `minimum`?"),
        ({"properties": []}, "properties", "must be a mapping, not a list"),
        ({"items": 5}, "items", "must be a mapping or true or false, not the number 5"),
        ({"allOf": []}, "allOf", "must have at least 1 item, not 0"),
        ({"minLength": -1}, "minLength", "must be at least 0, not the number -1"),
        ({"required": ["a", "a"]}, "required", "must not hold an item twice"),
        ({"required": "a"}, "required", "must be a list, not the text 'a'"),
        ({"multipleOf": 0}, "multipleOf", "must be above 0, not the number 0"),
        ({"enum": "a"}, "enum", "must be a list, not the text 'a'"),
        (
            {"format": "data"},
            "format",
            "must be `date`, `date-time`, `email` or `uuid`, not 'data'; did you mean `date`?",
        ),
        ({"format": "uri"}, "format", "must be `date`, `date-time`, `email` or `uuid`, not 'uri'"),
        ({"items": {"format": "regex"}}, "items/format", "not 'regex'"),
        ({"pattern": "("}, "pattern", "'(' is no pattern of the syntax of Rust's `regex`: unclosed group"),
        ({"pattern": "(?=a)"}, "pattern", "look-around, including look-ahead and look-behind, is not supported"),
        ({"pattern": r"(a)\1"}, "pattern", "backreferences are not supported"),
        ({"pattern": "(a{1000}){1000}"}, "pattern", "Compiled regex exceeds size limit of 10485760 bytes"),
        ({"pattern": "a" * 1001}, "pattern", "must have at most 1000 characters"),
        ({"$ref": "https://example.com/a.json"}, "$ref", "must refer to a part of this schema"),
        ({"$ref": "other.json#/$defs/A"}, "$ref", "must refer to a part of this schema"),
        ({"$ref": "file:///etc/passwd"}, "$ref", "must refer to a part of this schema"),
        ({"$ref": "#anchor"}, "$ref", "must refer to a part of this schema"),
        ({"$ref": "#/$defs/Adress", "$defs": {"Address": {}}}, "$ref", "is no schema inside this schema; did you mean"),
        ({"$ref": "#/required", "required": ["a"]}, "$ref", "'#/required' is no schema inside this schema"),
        ({"$ref": "#/properties", "properties": {"pattern": {}}}, "$ref", "is no schema inside this schema"),
        ({"$ref": "#"}, "$ref", "leads back to itself about the same value"),
        ({"not": {"$ref": "#"}}, "not/$ref", "leads back to itself about the same value"),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {}]}}},
            "$defs/A/anyOf/0/$ref",
            "leads back to itself about the same value",
        ),
        ({"$id": "https://example.com"}, "$id", "is not supported; put the part below `$defs`"),
        ({"$anchor": "a"}, "$anchor", "is not supported"),
        ({"$dynamicRef": "#a"}, "$dynamicRef", "is not supported"),
        ({"definitions": {}}, "definitions", "belongs to older drafts; write `$defs`"),
        ({"patternProperties": {}}, "patternProperties", "is not supported; write `propertyNames: {pattern: …}`"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema", f"must be {DRAFT!r}, or left out"),
    ],
)
def test_a_mistake_in_a_schema_is_reported_at_its_place(schema: dict[str, Any], place: str, message: str) -> None:
    """Each wrong schema has one mistake, at the place of the keyword."""
    found = in_schema(schema)
    assert found.keys() == {place}, found
    assert message in found[place]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"$schema": DRAFT, "x-owner": "data", "title": "t", "type": "string"}, "a", 1),
        ({"properties": {"$id": {"type": "string"}, "pattern": {"type": "null"}}}, {"$id": "a"}, {"pattern": 1}),
        ({"const": {"$ref": "https://example.com"}}, {"$ref": "https://example.com"}, 1),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}}, "a", 1),
        ({"$ref": "#/$defs/a%20~0", "$defs": {"a ~": {"type": "string"}}}, "a", 1),
        ({"prefixItems": [{"type": "string"}], "items": {"$ref": "#/prefixItems/0"}}, ["a", "b"], ["a", 1]),
        ({"items": {"$ref": "#"}, "type": "array"}, [[], [[]]], [[1]]),
        (TREE | {"unevaluatedProperties": False}, {"left": {"right": {}}}, {"middle": {}}),
        ({"if": {"type": "string"}, "then": {"minLength": 1}, "else": False}, "a", ""),
    ],
)
def test_a_right_schema_has_no_mistake(schema: dict[str, Any], good: Any, bad: Any) -> None:
    """References to parts, recursion into a value and annotations are allowed, and the schema decides."""
    assert in_value(schema, good) == {}
    assert in_value(schema, bad) != {}


def test_all_mistakes_of_a_schema_are_reported() -> None:
    """Mistakes at several places are found at once, each once."""
    schema = {"typ": "string", "format": "dat", "minLength": "x", "properties": {"a": {"pattern": "("}}, "$ref": "x"}
    assert in_schema(schema).keys() == {"typ", "format", "minLength", "properties/a/pattern", "$ref"}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def test_the_depth_of_a_schema_is_limited() -> None:
    """A schema of the greatest depth is checked and works, and a deeper one is a mistake."""
    assert in_value(nested(DEPTH_MAX), 5) == {}
    found = in_schema(nested(DEPTH_MAX + 1))
    assert list(found.values()) == [f"schemas are nested at most {DEPTH_MAX} levels deep"]
    assert len(in_schema(nested(400))) == 1


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _prompt() -> Any:
    begun = time.process_time()
    yield
    assert time.process_time() - begun < PROMPT_S


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", r"^(\w+\s?)*$", "^(a?){30}a{30}$", "(.*.*.*.*.*)=!"])
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    """Patterns that take a backtracking engine years are decided at once, with the longest text."""
    text = "a" * (PATTERN_TEXT_CHARS_MAX - 1) + "!"
    assert in_value({"pattern": pattern}, text).keys() == {""}


def test_a_text_that_is_matched_has_a_limit() -> None:
    """A text of the greatest length is matched, and a longer one is a mistake, whatever the pattern."""
    assert in_value({"pattern": "a"}, "a" * PATTERN_TEXT_CHARS_MAX) == {}
    found = in_value({"pattern": "a"}, "a" * (PATTERN_TEXT_CHARS_MAX + 1))
    assert found == {"": "must have at most 10,000 characters for its `pattern`, not 10,001"}


def doubling(levels: int) -> dict[str, Any]:
    """A schema that refers twice to the next level at each level: 2 ** levels checks of one value."""
    parts: dict[str, Any] = {
        f"L{level}": {"allOf": [{"$ref": f"#/$defs/L{level + 1}"}, {"$ref": f"#/$defs/L{level + 1}"}]}
        for level in range(levels)
    }
    return {"$ref": "#/$defs/L0", "$defs": {**parts, f"L{levels}": {"type": "integer"}}}


def test_references_that_double_are_found_in_the_schema() -> None:
    """A schema that would check one value 2 ** 60 times is a mistake before there is any value."""
    found = in_schema(doubling(60))
    assert [message for message in found.values() if f"more than {CHECKS_AT_ONCE_MAX:,} checks" in message]
    assert in_value(doubling(8), 5) == {}


def deep_value(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {
                "anyOf": [
                    {"properties": {"x": {"$ref": "#"}}, "required": ["y"]},
                    {"properties": {"x": {"$ref": "#"}}, "required": ["z"]},
                ]
            },
            deep_value(40),
        ),
        (
            {
                "allOf": [{"properties": {"x": {"$ref": "#"}}}],
                "properties": {"x": {"$ref": "#"}},
                "unevaluatedProperties": False,
            },
            deep_value(30),
        ),
        ({"items": {"type": "integer", "minimum": 0}}, [1] * CHECKS_MAX),
        ({"items": {"enum": [str(number) for number in range(10_000)]}}, ["x"] * 10_000),
        ({"uniqueItems": True}, [{"a": number} for number in range(200_000)]),
    ],
    ids=["alternatives", "unevaluated", "many items", "many values", "unique"],
)
def test_a_value_that_takes_too_many_checks_is_refused(schema: dict[str, Any], value: Any) -> None:
    """Schemas and values that would take long together are given up after the allowed number of checks."""
    assert in_value(schema, value) == {"": f"takes more than {CHECKS_MAX:,} checks, and must be smaller"}


def test_unique_items_take_time_in_proportion_to_their_number() -> None:
    """Mappings are compared by their texts: each with each, as in the library, would take minutes."""
    assert in_value({"uniqueItems": True}, [{"a": number} for number in range(45_000)]) == {}


def test_a_value_that_is_nested_too_deeply_is_refused() -> None:
    """The library recurses, and its RecursionError is a mistake of the value."""
    assert in_value(TREE | {"type": "object"}, deep_value(3)) == {}
    deep = {"properties": {"x": {"$ref": "#"}}}
    assert in_value(deep, deep_value(490)) == {"": "is nested too deeply to be checked"}


# -- any schema ------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
NUMBERS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
COUNTS = [
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
]
ONE = ["items", "not", "if", "then", "else", "contains", "propertyNames", "additionalProperties"]
ONE += ["unevaluatedItems", "unevaluatedProperties"]


def right_schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(list(TYPES)) | st.lists(st.sampled_from(list(TYPES)), min_size=1, unique=True),
        "enum": st.lists(json_values, max_size=3),
        "const": json_values,
        "format": st.sampled_from(list(FORMATS)),
        "pattern": st.sampled_from(["a", "^b$", "[a-z]+"]),
        "multipleOf": st.sampled_from([1, 0.1, 1e-300]),
        "uniqueItems": st.booleans(),
        "required": st.lists(st.sampled_from("ab"), unique=True),
        "dependentRequired": st.dictionaries(st.sampled_from("ab"), st.lists(st.sampled_from("ab"), unique=True)),
        "$ref": st.sampled_from(["#", "#/properties/a", "#/items", "#/anyOf/0"]),
        **{name: st.integers(-2, 2) for name in NUMBERS},
        **{name: st.integers(0, 2) for name in COUNTS},
        **dict.fromkeys(ONE, inner | st.booleans()),
        **{name: st.lists(inner, min_size=1, max_size=2) for name in ("allOf", "anyOf", "oneOf", "prefixItems")},
        **{name: st.dictionaries(st.sampled_from("ab"), inner) for name in ("properties", "dependentSchemas")},
    }
    return st.lists(st.sampled_from(sorted(keys)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: keys[name] for name in chosen})
    )


@given(st.recursive(st.just({}), right_schemas, max_leaves=6), json_values)
def test_every_accepted_schema_decides_about_every_value(schema: dict[str, Any], value: Any) -> None:
    """No schema and no value raise an error: a schema has mistakes, or each value has mistakes or none."""
    assume(isinstance(schema, dict))
    if not mistakes_in_schema(schema, Hints()):
        found = mistakes_in(value, make_validator(schema))
        assert all(finding.message for finding in found)


@given(
    st.dictionaries(st.sampled_from([*COUNTS, *ONE, "type", "allOf", "$ref", "pattern", "$defs", "enum"]), json_values)
)
def test_no_schema_of_wrong_values_raises(schema: dict[str, Any]) -> None:
    """Any value of a keyword is accepted or a mistake at a place of the schema."""
    for finding in mistakes_in_schema(schema, Hints()):
        inside: Any = schema
        for part in finding.key:
            inside = inside[part]
    json.dumps(schema)
