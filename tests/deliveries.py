"""Messages, as a source hands them over."""

from typing import Any

from aiorch.ports.source import EventSource


async def receive(source: EventSource, count: int) -> list[Any]:
    """Receive until there are *count* deliveries."""
    deliveries: list[Any] = []
    while len(deliveries) < count:
        deliveries += await source.receive()
    return deliveries
