"""`aiorch validate` as a user runs it: files, folders and stdin, and everything that `aiorch run` would refuse."""

import json
import re
import subprocess
import sys

import pytest

from tests.acceptance.folder import Folder, calls
from tests.definitions import call, chain, job, parallel, task

TYPED = """
from __future__ import annotations
from datetime import date

def load(day: date, limit: int = 5):
    return day

def save(context, table):
    return table
"""

GOOD = {"start": "Load", "steps": {"Load": task(target_name="typed:load", parameters={"day": "2026-11-23"})}}
BAD = chain(
    Load=task(target_name="typed:load", parameters={"limit": "many"}),
    Save=task(target_name="typed:save", parameters={"tabel": "x"}),
)


FULL_OF_MISTAKES = """\
name: full
secrets: [api_key, api_key]
start: Load
on_failure: wait
steps:
  Load:
    type: Task
    target_type: CloudFunction
    target_name: load
    parameters: {day: "${ input.day", key: "${ secrets.apikey }"}
    retry: [{on: ["429"]}, {max_attempts: 2}, {on: [Timeot]}]
    next: Size
  Size:
    type: Choice
    when: results.Load.rows > 0
    choices:
      - {when: "${ results.Load.rows > 5 }", next: Big}
      - {when: results.Load.rows > maxx(1), next: Load}
    default: Smal
  Big:
    type: Parallel
    branches:
      - steps:
          One: {type: Task, target_type: Function, target_name: "m:f", needs: [One, Two, Two, Three], end: true}
          Two: {type: Task, target_type: Function, target_name: "m:f", parameters: {x: "${ results.One }"}}
      - start: Four
        steps:
          Four: {type: Fail, error: Lost, next: Small}
    catch: [{next: Small, result: 1}]
    next: Small
  Small:
    type: Wait
    seconds: "5"
    when: results.Big == null and default(results.Nothing, 1) == 1
    end: true
  Size#2: {type: Pass, result: "${ task.attempt }", end: true, catch: [{result: 1}]}
finally:
  start: Load
  steps:
    Load: {type: Task, target_type: Function, target_name: "m:f", end: true}
output: "${ run.outcome } ${ results.Load.rows }"
"""

MISTAKES = """
2:10 secrets: 'api_key' is named twice
4:1 on_failure: `on_failure` belongs to a graph and to a `Parallel`
10:24 steps.Load.parameters.day: this `${` has no `}` that closes it
10:48 steps.Load.parameters.key: the definition declares no secret 'apikey'
11:18 steps.Load.retry[0].on: a call that is turned away with 429 did not run
11:47 steps.Load.retry[2]: retry[1] has no `on` and covers every failure
11:53 steps.Load.retry[2].on[0]: no failure of this step has the type 'Timeot'; did you mean 'Timeout'?
15:5 steps.Size.when: a `Choice` has no `when` of its own
17:17 steps.Size.choices[0].when: `when` is always an expression
18:36 steps.Size.choices[1].when: there is no function `maxx`
18:45 steps.Size.choices[1].next: this leads back: 'Load' -> 'Size' -> 'Load'
19:14 steps.Size.default: there is no step 'Smal' here; did you mean 'Small'?
24:80 steps.Big.branches[0].steps.One.needs[0]: a step cannot need itself
24:90 steps.Big.branches[0].steps.One.needs[2]: step 'Two' is named twice
24:95 steps.Big.branches[0].steps.One.needs[3]: there is no step 'Three' here
24:103 steps.Big.branches[0].steps.One.end: this level is a graph, since it has no `start`
28:37 steps.Big.branches[1].steps.Four.error: 'Lost' is a type that only aiorch itself gives
28:43 steps.Big.branches[1].steps.Four.next: this step always fails
29:13 steps.Big.catch[0]: this handler has both `next` and `result`
33:14 steps.Small.seconds: must be a number of seconds
34:43 steps.Small.when: there is no step 'Nothing'
36:36 steps["Size#2"].result: `task` can be read in the `parameters` of a task only
36:64 steps["Size#2"].catch: `catch` is a key of Task, Wait and Parallel steps
40:5 finally.steps.Load: a step with this name exists at steps.Load
41:13 output: `run.outcome` can be read in `finally` only
"""
"""Line and column, path, and the beginning of the message of every mistake of that definition."""


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path)
    (tmp_path / "typed.py").write_text(TYPED)
    yield made
    made.close()


