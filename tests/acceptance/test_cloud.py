"""
The service as a black box: processes of ``service.py`` over Pub/Sub, Cloud Storage, Cloud Functions and Dataflow.

Real are the Pub/Sub emulator, fake-gcs-server and functions-framework; the Dataflow API, the platform in front of the
functions and the log sink are ours, and do what goes wrong in reality: nothing that they do is friendlier than it.
"""

import asyncio
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest

from aiorch.testing.gcs_server import BUCKET, gcs_server
from tests.acceptance.cloud.bucket import Bucket, Object
from tests.acceptance.cloud.front_end import Faults, FrontEnd, Function
from tests.acceptance.cloud.hostile import hostile_messages
from tests.acceptance.cloud.jobs import Jobs
from tests.acceptance.cloud.log_sink import PROJECT, LogSink
from tests.acceptance.cloud.proxy import LISTINGS, READS, WRITES, DamagingProxy
from tests.acceptance.cloud.replica import ROOT, Replica
from tests.fakes.dataflow import FakeDataflow

if TYPE_CHECKING:
    from tests.pubsub_emulator import Topic  # imported as a plugin, see below

pytest_plugins = ["tests.pubsub_emulator"]
pytestmark = pytest.mark.timeout(150)

DAGS = ROOT / "tests" / "acceptance" / "cloud"
FUNCTIONS_READY_S = 30
FUNCTIONS_END_S = 10
LOOK_S = 0.1
END_S = 10
"""Cloud Run kills what has not ended so long after SIGTERM."""

CALL_TIMEOUT_S = 3
"""That of the DAG `cloud-call`."""

LEASE_S = 12
"""The deadline of the subscription, and something for the emulator."""

GEN1 = [
    Function("orch-init", "europe-west1", is_gen1=True, wording="old", calls="load_orders"),
    Function("notify-customers", "europe-west1", is_gen1=True, wording="new"),
]
GEN2 = [
    Function("load_orders", "us-central1", is_gen1=False, calls="notify-customers"),
    Function("report_all", "us-central1", is_gen1=False),
]
NO_FAULTS = Faults()
FAST = {"AIORCH_HEARTBEAT": "0.75", "AIORCH_DEAD_AFTER": "3", "AIORCH_SWEEP_INTERVAL": "1"}
"""A death is noticed within five seconds."""


class Functions(NamedTuple):
    """Processes of functions-framework, and what they leave behind."""

    addresses: dict[str, tuple[Function, str]]
    folder: Path

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Let a function last as long as this."""
        gate = self.folder / "gates" / name
        gate.touch()
        try:
            yield
        finally:
            gate.unlink()

    def calls(self, run_ids: set[str]) -> list[dict[str, Any]]:
        """What the functions themselves say about the calls for these runs."""
        lines = (self.folder / "calls").read_bytes().splitlines() if (self.folder / "calls").exists() else []
        return [call for line in lines if (call := json.loads(line))["run_id"] in run_ids]


@contextmanager
def functions_framework(folder: Path) -> Iterator[str]:
    """Run one that serves on a port of its own. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "functions_framework", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--source", str(ROOT / "tests/acceptance/cloud/functions.py"), "--target", "serve"]
    places = {"CALLS": str(folder / "calls"), "GATES": str(folder / "gates"), "THREADS": "100"}
    log = folder / f"functions-{port}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=os.environ | places, stdout=output, stderr=output) as process,
    ):
        try:
            give_up_at = time.monotonic() + FUNCTIONS_READY_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > give_up_at:
                    pytest.fail(f"functions-framework did not start:\n{log.read_text()}")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(FUNCTIONS_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "gates").mkdir()
    with functions_framework(folder) as first, functions_framework(folder) as second:
        served = [(function, first) for function in GEN1] + [(function, second) for function in GEN2]
        yield Functions({each.name: (each, f"{url}/{each.name}") for each, url in served}, folder)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gcs_server(tmp_path_factory.mktemp("storage")) as url:
        yield url


