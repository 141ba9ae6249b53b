"""Messages from within the process: the embedded default."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from aiorch.ports.world import Clock, Entropy

BATCH_MAX = 1000
"""Messages handed over at once."""

REDELIVERY_S = 0.1
REDELIVERY_MAX_S = 60.0
"""Pause before a message that was given back comes again; the pause doubles each time, up to the longest."""

REMEMBERED_MAX = 10_000
"""Number of remembered publishing times, so that a repeated publication gives the same message."""


class LocalDelivery:
    """One delivery of a message that was published in this process."""

    __slots__ = ("_returns", "_source", "attributes", "data", "delivery_attempt", "message_id", "publish_time")

    def __init__(self, source: "LocalSource", message_id: str, publish_time: datetime, data: bytes) -> None:
        self._source = source
        self._returns = 0
        self.message_id: str = message_id
        self.publish_time: datetime = publish_time
        self.data: bytes = data
        self.attributes: Mapping[str, str] = {}
        self.delivery_attempt: int | None = None

    def ack(self) -> None:
        """Settle the message."""
        self._source.outstanding -= 1

    def nack(self) -> None:
        """Put the message back after a pause: a message that cannot be handled now will not succeed at once."""
        self._source.outstanding -= 1
        pause_s = min(REDELIVERY_MAX_S, REDELIVERY_S * 2 ** min(self._returns, 20))
        self._returns += 1
        asyncio.get_running_loop().call_later(pause_s, self._source.put, self)


class LocalSource:
    """
    An `EventSource` in memory. Its messages end with the process: publish unanswered messages again.

    Attributes:
        outstanding: Messages handed over and not settled yet.
    """

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._messages: deque[LocalDelivery] = deque()
        self._published: dict[str, datetime] = {}
        self._arrived = asyncio.Event()
        self.outstanding: int = 0

    def publish(self, message: Mapping[str, Any] | bytes, *, message_id: str | None = None) -> str:
        """
        Queue a message for the receiver, and return its id.

        Args:
            message: The payload, as a mapping or as the bytes that a topic would carry.

            message_id: Given only to publish the same message again.
        """
        data = message if isinstance(message, bytes) else msgspec.json.encode(message)
        message_id = message_id or self._entropy.token()
        publish_time = self._published.setdefault(message_id, self._clock.now())
        if len(self._published) > REMEMBERED_MAX:
            del self._published[next(iter(self._published))]
        self.put(LocalDelivery(self, message_id, publish_time, data))
        return message_id

    def put(self, delivery: LocalDelivery) -> None:
        """Queue a delivery, new or given back."""
        self._messages.append(delivery)
        self._arrived.set()

    async def receive(self) -> Sequence[LocalDelivery]:
        """Wait for messages."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        batch = [self._messages.popleft() for _ in range(min(BATCH_MAX, len(self._messages)))]
        self.outstanding += len(batch)
        return batch

    def pause(self) -> None:
        """See `EventSource.pause`. Messages from within the process cost no request, so they are still delivered."""

    def resume(self) -> None:
        """See `EventSource.resume`."""

    def stop(self) -> None:
        """See `EventSource.stop`. Messages that were not handed out end with the process."""

    async def aclose(self) -> None:
        """Release no resource: there is none."""
