"""
What each answer of the store means, and what becomes of events that do not fit: the whole engine over real HTTP.

Cloud Storage, Pub/Sub, Dataflow and the functions are servers on loopback, which fail as ordered.
"""

import asyncio
import copy
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from aiorch import Client, Orchestrator, RunStatus, Settings, TargetTypes
from aiorch.events.decode import NESTING_MAX
from aiorch.settings import LaunchSettings
from aiorch.sources import pubsub as pubsub_source
from aiorch.sources.pubsub import PubSubSource
from aiorch.stores.gcs import GCSStore
from aiorch.targets.dataflow import target as dataflow
from aiorch.targets.dataflow.target import DataflowTarget
from aiorch.testing import CountingObserver
from tests.fakes.dataflow import FakeDataflow
from tests.fakes.gcs import BUCKET, FakeGCS, Fault, Stored, fake_gcs
from tests.fakes.pubsub import SUBSCRIPTION, FakePubSub, fake_pubsub
from tests.fakes.serving import anything, serving
from tests.log_samples import sample

REGION = "europe-west1"


class Functions:
    """
    A server of functions. Each answers at once, unless it is in `held`, or its name is in `resets`.

    Attributes:
        calls: Execution keys with which each was called.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[str]] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.resets: Counter[str] = Counter()
        self.statuses: dict[str, int] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/")
        self.calls.setdefault(name, []).append(request.headers["Idempotency-Key"])
        if name in self.held:
            await self.held[name].wait()
        if self.resets[name]:
            self.resets[name] -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"by": name}, status=self.statuses.get(name, 200))

    def key(self, name: str) -> str:
        """Of the last call."""
        return self.calls[name][-1]


class Cloud:
    """The servers, and an orchestrator that uses them."""

    def __init__(self, gcs: FakeGCS, pubsub: FakePubSub, jobs: FakeDataflow, functions: Functions) -> None:
        self.gcs, self.pubsub, self.dataflow, self.functions = gcs, pubsub, jobs, functions
        self.observer = CountingObserver()
        launches = LaunchSettings(running_after_s=100, poll_interval_s=0.05, backoff_max_s=0.1)
        self.orchestrator = Orchestrator(
            GCSStore(BUCKET, retry_base_s=0.01),
            dags=[self.dag("chain", "A", "B"), self.dag("pair", "A", width=2), JOB],
            source=PubSubSource(SUBSCRIPTION),
            own_names=["orchestrator"],
            observer=self.observer,
            targets={TargetTypes.DATAFLOW: DataflowTarget(api_root=jobs.root, appears_s=0.1)},
            settings=Settings(sweep_interval_s=1000, commit_interval_s=0, drain_s=0.2, launches=launches),
        )

    def dag(self, name: str, *nodes: str, width: int = 0) -> dict[str, Any]:
        steps = {node: self.call(node, following) for node, following in zip(nodes, [*nodes[1:], None], strict=True)}
        if width:
            branches = [{"start": f"N{n}", "steps": {f"N{n}": self.call(f"N{n}", None)}} for n in range(width)]
            del steps[nodes[-1]]["end"]
            steps[nodes[-1]]["next"] = "P"
            steps["P"] = {"type": "Parallel", "branches": branches, "end": True}
        return {"name": name, "start": nodes[0], "steps": steps}

    def call(self, node: str, following: str | None) -> dict[str, Any]:
        step = {
            "type": "Task",
            "target_type": "CloudFunction",
            "target_name": node.lower(),
            "url": f"{self.functions.url}/{node}",
            "region": REGION,
            "retry": {"max_attempts": 2, "initial_delay": 0.5},
        }
        return {**step, "next": following} if following else {**step, "end": True}

    # -- what is stored ------------------------------------------------------------------------------------------

    def document(self, run_id: str = "r") -> dict[str, Any]:
        return json.loads(self.gcs.objects[f"runs/{run_id}.json"].data)

    def status(self, node: str = "$run", run_id: str = "r") -> str | None:
        return self.document(run_id)[node]["status"] if f"runs/{run_id}.json" in self.gcs.objects else None

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.gcs.objects if name.startswith(prefix)]

    def kept(self) -> dict[str, Stored]:
        """Everything but heartbeats."""
        return {name: stored for name, stored in self.gcs.objects.items() if not name.startswith("alive/")}

    # -- what is said --------------------------------------------------------------------------------------------

    async def publish(self, *messages: dict[str, Any] | bytes) -> None:
        """Publish, and wait until everything is acknowledged."""
        await self.pubsub.put(*(each if isinstance(each, bytes) else json.dumps(each).encode() for each in messages))
        await self.until(lambda: self.pubsub.is_done)

    async def begin(self, dag: str = "chain") -> str:
        """Start the run "r" with A being held, and return the key of its call."""
        self.functions.held["A"] = asyncio.Event()
        await self.publish(start(dag))
        await self.until(lambda: "A" in self.functions.calls)
        return self.functions.key("A")

    async def lose_the_answer(self) -> str:
        """Start the run "r", whose first call is made and never answered: only an event can tell what came of it."""
        self.functions.resets["A"] = 1
        await self.publish(start("chain"))
        await self.until(lambda: self.status("A") == "Running")
        return self.functions.key("A")

    def ended(self, key: str, status: int = 200, **changes: Any) -> dict[str, Any]:
        """The platform's log of a call of A."""
        entry = copy.deepcopy(sample("gen2_request_200"))
        entry["trace"] = f"projects/acme-data-dev/traces/{key}"
        entry["httpRequest"] |= {"status": status, "userAgent": "aiorch/0.1"}
        entry["resource"]["labels"] |= {"location": REGION, "service_name": changes.get("name", "a")}
        entry["labels"]["goog-drz-cloudfunctions-id"] = changes.get("name", "a")
        return entry

    async def completed(self, run_id: str = "r") -> None:
        """Wait until the run has completed and nobody has anything to do for it any more."""
        await self.until(lambda: self.status(run_id=run_id) == "Completed" and f"open/{run_id}" not in self.gcs.objects)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)


