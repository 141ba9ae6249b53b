"""`aiorch runs`, `aiorch show` and `aiorch cancel`."""
# ruff: noqa: A002, PLC0415  imports and arguments as said in `aiorch.cli.main`

from datetime import UTC, datetime
from json import dumps
from typing import TYPE_CHECKING, Any

import click

from aiorch.cli.client import ask, patience, with_client
from aiorch.cli.completion import run_ids
from aiorch.cli.options import json_option, open_client, option, store_option
from aiorch.cli.output import print_result, say
from aiorch.enums import RunStatus
from aiorch.errors import StoreError

if TYPE_CHECKING:
    from aiorch.run_handle import RunHandle


@click.command()
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

    found = ask(listed())
    if json:
        print_result(dumps([run._asdict() for run in found[:limit]], indent=2))
        return
    print_result("\n".join(runs_lines(found[:limit])))
    if len(found) > limit:
        say(f"… and {len(found) - limit:,} older ones; --limit {len(found)} shows all.")


@click.command()
@click.argument("run_id", shell_complete=run_ids)
@option("--all", is_flag=True, help="Show every node, however many there are.")
@json_option
@store_option
def show(run_id: str, *, all: bool, json: bool, store: str) -> None:
    """Show a run: its nodes, their statuses, what failed and why."""
    from aiorch.views.report import show_lines

    async def asked() -> tuple["RunHandle", frozenset[str]]:
        async with open_client(store) as client, patience(store):
            await client.runs_status.ping()
            handle = await client.attach(run_id)
            try:
                return handle, frozenset() if json else await client.dead_owners(handle)
            except StoreError:  # the run can be shown without
                return handle, frozenset()

    handle, dead = ask(asked())
    if json:
        print_result(handle.document().decode())
    else:
        print_result("\n".join(show_lines(handle.dag, handle.run, datetime.now(UTC), show_all=all, dead=dead)))


@click.command()
@click.argument("run_id", shell_complete=run_ids)
@option("--reason", default="cancelled on request", help="Kept in the run document.")
@store_option
def cancel(run_id: str, reason: str, store: str) -> None:
    """Cancel a run: what runs is stopped, and nothing more is started."""
    handle = ask(with_client(store, "cancel", run_id, reason=reason))
    print_result(f"Run {run_id} {handle.status}")
    if not handle.status.is_terminal:
        say("Nothing more of it is launched, and it ends when the process that runs its tasks has stopped them.")
    elif handle.status is not RunStatus.CANCELLED:
        say("It had ended before, so nothing was cancelled, and it stays as it is.")
