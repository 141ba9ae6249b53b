"""
The connections of an HTTP server: their number, the time that a client may take, and answers to malformed requests.

    accepted ──▶ waits for the client ──── headers are whole ───▶ served
                  │        ▲   ▲                                    │
       deadline,  │        │   └──────────── answered ──────────────┤
       no room    ▼        └─── the client reads no further ────────┘
                closed

The engine runs in the same process and needs open files, so connections have a limit. At the limit, the server closes
the connection that has waited longest for its client. So silent clients only displace each other, and a probe is still
answered. While all connections are being served, one further connection waits here and the rest in the backlog of the
kernel. The server accepts one connection per turn of the event loop, so a flood never opens more files than the limit
and one for each listening socket.
"""

import asyncio
import logging
import re
import resource
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError

logger = logging.getLogger(__name__)

HEADERS_S = 10.0
"""Deadline for the headers of a request: from the accept, or from the first byte of a later request."""

CONNECTIONS_MAX = 500
"""Largest number of connections, also if the process may open more files."""

FILES_KEPT = 64
"""Files that are reserved for the store and for calls of targets."""

BACKLOG = 128
"""Connections that the kernel holds until they are accepted."""

ACCEPT_PAUSE_S = 1.0
"""Pause after a failed accept; the usual cause is that no file is free."""

BANNER = "aiorch"
"""Header ``Server`` of every answer. The default of aiohttp shows the versions of aiohttp and Python."""

REASON_CHARS_MAX = 200

_BYTES = re.compile(r"(?:bytearray\()?b['\"]")
"""The place where a message of aiohttp begins to quote the request."""

CLIENT_FAULTS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)
"""Exceptions that a client causes, by a malformed request, a malformed body, or a disconnect."""


def files_max() -> int:
    """Return the number of files that this process may open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def connections_max(files: int) -> int:
    """Return the number of connections for a process that may open *files* files; less than 1 means none."""
    return min(files // 4, CONNECTIONS_MAX, files - FILES_KEPT)


def reason_of(fault: BaseException) -> str:
    """Return the reason why a request is malformed, in one short line without bytes of the request."""
    cause = fault.__cause__ or fault
    if isinstance(cause, InvalidURLError):  # its message is the URL
        return "the URL is malformed"
    text = str(cause.message if isinstance(cause, HttpProcessingError) else cause)
    return _BYTES.split(text.partition("\n")[0])[0].rstrip(" :.")[:REASON_CHARS_MAX] or type(cause).__name__


class Connections:
    """
    All connections of one server.

    Args:
        server: Handles the requests.

        as_json: Turns an error of the protocol into the answer for the client.

        count_max: Connections at once, at least 1.

        headers_s: Deadline for the headers of a request.
    """

    def __init__(
        self,
        server: web.Server,
        *,
        as_json: Callable[[web.HTTPException], web.Response],
        count_max: int,
        headers_s: float = HEADERS_S,
    ) -> None:
        self.server = server
        self.as_json = as_json
        self.headers_s = headers_s
        self.open: set[Connection] = set()
        self.waiting: dict[Connection, None] = {}
        """Connections that wait for their client, in the order in which they began to wait."""
        self._count_max = count_max
        self.changed: asyncio.Event = asyncio.Event()
        """Set when a connection was closed or begins to wait."""
        make_request = server.request_factory

        def begin(message: Any, payload: Any, connection: Any, writer: Any, task: Any) -> web.BaseRequest:
            connection.stop_waiting()
            return make_request(message, payload, connection, writer, task)

        server.request_factory = begin

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections from *listener* for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except ConnectionError:  # the client has disconnected already
                continue
            except OSError as error:
                logger.warning("no connection accepted", extra={"action": "accept_failed", "error": str(error)})
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            try:
                await self._room()
                await loop.connect_accepted_socket(lambda: Connection(self), accepted)
            except BaseException as error:
                accepted.close()
                if not isinstance(error, Exception):
                    raise
                logger.warning("no connection made", extra={"action": "accept_failed", "error": str(error)})

    async def _room(self) -> None:
        while len(self.open) >= self._count_max:
            longest = next(iter(self.waiting), None)
            if longest is not None:
                longest.abort()
            self.changed.clear()
            await self.changed.wait()


class Connection(web.RequestHandler):
    """One connection: aiohttp's, with a deadline for headers, and with errors as JSON."""

    def __init__(self, connections: Connections) -> None:
        options: dict[str, Any] = {"access_log": None}
        super().__init__(connections.server, loop=asyncio.get_running_loop(), **options)
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        self._connections.open.add(self)
        self._wait_for_client()
        self._start_deadline()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Close this connection in favour of a new one."""
        self._connections.open.discard(self)
        self.stop_waiting()
        self._connections.changed.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """
        Receive bytes. The first bytes of a request on an idle connection start the deadline of its headers.

        A request that begins while an earlier one is served has no deadline, and is closed like an idle connection.
        """
        is_idle = self in self._connections.waiting and not self.writing_paused
        if is_idle and self._deadline is None and data:
            self._start_deadline()
        super().data_received(data)

    def pause_writing(self) -> None:
        """Count the connection as waiting for the client, which does not read."""
        super().pause_writing()
        self._wait_for_client()

    def resume_writing(self) -> None:
        """Count the connection as served again."""
        super().resume_writing()
        self._connections.waiting.pop(self, None)

    def stop_waiting(self) -> None:
        """End the wait for the client, and cancel the deadline."""
        self._connections.waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def abort(self) -> None:
        """Close the connection at once and free its file, even if the client has not read the whole answer."""
        self.stop_waiting()
        if self.transport is not None:
            self.transport.abort()

    async def finish_response(self, request: web.BaseRequest, resp: Any, start_time: float | None) -> Any:
        """Send an answer: errors of aiohttp itself as JSON, and no version in the headers."""
        if isinstance(resp, web.HTTPException):
            resp = self._connections.as_json(resp)
        resp.headers.setdefault(hdrs.SERVER, BANNER)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if self in self._connections.open:
                self._wait_for_client()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """
        Return the answer to a malformed request, or to a fault of the server.

        Raises:
            ConnectionError: A part of an earlier answer was sent already.
        """
        if status >= 500:
            super().handle_error(request, status, exc, message)  # logs the fault
            error: web.HTTPException = web.HTTPInternalServerError(text="the request met a fault of the server")
        else:
            reason = reason_of(exc) if exc else message
            self._note(reason)
            if request.writer.output_size > 0:
                raise ConnectionResetError("a part of the answer was sent already, so the error cannot be sent")
            error = web.HTTPBadRequest(text=f"the request is no valid HTTP, so it was not carried out: {reason}")
        answer = self._connections.as_json(error)
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault of the server with its traceback, and a fault of the client as one line at DEBUG."""
        fault = kw.get("exc_info")
        if isinstance(fault, CLIENT_FAULTS):
            self._note(reason_of(fault))
        else:
            super().log_exception(*args, **kw)

    def _note(self, reason: str | None) -> None:
        # At DEBUG: every client can send any number of these requests, and would flood the log.
        logger.debug("request malformed", extra={"action": "request_malformed", "error": reason})

    def _wait_for_client(self) -> None:
        self._connections.waiting.pop(self, None)
        self._connections.waiting[self] = None
        self._connections.changed.set()

    def _start_deadline(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(self._connections.headers_s, self.abort)