class Cloud:
    """
    Everything around the replicas of one test, and the replicas.

    Args:
        seed: Of all chance here. Also in the run ids, so that the same functions fail and last as long.
    """

    def __init__(
        self, stack: AsyncExitStack, folder: Path, *, topic: "Topic", functions: Functions, storage: str, seed: int
    ) -> None:
        self._stack, self._folder, self._storage, self._topic = stack, folder, storage, topic
        self.emulator = os.environ["PUBSUB_EMULATOR_HOST"]
        self.functions = functions
        self.seed = seed
        self.bucket = Bucket(storage, BUCKET, f"{folder.name}-{seed}")
        self.dataflow = FakeDataflow()
        self.replicas: list[Replica] = []
        self.sink: LogSink
        self.front_end: FrontEnd
        self.jobs: Jobs
        self.proxy: DamagingProxy | None = None
        self.run_ids: set[str] = set()

    def chance(self, what: str) -> random.Random:
        return random.Random(f"{self.seed}/{what}")

    async def open(
        self,
        *,
        lost: float = 0.0,
        late: float = 0.0,
        faults: Faults = NO_FAULTS,
        is_damaging: bool = False,
        **jobs: Any,
    ) -> None:
        enter = self._stack.enter_async_context
        await enter(self.bucket)
        if is_damaging:
            self.proxy = await enter(DamagingProxy(self._storage).serving())
        self.sink = await enter(LogSink(self.emulator, self._topic.name, self.chance("sink"), lost=lost, late=late))
        front_end = FrontEnd(self.functions.addresses, self.bucket, self.sink, self.chance("calls"), faults)
        self.front_end = await enter(front_end.serving())
        await enter(self.dataflow.serving())
        self.jobs = await enter(Jobs(self.dataflow, self.sink, self.chance("jobs"), **jobs).living())

    async def replica(self, **settings: str) -> Replica:
        """Start one; it is not ready yet."""
        environment = {
            "AIORCH_STORE": self.bucket.url,
            "AIORCH_SUBSCRIPTION": self._topic.subscription,
            "AIORCH_DAGS": str(DAGS),
            "AIORCH_HOST": "127.0.0.1",
            "AIORCH_PORT": "0",
            "AIORCH_PROJECT_ID": PROJECT,
            "AIORCH_REGION": "europe-west1",
            "AIORCH_FUNCTION_URL": self.front_end.url,
            "AIORCH_DATAFLOW_API": self.dataflow.root,
            "AIORCH_POLL_INTERVAL": "1",
            "STORAGE_EMULATOR_HOST": self.proxy.url if self.proxy else self._storage,
            "PUBSUB_EMULATOR_HOST": self.emulator,
        }
        replica = Replica(f"replica{len(self.replicas)}", self._folder, environment | settings)
        self.replicas.append(replica)
        self._stack.push_async_callback(replica.end)
        await replica.start()
        return replica

    async def start_runs(self, count: int, dag: str = "cloud-short") -> None:
        """Publish start messages of so many more runs, each twice."""
        known = len(self.run_ids)
        started = [f"{self._folder.name}-{self.seed}-{number}" for number in range(known, known + count)]
        self.run_ids.update(started)
        messages = [
            json.dumps({"resource": {"type": "start", "labels": {"dag": dag, "run_id": run_id}}}).encode()
            for run_id in started
        ]
        messages += messages
        self.chance("starts").shuffle(messages)
        for first in range(0, len(messages), 5):  # so that they do not all come to one replica
            await self.sink.say(*messages[first : first + 5])

    async def are_called(self, name: str, count: int) -> bool:
        """Whether a function has been called so often."""
        return sum(call["name"] == name for call in self.functions.calls(self.run_ids)) == count

    async def jobs_are_over(self, count: int) -> bool:
        """Whether so many jobs were started and have ended."""
        jobs = self.dataflow.jobs.values()
        return len(jobs) == count and not any(job.is_active for job in jobs)

    async def waits_for_job(self) -> bool:
        """Whether nothing more will change before a job ends."""
        documents = await self.documents()
        return all(
            run is not None and (run["Count"]["status"], run["Notify"]["status"]) == ("Running", "Completed")
            for run in documents.values()
        )

    async def objects_but(self, *prefixes: str) -> dict[str, Object]:
        """Everything in the bucket whose name begins with none of these."""
        return {name: each for name, each in (await self.bucket.objects()).items() if not name.startswith(prefixes)}

    async def open_runs(self) -> set[str]:
        return {name.removeprefix("open/") for name in await self.bucket.objects("open/")}

    async def ended(self) -> bool:
        """Whether every run has ended, and nothing is left open."""
        runs = await self.bucket.objects("runs/")
        ends = [run.metadata["status"] in ("Completed", "Failed", "Cancelled") for run in runs.values()]
        return len(ends) >= len(self.run_ids) and all(ends) and not await self.open_runs()

    async def settled(self) -> bool:
        """
        Whether every message was acknowledged by somebody.

        What a replica settled just before it was killed may come again, until its leases have run out.
        """
        await self.sink.drained()
        settled = [replica.settled() for replica in self.replicas]
        published = set(self.sink.published)
        if published.issubset(set().union(*(each.surely for each in settled))):
            return True
        killed_at = max(replica.killed_at for replica in self.replicas)
        is_over = time.monotonic() > killed_at + LEASE_S
        return is_over and published.issubset(set().union(*(each.surely | each.perhaps for each in settled)))

    async def no_message_is_held(self) -> bool:
        """Whether no replica has a message that it has not answered for."""
        held = [await replica.metric("aiorch_outstanding_messages") for replica in self.replicas if replica.is_alive]
        return not any(held)

    async def left(self) -> list[Any]:
        """Messages that are still there to be had."""
        url = f"http://{self.emulator}/v1/{self._topic.subscription}:pull"
        what = {"maxMessages": 100, "returnImmediately": True}
        async with aiohttp.ClientSession() as session, session.post(url, json=what) as reply:
            reply.raise_for_status()
            messages: list[Any] = (await reply.json()).get("receivedMessages", [])
            return messages

    async def documents(self) -> dict[str, Any]:
        """The documents of all runs."""
        return {run_id: await self.bucket.document(f"runs/{run_id}.json") for run_id in sorted(self.run_ids)}

    async def check_work(self) -> None:
        """All runs have done everything, and nothing more often than the documents say."""
        documents = await self.documents()
        nodes = {
            node["execution_id"]: node
            for run in documents.values()
            for name, node in run.items()
            if name != "$run" and "execution_id" in node
        }
        wrong = {
            f"{run_id} {name}": node
            for run_id, run in documents.items()
            for name, node in run.items()
            if node["status"] != "Completed"
        }
        assert not wrong
        assert len(nodes) == sum(node.get("node_type") == "Task" for run in documents.values() for node in run.values())
        assert not self.front_end.broken
        calls = self.functions.calls(self.run_ids)
        assert all(call["key"] == call["execution_id"] for call in calls)
        counts = Counter(call["key"] for call in calls)
        assert counts == self.front_end.arrived
        for call in calls:
            record = await self.bucket.document(f"executions/{call['key']}.json")
            assert [record[each] for each in ("run_id", "node_name", "attempt", "task_name")] == [
                call[each] for each in ("run_id", "node", "attempt", "name")
            ]
        attempts = {(call["run_id"], call["node"], call["attempt"]) for call in calls}
        assert len(attempts) == len(counts), "an attempt was made under two keys"
        failures = {each["type"] for run in documents.values() for each in run.get("Init", {}).get("failures", ())}
        assert failures <= {"Lost", "Timeout"}, "the end of another call was taken for its own"
        for key, node in nodes.items():
            if node["target_type"] == "CloudFunction":
                assert 1 <= counts[key] <= node["launches"], node
                assert node.get("result", {"key": key}) == {"key": key}
        launches = self.dataflow.launches
        assert set(launches.values()) == {1}, "a job was started twice"
        attempts = set()
        for job in self.dataflow.jobs.values():
            record = await self.bucket.document(f"executions/{job.labels['aiorch_execution']}.json")
            attempts.add((record["run_id"], record["node_name"], record["attempt"]))
            node = documents[record["run_id"]][record["node_name"]]
            is_last = record["attempt"] == node["attempt"]
            assert job.state == ("JOB_STATE_DONE" if is_last else "JOB_STATE_FAILED")
        assert len(attempts) == len(self.dataflow.jobs), "two jobs were started for one attempt"
        assert len(attempts) == sum(run["Count"]["attempt"] for run in documents.values())

    async def check_end(self) -> None:
        """Replicas end when told to, and leave nothing behind: no message, no marker, no heartbeat."""
        living = sum(replica.is_alive for replica in self.replicas)

        async def only_the_living_are_heard() -> bool:
            return len(await self.bucket.objects("alive/")) <= living

        await until(only_the_living_are_heard, within_s=10, what="nothing is left of the dead")
        await until(self.no_message_is_held, within_s=10, what="no message is held")
        ends = await asyncio.gather(*(replica.stop() for replica in self.replicas if replica.is_alive))
        assert [code for code, _ in ends] == [0] * len(ends)
        assert not await self.left()
        for prefix in ("open/", "alive/", "rejected/"):
            assert not await self.bucket.objects(prefix), prefix
        for replica in self.replicas:
            assert not replica.errors(), replica.name


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float, what: str) -> None:
    """Wait until it is so."""
    begun_at = time.monotonic()
    while not await condition():
        assert time.monotonic() - begun_at < within_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(LOOK_S)
    print(f"{what}, after {time.monotonic() - begun_at:.1f} s")  # shown when the test fails


