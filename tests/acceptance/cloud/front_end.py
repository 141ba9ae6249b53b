"""
The platform in front of functions: passes calls on, answers for those that cannot be, and logs the end of each.

It is where a caller's rules can be seen to be kept: at the arrival of each call it looks into the bucket for the record
of the execution and for the intent to launch it.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from tests.acceptance.cloud.bucket import Bucket
from tests.acceptance.cloud.log_sink import PROJECT, Entry, LogSink, stamp
from tests.fakes.serving import serving
from tests.log_samples import sample

NO_INSTANCE = "The request was aborted because there was no available instance."
NESTED_AGENT = "python-requests/2.32"


@dataclass(frozen=True)
class Function:
    """A function as it is deployed."""

    name: str
    region: str
    is_gen1: bool
    wording: str = "old"
    """Of the first generation's line."""

    calls: str | None = None
    """Another function, which it calls within each call, and hands its trace on to."""

    @property
    def service(self) -> str:
        return self.name.replace("_", "-")


@dataclass(frozen=True)
class Faults:
    """Shares of the calls that go wrong on their way."""

    refused: float = 0.0
    """There is no instance to take them: they never run."""

    answer_lost: float = 0.0
    """They run, and the connection ends without an answer."""


class FrontEnd:
    """
    Attributes:
        url: Where a function of any name is called, as a pattern.

        broken: Calls that should not have been made, and why.

        arrived: Calls passed on, by key.
    """

    def __init__(
        self,
        functions: dict[str, tuple[Function, str]],
        bucket: Bucket,
        sink: LogSink,
        chance: random.Random,
        faults: Faults,
    ) -> None:
        self._functions = functions
        self._bucket = bucket
        self._sink = sink
        self._chance = chance
        self._faults = faults
        self._session: aiohttp.ClientSession | None = None
        self.url = ""
        self.broken: list[str] = []
        self.arrived: Counter[str] = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FrontEnd"]:
        app = web.Application()
        app.router.add_post("/{name}", self._serve)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as self._session,
            # A caller that is killed does not stop its call: the platform goes on with it, and logs its end.
            serving(app, handler_cancellation=False) as origin,
        ):
            self.url = f"{origin}/{{name}}"
            yield self

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        function, url = self._functions[request.match_info["name"]]
        begun, loop = stamp(), asyncio.get_running_loop()
        begun_at = loop.time()
        body = await request.read()
        if self._chance.random() < self._faults.refused:
            self._log(function, request, begun, status=429, seconds=0.001, text=NO_INSTANCE)
            return web.Response(status=429, text=NO_INSTANCE)
        await self._look(request)
        if function.calls is not None:
            # It ends within the call that it is part of, and so does its log.
            nested = Function(function.calls, function.region, is_gen1=False)
            self._sink.entry(gen2_entry(nested, begun, _trace(request), status=500, seconds=0.1, agent=NESTED_AGENT))
        assert self._session is not None
        async with self._session.post(url, data=body, headers=request.headers) as reply:
            answer = await reply.read()
        self._log(function, request, begun, status=reply.status, seconds=loop.time() - begun_at)
        if self._chance.random() < self._faults.answer_lost and request.transport is not None:
            lingers = struct.pack("ii", 1, 0)
            request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingers)
            request.transport.abort()
        return web.Response(status=reply.status, body=answer, content_type=reply.content_type)

    async def _look(self, request: web.Request) -> None:
        """No call without a record, nor more often than the committed document says."""
        key, run_id = request.headers["Idempotency-Key"], request.headers["X-Aiorch-Run-Id"]
        self.arrived[key] += 1
        record = await self._bucket.document(f"executions/{key}.json")
        run = await self._bucket.document(f"runs/{run_id}.json")
        if record is None or run is None:
            self.broken.append(f"{run_id}: called without a record of execution {key}")
            return
        node = run[record["node_name"]]
        if node.get("execution_id") == key and node["launches"] < self.arrived[key]:
            self.broken.append(
                f"{run_id} {record['node_name']}: call {self.arrived[key]} of {node['launches']} launches"
            )

    def _log(
        self, function: Function, request: web.Request, begun: str, *, status: int, seconds: float, text: str = ""
    ) -> None:
        trace, agent = _trace(request), request.headers["User-Agent"]
        if function.is_gen1:
            self._sink.entry(gen1_entry(function, trace, status=status, seconds=seconds))
        else:
            entry = gen2_entry(function, begun, trace, status=status, seconds=seconds, agent=agent, text=text)
            self._sink.entry(entry)


def _trace(request: web.Request) -> str:
    return request.headers["X-Cloud-Trace-Context"].partition("/")[0]


def gen1_entry(function: Function, trace: str, *, status: int, seconds: float) -> Entry:
    entry = sample(f"gen1_function_end_200_{function.wording}_wording")
    text = entry["textPayload"].replace("code: 200", f"code: {status}")
    words = text.split(" ")
    words[words.index("took") + 1] = str(round(seconds * 1000))
    place = {"function_name": function.name, "region": function.region, "project_id": PROJECT}
    return entry | {
        "textPayload": " ".join(words),
        "trace": f"projects/{PROJECT}/traces/{trace}",
        "timestamp": stamp(),
        "resource": {"type": "cloud_function", "labels": place},
        "insertId": trace[:12],
    }


def gen2_entry(
    function: Function, begun: str, trace: str, *, status: int, seconds: float, agent: str, text: str = ""
) -> Entry:
    entry = sample("gen2_request_200")
    entry["httpRequest"] |= {"status": status, "latency": f"{seconds:.9f}s", "userAgent": agent}
    entry["resource"]["labels"] |= {"service_name": function.service, "location": function.region}
    entry["labels"]["goog-drz-cloudfunctions-id"] = function.name
    if text:
        entry["textPayload"] = text
    return entry | {"trace": f"projects/{PROJECT}/traces/{trace}", "timestamp": begun, "insertId": trace[:12]}