def test_parameters_are_compared_with_signatures(folder):
    """With --callables each mistake has its place; without, nothing is imported. A run is refused in the same words."""
    folder.write("bad.json", BAD)
    assert folder.run("validate", "bad.json").returncode == 0
    done = folder.run("validate", "bad.json", "--callables")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: bad.json is not valid (4 problems), so no run of it can be started:\n")
    told = [line for line in done.stderr.splitlines() if line.startswith("  - line 1, column ")]
    assert [line.split(": ")[1] for line in told] == [
        "steps.Load.parameters.day",
        "steps.Load.parameters.limit",
        "steps.Save.parameters.table",
        "steps.Save.parameters.tabel",
    ]
    problems = json.loads(folder.run("validate", "bad.json", "--callables", "--json").stdout)["problems"]
    assert [problem["path"] for problem in problems] == [line.split(": ")[1] for line in told]
    refused = folder.run("run", "bad.json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert [line for line in refused.stderr.splitlines() if line.startswith("  - ")] == told


def test_a_run_converts_the_parameters(folder):
    """The definition that was called valid runs, and the result of its function is a date as JSON."""
    folder.write("good.json", GOOD)
    assert folder.run("validate", "good.json", "--callables").returncode == 0
    done = folder.run("run", "good.json", "--store", "memory:")
    assert (done.returncode, done.stdout) == (0, '"2026-11-23"\n')


def test_several_definitions_are_checked_in_one_command(folder):
    """Each valid one is a line of stdout; mistakes of all others are told, of files that do not exist, too."""
    folder.write("good.json", GOOD)
    folder.write("typo.json", {"start": "A", "steps": {"A": task(nxet="B")}})
    (folder.path / "more").mkdir()
    (folder.path / "empty").mkdir()
    for name in ("b.yaml", "a.json", "notes.txt"):
        folder.write(f"more/{name}", calls("echo"))
    done = folder.run("validate", "good.json", "typo.json", "goood.json", "more", "empty", "good.json")
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "good.json: DAG 'good' is valid: 1 task in 1 node",
        "more/a.json: DAG 'a' is valid: 1 task in 1 node",
        "more/b.yaml: DAG 'b' is valid: 1 task in 1 node",
    ]
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert errors[0].startswith("Error: typo.json is not valid (1 problem)")
    assert errors[1] == "Error: there is no file goood.json, so it was not checked; did you mean good.json?"
    assert errors[2].startswith(
        "Error: the folder empty holds no definition, so none was checked: no file there ends in"
    )
    assert "Name the folder with the definitions, or a file." in errors[2]
    assert len(errors) == 3
    assert folder.run("validate", "good.json", "more").returncode == 0


def test_json_of_several_is_a_list_and_of_one_is_not(folder):
    """A folder makes a list, however many files it has; each entry names its file."""
    folder.write("good.json", GOOD)
    (folder.path / "more").mkdir()
    folder.write("more/bad.json", {"start": "A"})
    one = json.loads(folder.run("validate", "good.json", "--json").stdout)
    assert (one["valid"], one["dag"], one.keys()) == (True, "good", {"valid", "dag", "definition"})
    done = folder.run("validate", "good.json", "more", "none.json", "--json")
    good, bad, none = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (2, "")
    assert good == {"file": "good.json", **one}
    assert (bad["file"], bad["valid"], bad["problems"][0]["path"]) == ("more/bad.json", False, "steps")
    assert (none["file"], none["valid"]) == ("none.json", False)
    assert none["problems"][0]["message"].startswith("there is no file none.json, so it was not checked")
    listed = json.loads(folder.run("validate", "more", "--json").stdout)
    assert [each["file"] for each in listed] == ["more/bad.json"]


