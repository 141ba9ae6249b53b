"""Calls of functions against real servers on loopback, well-behaved ones and others."""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import random
import resource
import socket
import ssl
import struct
import typing
from contextlib import aclosing
from functools import partial

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aiorch.google.id_tokens import IdTokenError
from aiorch.ports.target import Answer, Failed, NotStarted, Succeeded, Unknown
from aiorch.targets.cloud_function import target as cloud_function
from aiorch.targets.cloud_function.node import CloudFunction
from aiorch.targets.cloud_function.target import CloudFunctionTarget
from tests import contexts
from tests.contexts import KEY
from tests.fakes.serving import anything, serving

a_context = partial(contexts.a_context, node="Schritt 1/ü", parameters={"table": "orders"})


def a_task(url=None, **changes):
    return CloudFunction("Step", None, **{"target_name": "load_orders", "url": url, **changes})


class FakeTokens:
    """Gives out one token, or an error, and remembers who asked."""

    def __init__(self, error=None):
        self.error = error
        self.audiences = []
        self.closed = False

    async def token(self, audience):
        self.audiences.append(audience)
        if self.error:
            raise IdTokenError(audience, "the metadata server", self.error, "Look at it")
        return f"token-for-{audience}"

    async def aclose(self):
        self.closed = True


def a_target(**settings):
    return aclosing(CloudFunctionTarget(**{"anonymous": "tokens" not in settings, **settings}))


async def call(url, *, parameters=None, **settings):
    """Call *url* once with a target of its own."""
    async with a_target(**settings) as target:
        context = a_context(parameters=parameters) if parameters is not None else a_context()
        return await target.launch(a_task(url), context)


class RawServer:
    """A server that does with each connection what *behave* does, HTTP or not."""

    def __init__(self, behave):
        self._behave = behave
        self._tasks = set()
        self.connections = 0
        self.requests = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/load"
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            await self._behave(self, reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def read_request(self, reader):
        """Read one whole request and remember it as (request line, headers, body)."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        self.requests.append((first, headers, body))


def answering(*parts, reset=False):
    """Behaviour: read the request, write *parts*, end the connection."""

    async def behave(server, reader, writer):
        await server.read_request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
        if reset:
            reset_connection(writer)

    return behave


def reset_connection(writer):
    """End a connection with a TCP reset in place of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hold(server, reader, writer):
    """Behaviour: take the connection and say nothing, for ever."""
    await asyncio.Event().wait()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the path of a key and self-signed certificate of ``localhost``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate):
    return ssl.create_default_context(cafile=str(certificate))


# Requests


async def test_request_on_the_wire():
    """The call is a POST of the parameters as JSON, and its headers carry the key and the run."""
    behave = answering(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    async with RawServer(behave) as server:
        assert await call(f"{server.url}?mode=full") == Succeeded(b"{}")
    [(first, headers, body)] = server.requests
    assert first == "POST /load?mode=full HTTP/1.1"
    assert json.loads(body) == {"table": "orders"}
    assert headers["Content-Type"] == "application/json"
    assert headers["traceparent"] == f"00-{KEY}-{KEY[:16]}-01"
    assert headers["X-Cloud-Trace-Context"] == f"{KEY}/{int(KEY[:16], 16)};o=1"
    assert headers["Idempotency-Key"] == KEY
    assert headers["Function-Execution-Id"] == KEY
    assert headers["X-Aiorch-Run-Id"] == "run_1"
    assert headers["X-Aiorch-Node"] == "Schritt%201%2F%C3%BC"
    assert headers["X-Aiorch-Attempt"] == "2"
    assert headers["User-Agent"].startswith("aiorch/")
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers


async def test_loopback_http_carries_no_token():
    """A plain-http call asks for no ID token: it would be readable, and nobody there checks it."""
    tokens = FakeTokens()
    async with RawServer(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as server:
        assert await call(server.url, tokens=tokens) == Succeeded(None)
    assert tokens.audiences == []
    assert "Authorization" not in server.requests[0][1]


async def test_https_carries_the_token_of_its_audience(server_tls, client_tls):
    """An https call carries the ID token made for the service's URL."""
    seen = []

    async def handle(request):
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"rows": 3})

    tokens = FakeTokens()
    async with serving(anything(handle), ssl_context=server_tls) as origin:
        answer = await call(f"{origin}/load?x=1", tokens=tokens, ssl_context=client_tls)
    assert answer == Succeeded(b'{"rows":3}')
    assert tokens.audiences == [origin]
    assert seen == [f"Bearer token-for-{origin}"]


