"""Text for a terminal: nothing in it that the terminal would act upon, and JSON stays JSON."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.views.escaping import escaped, one_line

ACTED_UPON = [
    *range(9),
    *range(11, 32),
    *range(127, 160),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0x2028,
    0x200F,
]
ANY_TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from([chr(code) for code in ACTED_UPON]))


@pytest.mark.parametrize("code", ACTED_UPON)
def test_each_character_that_a_terminal_acts_upon_is_shown_as_text(code):
    """C0, DEL, C1, line separators and marks of direction become the escape that JSON has for them."""
    assert json.loads(f'"{escaped(chr(code))}"') == chr(code)
    assert escaped(f"a{chr(code)}b").isprintable()
    assert one_line(f"a{chr(code)}b").isprintable()


@pytest.mark.parametrize(
    "text", ["", "plain", "Zürich, 東京, \u200d👩\u200d💻, a\u00a0b", "[bold]markup[/]", "\\u001b", "a\n\tb"]
)
def test_other_text_stays_as_it_is(text):
    """Letters of any language, emoji, tabs and line feeds are printed as they came."""
    assert escaped(text) == text


def test_a_line_has_no_breaks():
    """A text for one line has a space for each of its line breaks, and none at its ends."""
    assert one_line("\n a\r\nb\u2028c\td \n") == "a b c d"


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=5))
def test_json_stays_json(value):
    """A JSON document that is printed has the value that it had."""
    document = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    assert json.loads(escaped(document)) == value
