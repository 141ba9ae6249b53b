"""
The HTTP endpoint of ``aiorch serve``: start, list, show, cancel and resume runs, read results.

    POST /runs                  {"dag": name, "run_id"?, "input"?}      201 started, 200 exists already
    GET  /runs                  ?status=Failed&label=team%3Ddata        200 {"runs": [...]}, newest first
    GET  /runs/{run_id}            ?results=1                           200 the run document
    GET  /runs/{run_id}/result     ?node=Load                           200 the result of the run, or of one task
    POST /runs/{run_id}/cancel  {"reason"?, "force"?}                   202, or 200 when it has ended
    POST /runs/{run_id}/resume  {"from"?, "input"?, "dag"?}             200 the new run, the same one each time
    GET  /healthz, /readyz                                              200, or 503 while the store does not answer

Every answer is JSON, every error ``{"error": {"type", "message", "problems"?}}``. A web page in the browser of a user
can reach a server on the machine of that user. So a POST needs ``Content-Type: application/json``, which a page of a
different origin may not send without permission. For the same reason, a server on a loopback address answers only
requests to loopback names: a name that is rebound to 127.0.0.1 would give the page the same origin. Definitions name
importable callables, so by default only the served DAGs can be started.
"""

import asyncio
import errno
import hmac
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from aiorch.errors import (
    AiorchError,
    DefinitionChangedError,
    DefinitionError,
    InvalidIdError,
    InvalidInputError,
    NoResultError,
    OrchestratorClosedError,
    RunConflictError,
    RunNotFoundError,
    RunStateError,
    RunTooLargeError,
    StepMissingError,
    StepNotResumableError,
    StoreError,
    TaskNotFoundError,
    UnresolvedFunctionError,
)
from aiorch.model.dag import DAG
from aiorch.model.labels import labels_wanted
from aiorch.model.status import RunStatus
from aiorch.orchestrator import Orchestrator
from aiorch.run_handle import RunHandle
from aiorch.web.connections import (
    BACKLOG,
    CLIENT_FAULTS,
    FILES_KEPT,
    HEADERS_S,
    Connections,
    connections_max,
    files_max,
    reason_of,
)

logger = logging.getLogger(__name__)

BODY_BYTES_MAX = 1024 * 1024
"""Largest body. The input of a run is stored in its document; larger data belongs into a separate object."""

DEADLINE_S = 30.0
"""Deadline of a request. The engine waits for a silent store; a client should not have to."""

STOP_GRACE_S = 5.0
"""Time for running requests to end when the server stops."""

RUNS_MAX = 1000
"""Largest number of runs in one listing."""

RESULTS_BYTES_MAX = 32 * 1024 * 1024
"""Largest run document with all results; above this size, clients read each result separately."""

READY_S = 2.0
"""Deadline of the store for `/readyz`. Probes do not wait much longer."""

_PROBES = frozenset({"/healthz", "/readyz"})
_ANSWERED_ALWAYS = frozenset({"/healthz", "/metrics"})

