"""The input of a run on a command line: values by name, beside or instead of ``--input``."""
# ruff: noqa: PLC0415  imports: see `aiorch.cli.main`

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from aiorch.cli.completion import input_names
from aiorch.cli.options import Input

if TYPE_CHECKING:
    from aiorch.errors import InputProblem
    from aiorch.model.dag import DAG

values_argument = click.argument("values", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=input_names)
"""The words after the definition file."""


class ValuesCommand(click.Command):
    """A command with values by name: the message about an unknown option says how they are written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of the command. Raises: click.UsageError."""
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            name, _, value = next((word for word in args if word.split("=")[0] == error.option_name), "").partition("=")
            if not name.startswith("--"):
                raise
            word = shlex.quote(f"{name[2:]}={value}") if value else f"{name[2:]}=…"
            message = f"{error.format_message()} An input of the run has no dashes: write `{word}`."
            raise click.UsageError(message, ctx) from None


def input_for(dag: "DAG | None", words: Sequence[str], given: Input | None) -> Any:
    """
    Return the input of a run, completed if the DAG declares inputs.

    Args:
        dag: The DAG, `None` if only the receiver of a message knows the DAG.

        words: A text ``name=value`` for each value.

        given: The argument of ``--input``.

    Raises:
        click.UsageError: A word has no name or no value, or a name is given twice.

        InvalidInputError: The input is not as the DAG declares it; with every mistake.
    """
    from aiorch.definition.inputs import read_text
    from aiorch.errors import InvalidInputError
    from aiorch.model.findings import shown

    texts: Mapping[str, str] = {}
    value = given.value if given is not None else None
    if words:
        base = {} if given is None else given.value
        if not isinstance(base, dict):
            raise click.UsageError(
                f"--input is {shown(base)}, and only an object can be combined with values by name, so no run was "
                f"started: give either of them."
            )
        texts = _texts(words, base)
        declared = dag.inputs if dag is not None else None
        value = base | (
            {name: read_text(text) for name, text in texts.items()} if declared is None else declared.read(texts)
        )
    if dag is None or dag.inputs is None:
        return value
    try:
        return dag.inputs.complete(value)
    except InvalidInputError as error:
        problems = [_with_move(problem, texts.get(problem.path, "")) for problem in error.problems]
        raise InvalidInputError(problems, dag=error.dag) from None


def _with_move(problem: "InputProblem", text: str) -> "InputProblem":
    """Return the problem of an input with the word that gives a list, if that is missing."""
    from aiorch.definition.inputs import read_text
    from aiorch.schemas.vocabulary import TYPES

    if not text or text.startswith("[") or not problem.message.startswith(f"must be {TYPES['array']},"):
        return problem
    items = json.dumps([read_text(part.strip()) for part in text.split(",")], ensure_ascii=False)
    return problem._replace(message=f"{problem.message}; write {shlex.quote(f'{problem.name}={items}')}")


def _texts(words: Sequence[str], given: dict[str, Any]) -> dict[str, str]:
    from aiorch.model.findings import shown

    texts: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise click.UsageError(
                f"{shown(word)} is no NAME=VALUE, so no run was started: write it like day=2026-11-28."
            )
        if name in texts or name in given:
            raise click.UsageError(f"the input {shown(name)} is given twice, so no run was started: give it once.")
        texts[name] = text
    return texts
