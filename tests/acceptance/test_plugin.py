"""A kind of target from a package of its own, `examples/plugin`: installed and run, and missed where it is missing."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiorch import Orchestrator, RunStatus, Settings, TaskStatus
from tests.acceptance.surroundings import clean_environment

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
NO_TARGET = "no process that can launch it: this process has no target for Program tasks"
FAST = Settings(sweep_interval_s=0.05, drain_s=0)


def program(name: str, **keys: Any) -> dict[str, Any]:
    return {"type": "Task", "target_type": "Program", "target_name": name, **keys}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example is installed, with its entry point."""
    folder = tmp_path_factory.mktemp("installed")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", folder, PLUGIN]
    subprocess.run(pip, check=True, capture_output=True)
    return folder


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """Counts the lines of a file by a program, and hands its parameters through another one."""
    (tmp_path / "lines.txt").write_text("a\nb\n")
    count = program("wc", arguments=["-l", "lines.txt"], output="text", next="Echo")
    steps = {"Count": count, "Echo": program("cat", parameters={"a": [1]}, end=True)}
    path = tmp_path / "count.json"
    path.write_text(json.dumps({"start": "Count", "steps": steps}))
    return path


def environment(installed: Path | None = None, **variables: str) -> dict[str, str]:
    env = clean_environment() | variables
    return env if installed is None else env | {"PYTHONPATH": f"{env['PYTHONPATH']}:{installed}"}


