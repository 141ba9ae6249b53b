"""Leases: room for messages, extensions, and the end of patience. Time is passed in."""

from itertools import pairwise

import pytest

from aiorch.sources.leases import FIRST_EXTENSION_S, Leases
from aiorch.sources.pubsub_api import BACK_OFF_S_MAX, ResourceNameError, back_off_s, check_name


def some_leases(**changes):
    return Leases(**{"messages_max": 4, "bytes_max": 100, "ack_deadline_s": 60, "hold_s_max": 600, **changes})


def ids(leases):
    return [lease.ack_id for lease in leases]


def test_room_is_bounded_by_messages():
    """Room is what is left of the limit, and comes back when the answer was sent, not when it was given."""
    leases = some_leases()
    taken = [leases.take(f"a{number}", 1, 0) for number in range(4)]
    assert leases.room() == 0
    leases.settle(taken[0])
    assert leases.room() == 0
    leases.release(taken[:1])
    assert (leases.room(), leases.messages, leases.bytes) == (1, 3, 3)


def test_room_is_bounded_by_bytes():
    """A large message closes the door for all others until it has gone."""
    leases = some_leases()
    large = leases.take("a1", 100, 0)
    assert leases.room() == 0
    leases.settle(large)
    leases.release([large])
    assert leases.room() == 4


def test_the_first_answer_counts():
    """A message is settled once."""
    leases = some_leases()
    lease = leases.take("a1", 1, 0)
    assert leases.settle(lease)
    assert not leases.settle(lease)


def test_extensions_come_before_every_deadline():
    """However jitter falls, a held lease is extended before the first deadline of 10 s, and well within each further
    one, in half of the time that it lasts or so."""
    for jitter in (0.0, 0.5, 0.999):
        leases = some_leases()
        lease = leases.take("a1", 1, 0)
        extended = [(now, lease.lasts_s) for now in range(600) if leases.due(now, jitter).extend]
        assert extended[0] == (FIRST_EXTENSION_S, 15)
        for (before, lasts_s), (after, _) in pairwise(extended):
            assert lasts_s * 0.4 <= after - before <= lasts_s * 0.6 + 1


def test_leases_grow_with_the_time_that_a_message_is_held():
    """A crash costs what was held for seconds some seconds, and only what was held long the whole deadline."""
    for whole_s, lengths in ((60, [15, 30, 60, 60]), (20, [15, 20, 20]), (10, [10, 10])):
        leases = some_leases(ack_deadline_s=whole_s)
        lease = leases.take("a1", 1, 0)
        extended = [lease.lasts_s for now in range(600) if leases.due(now, 0.5).extend]
        assert extended[: len(lengths)] == lengths


def test_only_what_is_held_is_extended():
    """What was answered for is not extended, though the answer may not be sent yet."""
    leases = some_leases()
    kept, answered = leases.take("a1", 1, 0), leases.take("a2", 1, 0)
    leases.settle(answered)
    assert leases.due(5, 0).extend == [kept]


def test_those_extended_together_stay_together():
    """Leases that came at different times are one batch after their first common extension."""
    leases = some_leases()
    for number in range(3):
        leases.take(f"a{number}", 1, number / 2)
    assert ids(leases.due(6, 0.3).extend) == ["a0", "a1", "a2"]
    assert leases.due(12, 0.3).extend == []
    assert ids(leases.due(13, 0.3).extend) == ["a0", "a1", "a2"]


def test_a_message_held_too_long_is_let_go_once():
    """After the longest time a lease is extended no more, is named once, and still takes up room."""
    leases = some_leases(hold_s_max=100)
    lease = leases.take("a1", 1, 0)
    let_go = [now for now in range(300) if leases.due(now, 0).let_go]
    assert len(let_go) == 1
    assert 100 <= let_go[0] <= 130
    assert leases.due(10_000, 0) == ([], [])
    assert leases.messages == 1
    assert leases.settle(lease)


def test_the_oldest_is_the_one_without_an_answer():
    """The age is that of the oldest message that nobody has answered for."""
    leases = some_leases()
    first = leases.take("a1", 1, 10)
    leases.take("a2", 1, 30)
    assert leases.oldest_s(50) == 40
    leases.settle(first)
    assert leases.oldest_s(50) == 20
    assert some_leases().oldest_s(50) == 0


def test_pauses_grow_up_to_a_limit():
    """Back-off doubles, is spread over half of its length, and is bounded however long the trouble lasts."""
    assert [back_off_s(failures, 0.99999) for failures in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.4], rel=0.01)
    assert back_off_s(1, 0) == 0.05
    assert back_off_s(10**6, 0.99999) == pytest.approx(BACK_OFF_S_MAX, rel=0.01)


@pytest.mark.parametrize(
    "name",
    [
        "events",
        "projects/p/topics/events",
        "projects/p/subscriptions/",
        "projects/p/subscriptions/9lives",
        "projects/p/subscriptions/ev",
        "projects/p/subscriptions/a/../b",
        "projects/p/subscriptions/events:pull",
        "projects/p/subscriptions/events?x",
        "projects/p/subscriptions/events\n",
    ],
)
def test_a_subscription_is_named_in_full(name):
    """A name that would reach another address is refused, and the error says how names look."""
    with pytest.raises(ResourceNameError, match=r"projects/PROJECT/subscriptions/NAME"):
        check_name("subscription", name)


def test_projects_of_domains_have_names():
    """A project that belongs to a domain has a colon in its id."""
    name = "projects/example.com:p-1/subscriptions/ev%41-1.x_y~z+"
    assert check_name("subscription", name) == name
