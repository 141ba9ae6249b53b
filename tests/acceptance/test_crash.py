"""Processes that are really killed: nothing is lost, and nothing that is committed is done again."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from aiorch import RunStatus, TaskStatus
from aiorch.core.attempts import LAUNCHES_MAX, LOST_ATTEMPTS_MAX
from aiorch.documents.runs import OrchestrationStatus
from aiorch.model.names import run_id
from aiorch.model.run import Run
from aiorch.stores.sqlite import SQLiteStore

CHILD = Path(__file__).with_name("crash_child.py")
ROOT = CHILD.parents[2]
KILLS = 20

ROUND_LINES = 24
"""More than one round of the child's DAG prints (10 tasks, 2 lines each): whoever has printed them has joined one."""


def live(state: Path, calls: Path, lines: int) -> str:
    """Run a child until it has printed *lines* lines, kill it, and return the last line it printed."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(state), str(calls)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    last = ""
    for _ in range(lines):
        line = child.stdout.readline()
        if not line:
            break
        last = line.strip()
    child.kill()
    child.stdout.close()
    child.wait()
    return last


def stored(state: Path) -> Run | None:
    async def read() -> Run | None:
        store = SQLiteStore(state)
        try:
            found = await OrchestrationStatus(store).get_run(run_id("crash"))
        finally:
            await store.aclose()
        return found.run if found else None

    return asyncio.run(read())


def calls_of(calls: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in calls.read_text().splitlines()) if calls.exists() else Counter()


def _is_at_a_limit(run: Run) -> bool:
    """Whether one more death would rightly fail a task: it was lost, or sent again, as often as is allowed."""
    return any(
        not node.status.is_terminal and (node.lost >= LOST_ATTEMPTS_MAX or node.launches >= LAUNCHES_MAX)
        for node in run.nodes.values()
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_nothing_is_lost_or_done_again(tmp_path: Path, seed: int) -> None:
    """
    A process that is killed with SIGKILL twenty times brings its run to the end when it is started again.

    Each function's own log of calls is the witness: a task whose completion was committed is never called again, and
    every task is completed exactly once. A task that was lost as often as is allowed is let live through one round.
    """
    state, calls = tmp_path / "state.db", tmp_path / "calls"
    chance = random.Random(seed)
    committed: dict[str, int] = {}
    run: Run | None = None
    kills = 0
    while kills < KILLS:
        lines = ROUND_LINES if run is not None and _is_at_a_limit(run) else chance.randint(4, 14)
        last = live(state, calls, lines)
        kills += 1
        counts, run = calls_of(calls), stored(state)
        for name, count in committed.items():
            assert counts[name] == count, f"{name} was called again after its completion was committed"
        if run is not None:
            done = {name for name, node in run.nodes.items() if node.status is TaskStatus.COMPLETED}
            committed = {name: counts[name] for name in done if name in counts}
        if last.startswith("ended"):
            break
    last = live(state, calls, 10_000)
    run = stored(state)
    assert run is not None
    assert last == "ended Completed", {name: node.error for name, node in run.nodes.items() if node.error}
    assert run.status is RunStatus.COMPLETED
    assert kills == KILLS, "the run ended before it was killed often enough to tell"
    counts = calls_of(calls)
    for name, node in run.nodes.items():
        assert node.status is TaskStatus.COMPLETED
        if node.target_name:
            assert counts[name] >= 1
            assert counts[name] <= node.launches + node.lost, f"{name} was called without a committed intent"
            assert not node.failures or node.lost
