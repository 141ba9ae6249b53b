"""
A proxy in front of the bucket that damages some of its answers: reads are cut, emptied or replaced, and answers to
writes and listings are JSON of another form. Requests arrive undamaged, and writes are carried out.

Every so many requests of a kind one answer is damaged, and the ways to damage it take turns. So chance has no part in
which ones, and no request meets two damaged answers in a row when it is repeated alone.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.fakes.serving import anything, serving

EVERY = {"read": 7, "write": 11, "listing": 5}
"""One of so many answers to each kind of request is damaged."""

READS = ("cut", "emptied", "replaced by null", "broken off")
WRITES = (b"null", b"[]", b'""', b"", b'{"generation": []}', b"{}")
LISTINGS = (b"null", b"[]", b'{"items": 5}', b'{"items": [null]}', b'{"items": [{"name": []}]}', b"")


class DamagingProxy:
    """
    Attributes:
        url: Where the bucket is to be had through the proxy.

        damaged: How many answers were damaged, by kind of request and what was done to them.
    """

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._requests: Counter[str] = Counter()
        self._ways = {"read": cycle(READS), "write": cycle(WRITES), "listing": cycle(LISTINGS)}
        self._session: aiohttp.ClientSession | None = None
        self.url = ""
        self.damaged: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["DamagingProxy"]:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session,
            # A client that gives up or is killed does not take back a request that has arrived.
            serving(anything(self._serve), handler_cancellation=False) as self.url,
        ):
            yield self

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        body = await request.read()
        headers = CIMultiDict(request.headers)
        headers.popall("Host")
        url = URL(self._bucket + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, data=body, headers=headers) as reply:
            answer = await reply.read()
        headers = CIMultiDict(reply.headers)
        for hop in ("Content-Length", "Transfer-Encoding", "Connection", "Date"):
            headers.popall(hop, None)
        kind = _kind(request)
        self._requests[kind] += 1
        if reply.status == 200 and kind in EVERY and self._requests[kind] % EVERY[kind] == 0:
            way = next(self._ways[kind])
            self.damaged[kind, str(way)] += 1
            if way == "broken off":
                return await self._broken_off(request, headers, answer)
            answer = _damage(way, answer)
        return web.Response(status=reply.status, body=answer, headers=headers)

    @staticmethod
    async def _broken_off(request: web.Request, headers: "CIMultiDict[str]", answer: bytes) -> web.StreamResponse:
        """Announce the whole answer, send half of it, and close the connection."""
        response = web.StreamResponse(headers=headers | {"Content-Length": str(len(answer))})
        await response.prepare(request)
        await response.write(answer[: len(answer) // 2])
        assert request.transport is not None
        request.transport.abort()
        return response


def _kind(request: web.Request) -> str:
    if request.method == "GET":
        return "read" if request.query.get("alt") == "media" else "listing"
    return "write" if request.method == "POST" else "other"


def _damage(way: str | bytes, answer: bytes) -> bytes:
    match way:
        case "cut":
            return answer[: len(answer) // 2]
        case "emptied":
            return b""
        case "replaced by null":
            return b"null"
        case bytes():
            return way
    raise AssertionError(way)
