"""`aiorch graph` and `aiorch schema`."""
# ruff: noqa: A002, PLC0415, PLR0913, PLR0917  imports and arguments: see `aiorch.cli.main`

from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiorch.cli.client import ask, with_client
from aiorch.cli.completion import definitions_or_runs, run_ids
from aiorch.cli.options import AtLeast, is_file, open_engine, option, require_file, store_option
from aiorch.cli.output import print_result
from aiorch.errors import DefinitionError, RunNotFoundError

if TYPE_CHECKING:
    from aiorch.model.dag import DAG
    from aiorch.views.graph import Format

GRAPH_FORMATS: dict[str, "Format"] = {".mmd": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg"}


@click.command()
@click.argument("dag_or_run", shell_complete=definitions_or_runs)
@option(
    "--run",
    metavar="RUN_ID",
    shell_complete=run_ids,
    help="Draw the definition file with the statuses of this run.",
)
@option(
    "--format",
    type=click.Choice(["mermaid", "dot", "svg"]),
    help="By default from the ending of --output, else mermaid.",
)
@option(
    "--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="File to write; by default stdout."
)
@option(
    "--branches", type=AtLeast(1, int), default=20, help="Branches of one Parallel to draw; the rest share one box."
)
@store_option
def graph(
    dag_or_run: str, run: str | None, format: "Format | None", output: Path | None, branches: int, store: str
) -> None:
    """
    Draw the DAG of a definition file, or the DAG of a run with its statuses.

    DAG_OR_RUN is a definition file if the file exists or the text looks like a file name, else the id of a run.
    """
    from aiorch.views.graph import render

    dag, run_state = _dag_and_run(dag_or_run, run, store)
    if format is None and output is not None and output.suffix not in GRAPH_FORMATS:
        endings = ", ".join(GRAPH_FORMATS)
        raise click.UsageError(f"{str(output)!r} ends in none of {endings}, so no file was written; give a --format.")
    by_name = GRAPH_FORMATS.get(output.suffix if output else "", "mermaid")
    text = render(dag, format or by_name, run_state, now=datetime.now(UTC), branches_max=branches)
    if output is None:
        print_result(text.rstrip())
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{str(output)!r} cannot be written: {error.strerror}") from error


@click.command()
@option("--cases", is_flag=True, help="Print the JSON Schema of files of cases, for `aiorch test`.")
def schema(*, cases: bool) -> None:
    """Print the JSON Schema of definitions, which lets an editor complete and check them."""
    from importlib.resources import files

    from aiorch.targets.kind import BUILT_IN, target_kinds

    if cases:
        from aiorch.testing.cases.files import cases_schema

        print_result(dumps(cases_schema(), indent=2, ensure_ascii=False))
    elif target_kinds().keys() > BUILT_IN.keys():
        from aiorch.definition.models import definition_schema

        print_result(dumps(definition_schema(), indent=2, ensure_ascii=False))
    else:
        print_result(files("aiorch.definition").joinpath("schema.json").read_text(encoding="utf-8").rstrip())


def _dag_and_run(dag_or_run: str, run_id: str | None, store: str) -> tuple["DAG", Any]:
    if not is_file(dag_or_run):
        if run_id is not None:
            raise click.UsageError(f"{dag_or_run!r} is no definition file; give only the run id, or a file and --run.")
        try:
            handle = ask(with_client(store, "attach", dag_or_run))
        except RunNotFoundError as error:
            raise click.UsageError(f"{dag_or_run!r} is no file here, and {error}") from error
        return handle.dag, handle.run
    require_file(dag_or_run, "no graph was drawn")
    try:
        dag = open_engine("memory:").dag(dag_or_run)
    except DefinitionError as error:
        raise DefinitionError(error.problems, source=error.source, undone="no graph was drawn") from error
    if run_id is None:
        return dag, None
    handle = ask(with_client(store, "attach", run_id))
    if handle.dag.definition_id != dag.definition_id:
        raise click.UsageError(
            f"run {run_id!r} has a different definition than {dag_or_run} ({handle.dag.definition_id}; the file has "
            f"{dag.definition_id}), so no graph was drawn: `aiorch graph {run_id}` draws the definition of the run."
        )
    return handle.dag, handle.run