JOB = {
    "name": "job",
    "start": "Job",
    "steps": {
        "Job": {
            "type": "Task",
            "target_type": "Dataflow",
            "target_name": "word-count",
            "project_id": "acme",
            "region": REGION,
            "container_gcs_path": "gs://b/t",
            "end": True,
        }
    },
}


def start(dag: str, run_id: str = "r") -> dict[str, Any]:
    return {"resource": {"type": "start", "labels": {"dag": dag, "run_id": run_id}}}


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    functions, jobs = Functions(), FakeDataflow()
    async with (
        fake_gcs() as gcs,
        fake_pubsub() as (pubsub, address),
        jobs.serving(),
        serving(anything(functions.handle)) as functions.url,
    ):
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        monkeypatch.setattr(dataflow, "LOOK_AGAIN_S", 0.02)
        monkeypatch.setattr(pubsub_source, "OPEN_PULL_GRACE_S", 0)  # nothing is on its way when a test ends
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        made = Cloud(gcs, pubsub, jobs, functions)
        async with made.orchestrator:
            yield made


# -- what each answer to the write of a run document means ------------------------------------------------------------


async def test_success_committed_the_next_event_needs_no_read(cloud: Cloud) -> None:
    """What was committed is kept in memory: a run of two tasks is written three times, and its document never read."""
    await cloud.publish(start("chain"))
    await cloud.completed()
    assert cloud.gcs.count("GET", "runs/") == 0
    assert cloud.gcs.count("POST", "runs/") == 3
    assert {name: len(calls) for name, calls in cloud.functions.calls.items()} == {"A": 1, "B": 1}


async def test_412_somebody_else_wrote_what_was_learned_is_folded_onto_it(cloud: Cloud) -> None:
    """Another process cancels the run while an answer is on its way: the answer is kept, and nothing follows it."""
    await cloud.begin()
    held = cloud.gcs.arm(Fault.HOLD, "POST", "runs/r.json")
    cloud.functions.held["A"].set()
    await held.reached.wait()
    async with Client(GCSStore(BUCKET)) as client:
        await client.cancel("r")
        held.released.set()
        await cloud.until(lambda: cloud.status() == "Cancelled")
    assert (cloud.status("A"), cloud.status("B")) == ("Completed", "Skipped")
    assert "B" not in cloud.functions.calls
    assert cloud.observer.conflicts >= 1


async def test_412_our_own_earlier_try_wrote_it_is_a_commit(cloud: Cloud) -> None:
    """A write that was applied and is answered 412 is read again, found to be committed, and launches once."""
    for run_id, nth in (("r", 0), ("s", 1), ("t", 2)):
        cloud.gcs.arm(Fault.HOLD, "POST", f"runs/{run_id}", times=nth).released.set()
        cloud.gcs.arm(Fault.OWN_CONFLICT, "POST", f"runs/{run_id}")
        await cloud.publish(start("chain", run_id))
        await cloud.completed(run_id)
    assert [len(calls) for calls in cloud.functions.calls.values()] == [3, 3]


