"""Options of the ``aiorch`` command that a person writes in more than one way, and the typical mistakes in them."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from aiorch.errors import StoreUrlError
from aiorch.stores import open_store
from tests.acceptance.folder import PATIENCE_S, Folder, calls

STARTS = """
import asyncio
from aiorch import Client

async def main():
    async with Client() as client:
        for number in range(52):
            await client.start("a.json", run_id=f"r{number:02}")

asyncio.run(main())
"""

LOGS = """
import logging

def f(context):
    logging.getLogger("loads").info("loaded 17 rows")
    return context.input
"""


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    (tmp_path / "logs.py").write_text(LOGS)
    definition = calls("echo")
    definition["steps"]["S1"]["function"] = "logs:f"
    folder.write("a.json", definition)
    yield folder
    folder.close()


# --- --log-level ------------------------------------------------------------------------------------------------


def test_log_level_stands_before_or_after_the_command(folder):
    """``--log-level`` means the same before the command and behind it; where both stand, the later one counts."""
    run = ["run", "a.json", "--store", "memory:"]
    for args, is_told in (
        (["--log-level", "info", *run], True),
        ([*run, "--log-level", "info"], True),
        (["--log-level", "error", *run, "--log-level", "info"], True),
        (["--log-level", "info", *run, "--log-level", "error"], False),
        (run, False),
    ):
        done = folder.run(*args)
        assert done.returncode == 0, done.stderr
        assert ("loaded 17 rows" in done.stderr) is is_told, args
    assert "loaded 17 rows" in folder.run(*run, AIORCH_LOG_LEVEL="info").stderr


@pytest.mark.parametrize(
    "command", ["run", "resume", "start", "serve", "validate", "graph", "schema", "runs", "show", "cancel"]
)
def test_every_command_takes_a_log_level(folder, command):
    """Each command has the option in its help, and refuses a level that there is not."""
    assert "--log-level" in folder.run(command, "--help").stdout
    done = folder.run(command, "--log-level", "loud")
    assert (done.returncode, "'loud' is not one of" in done.stderr) == (2, True), done.stderr


# --- --input - --------------------------------------------------------------------------------------------------


def fed(folder, stdin, *args):
    """Run a command that is given *stdin*."""
    command = [sys.executable, "-m", "aiorch", *args]
    return subprocess.run(
        command, cwd=folder.path, env=folder.env, input=stdin, capture_output=True, timeout=PATIENCE_S, check=False
    )


def test_input_comes_from_stdin(folder):
    """With ``--input -`` the input of ``run`` and of ``start`` is the JSON on stdin, in UTF-8."""
    given = {"day": "2026-11-23", "city": "Zürich"}
    done = fed(folder, json.dumps(given, ensure_ascii=False).encode(), "run", "a.json", "--input", "-")
    assert (done.returncode, json.loads(done.stdout)) == (0, given), done.stderr
    assert fed(folder, b"[1, 2]", "start", "a.json", "--input", "-", "--run-id", "r1").returncode == 0
    assert fed(folder, b"[1, 2]", "run", "a.json", "--input=-", "--run-id", "r1").stdout == b"[\n  1,\n  2\n]\n"


@pytest.mark.parametrize("stdin", [b"", b"{", b'"\xff"'])
def test_stdin_that_is_no_json_is_told(folder, stdin):
    """Stdin that is empty or no JSON is one message, and nothing is started."""
    done = fed(folder, stdin, "run", "a.json", "--input", "-")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"stdin is not JSON, so no run was started" in done.stderr


def test_closed_stdin_is_told(folder):
    """A stdin that is closed is told as one that cannot be read."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m aiorch run a.json --input - <&-"],
        cwd=folder.path,
        env=folder.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "stdin cannot be read, so no run was started" in done.stderr


def test_interrupted_run_with_input_of_stdin_is_continued_by_resume(folder):
    """A run whose input came from stdin names a command that needs no stdin, and that command continues the run."""
    folder.write("a.json", calls("echo", "waits"))
    for more in ((), ("--run-id", "r1")):
        args = ("run", "a.json", "--input", "-", "--drain", "0", *more)
        with folder.start(*args, stdin=subprocess.PIPE) as process:
            process.stdin.write('{"day": 1}')
            process.stdin.close()
            folder.await_call("S2/1")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
            told = process.stderr.read()
        command = shlex.split(re.search("Continue it with: (.*)", told)[1])
        assert command[:2] == ["aiorch", "resume"]
        assert command[2:] == ["r1"] or not more
        (folder.path / "go").touch()
        done = folder.run(*command[1:])
        assert (done.returncode, done.stdout) == (0, '"went"\n'), done.stderr
        assert folder.document(command[2])["$run"]["input"] == {"day": 1}
        (folder.path / "go").unlink()
        (folder.path / "calls.log").unlink()


