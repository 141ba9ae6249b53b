"""Where the command line writes, as a black box: prints of functions, logs, and streams that cannot be written."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.folder import PATIENCE_S, Folder, calls, on_terminal, serving_url, step
from tests.definitions import chain, parallel

PRINTS = """
import asyncio, logging, subprocess, sys, threading, time
from pathlib import Path

logger = logging.getLogger("mine")

def noisy(context):
    print("printed by the function")
    sys.stdout.buffer.write(b"written as bytes\\n")
    subprocess.run(["echo", "printed by a child"], check=False)
    return "done"

async def pieces(context):
    for part in ("first ", "second ", "third"):
        print(f"{context.node} {part}", end="")
        await asyncio.sleep(0)
    print()

def unfinished(context):
    print("no line end", end="")

def dots(context):
    print("...", end="", flush=True)
    while not Path("go").exists():
        time.sleep(0.01)
    print("done")

def logs(context):
    logger.warning("in a thread")
    thread = threading.Thread(target=logger.warning, args=["in a thread of its own"])
    thread.start()
    thread.join()

async def logs_async(context):
    logger.warning("on the loop")
    await asyncio.to_thread(logger.warning, "in a thread that it awaits")

def fails(context):
    raise ValueError("row 17\\x1b[2J is no good")

async def pick(context):
    time.sleep(1)
    await asyncio.sleep(0)
    return "picked"

async def pick_alone(context):
    time.sleep(1)
    return "picked"

def quick(context):
    return 1

def waits(context):
    Path("started").touch()
    while not Path("go").exists():
        time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def prints(folder):
    """The callables of this file, as the module `work`."""
    (folder.path / "work.py").write_text(PRINTS)


def shell(folder, redirected, *args, **env):
    """Run a command of aiorch with a redirection of the shell, and return it with what it printed."""
    line = f'exec "$@" {redirected}'
    return subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "aiorch", *args],
        cwd=folder.path, env=folder.env | env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def await_file(folder, name):
    """Wait until there is a file of this name."""
    deadline = time.monotonic() + PATIENCE_S
    while not (folder.path / name).exists():
        assert time.monotonic() < deadline, f"no {name}"
        time.sleep(0.01)


# --- prints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "resume"])
def test_stdout_holds_the_result_alone(folder: Folder, command: str) -> None:
    """The prints of a function and of its children go to stderr, so that the result can be piped into another tool."""
    folder.write("a.json", calls("noisy"))
    if command == "resume":
        folder.run("start", "a.json", "--run-id", "r1")
        folder.run("cancel", "r1")
    done = folder.run(*(("run", "a.json") if command == "run" else ("resume", "r1")))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "done"
    for printed in ("printed by the function", "written as bytes", "printed by a child"):
        assert re.search(f"^{printed}$", done.stderr, re.MULTILINE), done.stderr


def test_prints_of_imports_go_to_stderr(folder: Folder) -> None:
    """A module that prints while it is imported, or keeps the stdout that it found, leaves stdout to the result."""
    more = "print('imported'); kept = sys.stdout\ndef keeps(context): kept.write('kept\\n'); return 1\n"
    (folder.path / "work.py").write_text(f"import sys\n{more}")
    folder.write("a.json", calls("keeps"))
    done = folder.run("run", "a.json")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert {"imported", "kept"} <= set(done.stderr.splitlines())
    done = folder.run("validate", "a.json", "--callables", "--json")
    assert json.loads(done.stdout)["valid"] is True
    assert "imported" in done.stderr.splitlines()


def test_lines_of_two_executions_are_not_mixed(folder: Folder) -> None:
    """Branches that print their lines in pieces at the same time have each line whole."""
    fan = chain(Fan=parallel(*(chain(**{f"B{n}": step("pieces")}) for n in range(8))))
    done = folder.run("run", folder.write("a.json", fan))
    assert done.returncode == 0, done.stderr
    printed = sorted(line for line in done.stderr.splitlines() if "third" in line)
    assert printed == [f"B{n} first B{n} second B{n} third" for n in range(8)]


def test_an_unfinished_line_is_printed_in_the_end(folder: Folder) -> None:
    """A line without an end is not lost, and nothing of aiorch is appended to it."""
    done = folder.run("run", folder.write("a.json", calls("unfinished", "quick")))
    assert re.search(r"^no line end$", done.stderr, re.MULTILINE), done.stderr


