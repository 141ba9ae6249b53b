"""
The part of Cloud Storage's JSON API that is used, in this process, as strict as the real one, with faults to order.

Stricter in one thing: it refuses what must never be sent, an upload or delete without a condition, and an upload that
is not one multipart POST.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from hashlib import md5
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from google_crc32c import value as crc32c
from multidict import CIMultiDict

from tests.fakes.serving import anything, serving

BUCKET = "acme-state"
FIRST_GENERATION = 1_763_900_000_000_000


class Fault(Enum):
    """What becomes of a request instead of its due."""

    RESET = "connection reset, not applied"
    LOST_REPLY = "applied, connection reset"
    GARBAGE = "applied, answered with something else"
    OTHER_BODY = "applied, answered with another body, and headers as if nothing had happened"
    OWN_CONFLICT = "applied, answered 412: an earlier try of the same write was applied"
    HOLD = "held until released, then applied"
    CONFLICT = 412
    THROTTLED = 429
    UNAVAILABLE = 503
    TIMED_OUT = 408
    CONTENDED = 409
    UNAUTHORIZED = 401
    FORBIDDEN = 403
    BAD_REQUEST = 400


class Sent(NamedTuple):
    """One request, as it came over the wire."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    about: str
    """Name of the object; the prefix of a listing."""


class Stored(NamedTuple):
    data: bytes
    generation: int
    metadata: dict[str, str]
    resource: dict[str, object]
    written_at: float


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(message)


_REFUSALS = {
    400: ("Invalid argument.", "invalid"),
    401: ("Invalid Credentials", "authError"),
    403: ("runner@acme.iam.gserviceaccount.com does not have storage.objects.get access.", "forbidden"),
    404: ("No such object.", "notFound"),
    408: ("Request timed out.", "uploadBrokenConnection"),
    409: ("The request conflicted with an ongoing one.", "conflict"),
    412: ("At least one of the pre-conditions you specified did not hold.", "conditionNotMet"),
    429: ("The object exceeded the rate limit for object mutation operations.", "rateLimitExceeded"),
    503: ("We encountered an internal error. Please try again.", "backendError"),
}


def _parts(content_type: str, body: bytes) -> tuple[dict[str, object], bytes]:
    """Resource and content of a multipart upload."""
    boundary = b"--" + content_type.partition("multipart/related; boundary=")[2].encode()
    _, first, *second = body.split(boundary)
    content = boundary.join(second)
    assert content.endswith(b"\r\n" + boundary + b"--\r\n"), "a body that was cut off"
    data = content.removesuffix(b"\r\n" + boundary + b"--\r\n").partition(b"\r\n\r\n")[2]
    return json.loads(first.partition(b"\r\n\r\n")[2]), data


def _refusal(error: _RefusedError) -> web.Response:
    errors = [{"message": str(error), "domain": "global", "reason": error.reason}]
    answer = {"error": {"code": error.status, "message": str(error), "errors": errors}}
    return web.json_response(answer, status=error.status)


class _Armed:
    def __init__(self, fault: Fault, method: str, name: str, times: int, body: bytes) -> None:
        self.fault, self.method, self.name, self.times, self.body = fault, method, name, times, body
        self.reached = asyncio.Event()
        self.released = asyncio.Event()


