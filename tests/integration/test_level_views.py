"""Runs of choices, graphs, waits, handlers and `finally`, as users see them: views, documents, metrics."""

import asyncio
from io import StringIO
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from aiorch import Orchestrator, Settings
from aiorch.service.metrics import Metrics
from aiorch.views.follow import PlainView, follow
from aiorch.views.graph import render
from aiorch.views.report import headline
from aiorch.web.server import listening, make_app
from tests.definitions import chain, parallel, task
from tests.unit.run_examples import needing

DEFINITION: dict[str, Any] = {
    "name": "all",
    "start": "Load",
    "steps": {
        "Load": task("Size", target_name="t:load"),
        "Size": {"type": "Choice", "choices": [{"when": "results.Load.rows > 5", "next": "Big"}], "default": "Small"},
        "Big": task("Pause", target_name="t:load"),
        "Small": task("Pause", target_name="t:broken", catch=[{"on": ["ValueError"], "next": "Pause"}]),
        "Pause": {"type": "Wait", "seconds": 0.05, "next": "Fan"},
        "Fan": parallel(
            {"steps": {"A": needing(target_name="t:load"), "B": needing("A", target_name="t:load")}},
            chain(Once=task(target_name="t:once")),
            retry={"max_attempts": 2, "initial_delay": 0.05},
            next="Mail",
        ),
        "Mail": task(target_name="t:load", when="input.mail"),
    },
    "finally": {"start": "Clean", "steps": {"Clean": task(target_name="t:load")}},
}


def engine(metrics: Metrics) -> Orchestrator:
    tried: list[int] = []

    def load(context: Any) -> Any:
        return {"rows": 3}

    def broken(context: Any) -> Any:
        raise ValueError("no good")

    def once(context: Any) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise OSError("busy")

    functions = {"t:load": load, "t:broken": broken, "t:once": once}
    return Orchestrator("memory:", functions=functions, observer=metrics, settings=Settings(drain_s=0))


async def test_a_run_is_shown_as_it_was() -> None:
    """The log, the picture, the document and the metrics of one run with everything agree."""
    metrics, stream = Metrics(), StringIO()
    async with engine(metrics) as opened:
        run = await opened.start(DEFINITION, run_id="r1", input={"mail": False})
        await follow(run, PlainView(stream, run.dag))
        await run.wait()
        app = make_app(opened)
        app.router.add_get("/metrics", metrics.scrape)
        async with listening(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
            async with session.get(f"{url}/runs/r1") as answer:
                document = await answer.json()
            async with session.get(f"{url}/metrics") as answer:
                families = text_string_to_metric_families(await answer.text())
        samples = {
            (each.name, *sorted(each.labels.values())): each.value for family in families for each in family.samples
        }

        said = "\n".join(line.partition(" ")[2] for line in stream.getvalue().splitlines())
        for line in (  # the last ones of their entries: a view may miss those before
            "on to Small",
            "caught, on to Pause: ValueError",
            "Fan Completed (try 2",
            "Fan#2.Once Completed",
            "Mail Skipped: its condition is false: input.mail",
            "Clean Completed",
        ):
            assert line in said
        assert "Big" not in said
        assert headline(run.dag, run.run, run.run.header.updated_at).endswith(
            ": 5 Completed, 1 failure caught, 2 Skipped"
        )
        for format_ in ("svg", "mermaid", "dot"):
            picture = render(run.dag, format_, run.run)
            assert "Failed, caught" in picture
            assert "condition is false" in picture
            assert "try 2" in picture

    assert document["Size"]["went_to"] == "Small"
    assert (document["Small"]["status"], document["Small"]["caught"], document["Small"]["went_to"]) == (
        "Failed", True, "Pause"
    )  # fmt: skip
    assert document["Mail"]["skipped"] == "when"
    assert document["Fan"]["attempt"] == 2
    assert document["Once"]["status"] == "Failed"
    assert document["Fan#2.Once"]["status"] == "Completed"
    assert document["$run"]["finally"]["outcome"] == "Completed"

    launched = {name for name in samples if name[0] == "aiorch_launches_total" and samples[name]}
    assert launched == {("aiorch_launches_total", "Function")}
    ended = samples["aiorch_execution_duration_seconds_count", "Function"]
    assert samples["aiorch_launches_total", "Function"] - ended in (0, 1)  # the failed try may have stopped A or B
    assert samples["aiorch_runs_total", "Completed"] == 1
    assert samples["aiorch_answers_total", "Function", "failed"] == 2


async def test_a_waiting_run_shows_its_due_time_in_the_document() -> None:
    """While the run waits, its entry tells until when, and the run has no work for a process."""
    async with engine(Metrics()) as opened:
        steps = {"Pause": {"type": "Wait", "seconds": 3600, "end": True}}
        run = await opened.start({"start": "Pause", "steps": steps}, run_id="r2")
        changes = run.changes()
        while run.run.nodes["Pause"].due_at is None:
            await asyncio.wait_for(anext(changes), 10)
        assert '"due_at":' in run.document().decode()
        assert not run.run.active
        await run.cancel()
