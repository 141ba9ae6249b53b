"""`aiorch run` and `aiorch resume`."""
# ruff: noqa: A002, PLC0415, PLR0913  imports and arguments: see `aiorch.cli.main`

import functools
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiorch.cli.client import ask, with_client
from aiorch.cli.completion import definition_files, run_ids
from aiorch.cli.options import (
    EngineCommand,
    Input,
    command_line,
    engine_options,
    input_option,
    json_option,
    option,
    require_file,
    run_id_option,
)
from aiorch.cli.output import EPILOG, OK, print_result

if TYPE_CHECKING:
    from aiorch.orchestrator import Orchestrator
    from aiorch.run_handle import RunHandle


@click.command(cls=EngineCommand, epilog=EPILOG)
@click.argument("dag", shell_complete=definition_files)
@input_option
@run_id_option
@json_option
@option("--continue-with", metavar="COMMAND", help="Command to print after an interrupt; by default this one.")
@engine_options(only_own_runs=True)
@click.pass_context
def run(
    ctx: click.Context,
    dag: str,
    input: Input | None,
    run_id: str | None,
    *,
    json: bool,
    continue_with: str | None,
    orchestrator: "Orchestrator",
) -> int:
    """
    Run the DAG of a definition file, and show the progress of every node.

    At the end, stdout gets the result of the last task; with --json the run document.
    """
    from aiorch.cli.foreground import run_interruptibly, run_to_end
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.model.names import run_id as checked_id

    # Before the callables are imported: their modules print, too.
    results, prints = ctx.with_resource(prints_to_stderr())
    # All checks come before the store is opened.
    require_file(dag, "no run was started")
    built = orchestrator.dag(dag, search_paths=[Path.cwd()])
    orchestrator.check(built)
    if run_id is not None:
        checked_id(run_id)

    async def begin(opened: "Orchestrator") -> "RunHandle":
        return await opened.start(built, input=input and input.value, run_id=run_id)

    command = _writer(ctx.params["store"])
    resume_options = _resume_options(dag, ctx.params["path"])

    def continue_command(begun: str) -> str | None:
        if command is None:
            return None
        if continue_with is not None:
            return continue_with
        if input is not None and input.text == "-":  # the same command would read stdin again
            return command("resume", begun, *resume_options)
        return shlex.join(["aiorch", *ctx.obj, *(() if run_id is not None else ("--run-id", begun))])

    return run_interruptibly(
        run_to_end(
            orchestrator,
            begin,
            results=results,
            prints=prints,
            as_json=json,
            continue_command=continue_command,
            command=command,
            resume_options=resume_options,
        )
    )


def _writer(store: str) -> Callable[..., str] | None:
    """Return a function that writes commands for a store, `None` for a store that ends with this process."""
    return None if store == "memory:" else functools.partial(command_line, store)


def _path_options(folders: Iterable[str]) -> list[str]:
    return [word for folder in dict.fromkeys(folders) for word in ("--path", folder)]


def _resume_options(dag: str, paths: Sequence[str]) -> list[str]:
    """
    Return the options with which `aiorch resume` finds the callables of a run of a definition file.

    Args:
        dag: The definition file.

        paths: The folders of the `--path` options of the run.
    """
    from aiorch.definition.files import DEFINITION_SUFFIXES

    folders = [str(Path(dag).parent), *paths, "."]
    is_known_there = set(folders) == {"."} and Path(dag).suffix in DEFINITION_SUFFIXES
    return [] if is_known_there else _path_options(folders)


@click.command(cls=EngineCommand, epilog=EPILOG)
@click.argument("run_id", shell_complete=run_ids)
@option("--detach", is_flag=True, help="Only store the new run, for `aiorch serve` to carry out.")
@json_option
@engine_options(only_own_runs=True)
@click.pass_context
def resume(ctx: click.Context, run_id: str, *, detach: bool, json: bool, orchestrator: "Orchestrator") -> int:
    """
    Continue an interrupted run, or restart a failed or cancelled run at the tasks that did not complete.

    An interrupted run continues under its id. For a failed or cancelled run the command starts a new run, RUN_ID.2 or
    the next number, that keeps every result.
    """
    from aiorch.cli.foreground import run_interruptibly, run_to_end
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.core.begin import kept_by_resume

    stored = ask(with_client(ctx.params["store"], "attach", run_id))
    is_open = not stored.status.is_terminal
    if detach:
        if not is_open:
            stored = ask(with_client(ctx.params["store"], "resume", run_id))
        print_result(stored.run_id)
        return OK
    if not is_open:
        kept_by_resume(stored.run)
    results, prints = ctx.with_resource(prints_to_stderr())
    orchestrator.check(stored.dag)

    async def begin(opened: "Orchestrator") -> "RunHandle":
        return await (opened.continue_run(run_id) if is_open else opened.resume(run_id))

    def continue_command(_: str) -> str:
        return shlex.join(["aiorch", *ctx.obj])

    return run_interruptibly(
        run_to_end(
            orchestrator,
            begin,
            results=results,
            prints=prints,
            as_json=json,
            continue_command=continue_command,
            command=_writer(ctx.params["store"]),
            resume_options=_path_options(ctx.params["path"]),
        )
    )
