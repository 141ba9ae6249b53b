"""``make demo``, killed half-way and started again, as somebody would who does not believe it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

from tests.acceptance.surroundings import clean_environment

REPOSITORY = Path(__file__).parents[2]
DEMO = [sys.executable, str(REPOSITORY / "examples/demo/demo.py")]
PATIENCE_S = 100

pytestmark = pytest.mark.timeout(3 * PATIENCE_S)


class Demo(NamedTuple):
    folder: Path
    before: dict[str, Any]
    """The run's document when all processes had been killed."""

    output: str
    """What the second start printed."""

    exit_code: int
    document: dict[str, Any]
    process_group: int


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    env = clean_environment()

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            DEMO,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def show(run_id: str) -> Any:
        command = [sys.executable, "-m", "aiorch", "show", run_id, "--json"]
        return json.loads(subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE).stdout)

    with start() as first:
        assert first.stdout is not None
        lines: list[str] = []
        for line in first.stdout:
            lines.append(line)
            if "CountLines Completed" in line:
                break
        os.killpg(first.pid, signal.SIGKILL)
    found = re.search(r"--run-id (\S+)", "".join(lines))
    assert found, lines
    before = show(found[1])
    with start() as second:
        output, _ = second.communicate(timeout=PATIENCE_S)
    return Demo(folder, before, output, second.returncode, show(found[1]), second.pid)


def test_it_was_killed_half_way(demo: Demo) -> None:
    """What the other tests say about the second start means something: the first one had work left."""
    assert demo.before["$run"]["status"] == "Running"
    assert demo.before["CountLines"]["status"] == "Completed"
    assert demo.before["WriteReport"]["status"] == "New"


def test_the_second_start_ends_well(demo: Demo) -> None:
    """It exits with 0, and every node of the one run has completed."""
    assert demo.exit_code == 0, demo.output
    assert "it continues where it stopped" in demo.output
    assert {entry["status"] for entry in demo.document.values()} == {"Completed"}


def test_completed_tasks_are_not_run_again(demo: Demo) -> None:
    """A task that was completed when everything was killed has the same entry at the end."""
    completed = {name: entry for name, entry in demo.before.items() if entry["status"] == "Completed"}
    assert {"ListSources", "CountLines"} <= completed.keys()
    assert {name: demo.document[name] for name in completed} == completed


def test_a_retry_happens(demo: Demo) -> None:
    """The function's first answer is 503, and its task completes with another attempt."""
    task = demo.document["NamingStyles"]
    assert [failure["type"] for failure in task["failures"]][-1] == "HTTP 503"
    assert task["attempt"] > 1


def test_it_shows_the_run_the_tree_and_where_the_results_are(demo: Demo) -> None:
    """Without a terminal there are plain lines while it runs; at the end the tree, and two files that exist."""
    assert re.search(r"^\d\d:\d\d:\d\d Merge Completed", demo.output, re.MULTILINE)
    assert re.search(r"^└ Syntax +Completed", demo.output, re.MULTILINE)
    assert re.search(r"^  ├ CountIdentifiers +Completed", demo.output, re.MULTILINE)
    report, graph = (
        demo.folder / path for path in re.findall(r"^The (?:report|graph): +(\S+)$", demo.output, re.MULTILINE)
    )
    assert f"run `{demo.document['$run']['run_id']}`" in report.read_text()
    assert ET.parse(graph).getroot().tag.endswith("svg")


def test_the_report_is_about_real_files(demo: Demo) -> None:
    """The counts are those of the standard library of this Python."""
    lines = demo.document["CountLines"]["result"]
    assert lines["lines"] > 50_000
    assert lines["blank"] + lines["comments"] < lines["lines"]
    report = (demo.folder / ".aiorch/demo/report.md").read_text()
    assert f"| lines | {lines['lines']:,} |" in report
    assert "| self |" in report


def test_no_process_is_left_running(demo: Demo) -> None:
    """Neither the function nor an engine outlives the demo."""
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.process_group, 0)


def test_the_command_that_an_interrupted_demo_names_goes_on(tmp_path: Path) -> None:
    """After Ctrl-C it is the demo itself that is named, with which its function ends, and it goes on with the run."""
    env = clean_environment()
    env.pop("MAKELEVEL", None)  # under make it would name that

    def start(command: list[str]) -> "subprocess.Popen[str]":
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True, **pipes)

    with start(DEMO) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if "ListSources Completed" in line:
                break
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does
        output = first.stdout.read()
    named = re.search(r"Continue it with: (.*)", output)
    assert named, output
    with start(shlex.split(named[1])) as second:
        output, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, output
    assert "was broken off: it continues where it stopped" in output


def test_make_demo_runs_it() -> None:
    """The documented command is this demo."""
    assert re.search(
        r"^demo:.*\n\t.*python examples/demo/demo\.py$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
    )
