"""The Pub/Sub source against a server in this process that fails as ordered."""

import asyncio
import inspect
import json
import logging
import os
from contextlib import aclosing

import pytest
from gcloud.aio.pubsub import subscriber_client

from aiorch.sources import leases, pubsub, pubsub_api
from aiorch.sources.publish import PublishError, publish
from aiorch.sources.pubsub import PubSubSource
from aiorch.sources.pubsub_api import ResourceNameError
from tests.deliveries import receive
from tests.documentation import named, rows, section
from tests.fakes.pubsub import SUBSCRIPTION, TOPIC, fake_pubsub


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No credentials of this machine, and no pauses that a test would have to sit through."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setattr(pubsub, "GATHER_S", 0.002)
    monkeypatch.setattr(pubsub, "OPEN_PULL_GRACE_S", 0.0)
    monkeypatch.setattr(pubsub_api, "BACK_OFF_S", 0.001)


@pytest.fixture
async def fake(monkeypatch):
    """The server, found as an emulator is."""
    async with fake_pubsub() as (fake, address):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        yield fake


def a_source(**settings):
    return aclosing(PubSubSource(SUBSCRIPTION, **settings))


# -- messages --------------------------------------------------------------------------------------------------------


async def test_a_delivery_has_all_that_the_message_has(fake):
    """Content of any bytes, attributes, id and an aware time of publishing arrive as they were sent."""
    content = bytes(range(256)) + "Grüße, 世界".encode()
    (message_id,) = await fake.put(content, kind="start")
    async with a_source() as source:
        (delivery,) = await source.receive()
        assert delivery.data == content
        assert delivery.message_id == message_id
        assert delivery.attributes == {"kind": "start"}
        assert delivery.publish_time.utcoffset() is not None
        assert delivery.delivery_attempt is None


async def test_messages_come_in_order(fake):
    """What one pull brings is handed out in the order in which it came."""
    payloads = [str(number).encode() for number in range(50)]
    await fake.put(*payloads)
    async with a_source(pulls=1) as source:
        assert [each.data for each in await receive(source, 50)] == payloads


async def test_a_cancelled_receive_loses_nothing(fake):
    """Whoever waits for messages may give up at any moment: the next one who asks gets them."""
    async with a_source() as source:
        waiting = asyncio.create_task(source.receive())
        await fake.until(lambda: fake.pulls_open)
        waiting.cancel()
        await asyncio.wait([waiting])
        await fake.put(b"1")
        assert [each.data for each in await source.receive()] == [b"1"]
        assert fake.pulls_open <= 2
        assert fake.ids("modifyAckDeadline", 0) == []


async def test_answers_are_sent_together(fake):
    """Acks of one moment are one request, nacks another, and every id is sent once."""
    await fake.put(*[b"x"] * 40)
    async with a_source() as source:
        deliveries = await receive(source, 40)
        expected = set(fake.outstanding)
        for delivery in deliveries[:30]:
            delivery.ack()
            delivery.nack()  # comes too late
        for delivery in deliveries[30:]:
            delivery.nack()
        await fake.until(lambda: fake.count("acknowledge") and fake.count("modifyAckDeadline"))
        assert fake.count("acknowledge") == fake.count("modifyAckDeadline") == 1
        acked, nacked = fake.ids("acknowledge"), fake.ids("modifyAckDeadline", 0)
        assert (len(acked), len(nacked)) == (30, 10)
        assert set(acked) | set(nacked) == expected


async def test_a_request_names_no_more_ids_than_it_may(fake, monkeypatch):
    """More answers than one request takes are several requests."""
    monkeypatch.setattr(pubsub, "IDS_MAX", 30)
    await fake.put(*[b"x"] * 70)
    async with a_source() as source:
        for delivery in await receive(source, 70):
            delivery.ack()
        await fake.until(lambda: fake.is_done)
    assert sorted(len(each.body["ackIds"]) for each in fake.requests if each.method == "acknowledge") == [10, 30, 30]


# -- limits ----------------------------------------------------------------------------------------------------------


async def test_no_more_messages_than_there_is_room_for(fake):
    """All pulls together never ask for more than is left, and go on when an acknowledgement was sent."""
    await fake.put(*[b"x"] * 10)
    async with a_source(outstanding_messages_max=4, pulls=3) as source:
        first = await receive(source, 4)
        assert (source.outstanding, fake.pulls_open) == (4, 0)
        for delivery in first:
            delivery.ack()
        second = await receive(source, 4)
        assert len(fake.outstanding) == source.outstanding == 4
        for delivery in second:
            delivery.ack()
        assert len(await receive(source, 2)) == 2
        asked = [each.body["maxMessages"] for each in fake.requests if each.method == "pull"]
        assert max(asked) <= 4


