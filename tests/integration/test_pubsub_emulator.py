"""The Pub/Sub source against the official emulator, by itself and as the intake of an engine."""

import asyncio
import time
from contextlib import AsyncExitStack, aclosing

import pytest

from aiorch import Orchestrator
from aiorch.intake.intake import Intake
from aiorch.sources import pubsub
from aiorch.sources.publish import PublishError, publish
from aiorch.sources.pubsub import PubSubSource
from tests.deliveries import receive

pytest_plugins = ["tests.pubsub_emulator"]

DEADLINE_S = 10
"""Of every subscription here: what comes again much sooner was given back."""


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    """Nobody publishes at the end of a test, so open pulls need not be waited for."""
    monkeypatch.setattr(pubsub, "OPEN_PULL_GRACE_S", 0.0)


def a_source(topic, **settings):
    return aclosing(PubSubSource(topic.subscription, **settings))


async def until(condition):
    """Wait for something that the source learns from an answer."""
    while not condition():
        await asyncio.sleep(0.001)


async def test_acknowledged_message_is_not_redelivered(topic):
    """A message arrives as it was published; after its ack only the next one comes, to whoever asks."""
    content = bytes(range(256)) + "Grüße, 世界".encode()
    (first,) = await topic.publish(content, kind="start")
    async with a_source(topic) as source:
        (delivery,) = await source.receive()
        assert (delivery.data, delivery.message_id) == (content, first)
        assert delivery.attributes == {"kind": "start"}
        assert abs(delivery.publish_time.timestamp() - time.time()) < 60
        delivery.ack()
        await until(lambda: source.acked)
        (second,) = await topic.publish(b"2")
        (delivery,) = await source.receive()
        assert delivery.message_id == second


async def test_nacked_message_is_redelivered(topic):
    """A message that was given back comes again, as another delivery."""
    (message_id,) = await topic.publish(b"x")
    async with a_source(topic) as source:
        (first,) = await source.receive()
        first.nack()
        (again,) = await source.receive()
        assert again.message_id == message_id
        assert again.publish_time == first.publish_time
        again.ack()
        await until(lambda: source.acked)
        assert (source.received, source.nacked) == (2, 1)


async def test_a_thousand_messages(topic):
    """A thousand messages come in batches, once each, and are acknowledged, with room for a few hundred at a time."""
    published = [each for start in range(10) for each in await topic.publish(*[b"%d" % start] * 100)]
    received = []
    async with a_source(topic, outstanding_messages_max=300) as source:
        while len(received) < 1000:
            batch = await source.receive()
            received += [delivery.message_id for delivery in batch]
            for delivery in batch:
                delivery.ack()
            assert source.outstanding <= 300
        await until(lambda: source.acked == 1000)
    assert sorted(received) == sorted(published)


async def test_sources_share_a_subscription(topic):
    """Several sources of one subscription get every message once among them."""
    async with AsyncExitStack() as stack:
        sources = [await stack.enter_async_context(a_source(topic, pulls=1)) for _ in range(3)]
        received = []

        async def work(source):
            while True:
                for delivery in await source.receive():
                    received.append(delivery.message_id)
                    delivery.ack()

        workers = [asyncio.create_task(work(source)) for source in sources]
        published = [each for _ in range(20) for each in await topic.publish(*[b"x"] * 10)]
        await until(lambda: sum(source.acked for source in sources) == 200)
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
    assert sorted(received) == sorted(published)


async def test_the_end_gives_messages_back(topic):
    """What a closed source had not handed out, or not settled, comes to the next one."""
    published = await topic.publish(*[b"x"] * 50)
    first = PubSubSource(topic.subscription, pulls=1)
    held = await first.receive()
    await until(lambda: first.received == 50)
    assert held
    await first.aclose()
    async with a_source(topic) as second:
        received = await receive(second, 50)
        assert sorted(each.message_id for each in received) == sorted(published)
        for delivery in received:
            delivery.ack()


async def test_a_topic_that_does_not_exist(topic):
    """Publishing to nowhere says what was not done."""
    with pytest.raises(PublishError, match="was not published") as caught:
        await publish("projects/tests/topics/nowhere", {})
    assert caught.value.is_refused


@pytest.mark.slow
async def test_a_lease_lasts_as_long_as_the_message_is_held(topic):
    """A message held for longer than its deadline is not delivered to anybody else; let go of, it is."""
    await topic.publish(b"x")
    async with a_source(topic, outstanding_messages_max=1, pulls=1, ack_deadline_s=10, hold_s_max=15) as holder:
        started = time.monotonic()
        await holder.receive()
        async with a_source(topic) as other:
            (delivery,) = await other.receive()
            assert time.monotonic() - started > DEADLINE_S * 1.5
            assert (holder.let_go, delivery.data) == (1, b"x")
            assert holder.extended >= 2
            delivery.ack()
            await until(lambda: other.acked)


async def test_start_messages_start_runs(topic):
    """Start messages, each sent twice under its run id, start one run each; in the end all are acknowledged."""
    done = []
    definition = {
        "name": "etl",
        "start": "Work",
        "steps": {"Work": {"type": "Task", "target_type": "Function", "target_name": "tests:work", "end": True}},
    }
    async with (
        Orchestrator("memory:", functions={"tests:work": lambda context: done.append(context.input)}) as orchestrator,
        a_source(topic) as source,
    ):
        orchestrator.serve_dag(definition)
        intake = Intake(orchestrator._executor, source)
        receiving = asyncio.create_task(intake.run())
        for number in [*range(20), *range(20)]:
            labels = {"dag": "etl", "run_id": f"run-{number}"}
            await publish(topic.name, {"resource": {"type": "start", "labels": labels}, "parameters": {"n": number}})
        await until(lambda: source.acked == 40)
        for number in range(20):
            await (await orchestrator.attach(f"run-{number}")).wait()
        receiving.cancel()
        await asyncio.wait([receiving])
        assert len(await orchestrator.runs()) == 20
        assert (source.outstanding, source.nacked) == (0, 0)
    assert sorted(each["n"] for each in done) == list(range(20))
