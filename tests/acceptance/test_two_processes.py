"""Real processes on one SQLite file, each of which knows other callables."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiorch import Client, RunStatus, Settings, TaskStatus
from tests import definitions
from tests.definitions import chain, parallel

CHILD = Path(__file__).with_name("alternating_child.py")
ROOT = CHILD.parents[2]
SIDES = ("left", "right")


def task(side: str) -> dict[str, Any]:
    return definitions.task(target_name=f"t:{side}")


def alternating() -> dict[str, Any]:
    """left, right, left, right, four branches of both, right, left."""
    steps = {f"T{i}": task(SIDES[i % 2]) for i in range(4)}
    branches = [chain(**{f"B{i}": task(SIDES[i % 2])}) for i in range(4)]
    return chain(**steps, P=parallel(*branches), T4=task("right"), T5=task("left"))


@asynccontextmanager
async def process(tmp_path: Path, side: str) -> AsyncIterator[Process]:
    """A process that launches the tasks of *side*, until the end or until it is killed."""
    arguments = [str(CHILD), str(tmp_path / "state.db"), str(tmp_path / "calls"), side]
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    try:
        yield child
    finally:
        await child.communicate(b"")  # and closes its standard input


def calls_of(tmp_path: Path) -> list[list[str]]:
    return [line.split() for line in (tmp_path / "calls").read_text().splitlines()]


def client_of(tmp_path: Path) -> Client:
    return Client(f"sqlite:///{tmp_path}/state.db", settings=Settings(sweep_interval_s=0.05))


async def test_tasks_alternate_between_two_processes(tmp_path: Path) -> None:
    """Each process calls only what it knows, once, and hands the run to the other."""
    async with (
        asyncio.timeout(40),
        process(tmp_path, "left") as left,
        process(tmp_path, "right") as right,
        client_of(tmp_path) as client,
    ):
        result = await (await client.start(alternating(), run_id="r")).wait()
        while await client.store.list("open/"):  # the end is told before the marker is removed
            await asyncio.sleep(0.01)
    assert result.status is RunStatus.COMPLETED
    assert result.results["T5"] == "left after 9"
    pids = {"left": str(left.pid), "right": str(right.pid)}
    calls = calls_of(tmp_path)
    assert all(pids[side] == pid for _, side, pid in calls)
    assert Counter(node for node, _, _ in calls) == Counter([f"T{i}" for i in range(6)] + [f"B{i}" for i in range(4)])
    assert left.returncode == right.returncode == 0


async def test_a_process_that_is_killed_is_replaced_by_another(tmp_path: Path) -> None:
    """What a killed process had begun is begun again by one that knows the same callables, and nothing else is."""
    async with (
        asyncio.timeout(40),
        process(tmp_path, "left"),
        client_of(tmp_path) as client,
    ):
        async with process(tmp_path, "right") as right:
            run = await client.start(alternating(), run_id="r")
            async for _ in run.changes():
                if run.run.nodes["T1"].status is not TaskStatus.NEW:
                    break
            right.kill()
        assert not run.status.is_terminal
        async with process(tmp_path, "right"):
            result = await run.wait()
    assert result.status is RunStatus.COMPLETED
    counts = Counter(node for node, _, _ in calls_of(tmp_path))
    for name, node in run.run.nodes.items():
        if node.target_name == "t:left":
            assert counts[name] == 1
        elif node.target_name:
            assert 1 <= counts[name] <= node.launches + node.lost
