"""The ``aiorch`` command as a black box: what it prints where, how it exits, and what survives it."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
import unicodedata
from xml.etree import ElementTree as ET

import pytest

from tests.acceptance.folder import PATIENCE_S, call, calls, on_terminal, serving_url, step
from tests.definitions import chain, parallel, task

FLAKY = step("flaky", retry={"max_attempts": 3, "initial_delay": 0.01})
BRANCHES = parallel(chain(A=step("echo")), chain(B=FLAKY))
SAMPLE = {"name": "sample", **chain(Init=step("echo"), Par=BRANCHES, End=step("echo"))}


# --- run --------------------------------------------------------------------------------------------------------


def test_run_tells_progress_and_prints_the_result(folder):
    """A run's result is alone on stdout; its progress with retries and its end are on stderr; the exit code is 0."""
    done = folder.run("run", folder.write("a.json", SAMPLE), "--input", '{"x": 1}', "--run-id", "r1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"node": "End", "input": {"x": 1}}
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in done.stderr.splitlines()]
    for expected in (
        r"Init Completed \(attempt 1, [\d.]+ m?s\)",
        r"Par Completed \([\d.]+ m?s\)",
        r"B Completed \(attempt 3, [\d.]+ m?s\)",
        r"Run r1 Completed after [\d.]+ m?s: 4 Completed",
    ):
        assert any(re.fullmatch(expected, line) for line in lines), expected
    assert sorted(folder.calls()) == ["A/1", "B/1", "B/2", "B/3", "End/1", "Init/1"]


