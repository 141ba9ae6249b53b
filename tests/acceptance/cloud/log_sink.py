"""A log sink: what the platform logs goes to a topic, every entry twice, some late, some never."""

import asyncio
import base64
import io
import json
import random
from datetime import UTC, datetime
from typing import Any, Self

import aiohttp

GATHER_S = 0.02
LATE_S = (0.5, 4.0)
"""An entry takes up to ten seconds in reality: long enough to be overtaken by everything else."""

PROJECT = "acme-data-dev"

Entry = dict[str, Any]


def stamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class LogSink:
    """
    Publishes on a topic.

    Args:
        emulator: ``host:port`` of Pub/Sub.

        topic: Its full name.

        chance: Decides about each entry.

        lost, late: Shares of the entries that never come, and of the messages that come late.

    Attributes:
        published: Ids of the messages, in order.

        entries_lost: Entries that nobody will ever hear of.
    """

    def __init__(
        self, emulator: str, topic: str, chance: random.Random, *, lost: float = 0.0, late: float = 0.0, copies: int = 2
    ) -> None:
        self._url = f"http://{emulator}/v1/{topic}:publish"
        self._chance, self._lost, self._late, self._copies = chance, lost, late, copies
        self._waiting: list[bytes] = []
        self._work: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.published: list[str] = []
        self.entries_lost = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers={"Content-Type": "application/json"})
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        assert self._session is not None
        await self._session.close()

    def entry(self, entry: Entry) -> None:
        """The platform has logged something."""
        if self._chance.random() < self._lost:
            self.entries_lost += 1
            return
        data = json.dumps(entry).encode()
        for _ in range(self._copies):
            is_late = self._chance.random() < self._late
            self._spawn(self._later(data, self._chance.uniform(*LATE_S) if is_late else 0.0))

    async def say(self, *messages: bytes) -> None:
        """Publish these as they are, each once, in one request."""
        body = {"messages": [{"data": base64.b64encode(data).decode()} for data in messages]}
        assert self._session is not None
        async with self._session.post(self._url, data=io.BytesIO(json.dumps(body).encode())) as reply:
            reply.raise_for_status()
            self.published += (await reply.json())["messageIds"]

    async def drained(self) -> None:
        """Wait until everything is published."""
        while self._work:
            await asyncio.gather(*self._work)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _later(self, data: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._waiting.append(data)
        if len(self._waiting) == 1:
            await asyncio.sleep(GATHER_S)
            messages, self._waiting = self._waiting, []
            await self.say(*messages)
