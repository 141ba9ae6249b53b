"""Every example of the documentation does what is shown: its files are written, its commands are run."""

import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.surroundings import clean_environment
from tests.documentation import PAGES, Block, blocks

PATIENCE_S = 100

SAME = (
    (r"\d\d:\d\d:\d\d(\.\d+)?", "TIME"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\b[\d.]+ (ms|s|min)\b", "DURATION"),
    (r"run_\d+_[0-9a-f]+", "RUN"),
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"\bat /\S*/", "at FOLDER/"),
    (r'File "/[^"]*/', 'File "FOLDER/'),
    (r"[ \t]+", " "),
)
"""What differs from run to run, and what stands for it."""


def lines(output: str) -> "Counter[str]":
    """
    The lines of an output, without what differs from run to run.

    Lines that say that something is running are left out: whether one is there depends on how long it ran. So is the
    order: that of branches is any.
    """
    for pattern, same in SAME:
        output = re.sub(pattern, same, output)
    return Counter(line.strip() for line in output.splitlines() if not re.match(r"TIME .* Running", line))


TWICE = ("classes",)
"""Pages whose commands run twice in their folder: the second time they meet the store of the first."""


@pytest.mark.timeout(3 * PATIENCE_S)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.language == "console" for block in blocks(page))],
    ids=lambda page: page.stem,
)
def test_examples_do_what_is_shown(page: Path, tmp_path: Path) -> None:
    """The commands of a page, one after the other in one folder, print what the page says that they print."""
    env = clean_environment()
    python = shlex.quote(sys.executable)
    shim = f"""python() {{ {python} "$@"; }}; aiorch() {{ {python} -m aiorch "$@"; }}"""
    for block in blocks(page) * (2 if page.stem in TWICE else 1):
        if block.file_name is not None:
            (tmp_path / block.file_name).write_text(block.text)
        if block.language == "console":
            script = "\n".join([shim, *block.commands])
            done = subprocess.run(
                ["sh", "-c", script],
                cwd=tmp_path,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            compare(block, done.stdout)


def compare(block: Block, output: str) -> None:
    shown = lines("\n".join(line for line in block.text.splitlines() if not line.startswith("$ ")))
    printed = lines(output)
    if shown.pop("…", 0):  # something is left out here
        assert not shown - printed, output
    else:
        assert shown == printed, output
