"""The input of a run on a command line: values by name, beside or instead of ``--input``."""
# ruff: noqa: PLC0415  imports: see `aiorch.cli.main`

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from aiorch.cli.completion import input_names
from aiorch.cli.options import Input

if TYPE_CHECKING:
    from aiorch.model.dag import DAG

values_argument = click.argument("values", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=input_names)
"""The words after the definition file."""


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
    from aiorch.model.findings import shown

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
    return value if dag is None or dag.inputs is None else dag.inputs.complete(value)


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