async def test_no_token_means_not_started():
    """When no ID token can be had nothing is sent, and the same attempt may be sent again."""
    async with RawServer(hold) as server:
        answer = await call(f"https://localhost:{server.port}/", tokens=FakeTokens("HTTP 500"))
    assert isinstance(answer, NotStarted)
    assert "HTTP 500" in answer.reason
    assert server.connections == 0


async def test_no_free_file_means_not_started():
    """A call for whose connection the process has no free file was never sent, so it can be launched again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with a_target() as target:
        first_free = os.open(os.devnull, os.O_RDONLY)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        try:
            answer = await target.launch(a_task("http://127.0.0.1:1/"), a_context())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(answer, NotStarted)
    assert "Too many open files" in answer.reason


async def test_tokens_come_from_this_processs_credentials_by_default(monkeypatch, tmp_path):
    """Without further settings an https call asks for a token: here of a metadata server that is not there."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    target = CloudFunctionTarget()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{taken.getsockname()[1]}")
        answer = await target.launch(a_task("https://localhost:1/"), a_context())
    await target.aclose()
    assert isinstance(answer, NotStarted)
    assert "no ID token for audience 'https://localhost:1'" in answer.reason


async def test_anonymous_calls_carry_no_token(server_tls, client_tls):
    """A target for functions that anyone may call asks for no tokens at all."""
    seen = []

    async def handle(request):
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    async with serving(anything(handle), ssl_context=server_tls) as origin:
        assert await call(origin, anonymous=True, ssl_context=client_tls) == Succeeded(None)
    assert seen == [None]


async def test_url_pattern_is_filled_from_step_and_settings():
    """The URL of a step without one comes from the pattern; what the step says wins over the settings."""
    paths = []

    async def handle(request):
        paths.append(request.path)
        return web.Response()

    async with serving(anything(handle)) as origin:
        pattern = f"{origin}/{{region}}/{{project_id}}/{{name}}/{{service}}"
        async with a_target(url_pattern=pattern, project_id="acme", region="europe-west1") as target:
            await target.launch(a_task(target_name="Load_Orders"), a_context())
            await target.launch(a_task(project_id="other", region="us-central1"), a_context())
    assert paths == ["/europe-west1/acme/Load_Orders/load-orders", "/us-central1/other/load_orders/load-orders"]


def test_resolve_names_what_is_missing():
    """A step whose URL cannot be known here is left to another process, with what is missing."""
    nothing = CloudFunctionTarget()
    assert "needs project_id and region" in nothing.resolve(a_task())
    assert "needs region" in nothing.resolve(a_task(project_id="acme"))
    assert nothing.resolve(a_task(project_id="acme", region="europe-west1")) is None
    assert nothing.resolve(a_task("https://f.example/")) is None
    assert CloudFunctionTarget(project_id="acme", region="europe-west1").resolve(a_task()) is None
    assert CloudFunctionTarget(url_pattern="http://localhost/{name}").resolve(a_task()) is None


