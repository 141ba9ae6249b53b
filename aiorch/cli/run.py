"""`aiorch run` and `aiorch resume`."""
# ruff: noqa: A002, PLC0415, PLR0913  imports and arguments: see `aiorch.cli.main`

import functools
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

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
from aiorch.cli.values import ValuesCommand, input_for, values_argument

if TYPE_CHECKING:
    from aiorch.orchestrator import Orchestrator
    from aiorch.run_handle import RunHandle


class RunCommand(ValuesCommand, EngineCommand):
    """`aiorch run`."""


@click.command(cls=RunCommand, epilog=EPILOG)
@click.argument("dag", shell_complete=definition_files)
@values_argument
@input_option
@run_id_option
@json_option
@option("--continue-with", metavar="COMMAND", help="Command to print after an interrupt; by default this one.")
@engine_options(only_own_runs=True)
@click.pass_context
def run(
    ctx: click.Context,
    dag: str,
    values: Sequence[str],
    input: Input | None,
    run_id: str | None,
    *,
    json: bool,
    continue_with: str | None,
    orchestrator: "Orchestrator",
) -> int:
    """
    Run the DAG of a definition file, and show the progress of every node.

    NAME=VALUE gives one input of the run: a value is read as the definition declares the input, and without a
    declaration as JSON if it is JSON, else as text.

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
    value = input_for(built, values, input)

    async def begin(opened: "Orchestrator") -> "RunHandle":
        return await opened.start(built, input=value, run_id=run_id)

    command = _writer(ctx.params["store"])
    resume_options = [*_resume_options(dag, ctx.params["path"]), *_secret_options(ctx)]

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


def _secret_options(ctx: click.Context) -> list[str]:
    """Return the options for secrets as they were given; those of the variable hold for the next command, too."""
    if ctx.get_parameter_source("secrets") is not ParameterSource.COMMANDLINE:
        return []
    return [word for name, source in ctx.params["secrets"].items() for word in ("--secret", f"{name}={source}")]


@click.command(cls=EngineCommand, epilog=EPILOG, context_settings={"allow_extra_args": True})
@click.argument("run_id", shell_complete=run_ids)
@option(
    "--from",
    "from_step",
    envvar="AIORCH_RESUME_FROM",
    metavar="STEP",
    help="Run this step and all that follow anew, also of a completed run.",
)
@input_option
@option(
    "--definition",
    metavar="FILE",
    shell_complete=definition_files,
    help="Definition of the new run; steps whose results are kept must be unchanged in it.",
)
@option("--detach", is_flag=True, help="Only store the new run, for `aiorch serve` to carry out.")
@json_option
@engine_options(only_own_runs=True)
@click.pass_context
def resume(
    ctx: click.Context,
    run_id: str,
    from_step: str | None,
    input: Input | None,
    definition: str | None,
    *,
    detach: bool,
    json: bool,
    orchestrator: "Orchestrator",
) -> int:
    """
    Continue an interrupted run, or restart a run that has ended at the steps that did not complete, or at a given one.

    An interrupted run continues under its id. For a run that has ended the command starts a new run, RUN_ID.2 or the
    next number, that keeps the results of all other steps.
    """
    from aiorch.cli.foreground import run_interruptibly, run_to_end
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.engine.resume import kept_by

    store = ctx.params["store"]
    if ctx.args:
        raise click.UsageError(
            f"{ctx.args[0]!r} is a word too many, so no run was started: a resumed run keeps the input of the old one; "
            f"to give a new input, write --from STEP --input JSON."
        )
    if input is not None and from_step is None:
        raise click.UsageError(
            "--input needs --from, so no run was started: results that are kept come from the old input. Name the step "
            "to run anew with --from, or start a new run."
        )
    if definition is not None:
        require_file(definition, "no run was started")
    stored = ask(with_client(store, "attach", run_id))
    changes: dict[str, Any] = {"from_step": from_step} if from_step is not None else {}
    if input is not None:
        changes["input"] = input.value
    if definition is not None:
        changes["definition"] = definition
    continues = not stored.status.is_terminal and not changes
    if detach:
        if not continues:
            stored = ask(with_client(store, "resume", run_id, **changes))
        print_result(stored.run_id)
        return OK
    results, prints = ctx.with_resource(prints_to_stderr())
    built = stored.dag
    if definition is not None:
        changes["definition"] = built = orchestrator.dag(definition, search_paths=[Path.cwd()])
    if not continues:
        kept_by(built, stored.dag, stored.run, from_step)
    orchestrator.check(built)

    async def begin(opened: "Orchestrator") -> "RunHandle":
        return await (opened.continue_run(run_id) if continues else opened.resume(run_id, **changes))

    command = _writer(store)
    resume_options = _path_options(ctx.params["path"])
    if definition is not None:
        resume_options = _resume_options(definition, ctx.params["path"])
    resume_options += _secret_options(ctx)

    def continue_command(begun: str) -> str:
        if input is not None and input.text == "-" and command is not None:  # the same would read stdin again
            return command("resume", begun, *resume_options)
        return shlex.join(["aiorch", *ctx.obj])

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
