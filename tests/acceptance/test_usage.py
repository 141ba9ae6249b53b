"""Options of the ``aiorch`` command that a person writes in more than one way, and the typical mistakes in them."""

import json
import subprocess
import sys

import pytest

from tests.acceptance.test_cli import PATIENCE_S, Folder, calls

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
    return folder


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
    assert b"stdin is not JSON, so nothing was started" in done.stderr


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
    assert "stdin cannot be read, so nothing was started" in done.stderr


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
    assert "nothing was opened" in done.stderr
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