def test_unknown_placeholder_is_refused_at_once():
    """A pattern that cannot work is refused when the target is made, not at the first call."""
    with pytest.raises(ValueError, match="project_number"):
        CloudFunctionTarget(url_pattern="https://{name}-{project_number}.run.app")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (a_task("http://f.example/load"), "plain http"),
        (a_task("load"), "is not valid"),
        (a_task(target_name="../admin", project_id="acme", region="europe-west1"), "cannot be part of a URL"),
        (a_task(), "cannot be part of a URL"),
    ],
)
async def test_urls_that_must_not_be_called_fail(task, words, monkeypatch):
    """A refused URL is a failure with the reason, and no connection is tried."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", None)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", None)
    async with a_target() as target:
        answer = await target.launch(task, a_context())
    assert answer.failure.type == "ConfigurationError"
    assert "nothing was sent" in answer.failure.message
    assert words in answer.failure.message


async def test_parameters_that_are_no_json_fail():
    """Parameters that cannot be encoded fail the attempt before anything is sent."""
    async with RawServer(hold) as server:
        answer = await call(server.url, parameters={"x": object()})
    assert answer.failure.type == "ConfigurationError"
    assert server.connections == 0


# Answers


@pytest.mark.parametrize(
    ("content_type", "body", "result"),
    [
        ("application/json; charset=utf-8", b'{"rows": 3}\n', b'{"rows":3}'),
        ("text/html; charset=utf-8", b'[{"rows": 3}]', b'[{"rows":3}]'),
        ("text/plain", "fünf".encode(), '"fünf"'.encode()),
        ("application/json", b"not JSON", b'"not JSON"'),
        ("application/json", b"", None),
        ("", b'{"rows": 3}', b'{"rows":3}'),
        (";;=,\xff", b"OK", b'"OK"'),
    ],
)
async def test_success(content_type, body, result):
    """A 2xx answer completes the task with its body as result."""
    encoded_type = content_type.encode("latin-1")
    head = b"HTTP/1.1 201 Created\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (encoded_type, len(body))
    async with RawServer(answering(head, body)) as server:
        assert await call(server.url) == Succeeded(result)


async def test_success_in_chunks_and_until_the_end_of_stream():
    """A result may come in chunks, or end with the connection."""
    chunked = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\n[1,\r\n", b"2\r\n2]\r\n", b"0\r\n\r\n")
    async with RawServer(answering(*chunked)) as server:
        assert await call(server.url) == Succeeded(b"[1,2]")
    async with RawServer(answering(b"HTTP/1.1 200 OK\r\n\r\n", b"[1,", b"2]")) as server:
        assert await call(server.url) == Succeeded(b"[1,2]")


async def test_compressed_answer_is_not_unpacked():
    """A compressed answer, which was not asked for, fails the task; it could unpack to any size."""

    async def handle(request):
        response = web.json_response({"rows": 3})
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with serving(anything(handle)) as origin:
        assert (await call(origin)).failure.type == "ResultNotJSON"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 418, 500, 502, 503, 504])
async def test_failures(status):
    """Every other status fails the task under its number, with the beginning of what the answer said."""

    async def handle(request):
        return web.Response(status=status, text="no such order " + "x" * 100_000)

    async with serving(anything(handle)) as origin:
        failure = (await call(f"{origin}/load?key=secret")).failure
    assert failure.type == f"HTTP {status}"
    assert failure.message.startswith(f"{origin}/load answered HTTP {status} ")
    assert failure.cause.startswith("no such order x")
    assert len(failure.cause) <= 1000


@pytest.mark.parametrize(
    ("status", "text"),
    [(429, "Rate exceeded."), (500, "The request was aborted because there was no available instance."), (429, "")],
)
async def test_refused_for_load(status, text):
    """429 and "no available instance" mean that the function never ran."""

    async def handle(request):
        return web.Response(status=status, text=text)

    async with serving(anything(handle)) as origin:
        answer = await call(origin)
    assert isinstance(answer, NotStarted)
    assert f"HTTP {status}" in answer.reason
    assert not text or text not in answer.reason, "it goes to the log, where no payload belongs"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_redirects_are_not_followed(status):
    """A redirect fails the task and names the host that it leads to, which is not called."""
    async with RawServer(hold) as elsewhere:

        async def handle(request):
            return web.Response(status=status, headers={"Location": f"http://localhost:{elsewhere.port}/login"})

        async with serving(anything(handle)) as origin:
            answer = await call(origin)
    assert answer.failure.type == f"HTTP {status}"
    assert "'localhost'" in answer.failure.message
    assert elsewhere.connections == 0


async def test_failure_whose_body_breaks_off():
    """A failure stays one when the body that explains it is truncated: its status has been seen."""
    behave = answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nbecause", reset=True)
    async with RawServer(behave) as server:
        answer = await call(server.url)
    assert answer.failure.type == "HTTP 500"


async def test_answer_before_the_request_is_read():
    """An answer that comes before a large request was read counts, and the rest of the request is not awaited."""

    async def behave(server, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    async with RawServer(behave) as server:
        answer = await call(server.url, parameters={"x": "y" * 20_000_000})
    assert answer.failure.type == "HTTP 413"


async def test_cookies_are_not_kept():
    """What one execution is told to remember is not sent along by the next."""

    async def handle(request):
        response = web.json_response(dict(request.cookies))
        response.set_cookie("session", "1")
        return response

    async with serving(anything(handle)) as origin, a_target() as target:
        task = a_task(origin.replace("127.0.0.1", "localhost"))
        assert [await target.launch(task, a_context()) for _ in range(2)] == [Succeeded(b"{}")] * 2


# Limits


async def test_result_size_limit():
    """A result of exactly the limit is kept; one byte more fails the task and says so, even a meaningless one."""

    async def handle(request):
        return web.Response(body=b"[1]".ljust(int(request.path[1:])), content_type="application/json")

    async with serving(anything(handle)) as origin:
        assert await call(f"{origin}/100", result_bytes_max=100) == Succeeded(b"[1]")
        failure = (await call(f"{origin}/101", result_bytes_max=100)).failure
    assert failure.type == "ResultTooLarge"
    assert "100 bytes" in failure.message


@pytest.mark.parametrize("status", [b"200 OK", b"500 Oops"])
async def test_endless_answer_is_cut_off(status):
    """An answer without end is read to the limit and no further, whatever its status."""
    written = 0

    async def behave(server, reader, writer):
        nonlocal written
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            written += 0x10000

    async with RawServer(behave) as server:
        answer = await call(server.url, result_bytes_max=100_000)
    assert isinstance(answer, Failed)
    assert answer.failure.type in {"ResultTooLarge", "HTTP 500"}
    assert written < 20_000_000  # what the sockets of both sides buffer, by far


async def test_connections_are_limited():
    """No more calls are under way at once than allowed; the others wait and get their turn."""
    under_way, most, full, release = 0, 0, asyncio.Event(), asyncio.Event()

    async def handle(request):
        nonlocal under_way, most
        if request.path == "/probe":
            return web.Response()
        under_way += 1
        most = max(most, under_way)
        if under_way >= 3:
            full.set()
        await release.wait()
        under_way -= 1
        return web.Response()

    async with serving(anything(handle)) as origin, a_target(connections_max=3) as target:
        calls = [asyncio.create_task(target.launch(a_task(origin), a_context())) for _ in range(10)]
        await full.wait()
        # Calls beyond the limit would have been begun before these, which make whole round trips.
        for _ in range(3):
            assert await call(f"{origin}/probe") == Succeeded(None)
        assert most == 3
        release.set()
        assert await asyncio.gather(*calls) == [Succeeded(None)] * 10
    assert most == 3


async def test_connections_are_used_again():
    """Calls one after the other share a connection."""

    async def behave(server, reader, writer):
        while True:
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with RawServer(behave) as server, a_target() as target:
        for _ in range(3):
            assert await target.launch(a_task(server.url), a_context()) == Succeeded(None)
        assert server.connections == 1


async def test_silent_connections_are_probed(monkeypatch):
    """Calls run over sockets that are kept alive by probes, so that an hour of silence does not lose the answer."""
    used = []

    def remember(address):
        used.append(make(address))
        return used[-1]

    make = cloud_function._probed_socket
    monkeypatch.setattr(cloud_function, "_probed_socket", remember)

    async def behave(server, reader, writer):
        await server.read_request(reader)
        options.append(used[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        options.append(used[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    options = []
    async with RawServer(behave) as server:
        assert await call(server.url) == Succeeded(None)
    assert options == [1, cloud_function.IDLE_PROBE_S]


# No connection: it never ran


async def test_connection_refused():
    """A port where nobody listens means that the function never ran."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = await call(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert isinstance(answer, NotStarted)
    assert "no connection" in answer.reason