# --- --store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("state.db", "sqlite:///state.db"),
        ("data/state.db", "sqlite:///data/state.db"),
        ("/var/lib/state.db", "sqlite:////var/lib/state.db"),
        ("sqlite:state.db", "sqlite:///state.db"),
        ("sqlite://state.db", "sqlite:///state.db"),
        ("sqlite:/var/lib/state.db", "sqlite:////var/lib/state.db"),
        ("SQLite:///state.db", "sqlite:///state.db"),
        ("sqlite3:///state.db", "sqlite:///state.db"),
        ("file:///var/lib/state.db", "sqlite:////var/lib/state.db"),
        ("sqlite:///", "sqlite:///state.db"),
        ("folder", "sqlite:///folder/state.db"),
        (".", "sqlite:///state.db"),
        ("sqlite:///folder", "sqlite:///folder/state.db"),
        ("sqlite:///folder/", "sqlite:///folder/state.db"),
        ("gs:/acme-runs", "gs://acme-runs"),
        ("gs:acme-runs/prod", "gs://acme-runs/prod"),
        ("gs:///acme-runs", "gs://acme-runs"),
        ("GS://acme-runs", "gs://acme-runs"),
        ("gcs://acme-runs", "gs://acme-runs"),
        ("memory", "memory:"),
        ("memory://", "memory:"),
        (":memory:", "memory:"),
    ],
)
def test_mistaken_store_is_told_with_the_url_that_was_meant(folder, url, meant):
    """A URL of a wrong form is refused with the one that was probably meant, and nothing is made."""
    (folder.path / "folder").mkdir()
    before = sorted(folder.path.iterdir())
    done = folder.run("run", "a.json", "--store", url)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"did you mean {meant!r}?" in done.stderr
    assert "no store was opened" in done.stderr
    assert sorted(each for each in folder.path.iterdir() if each.name != "__pycache__") == before


@pytest.mark.parametrize("url", ["postgres://me:s3cret@db/runs", "s3://acme-runs", "redis://h", "mysql+x://h/d"])
def test_store_of_a_kind_that_there_is_not_is_told(folder, url):
    """A URL of another kind of store is refused with the kinds that there are; a password in it is not shown."""
    done = folder.run("runs", "--store", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no store of the kind {url.partition(':')[0]!r}" in done.stderr
    assert "sqlite:///relative/path.db" in done.stderr
    assert "did you mean" not in done.stderr
    assert "s3cret" not in done.stderr


# --- Paths that the operating system refuses --------------------------------------------------------------------

LONG = "x" * 300


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("runs", "--store", LONG), 2, "names no store"),
        (("runs", "--store", f"sqlite:///{LONG}"), 2, "this store has no runs yet"),
        (("show", "r1", "--store", f"sqlite:///{LONG}/state.db"), 2, "this store has no runs yet"),
        (("run", "a.json", "--store", f"sqlite:///{LONG}"), 3, "File name too long"),
        (("start", "a.json", "--store", f"sqlite:///{LONG}"), 3, "cannot be opened"),
        (("graph", LONG, "--store", "sqlite:///a.db"), 2, "this store has no runs yet"),
        (("start", LONG), 2, "is no definition file"),
    ],
)
def test_a_path_that_is_too_long_is_told(folder, args, code, said):
    """A path that no file can have is a message and an exit code of its own, no fault of aiorch."""
    done = folder.run(*args)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr


def test_a_folder_that_cannot_be_looked_into_is_told(monkeypatch):
    """Where the operating system refuses to look at a path, a store URL is still judged by its form alone."""

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    assert str(open_store("sqlite:///closed/state.db")).endswith("closed/state.db")
    with pytest.raises(StoreUrlError, match="did you mean 'sqlite:///closed'"):
        open_store("closed")


# --- aiorch runs ------------------------------------------------------------------------------------------------


def test_runs_as_json_are_not_cut(folder):
    """``runs --json`` lists all runs, and as many as ``--limit`` says; for people the newest 50 are listed."""
    folder.write("a.json", calls("echo"))
    subprocess.run([sys.executable, "-c", STARTS], cwd=folder.path, env=folder.env, timeout=PATIENCE_S, check=True)
    listed = json.loads(folder.run("runs", "--json", "--status", "running").stdout)
    assert sorted(run["run_id"] for run in listed) == [f"r{number:02}" for number in range(52)]
    assert len(json.loads(folder.run("runs", "--json").stdout)) == 52
    assert len(json.loads(folder.run("runs", "--json", "--limit", "3").stdout)) == 3
    shown = folder.run("runs", "--status", "running")
    assert len(shown.stdout.splitlines()) == 51
    assert "… and 2 older ones; --limit 52 shows all." in shown.stderr
