"""Exceptions in words."""

import re
from pathlib import Path

import pytest

import aiorch
from aiorch.errors import in_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("disk full"), "OSError: disk full"),
        (TimeoutError(), "TimeoutError"),
        (ValueError(""), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (KeyError("name"), "KeyError: 'name'"),
        (ExceptionGroup("two", [OSError(), OSError()]), "ExceptionGroup: two (2 sub-exceptions)"),
    ],
)
def test_an_exception_in_words(error, words):
    """The type stands before the words of an exception, and alone where the exception has none."""
    assert in_words(error) == words


def test_every_message_puts_exceptions_into_words_in_one_way():
    """No module writes type and words of an exception side by side: an exception without words would leave a colon."""
    folder = Path(aiorch.__file__).parent
    side_by_side = re.compile(r"__name__\}: \{")
    found = [path.name for path in folder.rglob("*.py") if side_by_side.search(path.read_text())]
    assert found == ["errors.py"]
