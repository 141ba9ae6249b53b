"""
The target `CloudFunction`: one HTTP call per execution, whose answer is the execution's end.

The target posts the task's parameters as JSON. The execution's key travels with them as trace id, idempotency key and
function execution id, so the platform's own log of the call carries the key too. Facts about the run travel as headers
``X-Aiorch-Run-Id``, ``X-Aiorch-Node`` (percent-encoded) and ``X-Aiorch-Attempt``.

`aiorch.targets.calls.http_call` lists the outcomes of a call with an answer. A call without an answer:

    URL or parameters that cannot be sent, plain http to another machine    Failed      ``ConfigurationError``
    no credentials for an ID token                                          Failed      ``NoCredentials``
    no ID token; no connection (DNS, TCP, TLS)                              NotStarted  the function never ran
    reset, end of stream, an answer that breaks off or is no HTTP           Unknown     the function may have run
"""

import asyncio
import io
import socket
import ssl
import sys
from typing import Protocol, Self

import aiohttp

from aiorch.errors import in_words
from aiorch.google.extras import why_no_tokens
from aiorch.google.id_tokens import IdTokenError, IdTokens
from aiorch.model import url as function_url
from aiorch.model.dag import Task
from aiorch.model.failure import Failure
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Answer, Failed, NotStarted, Unknown
from aiorch.settings import FUNCTION_CONNECTIONS_MAX, Settings
from aiorch.targets.calls import http_call
from aiorch.targets.cloud_function.node import CloudFunction
from aiorch.targets.cloud_function.settings import CloudFunctions

DEFAULT_URL_PATTERN = "https://{region}-{project_id}.cloudfunctions.net/{name}"
"""
URL of a function when neither the step nor a setting gives one.

Source: Cloud Functions documentation, "Call an HTTP function": functions of both generations answer there.
"""

CONNECT_S = 10.0
"""Seconds for TCP and TLS to connect. The engine sets the deadline of the whole call."""

KEEP_ALIVE_S = 1.5
"""
Seconds that an idle connection is kept for the next call.

A server that closes an idle connection just when a request goes out leaves us without knowledge whether the function
ran. So we close first: gunicorn, which serves Python functions, closes after 2 s, and Node.js after 5 s.
"""

IDLE_PROBE_S = 60
"""
Seconds of silence after which a connection is probed.

A call of an hour is silent for an hour; Cloud NAT forgets a connection that is idle for 20 minutes, and the answer
would never arrive. Source: Cloud NAT documentation, "TCP established connection idle timeout".
"""

RESULT_BYTES_MAX = 1024 * 1024

REFUSAL_BYTES_MAX = 4096
"""Bytes read of an answer that is no success: enough to show the reason."""


class Tokens(Protocol):
    """The source of ID tokens: `IdTokens`, or an object with the same methods."""

    async def token(self, audience: str) -> str:
        """Return an ID token for *audience*. Raises: IdTokenError."""
        ...

    async def aclose(self) -> None:
        """Stop the requests that are under way."""
        ...