MakeCloud = Callable[..., Awaitable[Cloud]]


@pytest.fixture
async def make_cloud(tmp_path: Path, topic: "Topic", functions: Functions, storage: str) -> AsyncIterator[MakeCloud]:
    async with AsyncExitStack() as stack:

        async def make(seed: int, **weather: Any) -> Cloud:
            cloud = Cloud(stack, tmp_path, topic=topic, functions=functions, storage=storage, seed=seed)
            await cloud.open(**weather)
            return cloud

        yield make


FAIR = {"lasts_s": (0.1, 0.3)}
BAD = {
    "lost": 0.1,
    "late": 0.1,
    "faults": Faults(refused=0.03, answer_lost=0.04),
    "lasts_s": (0.1, 1.2),
    "is_weather_bad": True,
    "failing": 0.1,
}
RUNS = 50
KILLS = 5


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
async def test_fifty_runs_survive_kills_and_bad_weather(make_cloud: MakeCloud, seed: int) -> None:
    """
    Fifty runs at once end well, whatever is killed, lost, late, doubled, refused or damaged on the way.

    Nothing is started more often than a committed intent says, each task completes once, and nothing is left over: no
    message, no marker, no heartbeat. A few jobs last until the killing is over, so every kill hits open runs.
    """
    held = tuple(f"-{number}" for number in range(0, RUNS, 10))
    cloud = await make_cloud(seed, **BAD, is_damaging=True, is_held=lambda job: job.labels["aiorch_run"].endswith(held))
    chance = cloud.chance("kills")
    for _ in range(2):
        await cloud.replica(**FAST)
    for replica in cloud.replicas:
        await replica.ready()
    await cloud.start_runs(RUNS, "cloud-sample")
    markers = chance.randint(1, RUNS // 2)
    async with asyncio.timeout(30):
        while len(await cloud.open_runs()) < markers:  # the first kill comes in the middle of the starts
            await asyncio.sleep(0)
    for number in range(KILLS):
        assert await cloud.open_runs(), f"everything had ended before kill {number}"
        replica = chance.choice(cloud.replicas)
        await replica.kill()
        await replica.start()
        if chance.random() < 0.75:
            await replica.ready()
        await asyncio.sleep(chance.uniform(0.3, 2.0))
    cloud.jobs.released.set()
    await until(cloud.ended, within_s=90, what="all runs end")
    await until(cloud.settled, within_s=90, what="all messages are acknowledged")
    await cloud.check_work()
    await cloud.check_end()
    assert cloud.proxy is not None
    kinds = Counter(kind for kind, _ in cloud.proxy.damaged)
    assert kinds == {"read": len(READS), "write": len(WRITES), "listing": len(LISTINGS)}, "not all damage was tried"


@pytest.mark.parametrize(
    ("settings", "within_s"),
    [
        pytest.param(FAST, 30, id="fast"),
        pytest.param({}, 120, id="default", marks=[pytest.mark.slow, pytest.mark.timeout(200)]),
    ],
)
async def test_work_of_a_killed_replica_goes_on(
    make_cloud: MakeCloud, settings: dict[str, str], within_s: float
) -> None:
    """
    What a replica was doing when it was killed is done by another one, though no event tells it of that.

    It was calling functions, and had started jobs without hearing so: these have ended by the time that they are found.
    """
    cloud = await make_cloud(0, **FAIR, lost=1.0)
    cloud.dataflow.fail("launch", *["applied, silent"] * 5)
    first = await cloud.replica(**settings)
    await first.ready()
    with cloud.functions.held("notify-customers"):
        await cloud.start_runs(5)
        await until(lambda: cloud.are_called("notify-customers", 5), within_s=20, what="all functions are called")
        second = await cloud.replica(**settings)
        await second.ready()
        await until(cloud.settled, within_s=20, what="all messages are acknowledged")
        await until(cloud.no_message_is_held, within_s=20, what="no message is held")
        await until(lambda: cloud.jobs_are_over(5), within_s=20, what="all jobs are over")
        await first.kill(is_at_rest=True)
    await until(cloud.ended, within_s=within_s, what="all runs end")
    await until(cloud.settled, within_s=30, what="all messages are acknowledged")
    await cloud.check_work()
    assert {run["Notify"]["launches"] for run in (await cloud.documents()).values()} == {2}
    await cloud.check_end()


async def test_a_replica_that_is_told_to_end_hands_over(make_cloud: MakeCloud) -> None:
    """SIGTERM in the middle of work: it ends in time, with exit code 0, and what it had begun is not begun again."""
    cloud = await make_cloud(0, lasts_s=(1, 3))
    first = await cloud.replica(**FAST)
    await first.ready()
    with cloud.functions.held("notify-customers"):
        await cloud.start_runs(10)
        await until(lambda: cloud.are_called("notify-customers", 10), within_s=20, what="all functions are called")
        second = await cloud.replica(**FAST)
        await second.ready()
        ending = asyncio.create_task(first.stop())
        await cloud.start_runs(10)
        code, seconds = await ending
        assert (code, seconds < END_S) == (0, True), seconds
    await until(cloud.ended, within_s=40, what="all runs end")
    await until(cloud.settled, within_s=30, what="all messages are acknowledged")
    await cloud.check_work()
    documents = await cloud.documents()
    assert {run[node]["attempt"] for run in documents.values() for node in ("Count", "Notify")} == {1}
    assert set(cloud.front_end.arrived.values()) == {1}
    await cloud.check_end()


async def test_a_replica_that_was_frozen_for_longer_than_its_timeouts_times_nothing_out(make_cloud: MakeCloud) -> None:
    """Calls that end while their replica is stopped complete: their answers and events wait, and are read first."""
    cloud = await make_cloud(0, **FAIR, lost=0.5)
    replica = await cloud.replica(**FAST)
    await replica.ready()
    with ExitStack() as freezing:
        with cloud.functions.held("notify-customers"):
            await cloud.start_runs(6, "cloud-call")
            await until(lambda: cloud.are_called("notify-customers", 6), within_s=20, what="all functions are called")
            freezing.enter_context(replica.frozen())
        await asyncio.sleep(CALL_TIMEOUT_S + 1)  # real time is the fault: every timeout becomes overdue
    await until(cloud.ended, within_s=30, what="all runs end")
    await until(cloud.settled, within_s=30, what="all messages are acknowledged")
    for run in (await cloud.documents()).values():
        assert (run["$run"]["status"], run["Notify"]["attempt"], run["Notify"]["launches"]) == ("Completed", 1, 1)
    await cloud.check_end()


async def test_hostile_messages_change_nothing(make_cloud: MakeCloud) -> None:
    """Whatever anybody publishes, no object changes but under ``rejected/``, and the service goes on as before."""
    cloud = await make_cloud(0, **FAIR, is_held=lambda _: True)
    replica = await cloud.replica(**FAST)
    await replica.ready()
    await cloud.start_runs(1)
    await until(cloud.waits_for_job, within_s=20, what="nothing goes on but the job")
    await until(cloud.settled, within_s=20, what="all messages are acknowledged")
    before = await cloud.objects_but("alive/")
    (job,) = cloud.dataflow.jobs.values()
    hostile = list(hostile_messages(next(iter(cloud.run_ids)), job))
    for first in range(0, len(hostile), 20):
        await asyncio.gather(*(cloud.sink.say(message) for message in hostile[first : first + 20]))
    await until(cloud.settled, within_s=30, what="all messages are acknowledged")
    assert await cloud.objects_but("alive/", "rejected/") == before
    rejected = await cloud.bucket.objects("rejected/")
    assert all(re.fullmatch(r"rejected/[0-9a-f]{32}\.json", name) for name in rejected)
    assert len(rejected) == replica.outcomes()["parked"] > len(hostile) / 2
    cloud.jobs.released.set()
    await until(cloud.ended, within_s=20, what="all runs end")
    await cloud.check_work()
    await replica.stop()
    assert not await cloud.left()
    assert not replica.errors()
