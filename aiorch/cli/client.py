"""A client of a store, for commands that start, read or cancel runs and launch no task."""

# ruff: noqa: PLC0415  `aiorch --help` needs no event loop

import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aiorch.errors import StoreUnavailable

if TYPE_CHECKING:
    from aiorch.client import Client
    from aiorch.run_handle import RunHandle

_Answer = TypeVar("_Answer")

PATIENCE_S = 30.0
"""Longest wait for the answer of a store about one run."""


def open_client(store: str, run_id: str | None = None, *, create: bool = False) -> "Client":
    """
    Return a client of a store, not entered yet. *run_id* is the run that the command is about.

    Raises:
        click.UsageError: The file does not exist, and *create* is false; or the store is in memory.
    """
    from aiorch.client import Client
    from aiorch.settings import Settings

    if store == "memory:":
        raise click.UsageError(
            "a store in memory is empty at the start of every command, so this command can find no run in it; "
            "give the URL of a lasting store with --store or AIORCH_STORE."
        )
    file = store.removeprefix("sqlite:///")
    if not create and file != store and not os.path.exists(file):  # noqa: PTH110  Path.exists may raise
        has_none = "this store has no runs yet" + ("" if run_id is None else f", and no run {run_id[:64]!r}")
        raise click.UsageError(
            f"there is no file {file} here, so {has_none}; --store or AIORCH_STORE names another store."
        )
    return Client(store, settings=Settings(drain_s=0))


def ask(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    import asyncio

    return asyncio.run(question)


async def with_client(store: str, method: str, *args: str, **options: Any) -> "RunHandle":
    """Open a client, call one of its methods, and return the handle."""
    async with open_client(store, args[0]) as client, patience(store):
        await client.runs_status.ping()  # reports at once when the store does not answer, with the reason
        handle: RunHandle = await getattr(client, method)(*args, **options)
        return handle


@asynccontextmanager
async def patience(store: str) -> AsyncIterator[None]:
    """Limit the time of a question about a run: the engine would repeat its requests to a silent store for ever."""
    import asyncio

    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError as error:
        raise StoreUnavailable(
            f"{store} gave no usable answer within {PATIENCE_S:g} s, so the command ended. Its change may have been "
            f"made or not: look again when the store answers."
        ) from error