async def test_no_pull_above_the_limit_of_bytes(fake):
    """A message that fills the room by its size keeps pulls from being opened until it has gone."""
    await fake.put(b"x" * 1000)
    async with a_source(outstanding_bytes_max=1000, pulls=1) as source:
        (large,) = await source.receive()
        await fake.put(b"small")
        assert fake.count("pull") == 1
        large.ack()
        assert [each.data for each in await source.receive()] == [b"small"]


async def test_a_paused_source_opens_no_pull(fake):
    """While it is paused nothing is pulled, answers go out, and resuming goes on."""
    await fake.put(b"1")
    async with a_source(pulls=1) as source:
        source.pause()
        waiting = asyncio.create_task(source.receive())
        await publish(TOPIC, {})  # time enough for a pull to be opened
        assert fake.count("pull") == 0
        source.resume()
        deliveries = await waiting
        assert len(deliveries) == 2
        await fake.until(lambda: fake.count("pull") == 2)
        source.pause()
        for delivery in deliveries:
            delivery.ack()
        await fake.until(lambda: fake.is_done)


# -- leases ----------------------------------------------------------------------------------------------------------


async def test_leases_of_held_messages_are_extended(fake, monkeypatch):
    """What is held is extended by the time asked for, in one request; what was answered for is not."""
    monkeypatch.setattr(pubsub, "TICK_S", 0.02)
    monkeypatch.setattr(leases, "FIRST_EXTENSION_S", 0.0)
    await fake.put(*[b"x"] * 20)
    async with a_source(ack_deadline_s=12) as source:
        deliveries = await receive(source, 20)
        for delivery in deliveries[:5]:
            delivery.ack()
        await fake.until(lambda: fake.count("acknowledge"))
        await fake.until(lambda: fake.count("modifyAckDeadline"))
        while not (source.extended and source.acked):
            await asyncio.sleep(0)  # the answers are on their way
        acked = set(fake.ids("acknowledge"))
        assert len(acked) == 5
        assert set(fake.ids("modifyAckDeadline", 12)) == set(fake.outstanding)
        assert (source.received, source.acked, source.extended) == (20, 5, 15)
        assert source.oldest_unacked_s > 0


async def test_a_message_held_too_long_is_let_go(fake, monkeypatch, caplog):
    """After the longest time nothing is extended, a warning says so, and a late acknowledgement still goes out."""
    monkeypatch.setattr(pubsub, "TICK_S", 0.001)
    monkeypatch.setattr(leases, "FIRST_EXTENSION_S", 0.0)
    await fake.put(b"x")
    async with a_source(hold_s_max=0.0001) as source:
        with caplog.at_level(logging.WARNING):
            (delivery,) = await source.receive()
            while not source.let_go:
                await asyncio.sleep(0)
        assert "held too long" in caplog.text
        assert source.outstanding == 1
        delivery.ack()
        await fake.until(lambda: fake.is_done)
        assert fake.count("modifyAckDeadline") == 0


# -- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [503, 429, 404, 401, "reset", "garbage"])
async def test_pulling_survives(fake, fault):
    """Whatever a pull meets, several times in a row, the source goes on by itself and gets every message."""
    fake.arm("pull", fault, times=3)
    await fake.put(b"x")
    async with a_source(pulls=1) as source:
        assert [each.data for each in await source.receive()] == [b"x"]
        assert source.pull_errors == 3


async def test_messages_of_a_lost_pull_reply_are_redelivered(fake):
    """A pull whose reply is lost has taken messages with it: they come when their deadlines have passed."""
    fake.arm("pull", "lost reply")
    await fake.put(b"x")
    async with a_source(pulls=1) as source:
        waiting = asyncio.create_task(source.receive())
        await fake.until(lambda: fake.count("pull") == 2)
        await fake.expire()
        assert [each.data for each in await waiting] == [b"x"]
        assert source.received == 1


