"""The pages of the documentation, taken apart: sections, tables and fenced blocks."""

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").glob("*.md")])


class Block(NamedTuple):
    """What stands between two fences."""

    page: str
    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        """The file that this is the content of, named in its first line."""
        found = re.match(r"# ([\w.-]+\.(?:py|yaml|json))\n", self.text)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """The commands of a block of shell: without their prompts, and without what they print."""
        lines = self.text.splitlines()
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return lines


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    fenced = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(page.name, language, text) for language, text in fenced]


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next heading."""
    text = (REPOSITORY / page).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", _without_blocks(text), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in *text*; heads and rules are left out."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        found += [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()[2:]]
    return found


def named(cell: str) -> list[str]:
    """What stands as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made where pages are rendered."""
    headings = re.findall(r"^#+ (.+)$", _without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
