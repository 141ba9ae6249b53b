"""Labels of runs: their rules, their form in metadata, and the filter of a list of runs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.definition.build import DAGBuilder
from aiorch.errors import DefinitionError
from aiorch.model.labels import labels_as_text, labels_in_text, labels_wanted

STEPS = {"start": "A", "steps": {"A": {"type": "Pass", "end": True}}}

LOWER, UPPER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
labels = st.dictionaries(
    st.builds("".join, st.tuples(st.sampled_from(LOWER), st.text(LOWER + DIGITS + "_-", max_size=8))),
    st.text(LOWER + UPPER + DIGITS + "_.-", max_size=8),
    max_size=3,
)


@given(labels)
def test_labels_of_a_definition_are_those_of_its_dag(wanted: dict[str, str]) -> None:
    """Every key and value of the documented form is accepted."""
    assert DAGBuilder({**STEPS, "labels": wanted}).build_dag().labels == wanted


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ([], "labels", "must be a mapping, not a list"),
        (None, "labels", "this is null"),
        ({f"k{number}": "" for number in range(17)}, "labels", "must have at most 16 labels, not 17"),
        (
            {"Team": "data"},
            "labels.Team",
            "the key of a label has 1 to 63 of the characters a-z 0-9 _ -, and begins with",
        ),
        ({"1team": "data"}, "labels.1team", "the key of a label"),
        ({"te.am": "data"}, 'labels["te.am"]', "the key of a label"),
        ({"": "data"}, 'labels[""]', "the key of a label"),
        ({"t" * 64: "data"}, f"labels.{'t' * 64}", "the key of a label"),
        ({"team\n": "data"}, 'labels["team\\n"]', "the key of a label"),
        (
            {"team": "big data"},
            "labels.team",
            "must consist of up to 63 of the characters A-Z a-z 0-9 _ . -, not be 'big",
        ),
        ({"team": "d" * 64}, "labels.team", "up to 63 of the characters"),
        ({"team": "data\n"}, "labels.team", "up to 63 of the characters"),
        ({"team": "größe"}, "labels.team", "up to 63 of the characters"),
        ({"day": "${ input.day }"}, "labels.day", "; a label is a fixed text, without expressions"),
        ({"team": 5}, "labels.team", "must be a string, not the number 5; put it in quotes"),
        ({"team": True}, "labels.team", "must be a string, not true; put it in quotes"),
        ({"team": None}, "labels.team", "must be a string, not null"),
        ({"team": ["data"]}, "labels.team", "must be a string, not a list"),
    ],
)
def test_a_wrong_label_is_a_mistake(given: Any, path: str, message: str) -> None:
    """Each mistake is reported once, at its place, with the rule."""
    with pytest.raises(DefinitionError) as raised:
        DAGBuilder({**STEPS, "labels": given}).build_dag()
    [problem] = raised.value.problems
    assert problem.path == path
    assert message in problem.message


def test_labels_of_the_longest_form_fit_into_metadata() -> None:
    """16 labels of the longest keys and values take a quarter of the 8 KiB that Cloud Storage has for an object."""
    longest = {f"k{number:02}".ljust(63, "k"): "v" * 63 for number in range(16)}
    assert DAGBuilder({**STEPS, "labels": longest}).build_dag().labels == longest
    assert len(labels_as_text(longest)) <= 2048


@given(labels)
def test_labels_come_back_from_their_text(wanted: dict[str, str]) -> None:
    """The text of the metadata gives the same labels, sorted by key, without any losses."""
    assert labels_in_text(labels_as_text(wanted)) == wanted


def test_foreign_metadata_is_no_error() -> None:
    """A listing survives an entry that a person has changed."""
    assert labels_in_text("team") == {"team": ""}
    assert labels_in_text(",=,") == {"": ""}


def test_wanted_labels_are_read_from_texts() -> None:
    """Each text is a key and a value; the same one twice is one."""
    assert labels_wanted(["team=data", "env=", "team=data"]) == {"team": "data", "env": ""}
    assert labels_wanted([]) == {}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["team"], "'team' is no label; write KEY=VALUE, like team=data"),
        (["team=a", "team=b"], "no run has two values of the label 'team'; give one of them"),
    ],
)
def test_a_wrong_filter_is_refused(texts: list[str], message: str) -> None:
    """A text without a value, and two values of one key, can match no run as they are meant."""
    with pytest.raises(ValueError, match=message):
        labels_wanted(texts)
