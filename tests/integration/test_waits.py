"""The entry of a task says why its call has not started."""

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from aiorch import Client, DAGBuilder, Orchestrator, RunStatus, Settings, TargetTypes, TaskContext
from aiorch.core.begin import new_header, new_run
from aiorch.core.draft import Process
from aiorch.core.fold import fold
from aiorch.core.run_events import RunStarted, TaskWaits
from aiorch.google.id_tokens import IdTokens
from aiorch.model.dag import Task
from aiorch.model.run_document import StartCommand
from aiorch.ports.store import StoredObject
from aiorch.ports.target import Answer, NotStarted, Succeeded
from aiorch.settings import LaunchSettings
from aiorch.stores.memory import MemoryStore
from aiorch.targets.cloud_function.target import CloudFunctionTarget
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import call, chain, job, parallel, task

NO_CONNECTION = NotStarted("no connection to http://f: refused")
NO_TOKEN = NotStarted("no ID token for audience 'http://f'")


class Calls:
    """A target of calls: each node gets the first answer of its own, the last one again and again."""

    begins_itself = True

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.answers_after_s = 3.0
        self.refuses_after_s = 0.0
        self.tries: Counter[str] = Counter()

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        context.begin()
        self.tries[task.name] += 1
        answers = self.answers[task.name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Succeeded):
            await asyncio.sleep(self.answers_after_s)
        elif self.refuses_after_s:
            await asyncio.sleep(self.refuses_after_s)
        return answer

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        pass

    async def aclose(self) -> None:
        pass


