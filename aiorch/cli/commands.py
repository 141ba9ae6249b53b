"""
The command line: thin over `Orchestrator`.

Results go to stdout, everything else to stderr. What a command needs is imported when it runs: ``aiorch --help`` loads
no engine, and ``aiorch run`` neither the live view nor an HTTP library before its first task.
"""
# ruff: noqa: A002, PLC0415, PLR0913, PLR0917  imports as said above; a command has an argument per option, of its name

import os
import shlex
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from io import StringIO
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from aiorch import __version__
from aiorch.cli.options import (
    Input,
    engine_options,
    input_option,
    json_option,
    open_client,
    open_engine,
    option,
    run_id_option,
    store_option,
)
from aiorch.enums import RunStatus
from aiorch.errors import AiorchError, DefinitionError, DocumentError, RunNotFoundError, StoreError, StoreUnavailable
from aiorch.process_exit import leave
from aiorch.stores import DEFAULT_STORE
from aiorch.views.escaping import escaped
from aiorch.views.streams import write_line

if TYPE_CHECKING:
    from aiorch.dag import DAG
    from aiorch.orchestrator import Orchestrator
    from aiorch.run_handle import RunHandle
    from aiorch.views.graph import Format

GRAPH_FORMATS: dict[str, "Format"] = {".mmd": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg"}

_Answer = TypeVar("_Answer")

PATIENCE_S = 30.0
"""How long a store that does not answer is asked about one run."""

OK, USAGE_OR_DEFINITION_WRONG, STORE_FAILED, FAULT, INTERRUPTED = 0, 2, 3, 70, 130

_EPILOG = """\b
Exit codes:
    0  done; of run and resume: the run completed
    1  the run failed or was cancelled
    2  wrong usage, or the definition, the run id or the input is wrong
    3  the store or the topic failed, or the store holds something that cannot be read
   70  a fault of aiorch itself
  130  interrupted; the run can be continued
"""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names and messages may hold what the encoding of the terminal does not have.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = _exit_code(list(sys.argv[1:] if args is None else args))
    leave(code)


def _exit_code(args: list[str]) -> int:
    try:
        return int(cli.main(args, prog_name="aiorch", standalone_mode=False, obj=tuple(args)) or OK)
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        _say(shown.getvalue().rstrip())
        return USAGE_OR_DEFINITION_WRONG
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except AiorchError as error:
        _say(f"Error: {error}")
        return STORE_FAILED if isinstance(error, (StoreError, DocumentError)) else USAGE_OR_DEFINITION_WRONG
    except Exception:  # noqa: BLE001  the end of the line
        _say(traceback.format_exc().rstrip())
        _say("Error: this is a fault of aiorch itself. What runs have committed is kept.")
        return FAULT


def _say(line: str) -> None:
    write_line(sys.stderr, line)


def _print(result: str) -> None:
    write_line(sys.stdout, result)


@click.group(
    context_settings={"auto_envvar_prefix": "AIORCH", "help_option_names": ["-h", "--help"], "show_default": True},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="aiorch", allow_from_autoenv=False)
@option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="warning", help="On stderr.")
def cli(log_level: str) -> None:
    """
    Durable DAG orchestration.

    Every option can also be set by an environment variable; the help of each command names them.
    """
    from aiorch.cli.logs import log_to_stderr
    from aiorch.variables import SERVICE_VARIABLES, unknown_variables

    log_to_stderr(log_level)
    for name, meant in unknown_variables(os.environ, SERVICE_VARIABLES | own_variables()).items():
        hint = f"did you mean {meant}?" if meant else "docs/cli.md and docs/service.md have those there are."
        _say(f"Warning: {name} is no variable of aiorch, so it is ignored: {hint}")


