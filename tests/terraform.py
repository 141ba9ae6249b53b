"""The Terraform files of `deploy/terraform`, parsed: blocks by type and name, values as Python where they are plain."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.documentation import REPOSITORY

FOLDER = REPOSITORY / "deploy/terraform"
FILES = sorted(FOLDER.glob("*.tf"))

_HEREDOC = re.compile(r"<<-(\w+)\n(.*)\n\s*\1", re.DOTALL)
_INTERPOLATION = re.compile(r"\$\{var\.(\w+)\}")


@cache
def blocks() -> list[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """Every top-level block: its kind, its labels, its body."""
    found = []
    for path in FILES:
        for kind, bodies in parse(path).items():
            for labels, body in (each for labelled in bodies for each in _labelled(labelled)):
                found.append((kind, labels, _unmarked(body)))
    return found


def named_blocks(kind: str) -> dict[str, dict[str, Any]]:
    """Blocks with one label, by it: variables and outputs."""
    return {labels[0]: body for found, labels, body in blocks() if found == kind}


def resources(kind: str | None = None) -> dict[str, dict[str, Any]]:
    """Resources, by `type.name`; of one type by name alone."""
    found = {labels: body for block, labels, body in blocks() if block == "resource"}
    if kind is None:
        return {".".join(labels): body for labels, body in found.items()}
    return {labels[1]: body for labels, body in found.items() if labels[0] == kind}


def local_values() -> dict[str, Any]:
    """Everything that stands in a `locals` block."""
    return {name: value for kind, _, body in blocks() if kind == "locals" for name, value in body.items()}


def parse(path: Path) -> dict[str, Any]:
    """What a file holds, without comments, and with the quotes of its texts taken off."""
    with path.open() as file:
        return _plain(hcl2.load(file))


def render(template: str, variables: Mapping[str, str]) -> str:
    """Put variables into a text. Anything else that Terraform would compute there is refused."""
    text = _INTERPOLATION.sub(lambda found: variables[found[1]], template)
    assert "${" not in text, text
    assert "%{" not in text, text
    return text


def dynamic(body: Mapping[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The blocks of that name that a body makes by a loop: what over, and the content."""
    for each in body.get("dynamic", []):
        if name in each:
            yield each[name]["for_each"], each[name]["content"][0]


def terraform(*arguments: str, cwd: Path, home: Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """
    Run the real program, which no registry of packages has.

    It knows no provider here, so it can format, and compute what needs none: variables, their validation, locals.
    """
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("there is no `terraform` on the PATH: install it to check formats and validations, too")
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env={"PATH": "", "HOME": str(home), "CHECKPOINT_DISABLE": "1", "NO_COLOR": "1"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def _labelled(body: dict[str, Any], labels: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if "__is_block__" in body:
        yield labels, body
    else:
        for label, inner in body.items():
            yield from _labelled(inner, (*labels, label))


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unmarked(each) for name, each in value.items() if name != "__is_block__"}
    return [_unmarked(each) for each in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if name not in ("__comments__", "__inline_comments__")}
        return {_plain(name): _plain(each) for name, each in kept.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, str):
        return value
    text = value[1:-1] if value.startswith('"') and value.endswith('"') else value
    if heredoc := _HEREDOC.fullmatch(text):
        lines = heredoc[2].split("\n")
        indent = min(len(line) - len(line.lstrip()) for line in lines)
        return "\n".join(line[indent:] for line in lines)
    return text