async def test_429_not_applied_the_copy_is_kept_and_events_gather(cloud: Cloud) -> None:
    """Nothing is read again, and what comes in the meantime goes with the next write."""
    await cloud.begin("pair")
    for name in ("N0", "N1"):
        cloud.functions.held[name] = asyncio.Event()
    cloud.functions.held["A"].set()
    await cloud.until(lambda: {"N0", "N1"} <= cloud.functions.calls.keys())
    writes = cloud.gcs.count("POST", "runs/")
    throttled = cloud.gcs.arm(Fault.THROTTLED, "POST", "runs/r.json")
    cloud.functions.held["N0"].set()
    await throttled.reached.wait()
    cloud.functions.held["N1"].set()
    await cloud.completed()
    assert cloud.gcs.count("POST", "runs/") == writes + 2, "one that was refused, and one for both"
    assert cloud.gcs.count("GET", "runs/") == 0


@pytest.mark.parametrize(
    "fault",
    [Fault.UNAVAILABLE, Fault.TIMED_OUT, Fault.RESET, Fault.LOST_REPLY, Fault.GARBAGE],
    ids=lambda each: each.name,
)
async def test_5xx_timeout_reset_unknown_is_read_again(cloud: Cloud, fault: Fault) -> None:
    """Whether it was applied or not: it is neither reported as a failure nor assumed not to have happened."""
    for run_id, nth in (("r", 0), ("s", 1), ("t", 2)):
        cloud.gcs.arm(Fault.HOLD, "POST", f"runs/{run_id}", times=nth).released.set()
        cloud.gcs.arm(fault, "POST", f"runs/{run_id}")
        await cloud.publish(start("chain", run_id))
        await cloud.completed(run_id)
    assert [len(calls) for calls in cloud.functions.calls.values()] == [3, 3], "each task was called once"
    assert cloud.gcs.count("GET", "runs/") >= 3
    assert not cloud.names("rejected/")


# -- events that do not fit -------------------------------------------------------------------------------------------


async def test_no_execution_record_under_its_key_acknowledged_and_counted(cloud: Cloud) -> None:
    """It is not ours: another deployment's, or another caller's."""
    await cloud.begin()
    before = cloud.kept()
    await cloud.publish(cloud.ended("f" * 32), sample("gen2_request_200"))
    assert cloud.observer.settled["function", "foreign"] == 2
    assert cloud.kept() == before


async def test_duplicate_earlier_attempt_after_the_end_acknowledged_without_a_write(cloud: Cloud) -> None:
    """Whatever is said of an attempt that is over changes nothing, however often."""
    first = await cloud.lose_the_answer()
    cloud.functions.held["A"] = asyncio.Event()
    await cloud.publish(cloud.ended(first, 500), cloud.ended(first, 500))
    await cloud.until(lambda: len(cloud.functions.calls["A"]) == 2)
    writes = cloud.gcs.count("POST", "runs/")
    await cloud.publish(cloud.ended(first), cloud.ended(first, 500), cloud.ended(first, 504))
    assert cloud.gcs.count("POST", "runs/") == writes, "of an earlier attempt"
    second = cloud.functions.key("A")
    cloud.functions.held["A"].set()
    await cloud.completed()
    before = cloud.kept()
    await cloud.publish(cloud.ended(first), cloud.ended(second), cloud.ended(second, 500))
    assert cloud.kept() == before, "after the end"


async def test_success_of_an_attempt_while_the_next_is_not_committed_completes(cloud: Cloud) -> None:
    """It was given up as lost and had succeeded after all: there is no second attempt."""
    key = await cloud.lose_the_answer()
    await cloud.publish(cloud.ended(key, 500))
    assert cloud.status("A") == "Retrying"
    await cloud.publish(cloud.ended(key))
    await cloud.completed()
    assert len(cloud.functions.calls["A"]) == 1


@pytest.mark.parametrize("gone", ["runs/", "definitions/"])
async def test_run_document_gone_definition_unknown_acknowledged(cloud: Cloud, gone: str) -> None:
    """There is nothing to do: a warning, and the message does not come again."""
    key = await cloud.lose_the_answer()
    for name in cloud.names(gone):
        del cloud.gcs.objects[name]
    executor = cloud.orchestrator._executor
    committer = executor.committers.pop("r")
    committer.in_flight.clear()
    executor.runs._dags.clear()
    await cloud.publish(cloud.ended(key))
    assert cloud.observer.settled["function", "dropped"] == 1
    assert not cloud.names("rejected/")


