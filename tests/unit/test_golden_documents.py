"""Documents that released versions have written: this version reads all of them, and changes none by reading it."""

import json
from datetime import timedelta

import msgspec
import pytest

from aiorch.core.draft import Process
from aiorch.core.fold import fold
from aiorch.core.run_events import LaunchOffered, ProcessesDied, RetryDue, RunEvent, TaskStopped, TaskSucceeded
from aiorch.documents.executions import ExecutionStatus
from aiorch.documents.runs import OrchestrationStatus, StoredRun
from aiorch.model.names import RunId
from aiorch.model.run_document import NodeState
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.stores.memory import MemoryStore
from tests.golden_documents import FOLDER, as_json, read
from tests.unit.test_fold_properties import check_moves, check_run

VERSIONS = sorted(path.name for path in FOLDER.iterdir())
EXPECTED = {version: json.loads((FOLDER / version / "expected.json").read_bytes()) for version in VERSIONS}
DOCUMENTS = [(version, name) for version in VERSIONS for name in EXPECTED[version]]


def written(version: str, name: str) -> bytes:
    return (FOLDER / version / name).read_bytes()


async def store_of(version: str) -> MemoryStore:
    """A store with all documents of *version*."""
    store = MemoryStore()
    await store.create_all([(name, written(version, name)) for name in EXPECTED[version]])
    return store


async def stored_run(version: str, run_id: str) -> StoredRun:
    stored = await OrchestrationStatus(await store_of(version)).get_run(RunId(run_id))
    assert stored is not None
    return stored


@pytest.mark.parametrize("version", VERSIONS)
def test_each_golden_document_has_an_expectation(version: str) -> None:
    """The other tests read every file of a version: none lies beside them."""
    files = {str(path.relative_to(FOLDER / version)) for path in (FOLDER / version).rglob("*") if path.is_file()}
    assert files == {"expected.json", *EXPECTED[version]}


@pytest.mark.parametrize(("version", "name"), DOCUMENTS)
async def test_a_golden_document_is_read(version: str, name: str) -> None:
    """Every field of a document has the value that the version read which wrote it."""
    expected = EXPECTED[version][name]
    assert as_json(await read(await store_of(version), name), expected) == expected


@pytest.mark.parametrize(("version", "name"), DOCUMENTS)
async def test_a_golden_document_is_written_back_byte_for_byte(version: str, name: str) -> None:
    """Read, and written anew with every entry encoded again, a document is the same bytes."""
    runs, fresh = OrchestrationStatus(await store_of(version)), MemoryStore()
    kind, _, rest = name.partition("/")
    identifier = rest.removesuffix(".json")
    if kind == "runs":
        run = (await stored_run(version, identifier)).run
        await fresh.create_all([(name, run.encode(run.header, run.nodes)[0])])
    elif kind == "definitions":
        await OrchestrationStatus(fresh).save_dag(await runs.get_dag(f"sha256:{identifier}"))
    elif kind == "executions":
        record = await ExecutionStatus(runs.store).get_record(identifier)
        assert record is not None
        await ExecutionStatus(fresh).name_also(identifier, record)
    else:
        command = await runs.get_start_command(RunId(identifier))
        assert command is not None
        await OrchestrationStatus(fresh).open_run(command)
    stored = await fresh.read(name)
    assert stored is not None
    assert stored.data == written(version, name)


@pytest.mark.parametrize(
    ("version", "run_id", "end", "kept"),
    [
        ("0.1", "open", RunStatus.COMPLETED, {}),
        ("0.1", "extended", RunStatus.COMPLETED, {"$run": {"x_labels"}, "Job": {"x_price", "x_note"}}),
        ("0.1", "cancelling", RunStatus.CANCELLED, {}),
        ("0.1", "failing", RunStatus.FAILED, {}),
    ],
)
async def test_an_open_golden_run_goes_on_to_its_end(
    version: str, run_id: str, end: RunStatus, kept: dict[str, set[str]]
) -> None:
    """Another process takes the run over and brings each task to its end; fields of a newer version stay."""
    dag, run, _ = await stored_run(version, run_id)
    heir, now = Process("heir", lambda _: True), run.header.updated_at
    events: list[RunEvent] = [ProcessesDied(run.owners)]
    for _ in range(10):
        now += timedelta(minutes=5)
        changes = fold(dag, run, events, now=now, process=heir)
        check_moves(run, changes)
        document, encoded = run.encode(changes.header, changes.nodes)
        run.apply(changes, encoded, len(document))
        check_run(dag, run)
        events = [next_event(name, run.nodes[name]) for name in run.active]
    assert run.status is end
    assert (end is RunStatus.COMPLETED) == all(state.status is TaskStatus.COMPLETED for state in run.nodes.values())
    extras = {"$run": run.header.extra, **{name: state.extra for name, state in run.nodes.items()}}
    assert {name: set(extra) for name, extra in extras.items() if extra} == kept


def next_event(name: str, state: NodeState) -> RunEvent:
    if state.status is TaskStatus.NEW:
        return LaunchOffered(name)
    if state.status is TaskStatus.RETRYING:
        return RetryDue(name, state.attempt)
    return (
        TaskStopped(name, state.attempt) if state.stop else TaskSucceeded(name, state.attempt, msgspec.Raw(b'"done"'))
    )