def own_variables() -> set[str]:
    """Return the environment variables of every option of every command."""
    found = set()
    for path, command in (("AIORCH", cli), *((f"AIORCH_{name.upper()}", each) for name, each in cli.commands.items())):
        for param in command.params:
            if isinstance(param, click.Option) and param.allow_from_autoenv and param.name is not None:
                found.add(f"{path}_{param.name.upper()}")
                if isinstance(param.envvar, str):
                    found.add(param.envvar)
    return found


# --- Running ----------------------------------------------------------------------------------------------------


@cli.command(epilog=_EPILOG)
@click.argument("dag")
@input_option
@run_id_option
@json_option
@option("--continue-with", metavar="COMMAND", help="Command to name when it is interrupted; by default this one.")
@engine_options
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

    built = orchestrator.dag(dag)  # before anything is opened

    async def begin(opened: "Orchestrator") -> "RunHandle":
        return await opened.start(built, input=input and input.value, run_id=run_id)

    def continue_command(begun: str) -> str | None:
        words = ctx.obj if run_id is not None else (*ctx.obj, "--run-id", begun)
        return None if ctx.params["store"] == "memory:" else continue_with or shlex.join(["aiorch", *words])

    return run_interruptibly(
        run_to_end(
            orchestrator,
            begin,
            as_json=json,
            continue_command=continue_command,
            command=_command_writer(ctx.params["store"], (*ctx.params["path"], *_folder_elsewhere(dag))),
            say=_say,
        )
    )


def _command_writer(store: str, paths: Sequence[str]) -> Callable[..., str] | None:
    """Return what writes a command for the same store and callables, `None` for a store that ends with this one."""
    if store == "memory:":
        return None

    def write(name: str, *args: str) -> str:
        words = ["aiorch", name, *args]
        if store != DEFAULT_STORE:
            words += ["--store", store]
        if any(param.name == "path" for param in cli.commands[name].params):
            words += [word for path in dict.fromkeys(paths) for word in ("--path", path)]
        return shlex.join(words)

    return write


def _folder_elsewhere(dag: str) -> list[str]:
    """Return the folder of a definition file if it is not the current one: callables were found there, too."""
    folder = str(Path(dag).parent)
    return [] if folder == "." else [folder]


@cli.command(epilog=_EPILOG)
@click.argument("run_id")
@option("--detach", is_flag=True, help="Only record the new run; whoever serves the store carries it out.")
@json_option
@engine_options
@click.pass_context
def resume(ctx: click.Context, run_id: str, *, detach: bool, json: bool, orchestrator: "Orchestrator") -> int:
    """
    Go on where a failed or cancelled run ended.

    A new run begins, RUN_ID.2 or what comes next, that keeps every result and starts again with what did not complete.
    """
    from aiorch.cli.foreground import run_interruptibly, run_to_end

    if detach or ctx.params["store"] == "memory:":  # of which the client says that there is nothing to resume
        handle = _ask(_with_client(ctx.params["store"], "resume", run_id))
        _print(handle.run_id)
        return OK

    async def begin(opened: "Orchestrator") -> "RunHandle":
        return await opened.resume(run_id)

    def continue_command(_: str) -> str:
        return shlex.join(["aiorch", *ctx.obj])

    return run_interruptibly(
        run_to_end(
            orchestrator,
            begin,
            as_json=json,
            continue_command=continue_command,
            command=_command_writer(ctx.params["store"], ctx.params["path"]),
            say=_say,
        )
    )


