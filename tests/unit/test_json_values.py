"""Equality of JSON values, by which a repeated start is recognized."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.model.json_values import are_equal

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": [2]}', '{"b":[2.0],"a":1e0}'),
        ("100", "1e2"),
        ("0", "-0.0"),
        ('"\\u00e9"', '"é"'),
        (" [ ] ", "[]"),
        ("1" + "0" * 30, "1" + "0" * 30),
        ("[" * 499 + "]" * 499, "[ " * 499 + "]" * 499),
    ],
)
def test_texts_of_equal_values_are_equal(one: str, other: str) -> None:
    """Neither the order of keys nor the way of writing a number, a character or space makes a difference."""
    assert are_equal(one.encode(), other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "true"),
        ("0", "false"),
        ("null", "0"),
        ('"1"', "1"),
        ("[1,2]", "[2,1]"),
        ("{}", "[]"),
        ('{"a":null}', "{}"),
        ("1", "1.0000001"),
        ("1" + "0" * 30, "1" + "0" * 29 + "1"),
    ],
)
def test_texts_of_different_values_are_not_equal(one: str, other: str) -> None:
    """Types differ, and so does the order of a list; integers of any size are exact."""
    assert not are_equal(one.encode(), other.encode())


@given(json_values)
def test_a_value_is_equal_to_itself_in_any_spelling(value: Any) -> None:
    """Two encoders that order keys and space differently write equal texts."""
    spelled = json.dumps(value, indent=1, sort_keys=True).encode("utf-8", "surrogatepass")
    assert are_equal(msgspec.json.encode(value), spelled)