def aiorch(*args: object, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aiorch", *map(str, args)]
    return subprocess.run(command, check=False, env=env, cwd=cwd, capture_output=True, text=True, timeout=100)


@contextmanager
def serving(store: str, installed: Path, cwd: Path) -> Iterator[None]:
    """A process with the plugin that carries out the runs of a store."""
    command = [sys.executable, "-m", "aiorch", "serve", "--port", "0", "--store", store]
    with subprocess.Popen(command, env=environment(installed), cwd=cwd, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def test_a_dag_of_the_plugin_runs(installed: Path, definition: Path, tmp_path: Path) -> None:
    """`aiorch run` launches the programs, and the run document has their results and the version that has plugins."""
    done = aiorch("run", "--json", definition, env=environment(installed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["$run"]["schema_version"] == 2
    assert document["Count"]["target_type"] == "Program"
    assert document["Count"]["result"] == "2 lines.txt\n"
    assert document["Echo"]["result"] == {"a": [1]}


def test_a_failed_program_fails_its_task(installed: Path, tmp_path: Path) -> None:
    """An exit code other than 0 is the failure of the attempt."""
    step = program("ls", arguments=["no-such-file"], end=True)
    (tmp_path / "bad.json").write_text(json.dumps({"start": "A", "steps": {"A": step}}))
    done = aiorch("run", "--json", "bad.json", env=environment(installed), cwd=tmp_path)
    error = json.loads(done.stdout)["A"]["error"]
    assert error["type"] == "Exit2"
    assert "no-such-file" in error["message"]


def test_a_program_that_is_missing_is_told_before_the_start(installed: Path, tmp_path: Path) -> None:
    """The target says why this process cannot launch a task, and no run is started."""
    (tmp_path / "a.json").write_text(json.dumps({"start": "A", "steps": {"A": program("no-such-program", end=True)}}))
    done = aiorch("run", "a.json", env=environment(installed), cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no program 'no-such-program' on this machine" in done.stderr


def test_keys_of_the_plugin_are_checked(installed: Path, tmp_path: Path) -> None:
    """`aiorch validate` knows the keys of the plugin, their types, and its rules."""
    step = program("wc -l", arguments="x", outputs="text", end=True)
    (tmp_path / "bad.json").write_text(json.dumps({"start": "A", "steps": {"A": step}}))
    done = aiorch("validate", "bad.json", env=environment(installed), cwd=tmp_path)
    assert done.returncode == 2
    for words in ("this holds arguments", "must be a list, not 'x'", "did you mean `output`?", "3 problems"):
        assert words in done.stderr


@pytest.mark.parametrize("given", ["option", "variable"])
def test_settings_of_the_plugin_are_options_and_variables(
    given: str, installed: Path, definition: Path, tmp_path: Path
) -> None:
    """The table of settings of the plugin makes both; the definition finds its file in the folder that is given."""
    definition = definition.rename(tmp_path.parent / f"{given}.json")
    option = ["--program-folder", tmp_path] if given == "option" else []
    variable = {"AIORCH_PROGRAM_FOLDER": str(tmp_path)} if given == "variable" else {}
    run = ("run", "--json", "--store", "memory:", *option, definition)
    done = aiorch(*run, env=environment(installed, **variable), cwd=tmp_path.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Count"]["result"] == "2 lines.txt\n"
    assert "AIORCH_PROGRAM_FOLDER" not in done.stderr


def test_a_setting_of_the_plugin_is_checked(installed: Path, definition: Path, tmp_path: Path) -> None:
    """A value that the table calls wrong is refused like that of any option; the help names the option."""
    wrong = aiorch("run", "--program-folder", "nowhere", definition, env=environment(installed), cwd=tmp_path)
    assert wrong.returncode == 2
    assert "'--program-folder'" in wrong.stderr
    assert "there is no folder 'nowhere'" in wrong.stderr
    shown = aiorch("run", "--help", env=environment(installed), cwd=tmp_path)
    assert re.search(r"--program-folder FOLDER\s+Folder in which programs run", shown.stdout)
    assert "AIORCH_PROGRAM_FOLDER" in shown.stdout


def test_settings_of_a_missing_plugin_are_unknown(definition: Path, tmp_path: Path) -> None:
    """Neither the option nor the variable is one of aiorch without the plugin."""
    env = environment(AIORCH_PROGRAM_FOLDER=str(tmp_path))
    done = aiorch("run", "--program-folder", "x", definition, env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "AIORCH_PROGRAM_FOLDER is no variable of aiorch" in done.stderr
    assert "No such option" in done.stderr


def test_the_service_reads_the_settings_of_the_plugin(installed: Path, definition: Path, tmp_path: Path) -> None:
    """`--check` prints them among the others, and refuses a wrong one with the words of the table."""
    command = [sys.executable, "-m", "aiorch.service", "--check"]
    for folder, code in ((str(tmp_path), 0), ("nowhere", 2)):
        env = environment(installed, AIORCH_PROGRAM_FOLDER=folder, AIORCH_DAGS=str(definition))
        done = subprocess.run(command, check=False, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == code, done.stderr
        assert f"AIORCH_PROGRAM_FOLDER={folder}" in done.stdout or "Give a folder that exists" in done.stderr


def test_the_schema_has_the_steps_of_the_plugin(installed: Path, tmp_path: Path) -> None:
    """`aiorch schema` prints the shipped schema, and with the plugin one that has its steps, too."""
    without = json.loads(aiorch("schema", env=environment(), cwd=tmp_path).stdout)
    schema = json.loads(aiorch("schema", env=environment(installed), cwd=tmp_path).stdout)
    assert schema["$defs"].keys() - without["$defs"].keys() == {"ProgramStep"}
    assert {"$ref": "#/$defs/ProgramStep"} in schema["$defs"]["Step"]["oneOf"]
    assert schema["$defs"]["ProgramStep"]["properties"]["output"]["enum"] == ["json", "text"]


def test_a_definition_is_refused_where_the_plugin_is_missing(definition: Path, tmp_path: Path) -> None:
    """The message names the kinds of targets that there are, and the plugin; the keys of the plugin are no mistakes."""
    done = aiorch("validate", definition, env=environment(), cwd=tmp_path)
    assert done.returncode == 2
    assert "must be `Function`, `CloudFunction` or `Dataflow`, not 'Program'" in done.stderr
    assert "no installed package brings the target type 'Program': install the package that does" in done.stderr
    assert "2 problems" in done.stderr


def test_the_documented_kind_is_that_of_the_example() -> None:
    """The page shows the files of the example as they are."""
    page = (PLUGIN.parents[1] / "docs" / "architecture.md").read_text()
    assert f"```python\n# kind.py\n{(PLUGIN / 'aiorch_program' / '__init__.py').read_text()}```" in page
    entry_point = page.partition("```toml\n")[2].partition("```")[0]
    assert entry_point in (PLUGIN / "pyproject.toml").read_text()


async def started(definition: Path, installed: Path, tmp_path: Path) -> tuple[str, str]:
    """Return a store with a run that a client with the plugin has started, and the id of the run."""
    store = f"sqlite:///{tmp_path}/state.db"
    start = ("start", definition, "--store", store)
    done = await asyncio.to_thread(aiorch, *start, env=environment(installed), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return store, done.stdout.strip()


async def test_a_process_without_the_plugin_leaves_the_task_to_one_that_has_it(
    installed: Path, definition: Path, tmp_path: Path
) -> None:
    """The first begins the run and says why its task waits; the other launches it; the first sees the run end."""
    store, run_id = await started(definition, installed, tmp_path)
    async with asyncio.timeout(50), Orchestrator(store, settings=FAST) as orchestrator:
        run = await orchestrator.attach(run_id)
        async for view in run.changes():
            if view.nodes["Count"].waits_because is not None:
                break
        count = view.nodes["Count"]
        assert (count.status, count.waits_because) == (TaskStatus.NEW, NO_TARGET)
        with serving(store, installed, tmp_path):
            result = await run.wait()
    assert result.status is RunStatus.COMPLETED
    assert result.results["Count"] == "2 lines.txt\n"
    assert run.view.nodes["Count"].target_type == "Program"


async def test_a_process_without_the_plugin_cancels_the_run(installed: Path, definition: Path, tmp_path: Path) -> None:
    """A task of an unknown kind that waits is skipped."""
    store, run_id = await started(definition, installed, tmp_path)
    async with asyncio.timeout(50), Orchestrator(store, settings=FAST) as orchestrator:
        run = await orchestrator.attach(run_id)
        await run.cancel()
        result = await run.wait()
    assert result.status is RunStatus.CANCELLED
    assert {state.status for state in run.view.nodes.values()} == {TaskStatus.SKIPPED}


async def test_a_process_without_the_plugin_shows_the_run(installed: Path, definition: Path, tmp_path: Path) -> None:
    """The commands that read a run know the names and statuses of its tasks."""
    store, run_id = await started(definition, installed, tmp_path)
    env = environment()
    shown = await asyncio.to_thread(aiorch, "show", run_id, "--store", store, env=env, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    drawn = await asyncio.to_thread(aiorch, "graph", run_id, "--store", store, env=env, cwd=tmp_path)
    assert re.search(r"Count.*Program.*wc", drawn.stdout), drawn.stdout
