"""
Labels of runs: fixed texts by keys, to find the runs of a team or an environment.

They stand in the header of a run document, and in the metadata of the object, which a listing shows without a read of
the documents.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiorch.model.findings import Finding, shown

LABELS_MAX = 16
"""All labels of a run take 2 KiB of metadata at most, and Cloud Storage has room for 8 KiB."""

KEY_PATTERN = "^[a-z][a-z0-9_-]{0,62}$"
VALUE_PATTERN = "^[a-zA-Z0-9_.-]{0,63}$"


def label_mistakes(labels: Any) -> Iterator[Finding]:
    """Yield the mistakes in the value of the key `labels` of a definition, each with its place in this value."""
    if not isinstance(labels, dict):
        return
    if len(labels) > LABELS_MAX:
        yield Finding((), f"must have at most {LABELS_MAX} labels, not {len(labels)}")
    for key, value in labels.items():
        if not re.fullmatch(KEY_PATTERN, key):
            allowed = "1 to 63 of the characters a-z 0-9 _ -, and begins with a letter"
            yield Finding((key,), f"the key of a label has {allowed}")
        if not isinstance(value, str):
            hint = "; put it in quotes" if isinstance(value, bool | int | float) else ""
            yield Finding((key,), f"must be a string, not {shown(value)}{hint}", at_value=True)
        elif not re.fullmatch(VALUE_PATTERN, value):
            hint = "; a label is a fixed text, without expressions" if "${" in value else ""
            allowed = "up to 63 of the characters A-Z a-z 0-9 _ . -"
            yield Finding((key,), f"must consist of {allowed}, not be {shown(value)}{hint}", at_value=True)


def labels_as_text(labels: Mapping[str, str]) -> str:
    """Return labels as one text, ``env=prod,team=data``. Neither keys nor values hold the two separators."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def labels_in_text(text: str) -> dict[str, str]:
    """Return the labels that `labels_as_text` has written."""
    return {key: value for key, _, value in (pair.partition("=") for pair in text.split(","))} if text else {}


def labels_wanted(texts: Iterable[str]) -> dict[str, str]:
    """
    Return the labels that a list of runs is filtered by.

    Args:
        texts: A text ``key=value`` for each label.

    Raises:
        ValueError: A text has no value, or a key has two.
    """
    wanted: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{shown(text)} is no label; write KEY=VALUE, like team=data")
        if wanted.setdefault(key, value) != value:
            raise ValueError(f"no run has two values of the label {shown(key)}; give one of them")
    return wanted