class FakeGCS:
    """
    One bucket.

    Attributes:
        objects: What is in it, by name.

        sent: Every request so far.

        page_size: Objects on one page of a listing.

        write_interval_s: How far apart writes of one object must be; `None`: any number is fine.

        token: The only token that is accepted; `None`: nobody looks.

        read_headers: Headers of answers to reads that are other ones than the real ones; `None`: left out.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.sent: list[Sent] = []
        self.page_size = 1000
        self.write_interval_s: float | None = None
        self.token: str | None = None
        self.read_headers: dict[str, str | None] = {}
        self.url = ""
        self._generation = FIRST_GENERATION
        self._armed: list[_Armed] = []

    def arm(self, fault: Fault, method: str, name: str = "", times: int = 1, *, body: bytes = b"") -> _Armed:
        """
        Let the next *times* requests of *method* about objects whose names contain *name* fail.

        Args:
            body: The body of the answer, for `Fault.OTHER_BODY`.
        """
        armed = _Armed(fault, method, name, times, body)
        self._armed.append(armed)
        return armed

    def count(self, method: str, name: str = "") -> int:
        """How many requests of *method* there were about *name*."""
        return sum(sent.method == method and name in sent.about for sent in self.sent)

    def put(self, name: str, data: bytes, *, metadata: dict[str, str] | None = None) -> int:
        """Write an object as another client would."""
        self._generation += 1
        now = asyncio.get_running_loop().time()
        self.objects[name] = Stored(data, self._generation, metadata or {}, {}, now)
        return self._generation

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        url = urlsplit(str(request.rel_url))
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        about = request.path.partition(f"/b/{BUCKET}/o/")[2] or query.get("prefix", "")
        if request.method == "POST" and query.get("uploadType") == "multipart":
            about = str(_parts(request.headers["Content-Type"], body)[0]["name"])
        sent = Sent(request.method, request.path, query, request.headers, body, about)
        self.sent.append(sent)
        armed = self._take(sent)
        fault = armed.fault if armed else None
        if armed is not None:
            armed.reached.set()
        if armed is not None and fault is Fault.HOLD:
            await armed.released.wait()
        if fault is Fault.RESET:
            return self._reset(request)
        try:
            if fault is not None and isinstance(fault.value, int):
                raise _RefusedError(fault.value, *_REFUSALS[fault.value])
            if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
                raise _RefusedError(401, *_REFUSALS[401])
            response = self._apply(sent)
            if fault is Fault.OWN_CONFLICT:
                raise _RefusedError(412, *_REFUSALS[412])
        except _RefusedError as error:
            refusal = _refusal(error)
            return web.Response(body=armed.body, status=refusal.status) if armed and armed.body else refusal
        if fault is Fault.LOST_REPLY:
            return self._reset(request)
        if armed is not None and fault is Fault.OTHER_BODY:
            headers = CIMultiDict((name, value) for name, value in response.headers.items() if name != "Content-Length")
            return web.Response(body=armed.body, status=response.status, headers=headers)
        if fault is Fault.GARBAGE:
            return web.Response(text="<html>a proxy</html>", content_type="text/html")
        return response

    def _take(self, sent: Sent) -> _Armed | None:
        for armed in self._armed:
            if armed.times and armed.method == sent.method and armed.name in sent.about:
                armed.times -= 1
                return armed
        return None

    @staticmethod
    def _reset(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _apply(self, sent: Sent) -> web.Response:
        listing = f"/storage/v1/b/{BUCKET}/o"
        if sent.path == f"/upload{listing}" and sent.method == "POST":
            return self._upload(sent)
        if sent.path == listing and sent.method == "GET":
            return self._list(sent)
        if sent.path.startswith(f"{listing}/"):
            return self._one(sent, sent.about)
        raise _RefusedError(404, "The specified bucket does not exist.", "notFound")

    def _one(self, sent: Sent, name: str) -> web.Response:
        if sent.method == "DELETE" and "ifGenerationMatch" not in sent.query:
            raise _RefusedError(400, "a delete without a condition", "required")
        stored = self.objects.get(name)
        if stored is None:
            raise _RefusedError(404, f"No such object: {BUCKET}/{name}", "notFound")
        self._check(sent, name)
        if sent.method == "DELETE":
            self._limit(name)
            del self.objects[name]
            return web.Response(status=204)
        if sent.query.get("alt") != "media":
            raise _RefusedError(400, "content only: the generation would belong to another moment", "invalid")
        headers = CIMultiDict(
            {
                "Content-Type": "application/json",
                "X-Goog-Generation": str(stored.generation),
                "X-Goog-Stored-Content-Encoding": "identity",
                "X-Goog-Stored-Content-Length": str(len(stored.data)),
                "X-Goog-Hash": f"crc32c={b64encode(crc32c(stored.data).to_bytes(4, 'big')).decode()}",
            }
        )
        headers.add("X-Goog-Hash", f"md5={b64encode(md5(stored.data).digest()).decode()}")
        for header, value in self.read_headers.items():
            headers.popall(header, None)
            if value is not None:
                headers[header] = value
        return web.Response(body=stored.data, headers=headers)

    def _upload(self, sent: Sent) -> web.Response:
        if sent.query.get("uploadType") != "multipart":
            raise _RefusedError(400, "not a multipart upload", "invalid")
        if "ifGenerationMatch" not in sent.query:
            raise _RefusedError(400, "an upload without a condition", "required")
        resource, data = _parts(sent.headers["Content-Type"], sent.body)
        name = str(resource["name"])
        self._check(sent, name)
        self._limit(name)
        metadata = resource.get("metadata") or {}
        assert isinstance(metadata, dict)
        generation = self.put(name, data, metadata=metadata)
        self.objects[name] = self.objects[name]._replace(resource=resource)
        return web.json_response({"kind": "storage#object", "generation": str(generation)})

    def _list(self, sent: Sent) -> web.Response:
        names = sorted(name for name in self.objects if name.startswith(sent.query.get("prefix", "")))
        after = sent.query.get("pageToken", "")
        page = [name for name in names if name > after]
        answer: dict[str, object] = {}
        if len(page) > self.page_size:
            page = page[: self.page_size]
            answer["nextPageToken"] = page[-1]
        items = []
        for name in page:
            stored = self.objects[name]
            item: dict[str, object] = {"name": name, "generation": str(stored.generation)}
            items.append(item | ({"metadata": stored.metadata} if stored.metadata else {}))
        return web.json_response(answer | ({"items": items} if items else {}))

    def _check(self, sent: Sent, name: str) -> None:
        current = self.objects[name].generation if name in self.objects else 0
        if "ifGenerationMatch" in sent.query and int(sent.query["ifGenerationMatch"]) != current:
            raise _RefusedError(412, *_REFUSALS[412])

    def _limit(self, name: str) -> None:
        stored = self.objects.get(name)
        if stored is None or self.write_interval_s is None:
            return
        if asyncio.get_running_loop().time() - stored.written_at < self.write_interval_s:
            raise _RefusedError(429, *_REFUSALS[429])


@asynccontextmanager
async def fake_gcs() -> AsyncIterator[FakeGCS]:
    """Run one on loopback; its `url` is what ``STORAGE_EMULATOR_HOST`` takes."""
    fake = FakeGCS()
    async with serving(anything(fake.handle)) as fake.url:
        yield fake