async def test_name_that_does_not_resolve(monkeypatch):
    """A host that DNS does not know means that the function never ran."""

    def fail(host, *args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, f"unknown {host}")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    answer = await call("https://f.example/load")
    assert isinstance(answer, NotStarted)
    assert "f.example" in answer.reason


async def test_certificate_that_is_not_trusted(server_tls):
    """A server whose certificate does not hold is not called."""
    called = []

    async def handle(request):
        called.append(request)
        return web.Response()

    async with serving(anything(handle), ssl_context=server_tls) as origin:
        answer = await call(origin)
    assert isinstance(answer, NotStarted)
    assert "certificate" in answer.reason.lower()
    assert called == []


async def speak_no_tls(server, reader, writer):
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def reset_at_once(server, reader, writer):
    await reader.read(10)
    reset_connection(writer)


@pytest.mark.parametrize("behave", [speak_no_tls, reset_at_once, hold])
async def test_tls_that_does_not_come_about(behave, monkeypatch):
    """A server that answers a TLS handshake with something else, a reset or silence was not called."""
    monkeypatch.setattr(cloud_function, "CONNECT_S", 0.1)
    async with RawServer(behave) as server:
        answer = await call(f"https://localhost:{server.port}/")
    assert isinstance(answer, NotStarted)


