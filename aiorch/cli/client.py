"""Questions to a store: asked by commands that carry out nothing."""

# ruff: noqa: PLC0415  `aiorch --help` needs no event loop

import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aiorch.errors import StoreUnavailable

if TYPE_CHECKING:
    from aiorch.orchestrator import Orchestrator
    from aiorch.run_handle import RunHandle

_Answer = TypeVar("_Answer")

PATIENCE_S = 30.0
"""How long a store that does not answer is asked about one run."""


def open_client(store: str, *, create: bool = False) -> "Orchestrator":
    """
    Return an orchestrator that starts, reads and cancels, and runs nothing itself; not entered yet.

    Raises:
        click.UsageError: There is no such file, and it shall not be made; or the store is in memory.
    """
    from aiorch.orchestrator import Orchestrator
    from aiorch.settings import Settings

    if store == "memory:":
        raise click.UsageError(
            "a store in memory is empty for every command, so there is nothing to look at, and nothing was changed; "
            "--store or AIORCH_STORE names another."
        )
    file = store.removeprefix("sqlite:///")
    if not create and file != store and not os.path.exists(file):  # noqa: PTH110  Path.exists may raise
        message = (
            f"there is no {file} here, so nothing has run in this store yet; --store or AIORCH_STORE names another."
        )
        raise click.UsageError(message)
    return Orchestrator(store, launch=False, settings=Settings(drain_s=0))


def ask(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    import asyncio

    return asyncio.run(question)


async def with_client(store: str, method: str, *args: str, **options: str) -> "RunHandle":
    """Call one method of a client that is opened for it."""
    async with open_client(store) as client, patience(store):
        await client.runs_status.ping()  # a store that does not answer is told at once, and why
        handle: RunHandle = await getattr(client, method)(*args, **options)
        return handle


@asynccontextmanager
async def patience(store: str) -> AsyncIterator[None]:
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