def test_failed_run_tells_what_failed_and_why(folder):
    """The end of a failed run names the node, type, message and cause, and the next move; the exit code is 1."""
    done = folder.run("run", folder.write("a.json", calls("echo", "broken", "echo")), "--run-id", "r1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Run r1 Failed after" in done.stderr
    assert "  S2 (attempt 1): RuntimeError: row 17 is no good" in done.stderr
    assert "caused by: ValueError: invalid literal" in done.stderr
    assert "aiorch resume r1" in done.stderr


def test_a_run_that_fails_in_its_first_commit_is_reported_without_a_log_line(folder):
    """The report of the command shows the failure; a warning before the run's first line would tell it twice."""
    folder.write("a.json", chain(S1={"type": "Pass", "result": "${ input.x }"}))
    done = folder.run("run", "a.json", "--run-id", "r1")
    assert done.returncode == 1
    assert done.stderr.startswith("Run r1 of DAG a: 0 tasks\n")
    assert "WARNING" not in done.stderr


def test_json_is_the_document_and_nothing_else(folder):
    """With --json stdout holds the run document alone, whatever functions and their children print."""
    done = folder.run("run", folder.write("a.json", calls("noisy")), "--run-id", "r1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["$run"]["run_id"], document["S1"]["result"]) == ("r1", "done")
    assert "printed by the function" in done.stderr
    assert "printed by a child" in done.stderr
    assert folder.document("r1") == document


def test_json_of_a_failed_run_is_its_document(folder):
    """A failed run has its document on stdout, too."""
    done = folder.run("run", folder.write("a.json", calls("broken")), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["$run"]["status"] == "Failed"


def test_input_comes_from_a_file(folder):
    """``@`` and a name is the content of that file."""
    (folder.path / "in.json").write_text('{"day": "2026-11-23"}')
    done = folder.run("run", folder.write("a.json", calls("echo")), "--input", "@in.json", "--store", "memory:")
    assert json.loads(done.stdout)["input"] == {"day": "2026-11-23"}


def test_options_come_from_the_environment(folder):
    """Each option has its variable: the store's own, and those of a command."""
    folder.write("a.json", calls("echo"))
    done = folder.run("run", "a.json", AIORCH_STORE="sqlite:///other.db", AIORCH_RUN_RUN_ID="r9", AIORCH_RUN_INPUT="7")
    assert json.loads(done.stdout)["input"] == 7
    assert (folder.path / "other.db").exists()
    assert "r9" in folder.run("runs", "--store", "sqlite:///other.db").stdout


def test_misspelt_variables_are_warned_of(folder):
    """A variable that nothing reads has a warning with what was meant, and changes neither results nor exit code."""
    folder.write("a.json", calls("echo"))
    unread = {"AIORCH_STROE": "s3cret", "AIORCH_RUN_RUNID": "r9", "AIORCH_VERSION": "1.2.3"}
    read = {"AIORCH_RUN_INPUT": "7", "AIORCH_RUN_STORE": "memory:", "AIORCH_SUBSCRIPTION": "x", "AIORCH_DAGS": "x"}
    done = folder.run("run", "a.json", **unread, **read)
    assert (done.returncode, json.loads(done.stdout)["input"]) == (0, 7)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    assert [line.split()[1] for line in warnings] == sorted(unread)
    assert "did you mean AIORCH_RUN_RUN_ID?" in warnings[0]
    assert "did you mean AIORCH_STORE?" in warnings[1]
    assert "s3cret" not in done.stderr
    assert folder.run("show", "none", "--store", "sqlite:///none.db", **unread).returncode == 2


def test_callables_are_found_beside_the_definition(folder):
    """A definition elsewhere finds its module beside it, and one more folder can be named."""
    for name in ("elsewhere", "library"):
        (folder.path / name).mkdir()
    (folder.path / "elsewhere" / "beside.py").write_text("def f(context): return 'beside'")
    (folder.path / "library" / "named.py").write_text("def f(context): return 'named'")
    definition = calls("echo", "echo")
    definition["steps"]["S1"]["function"] = "beside:f"
    definition["steps"]["S2"]["function"] = "named:f"
    folder.write("elsewhere/a.json", definition)
    done = folder.run("run", "elsewhere/a.json", "--store", "memory:", "--path", "library")
    assert (done.returncode, done.stdout) == (0, '"named"\n'), done.stderr


def test_same_run_id_is_the_same_run(folder):
    """A run that has ended is shown again and not run again; with another input it is a conflict."""
    folder.write("a.json", calls("echo"))
    first = folder.run("run", "a.json", "--run-id", "r1", "--input", "1")
    again = folder.run("run", "a.json", "--run-id", "r1", "--input", "1")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert folder.calls() == ["S1/1"]
    conflict = folder.run("run", "a.json", "--run-id", "r1", "--input", "2")
    assert conflict.returncode == 2
    assert "run 'r1' exists with a different input" in conflict.stderr


def test_interrupted_run_goes_on_with_the_command_it_names(folder):
    """
    Ctrl-C ends a run with 130 and names the command that continues it; that command does the rest and no more.
    """
    folder.write("a.json", calls("echo", "waits", "echo"))
    process = folder.start("run", "a.json", "--input", '{"x": 1}', "--drain", "0")
    folder.await_call("S2/1")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (130, ""), stderr
    command = shlex.split(re.search(r"Continue it with: (.*)", stderr)[1])
    assert command[:-1] == ["aiorch", "run", "a.json", "--input", '{"x": 1}', "--drain", "0", "--run-id"]
    (folder.path / "go").touch()
    done = folder.run(*command[1:])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"node": "S3", "input": {"x": 1}}
    assert folder.calls() == ["S1/1", "S2/1", "S2/2", "S3/1"]


def test_terminated_run_lets_tasks_end_first(folder):
    """SIGTERM is an interruption, too; a task that ends within the drain time is kept and not run again."""
    folder.write("a.json", calls("waits", "echo"))
    process = folder.start("run", "a.json", "--run-id", "r1")
    folder.await_call("S1/1")
    process.terminate()
    for line in process.stderr:
        if "Interrupted" in line:
            break
    (folder.path / "go").touch()
    assert process.wait(PATIENCE_S) == 130
    assert folder.document("r1")["S1"]["status"] == "Completed"
    assert folder.run("run", "a.json", "--run-id", "r1").returncode == 0
    assert folder.calls() == ["S1/1", "S2/1"]


@pytest.mark.parametrize(("functions", "code"), [(["waits_for_much"], 0), (["waits_and_breaks"], 1)])
def test_a_run_that_ends_while_it_is_interrupted_has_ended(folder, functions, code):
    """A run whose last task ends within the drain time is reported as ever: by its result, and by its exit code."""
    folder.write("a.json", calls(*functions))
    process = folder.start("run", "a.json", "--run-id", "r1", "--drain", "20")
    folder.await_call("S1/1")
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if "Interrupted" in line:
            break
    (folder.path / "go").touch()
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (code, '"' + "went" * 1000 + '"\n' if code == 0 else ""), stderr
    assert "Continue it with" not in stderr


def test_a_failed_run_prints_no_result(folder):
    """Of a DAG that ends with a Parallel of which a branch has failed, nothing is printed on stdout."""
    folder.write("a.json", chain(P=parallel(chain(A=step("echo")), chain(B=step("broken")), on_failure="wait")))
    failed = folder.run("run", "a.json")
    assert (failed.returncode, failed.stdout) == (1, "")


def test_a_command_for_a_run_of_another_process_says_so(folder):
    """`run` with the id of a run that another process carries out shows that run, and says who carries it out."""
    folder.write("a.json", calls("waits"))
    process = folder.start("run", "a.json", "--run-id", "r1")
    folder.await_call("S1/1")
    other = folder.start("run", "a.json", "--run-id", "r1")
    for line in other.stderr:
        if "Another process carries out this run" in line:
            break
    else:
        raise AssertionError("the command did not tell it")
    (folder.path / "go").touch()
    assert (process.wait(PATIENCE_S), other.wait(PATIENCE_S)) == (0, 0)
    assert folder.calls() == ["S1/1"]


def test_second_interrupt_ends_it_on_the_spot(folder):
    """Whoever presses Ctrl-C twice does not wait for tasks to end."""
    folder.write("a.json", calls("hangs"))
    process = folder.start("run", "a.json", "--drain", "3600")
    folder.await_call("S1/1")
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if "Interrupted" in line:
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130


def test_killed_run_goes_on(folder):
    """After SIGKILL the same command goes on: what had completed is not called again, the rest is."""
    folder.write("a.json", calls("echo", "waits", "echo"))
    process = folder.start("run", "a.json", "--run-id", "r1")
    folder.await_call("S2/1")
    assert "waits for a process" not in folder.run("show", "r1").stdout
    process.kill()
    process.wait(PATIENCE_S)
    shown = folder.run("show", "r1").stdout
    assert "The run waits for a process: aiorch serve, or for this run alone: aiorch resume r1\n" in shown
    (folder.path / "go").touch()
    done = folder.run("run", "a.json", "--run-id", "r1")
    assert done.returncode == 0, done.stderr
    assert folder.calls().count("S1/1") == 1
    assert {"$run", "S1", "S2", "S3"} == folder.document("r1").keys()


def test_hanging_function_does_not_block_the_exit(folder):
    """A function that hangs past its timeout fails its task, and its thread does not keep the process alive."""
    folder.write("a.json", calls("hangs", timeout=0.2))
    done = folder.run("run", "a.json")
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_run_goes_on_when_nobody_watches(folder):
    """A reader that stops reading neither stops nor fails a run; only the exit code tells that the result was lost."""
    folder.write("a.json", calls("waits", "echo"))
    process = folder.start("run", "a.json", "--run-id", "r1")
    folder.await_call("S1/1")
    process.stderr.close()
    process.stdout.close()
    (folder.path / "go").touch()
    assert process.wait(PATIENCE_S) == 74
    assert folder.document("r1")["$run"]["status"] == "Completed"
    listing = folder.start("show", "r1")
    listing.stdout.close()
    assert listing.wait(PATIENCE_S) == 74
    assert listing.stderr.read() == ""


# --- Other runs of the store --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("run", "echo.json"), id="run"),
        pytest.param(("run", "echo.json", "--run-id", "r0", "--input", "2"), id="refused run"),
        pytest.param(("resume", "failed"), id="resume"),
    ],
)
def test_a_command_touches_no_other_run(folder, args):
    """`run` and `resume` leave recorded and killed runs of the store unchanged, also a run that may not be retried."""
    folder.write("echo.json", calls("echo"))
    folder.write("waits.json", chain(Waits=step("waits", on_lost="fail")))
    folder.run("run", "echo.json", "--run-id", "r0", "--input", "1")
    folder.run("run", folder.write("broken.json", calls("broken")), "--run-id", "failed")
    folder.run("start", "echo.json", "--run-id", "recorded")
    killed = folder.start("run", "waits.json", "--run-id", "killed")
    folder.await_call("Waits/1")
    killed.kill()
    killed.wait(PATIENCE_S)
    others = {run_id: folder.document(run_id) for run_id in ("recorded", "killed")}
    done = folder.run(*args)
    assert "2 other runs of this store wait for a process" in done.stderr or done.returncode == 2, done.stderr
    assert {run_id: folder.document(run_id) for run_id in others} == others