@pytest.mark.parametrize("method", ["acknowledge", "modifyAckDeadline"])
@pytest.mark.parametrize("fault", [503, 429, 401, "reset", "lost reply"])
async def test_answers_are_sent_again(fake, method, fault):
    """An answer that Pub/Sub did not hear, or was not heard to hear, is sent again until it is."""
    fake.arm(method, fault, times=2)
    await fake.put(b"x")
    async with a_source(pulls=1) as source:
        (delivery,) = await source.receive()
        if method == "acknowledge":
            delivery.ack()
            await fake.until(lambda: fake.count(method) == 3 and fake.is_done)
        else:
            delivery.nack()
            (again,) = await source.receive()
            again.ack()
            await fake.until(lambda: fake.is_done)
            assert again.message_id == delivery.message_id
        assert source.pull_errors == 0


async def test_an_answer_is_given_up_after_some_tries(fake, caplog):
    """Acks that nobody hears are tried a few times and logged; then there is room again, and it comes again."""
    fake.arm("acknowledge", 503, times=pubsub_api.TRIES_MAX)
    await fake.put(b"x")
    async with a_source(outstanding_messages_max=1, pulls=1) as source:
        (delivery,) = await source.receive()
        with caplog.at_level(logging.WARNING):
            delivery.ack()
            await fake.until(lambda: fake.count("pull") == 2)
        assert "answers not confirmed by Pub/Sub" in caplog.text
        assert (source.unheard, source.acked, fake.count("acknowledge")) == (1, 0, pubsub_api.TRIES_MAX)
        await fake.expire()
        (again,) = await source.receive()
        again.ack()
        await fake.until(lambda: fake.is_done)


async def test_an_answer_that_is_refused_is_not_repeated(fake):
    """A request that Pub/Sub calls wrong would be wrong again."""
    fake.arm("acknowledge", 400)
    await fake.put(b"x")
    async with a_source(outstanding_messages_max=1, pulls=1) as source:
        (delivery,) = await source.receive()
        delivery.ack()
        await fake.until(lambda: fake.count("pull") == 2)
        assert (source.unheard, fake.count("acknowledge")) == (1, 1)


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_the_end_gives_back_what_was_not_handed_out(fake):
    """Messages that nobody received go back at once, and what was handed out is acknowledged before the end."""
    await fake.put(b"1")
    source = PubSubSource(SUBSCRIPTION, pulls=1)
    (delivery,) = await source.receive()
    await fake.until(lambda: fake.pulls_open)
    await fake.put(b"2", b"3")
    await fake.until(lambda: source.received == 3)
    delivery.ack()
    await source.aclose()
    assert len(fake.ids("acknowledge")) == 1
    assert len(fake.ids("modifyAckDeadline", 0)) == 2
    assert fake.outstanding == {}


async def test_the_end_gives_back_what_was_not_settled(fake):
    """A message whose handling did not come to an end goes back at once."""
    await fake.put(b"1")
    async with a_source() as source:
        await source.receive()
    assert len(fake.ids("modifyAckDeadline", 0)) == 1
    assert fake.outstanding == {}


async def test_a_stopped_source_still_takes_answers(fake):
    """Between stop and end, no pull is opened, what an open one brings goes back, and answers are sent."""
    await fake.put(b"1")
    source = PubSubSource(SUBSCRIPTION, pulls=1)
    (delivery,) = await source.receive()
    await fake.until(lambda: fake.pulls_open)
    source.stop()
    await fake.put(b"2")
    await fake.until(lambda: fake.ids("modifyAckDeadline", 0))
    delivery.ack()
    await fake.until(lambda: fake.ids("acknowledge"))
    await source.aclose()
    assert fake.count("pull") == 2
    assert fake.outstanding == {}


async def test_the_end_waits_for_an_open_pull(fake, monkeypatch):
    """A pull whose messages are on their way when the end begins is waited for, and they go back."""
    monkeypatch.setattr(pubsub, "OPEN_PULL_GRACE_S", 5.0)
    fake.gate.clear()
    await fake.put(b"1")
    source = PubSubSource(SUBSCRIPTION, pulls=1)
    waiting = asyncio.create_task(source.receive())
    await fake.until(lambda: fake.outstanding)
    waiting.cancel()
    ending = asyncio.create_task(source.aclose(deadline_s=20))
    await asyncio.sleep(0)
    fake.gate.set()
    await ending
    assert len(fake.ids("modifyAckDeadline", 0)) == 1
    assert fake.outstanding == {}


async def test_the_end_comes_in_time(fake, caplog):
    """When Pub/Sub hears nothing any more, the end does not wait longer than it may, and says what it left."""
    fake.arm("acknowledge", 503, times=10**6)
    await fake.put(b"1")
    source = PubSubSource(SUBSCRIPTION)
    (delivery,) = await source.receive()
    delivery.ack()
    await fake.until(lambda: fake.count("acknowledge"))
    with caplog.at_level(logging.WARNING):
        await source.aclose(deadline_s=0)
    assert "closed before Pub/Sub confirmed every answer" in caplog.text


