"""The counter of habits in prose counts each habit where a reader sees it, and the limits that CI holds fail."""

from pathlib import Path

import pytest

from tools.prose import LIMITS, Figures, main, names_figures, prose_figures

MODULE = '''"""What a module does. It has its `what`."""

def read(path):
    """Read the file of whoever asks."""
    # Somebody else may hold
    # what is read here.
    count = 5  # noqa: what
    raise OSError(f"{path} is what nobody can read here")

KEY = "what"
'''
PAGE = """# How pages are made

Some `what` in code, and [what](what.md) in a link.

    what an indented block has

- That is an item.
  It goes on.
- Another one

| key | meaning |
|---|---|
| `what` | what the key means |

```sh
echo what
```
"""
TESTS = """
def test_what_is_read(): ...
async def test_nobody_reads(): ...
def that_file(): ...
class TestFile:
    def test_who_reads(self): ...
    def test_whole_file(self): ...
"""


def figures_of(folder: Path, name: str, text: str) -> Figures:
    path = folder / name
    path.write_text(text)
    return prose_figures([path])


def counts(figures: Figures) -> dict[str, int]:
    found = {habit: sum(each.count(habit) for each in figures.sentences) for habit in ("what", "vague people", "it")}
    return found | {"beginnings": sum(each.begins_badly for each in figures.sentences)}


def test_python_is_counted_without_code(tmp_path: Path) -> None:
    """Docstrings, comments and messages count; names in backquotes, directives, values and keys do not."""
    figures = figures_of(tmp_path, "module.py", MODULE)
    assert counts(figures) == {"what": 3, "vague people": 3, "it": 2, "beginnings": 1}


def test_markdown_is_counted_without_code(tmp_path: Path) -> None:
    """Headings, items, links and cells of tables count as prose; blocks of code, and code within a line, do not."""
    figures = figures_of(tmp_path, "page.md", PAGE)
    assert counts(figures) == {"what": 2, "vague people": 1, "it": 1, "beginnings": 2}


def test_places_name_the_line_of_the_sentence(tmp_path: Path) -> None:
    """A place is the line at which the sentence begins, also within a docstring or a paragraph."""
    figures = figures_of(tmp_path, "module.py", '"""\nReads.\n\nTwo lines.\nSay what is\nmeant.\n"""\n')
    assert figures.places("what") == [f"{tmp_path}/module.py:5: Say what is meant."]


def test_rates_are_per_thousand_words_and_per_cent_of_sentences(tmp_path: Path) -> None:
    """One "what" in 20 words is 50 per 1,000; one beginning in four sentences is 25 %, and short sentences are none."""
    text = "What is read here now. " + 3 * "The page has five words. " + "Not counted.\n"
    figures = figures_of(tmp_path, "page.md", text.replace("Not counted.", ""))
    assert (figures.words, figures.rate("what"), figures.rate("beginnings")) == (20, 50, 25)
    assert figures_of(tmp_path, "page.md", text).rate("beginnings") == 25


def test_names_of_tests_are_counted(tmp_path: Path) -> None:
    """Functions and methods whose names begin with such a word are found, with their lines."""
    (tmp_path / "test_file.py").write_text(TESTS)
    assert names_figures([tmp_path / "test_file.py"]).names == [
        f"{tmp_path}/test_file.py:2: test_what_is_read",
        f"{tmp_path}/test_file.py:3: test_nobody_reads",
        f"{tmp_path}/test_file.py:4: that_file",
        f"{tmp_path}/test_file.py:6: test_who_reads",
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one page, one test, and no path that is pending."""
    (tmp_path / "pyproject.toml").write_text('[tool.prose]\npaths = ["page.md"]\ntests = ["tests"]\npending = []\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_page.py").write_text("def test_page_has_words(): ...\n")
    (tmp_path / "page.md").write_text(300 * "The page has five words. ")
    return tmp_path


@pytest.mark.parametrize("habit", LIMITS)
def test_passed_limit_fails_with_its_places(project: Path, habit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each habit alone makes the check fail, and the output names the file and the line."""
    assert main(["--limits"], project) == 0
    bad = {"what": "say what. ", "vague people": "For others. ", "beginnings": "That is read here. "}
    if habit == "names":
        (project / "tests" / "test_page.py").write_text(TESTS)
    else:
        (project / "page.md").write_text(300 * "The page has five words. " + "\n\n" + 8 * bad[habit])
    assert main(["--limits"], project) == 1
    place = "test_page.py:2: test_what_is_read" if habit == "names" else f"page.md:3: {bad[habit].strip()}"
    assert place in capsys.readouterr().out
    assert main([], project) == 0


def test_pending_paths_are_held_to_no_limit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pending page passes with any words, and the table shows its figures."""
    settings = project / "pyproject.toml"
    (project / "page.md").write_text(300 * "What others say. ")
    assert main(["--limits"], project) == 1
    settings.write_text(settings.read_text().replace("pending = []", 'pending = ["page.md"]'))
    capsys.readouterr()
    assert main(["--limits"], project) == 0
    assert "(page.md)     900  333.3" in capsys.readouterr().out


def test_configured_path_that_does_not_exist_is_refused(project: Path) -> None:
    """A path that was moved or misspelt would be held to no limit without a word."""
    (project / "page.md").rename(project / "moved.md")
    with pytest.raises(SystemExit, match=r"names page\.md, which does not exist"):
        main(["--limits"], project)
