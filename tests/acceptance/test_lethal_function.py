"""Functions that kill their process: the run comes to an end all the same, and nothing is called for ever."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("lethal_child.py")
ROOT = CHILD.parents[2]
STARTS_MAX = 20


@pytest.mark.parametrize(
    ("on_lost", "when", "ended", "calls_of_attempts"),
    [
        ("retry", "at once", "Failed Lost 1 10", {"1": 10}),
        ("fail", "at once", "Failed Lost 1 1", {"1": 1}),
        ("retry", "running", "Failed Lost 4 1", {"1": 1, "2": 1, "3": 1, "4": 1}),
        ("fail", "running", "Failed Lost 1 1", {"1": 1}),
    ],
)
def test_a_lethal_function_is_not_called_for_ever(
    tmp_path: Path, on_lost: str, when: str, ended: str, calls_of_attempts: dict[str, int]
) -> None:
    """
    A process that is started again each time that its function has killed it comes to the end of the run.

    Killed before the launch was recorded as Running, the same attempt is sent ten times under one key; after that, a
    new attempt follows three times; with `on_lost: fail` it is called exactly once. Each function's own log of calls is
    the witness.
    """
    state, calls = tmp_path / "state.db", tmp_path / "calls"
    for _ in range(STARTS_MAX):
        child = subprocess.run(
            [sys.executable, str(CHILD), str(state), str(calls), on_lost, when],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        if child.returncode == 0:
            break
        assert child.returncode == 9
    assert child.stdout.strip() == ended
    lines = [line.split() for line in calls.read_text().splitlines()]
    assert Counter(attempt for attempt, _ in lines) == calls_of_attempts
    assert len({key for _, key in lines}) == len(calls_of_attempts), "one key for each attempt"
