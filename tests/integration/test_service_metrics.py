"""The metrics of the service, scraped over HTTP after real runs."""

import asyncio
from collections import Counter

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiorch import Orchestrator, Settings, __version__
from aiorch.service.metrics import Metrics
from aiorch.sources.pubsub import PubSubSource
from aiorch.web.server import listening, make_app
from tests.fakes.pubsub import SUBSCRIPTION, fake_pubsub

DAG = {
    "name": "two",
    "start": "Fine",
    "steps": {
        "Fine": {"type": "Task", "target_type": "Function", "target_name": "t:fine", "next": "Broken"},
        "Broken": {"type": "Task", "target_type": "Function", "target_name": "t:broken", "end": True},
    },
}
START = {"resource": {"type": "start", "labels": {"dag": "two", "run_id": "r1"}}}


def fine(context):
    return 1


def broken(context):
    raise ValueError("no good")


def orchestrator(metrics, **options):
    functions = {"t:fine": fine, "t:broken": broken}
    settings = Settings(drain_s=0, sweep_interval_s=0.05)
    return Orchestrator("memory:", dags=[DAG], functions=functions, observer=metrics, settings=settings, **options)


async def scrape(app, **headers):
    """Return every sample by its name and labels, as a scraper reads it."""
    async with (
        listening(app, "127.0.0.1", 0) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/metrics", headers=headers) as response,
    ):
        assert response.status == 200
        assert response.content_type == "text/plain"
        families = text_string_to_metric_families(await response.text())
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }


def make_metrics_app(orchestrator, metrics, **options):
    app = make_app(orchestrator, **options)
    app.router.add_get("/metrics", metrics.scrape)
    return app


async def test_a_run_is_counted():
    """A start message, its run of two tasks, and a message that is none are counted by kind, target and outcome."""
    metrics = Metrics()
    async with orchestrator(metrics) as opened:
        operations = Counter()
        metrics.watch(opened, store_operations=operations)
        operations["A"] += 3
        opened.publish(START)
        opened.publish({"resource": {"type": "something"}})
        while not await opened.runs():
            await asyncio.sleep(0)
        await (await opened.attach("r1")).wait()
        found = await scrape(make_metrics_app(opened, metrics))
    assert found["aiorch_messages_total", "applied", "start"] == 1
    assert found["aiorch_messages_total", "foreign", "other"] == 1
    assert found["aiorch_message_duration_seconds_count", "start"] == 1
    assert found["aiorch_launches_total", "Function"] == 2
    assert found["aiorch_launches_total", "Dataflow"] == 0
    assert found["aiorch_answers_total", "Function", "succeeded"] == 1
    assert found["aiorch_answers_total", "Function", "failed"] == 1
    assert found["aiorch_execution_duration_seconds_count", "Function"] == 2
    assert found["aiorch_commits_total",] >= 2
    assert found["aiorch_events_total",] >= 3
    assert found["aiorch_commit_duration_seconds_count",] == found["aiorch_commits_total",]
    assert found["aiorch_conflicts_total",] == 0
    assert found["aiorch_store_operations_total", "A"] == 3
    assert found["aiorch_build_info", __version__] == 1
    assert found["process_open_fds",] > 0


async def test_open_runs_are_those_of_the_last_look():
    """The gauge is not there before the first look, and then tells what the last one found, without one of its own."""
    metrics = Metrics()
    opened = orchestrator(metrics)
    metrics.watch(opened)
    assert ("aiorch_open_runs",) not in await scrape(make_metrics_app(opened, metrics))
    async with opened:
        assert (await scrape(make_metrics_app(opened, metrics)))["aiorch_open_runs",] == 0
        opened._sweeper.open_runs = 7
        assert opened.open_runs == 7
        assert (await scrape(make_metrics_app(opened, metrics)))["aiorch_open_runs",] == 7


async def test_metrics_are_behind_the_guard():
    """With a token set, a scraper needs it like everybody else."""
    metrics = Metrics()
    async with orchestrator(metrics) as opened:
        app = make_metrics_app(opened, metrics, token="t0ken", only_loopback_names=False)
        async with (
            listening(app, "127.0.0.1", 0) as url,
            aiohttp.ClientSession() as session,
            session.get(f"{url}/metrics") as response,
        ):
            assert response.status == 401
        assert ("aiorch_commits_total",) in await scrape(
            make_metrics_app(opened, metrics, token="t0ken", only_loopback_names=False), Authorization="Bearer t0ken"
        )


async def test_engines_do_not_share_their_counts():
    """Two engines in one process have metrics of their own."""
    first, second = Metrics(), Metrics()
    first.conflicted()
    assert first.registry.get_sample_value("aiorch_conflicts_total") == 1
    assert second.registry.get_sample_value("aiorch_conflicts_total") == 0


async def test_subscription_gauges_are_read_at_each_scrape(monkeypatch):
    """Messages that are held, their age, and what became of leases are read from the source at each scrape."""
    async with fake_pubsub() as (fake, address):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        metrics, source = Metrics(), PubSubSource(SUBSCRIPTION)
        opened = orchestrator(metrics)
        metrics.watch(opened, messages=source)
        await fake.put(b"1", b"2")
        held = []
        while len(held) < 2:
            held += await source.receive()
        app = make_metrics_app(opened, metrics)
        found = await scrape(app)
        assert found["aiorch_outstanding_messages",] == 2
        assert found["aiorch_oldest_unacked_seconds",] > 0
        assert found["aiorch_deliveries_total", "received"] == 2
        assert (found["aiorch_paused",], found["aiorch_pull_errors_total",]) == (0, 0)
        source.pause()
        held[0].ack()
        await fake.until(lambda: fake.count("acknowledge"))
        while source.acked != 1:
            await asyncio.sleep(0)
        found = await scrape(make_metrics_app(opened, metrics))
        assert found["aiorch_paused",] == 1
        assert found["aiorch_deliveries_total", "acked"] == 1
        assert found["aiorch_outstanding_messages",] == 1
        await source.aclose()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_both_formats_are_spoken(accept):
    """A scraper gets the format that it asks for."""
    metrics = Metrics()
    opened = orchestrator(metrics)
    async with (
        listening(make_metrics_app(opened, metrics), "127.0.0.1", 0) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/metrics", headers={"Accept": accept}) as response,
    ):
        assert response.content_type == ("application/openmetrics-text" if accept else "text/plain")
        assert "aiorch_commits" in await response.text()
