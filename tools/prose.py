#!/usr/bin/env python3
"""
Count habits that make prose hard to read: "what" for a noun, people without a name, "it" without an object nearby.

    tools/prose.py                        a table of the paths that pyproject.toml names in [tool.prose]
    tools/prose.py --limits               the same, and exit code 1 with the places where a limit is passed
    tools/prose.py [--worst N] PATH…      a table of these files and folders, and the N worst sentences

Counted are docstrings, comments and messages of Python files, and the paragraphs, lists and tables of Markdown files,
each without code. Names of functions are counted in the folders of tests.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]

HABITS = {
    "what": re.compile(r"\bwhat(?:ever)?\b", re.IGNORECASE),
    "vague people": re.compile(
        r"\b(?:(?:some|any|every|no)(?:body|one)|no one|whoever|others|another)\b", re.IGNORECASE
    ),
    "it": re.compile(r"\bits?\b", re.IGNORECASE),
}
BEGINNING = re.compile(r"\W*(?:What(?:ever)?|Who(?:ever|se)?|That|How(?:ever)?)\b")
NAME = re.compile(r"(?:test_)?(?:what|whatever|who|whoever|whose|that|how|nothing|nobody|somebody)_")

LIMITS = {"what": 4.0, "vague people": 1.5, "beginnings": 1.0, "names": 0.0}
"""Per 1,000 words; beginnings in percent of all sentences; names as their number. "It" has no limit."""

WORD = re.compile(r"[A-Za-z][A-Za-z']*")
SENTENCE_END = re.compile(r"""[.!?:]["')*_]*\s+|\n\s*\n""")
SENTENCE_WORDS_MIN = 3
MESSAGE = re.compile(r"(?:[A-Za-z']+[,;:]? ){3}[A-Za-z']+")
"""A string with four words in a row is a message; shorter ones are mostly keys, names and formats."""

DIRECTIVE = re.compile(r"#\s*(?:!|noqa|type:|pragma|fmt:)")
LIST_MARKER = re.compile(r"\s*(?:[-*+]|\d+\.)\s+")
HEADING = re.compile(r"#+\s+")
FENCE = re.compile(r"\s*(?:```|~~~)")
CODE_INDENT = " " * 4


class Passage(NamedTuple):
    """Text that belongs together, and the line of its file at which it begins."""

    line: int
    text: str


class Sentence(NamedTuple):
    path: str
    line: int
    text: str

    def count(self, habit: str) -> int:
        return len(HABITS[habit].findall(self.text))

    @property
    def begins_badly(self) -> bool:
        return BEGINNING.match(self.text) is not None

    @property
    def weight(self) -> int:
        """The sum of all habits; "it" counts half as much as those that have a limit."""
        return 2 * (self.count("what") + self.count("vague people") + self.begins_badly) + self.count("it")

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {' '.join(self.text.split())}"


@dataclass
class Figures:
    """The sentences of some files and the names in some tests, and rates over both."""

    sentences: list[Sentence] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def words(self) -> int:
        return sum(len(WORD.findall(each.text)) for each in self.sentences)

    def rate(self, habit: str) -> float:
        match habit:
            case "names":
                return len(self.names)
            case "beginnings":
                whole = [each for each in self.sentences if len(WORD.findall(each.text)) >= SENTENCE_WORDS_MIN]
                return 100 * sum(each.begins_badly for each in whole) / max(1, len(whole))
            case _:
                return 1000 * sum(each.count(habit) for each in self.sentences) / max(1, self.words)

    def places(self, habit: str) -> list[str]:
        """Where a habit is found: the worst sentence first."""
        if habit == "names":
            return self.names
        found = [each for each in self.sentences if (each.begins_badly if habit == "beginnings" else each.count(habit))]
        return [str(each) for each in sorted(found, key=lambda each: -each.weight)]

    def passed_limits(self) -> list[str]:
        return [habit for habit, limit in LIMITS.items() if self.rate(habit) > limit]


# -- passages of a file ----------------------------------------------------------------------------------------------


def passages(path: Path) -> Iterator[Passage]:
    text = path.read_text()
    yield from markdown_passages(text) if path.suffix == ".md" else python_passages(text)


def python_passages(source: str) -> Iterator[Passage]:
    for passage in [*string_passages(ast.parse(source)), *comment_passages(source)]:
        yield Passage(passage.line, without_code(passage.text))


def string_passages(tree: ast.AST) -> Iterator[Passage]:
    """Docstrings, and other strings that are messages; a value within a message counts as no word."""
    for child in ast.iter_child_nodes(tree):
        match child:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield Passage(child.lineno, text)
            case ast.Constant(value=str(text)) if MESSAGE.search(text):
                yield Passage(child.lineno, text)
            case ast.JoinedStr(values=parts):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "`…`" for part in parts)
                if MESSAGE.search(text):
                    yield Passage(child.lineno, text)
                for part in parts:
                    if isinstance(part, ast.FormattedValue):
                        yield from string_passages(part)
            case _:
                yield from string_passages(child)


def comment_passages(source: str) -> Iterator[Passage]:
    """Comments; those of consecutive lines belong together."""
    begin, end, texts = 0, -1, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        line = token.start[0]
        if line != end + 1 and texts:
            yield Passage(begin, "\n".join(texts))
            texts = []
        begin, end = begin if texts else line, line
        texts.append(token.string.lstrip("# -").rstrip("- "))
    if texts:
        yield Passage(begin, "\n".join(texts))


