"""The statements of the page about operating an SQLite store, on a store that was used."""

import sqlite3
from pathlib import Path

import pytest

from aiorch import Client, Orchestrator, RunStatus, Settings, TaskContext
from tests.definitions import chain, task
from tests.documentation import REPOSITORY, blocks

STATEMENTS = [
    [statement.strip() for statement in block.text.split(";") if statement.strip()]
    for block in blocks(REPOSITORY / "docs" / "sqlite.md")
    if block.language == "sql"
]
LOOK, CHECK, THROW_AWAY = STATEMENTS


def work(context: TaskContext) -> str:
    return "large" * 1000


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """A store with two runs that have ended, with results in records and in objects of values, and an open run."""
    path = tmp_path / "state.db"
    settings = Settings(drain_s=0)
    async with Orchestrator(f"sqlite:///{path}", functions={"tests:work": work}, settings=settings) as orchestrator:
        for run_id in ("monday", "tuesday"):
            copied = {"type": "Pass", "result": "${ results.A }"}
            run = await orchestrator.start(chain(A=task(function="tests:work"), B=copied), run_id=run_id)
            assert (await run.wait()).status is RunStatus.COMPLETED
    async with Client(f"sqlite:///{path}") as client:
        await client.start(chain(A=task(function="tests:work")), run_id="open")
    return path


def names(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    found = {
        name.partition("/")[0] + ("/open" if name.endswith("/open.json") else "")
        for (name,) in connection.execute("SELECT name FROM objects")
    }
    connection.close()
    return found


def test_documents_are_read_by_the_statements_of_the_page(store: Path) -> None:
    """Runs are listed with their statuses, a document is JSON, and the check finds the file sound."""
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    listed, document, rejected = (connection.execute(statement).fetchall() for statement in LOOK)
    assert {(name, status) for name, status, _ in listed} == {
        ("runs/monday.json", "Completed"),
        ("runs/tuesday.json", "Completed"),
        ("runs/open.json", "Running"),
    }
    assert document[0][0].startswith('{"$run"')
    assert rejected == []
    assert connection.execute(*CHECK).fetchall() == [("ok",)]
    connection.close()


async def test_old_runs_are_thrown_away_by_the_statements_of_the_page(store: Path) -> None:
    """The runs that ended before the day go with their records and values; the open run stays, and completes."""
    connection = sqlite3.connect(store, isolation_level=None)
    for statement in THROW_AWAY:
        connection.execute(statement)
    assert names(store) >= {"runs", "executions", "values"}, "nothing is as old as the day that the page names"
    for statement in THROW_AWAY:
        connection.execute(statement.replace("2026-11-01", "9999-01-01"))
    connection.close()
    assert names(store) == {"runs/open", "definitions", "open"}
    async with Orchestrator(f"sqlite:///{store}", functions={"tests:work": work}) as orchestrator:
        run = await orchestrator.attach("open")
        assert (await run.wait()).status is RunStatus.COMPLETED
        assert [each.run_id for each in await orchestrator.runs()] == ["open"]