async def test_a_source_that_was_never_used_ends_at_once(fake):
    """There is nothing to end, and ending twice is no error."""
    source = PubSubSource(SUBSCRIPTION)
    await source.aclose()
    await source.aclose()
    assert fake.requests == []


# -- settings and credentials ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["outstanding_messages_max", "outstanding_bytes_max", "hold_s_max", "pulls"])
def test_a_limit_of_nothing_is_refused(setting):
    """A source that could receive nothing is not made."""
    with pytest.raises(ValueError, match="no message could be received"):
        PubSubSource(SUBSCRIPTION, **{setting: 0})


@pytest.mark.parametrize("seconds", [9, 601])
def test_a_deadline_that_pubsub_does_not_take_is_refused(seconds):
    """Deadlines are those that Pub/Sub knows."""
    with pytest.raises(ValueError, match="10 to 600"):
        PubSubSource(SUBSCRIPTION, ack_deadline_s=seconds)


def test_a_subscription_has_a_full_name():
    """A short name is refused when the source is made, not when it is used."""
    with pytest.raises(ResourceNameError, match="projects/PROJECT/subscriptions/NAME"):
        PubSubSource("events")


def test_every_limit_is_documented():
    """The table of limits has every setting of the source, with its default, and no others."""
    settings = inspect.signature(PubSubSource).parameters.values()
    defaults = {each.name: each.default for each in settings if isinstance(each.default, int | float)}
    table = rows(section("docs/pubsub.md", "Limits"))
    assert {named(row[0])[0]: int(named(row[1])[0]) for row in table} == defaults


async def test_a_refused_token_is_replaced(fake, monkeypatch):
    """Requests carry an access token, and the one after a 401 another one."""

    class Tokens:
        def __init__(self, session):
            self.number = 1

        async def get(self):
            return f"token-{self.number}"

        def drop(self):
            self.number += 1

        async def aclose(self):
            pass

    address = os.environ["PUBSUB_EMULATOR_HOST"]
    monkeypatch.setattr(subscriber_client, "init_api_root", lambda *_: (False, f"http://{address}/v1"))
    monkeypatch.setattr(pubsub_api, "AccessToken", Tokens)
    fake.arm("pull", 401)
    fake.arm("acknowledge", 401)
    await fake.put(b"x")
    async with a_source(pulls=1) as source:
        (delivery,) = await source.receive()
        delivery.ack()
        await fake.until(lambda: fake.is_done)
    sent = [(each.method, each.authorization) for each in fake.requests]
    assert sent[:2] == [("pull", "Bearer token-1"), ("pull", "Bearer token-2")]
    acknowledged = [authorization for method, authorization in sent if method == "acknowledge"]
    assert acknowledged == ["Bearer token-2", "Bearer token-3"]


# -- publishing ------------------------------------------------------------------------------------------------------


async def test_published_message_is_received_unchanged(fake):
    """A message goes out as JSON, its id is that of the delivery, and nothing is escaped on the way."""
    message = {"resource": {"type": "start", "labels": {"dag": "etl"}}, "parameters": {"tag": "Grüße ?>~ 世界"}}
    message_id = await publish(TOPIC, message)
    async with a_source() as source:
        (delivery,) = await source.receive()
        assert delivery.message_id == message_id
        assert json.loads(delivery.data) == message


@pytest.mark.parametrize(("fault", "is_refused"), [(403, True), (503, False), ("reset", False), ("lost reply", False)])
async def test_a_message_is_published_once(fake, fault, is_refused):
    """Trouble is an error that says whether the message may be there; nothing is sent twice by itself."""
    fake.arm("publish", fault)
    with pytest.raises(PublishError, match="did not accept the message") as caught:
        await publish(TOPIC, {})
    assert caught.value.is_refused is is_refused
    assert fake.count("publish") == 1


async def test_publishing_without_a_connection_is_known_to_fail(monkeypatch, unused_tcp_port):
    """Without a connection the message is known not to be published."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{unused_tcp_port}")
    with pytest.raises(PublishError, match="was not published"):
        await publish(TOPIC, {})


async def test_a_topic_has_a_full_name():
    """A subscription's name is no topic's."""
    with pytest.raises(ResourceNameError, match="projects/PROJECT/topics/NAME"):
        await publish(SUBSCRIPTION, {})