# Sent, and no whole answer: unknown


BROKEN_ANSWERS = {
    "end of stream": answering(),
    "reset": answering(reset=True),
    "half a status line": answering(b"HTTP/1.1 20"),
    "half the headers": answering(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "truncated body": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1,2"),
    "body reset": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[1,2", reset=True),
    "truncated chunk": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1"),
    "no last chunk": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n"),
    "bad chunk size": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "no HTTP": answering(b"220 mail.example ESMTP\r\n\r\n"),
    "bad content length": answering(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc"),
    "endless header": answering(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("behave", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS.keys())
async def test_no_whole_answer_is_unknown(behave):
    """Once the request was sent, whatever is not a whole answer leaves the outcome unknown; nothing is sent again."""
    async with RawServer(behave) as server:
        answer = await call(server.url)
    assert isinstance(answer, Unknown)
    assert server.url in answer.reason
    assert len(server.requests) == 1


async def test_kept_connection_that_the_server_closes():
    """A connection that the server ends as the next request comes in leaves that one unknown, and not sent again."""

    async def behave(server, reader, writer):
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await server.read_request(reader)

    async with RawServer(behave) as server, a_target() as target:
        assert await target.launch(a_task(server.url), a_context()) == Succeeded(None)
        assert isinstance(await target.launch(a_task(server.url), a_context()), Unknown)
        assert (len(server.requests), server.connections) == (2, 1)


async def test_hostile_answers_never_raise():
    """Five hundred damaged answers each become one of the answers that the engine knows."""
    seeds = [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\n\r\n[1,2]",
        b"HTTP/1.1 302 Found\r\nLocation: https://f.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Oops\r\nTransfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ]
    chance = random.Random(2024)

    async def behave(server, reader, writer):
        await server.read_request(reader)
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.choice(b"\x00\r\n:; \xff9A=,")
        writer.write(bytes(data))

    kinds = set()
    async with RawServer(behave) as server, a_target() as target:
        for _ in range(500):
            answer = await target.launch(a_task(server.url), a_context())
            assert isinstance(answer, typing.get_args(Answer))
            kinds.add(type(answer))
    assert kinds == {Succeeded, Failed, Unknown}


# Stop


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1"])
async def test_cancelling_a_call_closes_its_connection(start):
    """A call that is given up ends at once, before or amid its answer, and the server sees its connection end."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def behave(server, reader, writer):
        await server.read_request(reader)
        writer.write(start)
        await writer.drain()
        asked.set()
        assert await reader.read() == b""
        left.set()

    async with RawServer(behave) as server, a_target() as target:
        launch = asyncio.create_task(target.launch(a_task(server.url), a_context()))
        await asked.wait()
        launch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launch
        await left.wait()


async def test_deadline_of_the_engine_ends_a_call():
    """The target has no limit of its own for a call, and gives way to that of its caller."""

    async def behave(server, reader, writer):
        await server.read_request(reader)
        deadline.reschedule(0)
        assert await reader.read() == b""

    async with RawServer(behave) as server, a_target() as target:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as deadline:
                await target.launch(a_task(server.url), a_context())


async def test_stop_leaves_the_target_alone():
    """Stopping a plain call does nothing at the target: there is nothing that could be stopped."""
    async with RawServer(hold) as server, a_target() as target:
        await target.stop(a_task(server.url), a_context(), None)
    assert server.connections == 0


async def test_close():
    """Closing the target closes its connections and its tokens, also when it was never used."""
    ended = asyncio.Event()

    async def behave(server, reader, writer):
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert await reader.read() == b""
        ended.set()

    tokens = FakeTokens()
    async with RawServer(behave) as server:
        target = CloudFunctionTarget(tokens=tokens)
        await target.launch(a_task(server.url), a_context())
        await target.aclose()
        await ended.wait()
    assert tokens.closed
    unused = FakeTokens()
    await CloudFunctionTarget(tokens=unused).aclose()
    assert unused.closed
