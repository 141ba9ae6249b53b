"""
Golden documents: small runs that together show every field of every stored document, as this version writes them.

``python -m tests.golden_documents 0.1`` wrote ``tests/data/documents/0.1``, which is frozen: this script never writes
into an existing folder, and every later version must read it (`tests/unit/test_golden_documents.py`). A version whose
documents gain fields gets a folder of its own. Names of files are names of objects in a store; ``expected.json`` holds
the values that the version has read from each of them.

The runs that have ended are runs of an `Orchestrator` in virtual time, with callables, a Cloud Function that fails and
jobs that end at once. The open runs are folded event by event, without execution records, since few of their states
last.
"""

import asyncio
import linecache
import sys
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from aiorch.core.begin import new_header, new_run
from aiorch.core.draft import Process
from aiorch.core.fold import fold
from aiorch.core.run_events import (
    CancelRequested,
    LaunchOffered,
    ProcessesDied,
    RetryDue,
    RunEvent,
    RunStarted,
    TaskFailed,
    TaskInterrupted,
    TaskLost,
    TaskRunning,
    TaskUnanswered,
    TaskWaits,
)
from aiorch.definition.build import DAGBuilder
from aiorch.documents.executions import Execution, ExecutionStatus
from aiorch.documents.runs import OrchestrationStatus
from aiorch.model.dag import DAG, Node, Task
from aiorch.model.enums import TargetTypes
from aiorch.model.failure import Failure, Part
from aiorch.model.names import RunId, run_object
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState, RunHeader, StartCommand, Unanswered
from aiorch.model.status import RunStatus
from aiorch.nodes.parallel import Parallel
from aiorch.orchestrator import Orchestrator
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Answer, Failed, NotStarted, Succeeded
from aiorch.stores.memory import MemoryStore
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import call, chain, job, parallel, task
from tests.fakes.jobs import Jobs

FOLDER = Path(__file__).parent / "data" / "documents"

SHOWN = (NodeState, RunHeader, StartCommand, Execution, Failure, Part, Unanswered)
"""All of their fields must be in the documents, with a value that is not the default."""

NODE_FACTS = (
    *("node_type", "next", "comment", "target_type", "target_name", "parameters", "function", "timeout_s", "retry"),
    *("on_lost", "on_no_result", "project_id", "region", "url", "container_gcs_path", "template_path", "template_type"),
    *("environment", "on_failure"),
)


# -- what is read from a document --------------------------------------------------------------------------------


def facts_of_run(run: Run) -> dict[str, Any]:
    open_branches = {name: run.pending.get(name, 0) for name, state in run.nodes.items() if state.branches}
    return {"header": run.header, "nodes": run.nodes, "open_branches": open_branches}


def facts_of_dag(dag: DAG) -> dict[str, Any]:
    facts = {"name": dag.name, "start_node": dag.start_node, "timeout": dag.timeout, "id": dag.definition_id}
    return {**facts, "nodes": {name: _facts_of_node(node) for name, node in dag.all_nodes.items()}}


def _facts_of_node(node: Node) -> dict[str, Any]:
    facts = {name: getattr(node, name) for name in NODE_FACTS if hasattr(node, name)}
    return (
        {**facts, "branches": [branch.start_node for branch in node.branches]} if isinstance(node, Parallel) else facts
    )


