"""Exceptions in words."""

import re
from pathlib import Path

import pytest

import aiorch
from aiorch.errors import DefinitionError, Problem, UnresolvedFunctionError, counted, in_words
from aiorch.model.failure import Failure


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


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((0, "task"), "0 tasks"),
        ((1, "task"), "1 task"),
        ((1234, "task"), "1,234 tasks"),
        ((1, "branch", "branches"), "1 branch"),
        ((2, "branch", "branches"), "2 branches"),
    ],
)
def test_numbers_have_their_nouns(args, said):
    """One of a thing is singular, everything else plural."""
    assert counted(*args) == said


def test_every_message_counts_in_one_way():
    """No module makes a plural of its own: one that forgets the singular says "1 tasks"."""
    folder = Path(aiorch.__file__).parent
    own = re.compile(
        r"\{(len\([^{}]*\)|count)(:,)?\} (more |other )?(task|node|run|problem|branch|exception)|'e?s' if "
    )
    found = [path.name for path in folder.rglob("*.py") if own.search(path.read_text())]
    assert found == []


def test_a_definition_with_very_many_problems_tells_the_first():
    """The text has 50 problems and counts the others; `problems` has all of them."""
    problems = [Problem(f"steps.S{number}", "wrong") for number in range(10_000)]
    error = DefinitionError(problems)
    assert error.problems == tuple(problems)
    lines = str(error).splitlines()
    assert "(10,000 problems)" in lines[0]
    assert lines[1:51] == [f"  - steps.S{number}: wrong" for number in range(50)]
    assert len(lines) == 52
    assert lines[51].startswith("  … and 9,950 more problems")
    assert "more" not in str(DefinitionError(problems[:50]))


@pytest.mark.parametrize(("count", "said"), [(1, "1 task cannot"), (2, "2 tasks cannot"), (1000, "1,000 tasks cannot")])
def test_tasks_that_cannot_be_launched_are_counted(count, said):
    """The number stands with its noun."""
    missing = [(f"S{number}", "m:f", "no module") for number in range(count)]
    assert said in str(UnresolvedFunctionError(missing, lacks_callable=True))


@pytest.mark.parametrize("text", ["disk full", "two\nlines"])
def test_a_failure_in_words(text):
    """`text` is the type and the message."""
    assert Failure.of("OSError", text).text == f"OSError: {text}"
