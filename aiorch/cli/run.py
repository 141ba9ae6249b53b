"""`aiorch run` and `aiorch resume`."""
# ruff: noqa: A002, PLC0415, PLR0913  imports and arguments as said in `aiorch.cli.main`

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiorch.cli.client import ask, with_client
from aiorch.cli.completion import definition_files, run_ids
from aiorch.cli.options import Input, command_line, engine_options, input_option, json_option, option, run_id_option
from aiorch.cli.output import EPILOG, OK, print_result, say

if TYPE_CHECKING:
    from aiorch.orchestrator import Orchestrator
    from aiorch.run_handle import RunHandle


@click.command(epilog=EPILOG)
@click.argument("dag", shell_complete=definition_files)
@input_option
@run_id_option
@json_option
@option("--continue-with", metavar="COMMAND", help="Command to name when it is interrupted; by default this one.")
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
    Run the DAG of a definition file, showing every node while it runs.

    At the end the result of the last task is printed on stdout; with --json the run document.
    """
    from aiorch.cli.foreground import run_interruptibly, run_to_end
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.names import run_id as checked_id

    # Before the callables are imported: their modules print, too.
    results, prints = ctx.with_resource(prints_to_stderr())
    built = orchestrator.dag(dag)  # all that can be refused is refused before anything is opened
    orchestrator.check(built)
    if run_id is not None:
        checked_id(run_id)

    async def begin(opened: "Orchestrator") -> "RunHandle":
        return await opened.start(built, input=input and input.value, run_id=run_id)

    command = _command_writer(ctx, ctx.params["store"], (*ctx.params["path"], *_folder_elsewhere(dag)))

    def continue_command(begun: str) -> str | None:
        if command is None:
            return None
        if continue_with is not None:
            return continue_with
        if input is not None and input.text == "-":  # the same command would wait for the same stdin again
            return command("resume", begun)
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
            say=say,
        )
    )


def _command_writer(ctx: click.Context, store: str, paths: Sequence[str]) -> Callable[..., str] | None:
    """Return what writes a command for the same store and callables, `None` for a store that ends with this one."""
    if store == "memory:":
        return None

    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    commands = group.commands

    def write(name: str, *args: str) -> str:
        has_paths = any(param.name == "path" for param in commands[name].params)
        words = [word for path in dict.fromkeys(paths) for word in ("--path", path)] if has_paths else []
        return " ".join([command_line(store, name, *args), *map(shlex.quote, words)])

    return write


def _folder_elsewhere(dag: str) -> list[str]:
    """Return the folder of a definition file if it is not the current one: callables were found there, too."""
    folder = str(Path(dag).parent)
    return [] if folder == "." else [folder]


@click.command(epilog=EPILOG)
@click.argument("run_id", shell_complete=run_ids)
@option("--detach", is_flag=True, help="Only record the new run, for `aiorch serve` to carry out.")
@json_option
@engine_options(only_own_runs=True)
@click.pass_context
def resume(ctx: click.Context, run_id: str, *, detach: bool, json: bool, orchestrator: "Orchestrator") -> int:
    """
    Continue an interrupted run, or go on where a failed or cancelled run ended.

    An interrupted run continues as it is. After a failed or cancelled run a new run begins, RUN_ID.2 or the next
    number, that keeps every result and starts again with the tasks that did not complete.
    """
    from aiorch.cli.foreground import run_interruptibly, run_to_end
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.run_state import kept_by_resume

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
            command=_command_writer(ctx, ctx.params["store"], ctx.params["path"]),
            say=say,
        )
    )
