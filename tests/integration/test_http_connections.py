"""The connections of the HTTP endpoint: how many there are, how long a client may take, and malformed requests."""

import asyncio
import json
import logging
import os
import socket
import struct
from contextlib import asynccontextmanager

import pytest

from aiorch.errors import AiorchError
from aiorch.orchestrator import Orchestrator
from aiorch.web import server
from aiorch.web.connections import Connection, connections_max
from aiorch.web.server import BODY_BYTES_MAX, listening, make_app
from tests.integration.test_server import DAGS, NO_DRAIN, assert_error_shape

HEAD = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n"
POST = b"POST /runs HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
PATIENCE_S = 60.0
LARGE = 20_000_000


@asynccontextmanager
async def serving(*, deadline_s=30.0, not_ready=lambda: None, **options):
    """Yield the port of an endpoint in this process."""
    orchestrator = Orchestrator("memory:", dags=DAGS, settings=NO_DRAIN)
    app = make_app(orchestrator, deadline_s=deadline_s, not_ready=not_ready)
    async with orchestrator, listening(app, "127.0.0.1", 0, **options) as url, asyncio.timeout(PATIENCE_S):
        yield int(url.rpartition(":")[2])


@asynccontextmanager
async def connected(port, *parts):
    """Connect, send *parts*, yield (reader, writer)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer_of(reader):
    """Read one answer; return (status, headers with names in lower case, decoded body)."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), headers, json.loads(await reader.readexactly(int(headers["content-length"])))