def test_a_run_whose_function_kills_its_process_kills_no_other_run(folder):
    """After a function has killed its process, the next `aiorch run` of the store completes."""
    assert folder.run("run", folder.write("lethal.json", calls("lethal")), "--run-id", "r1").returncode == -9
    done = folder.run("run", folder.write("a.json", calls("echo")))
    assert done.returncode == 0, done.stderr
    assert folder.document("r1")["S1"]["launches"] == 1


@pytest.mark.parametrize("left_open", [1, 7])
def test_interrupted_runs_are_named_with_the_command_that_continues_them(folder, left_open):
    """`run` names the runs that no process works on; `resume` continues one of them, `serve` all of them."""
    (folder.path / "dags").mkdir()
    folder.write("dags/a.json", calls("echo"))
    folder.write("waits.json", calls("waits"))
    for number in range(1, left_open + 1):
        folder.run("start", "waits.json", "--run-id", f"r{number}", "--store", "sqlite:///other.db")
    done = folder.run("run", "dags/a.json", "--json", "--store", "sqlite:///other.db")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["$run"]["status"] == "Completed"
    (folder.path / "go").touch()
    options = "--store sqlite:///other.db"
    if left_open == 1:
        told = f"Another run of this store waits for a process. Continue it with: aiorch resume r1 {options}\n"
        assert told in done.stderr
        resumed = folder.run("resume", "r1", *options.split())
        assert (resumed.returncode, resumed.stdout) == (0, '"went"\n'), resumed.stderr
        return
    assert (
        "7 other runs of this store wait for a process: r3, r4, r5, r6, r7 and 2 more. Continue one with "
        f"`aiorch resume r7 {options}`, all with `aiorch serve {options}`.\n"
    ) in done.stderr
    process = folder.start("serve", *options.split(), "--port", "0")
    url = serving_url(process)
    deadline = time.monotonic() + PATIENCE_S
    while any(call(f"{url}/runs/r{number}")[1]["$run"]["status"] != "Completed" for number in (1, 7)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_another_process_carries_out_is_not_named(folder):
    """`run` names neither a run that a living process works on nor a run that has ended, and leaves its task alone."""
    folder.write("a.json", calls("echo"))
    folder.run("run", "a.json")
    process = folder.start("run", folder.write("waits.json", calls("waits")))
    folder.await_call("S1/1")
    done = folder.run("run", "a.json", "--drain", "0")
    assert (done.returncode, "for a process" in done.stderr) == (0, False), done.stderr
    (folder.path / "go").touch()
    assert process.wait(PATIENCE_S) == 0
    assert folder.calls().count("S1/1") == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "a.json", "--run-id", "../x"), "run id '../x' is refused"),
        (("run", "missing.json"), "work:nothing"),
        (("resume", "no-such-run"), "there is no run 'no-such-run'"),
        (("resume", "completed"), "is Completed, and only a Failed or Cancelled run can be resumed"),
        (("resume", "waits"), "work:gone"),
    ],
)
def test_a_refused_command_opens_no_engine(folder, args, message):
    """
    `run` and `resume` check ids, definitions and callables first: while a run waits whose tasks take an hour, a refused
    command exits with 2 and has neither joined the store nor called a function.
    """
    folder.write("a.json", calls("echo"))
    folder.run("run", "a.json", "--run-id", "completed")
    folder.write("missing.json", calls("nothing"))
    folder.run("start", folder.write("waits.json", calls("gone")), "--run-id", "waits")
    folder.run("start", folder.write("hangs.json", calls("hangs")), "--run-id", "hangs")
    before = folder.calls()
    done = folder.run(*args, "--drain", "3600")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert folder.calls() == before
    assert folder.document("hangs")["S1"]["status"] == "New"