def test_a_flushed_piece_of_a_line_is_seen_at_once(folder: Folder) -> None:
    """Progress that a function flushes appears while the function runs."""
    process = folder.start("run", folder.write("a.json", calls("dots")), text=False)
    read = b""
    while b"..." not in read:
        piece = os.read(process.stderr.fileno(), 1000)
        assert piece, read
        read += piece
    (folder.path / "go").touch()
    assert process.wait(PATIENCE_S) == 0


def test_the_terminal_shows_prints_above_the_tree(folder: Folder) -> None:
    """On a terminal each printed line stands once and whole, above the last picture of the run."""
    fan = chain(Fan=parallel(*(chain(**{f"B{n}": step("pieces")}) for n in range(3))), Last=step("logs"))
    code, written = on_terminal(folder, "run", folder.write("a.json", fan), "--run-id", "r1")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).replace("\r", "")
    assert code == 0, plain
    above = plain[: plain.rindex("a  r1  ")]
    for n in range(3):
        assert above.count(f"B{n} first B{n} second B{n} third\n") == 1, plain
    assert "in a thread run_id='r1' node='Last'" in re.sub(r"\s+", " ", above), plain


# --- the first line ---------------------------------------------------------------------------------------------


def test_the_first_line_names_the_run(folder: Folder) -> None:
    """The run id stands in the first line of stderr, before anything that a function prints."""
    for functions, counted in (("noisy",), "1 task"), (("pieces", "quick"), "2 tasks"):
        done = folder.run("run", folder.write("parcels.json", calls(*functions)))
        first = done.stderr.splitlines()[0]
        assert re.fullmatch(rf"Run run_\d+_[0-9a-f]+ of DAG parcels: {counted}", first), done.stderr


# --- streams that cannot be written -----------------------------------------------------------------------------


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", ">/dev/full <&-", ">&- <&-"])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_result_that_cannot_be_written_is_told(folder: Folder, redirected: str, more: tuple[str, ...]) -> None:
    """A full or closed stdout: one message with the command that shows the result again, 74, and an unharmed run."""
    done = shell(folder, redirected, "run", folder.write("a.json", calls("noisy")), "--run-id", "r1", *more)
    assert done.returncode == 74, done.stderr
    assert "fault" not in done.stderr
    assert "Traceback" not in done.stderr
    reason = "No space left on device" if "full" in redirected else "closed"
    told = [line for line in done.stderr.splitlines() if "could not be written to stdout" in line]
    assert len(told) == 1
    assert reason in told[0]
    assert told[0].endswith("aiorch show r1 --json" if more else "aiorch result r1")
    assert folder.document("r1")["$run"]["status"] == "Completed"


def test_a_result_whose_reader_has_gone_is_told(folder: Folder) -> None:
    """A pipe that closed before the end of the run: a message, exit code 74, and an unharmed run."""
    process = folder.start("run", folder.write("a.json", calls("waits", "quick")), "--run-id", "r1")
    await_file(folder, "started")
    process.stdout.close()
    (folder.path / "go").touch()
    told = process.stderr.read()
    assert process.wait(PATIENCE_S) == 74, told
    assert "could not be written to stdout (its reader has gone)" in told
    assert folder.document("r1")["$run"]["status"] == "Completed"


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "2>&- <&-"])
def test_a_lost_stderr_harms_nothing(folder: Folder, redirected: str) -> None:
    """Progress, prints and logs that cannot be written are dropped; result and exit code stay as they are."""
    folder.write("a.json", calls("noisy", "logs", "noisy"))
    done = shell(folder, redirected, "--log-level", "debug", "run", "a.json", "--run-id", "r1")
    assert (done.returncode, done.stdout) == (0, '"done"\n')
    assert folder.document("r1")["$run"]["status"] == "Completed"
    folder.write("b.json", calls("noisy", "fails"))
    assert shell(folder, redirected, "run", "b.json").returncode == 1
    assert shell(folder, redirected, "run", "none.json").returncode == 2


def test_run_with_stdin_stdout_and_stderr_closed(folder: Folder) -> None:
    """With stdin, stdout and stderr closed the run ends, its store is whole, and the exit code tells."""
    folder.write("a.json", calls("noisy", "logs"))
    folder.write("b.json", calls("fails"))
    assert shell(folder, "<&- >&- 2>&-", "run", "a.json", "--run-id", "r1").returncode == 0  # it has no result
    assert shell(folder, "<&- >&- 2>&-", "run", "a.json", "--run-id", "r2", "--json").returncode == 74
    assert shell(folder, "<&- >&- 2>&-", "run", "b.json").returncode == 1
    assert [folder.document(each)["$run"]["status"] for each in ("r1", "r2")] == ["Completed"] * 2


