"""Options that several commands share, and the values that they give."""
# ruff: noqa: PLC0415  functions that open the engine import it: `aiorch --help` needs no engine

import errno
import functools
import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from aiorch.cli.completion import run_ids
from aiorch.stores import DEFAULT_STORE

if TYPE_CHECKING:
    from aiorch.orchestrator import Orchestrator
    from aiorch.settings import TargetSetting, TargetSettings


_Command = TypeVar("_Command", bound=Callable[..., Any])


class Option(click.Option):
    """An option whose errors name the environment variable only if the value may come from there."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the option for messages."""
        if ctx is not None and ctx.get_parameter_source(str(self.name)) is ParameterSource.COMMANDLINE:
            return click.Parameter.get_error_hint(self, ctx)
        return super().get_error_hint(ctx)


option = functools.partial(click.option, cls=Option, show_envvar=True)
"""An option whose help names the environment variable."""


_LOG_LEVELS = click.Choice(["debug", "info", "warning", "error"])

log_level_before = option(
    "--log-level", type=_LOG_LEVELS, default="warning", help="Lowest level of the records on stderr."
)


def _set_log_level(ctx: click.Context, param: click.Parameter, value: str | None) -> None:  # noqa: ARG001
    if value is not None:
        logging.getLogger().setLevel(value.upper())


log_level_after = click.Option(
    ["--log-level"],
    type=_LOG_LEVELS,
    is_eager=True,
    expose_value=False,
    allow_from_autoenv=False,
    callback=_set_log_level,
    help="Lowest level of the records on stderr.",
)
"""The same option after a command, which takes precedence."""


class Input(NamedTuple):
    """The argument of ``--input``: its text, and the JSON value."""

    text: str
    value: Any


def _read_input(ctx: click.Context, param: click.Parameter, value: str | None) -> Input | None:
    if value is None or ctx.resilient_parsing:  # a shell completes a word: no file is read
        return None
    text, name, hint = value, "this", " (for a file, give @FILE; a text needs quotes: '\"text\"')"
    try:
        if value == "-":
            name, hint = "stdin", ""
            text = read_stdin()
        elif value.startswith("@"):
            name, hint = repr(value[1:]), ""
            text = Path(value[1:]).read_text(encoding="utf-8")
        return Input(value, json.loads(text, parse_constant=_refuse))
    except OSError as error:
        message = f"{name} cannot be read, so no run was started: {error.strerror}"
        raise click.BadParameter(message, ctx, param) from error
    except (ValueError, RecursionError) as error:
        message = f"{name} is not JSON, so no run was started: {error}{hint}"
        raise click.BadParameter(message, ctx, param) from error


def read_stdin() -> str:
    """Return all of stdin as text. Raises: OSError, and ValueError for a text that is not UTF-8."""
    if sys.stdin is None:  # closed before the start of the process
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdin.buffer.read().decode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def is_file(text: str) -> bool:
    """Whether *text* is, or looks like, the name of a definition file."""
    from aiorch.definition.files import DEFINITION_SUFFIXES

    if os.path.isfile(text):  # noqa: PTH113  Path.is_file may raise
        return True
    return Path(text).suffix in DEFINITION_SUFFIXES or os.sep in text


def require_file(dag: str, undone: str, *, kind: str = "definition file") -> None:
    """Raise a UsageError that names the file that was probably meant, if a file of a *kind* does not exist."""
    if os.path.lexists(dag):
        return
    from aiorch.definition.files import DEFINITION_SUFFIXES
    from aiorch.model.findings import Hints

    path = Path(dag)
    try:
        there = [each for each in path.parent.iterdir() if each.suffix in DEFINITION_SUFFIXES]
    except OSError:
        there = []
    meant = Hints().closest(path.name, sorted(each.name for each in there))
    hint = f"did you mean {path.with_name(meant)}?" if meant else f"give the path of a {kind}."
    raise click.UsageError(f"there is no file {dag}, so {undone}; {hint}")