class Commits(MemoryStore):
    """A store that knows when runs were committed."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []
        self.reads = 0

    @property
    def count(self) -> int:
        return len(self.times)

    async def read(self, name: str) -> StoredObject | None:
        self.reads += name.startswith("runs/")
        return await super().read(name)

    async def write(self, name: str, *args: Any, **options: Any) -> int:
        if name.startswith("runs/"):
            self.times.append(asyncio.get_running_loop().time())
        return await super().write(name, *args, **options)

    async def entry(self, node: str) -> Mapping[str, Any]:
        stored = await self.read("runs/r.json")
        assert stored is not None
        entry = msgspec.json.decode(stored.data)[node]
        assert isinstance(entry, dict)
        return entry


def engine(store: Commits, target: Calls, *, commit_interval_s: float | None = None) -> Orchestrator:
    return Orchestrator(
        store,
        targets={TargetTypes.CLOUD_FUNCTION: target, TargetTypes.DATAFLOW: target},
        settings=Settings(
            drain_s=0,
            commit_interval_s=commit_interval_s,
            launches=LaunchSettings(limits={TargetTypes.DATAFLOW: 1}),
        ),
        clock=ManualClock(),
        entropy=SeededEntropy(1),
    )


@in_virtual_time
async def test_the_reason_of_a_refused_call_is_written_once_per_change_within_5_s() -> None:
    """Twenty refusals for one reason make one commit; another reason makes one more; a call that runs has none."""
    target = Calls(A=[*[NO_CONNECTION] * 20, *[NO_TOKEN] * 3, Succeeded()])
    store = Commits()
    async with engine(store, target) as orchestrator:
        run = await orchestrator.start(chain(A=call(timeout=100_000)), run_id="r")
        before = store.count
        await asyncio.sleep(6)
        assert (await store.entry("A"))["waits_because"] == NO_CONNECTION.reason
        while target.tries["A"] < 20:
            await asyncio.sleep(1)
        assert store.count == before + 1
        while target.tries["A"] < 21:
            await asyncio.sleep(1)
        await asyncio.sleep(6)
        assert (await store.entry("A"))["waits_because"] == NO_TOKEN.reason
        assert store.count == before + 2
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert "waits_because" not in await store.entry("A")


@in_virtual_time
async def test_the_reason_goes_with_the_next_commit_of_the_run() -> None:
    """When a branch beside it ends after 3 s, the commit of that end carries the reason, and no other one is made."""
    store = Commits()
    target = Calls(A=[NO_CONNECTION], B=[Succeeded()])
    definition = chain(P=parallel(chain(A=call(timeout=60)), chain(B=call())))
    async with engine(store, target) as orchestrator:
        await orchestrator.start(definition, run_id="r")
        while (await store.entry("B"))["status"] != "Completed":
            await asyncio.sleep(0.1)
        assert (await store.entry("A"))["waits_because"] == NO_CONNECTION.reason
        commits = store.count
        await asyncio.sleep(20)
        assert store.count == commits


@in_virtual_time
async def test_a_reason_that_is_due_keeps_the_pace_of_commits() -> None:
    """A reason that is due half a second after a commit waits until the store takes the next commit of the run."""
    store = Commits()
    definition = chain(P=parallel(chain(A=call(timeout=60)), chain(B=call())))
    target = Calls(A=[NO_CONNECTION], B=[Succeeded()])
    target.answers_after_s = 4.5
    async with engine(store, target, commit_interval_s=1.0) as orchestrator:
        await orchestrator.start(definition, run_id="r")
        while (await store.entry("B"))["status"] != "Completed":
            await asyncio.sleep(0.1)
        orchestrator._executor.committers["r"].note(TaskWaits("A", 1, "another reason", 1))
        await asyncio.sleep(2)
        assert (await store.entry("A"))["waits_because"] == "another reason"
    assert all(later - earlier > 0.999 for earlier, later in pairwise(store.times))


@in_virtual_time
async def test_a_slow_refusal_is_told_and_a_call_that_was_taken_is_not_called_waiting() -> None:
    """A call whose connection fails after 10 s, when it is `Running`, says why; once it runs for 20 s, it does not."""
    store, target = Commits(), Calls(A=[NO_CONNECTION, NO_CONNECTION, Succeeded()])
    target.refuses_after_s, target.answers_after_s = 10.0, 60.0
    async with engine(store, target) as orchestrator:
        run = await orchestrator.start(chain(A=call(timeout=600)), run_id="r")
        await asyncio.sleep(19)
        entry = await store.entry("A")
        assert (entry["status"], entry["waits_because"]) == ("Running", NO_CONNECTION.reason)
        while target.tries["A"] < 3:
            await asyncio.sleep(1)
            assert "waits_because" in await store.entry("A")
        await asyncio.sleep(25)
        assert "waits_because" not in await store.entry("A")
        assert (await run.wait()).status is RunStatus.COMPLETED


@in_virtual_time
async def test_a_call_that_never_started_fails_with_the_last_reason_and_its_tries() -> None:
    """The failure of a call whose tries were all refused until its timeout has their number and the last reason."""
    target = Calls(A=[NO_CONNECTION, NO_TOKEN])
    async with engine(Commits(), target) as orchestrator:
        result = await (await orchestrator.start(chain(A=call(timeout=30)))).wait()
    error = result.error
    assert error is not None
    assert error.type == "NotStarted"
    tries = f"it was tried {target.tries['A']} times, the last time: {NO_TOKEN.reason}"
    assert error.message.endswith(f"did not start within its timeout of 30 s: {tries}")


@in_virtual_time
async def test_a_task_without_a_slot_says_so_without_a_commit_of_its_own() -> None:
    """The commit that makes a task ready says that there is no free slot, and the commit of its start takes it back."""
    target = Calls(A=[Succeeded()], B=[Succeeded()])
    store = Commits()
    async with engine(store, target) as orchestrator:
        run = await orchestrator.start(chain(P=parallel(chain(A=job()), chain(B=job()))), run_id="r")
        assert (await store.entry("B"))["waits_because"] == "no free slot"
        assert store.count == 1
        await asyncio.sleep(2)
        assert store.count == 1
        await run.wait()
        assert "waits_because" not in await store.entry("B")


@in_virtual_time
async def test_a_task_that_no_process_can_launch_says_why() -> None:
    """A ready task whose callable a process does not find says so within 5 s of that process's look, and once."""
    store = Commits()
    definition = chain(A=task(function="no_such_module:f"))
    async with Client(store, clock=ManualClock(), entropy=SeededEntropy(2)) as client:
        await client.start(definition, run_id="r")
    assert "waits_because" not in await store.entry("A")
    async with engine(store, Calls()):
        commits = store.count
        await asyncio.sleep(6)
        reason = (await store.entry("A"))["waits_because"]
        assert reason.startswith("no process that can launch it: LookupError: no module 'no_such_module' was found")
        await asyncio.sleep(600)
        assert store.count == commits + 1