# --- What is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "none.json"), "there is no file none.json, so no run was started"),
        (("run", "a.jsn"), "there is no file a.jsn, so no run was started; did you mean a.json?"),
        (("run", "a.json", "--drain", "abc"), "'abc' must be a number of at least 0, so the command did nothing."),
        (("run", "a.json", "--drain", "nan"), "'nan' must be a number of at least 0"),
        (("run", "a.json", "--secret", "k"), "Invalid value for '--secret': the source of the secret 'k' must be env:"),
        (("runs", "--limit", "0"), "'0' must be a whole number of at least 1, so the command did nothing."),
        (("serve", "--port", "70000"), "'70000' must be a whole number from 0 to 65535"),
        (("run", "a.json", "--store", "gs:/x"), "gs://BUCKET names a bucket, and a bucket has 3 to 222 of a-z"),
        (("start", "none.json"), "there is no file none.json, so no run was started"),
        (("validate", "none.json"), "there is no file none.json, so it was not checked"),
        (("validate", "bad.json"), "so no run of it can be started:"),
        (("graph", "bad.json"), "so no graph was drawn:"),
        (("run", "a.json", "--input", "{"), "this is not JSON"),
        (("run", "a.json", "--input", "NaN"), "NaN is not JSON"),
        (("run", "a.json", "--input", "hello"), "a text needs quotes"),
        (("run", "a.json", "--input", "@none"), "'none' cannot be read"),
        (("run", "a.json", "--run-id", "../x"), "run id '../x' is refused"),
        (("run", "a.json", "--store", "redis://x"), "names no store"),
        (("run", "a.json", "--store", "x.db"), "did you mean 'sqlite:///x.db'?"),
        (("run", "a.json", "--store", "gs://UPPER"), "a bucket has 3 to 222 of a-z"),
        (("runs", "--store", "memory:"), "a store in memory is empty"),
        (("show", "r1", "--store", "memory:"), "a store in memory is empty"),
        (("resume", "r1", "--store", "memory:"), "a store in memory is empty"),
        (("start", "a"), "'a' is no definition file"),
        (("start", "a", "--topic", "projects/acme/subscriptions/events"), "but a subscription"),
        (("start", "a", "--topic", "projects/acme/topics/t"), "3 to 255"),
        (("run", "a.json", "--path", "none"), "'none' does not exist"),
        (("run",), "Missing argument 'DAG'"),
        (("rum", "a.json"), "No such command 'rum'"),
        (("graph", "none.json"), "there is no file none.json, so no graph was drawn"),
        (("graph", "none", "--run", "r1"), "'none' is no definition file"),
        (("runs", "--status", "Done"), "'Done' is not one of"),
        (("start", "a.json", "--store", "memory:"), "no run was started"),
        (("serve", "--dag", "empty"), "empty holds no definition"),
        (("serve", "--token", ""), "--token is empty"),
    ],
)
def test_wrong_usage_is_told(folder, args, message):
    """Each typical mistake is one message on stderr that says what is wrong, nothing on stdout, and exit code 2."""
    folder.write("a.json", calls("echo"))
    (folder.path / "bad.json").write_text("{}")
    (folder.path / "empty").mkdir()
    done = folder.run(*args)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr
    assert folder.calls() == []


def test_a_wrong_value_of_a_variable_is_told_with_its_name(folder):
    """An error of an option names the variable only if the value comes from there."""
    folder.write("a.json", calls("echo"))
    done = folder.run("run", "a.json", AIORCH_SECRETS="k=x")
    assert "Invalid value for '--secret' (env var: 'AIORCH_SECRETS'): the source of" in done.stderr


def test_unknown_run_is_told(folder):
    """Every command that is given the id of a run says when there is none, and how to find those that exist."""
    folder.write("a.json", calls("echo"))
    folder.run("start", "a.json")
    for args in (("show", "none"), ("cancel", "none"), ("resume", "none"), ("graph", "none")):
        done = folder.run(*args)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "there is no run 'none'" in done.stderr
        assert "lists its runs" in done.stderr
        command = re.search("`(aiorch runs .*)`", done.stderr)[1]
        assert json.loads(folder.run(*shlex.split(command)[1:], "--json").stdout)
    assert "'none' is no file here, and" in done.stderr


@pytest.mark.parametrize(
    "args", [("runs",), ("show", "r1"), ("cancel", "r1"), ("graph", "r1"), ("resume", "r1", "--detach")]
)
def test_store_that_is_not_there_is_told(folder, args):
    """A command in the wrong folder says that the store has no runs yet, and leaves no store behind."""
    done = folder.run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no file .aiorch/state.db here" in done.stderr
    assert ("so this store has no runs yet" + (", and no run 'r1'" if "r1" in args else "")) in done.stderr
    assert not (folder.path / ".aiorch").exists()


def test_every_problem_of_a_definition_is_told(folder):
    """A wrong definition is told with all its problems and where they are, by run and by validate, with exit code 2."""
    definition = calls("echo", "echo")
    definition["steps"]["S1"]["next"] = "S3"
    definition["steps"]["S2"]["retry"] = {"max_attemps": 3}
    folder.write("a.json", definition)
    for command in ("run", "validate"):
        done = folder.run(command, "a.json")
        assert (done.returncode, done.stdout) == (2, "")
        assert "steps.S1.next" in done.stderr
        assert "steps.S2.retry.max_attemps" in done.stderr
        assert "max_attempts" in done.stderr
    problems = json.loads(folder.run("validate", "a.json", "--json").stdout)["problems"]
    assert {"steps.S1.next", "steps.S2.retry.max_attemps"} <= {problem["path"] for problem in problems}
    assert all(problem["line"] for problem in problems)


def test_valid_definition_is_told(folder):
    """A definition that is right is said to be so; whether its callables exist is asked for."""
    folder.write("a.json", SAMPLE)
    done = folder.run("validate", "a.json")
    assert (done.returncode, done.stdout) == (0, "a.json: DAG 'sample' is valid: 4 tasks in 5 nodes\n")
    assert json.loads(folder.run("validate", "a.json", "--json").stdout)["valid"] is True
    folder.write("b.json", calls("missing"))
    assert folder.run("validate", "b.json").returncode == 0
    done = folder.run("validate", "b.json", "--callables")
    assert done.returncode == 2
    assert "'work:missing'" in done.stderr