@cli.command(epilog=_EPILOG)
@click.argument("dag", required=False)
@option("--topic", metavar="TOPIC", help="Publish a start message to projects/PROJECT/topics/NAME instead.")
@input_option
@run_id_option
@store_option
@click.pass_context
def start(
    ctx: click.Context, dag: str | None, topic: str | None, input: Input | None, run_id: str | None, store: str
) -> int:
    """
    Record the start of a run and print its id; whoever serves the store carries it out.

    DAG is a definition file. With --topic it is the name of a DAG that the receiver serves, or left out if that serves
    one only, and a start message is published.
    """
    if topic is not None:
        if ctx.get_parameter_source("store") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                "a message has no --store, so nothing was published: who receives it has one. Leave one of them out."
            )
        return _publish_start(topic, dag, input, run_id)
    if dag is None:
        raise click.UsageError("a definition file is needed, or a --topic: nothing was started.")
    if not _is_file(dag):
        raise click.UsageError(
            f"{dag!r} is no definition file, so nothing was started: give the path of one, or, to start a DAG that the "
            f"service serves by its name, the --topic of its messages."
        )
    if store == "memory:":
        raise click.UsageError("a store in memory ends with this command, so nothing was started: use `aiorch run`.")

    async def begin() -> str:
        async with open_client(store, create=True) as client, _patience(store):
            return (await client.start(dag, input=input and input.value, run_id=run_id)).run_id

    _print(_ask(begin()))
    return OK


def _publish_start(topic: str, dag: str | None, input: Input | None, run_id: str | None) -> int:
    from time import time

    from aiorch.names import run_id as checked
    from aiorch.sources.publish import PublishError, publish
    from aiorch.system import SystemEntropy

    if dag is not None and _is_file(dag):
        raise click.UsageError(
            f"{dag!r} is a file, so nothing was published: a message names a DAG that its receiver serves, "
            f"like {Path(dag).stem!r}. Without --topic (AIORCH_START_TOPIC) the file is started in a store."
        )
    if input is not None and not isinstance(input.value, dict):
        raise click.UsageError(
            "the input that a message carries is a JSON object, and this is none, so nothing was published: wrap it in "
            'one, like {"value": …}.'
        )
    # With an id of our choice the message can be sent again when nobody knows whether it was published.
    begun = checked(run_id or f"run_{int(time())}_{SystemEntropy().token()[:16]}")
    labels = {"run_id": str(begun)} | ({} if dag is None else {"dag": dag})
    message = {"resource": {"type": "start", "labels": labels}}
    try:
        message_id = _ask(publish(topic, message if input is None else message | {"parameters": input.value}))
    except PublishError as error:
        _say(f"Error: {error}")
        if not error.is_refused:
            _say(f"The same start again is the same run: add --run-id {begun}")
        return STORE_FAILED
    _say(f"Published message {message_id} to {topic}. Whoever receives it and serves the DAG starts this run:")
    _print(begun)
    return OK


@cli.command()
@option(
    "--dag",
    multiple=True,
    metavar="FILE|FOLDER",
    type=click.Path(exists=True, path_type=Path),
    help="Definition that may be started by its name, or a folder of them. May be given several times.",
)
@option("--host", default="127.0.0.1", help="Address to bind.")
@option("--port", default=8080, type=click.IntRange(0, 65535), help="Port to bind, 0 for a free one.")
@option("--token", metavar="TOKEN", help="Bearer token that every request must carry. Better set by the environment.")
@option(
    "--allow-definitions", is_flag=True, help="Let requests start definitions of their own: they can call any code."
)
@engine_options
def serve(
    dag: Sequence[Path],
    host: str,
    port: int,
    token: str | None,
    *,
    allow_definitions: bool,
    orchestrator: "Orchestrator",
) -> None:
    """
    Carry out the runs of the store until interrupted.

    An HTTP endpoint starts, lists, shows, cancels and resumes them.
    """
    from aiorch.cli.foreground import run_interruptibly, until_interrupted
    from aiorch.server import cannot_bind, exposure_warning, is_loopback, listening, make_app
    from aiorch.serving import serve_dags

    if token == "":
        raise click.UsageError("--token is empty, so nothing is served: it would protect nothing.")
    if wrong := serve_dags(orchestrator, dag):
        raise click.ClickException("\n".join(["nothing is served:", *wrong]))
    warning = exposure_warning(host, token)
    if warning is not None:
        click.secho(escaped(warning), err=True, fg="red", bold=True)

    not_ready: str | None = "the server is starting: ask again in a moment"

    async def work() -> int:
        nonlocal not_ready
        app = make_app(
            orchestrator,
            token=token,
            only_loopback_names=is_loopback(host),
            allow_definitions=allow_definitions,
            not_ready=lambda: not_ready,
        )
        async with AsyncExitStack() as stack:
            try:
                url = await stack.enter_async_context(listening(app, host, port))
            except OSError as error:
                message = (
                    f"{cannot_bind(host, port, error)} --host and --port name another address, --port 0 a free port."
                )
                raise click.ClickException(message) from error
            await stack.enter_async_context(orchestrator)  # it takes over runs: only once this can be served
            not_ready = None
            _say(f"Serving on {url}; DAGs: {', '.join(orchestrator.dags) or 'none'}. Stop with Ctrl-C.")
            try:
                await until_interrupted()
            finally:
                not_ready = "the server is stopping: ask again when it has been started anew"

    run_interruptibly(work())
    _say("Stopped. Open runs go on at the next start.")


