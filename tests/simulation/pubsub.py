"""
One Pub/Sub subscription, shared by all processes: at least once, late, twice, in any order.

A message belongs to the process that holds it for as long as that one lives and does not hold it too long: its client
extends the lease. A process that stops doing so loses it, and may still answer for it when it wakes up.

Source: Pub/Sub documentation, "Subscription properties", "At-least-once delivery", "Handle message failures".
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedProcess
    from tests.simulation.world import World

DEADLINE_S = 60.0
"""How long a lease lasts that nobody extends."""

HOLD_S = 600.0
"""How long a client extends a lease."""

RETURN_S = (1.0, 10.0)
"""Pause before a message that was given back comes again, the first time and later."""

RETURNS_MAX = 10
"""After how often a message that can never be handled is dropped: a subscription has a dead-letter topic for that."""

DELAYS_S = (0.05, 0.2, 0.5, 2.0, 8.0, 20.0, 60.0, 300.0, 900.0)


class Message:
    """
    A message that was published.

    Attributes:
        is_settled: The subscription has heard that it needs not be delivered again.

        deliveries: How often it was handed over.
    """

    __slots__ = ("data", "deliveries", "holder", "is_settled", "message_id", "publish_time", "returns")

    def __init__(self, message_id: str, data: bytes, publish_time: datetime) -> None:
        self.message_id = message_id
        self.data = data
        self.publish_time = publish_time
        self.deliveries = 0
        self.returns = 0
        self.is_settled = False
        self.holder: SimulatedDelivery | None = None


class SimulatedDelivery:
    """See `aiorch.ports.Delivery`."""

    __slots__ = (
        "_is_answered",
        "attributes",
        "data",
        "delivery_attempt",
        "message",
        "message_id",
        "publish_time",
        "since",
        "source",
    )

    def __init__(self, source: "SimulatedSource", message: Message, since: float) -> None:
        self.source = source
        self._is_answered = False
        self.message = message
        self.since = since
        self.data = message.data
        self.message_id = message.message_id
        self.publish_time = message.publish_time
        self.delivery_attempt = message.deliveries if source.subscription.has_dead_letters else None
        self.attributes: Mapping[str, str] = {}

    def ack(self) -> None:
        """See `Delivery.ack`."""
        if not self._is_answered:
            self._is_answered = True
            self.source.let_go(self)
            self.source.subscription.acknowledged(self, self.source.process)

    def nack(self) -> None:
        """See `Delivery.nack`."""
        if not self._is_answered:
            self._is_answered = True
            self.source.let_go(self)
            self.source.subscription.given_back(self)


class SimulatedSource:
    """The `EventSource` of one process."""

    def __init__(self, subscription: "Subscription", process: "SimulatedProcess") -> None:
        self.subscription = subscription
        self.process = process
        self.is_paused = False
        self.is_closed = False
        self._ready: deque[SimulatedDelivery] = deque()
        self._held: dict[SimulatedDelivery, None] = {}
        self._waiting: asyncio.Future[None] | None = None
        subscription.sources.append(self)

    @property
    def is_pulling(self) -> bool:
        """Whether a message that is delivered now would come here."""
        return self.process.is_running and not (self.is_paused or self.is_closed)

    def hand_over(self, delivery: SimulatedDelivery) -> None:
        """A pull brings a message."""
        self._ready.append(delivery)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def receive(self) -> Sequence[SimulatedDelivery]:
        """See `EventSource.receive`."""
        while not self._ready:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        batch = list(self._ready)
        self._ready.clear()
        self._held |= dict.fromkeys(batch)
        return batch

    def let_go(self, delivery: SimulatedDelivery) -> None:
        """It was answered for."""
        self._held.pop(delivery, None)

    def pause(self) -> None:
        """See `EventSource.pause`."""
        self.is_paused = True

    def resume(self) -> None:
        """See `EventSource.resume`."""
        self.is_paused = False

    def stop(self) -> None:
        """See `EventSource.stop`."""
        self.is_closed = True
        while self._ready:
            self._ready.popleft().nack()

    async def aclose(self) -> None:
        """See `EventSource.aclose`."""
        self.stop()
        for delivery in list(self._held):
            delivery.nack()


class Subscription:
    """
    The topic and its one subscription.

    Attributes:
        has_dead_letters: See `tests.simulation.swarm.Swarm`.

        outstanding: Messages that were published and not settled.

        sources: Of the processes, dead ones included.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._loop = world.loop
        self._published = 0
        self.has_dead_letters = world.swarm.has_dead_letters
        self.outstanding: dict[str, Message] = {}
        self.sources: list[SimulatedSource] = []

    def publish(self, data: bytes, *, message_id: str | None = None, after_s: float = 0.05, what: str = "") -> None:
        """Let a message be delivered, once at least."""
        world, tape = self._world, self._world.tape
        if not world.swarm.has_source:
            return
        self._published += 1
        message = Message(message_id or f"m{self._published}", data, world.time_of_day())
        self.outstanding[message.message_id] = message
        if world.is_faulty and tape.chance("delay", world.swarm.delayed):
            after_s += tape.pick("delay by", DELAYS_S)
        world.note("topic", f"{message.message_id} published: {what}")
        self._loop.later(after_s, self._deliver, message)
        if world.is_faulty and tape.chance("duplicate", world.swarm.duplicated):
            world.count("duplicate message")
            self._loop.later(after_s + tape.pick("duplicate after", DELAYS_S), self._deliver, message)

    def _deliver(self, message: Message) -> None:
        world = self._world
        if self._loop.time() < world.topic_back_at:
            self._loop.later(world.topic_back_at - self._loop.time(), self._deliver, message)
            return
        pulling = [source for source in self.sources if source.is_pulling]
        if not pulling:
            self._loop.later(5.0, self._deliver, message)
            return
        if message.is_settled:
            world.count("redelivery after ack")
        source = pulling[world.tape.draw("deliver to", len(pulling))]
        message.deliveries += 1
        delivery = SimulatedDelivery(source, message, self._loop.time())
        message.holder = delivery
        world.note("topic", f"{message.message_id} to {source.process.name}")
        source.hand_over(delivery)
        self._loop.later(DEADLINE_S, self._deadline, delivery)

    def _deadline(self, delivery: SimulatedDelivery) -> None:
        message = delivery.message
        if message.is_settled or message.holder is not delivery:
            return
        if delivery.source.process.is_running and self._loop.time() - delivery.since < HOLD_S:
            self._loop.later(DEADLINE_S, self._deadline, delivery)  # its client has extended the lease
            return
        self._world.count("redelivery at the deadline")
        self._deliver(message)

    def acknowledged(self, delivery: SimulatedDelivery, process: "SimulatedProcess") -> None:
        """A process says that what the message said is committed, or needs nothing."""
        world, message = self._world, delivery.message
        if world.is_over:
            return
        world.note(process.name, f"acknowledges {message.message_id}")
        world.oracle.acknowledged(message.data)
        if world.is_faulty and world.tape.chance("ack lost", world.swarm.ack_lost):
            world.count("ack lost")
            self._loop.later(DEADLINE_S, self._deliver, message)
            return
        message.is_settled = True
        self.outstanding.pop(message.message_id, None)

    def given_back(self, delivery: SimulatedDelivery) -> None:
        """A process wants the message to come again."""
        world, message = self._world, delivery.message
        if world.is_over or message.is_settled:
            return
        world.count("nack")
        message.holder = None
        is_poison = self.has_dead_letters and message.data in world.oracle.poison
        if message.returns >= RETURNS_MAX and (is_poison or world.oracle.is_of_nothing(message.data)):
            world.count("dead letter" if is_poison else "cancel of no run")
            message.is_settled = True
            self.outstanding.pop(message.message_id, None)
            return
        pause_s = RETURN_S[min(message.returns, 1)]
        message.returns += 1
        self._loop.later(pause_s, self._deliver, message)
