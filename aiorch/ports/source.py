"""`EventSource`: where messages come from."""

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
    """From 1; `None` when nothing is done with a message that is given back again and again."""

    def ack(self) -> None:
        """What the message said is committed, or needs nothing: do not deliver it again."""
        ...

    def nack(self) -> None:
        """Deliver it again later."""
        ...


class EventSource(Protocol):
    """Where messages come from."""

    async def receive(self) -> Sequence[Delivery]:
        """Wait for messages and return a batch of at least one. Cancellation loses none."""
        ...

    def pause(self) -> None:
        """Bring no new messages: they could not be handled at present."""
        ...

    def resume(self) -> None:
        """Bring messages again."""
        ...

    def stop(self) -> None:
        """Bring nothing more, for good, and give back what was not handed out: the process is about to end."""
        ...

    async def aclose(self) -> None:
        """Stop, and give back what was not settled."""
        ...