def test_missing_callable_is_told_before_anything_starts(folder):
    """A run whose callables cannot be found does not begin; step, name and reason are told."""
    definition = calls("echo", "no_such_function")
    definition["steps"]["S1"]["function"] = "no_such_module:f"
    done = folder.run("run", folder.write("a.json", definition))
    assert (done.returncode, done.stdout) == (2, "")
    assert "step 'S1': 'no_such_module:f': ModuleNotFoundError" in done.stderr
    assert "step 'S2': 'work:no_such_function'" in done.stderr
    misspelt = folder.run("run", folder.write("b.json", calls("ehco")))
    assert "has no 'ehco'; did you mean 'echo'?" in misspelt.stderr
    assert "2 tasks cannot be launched" in done.stderr
    assert "Callables are looked up as 'module:name'" in done.stderr
    assert not (folder.path / ".aiorch").exists()


def test_failing_store_is_told(folder):
    """A store that cannot be opened is a message and exit code 3."""
    (folder.path / "state.db").write_bytes(b"this is no database, but long enough to look like a file" * 100)
    done = folder.run("run", folder.write("a.json", calls("echo")), "--store", "sqlite:///state.db")
    assert done.returncode == 3
    assert "state.db" in done.stderr


# --- The other commands -----------------------------------------------------------------------------------------


def test_runs_are_listed(folder):
    """`runs` lists the newest first, by status and limit, for people and for programs."""
    folder.write("a.json", calls("echo"))
    folder.write("b.json", calls("broken"))
    for run_id, name in (("r1", "a"), ("r2", "b"), ("r3", "a")):
        folder.run("run", f"{name}.json", "--run-id", run_id)
    lines = folder.run("runs").stdout.splitlines()
    assert lines[0].split()[:3] == ["RUN", "DAG", "STATUS"]
    assert {tuple(line.split()[:3]) for line in lines[1:]} == {
        ("r1", "a", "Completed"), ("r2", "b", "Failed"), ("r3", "a", "Completed"),
    }  # fmt: skip
    failed = json.loads(folder.run("runs", "--json", "--status", "failed").stdout)
    assert [run["run_id"] for run in failed] == ["r2"]
    limited = folder.run("runs", "--limit", "1")
    assert len(limited.stdout.splitlines()) == 2
    assert "… and 2 older ones" in limited.stderr


def test_show_tells_nodes_and_failures(folder):
    """`show` has a line per node with status and attempt, and what failed."""
    definition = calls("echo", "broken", "echo", retry={"max_attempts": 2, "initial_delay": 0})
    folder.run("run", folder.write("a.json", definition), "--run-id", "r1")
    done = folder.run("show", "r1")
    assert done.returncode == 0
    cells = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("S")}
    assert cells["S1"][0] == "Completed"
    assert cells["S2"][0] == "Failed"
    assert cells["S3"][0] == "Skipped"
    assert "S2 (attempt 2): RuntimeError: row 17 is no good" in done.stdout


def test_graph_draws_files_and_runs(folder):
    """`graph` draws a definition file, and a run with its statuses, in each format, to stdout or into a file."""
    folder.write("a.json", SAMPLE)
    folder.run("run", "a.json", "--run-id", "r1")
    bare = folder.run("graph", "a.json")
    assert "flowchart LR" in bare.stdout
    assert "Completed" not in bare.stdout
    for args in (("r1",), ("a.json", "--run", "r1")):
        drawn = folder.run("graph", *args, "--format", "dot")
        assert drawn.stdout.startswith("digraph")
        assert "Completed" in drawn.stdout
    done = folder.run("graph", "r1", "--output", "picture.svg")
    assert (done.returncode, done.stdout) == (0, "")
    assert ET.parse(folder.path / "picture.svg").getroot().tag.endswith("svg")
    folder.write("b.json", calls("echo"))
    other = folder.run("graph", "b.json", "--run", "r1")
    assert other.returncode == 2
    assert "has a different definition than b.json" in other.stderr


def test_failed_run_is_resumed(folder):
    """`resume` keeps what completed, runs the rest as a new run, and shows it like `run` does."""
    folder.write("a.json", calls("echo", "once_broken", "echo"))
    assert folder.run("run", "a.json", "--run-id", "r1").returncode == 1
    (folder.path / "mended").touch()
    done = folder.run("resume", "r1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["node"] == "S3"
    assert "Run r1.2 Completed" in done.stderr
    assert folder.calls() == ["S1/1", "S2/1", "S2/1", "S3/1"]
    assert folder.run("resume", "r1.2").returncode == 2


def test_run_is_resumed_from_a_step_with_another_input_and_definition(folder):
    """A completed run runs anew from the step; `show` names it; the same command again is the same run."""
    folder.write("a.json", calls("echo", "echo", "echo"))
    assert folder.run("run", "a.json", "--run-id", "r1", "--input", "1").returncode == 0
    new = calls("echo", "echo", "echo", "echo")
    folder.write("b.json", {"name": "a", **new})
    command = ("resume", "r1", "--from", "S3", "--definition", "b.json", "--input")
    done = folder.run(*command, "2")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"node": "S4", "input": 2}
    assert folder.calls() == ["S1/1", "S2/1", "S3/1", "S3/1", "S4/1"]
    assert "\nresumed from r1, from step S3 on\n" in folder.run("show", "r1.2").stdout
    assert folder.run(*command, "2").returncode == 0
    refused = folder.run(*command, "3")
    assert (refused.returncode, "a different input" in refused.stderr) == (2, True)
    detached = folder.run("resume", "r1.2", "--from", "S4", "--detach")
    assert (detached.returncode, detached.stdout) == (0, "r1.3\n"), detached.stderr
    assert folder.calls() == ["S1/1", "S2/1", "S3/1", "S3/1", "S4/1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "S22"), "did you mean 'S2'"),
        (("--input", "1"), "--input needs --from"),
        (("day=2026-11-28",), "keeps the input of the old one; to give a new input, write --from STEP --input JSON."),
        (("--definition", "none.json"), "there is no file none.json"),
        (("--from", "S2", "--definition", "c.json"), "step 'S1': 'timeout' was none, and is 5"),
    ],
)
@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_wrong_resume_starts_nothing(folder, options, message, detach):
    """Usage, step and definition are checked first, and each refusal names the next move."""
    folder.write("a.json", calls("echo", "echo"))
    folder.run("run", "a.json", "--run-id", "r1")
    changed = calls("echo", "echo")
    changed["steps"]["S1"]["timeout"] = 5
    folder.write("c.json", {"name": "a", **changed})
    refused = folder.run("resume", "r1", *options, *detach)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert folder.run("show", "r1.2").returncode != 0