async def test_document_of_a_newer_schema_version_given_back(cloud: Cloud) -> None:
    """A newer replica will take it: the message is not acknowledged, and the document not touched."""
    key = await cloud.lose_the_answer()
    document = cloud.document()
    document["$run"]["schema_version"] = 99
    cloud.gcs.put("runs/r.json", json.dumps(document).encode())
    cloud.orchestrator._executor.committers.pop("r")
    before = cloud.kept()
    await cloud.pubsub.put(json.dumps(cloud.ended(key)).encode())
    await cloud.until(lambda: cloud.observer.settled["function", "returned"] > 0)
    assert cloud.kept() == before
    assert not cloud.pubsub.is_done


@pytest.mark.parametrize(
    "message",
    [
        b"not json",
        b"\xff\xfe\x00",
        b"[1]",
        b'{"a":' * (NESTING_MAX + 1) + b"1" + b"}" * (NESTING_MAX + 1),
        b"[" * 100_000,
        b'{"x":"' + b"x" * 10_000_000 + b'"}',
        json.dumps({"resource": {"type": "start", "labels": {"run_id": "../../definitions/x"}}}).encode(),
        json.dumps({"resource": {"type": "start", "labels": {"run_id": "..%2fx"}}}).encode(),
        json.dumps({"resource": {"type": "start", "labels": {"run_id": "x" * 10_000}}}).encode(),
        json.dumps({"resource": {"type": "start", "labels": {"run_id": "a\x00b\n"}}}).encode(),
        json.dumps({"resource": {"type": "start", "labels": ["chain"]}}).encode(),
        json.dumps({"resource": {"type": "start", "labels": {"dag": "../chain"}}}).encode(),
        json.dumps({**sample("gen2_request_200"), "trace": 7}).encode(),
        json.dumps({**sample("dataflow_worker_pool_stopped"), "resource": {"type": "dataflow_step"}}).encode(),
    ],
    ids=range(14),
)
async def test_malformed_too_large_or_hostile_parked(cloud: Cloud, message: bytes) -> None:
    """It crashes nothing, loops nowhere, and changes no object outside ``rejected/``, while other runs go on."""
    await cloud.begin()
    before = cloud.kept()
    await cloud.publish(message)
    assert cloud.kept().keys() - before.keys() == set(cloud.names("rejected/"))
    assert {name: cloud.gcs.objects[name] for name in before} == before
    assert len(cloud.names("rejected/")) == 1
    cloud.functions.held["A"].set()
    await cloud.completed()


@pytest.mark.parametrize("trace", ["../../x", "0" * 31, "G" * 32, "0" * 10_000, "%2e%2e", "a/b"])
async def test_a_hostile_key_names_no_object(cloud: Cloud, trace: str) -> None:
    """Nothing that an event says becomes part of an object name without being checked."""
    await cloud.begin()
    before, sent = cloud.kept(), len(cloud.gcs.sent)
    await cloud.publish(cloud.ended(trace))
    assert cloud.kept() == before
    assert [each.about for each in cloud.gcs.sent[sent:]] == []


async def test_an_event_that_makes_the_fold_raise_is_parked_alone(cloud: Cloud) -> None:
    """A record of a node that its run does not have: that event is put away, and the others of the batch count."""
    key = await cloud.lose_the_answer()
    record = json.loads(cloud.gcs.objects[f"executions/{key}.json"].data)
    wrong = "e" * 32
    cloud.gcs.put(f"executions/{wrong}.json", json.dumps(record | {"node_name": "Nobody"}).encode())
    await cloud.publish(cloud.ended(wrong), cloud.ended(key))
    await cloud.completed()
    assert len(cloud.names("rejected/")) == 1


async def test_of_the_orchestrators_own_service_acknowledged_and_counted(cloud: Cloud) -> None:
    """It does not feed on its own log: such an event costs no request."""
    await cloud.publish(cloud.ended("0" * 32, name="orchestrator"))
    assert cloud.observer.settled["function", "own"] == 1
    assert {sent.about.split("/")[0] for sent in cloud.gcs.sent} == {"alive", "open"}, "what a start-up looks at"