class AtLeast(click.ParamType):  # type: ignore[type-arg]  # generic only to type checkers
    """A number from a least value on."""

    def __init__(self, least: float, kind: type[float] = float, most: float = math.inf) -> None:
        self.name = "integer" if kind is int else "number"
        self._least, self._kind, self._most = least, kind, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Raises: click.BadParameter."""
        try:
            number = self._kind(value)
        except ValueError:
            number = math.nan
        if not self._least <= number <= self._most:
            kind = "a whole number" if self._kind is int else "a number"
            limits = (
                f"of at least {self._least:g}" if self._most == math.inf else f"from {self._least:g} to {self._most:g}"
            )
            self.fail(f"{value!r} must be {kind} {limits}, so the command did nothing.", param, ctx)
        return number


store_option = option(
    "--store",
    envvar="AIORCH_STORE",
    default=DEFAULT_STORE,
    metavar="URL",
    help="Store of the runs: sqlite:///PATH, sqlite:////ABSOLUTE/PATH, gs://BUCKET[/PREFIX] or memory:.",
)
json_option = option("--json", is_flag=True, help="Print JSON on stdout.")
input_option = option(
    "--input",
    metavar="JSON|@FILE|-",
    callback=_read_input,
    help="Input of the run: JSON, a JSON file, or - for stdin.",
)
run_id_option = option(
    "--run-id",
    metavar="ID",
    shell_complete=run_ids,
    help="Id of the run. The id of an existing run continues that run.",
)


def command_line(store: str, name: str, *args: str) -> str:
    """Return a command line for a store, from the name and arguments of a command."""
    return shlex.join(["aiorch", name, *args, *(() if store == DEFAULT_STORE else ("--store", store))])


path_option = option(
    "--path",
    envvar="AIORCH_PATH",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="Folder with callables, in addition to the folder of the definition and the current one. May be repeated.",
)


def _read_secrets(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> dict[str, str]:
    from aiorch.errors import InvalidSettingError
    from aiorch.settings import refuse_wrong_source

    sources = {}
    for each in value:
        for pair in filter(None, each.split(",")):
            name, _, source = pair.partition("=")
            try:
                refuse_wrong_source(f"the source of the secret {name!r}", source)
            except InvalidSettingError as error:
                raise click.BadParameter(
                    f"{error.setting} {error.rule}, so the command did nothing.", ctx, param
                ) from None
            sources[name.strip()] = source
    return sources


_LAUNCH_OPTIONS = (
    path_option,
    option(
        "--secret",
        "secrets",
        envvar="AIORCH_SECRETS",
        multiple=True,
        metavar="NAME=SOURCE",
        callback=_read_secrets,
        help="Where a secret of a definition comes from: env:VARIABLE, file:PATH or "
        "sm:projects/PROJECT/secrets/SECRET. May be repeated.",
    ),
    option("--project-id", envvar="AIORCH_PROJECT_ID", help="Project for steps without their own."),
    option("--region", envvar="AIORCH_REGION", help="Region for steps without their own."),
)
"""The options that decide whether a definition can run."""

_ENGINE_OPTIONS = (
    store_option,
    *_LAUNCH_OPTIONS,
    option(
        "--drain",
        envvar="AIORCH_DRAIN",
        type=AtLeast(0),
        default=5.0,
        metavar="SECONDS",
        help="Time for running tasks to end after an interrupt.",
    ),
)


class EngineCommand(click.Command):
    """
    A command that runs tasks, or checks whether they can run: it also has the options of the kinds of targets.

    These are added when the command is parsed, completed or explained. Those of installed packages are added when an
    unknown option or variable is given, and for the help: a look through the packages takes long.

    Attributes:
        has_plugins: The command has the options of installed packages, too.
    """

    has_plugins = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return all parameters, the option for help last."""
        *own, shows_help = super().get_params(ctx)
        return [*own, *_target_options(installed=self.has_plugins), shows_help]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with the options of packages if need be."""
        from aiorch.system.environment import PREFIX, service_variables

        ours = {name for name in os.environ if name.startswith(PREFIX)}
        if "--help" in args or "-h" in args or ours.difference(service_variables(installed=False)):
            self.has_plugins = True
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption:
            self.has_plugins = True
            return super().parse_args(ctx, args)


@functools.cache
def _target_options(*, installed: bool) -> tuple[click.Option, ...]:
    from aiorch.targets.kind import settings_classes

    rows = [row for each in settings_classes(installed=installed) for row in each.rows() if row.is_option]
    return tuple(map(_target_option, rows))


def _target_option(row: "TargetSetting") -> click.Option:
    from aiorch.system.environment import PREFIX

    return Option(
        [f"--{row.name.replace('_', '-')}"],
        envvar=PREFIX + row.name.upper(),
        show_envvar=True,
        default=row.default,
        type=row.type,
        is_flag=row.type is bool,
        metavar=row.metavar,
        help=row.help,
        callback=functools.partial(_check, row.check),
    )


def _check(check: str | None, ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if check is not None and value is not None and not ctx.resilient_parsing:
        from aiorch.targets.kind import load

        try:
            load(check)(value)
        except ValueError as error:
            raise click.BadParameter(f"the command did nothing: {error}", ctx, param) from error
    return value


def _target_settings(given: dict[str, Any]) -> list["TargetSettings"]:
    """Take the values of the options of targets out of *given*, and return the settings that they are."""
    from aiorch.targets.kind import settings_classes

    command = click.get_current_context().command
    assert isinstance(command, EngineCommand)
    found = []
    for each in settings_classes(installed=command.has_plugins):
        values = {row.attribute: given.pop(row.name) for row in each.rows() if row.is_option}
        if values:
            found.append(each(**values))
    return found


def engine_options(*, only_own_runs: bool) -> Callable[[_Command], Callable[..., Any]]:
    """
    Return a decorator that adds the options of a command that runs tasks.

    The command is called with an `Orchestrator` that is built from these options.

    Args:
        only_own_runs: As for `Orchestrator`.
    """

    def add(command: _Command) -> Callable[..., Any]:
        @functools.wraps(command)
        def call(
            *args: Any,
            store: str,
            path: Sequence[str],
            drain: float,
            **given: Any,
        ) -> Any:
            settings = {"drain_s": drain, **_launch_settings(given)}
            targets = _target_settings(given)
            engine = open_engine(store, path, only_own_runs=only_own_runs, targets=targets, **settings)
            return command(*args, orchestrator=engine, **given)

        return functools.reduce(lambda wrapped, each: each(wrapped), reversed(_ENGINE_OPTIONS), call)

    return add


def _launch_settings(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given.pop(name) for name in ("project_id", "region", "secrets")}


def launch_options(command: _Command) -> Callable[..., Any]:
    """
    Add the options that decide whether a definition can run.

    The command is called with `open_engine`, a function that makes an `Orchestrator` with these options and a store in
    memory, each time a new one.
    """

    @functools.wraps(command)
    def call(*args: Any, path: Sequence[str], **given: Any) -> Any:
        settings = _launch_settings(given)
        targets = _target_settings(given)

        def make() -> "Orchestrator":
            return open_engine("memory:", path, targets=targets, **settings)

        return command(*args, open_engine=make, **given)

    return functools.reduce(lambda wrapped, each: each(wrapped), reversed(_LAUNCH_OPTIONS), call)


def open_engine(
    store: str,
    paths: Sequence[str] = (),
    *,
    only_own_runs: bool = False,
    targets: Iterable["TargetSettings"] = (),
    **settings: Any,
) -> "Orchestrator":
    """Return an orchestrator that launches tasks, not entered yet."""
    from aiorch.orchestrator import Orchestrator
    from aiorch.settings import Settings

    return Orchestrator(
        store,
        search_paths=paths,
        definition_folders=[*paths, Path.cwd()],
        only_own_runs=only_own_runs,
        targets=targets,
        settings=Settings(**settings),
    )