# --- Looking ----------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("dag")
@option("--callables", is_flag=True, help="Import every callable that it names, too.")
@json_option
def validate(dag: str, *, callables: bool, json: bool) -> int:
    """Check a definition file, and report everything that is wrong with it."""
    orchestrator = open_engine("memory:")
    try:
        built = orchestrator.dag(dag)
        if callables:
            orchestrator.check(built)
    except DefinitionError as error:
        if not json:
            raise
        problems = [problem._asdict() for problem in error.problems]
        _print(dumps({"valid": False, "problems": problems}, indent=2))
        return USAGE_OR_DEFINITION_WRONG
    if json:
        _print(dumps({"valid": True, "dag": built.name, "definition": built.definition_id}, indent=2))
    else:
        _print(f"{dag}: DAG {built.name!r} is valid: {len(built.all_tasks):,} tasks in {len(built.all_nodes):,} nodes")
    return OK


@cli.command()
@click.argument("dag_or_run")
@option("--run", metavar="RUN_ID", help="Draw the definition file with the statuses of this run of it.")
@option("--format", type=click.Choice(["mermaid", "dot", "svg"]), help="By default as --output ends, or mermaid.")
@option(
    "--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="File to write; by default stdout."
)
@option("--branches", type=click.IntRange(1), default=20, help="Branches of one Parallel to draw; more are folded.")
@store_option
def graph(
    dag_or_run: str, run: str | None, format: "Format | None", output: Path | None, branches: int, store: str
) -> None:
    """
    Draw a DAG: that of a definition file, or that of a run with its statuses.

    DAG_OR_RUN is a definition file if there is such a file or if it looks like one, else the id of a run.
    """
    from aiorch.views.graph import render

    dag, run_state = _what_to_draw(dag_or_run, run, store)
    if format is None and output is not None and output.suffix not in GRAPH_FORMATS:
        endings = ", ".join(GRAPH_FORMATS)
        raise click.UsageError(f"{str(output)!r} ends in none of {endings}, so nothing was written; give a --format.")
    by_name = GRAPH_FORMATS.get(output.suffix if output else "", "mermaid")
    text = render(dag, format or by_name, run_state, now=datetime.now(UTC), branches_max=branches)
    if output is None:
        _print(text.rstrip())
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{str(output)!r} cannot be written: {error.strerror}") from error


def _what_to_draw(dag_or_run: str, run_id: str | None, store: str) -> tuple["DAG", Any]:
    if not _is_file(dag_or_run):
        if run_id is not None:
            raise click.UsageError(f"{dag_or_run!r} is no definition file; give the run id alone, or a file and --run.")
        try:
            handle = _ask(_with_client(store, "attach", dag_or_run))
        except RunNotFoundError as error:
            raise click.UsageError(f"{dag_or_run!r} is no file here, and {error}") from error
        return handle.dag, handle.run
    dag = open_engine("memory:").dag(dag_or_run)
    if run_id is None:
        return dag, None
    handle = _ask(_with_client(store, "attach", run_id))
    if handle.dag.definition_id != dag.definition_id:
        raise click.UsageError(
            f"run {run_id!r} is of another definition than {dag_or_run} ({handle.dag.definition_id}, and the file has "
            f"{dag.definition_id}), so nothing was drawn: `aiorch graph {run_id}` draws it as it was."
        )
    return handle.dag, handle.run


