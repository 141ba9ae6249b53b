"""Completion of words by a shell: the protocol of click, spoken to a real ``aiorch`` process."""

import json
import socket
import sqlite3
import time

import pytest

from aiorch.definition.models import definition_schema
from aiorch.stores.sqlite_errors import BUSY_S
from tests.acceptance.folder import Folder, calls


class Shell(Folder):
    """A folder in which a shell asks for completions."""

    def complete(self, line, **env):
        """Return what ``aiorch`` proposes for the last word of *line*, and make sure that nothing else is printed."""
        words = line.split(" ")
        asked = {"_AIORCH_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = self.python("-m", "aiorch", **asked, **env)
        assert (done.returncode, done.stderr) == (0, "")
        proposals = [line.split(",", 1) for line in done.stdout.splitlines() if line]
        assert all(kind == "plain" for kind, _ in proposals)
        return [value for _, value in proposals]


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


@pytest.fixture
def used(shell):
    """A folder in which two runs have ended."""
    shell.write("a.json", calls("echo"))
    for run_id in ("monday", "tuesday"):
        assert shell.run("run", "a.json", "--run-id", run_id).returncode == 0
    return shell


@pytest.mark.parametrize("program", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell, program):
    """``_AIORCH_COMPLETE`` of a shell prints the script for that shell."""
    done = shell.run(_AIORCH_COMPLETE=f"{program}_source")
    assert (done.returncode, done.stderr) == (0, "")
    assert "_AIORCH_COMPLETE" in done.stdout


def test_commands_and_options_are_completed(shell):
    """The first word is a command, and a word that begins with dashes an option of it."""
    assert shell.complete("aiorch res") == ["result", "resume"]
    assert "--run-id" in shell.complete("aiorch run --run")


@pytest.mark.parametrize("command", ["run", "start", "validate", "graph", "serve --dag"])
def test_definition_files_are_completed(shell, command):
    """Where a command takes a definition, definition files and folders are proposed, and no others."""
    (shell.path / "__pycache__").mkdir()
    for name in ("a.json", "b.yaml", "c.yml", "notes.txt", ".hidden.yaml"):
        (shell.path / name).touch()
    (shell.path / "dags" / "etl").mkdir(parents=True)
    for name in ("load.yaml", "load.py"):
        (shell.path / "dags" / "etl" / name).touch()
    found = shell.complete(f"aiorch {command} ")
    assert found == ["a.json", "b.yaml", "c.yml", "dags/"]
    assert shell.complete(f"aiorch {command} b") == ["b.yaml"]
    assert shell.complete(f"aiorch {command} ./b") == ["./b.yaml"]
    assert shell.complete(f"aiorch {command} .h") == [".hidden.yaml"]
    assert shell.complete(f"aiorch {command} d") == ["dags/etl/load.yaml"]  # through folders that leave no choice
    assert shell.complete(f"aiorch {command} nowhere/") == []


@pytest.mark.parametrize("command", ["show", "cancel", "resume", "graph", "run a.json --run-id"])
def test_run_ids_are_completed(used, command):
    """Where a command takes the id of a run, the runs of the store are proposed, the newest first."""
    assert [each for each in used.complete(f"aiorch {command} ") if each != "a.json"] == ["tuesday", "monday"]
    assert used.complete(f"aiorch {command} mo") == ["monday"]


def test_run_ids_are_those_of_the_store_that_is_named(used):
    """An option before the word, or the environment, names the store that is asked."""
    assert used.complete("aiorch show --store sqlite:///other.db ") == []
    assert used.complete("aiorch show ", AIORCH_STORE="sqlite:///other.db") == []
    assert not (used.path / "other.db").exists()
    used.run("run", "a.json", "--run-id", "there", "--store", "sqlite:///other.db")
    assert used.complete("aiorch show ", AIORCH_STORE="sqlite:///other.db") == ["there"]


@pytest.mark.parametrize("store", ["memory:", "postgres://x", "sqlite:///a.json", "gs://Not-A-Bucket"])
def test_store_that_cannot_be_read_completes_nothing(used, store):
    """A store of the wrong form, or a file that is none, proposes nothing and prints nothing."""
    assert used.complete("aiorch show ", AIORCH_STORE=store) == []


def seconds(act):
    """Return how long *act* takes."""
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def test_store_that_does_not_answer_completes_nothing_soon(used):
    """A store that another program has locked proposes nothing, long before commands would give the store up."""
    as_a_rule = seconds(lambda: used.complete("aiorch show "))
    with sqlite3.connect(used.path / ".aiorch" / "state.db", isolation_level=None) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        found = []
        assert seconds(lambda: found.extend(used.complete("aiorch show "))) < as_a_rule + BUSY_S - 2
        assert found == []
        other.execute("ROLLBACK")
    other.close()


def test_bucket_that_does_not_answer_completes_nothing_soon(shell):
    """A bucket whose server does not answer proposes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        # A request alone would be waited for longer than the patience of `complete`.
        assert shell.complete("aiorch show --store gs://acme-runs ", STORAGE_EMULATOR_HOST=host) == []


def test_schema_is_json_on_stdout(shell):
    """``aiorch schema`` prints the JSON Schema that the package ships, and nothing else."""
    done = shell.run("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(json.dumps(definition_schema()))
