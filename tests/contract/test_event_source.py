"""What the simulated subscription and the official emulator do alike, seen through an `EventSource`."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import NamedTuple

import pytest

from aiorch.ports.source import EventSource
from aiorch.sources import pubsub
from aiorch.sources.pubsub import PubSubSource
from tests.deliveries import receive
from tests.simulation.standalone import standalone_source, standalone_subscription

pytest_plugins = ["tests.pubsub_emulator"]


class Subscription(NamedTuple):
    """A subscription of one test: publish to it, and open sources of it."""

    publish: Callable[..., Awaitable[None]]
    open: Callable[[], EventSource]


@pytest.fixture(params=["simulated", "emulator"])
def subscription(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Subscription:
    if request.param == "simulated":
        simulated = standalone_subscription()

        async def publish(*payloads: bytes) -> None:
            for payload in payloads:
                simulated.publish(payload)

        return Subscription(publish, lambda: standalone_source(simulated))
    monkeypatch.setattr(pubsub, "OPEN_PULL_GRACE_S", 0.0)
    topic = request.getfixturevalue("topic")
    return Subscription(topic.publish, lambda: PubSubSource(topic.subscription, pulls=1))


async def test_a_message_comes_as_it_was_published(subscription: Subscription) -> None:
    """Its content is bytes of any value, it has an id, and an aware time of publishing."""
    content = bytes(range(256))
    async with aclosing(subscription.open()) as source:
        await subscription.publish(content)
        (delivery,) = await source.receive()
        assert delivery.data == content
        assert delivery.message_id
        assert delivery.publish_time.tzinfo is not None
        assert dict(delivery.attributes) == {}
        assert delivery.delivery_attempt is None
        delivery.ack()


async def test_acknowledged_message_is_not_redelivered(subscription: Subscription) -> None:
    """After its ack only the next message comes, and it has another id."""
    async with aclosing(subscription.open()) as source:
        await subscription.publish(b"1")
        (first,) = await source.receive()
        first.ack()
        await subscription.publish(b"2")
        (second,) = await source.receive()
        assert second.data == b"2"
        assert second.message_id != first.message_id
        second.ack()


async def test_nacked_message_is_redelivered_unchanged(subscription: Subscription) -> None:
    """Same id, same content, same time of publishing; the first answer to a delivery counts."""
    async with aclosing(subscription.open()) as source:
        await subscription.publish(b"x")
        (first,) = await source.receive()
        first.nack()
        first.ack()
        (again,) = await source.receive()
        facts = [(each.message_id, each.data, each.publish_time) for each in (first, again)]
        assert facts[0] == facts[1]
        again.ack()


async def test_several_sources_get_every_message_once_among_them(subscription: Subscription) -> None:
    """No message that is held comes to anybody else."""
    async with aclosing(subscription.open()) as one, aclosing(subscription.open()) as two:
        received: list[bytes] = []
        is_complete = asyncio.Event()

        async def work(source: EventSource) -> None:
            while True:
                for delivery in await source.receive():
                    received.append(delivery.data)
                    delivery.ack()
                    if len(received) == 40:
                        is_complete.set()

        workers = [asyncio.create_task(work(source)) for source in (one, two)]
        for start in range(0, 40, 10):
            await subscription.publish(*(b"%d" % number for number in range(start, start + 10)))
        await is_complete.wait()
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
    assert sorted(received) == sorted(b"%d" % number for number in range(40))


async def test_the_end_of_a_source_gives_back_what_it_holds(subscription: Subscription) -> None:
    """What a closed source had not handed out, or not settled, comes to the next one."""
    first = subscription.open()
    await subscription.publish(*[b"x"] * 20)
    held = await first.receive()
    await first.aclose()
    assert held
    async with aclosing(subscription.open()) as second:
        for delivery in await receive(second, 20):
            delivery.ack()


async def test_a_source_that_was_stopped_brings_nothing_more(subscription: Subscription) -> None:
    """Messages that come after its stop go to the others."""
    async with aclosing(subscription.open()) as stopped, aclosing(subscription.open()) as other:
        stopped.stop()
        await subscription.publish(*[b"x"] * 5)
        for delivery in await receive(other, 5):
            delivery.ack()