def test_next_moves_of_a_failed_run_can_be_made(folder):
    """The commands that the end of a failed run names are for its store and callables; in memory there are none."""
    (folder.path / "dags").mkdir()
    (folder.path / "work.py").rename(folder.path / "dags" / "work.py")
    folder.write("dags/a.json", calls("once_broken"))
    failed = folder.run("run", "dags/a.json", "--run-id", "r1", "--store", "sqlite:///other.db")
    resume, show = re.findall(r": (aiorch .*)$", failed.stderr, re.MULTILINE)
    assert folder.run(*shlex.split(show)[1:]).stdout.startswith("Run r1 Failed")
    (folder.path / "mended").touch()
    done = folder.run(*shlex.split(resume)[1:])
    assert (done.returncode, done.stdout) == (0, '"mended"\n'), done.stderr
    (folder.path / "mended").unlink()
    assert "aiorch" not in folder.run("run", "dags/a.json", "--store", "memory:").stderr


def test_next_moves_of_a_run_repeat_its_options_for_secrets(folder):
    """Without them the next process could not launch the task; those of the variable hold for that process, too."""
    key = {"parameters": {"context": "${ secrets.key }"}}
    folder.write("a.json", {"secrets": ["key"], **calls("broken", **key)})
    failed = folder.run("run", "a.json", "--run-id", "r1", "--secret", "key=env:HOME")
    assert "from there: aiorch resume r1 --secret key=env:HOME\n" in failed.stderr
    resumed = folder.run("resume", "r1", "--secret", "key=env:HOME")
    assert "from there: aiorch resume r1.2 --secret key=env:HOME\n" in resumed.stderr
    resumed = folder.run("resume", "r1.2", AIORCH_SECRETS="key=env:HOME")
    assert "from there: aiorch resume r1.3\n" in resumed.stderr


@pytest.mark.parametrize(
    ("last", "is_warned"),
    [
        ({"type": "Pass", "result": "${ input.x }", "end": True}, True),
        ({"type": "Fail", "error": "NoOrders"}, True),
        (step("broken"), False),
    ],
)
def test_a_failure_that_would_come_again_is_said_before_the_next_moves(folder, last, is_warned):
    """An expression without a value and a `Fail` give the same in a resumed run; a function may succeed there."""
    steps = {"S1": {**step("echo"), "end": False, "next": "S2"}, "S2": last}
    folder.write("a.json", {"start": "S1", "steps": steps})
    lines = folder.run("run", "a.json", "--run-id", "r1").stderr.splitlines()
    at = next(index for index, line in enumerate(lines) if line.endswith("aiorch resume r1"))
    warning = "S2 would fail in the same way again, unless definition, input or code change."
    assert (lines[at - 1] == warning) is is_warned


def test_started_run_is_carried_out_by_the_next_process(folder):
    """`start` only records; the next process on the store that can run it does, and `cancel` ends it for good."""
    folder.write("a.json", calls("echo"))
    started = folder.run("start", "a.json", "--run-id", "r1", "--input", "[1]")
    assert (started.returncode, started.stdout) == (0, "r1\n"), started.stderr
    assert folder.calls() == []
    folder.run("start", "a.json", "--run-id", "r2")
    cancelled = folder.run("cancel", "r2", "--reason", "not needed")
    assert cancelled.returncode == 0
    assert cancelled.stdout == "Run r2 Cancelled\n"
    done = folder.run("run", "a.json", "--run-id", "r1", "--input", "[1]")
    assert json.loads(done.stdout) == {"node": "S1", "input": [1]}
    assert folder.document("r2")["$run"]["error"]["message"] == "not needed"
    ended = folder.run("cancel", "r1")
    assert (ended.returncode, ended.stdout) == (0, "Run r1 Completed\n")
    assert "so it was not cancelled" in ended.stderr
    assert folder.calls() == ["S1/1"]
    resumed = folder.run("resume", "r2", "--detach")
    assert (resumed.returncode, resumed.stdout) == (0, "r2.2\n")