def as_json(value: Any, like: Any = None) -> Any:
    """
    Return *value* as plain JSON types, every field of a struct included.

    Args:
        value: What was read.

        like: What is expected of it: of a struct only the fields that stand there, since a later version may have more.
    """
    if isinstance(value, msgspec.Struct):
        names = like if isinstance(like, dict) else value.__struct_fields__
        value = {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        known = like if isinstance(like, dict) else {}
        return {key: as_json(each, known.get(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        items = like if isinstance(like, list) else []
        return [as_json(each, known) for each, known in zip_longest(value, items[: len(value)])]
    return msgspec.json.decode(msgspec.json.encode(value))


async def read(store: MemoryStore, name: str) -> Any:
    """Return all facts of the stored object *name*."""
    runs = OrchestrationStatus(store)
    kind, _, rest = name.partition("/")
    identifier = rest.removesuffix(".json")
    if kind == "runs":
        stored = await runs.get_run(RunId(identifier))
        return stored and facts_of_run(stored.run)
    if kind == "definitions":
        return facts_of_dag(await runs.get_dag(f"sha256:{identifier}"))
    if kind == "executions":
        return await ExecutionStatus(runs.store).get_record(identifier)
    assert kind == "open", name
    return await runs.get_start_command(RunId(identifier))


# -- runs that have ended ----------------------------------------------------------------------------------------

SOURCE = """\
def parse(row):
    return int(row)


async def extract(context):
    if context.attempt == 1:
        try:
            parse("n/a")
        except ValueError as error:
            raise RuntimeError("row 17") from error
    return {"rows": [{"id": number, "name": "ordér " * 3} for number in range(40)]}


async def prepare(context):
    return {"day": context.input["day"], "rows": len(context.results["Extract"]["rows"])}


async def check(context):
    if context.input["fails"]:
        raise ExceptionGroup("12 hosts", [parse_error(number) for number in range(12)])


def parse_error(number):
    try:
        parse(f"host {number}")
    except ValueError as error:
        return error


async def work(context):
    return context.node
"""
SOURCE_FILE = "/srv/etl/etl.py"


class Calls:
    """A Cloud Function without an instance at first; it answers 503 to the first attempt that runs."""

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        context.begin()
        if context.execution_id not in self._refused:
            self._refused.add(context.execution_id)
            return NotStarted("HTTP 429: no available instance")
        if context.attempt == 1:
            return Failed(Failure.of("HTTP 503", "Service Unavailable", "<html>try again</html>"))
        return Succeeded(
            msgspec.json.encode({"loaded": context.parameters["rows"], "table": context.parameters["table"]})
        )

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        return None

    async def aclose(self) -> None:
        return None


def etl() -> dict[str, Any]:
    """Each key of a definition stands in it."""
    retry = {"max_attempts": 3, "initial_delay": 5, "backoff": 3, "max_delay": 60, "jitter": 0.5}
    load = call(
        project_id="acme-data-dev",
        region="europe-west1",
        parameters={"table": "orders", "batch": None, "nested": {"keys": [1, 2.5, True]}},
        function="etl:prepare",
        timeout=600,
        retry={**retry, "on": ["5xx", "Timeout"]},
        on_no_result="accept",
        comment="Loads the rows.",
    )
    report = job(target_name="report", container_gcs_path="gs://acme/report.json", environment={"numWorkers": 2})
    del report["template_path"]
    inner = parallel(
        chain(Check=task(target_name="etl:check", on_lost="fail")),
        chain(Slow=job(retry={"max_attempts": 2}), AfterSlow=task(target_name="etl:work")),
    )
    branches = parallel(chain(Report=report), {**chain(Inner=inner), "comment": "A branch."}, on_failure="wait")
    extract = task(target_name="Extract", function="etl:extract", retry={"max_attempts": 2, "initial_delay": 1.5})
    steps = chain(Extract=extract, Load=load, Branches=branches, End=task(target_name="etl:work"))
    return {"$schema": "./definition.schema.json", "name": "etl", "timeout": 3600, "comment": "All keys.", **steps}


@in_virtual_time
async def ended_runs() -> MemoryStore:
    """``completed``, ``failed``, ``failed.2``, which resumes it, and ``cancelled``."""
    etl_module: dict[str, Any] = {"__name__": "etl"}
    linecache.cache[SOURCE_FILE] = len(SOURCE), None, SOURCE.splitlines(keepends=True), SOURCE_FILE
    exec(compile(SOURCE, SOURCE_FILE, "exec"), etl_module)
    store = MemoryStore()
    async with Orchestrator(
        store,
        functions={f"etl:{name}": etl_module[name] for name in ("extract", "prepare", "check", "work")},
        targets={TargetTypes.CLOUD_FUNCTION: Calls(), TargetTypes.DATAFLOW: Jobs()},
        clock=ManualClock(),
        entropy=SeededEntropy(1),
    ) as orchestrator:
        completed = await orchestrator.start(etl(), input={"day": "2026-11-23", "fails": False}, run_id="completed")
        assert (await completed.wait()).status is RunStatus.COMPLETED
        failed = await orchestrator.start(etl(), input={"day": "2026-11-24", "fails": True}, run_id="failed")
        assert (await failed.wait()).status is RunStatus.FAILED
        resumed = await orchestrator.resume("failed")
        assert (await resumed.wait()).status is RunStatus.FAILED
        cancelled = await orchestrator.start(etl(), input={"day": "2026-11-25", "fails": False}, run_id="cancelled")
        await asyncio.sleep(1)
        await orchestrator.cancel("cancelled", reason="not needed any more")
        assert (await cancelled.wait()).status is RunStatus.CANCELLED
    return store


# -- open runs ---------------------------------------------------------------------------------------------------

FIRST = Process(
    "1" * 32,
    lambda task: task.name in ("TakenOver", "NoSlot"),
    why_not=lambda task: "No module named 'pricing'" if task.name == "NoProcess" else None,
    slots={TargetTypes.DATAFLOW: lambda: 0},
)
SECOND = Process("2" * 32, lambda task: task.name != "NoProcess", awaits_events=True)
UNREACHED = ("NoSlot", "NoProcess")


def states() -> dict[str, Any]:
    """A definition with a task for each state that an open run may have."""
    retry = {"max_attempts": 3, "initial_delay": 60, "jitter": 0}
    tasks = {
        **{
            name: task(retry=retry)
            for name in ("TakenOver", "NoProcess", "Retrying", "Lost", "Interrupted", "Stranded")
        },
        **{name: job() for name in ("NoSlot", "Job")},
        **{name: call(on_no_result="call_again") for name in ("Refused", "NoAnswer", "Succeeded", "CallsAgain")},
        "Fails": task(),
    }
    branches = [chain(**{name: step, f"After{name}": task()}) for name, step in tasks.items()]
    return {"name": "states", "timeout": 86_400, **chain(Branches=parallel(*branches, on_failure="wait"))}


class FoldedRun:
    """A run of `states` that is folded and committed event by event."""

    def __init__(self, store: MemoryStore, run_id: str, *, resumed_from: str | None = None, **definition: Any) -> None:
        self.runs, self.run_id = OrchestrationStatus(store), RunId(run_id)
        self._resumed_from = resumed_from
        self.dag = DAGBuilder({**states(), **definition}).build_dag()
        self.now = ManualClock().now()
        self.generation = 0
        self.run: Run

    async def begin(self) -> None:
        command = StartCommand(
            schema_version=1,
            run_id=self.run_id,
            nonce=SeededEntropy(len(self.run_id)).token(),
            dag=self.dag.name,
            definition=self.dag.definition_id,
            input=msgspec.Raw(b'{"day":"2026-11-26"}'),
            created_at=self.now,
            resumed_from=self._resumed_from,
        )
        await self.runs.save_dag(self.dag)
        await self.runs.open_run(command)
        assert self.dag.timeout is not None
        self.run = new_run(self.dag, new_header(command, self.dag, self.now + timedelta(seconds=self.dag.timeout)))

    async def commit(self, *events: RunEvent, by: Process = SECOND, after_s: float = 0.25) -> None:
        self.now += timedelta(seconds=after_s)
        changes = fold(self.dag, self.run, events, now=self.now, process=by)
        assert not changes.is_empty, events
        document, encoded = self.run.encode(changes.header, changes.nodes)
        self.generation = await self.runs.save_run(changes.header, document, if_generation_match=self.generation)
        self.run.apply(changes, encoded, len(document))

    async def reach_every_state(self) -> None:
        await self.begin()
        await self.commit(RunStarted(), by=FIRST)
        await self.commit(ProcessesDied(frozenset({FIRST.id})))
        ready = [name for name, state in self.run.nodes.items() if state.ready_at and name not in UNREACHED]
        await self.commit(*map(LaunchOffered, ready))
        await self.commit(
            TaskFailed("Retrying", 1, Failure.of("OSError", "disk full", where="etl.py:3 in load")),
            TaskLost("Lost", 1, "its process died while it was running"),
            TaskInterrupted("Interrupted", 1),
            TaskInterrupted("Stranded", 1),
            TaskRunning("Job", 1, "2026-11-26_04_00_00-1234567890"),
            TaskWaits("Refused", 1, "HTTP 429: no available instance", launch=1),
            TaskRunning("NoAnswer", 1, answer_lost=True, was_refused=True),
            TaskRunning("CallsAgain", 1, answer_lost=True),
            TaskUnanswered("Succeeded", 1, "event-1"),
        )
        await self.commit(TaskUnanswered("CallsAgain", 1, "event-2"), RetryDue("Interrupted", 1))


async def open_runs() -> MemoryStore:
    """``open``, ``cancelling``, ``failing``, and ``extended``, to which a newer version has added fields."""
    store = MemoryStore()
    await FoldedRun(store, "open").reach_every_state()
    cancelling = FoldedRun(store, "cancelling", resumed_from="another")
    await cancelling.reach_every_state()
    await cancelling.commit(CancelRequested("not needed any more"))
    fail_fast = chain(Branches={**states()["steps"]["Branches"], "on_failure": "fail_fast"}, After=task())
    failing = FoldedRun(store, "failing", **fail_fast)
    await failing.reach_every_state()
    await failing.commit(TaskFailed("Fails", 1, Failure.of("ValueError", "no number: 'n/a'")))
    await extended(store)
    return store


async def extended(store: MemoryStore) -> None:
    """Let this version go on with a run to which a newer version has added fields: it keeps them."""
    run = FoldedRun(store, "extended")
    await run.begin()
    await run.commit(RunStarted(), by=SECOND)
    name = run_object(run.run_id)
    stored = await store.read(name)
    assert stored is not None
    document = msgspec.json.decode(stored.data)
    document["$run"] |= {"x_labels": {"team": "orders", "größe": [1, None]}}
    document["Job"] |= {"x_price": 1.50, "x_note": 'a "quoted" text'}
    run.generation = await store.write(name, msgspec.json.encode(document), if_generation_match=stored.generation)
    read_back = await OrchestrationStatus(store).get_run(run.run_id)
    assert read_back is not None
    run.run = read_back.run
    await run.commit(TaskRunning("Job", 1, "2026-11-26_04_00_00-9876543210"))


# -- the folder --------------------------------------------------------------------------------------------------


def structs_in(value: Any) -> Iterable[msgspec.Struct]:
    """Yield all structs in *value*, itself included."""
    if isinstance(value, msgspec.Struct):
        yield value
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from structs_in(each)


def unshown(facts: Iterable[Any]) -> set[str]:
    """Return the fields that have no value in any document."""
    left = {f"{kind.__name__}.{field.name}" for kind in SHOWN for field in msgspec.structs.fields(kind)}
    for struct in structs_in(list(facts)):
        for field in msgspec.structs.fields(type(struct)):
            if getattr(struct, field.name) != field.default:
                left.discard(f"{type(struct).__name__}.{field.name}")
    return left


async def write(folder: Path, stores: Iterable[MemoryStore]) -> None:
    """Write all objects of *stores* and what is read from them. Raises: FileExistsError when the folder is there."""
    folder.mkdir(parents=True)
    read_from: dict[str, Any] = {}
    for store in stores:
        for info in await store.list(""):
            stored = await store.read(info.name)
            assert stored is not None
            path = folder / info.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(stored.data)
            read_from[info.name] = await read(store, info.name)
    assert not (left := unshown(read_from.values())), f"no document shows {sorted(left)}"
    expected = msgspec.json.format(msgspec.json.encode(as_json(read_from)), indent=1)
    (folder / "expected.json").write_bytes(expected + b"\n")


if __name__ == "__main__":
    made = (ended_runs(), asyncio.run(open_runs()))
    asyncio.run(write(FOLDER / sys.argv[1], made))
