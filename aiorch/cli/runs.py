"""`aiorch runs`, `aiorch show`, `aiorch result` and `aiorch cancel`."""
# ruff: noqa: A002, PLC0415, PLR0913  imports and arguments: see `aiorch.cli.main`

import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from json import dumps
from typing import TYPE_CHECKING, Any

import click

from aiorch.cli.client import ask, open_client, patience
from aiorch.cli.completion import run_ids
from aiorch.cli.options import AtLeast, command_line, json_option, option, store_option
from aiorch.cli.output import EPILOG, print_result, say
from aiorch.errors import StoreError
from aiorch.model.status import RunStatus

if TYPE_CHECKING:
    from aiorch.client import Client
    from aiorch.run_handle import RunHandle


RUNS_SHOWN = 50
"""Number of runs that `aiorch runs` lists for people without a `--limit`."""


def _read_labels(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> dict[str, str]:
    from aiorch.model.labels import labels_wanted

    try:
        return labels_wanted(() if ctx.resilient_parsing else texts)
    except ValueError as error:
        raise click.BadParameter(f"no run was listed: {error}.", ctx, param) from error


@click.command()
@option(
    "--status",
    type=click.Choice([each.value for each in RunStatus], case_sensitive=False),
    help="Only runs in this status.",
)
@option(
    "--label",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_read_labels,
    help="Only runs with this label. May be repeated.",
)
@option(
    "--limit",
    type=AtLeast(1, int),
    show_default=f"{RUNS_SHOWN}, with --json all",
    help="Number of runs, the newest first.",
)
@json_option
@store_option
def runs(status: str | None, label: dict[str, str], limit: int | None, *, json: bool, store: str) -> None:
    """List the runs of the store."""
    from aiorch.views.report import runs_lines

    async def listed() -> list[Any]:
        async with open_client(store) as client:
            return [run for run in await client.runs(labels=label) if status is None or run.status == status]

    found = ask(listed())
    if json:
        print_result(dumps([run._asdict() for run in found[:limit]], indent=2))
        return
    shown = found[: limit or RUNS_SHOWN]
    print_result("\n".join(runs_lines(shown)))
    if len(found) > len(shown):
        say(f"… and {len(found) - len(shown):,} older ones; --limit {len(found)} shows all.")


@click.command()
@click.argument("run_id", shell_complete=run_ids)
@option("--all", is_flag=True, help="Show every node and name every failed task, without a limit.")
@option("--failed", is_flag=True, help="Show only the failed tasks, grouped by similar failures.")
@option("--results", is_flag=True, help="With --json: include the results that are too large for the run document.")
@json_option
@store_option
def show(run_id: str, *, all: bool, failed: bool, results: bool, json: bool, store: str) -> None:
    """Show a run: its input, its nodes with statuses and results, its failures."""
    if failed and json:
        raise click.UsageError(
            "--failed is for people, and --json prints the whole run document: give only one of them."
        )
    if results and not json:
        raise click.UsageError(
            "--results needs --json; without --json each result is one short line. See aiorch result."
        )
    if json:
        print_result(ask(_document(run_id, store, with_results=results)).decode())
        return
    from aiorch.views.report import COLUMNS, failed_lines, show_lines

    async def asked() -> tuple["RunHandle", frozenset[str]]:
        async with _attached(run_id, store) as (client, handle):
            try:
                return handle, await client.dead_owners(handle)
            except StoreError:  # the run can be shown without dead owners
                return handle, frozenset()

    handle, dead = ask(asked())
    now = datetime.now(UTC)
    if failed:
        lines = failed_lines(handle.dag, handle.run, now, show_all=all)
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else COLUMNS
        command = partial(command_line, store)
        lines = show_lines(handle.dag, handle.run, now, command=command, show_all=all, dead=dead, columns=columns)
    print_result("\n".join(lines))


async def _document(run_id: str, store: str, *, with_results: bool) -> bytes:
    async with _attached(run_id, store) as (_, handle):
        return await handle.document_with_results() if with_results else handle.document()


@click.command(epilog=EPILOG)
@click.argument("run_id", shell_complete=run_ids)
@click.argument("node", required=False)
@store_option
def result(run_id: str, node: str | None, store: str) -> None:
    """
    Print the result of a run, or of one of its tasks, as JSON.

    The result of a run is the result of its last task. If the DAG ends with a Parallel, it is a mapping with the result
    of the last task of every branch that has a result.
    """
    import msgspec

    async def asked() -> Any:
        async with _attached(run_id, store) as (_, handle):
            return await handle.result(node)

    print_result(msgspec.json.format(msgspec.json.encode(ask(asked())), indent=2).decode())


@asynccontextmanager
async def _attached(run_id: str, store: str) -> AsyncIterator[tuple["Client", "RunHandle"]]:
    """Open a client, and attach it to a run."""
    async with open_client(store, run_id) as client, patience(store):
        await client.runs_status.ping()  # reports at once when the store does not answer, with the reason
        yield client, await client.attach(run_id)


CANCEL_S = 5.0
"""Longest wait of `aiorch cancel` for the end of the run."""


@click.command()
@click.argument("run_id", shell_complete=run_ids)
@option("--reason", default="cancelled on request", help="Kept in the run document.")
@option("--force", is_flag=True, help="Also stop the steps of `finally`, or let them never begin.")
@store_option
def cancel(run_id: str, *, reason: str, force: bool, store: str) -> None:
    """Cancel a run: stop its running executions and start no further task but those of `finally`."""
    import asyncio

    async def cancelled() -> tuple["RunHandle", bool, bool]:
        async with open_client(store, run_id) as client, patience(store):
            await client.runs_status.ping()
            handle = await client.cancel(run_id, reason=reason, force=force)
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_S):
                    await handle.wait()
            dead = await client.dead_owners(handle)
            return handle, bool(dead), handle.run.waits_for_process(dead)

    handle, has_dead_owners, waits = ask(cancelled())
    print_result(f"Run {run_id} {handle.status}")
    if not handle.status.is_terminal:
        serve = command_line(store, "serve")
        but = " but those of `finally`" if handle.dag.final is not None and not force else ""
        if waits and handle.run.header.final is not None:
            resume, force_it = command_line(store, "resume", run_id), command_line(store, "cancel", "--force", run_id)
            then = f"`finally` waits for a process: {serve}, or {resume}. To end the run without it: {force_it}"
        else:
            whose = f"a process that can stop them: {serve}" if has_dead_owners else "their process"
            then = f"The run ends when its running executions are stopped, by {whose}"
        say(f"No further task is launched{but}. {then}")
    elif handle.status is not RunStatus.CANCELLED:
        say("The run had ended before, so it was not cancelled, and its status stays.")