def test_an_interrupt_of_a_waiting_run_tells_until_when_it_waits(folder):
    """Ctrl-C during a wait of an hour leaves the run open, and names its end and the command that serves the store."""
    folder.write("a.json", chain(S1=step("echo"), Pause={"type": "Wait", "seconds": 3600}, S2=step("echo")))
    process = folder.start("run", "a.json", "--run-id", "r1")
    folder.await_call("S1/1")
    assert any("Pause waits until" in line for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 130
    assert re.search(r"It waits until .* UTC \(in .* min.*\), at Pause\.\n.*: aiorch serve\n", told), told
    assert folder.document("r1")["$run"]["status"] == "Running"


def test_a_cancel_names_the_commands_that_carry_out_finally(folder):
    """A cancelled run whose `finally` no process carries out waits for it; `resume` does so, and --force ends it."""
    folder.write("a.json", calls("echo") | {"finally": chain(Clean=step("echo"))})
    for run_id in ("r1", "r2"):
        folder.run("start", "a.json", "--run-id", run_id)
        cancelled = folder.run("cancel", run_id)
        assert (cancelled.returncode, cancelled.stdout) == (0, f"Run {run_id} Cancelling\n")
        assert f"aiorch resume {run_id}. To end the run without it: aiorch cancel --force {run_id}" in cancelled.stderr
    assert folder.run("resume", "r1").returncode == 1
    assert folder.run("cancel", "r2", "--force").stdout == "Run r2 Cancelled\n"
    assert folder.calls() == ["Clean/1"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_cancel_ends_a_run_that_no_process_works_on(folder, end):
    """The cancel of a run whose process was killed, or has given its task back, says that the run is Cancelled."""
    folder.write("a.json", calls("waits", "echo"))
    process = folder.start("run", "a.json", "--run-id", "r1", "--drain", "0")
    folder.await_call("S1/1")
    process.send_signal(end)
    process.wait(PATIENCE_S)
    if end is signal.SIGINT:
        shown = folder.run("show", "r1").stdout
        assert "waits for a process: Interrupted" in shown
        assert "again in" not in shown
    cancelled = folder.run("cancel", "r1")
    assert (cancelled.returncode, cancelled.stdout) == (0, "Run r1 Cancelled\n")
    assert folder.document("r1")["$run"]["status"] == "Cancelled"


def test_a_call_without_a_connection_says_so_while_it_waits(folder):
    """A piped run and `show` tell why a call has not started, long before its timeout."""
    step = task(target_type="CloudFunction", target_name="f", url="http://127.0.0.1:9/f", timeout=600)
    folder.write("a.json", chain(A=step))
    process = folder.start("run", "a.json", "--run-id", "r1", "--function-anonymous", "--log-level", "error")
    told = []
    for line in process.stderr:
        told.append(line)
        if "A waits (attempt 1): no connection to http://127.0.0.1:9/f" in line:
            break
    else:
        raise AssertionError(told)
    assert "waits: no connection to http://127.0.0.1:9/f" in folder.run("show", "r1").stdout


def test_cancel_stops_a_run_of_another_process(folder):
    """A cancel from another terminal ends a run that is under way; its process says so and exits with 1."""
    folder.write("a.json", calls("waits", "echo"))
    process = folder.start("run", "a.json", "--run-id", "r1", "--drain", "0")
    folder.await_call("S1/1")
    cancelled = folder.run("cancel", "r1")
    assert cancelled.returncode == 0
    assert cancelled.stdout == "Run r1 Cancelled\n"
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, stderr
    assert "Run r1 Cancelled" in stderr
    assert folder.calls() == ["S1/1"]


# --- serve ------------------------------------------------------------------------------------------------------


def test_serve_carries_out_runs(folder):
    """
    `serve` starts DAGs by name over HTTP, carries out what others recorded in the store, and ends at SIGTERM with 0.
    """
    (folder.path / "dags").mkdir()
    folder.write("dags/sample.json", SAMPLE)
    folder.write("a.json", calls("echo"))
    folder.run("start", "a.json", "--run-id", "recorded")
    process = folder.start("serve", "--dag", "dags", "--port", "0")
    url = serving_url(process)
    assert call(f"{url}/readyz") == (200, {"status": "ok"})
    assert call(f"{url}/runs", {"dag": "sample", "run_id": "r1", "input": 1})[0] == 201
    for run_id in ("r1", "recorded"):
        deadline = time.monotonic() + PATIENCE_S
        while call(f"{url}/runs/{run_id}")[1]["$run"]["status"] != "Completed":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert call(f"{url}/runs", {"dag": "none"})[0] == 404
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    assert "Stopped." in process.stderr.read()


def test_serve_warns_and_asks_for_a_token(folder):
    """On an address that others can reach it warns loudly unless a token is set, and with one it asks for it."""
    folder.env["AIORCH_SERVE_TOKEN"] = "s3cret"
    process = folder.start("serve", "--host", "0.0.0.0", "--port", "0")
    url = serving_url(process).replace("0.0.0.0", "127.0.0.1")
    assert call(f"{url}/runs")[0] == 401
    assert call(f"{url}/runs", token="s3cret") == (200, {"runs": []})
    process.terminate()
    process.wait(PATIENCE_S)
    del folder.env["AIORCH_SERVE_TOKEN"]
    process = folder.start("serve", "--host", "0.0.0.0", "--port", "0")
    assert "WITHOUT AUTHENTICATION" in process.stderr.readline()
    serving_url(process)


def test_serve_refuses_wrong_dags_and_a_port_in_use(folder):
    """Every wrong definition is told before anything is served, and so are two of one name and a port that is taken."""
    (folder.path / "dags").mkdir()
    folder.write("dags/a.json", {"start": "A", "steps": {}})
    folder.write("dags/b.json", calls("missing"))
    folder.write("dags/c.json", {"name": "same", **calls("echo")})
    folder.write("dags/d.json", {"name": "same", **calls("echo")})
    done = folder.run("serve", "--dag", "dags", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a.json" in done.stderr
    assert "'work:missing'" in done.stderr
    assert "both define a DAG 'same'" in done.stderr
    port = serving_url(folder.start("serve", "--port", "0")).rsplit(":", 1)[1]
    folder.write("a.json", calls("echo"))
    folder.run("start", "a.json", "--run-id", "r1", "--store", "sqlite:///other.db")
    done = folder.run("serve", "--port", port, "--store", "sqlite:///other.db")
    assert done.returncode == 2
    assert (
        f"127.0.0.1:{port} cannot be bound, so the server was not started: Address already in use. --host and"
        in done.stderr
    )
    assert folder.calls() == []


# --- The terminal -----------------------------------------------------------------------------------------------


def test_terminal_shows_a_live_view(folder):
    """On a terminal the nodes are redrawn in place with their statuses, and the end of the run stays on the screen."""
    code, written = on_terminal(folder, "run", folder.write("a.json", SAMPLE), "--run-id", "r1")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert code == 0, plain
    last = plain[plain.rindex("sample  r1  ") :].splitlines()
    assert last[0].startswith("sample  r1  Completed")
    assert [line.split()[:3] for line in last[1:6]] == [
        ["✔", "Init", "Completed"],
        ["✔", "Par", "Completed"],
        ["├", "✔", "A"],
        ["└", "✔", "B"],
        ["✔", "End", "Completed"],
    ]
    assert "Completed #3" in last[4]
    assert written.count("\x1b[?25h") == 1, "the cursor is shown again"


def test_wide_fan_out_does_not_flood_the_terminal(folder):
    """A fan-out far beyond the terminal's height is counted in a few rows."""
    fan = chain(Fan=parallel(*(chain(**{f"B{n}": step("echo")}) for n in range(300))))
    code, written = on_terminal(folder, "run", folder.write("fan.json", fan), "--run-id", "r1", rows=12)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert code == 0, plain
    assert "300/300 ━" in plain
    frames = plain.split("fan  r1  ")
    assert max(frame.count("\n") for frame in frames[:-1]) <= 12


def test_version_and_help(folder):
    """The version is that of the package; help names exit codes and variables, and loads no engine."""
    assert re.fullmatch(r"aiorch, version \d+\.\d+\.\d+\n", folder.run("--version").stdout)
    help_ = folder.run("run", "--help").stdout
    assert "130  interrupted" in help_
    assert "AIORCH_RUN_INPUT" in help_
    code = "import sys; from aiorch.cli.main import cli; print([m for m in sys.modules if m.split('.')[0] in %r])"
    heavy = ("asyncio", "aiohttp", "pydantic", "rich", "msgspec", "yaml")
    command = [sys.executable, "-c", code % (heavy,)]
    loaded = subprocess.run(command, env=folder.env, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]", loaded.stderr


# Hostile text

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x08\u202ekcab\u2066\u2028\r\nERASED [bold red]markup[/] \U000e0041"
"""Sets the title of the window, clears the screen, turns text around, breaks the line, and is markup of Rich."""

HOSTILE_NAME = "\u202ekcab\u2066\u2028 [bold red]markup[/] \U000e0041"
"""As much of that as a definition lets a name hold."""

HOSTILE_WORK = f"""
HOSTILE = {HOSTILE!r}

class Cause(Exception):
    pass

Evil = type("Evil" + HOSTILE, (Exception,), {{}})

def fails(context):
    try:
        raise Cause(HOSTILE)
    except Cause as error:
        raise Evil(HOSTILE) from error

def succeeds(context):
    return {{"said": HOSTILE}}
"""


def hostile_definition(function):
    step = task(target_name=f"target{HOSTILE_NAME}", function=f"hostile:{function}")
    return chain(**{f"Node{HOSTILE_NAME}": step})


def dangers(text):
    """Return the characters that a terminal acts upon, or that change how it shows others; line ends may be there."""
    bad = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {char for char in text if unicodedata.category(char) in bad and char != "\n"}


@pytest.fixture
def hostile(folder):
    """A folder with definitions, and the ended runs "bad" and "good" of them, whose every text is hostile."""
    (folder.path / "hostile.py").write_text(HOSTILE_WORK)
    for name, function in (("bad", "fails"), ("good", "succeeds")):
        folder.write(f"{name}.json", hostile_definition(function))
    return folder


HOSTILE_COMMANDS = [
    ("run", "bad.json", "--run-id", "bad2"),
    ("run", "good.json", "--run-id", "good2"),
    ("run", "bad.json", "--run-id", "bad2", "--json"),
    ("show", "bad"),
    ("show", "bad", "--json"),
    ("show", "good", "--json"),
    ("show", "good"),
    ("show", "bad", "--failed"),
    ("result", "good"),
    ("result", "bad", f"Node{HOSTILE_NAME}"),
    ("result", "bad", HOSTILE),
    ("resume", "bad"),
    ("graph", "bad"),
    ("graph", "bad", "--format", "dot"),
    ("graph", "bad", "--format", "svg"),
    ("graph", "bad.json", "--run", "bad"),
    ("runs",),
    ("cancel", "bad"),
    ("validate", "bad.json", "--callables"),
    ("validate", "bad.json", "--json"),
    ("validate", "wrong.json"),
    ("serve", "--dag", "wrong.json"),
    ("show", f"x{HOSTILE}"),
    ("start", f"x{HOSTILE}.json"),
    ("run", "bad.json", "--input", f"@{HOSTILE.replace('/', '')}"),
    ("run", "bad.json", "--store", f"gs:{HOSTILE}"),
]


@pytest.mark.timeout(180)  # it starts two dozen processes
def test_no_command_prints_hostile_text_raw(hostile):
    """Types, messages and causes of failures, results, names and arguments: no command lets a terminal act on one."""
    for name in ("bad", "good"):
        hostile.run("run", f"{name}.json", "--run-id", name)
    wrong = hostile_definition("fails")
    wrong["steps"][f"Node{HOSTILE_NAME}"] |= {f"key{HOSTILE}": HOSTILE, "target_name": HOSTILE}
    hostile.write("wrong.json", wrong)
    for args in HOSTILE_COMMANDS:
        done = hostile.run(*args)
        assert done.returncode in (0, 1, 2), (args, done.stderr)
        assert dangers(done.stdout + done.stderr) == set(), (args, done.stdout, done.stderr)
    _, logged = hostile.start("--log-level", "debug", "run", "bad.json", "--run-id", "bad3").communicate()
    assert "Traceback" in logged
    assert dangers(logged) == set()
    assert "Evil\\u001b]0;owned" in hostile.run("show", "bad").stdout
    assert hostile.document("bad")[f"Node{HOSTILE_NAME}"]["error"]["type"] == f"Evil{HOSTILE}"


def test_the_live_view_prints_no_hostile_text_raw(hostile):
    """On a terminal, where the view itself writes escape sequences, none of them comes from a name or a failure."""
    code, written = on_terminal(hostile, "run", "bad.json", "--run-id", "r1", columns=400)
    assert code == 1
    assert "Evil\\u001b]0;owned" in written
    assert "[bold red]markup[/]" in written
    own = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.replace("\r", ""))
    assert "\x1b[2J" not in written
    assert dangers(own) == set()
