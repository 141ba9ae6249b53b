"""`EventSource`: the source of messages."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol


class Delivery(Protocol):
    """One handing-over of a message."""

    data: bytes
    message_id: str
    publish_time: datetime
    attributes: Mapping[str, str]
    delivery_attempt: int | None
    """From 1; `None` when no dead-letter topic takes a message that is given back again and again."""

    def ack(self) -> None:
        """Acknowledge the message: its event is committed, or needs no commit."""
        ...

    def nack(self) -> None:
        """Give the message back, for a later delivery."""
        ...


class EventSource(Protocol):
    """The source of messages."""

    async def receive(self) -> Sequence[Delivery]:
        """Wait for messages and return a batch of at least one. Cancellation loses no message."""
        ...

    def pause(self) -> None:
        """Bring no new messages: the process cannot handle them at present."""
        ...

    def resume(self) -> None:
        """Bring messages again."""
        ...

    def stop(self) -> None:
        """Bring no message any more and give back those not handed out: the process is about to end."""
        ...

    async def aclose(self) -> None:
        """Stop, and give back all messages that were not settled."""
        ...