@pytest.mark.parametrize(
    "args", [("--help",), ("--version",), ("run", "--help"), ("runs",), ("show", "r1"), ("show", "r1", "--json"),
             ("validate", "a.json"), ("graph", "a.json"), ("start", "a.json")]
)  # fmt: skip
def test_every_command_tells_of_output_that_is_lost(folder: Folder, args: tuple[str, ...]) -> None:
    """A full or closed stdout is one line on stderr and exit code 74, and no fault; a reader that left is quiet."""
    folder.run("run", folder.write("a.json", calls("quick")), "--run-id", "r1")
    for redirected in (">/dev/full", ">&-"):
        done = shell(folder, redirected, *args)
        assert done.returncode == 74, (redirected, done.stderr)
        assert re.fullmatch(r"Error: .* could not be written to stdout \(.*\).*\n", done.stderr), done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "aiorch", *args], cwd=folder.path, env=folder.env, stdout=writer,
        stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (74, "")


# --- logs -------------------------------------------------------------------------------------------------------


def facts(line):
    """The facts at the end of a log line."""
    return dict(re.findall(r"(\w+)=('[^']*'|\S+)", line))


def test_records_of_a_task_have_its_run_and_node(folder: Folder) -> None:
    """What a callable logs names run, node and attempt: on the loop, in its thread, in threads it awaits."""
    folder.write("a.json", calls("logs", "logs_async"))
    done = folder.run("run", "a.json", "--run-id", "r1")
    found = {
        line.split("mine: ")[1].partition(" run_id")[0]: facts(line)
        for line in done.stderr.splitlines()
        if "mine" in line
    }
    for message, node in ("in a thread", "S1"), ("on the loop", "S2"), ("in a thread that it awaits", "S2"):
        assert found[message] == {"run_id": "'r1'", "node": f"'{node}'", "attempt": "1"}, done.stderr


def test_serve_tells_of_failed_runs(folder: Folder) -> None:
    """At its default log level serve says of a failed run which node failed and why, escaped; of others nothing."""
    process = folder.start("serve", "--port", "0")
    serving_url(process)
    folder.write("good.json", calls("quick"))
    folder.write("bad.json", calls("quick", "fails"))
    folder.run("start", "good.json", "--run-id", "good")
    folder.run("start", "bad.json", "--run-id", "bad")
    line = process.stderr.readline()
    assert "run failed" in line
    assert facts(line).items() >= {
        "run_id": "'bad'", "dag": "'bad'", "node": "'S2'", "error_type": "'ValueError'"}.items()  # fmt: skip
    assert "row 17" in line
    assert "\x1b" not in line
    process.send_signal(signal.SIGINT)
    assert "good" not in process.stderr.read()
    assert process.wait(PATIENCE_S) == 0


def test_serve_survives_a_full_stdout(folder: Folder) -> None:
    """A function whose print cannot be written to the stdout of serve does not fail: prints go to stderr."""
    with Path("/dev/full").open("w") as full:
        process = folder.start("serve", "--port", "0", stdout=full)
    serving_url(process)
    folder.run("start", folder.write("a.json", calls("noisy")), "--run-id", "r1")
    while process.stderr.readline() != "printed by a child\n":
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert folder.document("r1")["$run"]["status"] == "Completed"


def test_run_tells_its_own_failure_once(folder: Folder) -> None:
    """The report of a run says why it failed; no log line says the same again."""
    done = folder.run("run", folder.write("a.json", calls("fails")))
    assert (done.returncode, done.stderr.count("run failed")) == (1, 0)


# --- async callables that block ---------------------------------------------------------------------------------


def blocked(stderr):
    """The warnings about callables that have blocked the loop."""
    return [line for line in stderr.splitlines() if "blocked the event loop" in line]


def test_a_blocking_async_callable_is_told_once(folder: Folder) -> None:
    """A callable that blocks the loop is named once, with how long, its run and node, and the cure."""
    done = folder.run("run", folder.write("a.json", calls("pick", "pick", "quick")), "--run-id", "r1")
    assert done.returncode == 0
    (line,) = blocked(done.stderr)
    assert "make it a plain def" in line
    assert facts(line) == {"run_id": "'r1'", "node": "'S1'", "attempt": "1"}
    told = re.search(r"async callable 'work:pick' blocked the event loop for ([\d.]+) s", line)
    assert told
    assert 0.9 <= float(told[1]) <= 3