async def is_closed(reader):
    """Wait until the server has closed the connection without another byte."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def is_served(port):
    """Ask a question on a connection of its own."""
    async with connected(port, GET) as (reader, _):
        return (await answer_of(reader))[0] == 200


def said_above_debug(caplog):
    return [record for record in caplog.records if record.levelno > logging.DEBUG]


MALFORMED = {
    "garbage": b"garbage\r\n\r\n",
    "binary": bytes(range(128, 256)) + b"\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + os.urandom(160),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "method": b"G@T /runs HTTP/1.1\r\n\r\n",
    "URL": b"GET http://[::1/ HTTP/1.1\r\n" + HEAD + b"\r\n",
    "header without a colon": b"GET /runs HTTP/1.1\r\n" + HEAD + b"nonsense\r\n\r\n",
    "header name": b"GET /runs HTTP/1.1\r\n" + HEAD + b"a b: c\r\n\r\n",
    "control character": b"GET /runs HTTP/1.1\r\n" + HEAD + b"a: \x00\r\n\r\n",
    "long request line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "long header": b"GET /runs HTTP/1.1\r\n" + HEAD + b"a: " + b"b" * 20_000 + b"\r\n\r\n",
    "many headers": b"GET /runs HTTP/1.1\r\n" + HEAD + b"".join(b"a%d: b\r\n" % n for n in range(1000)) + b"\r\n",
    "length that is no number": POST + b"Content-Length: x\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
    "chunk end": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}no0\r\n\r\n",
    "compression": POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("is_in_pieces", [False, True], ids=["whole", "in pieces"])
async def test_malformed_request_gets_the_error_shape(caplog, request_bytes, is_in_pieces):
    """A request that is no HTTP is a 400 in the error shape, without a version, and leaves no line above DEBUG."""
    caplog.set_level(logging.DEBUG)
    head, end, body = request_bytes.partition(b"\r\n\r\n")
    parts = (head + end, body) if is_in_pieces else (request_bytes,)
    async with serving() as port:
        async with connected(port, *parts) as (reader, _):
            status, headers, answer = await answer_of(reader)
            assert (status, headers["content-type"]) == (400, "application/json")
            assert headers["server"] == "aiorch"
            assert_error_shape(answer)
            assert len(answer["error"]["message"]) < 500
        assert await is_served(port)
    assert not said_above_debug(caplog)
    malformed = [record for record in caplog.records if getattr(record, "action", None) == "request_malformed"]
    assert len(malformed) <= 1
    assert not any(record.exc_info for record in caplog.records)


async def test_malformed_request_behind_a_good_one(caplog):
    """On one connection the good request is answered, then the malformed one, and the connection ends."""
    async with serving() as port, connected(port, GET) as (reader, writer):
        assert (await answer_of(reader))[0] == 200
        writer.write(b"garbage\r\n\r\n")
        status, _, answer = await answer_of(reader)
        assert status == 400
        assert_error_shape(answer)
        assert await is_closed(reader)
    assert not said_above_debug(caplog)


REFUSED = {
    "no route": (b"GET /nothing HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
    "method": (b"DELETE /runs HTTP/1.1\r\n" + HEAD + b"\r\n", 405),
    "expectation": (POST + b"Expect: miracles\r\nContent-Length: 2\r\n\r\n{}", 417),
    "expectation without a route": (b"GET /nothing HTTP/1.1\r\n" + HEAD + b"Expect: miracles\r\n\r\n", 417),
    "upgrade": (b"GET /nothing HTTP/1.1\r\n" + HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 404),
    "tunnel": (b"CONNECT example.org:443 HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
    "too large": (POST + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1) + b" " * (BODY_BYTES_MAX + 1), 413),
}


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED)
async def test_refusals_of_the_framework_have_the_error_shape(caplog, request_bytes, status):
    """The refusals that aiohttp itself makes are JSON in the error shape, without a version, and no error is logged."""
    async with serving() as port, connected(port, request_bytes) as (reader, _):
        found, headers, answer = await answer_of(reader)
        assert (found, headers["content-type"], headers["server"]) == (status, "application/json", "aiorch")
        assert_error_shape(answer)
    assert not said_above_debug(caplog)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/runs", "/runs/none"])
async def test_no_answer_names_a_version(path):
    """Answers that succeed and answers that fail carry a Server header without a version."""
    async with (
        serving() as port,
        connected(port, b"GET " + path.encode() + b" HTTP/1.1\r\n" + HEAD + b"\r\n") as (
            reader,
            _,
        ),
    ):
        assert (await answer_of(reader))[1]["server"] == "aiorch"


LEFT = {
    "before a byte": b"",
    "in the request line": b"GET /ru",
    "in the headers": b"GET /runs HTTP/1.1\r\nHost: loc",
    "in the body": POST + b'Content-Length: 100\r\n\r\n{"dag": ',
    "in a chunk": POST + b'Transfer-Encoding: chunked\r\n\r\n64\r\n{"dag": ',
    "in a body that nobody reads": b"POST /nothing HTTP/1.1\r\n" + HEAD + b"Content-Length: 100\r\n\r\nx",
    "before the answer": b"GET /runs HTTP/1.1\r\n" + HEAD + b"\r\n",
    "before many answers": (b"GET /runs HTTP/1.1\r\n" + HEAD + b"\r\n") * 40,
}


@pytest.mark.parametrize("sent", LEFT.values(), ids=LEFT)
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
async def test_client_that_leaves_is_no_error(caplog, monkeypatch, sent, is_reset):
    """A client that closes or resets its connection at any point leaves no line above DEBUG, and no connection."""
    caplog.set_level(logging.DEBUG)
    lost = asyncio.Event()
    connection_lost = Connection.connection_lost

    def told(self, error):
        connection_lost(self, error)
        lost.set()

    monkeypatch.setattr(Connection, "connection_lost", told)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        if is_reset:
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.close()
        await lost.wait()
        assert await is_served(port)
    assert not said_above_debug(caplog)
    assert not any(record.exc_info for record in caplog.records if record.name != "asyncio")
    del reader


async def test_body_that_does_not_come_ends_with_the_deadline():
    """A request whose body stays away is answered with a 503 at the deadline of requests."""
    async with serving(deadline_s=0.05) as port, connected(port, POST + b"Content-Length: 9\r\n\r\n{") as (reader, _):
        status, _, answer = await answer_of(reader)
        assert (status, answer["error"]["type"]) == (503, "Timeout")


@pytest.mark.parametrize("sent", [b"", b"GET", GET[:-2], GET + b"GET /run"], ids=["0", "line", "headers", "second"])
async def test_headers_have_a_deadline(sent):
    """A connection whose request is not whole in time is closed: the first, and a second one on the same connection."""
    async with serving(headers_s=0.05) as port, connected(port, sent[: len(GET)]) as (reader, writer):
        if len(sent) > len(GET):
            await answer_of(reader)
            writer.write(sent[len(GET) :])
        assert await is_closed(reader)
        assert await is_served(port)


@pytest.fixture
async def deadlines(monkeypatch):
    """Timers of 7.25 s that were started, in their order."""
    started = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def recorded(delay, *args, **options):
        handle = call_later(delay, *args, **options)
        if delay == 7.25:
            started.append(handle)
        return handle

    monkeypatch.setattr(loop, "call_later", recorded)
    return started


async def test_bytes_one_by_one_do_not_move_the_deadline(monkeypatch, deadlines):
    """A client that sends its headers byte by byte has no more time than others."""
    received = asyncio.Semaphore(0)
    data_received = Connection.data_received

    def told(self, data):
        data_received(self, data)
        received.release()

    monkeypatch.setattr(Connection, "data_received", told)
    async with serving(headers_s=7.25) as port, connected(port) as (reader, writer):
        for request in range(2):
            for byte in GET[:-1]:
                writer.write(bytes([byte]))
                await received.acquire()
            assert len(deadlines) == request + 1
            assert not deadlines[-1].cancelled()
            writer.write(GET[-1:])
            await answer_of(reader)


async def test_idle_connection_stays_open(deadlines):
    """Between two requests of a connection no deadline of headers runs."""
    async with serving(headers_s=7.25) as port, connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            assert (await answer_of(reader))[0] == 200
            assert deadlines
            assert all(each.cancelled() for each in deadlines)


async def test_request_that_takes_longer_than_the_headers_may_is_answered():
    """The deadline of headers ends with the headers: a request that is being answered is not cut off."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(_):
        asked.set()
        await go.wait()
        return server._answer({})

    orchestrator = Orchestrator("memory:", settings=NO_DRAIN)
    app = make_app(orchestrator)
    app.router.add_get("/slow", slow)
    async with orchestrator, listening(app, "127.0.0.1", 0, headers_s=0.05) as url, asyncio.timeout(PATIENCE_S):
        port = int(url.rpartition(":")[2])
        async with (
            connected(port, b"GET /slow HTTP/1.1\r\n" + HEAD + b"\r\n") as (reader, _),
            connected(port) as (other, _),
        ):
            await asked.wait()
            assert await is_closed(other)  # which came later, so the time of the first one is over
            go.set()
            assert (await answer_of(reader))[0] == 200


