"""The whole engine over a bucket of the real fake-gcs-server."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiorch import Orchestrator, RunStatus, Settings, TaskContext
from aiorch.ports.store import ObjectInfo
from aiorch.settings import LaunchSettings
from aiorch.stores import open_store
from aiorch.stores.gcs import GCSStore
from aiorch.testing.gcs_server import BUCKET, gcs_server
from tests.definitions import chain, parallel, task
from tests.fakes.gcs import BUCKET as FAKE_BUCKET
from tests.fakes.gcs import Fault, fake_gcs
from tests.integration.children import child, kill

FAST = Settings(sweep_interval_s=0.05, commit_interval_s=0, drain_s=0.2, launches=LaunchSettings(running_after_s=0.01))
HEARTBEAT_S, DEAD_AFTER_S = 0.2, 2.0


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with gcs_server(tmp_path) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        yield url


async def listed(prefix: str = "") -> list[ObjectInfo]:
    store = GCSStore(BUCKET, "prod")
    try:
        return await store.list(prefix)
    finally:
        await store.aclose()


async def test_a_run_in_a_bucket_completes() -> None:
    """Sequence, branches and join, with documents that anybody can read, and no marker or heartbeat left behind."""
    both = parallel(chain(Left=task()), chain(Right=task()))
    definition = chain(Init=task(), Both=both, End=task())

    async def echo(context: TaskContext) -> str:
        return f"{context.input}: {context.node}"

    async with Orchestrator(f"gs://{BUCKET}/prod", functions={"t:work": echo}, settings=FAST) as orchestrator:
        runs = [await orchestrator.start(definition, input="Grüße", run_id=f"r{n}") for n in range(10)]
        for result in await asyncio.gather(*(run.wait() for run in runs)):
            assert result.status is RunStatus.COMPLETED
            assert result.results["End"] == "Grüße: End"
        assert {summary.run_id for summary in await orchestrator.runs()} == {f"r{n}" for n in range(10)}
    names = [info.name for info in await listed()]
    assert [name for name in names if name.startswith(("open/", "alive/"))] == []
    assert sum(name.startswith("executions/") for name in names) == 40
    store = open_store(f"gs://{BUCKET}/prod")
    document = await store.read("runs/r3.json")
    await store.aclose()
    assert document is not None
    assert json.loads(document.data)["Right"]["status"] == "Completed"


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("fault", [Fault.CONFLICT, Fault.THROTTLED, Fault.UNAVAILABLE, Fault.RESET, Fault.LOST_REPLY])
async def test_run_completes_once_despite_faults_of_the_bucket(
    fault: Fault, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conflict, refusals for rate and answers that never come cost time: every task is called once, all is tidy."""
    calls: list[str] = []

    async def work(context: TaskContext) -> str:
        calls.append(context.node)
        return "done"

    async with fake_gcs() as gcs:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        store = GCSStore(FAKE_BUCKET, retry_base_s=0)
        async with Orchestrator(store, functions={"t:work": work}, settings=FAST) as orchestrator:
            for about in ("runs/", "runs/", "executions/", "definitions/"):
                gcs.arm(fault, method, about)
            if method != "POST":  # a marker that cannot be written is told to who starts the run
                gcs.arm(fault, method, "open/")
            run = await orchestrator.start(chain("A", "B"), run_id="r")
            assert (await run.wait()).status is RunStatus.COMPLETED
        assert calls == ["A", "B"]
        assert [name for name in gcs.objects if name.startswith(("open/", "alive/"))] == []
        assert sum(name.startswith("executions/") for name in gcs.objects) == 2


CHILD = """
import asyncio, sys
from aiorch import Orchestrator
from aiorch.stores.gcs import GCSStore
from tests.definitions import chain
from tests.integration.test_gcs_engine import BUCKET, DEAD_AFTER_S, FAST, HEARTBEAT_S

async def work(context):
    print(context.node, flush=True)
    await asyncio.sleep(3600)

async def main():
    store = GCSStore(BUCKET, "prod", heartbeat_s=HEARTBEAT_S, dead_after_s=DEAD_AFTER_S)
    async with Orchestrator(store, functions={"t:work": work}, settings=FAST) as orchestrator:
        await (await orchestrator.start(chain("A"), run_id="r")).wait()

asyncio.run(main())
"""


async def test_work_of_a_killed_process_is_taken_over_and_not_before() -> None:
    """A process that is alive keeps its work however long it takes; killed, it is called dead and another goes on."""
    calls: list[str] = []

    async def work(context: TaskContext) -> str:
        calls.append(context.node)
        return "done"

    first = await child(CHILD)
    assert first.stdout is not None
    assert await first.stdout.readline() == b"A\n"
    store = GCSStore(BUCKET, "prod", heartbeat_s=HEARTBEAT_S, dead_after_s=DEAD_AFTER_S)
    try:
        async with Orchestrator(store, functions={"t:work": work}, settings=FAST) as orchestrator:
            run = await orchestrator.attach("r")
            heard = set()
            while len(heard) < 1.2 * DEAD_AFTER_S / HEARTBEAT_S:
                heard |= {(info.name, info.generation) for info in await listed("alive/") if _is_foreign(info, store)}
                await asyncio.sleep(0.02)
            assert calls == []
            await kill(first)
            result = await run.wait()
            assert result.status is RunStatus.COMPLETED
            assert calls == ["A"]
            [alive] = await listed("alive/")
            assert not _is_foreign(alive, store), "the dead one's heartbeat is removed"
    finally:
        if first.returncode is None:
            await kill(first)
    assert await listed("alive/") == await listed("open/") == []


def _is_foreign(info: ObjectInfo, store: GCSStore) -> bool:
    """Whether a heartbeat is of another process than *store*'s."""
    return store.heartbeats.own_age_s(info.name.removeprefix("alive/")) == float("inf")