@pytest.mark.parametrize("function", ["pick", "pick_alone"])
def test_the_timeout_of_a_blocking_callable_counts(folder: Folder, function: str) -> None:
    """A callable that has blocked for longer than its timeout is timed out when it comes back, and nobody else is."""
    pair = parallel(chain(A=step(function, timeout=0.5)), chain(B=step("waits", timeout=10)), on_failure="wait")
    process = folder.start("run", folder.write("a.json", chain(P=pair)), "--run-id", "r1")
    await_file(folder, "started")
    (folder.path / "go").touch()
    process.communicate(timeout=PATIENCE_S)
    document = folder.document("r1")
    assert document["A"]["error"]["type"] == "Timeout", document["A"]
    assert document["B"]["status"] == "Completed"


def test_a_stopped_process_is_no_blocking_callable(folder: Folder) -> None:
    """SIGSTOP for two seconds in the middle of a step is neither told as a block nor counted against the timeout."""
    (folder.path / "work.py").write_text(
        PRINTS
        + """
async def is_stopped(context):
    import os, signal
    child = subprocess.Popen([sys.executable, "-c", '''
import os, signal, time
os.kill(os.getppid(), signal.SIGSTOP)
time.sleep(2)
os.kill(os.getppid(), signal.SIGCONT)
'''])
    began = time.monotonic()
    while time.monotonic() - began < 1.5 and child.poll() is None:
        time.sleep(0.001)
        await asyncio.sleep(0)
    child.wait()
    return time.monotonic() - began
"""
    )
    done = folder.run("run", folder.write("a.json", calls("is_stopped", timeout=1.5)))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 1.5
    assert blocked(done.stderr) == []


# --- signals ----------------------------------------------------------------------------------------------------


def test_hangup_drains_like_sigterm(folder: Folder) -> None:
    """SIGHUP with a stderr that is gone lets the running task end, and the run can be continued."""
    process = folder.start("run", folder.write("a.json", calls("waits", "quick")), "--run-id", "r1", "--drain", "20")
    await_file(folder, "started")
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    (folder.path / "go").touch()
    assert process.wait(PATIENCE_S) == 130
    assert folder.document("r1")["S1"]["status"] == "Completed"


def test_serve_drains_on_hangup(folder: Folder) -> None:
    """SIGHUP ends serve cleanly."""
    process = folder.start("serve", "--port", "0")
    serving_url(process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT], ids=["nohup", "a background job"])
def test_a_signal_that_is_ignored_stays_ignored(folder: Folder, ignored: signal.Signals) -> None:
    """A command that was started with SIGHUP ignored, by nohup, or SIGINT, by a shell script, goes on ignoring it."""
    folder.write("a.json", calls("waits"))
    process = folder.start("run", "a.json", preexec_fn=lambda: signal.signal(ignored, signal.SIG_IGN))
    await_file(folder, "started")
    process.send_signal(ignored)
    (folder.path / "go").touch()
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("module", ["aiorch.__main__", "aiorch.service.__main__"])
def test_an_import_of_the_program_handles_no_signal(folder: Folder, module: str) -> None:
    """A program that imports the module of a command keeps its own way to end by a signal."""
    handlers = "[signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]"
    code = f"import signal; before = {handlers}; import {module}; assert {handlers} == before"
    subprocess.run([sys.executable, "-c", code], cwd=folder.path, env=folder.env, timeout=PATIENCE_S, check=True)


STARTED = """
import aiorch.__main__ as program

install = program.leave_on_signal

def installed(*args):
    install(*args)
    print(flush=True)

program.leave_on_signal = installed
program.main()
"""


@pytest.mark.parametrize("args", [("--help",), ("run", "a.json"), ("runs",), ("validate", "a.json")])
@pytest.mark.timeout(180)
def test_an_early_interrupt_is_quiet(folder: Folder, args: tuple[str, ...]) -> None:
    """SIGINT at any moment from the first line of the program on: exit code 130 or an end as ever, one line at most."""
    folder.write("a.json", calls("quick"))
    folder.run("run", "a.json")
    codes = set()
    for moment in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", STARTED, *args],
            cwd=folder.path, env=folder.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        process.stdout.readline()  # the program handles signals, and has imported nothing else
        time.sleep(moment * 0.04)  # real time is the fault: another moment each
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in told, told
        assert "KeyboardInterrupt" not in told, told
        assert process.returncode in (0, 130, -signal.SIGINT), told  # the last is 130 to a shell: it ended already
        codes.add(process.returncode)
        if process.returncode == 130:
            said = [line for line in told.splitlines() if line.startswith(("Interrupted", "Error"))]
            assert len(said) <= 1, told
    assert 130 in codes
