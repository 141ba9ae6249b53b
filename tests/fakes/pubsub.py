"""Pub/Sub over REST in this process: as much of it as aiorch uses, with faults on order and no time of its own."""

import asyncio
import base64
import itertools
import json
from collections import deque
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiohttp import web

from tests.fakes.serving import serving

TOPIC = "projects/p/topics/events"
SUBSCRIPTION = "projects/p/subscriptions/events"


class Request(NamedTuple):
    """What was asked for."""

    method: str
    body: Any
    authorization: str | None


class FakePubSub:
    """
    One topic with one subscription.

    Deadlines never pass by themselves: `expire` ends the leases of all messages. A pull that finds nothing is held
    until there is something, or until its client is gone.

    Attributes:
        requests: All that were received, in order, before any fault.

        outstanding: Messages delivered and not acknowledged, by ack id.

        gate: Cleared, it holds what pulls have taken out until it is set.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.outstanding: dict[str, dict[str, Any]] = {}
        self._faults: dict[str, deque[int | str]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.pulls_open = 0
        self._waiting: deque[dict[str, Any]] = deque()
        self._changed = asyncio.Condition()
        self._ids = itertools.count(1)

    # -- for tests -----------------------------------------------------------------------------------------------

    def arm(self, method: str, fault: int | str, *, times: int = 1) -> None:
        """
        Order what becomes of the next requests of a kind, instead of what was ordered before.

        Args:
            method: ``pull``, ``acknowledge``, ``modifyAckDeadline`` or ``publish``.

            fault: An HTTP status; or ``reset``, ``garbage``, in the place of doing anything; or ``lost reply``, after
                everything was done.

            times: How many requests.
        """
        self._faults[method] = deque([fault] * times)

    async def put(self, *payloads: bytes, **attributes: str) -> list[str]:
        """Publish, and return the ids of the messages."""
        return await self._enqueue([(payload, attributes) for payload in payloads])

    async def expire(self) -> None:
        """Let the deadlines of all messages pass."""
        self._waiting.extend(self.outstanding.values())
        self.outstanding.clear()
        await self._notify()

    async def until(self, condition) -> None:
        """Wait until *condition* holds; it is looked at after every request."""
        async with self._changed:
            await self._changed.wait_for(condition)

    def count(self, method: str) -> int:
        """How many requests of a kind there were."""
        return sum(1 for each in self.requests if each.method == method)

    def ids(self, method: str, deadline_s: int | None = None) -> list[str]:
        """The ack ids that requests of a kind have named, with that deadline if it is one of deadlines."""
        return [
            ack_id
            for each in self.requests
            if each.method == method and (deadline_s is None or each.body["ackDeadlineSeconds"] == deadline_s)
            for ack_id in each.body["ackIds"]
        ]

    @property
    def is_done(self) -> bool:
        """Whether every message is acknowledged."""
        return not self._waiting and not self.outstanding

    # -- the API -------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Do what is asked for, or the fault that was ordered."""
        name, _, method = request.match_info["name"].rpartition(":")
        body = json.loads(await request.read())
        self.requests.append(Request(method, body, request.headers.get("Authorization")))
        await self._notify()
        faults = self._faults.get(method)
        fault = faults.popleft() if faults else None
        if isinstance(fault, int):
            return _error(fault, "ordered by a test")
        if fault == "reset":
            return self._hang_up(request)
        if fault == "garbage":
            return web.Response(text="<html>", content_type="text/html")
        if name not in {TOPIC, SUBSCRIPTION}:
            return _error(404, f"{name} not found")
        reply = await getattr(self, f"_{method}")(body)
        await self._notify()
        return self._hang_up(request) if fault == "lost reply" else web.json_response(reply)

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _pull(self, body: Any) -> Any:
        self.pulls_open += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting)
                taken = [self._waiting.popleft() for _ in range(min(body["maxMessages"], len(self._waiting)))]
            received = [{"ackId": f"ack-{next(self._ids)}", "message": each} for each in taken]
            self.outstanding |= {each["ackId"]: each["message"] for each in received}
            await self.gate.wait()
        finally:
            self.pulls_open -= 1
        return {"receivedMessages": received}

    async def _acknowledge(self, body: Any) -> Any:
        for ack_id in body["ackIds"]:
            self.outstanding.pop(ack_id, None)
        return {}

    async def _modifyAckDeadline(self, body: Any) -> Any:  # noqa: N802  named as in the API
        if body["ackDeadlineSeconds"] == 0:
            given_back = [self.outstanding.pop(ack_id, None) for ack_id in body["ackIds"]]
            self._waiting.extend(each for each in given_back if each)
        return {}

    async def _publish(self, body: Any) -> Any:
        # The client sends the alphabet of URLs. The API takes both, and answers in the other one.
        messages = [(base64.urlsafe_b64decode(each["data"]), each["attributes"]) for each in body["messages"]]
        return {"messageIds": await self._enqueue(messages)}

    async def _enqueue(self, contents: list[tuple[bytes, dict[str, str]]]) -> list[str]:
        messages = [
            {
                "data": base64.b64encode(data).decode(),
                "attributes": attributes,
                "messageId": f"m{next(self._ids)}",
                "publishTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
            for data, attributes in contents
        ]
        self._waiting.extend(messages)
        await self._notify()
        return [each["messageId"] for each in messages]

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message}}, status=status)


@asynccontextmanager
async def fake_pubsub():
    """Serve a `FakePubSub`, and yield it with its address (``host:port``)."""
    fake = FakePubSub()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/{name:.+}", fake.handle)
    async with serving(app, shutdown_timeout=0.01, handler_cancellation=True) as url:  # 0 would be no limit
        yield fake, url.removeprefix("http://")
