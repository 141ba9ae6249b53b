"""Servers on loopback, in this process."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


def anything(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    """Return an application that lets *handle* answer whatever it is asked."""
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


@asynccontextmanager
async def serving(
    app: web.Application, *, ssl_context: ssl.SSLContext | None = None, shutdown_timeout: float = 0.1, **options: Any
) -> AsyncIterator[str]:
    """Serve *app* on a port of its own, and yield its origin (``http://127.0.0.1:PORT``)."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout, **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
        origin = "https://localhost" if ssl_context else "http://127.0.0.1"
        yield f"{origin}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
