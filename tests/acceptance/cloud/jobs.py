"""Jobs that live by themselves: states over time, the log's last line before the API knows, replies that get lost."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.acceptance.cloud.log_sink import Entry, LogSink, stamp
from tests.fakes.dataflow import FakeDataflow, FakeJob
from tests.log_samples import sample

LOOK_S = 0.02
REQUESTS = 20_000
FAULTS: dict[str, tuple[float, list[int | str]]] = {
    "launch": (0.2, ["applied, reset", "applied, 503", "truncated", "reset", 503]),
    "list": (0.25, [503, "reset"]),
    "get": (0.05, [503, "reset"]),
    "messages": (0.05, [503]),
}
"""In bad weather: the share of the requests that go wrong, and how."""


class Jobs:
    """
    Args:
        api: The API.

        is_weather_bad: Requests to it go wrong as `FAULTS` says.

        lasts_s: Shortest and longest time that a job runs.

        failing: Share of the jobs that fail.

        is_held: Whether a job must wait for `released` before it may end.
    """

    def __init__(
        self,
        api: FakeDataflow,
        sink: LogSink,
        chance: random.Random,
        *,
        lasts_s: tuple[float, float],
        is_weather_bad: bool = False,
        failing: float = 0.0,
        is_held: Callable[[FakeJob], bool] = lambda _: False,
    ) -> None:
        self._api, self._sink, self._chance = api, sink, chance
        self._lasts_s, self._failing, self._is_held = lasts_s, failing, is_held
        self.released = asyncio.Event()
        for operation, (share, kinds) in FAULTS.items() if is_weather_bad else ():
            fates = (chance.choice(kinds) if chance.random() < share else "ok" for _ in range(REQUESTS))
            api.fail(operation, *fates)

    @asynccontextmanager
    async def living(self) -> AsyncIterator["Jobs"]:
        """Let jobs live as long as this lasts."""
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look(group))
            yield self
            looking.cancel()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        known: set[str] = set()
        lives = []
        try:
            while True:
                for job in [job for job in self._api.jobs.values() if job.id not in known]:
                    known.add(job.id)
                    lives.append(group.create_task(self._live(job)))
                await asyncio.sleep(LOOK_S)
        finally:
            for life in lives:
                life.cancel()

    async def _live(self, job: FakeJob) -> None:
        chance = self._chance
        await asyncio.sleep(chance.uniform(0, 0.2))
        job.state = "JOB_STATE_RUNNING"
        await asyncio.sleep(chance.uniform(*self._lasts_s))
        if self._is_held(job):
            await self.released.wait()
        fails = chance.random() < self._failing
        state = "FAILED" if fails else "DONE"
        line = self._api.advance(job, state, lags=True, messages=["Workflow failed."] if fails else [])
        self._sink.entry(line | {"timestamp": stamp()})
        self._sink.entry(_status_changed(job))
        await asyncio.sleep(chance.uniform(0, 2))
        self._api.catch_up(job)


def _status_changed(job: FakeJob) -> Entry:
    """The event of Eventarc."""
    event = sample("eventarc_dataflow_status_changed_done")
    event["data"]["payload"] |= {
        "id": job.id,
        "name": job.name,
        "location": job.region,
        "projectId": job.project,
        "labels": job.labels,
        "currentState": job.state,
        "currentStateTime": stamp(),
    }
    return event | {"job": job.name, "location": job.region, "subject": f"jobs/{job.name}", "time": stamp()}
