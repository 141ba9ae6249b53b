"""Questions to a store: asked by commands that carry out nothing."""

# ruff: noqa: PLC0415  `aiorch --help` needs no event loop

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from aiorch.cli.options import open_client
from aiorch.errors import StoreUnavailable

if TYPE_CHECKING:
    from aiorch.run_handle import RunHandle

_Answer = TypeVar("_Answer")

PATIENCE_S = 30.0
"""How long a store that does not answer is asked about one run."""


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