class CloudFunctionTarget:
    """
    Calls Cloud Functions of either generation, Cloud Run services, and any other URL.

    Args:
        tokens: The source of the ID tokens for ``https`` calls, closed together with the target; `None`: this
            process's own credentials. A token is made for one service, and every other service refuses it.

        anonymous: No call carries an ID token: for functions and services that are open to the public.

        url_pattern: URL of a step that has no `url`, with any of ``{name}`` (the step's `target_name`), ``{service}``
            (the same in Cloud Run's spelling: lower case, ``-`` for ``_``), ``{project_id}`` and ``{region}``. The
            second generation's own form is ``https://{service}-<project number>.{region}.run.app``.

        project_id: Project of steps that name none.

        region: Region of steps that name none.

        connections_max: Calls under way at once.

        result_bytes_max: Limit of a result. The target does not read a larger answer to its end, and the task fails.

        ssl_context: The check of servers, e.g. with a private certificate authority; `None`: the system's own check.

    Raises:
        ValueError: *url_pattern* holds a placeholder that is not known.
    """

    begins_itself = True

    def __init__(  # noqa: PLR0913  settings, all named
        self,
        *,
        tokens: Tokens | None = None,
        anonymous: bool = False,
        url_pattern: str | None = None,
        project_id: str | None = None,
        region: str | None = None,
        connections_max: int = FUNCTION_CONNECTIONS_MAX,
        result_bytes_max: int = RESULT_BYTES_MAX,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._tokens = None if anonymous else tokens or IdTokens()
        self._url_pattern = url_pattern or DEFAULT_URL_PATTERN
        self._placeholders = function_url.placeholders(self._url_pattern)
        self._project_id = project_id
        self._region = region
        self._connections_max = connections_max
        self._connections = asyncio.Semaphore(connections_max)
        self._result_bytes_max = result_bytes_max
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, own: CloudFunctions, settings: Settings) -> Self:
        """Return the target that the settings describe."""
        return cls(
            tokens=IdTokens(impersonate=own.impersonate),
            anonymous=own.anonymous,
            url_pattern=own.url,
            project_id=settings.project_id,
            region=settings.region,
            connections_max=own.connections_max,
        )

    def resolve(self, task: Task) -> str | None:
        """Say which facts this process lacks for a call of *task*'s function, `None` when it lacks none."""
        assert isinstance(task, CloudFunction)
        missing = [] if task.url else [name for name, value in self._url_parts(task).items() if value is None]
        if not missing:
            return self._why_no_id_token(task)
        return (
            f"the URL of function {task.target_name!r} needs {' and '.join(missing)}, and neither the step nor the "
            f"settings of this process give it; set it there, or give the step a `url`"
        )

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        """Call the function when a connection is free, and return the outcome."""
        async with self._connections:
            context.begin()  # the timeout is the call's: waiting for a connection does not count
            return await self._call(task, context)

    async def _call(self, task: Task, context: TaskContext) -> Answer:
        assert isinstance(task, CloudFunction)
        try:
            url = function_url.checked_url(task.url or function_url.fill_in(self._url_pattern, self._url_parts(task)))
            body = http_call.encode_parameters(context.parameters)
        except ValueError as error:
            return Failed(Failure.of("ConfigurationError", f"nothing was sent: {error}"))
        headers = http_call.headers(context)
        if self._tokens is not None and url.scheme == "https":
            try:
                headers["Authorization"] = f"Bearer {await self._tokens.token(function_url.audience_of(url))}"
            except IdTokenError as error:
                return Failed(Failure.of("NoCredentials", str(error))) if error.is_final else NotStarted(str(error))
        # A query may hold secrets.
        where = str(url.with_query(None))
        try:
            data = io.BytesIO(body)  # sent in pieces: a large body sent as one would hold up the event loop
            async with self._open().post(url, data=data, headers=headers, allow_redirects=False) as response:
                return await self._read(where, response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NotStarted(f"no connection to {where}: {error}")
        except (aiohttp.ClientError, OSError) as error:
            # Neither we nor aiohttp (which repeats idempotent methods only) send again: the function may have run.
            return Unknown(f"{where} was called, and no whole answer came: {in_words(error)}")

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """Do nothing: no request recalls a call that was sent. A cancelled `launch` has closed the connection."""

    async def aclose(self) -> None:
        """Close the connections, and the source of ID tokens."""
        if self._session is not None:
            await self._session.close()
        if self._tokens is not None:
            await self._tokens.aclose()

    def _url_parts(self, task: CloudFunction) -> dict[str, str | None]:
        """Return the values for the placeholders of the URL pattern, `None` where neither step nor settings give it."""
        parts = {
            "name": task.target_name,
            "service": task.target_name.lower().replace("_", "-"),
            "project_id": task.project_id or self._project_id,
            "region": task.region or self._region,
        }
        return {name: parts[name] for name in sorted(self._placeholders)}

    def _why_no_id_token(self, task: CloudFunction) -> str | None:
        """Say that this process lacks the libraries for the ID token of the call, `None` when they suffice."""
        url = task.url or self._url_pattern
        if not isinstance(self._tokens, IdTokens) or not url.lower().startswith("https:"):
            return None
        reason = why_no_tokens()
        return reason and f"{reason} A public function needs no ID token: --function-anonymous"

    def _open(self) -> aiohttp.ClientSession:
        # Made at the first call: a session belongs to the running loop. Executions share no cookies and no other state.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections_max,
                    keepalive_timeout=KEEP_ALIVE_S,
                    ssl=self._ssl_context or True,
                    socket_factory=_probed_socket,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    async def _read(self, where: str, response: aiohttp.ClientResponse) -> Answer:
        if 200 <= response.status < 300:
            bytes_max = self._result_bytes_max
            body = await _first_bytes(response, bytes_max + 1)
            return http_call.read_success(where, response.content_type, body, bytes_max=bytes_max)
        try:
            body = await _first_bytes(response, REFUSAL_BYTES_MAX)
        except (aiohttp.ClientError, OSError) as error:
            # The status decides the outcome; the body would only have explained the status.
            body = f"(the answer broke off: {error})".encode()
        location = response.headers.get("Location")
        return http_call.read_refusal(where, response.status, response.reason or "", location, body)


async def _first_bytes(response: aiohttp.ClientResponse, count: int) -> bytes:
    """Return the first *count* bytes of the body, or all of a shorter one."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= count:
            break
    return bytes(body[:count])


def _probed_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    probed = socket.socket(family, kind, protocol)
    probed.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "darwin":
        probed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPALIVE, IDLE_PROBE_S)
    else:
        probed.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_PROBE_S)
    return probed