_STATUS_OF: tuple[tuple[type[AiorchError], int], ...] = (
    (DefinitionError, 400),
    (InvalidIdError, 400),
    (InvalidInputError, 400),
    (StepMissingError, 400),
    (UnresolvedFunctionError, 422),
    (RunNotFoundError, 404),
    (RunConflictError, 409),
    (RunStateError, 409),
    (StepNotResumableError, 409),
    (DefinitionChangedError, 409),
    (RunTooLargeError, 413),
    (TaskNotFoundError, 404),
    (NoResultError, 409),
    (StoreError, 503),
    (OrchestratorClosedError, 503),
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Refused(Exception):  # noqa: N818  an answer, not a fault
    """A request that is answered with an error."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.kind, self.headers = status, kind, headers
        super().__init__(message)


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    dag: str | None = None
    definition: dict[str, Any] | None = None
    run_id: str | None = None
    input: Any = None


class _Cancel(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = "cancelled on request"
    force: bool = False


class _Resume(msgspec.Struct, forbid_unknown_fields=True):
    from_step: str | None = msgspec.field(default=None, name="from")
    input: Any = msgspec.UNSET
    dag: str | None = None
    definition: dict[str, Any] | None = None


_Body = TypeVar("_Body", _Start, _Cancel, _Resume)


def make_app(  # noqa: PLR0913  all optional but the first
    orchestrator: Orchestrator,
    *,
    token: str | None = None,
    only_loopback_names: bool = True,
    allow_definitions: bool = False,
    deadline_s: float = DEADLINE_S,
    not_ready: Callable[[], str | None] = lambda: None,
) -> web.Application:
    """
    Return the application. The caller opens and closes the orchestrator.

    Args:
        orchestrator: An open orchestrator; requests can start its `dags`.

        token: Bearer token that every request except the probes must carry; `None` for none.

        only_loopback_names: Refuse a ``Host`` that is not a loopback name. Right for a server on a loopback address.

        allow_definitions: Let a start or a resume carry its own definition. Every client can then call any code that
            this process can import.

        deadline_s: Time after which a request is answered with a 503.

        not_ready: Returns the reason why all requests except ``/healthz`` and ``/metrics`` are refused at present;
            `None` when they are accepted.
    """
    routes = _Routes(orchestrator, allow_definitions=allow_definitions)
    guard = _guard(token, only_loopback_names=only_loopback_names)
    middlewares = [_errors_as_json, _deadline(deadline_s), guard, _gate(not_ready)]
    app = web.Application(middlewares=middlewares, client_max_size=BODY_BYTES_MAX)
    app.add_routes(
        [
            web.post("/runs", routes.start),
            web.get("/runs", routes.list),
            web.get("/runs/{run_id}", routes.show),
            web.get("/runs/{run_id}/result", routes.result),
            web.post("/runs/{run_id}/cancel", routes.cancel),
            web.post("/runs/{run_id}/resume", routes.resume),
            web.get("/healthz", routes.healthz),
            web.get("/readyz", routes.readyz),
        ]
    )
    return app


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int, *, headers_s: float = HEADERS_S) -> AsyncIterator[str]:
    """
    Serve *app* while the context is open.

    Args:
        app: From `make_app`.

        host: Address to bind.

        port: Port to bind, 0 for a free one.

        headers_s: Time for the headers of a request, after which the connection is closed.

    Returns:
        The URL, with the port that was bound.

    Raises:
        OSError: The address cannot be bound.

        AiorchError: The process may open too few files to have a connection.
    """
    files = files_max()
    count_max = connections_max(files)
    if count_max < 1:
        raise AiorchError(
            f"this process may open {files} files and keeps {FILES_KEPT} of them for the store and for calls, so no "
            f"file is left for HTTP connections, and the server was not started. Raise the limit, e.g. with "
            f"`ulimit -n 1024`."
        )
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, shutdown_timeout=STOP_GRACE_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        listeners = [stack.enter_context(_listener(family, address)) for family, *_, address in addresses]
        connections = Connections(runner.server, as_json=_protocol_error, count_max=count_max, headers_s=headers_s)
        accepting = asyncio.gather(*(connections.accept(listener) for listener in listeners))
        stack.push_async_callback(_cancelled, accepting)
        bound = listeners[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{shown}:{bound[1]}"


def _listener(family: int, address: Any) -> socket.socket:
    listener = socket.create_server(address, family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


async def _cancelled(work: "asyncio.Future[Any]") -> None:
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


def cannot_bind(host: str, port: int, error: OSError) -> str:
    """Return the message for an *error* that `listening` has raised."""
    # The message of asyncio repeats the address; the number of a name that is not found is none of errno.
    reason = os.strerror(error.errno) if error.errno and error.errno in errno.errorcode else error.strerror
    return f"{host}:{port} cannot be bound, so the server was not started: {reason}."


def is_loopback(host: str) -> bool:
    """Whether *host* (a name or an address, without a port) always means this machine."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def exposure_warning(host: str, token: str | None, *, host_setting: str) -> str | None:
    """Return the warning about a server on *host*, which *host_setting* sets, `None` if the server is safe."""
    if token is not None or is_loopback(host):
        return None
    return (
        f"WARNING: serving on {host} WITHOUT AUTHENTICATION: every host that can reach this address can start, cancel "
        f"and read runs. Set AIORCH_SERVE_TOKEN to require a bearer token, or {host_setting} to 127.0.0.1."
    )


class _Routes:
    def __init__(self, orchestrator: Orchestrator, *, allow_definitions: bool) -> None:
        self._orchestrator = orchestrator
        self._allow_definitions = allow_definitions

    async def start(self, request: web.Request) -> web.Response:
        body = await _body(request, _Start)
        dag = self._dag(body)
        existed = body.run_id is not None and await self._exists(body.run_id)
        handle = await self._orchestrator.start(dag, input=body.input, run_id=body.run_id)
        return _run_answer(handle, 200 if existed else 201)

    def _dag(self, body: _Start | _Resume) -> DAG | Mapping[str, Any]:
        if (body.dag is None) == (body.definition is None):
            raise _Refused(400, "InvalidRequest", "no run was started: give either 'dag' or 'definition'")
        if body.definition is not None:
            if self._allow_definitions:
                return body.definition
            raise _Refused(
                403,
                "DefinitionsNotAllowed",
                "this server starts only the DAGs that it serves, by name: a definition can name any callable that "
                "the server can import. No run was started. AIORCH_SERVE_ALLOW_DEFINITIONS=1 allows definitions.",
            )
        assert body.dag is not None
        dag = self._orchestrator.dags.get(body.dag)
        if dag is None:
            served = ", ".join(repr(name) for name in sorted(self._orchestrator.dags)) or "none"
            message = f"this server does not serve a DAG {body.dag!r}, so no run was started; served: {served}"
            raise _Refused(404, "DAGNotFound", message)
        return dag

    async def _exists(self, run_id: str) -> bool:
        try:
            await self._orchestrator.attach(run_id)
        except RunNotFoundError:
            return False
        return True

    async def list(self, request: web.Request) -> web.Response:
        wanted, limit = _filter(request)
        try:
            labels = labels_wanted(request.query.getall("label", []))
        except ValueError as error:
            raise _Refused(400, "InvalidRequest", f"no run was listed: {error}") from error
        found = await self._orchestrator.runs(labels=labels)
        runs = [run for run in found if wanted is None or run.status == wanted]
        return _answer({"runs": [run._asdict() for run in runs[:limit]]})

    async def show(self, request: web.Request) -> web.Response:
        handle = await self._orchestrator.attach(request.match_info["run_id"])
        results = request.query.get("results", "0")
        if results not in ("0", "1"):
            raise _Refused(400, "InvalidRequest", f"results is {results!r}, but must be 0 or 1")
        if results == "0":
            return web.Response(body=handle.document(), content_type="application/json")
        document = await handle.document_with_results(bytes_max=RESULTS_BYTES_MAX)
        return web.Response(body=document, content_type="application/json")

    async def result(self, request: web.Request) -> web.Response:
        handle = await self._orchestrator.attach(request.match_info["run_id"])
        return _answer(await handle.result(request.query.get("node")))

    async def cancel(self, request: web.Request) -> web.Response:
        body = await _body(request, _Cancel)
        handle = await self._orchestrator.cancel(request.match_info["run_id"], reason=body.reason, force=body.force)
        return _run_answer(handle, 200 if handle.status.is_terminal else 202)

    async def resume(self, request: web.Request) -> web.Response:
        body = await _body(request, _Resume)
        handle = await self._orchestrator.resume(
            request.match_info["run_id"],
            from_step=body.from_step,
            input=... if body.input is msgspec.UNSET else body.input,
            definition=None if body.dag is None and body.definition is None else self._dag(body),
        )
        return _run_answer(handle, 200)

    async def healthz(self, _: web.Request) -> web.Response:
        return _answer({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READY_S):
                await self._orchestrator.runs_status.ping()
        except TimeoutError as error:
            raise _Refused(503, "NotReady", f"the store did not answer within {READY_S:g} s") from error
        return _answer({"status": "ok"})


def _filter(request: web.Request) -> tuple[RunStatus | None, int]:
    status, limit = request.query.get("status"), request.query.get("limit", str(RUNS_MAX))
    status = status and status.capitalize()
    if status is not None and status not in list(RunStatus):
        raise _Refused(400, "InvalidRequest", f"status {status!r} is not one of {', '.join(RunStatus)}")
    if not limit.isascii() or not limit.isdigit():
        raise _Refused(400, "InvalidRequest", f"limit {limit!r} is not a number of runs")
    return None if status is None else RunStatus(status), min(int(limit), RUNS_MAX)


async def _body(request: web.Request, kind: type[_Body]) -> _Body:
    if request.content_type != "application/json":
        raise _Refused(
            415,
            "UnsupportedMediaType",
            f"Content-Type {request.content_type!r} is refused, and the request was not carried out: send JSON with "
            f"'Content-Type: application/json' (an empty body too)",
        )
    try:
        data = await request.read()
    except CLIENT_FAULTS as error:
        message = f"the body is incomplete or malformed, and the request was not carried out: {reason_of(error)}"
        raise _Refused(400, "InvalidRequest", message, {"Connection": "close"}) from error
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Refused(
            400, "InvalidRequest", f"the body cannot be read, and the request was not carried out: {error}"
        ) from error


def _answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(content)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _run_answer(handle: RunHandle, status: int) -> web.Response:
    content = {"run_id": handle.run_id, "dag": handle.dag.name, "status": handle.status}
    return _answer(content, status, {"Location": f"/runs/{handle.run_id}"})


def _error(
    status: int, kind: str, message: str, *, problems: Any = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    error: dict[str, Any] = {"type": kind, "message": message}
    if problems is not None:
        error["problems"] = problems
    return _answer({"error": error}, status, headers)


def _protocol_error(error: web.HTTPException) -> web.Response:
    """Return the answer for an error of the framework: an unknown route, a method that a route does not support, …."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return _error(error.status, type(error).__name__.removeprefix("HTTP"), error.text or error.reason, headers=headers)


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Refused as refused:
        return _error(refused.status, refused.kind, str(refused), headers=refused.headers)
    except web.HTTPException as error:
        return _protocol_error(error)
    except AiorchError as error:
        status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
        found = error.problems if isinstance(error, DefinitionError | InvalidInputError) else None
        problems = found and [problem._asdict() for problem in found]
        return _error(status, type(error).__name__, str(error), problems=problems)
    except Exception:
        logger.exception("A request could not be answered", extra={"action": "request_failed", "path": request.path})
        return _error(500, "InternalError", "this request met a fault of the server; its log has the details")


def _deadline(deadline_s: float) -> Any:
    @web.middleware
    async def deadline(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(deadline_s):
                return await handler(request)
        except TimeoutError as error:
            message = (
                f"the request took longer than {deadline_s:g} s and was given up, so it may have been carried out or "
                f"not. Send the same request with the same run id again: its effect happens only once."
            )
            raise _Refused(503, "Timeout", message) from error

    return deadline


def _guard(token: str | None, *, only_loopback_names: bool) -> Any:
    expected = None if token is None else token.encode()

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path not in _PROBES:
            if only_loopback_names and not _names_loopback(request.headers.get("Host", "")):
                raise _Refused(
                    403,
                    "HostRefused",
                    f"Host {request.headers.get('Host', '')!r} is refused: this server is bound to a loopback address "
                    f"and answers to loopback names only. Use http://localhost or http://127.0.0.1.",
                )
            if expected is not None and not hmac.compare_digest(_bearer_token(request), expected):
                raise _Refused(
                    401,
                    "Unauthorized",
                    "a bearer token is needed: send 'Authorization: Bearer <token>' with the token of the server",
                    {"WWW-Authenticate": "Bearer"},
                )
        return await handler(request)

    return guard


def _bearer_token(request: web.Request) -> bytes:
    """
    Return the bearer token of a request, empty without one.

    Source: RFC 9110, section 11.1 and 11.4: the scheme is case-insensitive, and spaces separate it from the token.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip(" ").encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""


def _gate(not_ready: Callable[[], str | None]) -> Any:
    @web.middleware
    async def gate(request: web.Request, handler: _Handler) -> web.StreamResponse:
        reason = None if request.path in _ANSWERED_ALWAYS else not_ready()
        if reason is not None:
            raise _Refused(503, "NotReady", reason, {"Connection": "close"})
        return await handler(request)

    return gate


def _names_loopback(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
