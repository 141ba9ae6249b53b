"""`aiorch serve`."""
# ruff: noqa: PLC0415, PLR0913  imports and arguments: see `aiorch.cli.main`

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiorch.cli.completion import definition_files
from aiorch.cli.options import AtLeast, EngineCommand, engine_options, option
from aiorch.cli.output import say
from aiorch.views.escaping import escaped

if TYPE_CHECKING:
    from aiorch.orchestrator import Orchestrator


@click.command(cls=EngineCommand)
@option(
    "--dag",
    multiple=True,
    metavar="FILE|FOLDER",
    type=click.Path(exists=True, path_type=Path),
    shell_complete=definition_files,
    help="Definition that may be started by name, or a folder of definitions. May be repeated.",
)
@option("--host", default="127.0.0.1", help="Address to bind.")
@option("--port", default=8080, type=AtLeast(0, int, 65535), help="Port to bind, 0 for a free one.")
@option("--token", metavar="TOKEN", help="Bearer token that every request must carry. Better set the variable.")
@option("--allow-definitions", is_flag=True, help="Let requests start their own definitions, which can call any code.")
@engine_options(only_own_runs=False)
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
    Carry out the runs of the store until an interrupt.

    An HTTP endpoint starts, lists, shows, cancels and resumes runs.
    """
    from aiorch.cli.foreground import run_interruptibly, until_interrupted
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.web.server import cannot_bind, exposure_warning, is_loopback, listening, make_app
    from aiorch.web.serving import serve_dags

    if token == "":
        raise click.UsageError(
            "--token is empty, so the server was not started: an empty token protects no request. Give a token."
        )
    click.get_current_context().with_resource(prints_to_stderr())
    if wrong := serve_dags(orchestrator, dag):
        raise click.ClickException("\n".join(["the server was not started:", *wrong]))
    warning = exposure_warning(host, token, host_setting="--host (AIORCH_SERVE_HOST)")
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
            await stack.enter_async_context(orchestrator)  # it takes over runs, so only when the address is bound
            not_ready = None
            say(f"Serving on {url}; DAGs: {', '.join(orchestrator.dags) or 'none'}. Stop with Ctrl-C.")
            try:
                await until_interrupted()
            finally:
                not_ready = "the server is stopping: ask again when it has been restarted"

    run_interruptibly(work())
    say("Stopped. Open runs continue at the next start.")