def _is_file(text: str) -> bool:
    """Whether *text* is, or looks like, the name of a definition file."""
    from aiorch.serving import DEFINITION_SUFFIXES

    return Path(text).is_file() or Path(text).suffix in DEFINITION_SUFFIXES or os.sep in text


@cli.command()
@option(
    "--status",
    type=click.Choice([each.value for each in RunStatus], case_sensitive=False),
    help="Only runs in this status.",
)
@option("--limit", type=click.IntRange(1), default=50, help="How many, the newest first.")
@json_option
@store_option
def runs(status: str | None, limit: int, *, json: bool, store: str) -> None:
    """List the runs of the store."""
    from aiorch.views.report import runs_lines

    async def listed() -> list[Any]:
        async with open_client(store) as client:
            return [run for run in await client.runs() if status is None or run.status == status]

    found = _ask(listed())
    if json:
        _print(dumps([run._asdict() for run in found[:limit]], indent=2))
        return
    _print("\n".join(runs_lines(found[:limit])))
    if len(found) > limit:
        _say(f"… and {len(found) - limit:,} older ones; --limit {len(found)} shows all.")


@cli.command()
@click.argument("run_id")
@option("--all", is_flag=True, help="Show every node, however many there are.")
@json_option
@store_option
def show(run_id: str, *, all: bool, json: bool, store: str) -> None:
    """Show a run: its nodes, their statuses, what failed and why."""
    from aiorch.views.report import show_lines

    async def asked() -> tuple["RunHandle", frozenset[str]]:
        async with open_client(store) as client, _patience(store):
            await client.runs_status.ping()
            handle = await client.attach(run_id)
            try:
                return handle, frozenset() if json else await client.dead_owners(handle)
            except StoreError:  # the run can be shown without
                return handle, frozenset()

    handle, dead = _ask(asked())
    if json:
        _print(handle.document().decode())
    else:
        _print("\n".join(show_lines(handle.dag, handle.run, datetime.now(UTC), show_all=all, dead=dead)))


@cli.command()
@click.argument("run_id")
@option("--reason", default="cancelled on request", help="Kept in the run document.")
@store_option
def cancel(run_id: str, reason: str, store: str) -> None:
    """Cancel a run: what runs is stopped, and nothing more is started."""
    handle = _ask(_with_client(store, "cancel", run_id, reason=reason))
    _print(f"Run {run_id} {handle.status}")
    if not handle.status.is_terminal:
        _say("Nothing more of it is launched, and it ends when the process that runs its tasks has stopped them.")
    elif handle.status is not RunStatus.CANCELLED:
        _say("It had ended before, so nothing was cancelled, and it stays as it is.")


def _ask(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    import asyncio

    return asyncio.run(question)


async def _with_client(store: str, method: str, *args: str, **options: str) -> "RunHandle":
    """Call one method of a client that is opened for it."""
    async with open_client(store) as client, _patience(store):
        await client.runs_status.ping()  # a store that does not answer is told at once, and why
        handle: RunHandle = await getattr(client, method)(*args, **options)
        return handle


@asynccontextmanager
async def _patience(store: str) -> AsyncIterator[None]:
    """Give up a question about a run in the end: the engine would ask a store that does not answer for ever."""
    import asyncio

    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError as error:
        raise StoreUnavailable(
            f"{store} gave no usable answer within {PATIENCE_S:g} s, so this was given up. Whether something was "
            f"changed is unknown: look again when it answers."
        ) from error