async def test_longest_waiting_connection_makes_room(monkeypatch):
    """At the limit a new connection is served: the connection that has waited longest for a request is closed."""
    monkeypatch.setattr(server, "files_max", lambda: 4 * 24)
    async with serving(headers_s=3600) as port:
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(24)]
        first = open_ones.pop(0)
        open_ones[0][1].write(GET)  # the second one begins to wait anew, behind all others
        await answer_of(open_ones[0][0])
        assert await is_served(port)
        assert await is_closed(first[0])
        assert await is_served(port)  # the connection before has made room: no further one is closed
        open_ones[0][1].write(GET)
        assert (await answer_of(open_ones[0][0]))[0] == 200
        for _, writer in (first, *open_ones):
            writer.close()


async def test_connection_waits_while_every_other_one_is_served(monkeypatch):
    """Requests under way are not cut off: with as many as there may be, a further connection waits for its turn."""
    monkeypatch.setattr(server, "files_max", lambda: 66)  # two connections
    asked, go = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_):
        asked.release()
        await go.wait()
        return server._answer({})

    orchestrator = Orchestrator("memory:", settings=NO_DRAIN)
    app = make_app(orchestrator)
    app.router.add_get("/slow", slow)
    request = b"GET /slow HTTP/1.1\r\n" + HEAD + b"\r\n"
    async with orchestrator, listening(app, "127.0.0.1", 0) as url, asyncio.timeout(PATIENCE_S):
        port = int(url.rpartition(":")[2])
        async with connected(port, request) as (first, _), connected(port, request) as (second, _):
            await asked.acquire()
            await asked.acquire()
            third = asyncio.create_task(is_served(port))
            go.set()
            assert await third
            statuses = [(await answer_of(reader))[0] for reader in (first, second)]
            assert statuses == [200, 200]


@pytest.fixture
async def paused(monkeypatch):
    """Set once a client does not read on, so that the server cannot write."""
    paused = asyncio.Event()
    pause_writing = Connection.pause_writing

    def told(self):
        pause_writing(self)
        paused.set()

    monkeypatch.setattr(Connection, "pause_writing", told)
    return paused


@asynccontextmanager
async def serving_downloads(**options):
    """Yield the port of an endpoint whose ``/large`` is more than the buffers of a connection hold."""

    async def large(_):
        return server._answer("x" * LARGE)

    app = make_app(Orchestrator("memory:", settings=NO_DRAIN))
    app.router.add_get("/large", large)
    async with listening(app, "127.0.0.1", 0, **options) as url, asyncio.timeout(PATIENCE_S):
        yield int(url.rpartition(":")[2])


async def test_client_that_does_not_read_makes_room(monkeypatch, paused):
    """At the limit a client that does not read its answer makes room for a client that asks."""
    monkeypatch.setattr(server, "files_max", lambda: 65)  # one connection
    async with serving_downloads() as port, connected(port, GET.replace(b"healthz", b"large")):
        await paused.wait()
        assert await is_served(port)


async def test_slow_download_ends_whole(paused):
    """A client that reads late still gets the whole answer, also when it has sent its next request meanwhile."""
    async with (
        serving_downloads(headers_s=0.05) as port,
        connected(port, GET.replace(b"healthz", b"large")) as (reader, writer),
    ):
        await paused.wait()
        writer.write(GET)
        async with connected(port) as (other, _):
            assert await is_closed(other)  # which came later, so the time of a deadline is over
        assert len((await answer_of(reader))[2]) == LARGE
        assert (await answer_of(reader))[0] == 200


def test_limit_of_connections():
    """A quarter of the files, at most 500, and never one of the last 64."""
    assert [connections_max(files) for files in (200, 1024, 2000, 1_048_576)] == [50, 256, 500, 500]
    assert [connections_max(files) for files in (86, 80, 65, 64, 20)] == [21, 16, 1, 0, -44]


async def test_too_few_files_for_any_connection(monkeypatch):
    """With no file left for a connection nothing is served, and the message says how to get more."""
    monkeypatch.setattr(server, "files_max", lambda: 64)
    with pytest.raises(AiorchError, match="ulimit -n"):
        async with serving():
            raise AssertionError
