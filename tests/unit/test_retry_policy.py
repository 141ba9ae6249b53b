"""The retry policy of a task: which failures it covers, and how long it waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.model.failure import Failure
from aiorch.model.retry import RetryPolicy, covers


@pytest.mark.parametrize("failure_type", ["ValueError", "Timeout", "HTTP 404", "Lost", ""])
def test_no_list_covers_everything(failure_type):
    """A policy that names no failure types retries all of them."""
    assert covers((), Failure.of(failure_type, ""))


@pytest.mark.parametrize("name", ["HTTP 503", "503", "5xx"])
def test_names_of_an_http_status(name):
    """A failed call is covered under its full name, its status and its class of statuses."""
    assert covers(("ValueError", name), Failure.of("HTTP 503", ""))


@pytest.mark.parametrize("name", ["502", "HTTP 502", "4xx", "50", "HTTP", "xx", "503x", "Timeout"])
def test_other_names_do_not_cover_an_http_status(name):
    """Neither another status nor a part of the name covers a failed call."""
    assert not covers((name,), Failure.of("HTTP 503", ""))


@pytest.mark.parametrize("name", ["Timeout", "504", "5xx", "HTTP 504"])
def test_gateway_timeout_is_a_timeout(name):
    """504 is how the platform says that a function took too long, so ``Timeout`` covers it."""
    assert covers((name,), Failure.of("HTTP 504", ""))


def test_other_types_match_exactly():
    """A failure that is no HTTP status is covered by its own name only."""
    on = ("Timeout", "5xx")
    assert covers(on, Failure.of("Timeout", ""))
    assert not covers(on, Failure.of("TimeoutError", ""))
    assert not covers(on, Failure.of("5", ""))
    assert not covers(on, Failure.of("503", ""))


def test_delays_grow_to_the_cap():
    """Each delay is the one before it times the backoff, up to the longest allowed."""
    policy = RetryPolicy(initial_delay=1.0, backoff=2.0, max_delay=10.0, jitter=0.0)
    assert [policy.delay_s(n, "key") for n in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_thousand_failures_do_not_overflow():
    """The delay after very many failures is the cap, where the bare power would be no number any more."""
    assert RetryPolicy(max_delay=300.0, jitter=0.0, backoff=10.0).delay_s(5000, "key") == 300.0


@given(failures=st.integers(1, 100), jitter=st.floats(0, 1), seed=st.text())
def test_jitter_is_bounded_and_deterministic(failures, jitter, seed):
    """Jitter takes off at most its share of the delay, and the same amount in every process."""
    policy = RetryPolicy(initial_delay=2.0, backoff=3.0, max_delay=60.0, jitter=jitter)
    full = RetryPolicy(initial_delay=2.0, backoff=3.0, max_delay=60.0, jitter=0.0).delay_s(failures, seed)
    delay = policy.delay_s(failures, seed)
    assert full * (1 - jitter) <= delay <= full
    assert delay == policy.delay_s(failures, seed)


def test_jitter_spreads():
    """Executions that fail together do not come back together."""
    policy = RetryPolicy(initial_delay=100.0, jitter=0.5)
    delays = [policy.delay_s(1, f"key {n}") for n in range(200)]
    assert len(set(delays)) == 200
    assert min(delays) < 60
    assert max(delays) > 90