@pytest.mark.parametrize("text", [json.dumps(BAD), "# YAML\n" + json.dumps(BAD, indent=2)], ids=["json", "yaml"])
def test_a_definition_on_stdin_is_checked(folder, text):
    """Its modules are looked up in the current folder, and mistakes have their lines."""
    done = validate_stdin(folder, text, "-", "--callables")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: stdin is not valid (4 problems), so no run of it can be started:\n  - line ")
    good = validate_stdin(folder, json.dumps(GOOD), "-", "--callables")
    assert (good.returncode, good.stdout) == (0, "stdin: DAG 'dag' is valid: 1 task in 1 node\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "this is empty"),
        ("{", "this is not YAML"),
        (b"\xff", "stdin cannot be read, so it was not checked: it is not UTF-8 text"),
        ("start: [", "stdin is not valid"),
    ],
)
def test_a_text_on_stdin_that_is_no_definition_is_told(folder, text, says):
    """Without a traceback, and with exit code 2."""
    done = validate_stdin(folder, text, "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def validate_stdin(folder, text, *args):
    done = subprocess.run(
        [sys.executable, "-m", "aiorch", "validate", *args],
        input=text if isinstance(text, bytes) else text.encode(),
        cwd=folder.path,
        env=folder.env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in done.stderr
    return done


def test_folders_whose_modules_have_the_same_name_are_checked_alone(folder):
    """One command over two projects finds in each the mistakes that `aiorch run` would find there, and no others."""
    for name, function in (("one", "first"), ("two", "second")):
        (folder.path / name).mkdir()
        (folder.path / name / "jobs.py").write_text(f"import more\n\ndef {function}(context): return more.NAME\n")
        (folder.path / name / "more.py").write_text(f"NAME = {name!r}\n")
        folder.write(f"{name}/etl.json", chain(A=task(target_name=f"jobs:{function}")))
        assert folder.run("run", f"{name}/etl.json", "--store", "memory:").stdout == f'"{name}"\n'
    done = folder.run("validate", "one", "two", "one/etl.json", "--callables")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    folder.write("two/etl.json", chain(A=task(target_name="jobs:first")))
    done = folder.run("validate", "one", "two", "--callables")
    assert done.returncode == 2
    assert "has no 'first'" in done.stderr


REFUSED = {
    "no project": (chain(A=call(url=None, region="r")), "needs project_id"),
    "no region": (chain(A=parallel(chain(B=job(region=None)))), "needs region"),
    "plain http": (chain(A=call(url="http://f.example/")), "https"),
    "too large": (
        chain(**{f"{number:0120}": task(target_name="t:" + "work" * 50) for number in range(4700)}),
        "the run document could grow to",
    ),
    "no target": (chain(A=task(target_type="Batch")), "Batch"),
}


def without_nones(value):
    if isinstance(value, dict):
        return {key: without_nones(each) for key, each in value.items() if each is not None}
    return [without_nones(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("definition", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_the_command_refuses_what_a_run_refuses(folder, definition, says):
    """A setting or target that is missing, a URL that is not allowed, a DAG too large: both say so, and end with 2."""
    (folder.path / "t.py").write_text(f"def {'work' * 50}(context): ...\n")
    folder.write("a.json", without_nones(definition))
    validated = folder.run("validate", "a.json")
    refused = folder.run("run", "a.json")
    assert (validated.returncode, refused.returncode) == (2, 2)
    assert says in validated.stderr
    assert says in refused.stderr


def test_the_options_and_variables_of_a_run_count(folder):
    """Project, region and URL by option or variable, and the folders of --path, make a definition valid."""
    folder.write("a.json", without_nones(chain(A=call(url=None))))
    assert folder.run("validate", "a.json", "--project-id", "p").returncode == 2
    assert folder.run("validate", "a.json", "--project-id", "p", "--region", "r").returncode == 0
    assert folder.run("validate", "a.json", AIORCH_PROJECT_ID="p", AIORCH_REGION="r").returncode == 0
    assert folder.run("validate", "a.json", "--function-url", "https://f.example/{name}").returncode == 0
    done = folder.run("validate", "a.json", "--function-url", "http://f.example/{name}")
    assert done.returncode == 2
    assert "the command did nothing" in done.stderr
    (folder.path / "lib").mkdir()
    (folder.path / "lib" / "elsewhere.py").write_text("def work(context): ...\n")
    folder.write("b.json", chain(A=task(target_name="elsewhere:work")))
    assert folder.run("validate", "b.json", "--callables").returncode == 2
    assert folder.run("validate", "b.json", "--callables", "--path", "lib").returncode == 0


def test_every_mistake_of_a_definition_is_told_at_once(folder):
    """Levels, links, handlers, types of failures, expressions and names, each with its place."""
    (folder.path / "full.yaml").write_text(FULL_OF_MISTAKES)
    done = folder.run("validate", "full.yaml")
    expected = MISTAKES.strip().splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: full.yaml is not valid ({len(expected)} problems), so no run of it can be")
    told = re.findall(r"^  - line (\d+), column (\d+): (.*)$", done.stderr, re.MULTILINE)
    assert len(told) == len(expected)
    for (line, column, message), beginning in zip(told, expected, strict=True):
        assert f"{line}:{column} {message}".startswith(beginning)
    problems = json.loads(folder.run("validate", "full.yaml", "--json").stdout)["problems"]
    assert [(str(each["line"]), str(each["column"])) for each in problems] == [
        (line, column) for line, column, _ in told
    ]
