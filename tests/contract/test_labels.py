"""Labels of runs in the metadata of every kind of store: one listing finds the runs that have them."""

from datetime import UTC, datetime

from msgspec import Raw

from aiorch.documents.runs import OrchestrationStatus
from aiorch.model.run_document import RunHeader
from aiorch.model.status import RunStatus
from aiorch.ports.store import Store

NOW = datetime(2026, 11, 28, tzinfo=UTC)
LONGEST = {f"k{number:02}".ljust(63, "k"): "v" * 63 for number in range(16)}
RUNS = {
    "prod": {"team": "data", "env": "prod"},
    "empty": {"team": "data", "env": ""},
    "longest": LONGEST,
    "none": {},
}


async def test_runs_are_found_by_their_labels(store: Store) -> None:
    """Labels come back from a listing as they were written, and runs without one of the wanted labels are left out."""
    runs = OrchestrationStatus(store)
    for run_id, labels in RUNS.items():
        header = RunHeader(
            schema_version=2,
            run_id=run_id,
            nonce="n",
            dag="report",
            definition="sha256:0",
            status=RunStatus.RUNNING,
            input=Raw(b"null"),
            created_at=NOW,
            updated_at=NOW,
            labels=labels,
        )
        await runs.save_run(header, b"{}", if_generation_match=0)

    async def found(**labels: str) -> set[str]:
        return {each.run_id for each in await runs.list_runs(labels)}

    assert {each.run_id: dict(each.labels) for each in await runs.list_runs()} == RUNS
    assert await found() == set(RUNS)
    assert await found(team="data") == {"prod", "empty"}
    assert await found(team="data", env="prod") == {"prod"}
    assert await found(env="") == {"empty"}
    assert await found(**LONGEST) == {"longest"}
    assert await found(team="web") == await found(nothing="") == set()