async def test_any_dataflow_event_is_a_hint(cloud: Cloud) -> None:
    """It is acknowledged, and the API is asked: "Worker pool stopped." follows failures too, and comes too early."""
    await cloud.publish(start("job"))
    await cloud.until(lambda: cloud.status("Job") == "Running")
    job = cloud.dataflow.only_job()
    line = cloud.dataflow.advance(job, "FAILED", lags=True, messages=["Workflow failed. Causes: no quota"])
    await cloud.publish(line)
    assert cloud.observer.settled["dataflow", "hinted"] == 1
    assert cloud.status("Job") == "Running", "the event says that it is over, and the API does not yet"
    cloud.dataflow.catch_up(job)
    await cloud.publish(line)
    await cloud.until(lambda: cloud.status() == "Failed")
    error = cloud.document()["Job"]["error"]
    assert (error["type"], "no quota" in error["cause"]) == ("JobFailed", True)


@pytest.mark.parametrize(
    ("faults", "jobs"),
    [((), 0), ((429,) * 50, 0), (("applied, reset",), 1), (("applied, 503",), 1), (("ok",), 1)],
    ids=["before the launch", "launch refused", "answer lost", "launched, answered 503", "launched"],
)
async def test_a_cancel_that_races_with_a_launch_leaves_no_job_running(
    cloud: Cloud, faults: tuple[Any, ...], jobs: int
) -> None:
    """Whichever comes first: when the run is cancelled, the job was cancelled at the API, or has never been."""
    cloud.dataflow.fail("launch", *faults)
    if not faults:
        held = cloud.gcs.arm(Fault.HOLD, "POST", "executions/")
        await cloud.pubsub.put(json.dumps(start("job")).encode())
        await held.reached.wait()
        await cloud.until(lambda: cloud.status("Job") == "Starting")
    else:
        await cloud.publish(start("job"))
        await cloud.until(lambda: bool(cloud.dataflow.requests("launch")))
    async with Client(GCSStore(BUCKET)) as client:
        await client.cancel("r")
    cloud.orchestrator._executor.committer("r").refresh()  # what the next sweep would do
    if not faults:
        held.released.set()
    await cloud.until(lambda: cloud.status() == "Cancelled")
    assert [job.state for job in cloud.dataflow.jobs.values()] == ["JOB_STATE_CANCELLING"] * jobs
    assert sum(cloud.dataflow.launches.values()) == jobs


async def test_while_the_store_does_not_answer_nothing_is_pulled(cloud: Cloud) -> None:
    """Messages wait where they are safe, and are handled when the store is there again."""
    await cloud.begin()
    outage = cloud.gcs.arm(Fault.UNAVAILABLE, "POST", "runs/", times=1_000)
    reads = cloud.gcs.arm(Fault.UNAVAILABLE, "GET", times=1_000)
    cloud.functions.held["A"].set()
    source = cloud.orchestrator.source
    assert isinstance(source, PubSubSource)
    await cloud.until(lambda: source._is_paused)
    outage.times = reads.times = 0
    await cloud.until(lambda: cloud.status() == "Completed" and not source._is_paused)


async def test_all_that_a_batch_needs_is_read_at_once(cloud: Cloud) -> None:
    """Fifty events of fifty runs that are not in memory: their records are asked for concurrently, then their runs."""
    count = 50
    cloud.functions.resets["A"] = count
    await cloud.publish(*(start("chain", f"r{n}") for n in range(count)))
    await cloud.until(lambda: all(cloud.status("A", f"r{n}") == "Running" for n in range(count)))
    keys = list(cloud.functions.calls["A"])
    cloud.orchestrator._executor.committers.clear()
    for kind in ("executions/", "runs/"):
        held = cloud.gcs.arm(Fault.HOLD, "GET", kind, times=count)
        sent = len(cloud.gcs.sent)
        if kind == "executions/":
            await cloud.pubsub.put(*(json.dumps(cloud.ended(key)).encode() for key in keys))
        await cloud.until(
            lambda kind=kind, sent=sent: cloud.gcs.count("GET", kind) - _before(cloud, kind, sent) == count
        )
        held.released.set()
    await cloud.until(lambda: all(cloud.status(run_id=f"r{n}") == "Completed" for n in range(count)))


def _before(cloud: Cloud, kind: str, sent: int) -> int:
    return sum(each.method == "GET" and kind in each.about for each in cloud.gcs.sent[:sent])


async def test_a_run_completes_with_everything_real_but_the_cloud(cloud: Cloud) -> None:
    """From the start message to the last acknowledgement: no marker is left, and the run can be read by anybody."""
    await cloud.publish(start("pair"))
    await cloud.completed()
    handle = await cloud.orchestrator.attach("r")
    result = await handle.wait()
    assert result.status is RunStatus.COMPLETED
    assert result.results["N1"] == {"by": "N1"}