@in_virtual_time
async def test_a_reason_that_waits_is_not_written_by_a_process_that_has_left(caplog: pytest.LogCaptureFixture) -> None:
    """An orchestrator that is left two seconds after its look at a run commits nothing and logs no error later."""
    store = Commits()
    async with Client(store, clock=ManualClock(), entropy=SeededEntropy(2)) as client:
        await client.start(chain(A=task(function="no_such_module:f")), run_id="r")
    async with engine(store, Calls()):
        await asyncio.sleep(2)
    commits = store.count
    await asyncio.sleep(60)
    assert store.count == commits
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@in_virtual_time
async def test_an_hour_of_refusals_for_one_reason_costs_one_commit_and_few_reads() -> None:
    """A reason that the entry has already is neither committed nor looked up again, however often the call is tried."""
    store = Commits()
    target = Calls(A=[NO_CONNECTION])
    async with engine(store, target) as orchestrator:
        await orchestrator.start(chain(A=call(timeout=100_000)), run_id="r")
        await asyncio.sleep(10)
        commits, reads = store.count, store.reads
        await asyncio.sleep(3600)
        assert target.tries["A"] > 100
        assert store.count == commits
        assert store.reads - reads <= 10, "the sweeper reads an open run every ten minutes"


def test_reasons_of_a_wide_run_leave_its_document_small() -> None:
    """A run of 10,700 calls whose tries are all refused for a long reason fits into one upload to a bucket."""
    width = 10_700
    branches = parallel(*(chain(**{f"A{number}": call()}) for number in range(width)))
    dag = DAGBuilder({"name": "wide", **chain(P=branches)}).build_dag()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    command = StartCommand(
        schema_version=1,
        run_id="r",
        nonce="n",
        dag=dag.name,
        definition=dag.definition_id,
        input=msgspec.Raw(b"null"),
        created_at=now,
    )
    run = new_run(dag, new_header(command, dag, None))
    process = Process("0123456789abcdef" * 2, lambda _: True)
    reason = f"no connection to https://{'f' * 150}.example/: refused"
    for events in ([RunStarted()], [TaskWaits(name, 1, reason, 1) for name in dag.all_tasks]):
        changes = fold(dag, run, events, now=now, process=process)
        document, encoded = run.encode(changes.header, changes.nodes)
        run.apply(changes, encoded, len(document))
    assert all(run.nodes[name].waits_because for name in dag.all_tasks)
    assert len(document) < 5 * 1024 * 1024


@pytest.mark.parametrize(
    ("code", "failed"),
    [(socket.EAI_NONAME, "NoCredentials"), (socket.EAI_AGAIN, "NotStarted")],
    ids=["no such name", "no answer"],
)
async def test_a_call_without_any_credentials_fails_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, code: int, failed: str
) -> None:
    """
    Where there are neither credentials nor the name of a metadata server, a call fails without a second try. Where the
    name cannot be looked up at present, it is tried until its timeout.
    """
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    asked = []

    async def getaddrinfo(*args: Any, **_: Any) -> Any:
        asked.append(args)
        raise socket.gaierror(code, "the name was not found")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    settings = Settings(drain_s=0)
    target = CloudFunctionTarget(tokens=IdTokens())
    async with Orchestrator("memory:", targets={TargetTypes.CLOUD_FUNCTION: target}, settings=settings) as orchestrator:
        result = await (await orchestrator.start(chain(A=call(url="https://f.example/", timeout=2)))).wait()
    assert result.error is not None
    assert result.error.type == failed
    assert "set GOOGLE_APPLICATION_CREDENTIALS" in result.error.message
    assert (len(asked) == 1) is (failed == "NoCredentials")


async def test_a_malformed_url_fails_at_once() -> None:
    """A call whose name makes no host of the URL pattern fails without a second try, and says so."""
    settings = Settings(drain_s=0, function_url="https://{name}.example.com/", function_anonymous=True)
    async with Orchestrator("memory:", settings=settings) as orchestrator:
        function = task(target_type="CloudFunction", target_name="f" * 64)  # a label of a host has at most 63
        result = await (await orchestrator.start(chain(A=function))).wait()
    assert result.error is not None
    assert result.error.type == "ConfigurationError"


@pytest.mark.parametrize("is_attended", [False, True])
@in_virtual_time
async def test_a_client_warns_of_a_run_that_no_process_carries_out(
    *, is_attended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning comes once, names the run, and tells what to start; a run that a process works on gives none."""
    store, calls = Commits(), Calls(A=[Succeeded(b"1")])
    calls.answers_after_s = 300
    async with AsyncExitStack() as stack:
        if is_attended:
            await stack.enter_async_context(engine(store, calls))
        client = Client(store, clock=ManualClock(), entropy=SeededEntropy(2))
        await stack.enter_async_context(client)
        await client.start(chain(A=call()), run_id="r")
        await asyncio.sleep(600)
    warned = [record for record in caplog.records if getattr(record, "action", "") == "run_unattended"]
    assert [record.run_id for record in warned] == ([] if is_attended else ["r"])
    assert all("start a process that serves the store" in record.getMessage() for record in warned)