def markdown_passages(source: str) -> Iterator[Passage]:
    """Paragraphs, headings, items of lists, and cells of tables; no blocks of code."""
    for passage in markdown_blocks(source):
        text = without_code(passage.text)
        if text.lstrip().startswith("|"):
            yield from (Passage(passage.line, cell) for cell in text.split("|") if WORD.search(cell))
        else:
            yield Passage(passage.line, text)


def markdown_blocks(source: str) -> Iterator[Passage]:
    begin, texts, fenced, after_blank = 0, list[str](), False, True
    for line, text in enumerate(source.splitlines(), start=1):
        fence, marker = FENCE.match(text), LIST_MARKER.match(text) or HEADING.match(text)
        is_code = fenced or fence or (after_blank and not marker and text.startswith(CODE_INDENT))
        if texts and (not text.strip() or is_code or marker or text.startswith("|")):
            yield Passage(begin, "\n".join(texts))
            texts = []
        fenced = fenced != bool(fence)
        if text.strip() and not is_code:
            begin = begin if texts else line
            texts.append(text[marker.end() :] if marker else text)
        after_blank = not texts
    if texts:
        yield Passage(begin, "\n".join(texts))


def without_code(text: str) -> str:
    """Cut code in backquotes, and the targets of links: names, not prose."""
    text = re.sub(r"(`+)(.+?)\1", lambda code: "`" + "\n" * code[0].count("\n") + "`", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)\s]*\)", "]", text)


def sentences(path: str, passage: Passage) -> Iterator[Sentence]:
    begin = 0
    for end in [*(found.end() for found in SENTENCE_END.finditer(passage.text)), len(passage.text)]:
        text = passage.text[begin:end]
        if WORD.search(text):
            blank = len(text) - len(text.lstrip())
            yield Sentence(path, passage.line + passage.text.count("\n", 0, begin + blank), text.strip())
        begin = end


# -- figures of paths ------------------------------------------------------------------------------------------------


def files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*") if each.suffix in {".py", ".md"})


def shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


def names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and NAME.match(node.name):
            yield f"{shown(path)}:{node.lineno}: {node.name}"


def prose_figures(paths: Iterable[Path]) -> Figures:
    return Figures(
        sentences=[each for path in paths for passage in passages(path) for each in sentences(shown(path), passage)]
    )


def names_figures(paths: Iterable[Path]) -> Figures:
    return Figures(names=[each for path in paths if path.suffix == ".py" for each in names(path)])


def configured(root: Path) -> dict[str, Figures]:
    """Figures by path, as [tool.prose] says; paths in brackets are pending, and held to no limit."""
    settings: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["prose"]
    for name in [*settings["paths"], *settings["tests"], *settings["pending"]]:
        if not (root / name).exists():
            sys.exit(f"[tool.prose] of pyproject.toml names {name}, which does not exist; correct or remove the entry.")
    pending = {name: files(root / name) for name in settings["pending"]}
    left_out = {path for paths in pending.values() for path in paths}
    return {
        **{name: prose_figures(p for p in files(root / name) if p not in left_out) for name in settings["paths"]},
        **{name: names_figures(files(root / name)) for name in settings["tests"]},
        **{f"({name})": prose_figures(paths) for name, paths in pending.items()},
    }


# -- output ----------------------------------------------------------------------------------------------------------


def table(figures: dict[str, Figures]) -> str:
    total = Figures(
        [s for each in figures.values() for s in each.sentences], [n for f in figures.values() for n in f.names]
    )
    width = max(len(name) for name in [*figures, "total"])
    lines = [f"{'':{width}}   words   what  vague people  it/its  What/Who/That/How  names"]
    for name, each in [*figures.items(), ("total", total)]:
        lines.append(
            f"{name:{width}}  {each.words:6}  {each.rate('what'):5.1f}  {each.rate('vague people'):12.1f}  "
            f"{each.rate('it'):6.1f}  {each.rate('beginnings'):15.1f} %  {len(each.names):5}"
        )
    return "\n".join(lines)


def report_limits(figures: dict[str, Figures], worst: int) -> bool:
    """Say where a limit is passed; return whether one is."""
    passed = [(name, each, habit) for name, each in figures.items() if name[0] != "(" for habit in each.passed_limits()]
    for name, each, habit in passed:
        print(f"\n{name}: {habit} {each.rate(habit):.1f}, more than {LIMITS[habit]:.1f}:")
        print("\n".join(f"  {place}" for place in each.places(habit)[:worst]))
    return bool(passed)


def main(args: list[str] | None = None, root: Path = REPOSITORY) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", action="store_true", help="exit with 1 when a limit is passed")
    parser.add_argument("--worst", type=int, default=20, metavar="N", help="sentences to show of each path and habit")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    options = parser.parse_args(args)
    if options.paths:
        figures = {str(path): prose_figures(files(path.resolve())) for path in options.paths}
    else:
        figures = configured(root)
    print(table(figures))
    if options.limits:
        return int(report_limits(figures, options.worst))
    if options.paths:
        bad = [each for some in figures.values() for each in some.sentences if each.weight]
        print(*sorted(bad, key=lambda each: -each.weight)[: options.worst], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
