"""
The command line, a thin layer over `Orchestrator`. Each module of this package holds one group of commands.

Results go to stdout, all other output to stderr. A command imports its modules when it runs: ``aiorch --help`` loads no
engine, and ``aiorch run`` loads neither the live view nor an HTTP library before its first task. The function of a
command has one argument per option, with the name of the option.
"""
# ruff: noqa: PLC0415  imports: see above

import os
import sys
import traceback
from collections.abc import Sequence
from io import StringIO
from typing import NoReturn

import click

from aiorch import __version__
from aiorch.cli.definitions import graph, schema
from aiorch.cli.options import log_level_after, log_level_before
from aiorch.cli.output import (
    EPILOG,
    FAULT,
    INTERRUPTED,
    NOT_COMPLETED,
    NOT_YET,
    OK,
    OUTPUT_LOST,
    STORE_FAILED,
    USAGE_OR_DEFINITION_WRONG,
    say,
)
from aiorch.cli.run import resume, run
from aiorch.cli.runs import cancel, result, runs, show
from aiorch.cli.serve import serve
from aiorch.cli.start import start
from aiorch.cli.test import test
from aiorch.cli.validate import validate
from aiorch.errors import (
    AiorchError,
    DocumentError,
    NoResultError,
    ResultPendingError,
    StoreError,
    TaskNotFoundError,
)
from aiorch.system.exit import leave
from aiorch.views.streams import GONE, OutputLostError, guard_streams

_CODE_OF: tuple[tuple[type[AiorchError], int], ...] = (
    (StoreError, STORE_FAILED),
    (DocumentError, STORE_FAILED),
    (TaskNotFoundError, USAGE_OR_DEFINITION_WRONG),
    (ResultPendingError, NOT_YET),
    (NoResultError, NOT_COMPLETED),
)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process with the exit code."""
    guard_streams()
    code = _exit_code(list(sys.argv[1:] if args is None else args))
    leave(code)


def _exit_code(args: list[str]) -> int:  # noqa: PLR0911  one per kind of end
    try:
        return int(cli.main(args, prog_name="aiorch", standalone_mode=False, obj=tuple(args)) or OK)
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip())
        return USAGE_OR_DEFINITION_WRONG
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except AiorchError as error:
        say(f"Error: {error}")
        return next((code for kind, code in _CODE_OF if isinstance(error, kind)), USAGE_OR_DEFINITION_WRONG)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        return end.code  # from click, which has completed a word for a shell
    except OutputLostError as error:
        if error.reason != GONE:  # a reader that stops early, like `head`, wants no message
            say(f"Error: {error} The command itself succeeded.")
        return OUTPUT_LOST
    except Exception:  # noqa: BLE001  the end of the line
        say(traceback.format_exc().rstrip())
        say("Error: this is a fault of aiorch itself. All commits of runs are kept.")
        return FAULT


@click.group(
    context_settings={"auto_envvar_prefix": "AIORCH", "help_option_names": ["-h", "--help"], "show_default": True},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="aiorch", allow_from_autoenv=False)
@log_level_before
def cli(log_level: str) -> None:
    """
    Durable DAG orchestration.

    Every option can also be set by an environment variable; the help of each command names them.
    """
    from aiorch.cli.logs import log_to_stderr
    from aiorch.system.environment import PREFIX, service_variables, unknown_variables

    log_to_stderr(log_level)
    if not any(name.startswith(PREFIX) for name in os.environ):
        return
    own = own_variables()
    known = own | service_variables(installed=False)
    if unknown_variables(os.environ, known):
        known = own | service_variables()  # a look through the installed packages takes long
    for name, meant in unknown_variables(os.environ, known).items():
        hint = f"did you mean {meant}?" if meant else "docs/cli.md and docs/service.md list all variables."
        say(f"Warning: {name} is no variable of aiorch, so it is ignored: {hint}")


def own_variables() -> set[str]:
    """Return the environment variables of every option of every command."""
    found = set()
    for path, command in (("AIORCH", cli), *((f"AIORCH_{name.upper()}", each) for name, each in cli.commands.items())):
        for param in command.get_params(click.Context(command)):
            if isinstance(param, click.Option) and param.allow_from_autoenv and param.name is not None:
                found.add(f"{path}_{param.name.upper()}")
                if isinstance(param.envvar, str):
                    found.add(param.envvar)
    return found


for command in (run, resume, start, serve, validate, test, graph, schema, runs, show, result, cancel):
    command.params.append(log_level_after)
    cli.add_command(command)
