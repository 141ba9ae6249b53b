"""Inputs and labels on the command line: values by name, lists by label, and completion of names."""

import json

import pytest
from click.testing import CliRunner

from aiorch.cli.main import cli
from aiorch.sources import publish
from tests.acceptance.folder import calls
from tests.acceptance.test_completion import Shell

INPUTS = {
    "day": {"type": "string", "format": "date"},
    "limit": {"type": "integer", "default": 100},
    "tags": {"type": "array", "items": {"type": "string"}, "default": []},
    "code": {"type": "string", "default": "none"},
}
REPORT = {"name": "report", "inputs": INPUTS, "labels": {"team": "data", "env": "prod"}, **calls("echo")}


@pytest.fixture
def reports(folder):
    """A folder with a definition that declares inputs, and one that does not."""
    folder.write("report.json", REPORT)
    folder.write("plain.json", calls("echo"))
    return folder


def input_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["input"]


def test_values_are_read_by_their_declared_types(reports):
    """A string stays text, other values are JSON, and what is not given has its default."""
    done = reports.run("run", "report.json", "day=2026-11-28", "limit=5", 'tags=["a", "b"]', "code=007")
    assert input_of(done) == {"day": "2026-11-28", "limit": 5, "tags": ["a", "b"], "code": "007"}
    done = reports.run("run", "report.json", "code=5", "day=2026-11-28")
    assert input_of(done) == {"day": "2026-11-28", "limit": 100, "tags": [], "code": "5"}


def test_values_without_a_declaration_are_json_or_text(reports):
    """A number, a constant, a list and a mapping are these values, and everything else is text."""
    words = ["n=-1.5", "yes=true", "no=null", 'l=[1, "a"]', 'm={"a": 1}', "id=007", "day=2026-11-28", "e=", 'q="5"']
    expected = {"n": -1.5, "yes": True, "no": None, "l": [1, "a"], "m": {"a": 1}}
    expected |= {"id": "007", "day": "2026-11-28", "e": "", "q": '"5"'}
    assert input_of(reports.run("run", "plain.json", *words)) == expected
    assert input_of(reports.run("run", "plain.json")) is None
    assert input_of(reports.run("run", "plain.json", "a=b=c", "--run-id", "r1")) == {"a": "b=c"}


def test_values_and_an_object_are_combined(reports):
    """`--input` and words give one input together, wherever the option stands."""
    given = json.dumps({"limit": 7, "tags": ["x"]})
    done = reports.run("run", "--input", given, "report.json", "day=2026-11-28")
    assert input_of(done) == {"day": "2026-11-28", "limit": 7, "tags": ["x"], "code": "none"}


@pytest.mark.parametrize("command", ["run", "start"])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["plain.json", "day"], "'day' is no NAME=VALUE, so no run was started: write it like day=2026-11-28."),
        (["plain.json", "=5"], "'=5' is no NAME=VALUE"),
        (["plain.json", "a=1", "a=2"], "the input 'a' is given twice, so no run was started: give it once."),
        (["plain.json", "a=1", "--input", '{"a": 1}'], "the input 'a' is given twice"),
        (["plain.json", "a=1", "--input", "[1]"], "--input is a list, and only an object can be combined"),
        (["plain.json", "a=1", "--input", "null"], "--input is null, and only an object can be combined"),
        (["report.json"], "  - day: is missing; it must be a date like '2026-11-28'"),
        (["report.json", "--input", "[1]"], "  - it must be a mapping of values by the names of inputs, not a list"),
        (["report.json", "--day=2026-11-28"], "An input of the run has no dashes: write `day=2026-11-28`."),
        (["report.json", "--day", "2026-11-28"], "An input of the run has no dashes: write `day=…`."),
        (
            ["report.json", "day=2026-11-28", "tags=a, b"],
            """  - tags: must be a list, not the text 'a, b'; write 'tags=["a", "b"]'""",
        ),
        (
            ["report.json", "dya=x", "limit=many", "tags=[1", "code=5"],
            """the input for DAG 'report' is not valid (4 problems), so no run was started:
  - dya: is no input of this DAG; did you mean 'day'?
  - limit: must be a whole number, not the text 'many'
  - tags: must be a list, not the text '[1'
  - day: is missing; it must be a date like '2026-11-28'""",
        ),
    ],
)
def test_a_wrong_input_starts_nothing(reports, command, args, message):
    """Each mistake is told with exit code 2, before the store is opened: not even its file is made."""
    done = reports.run(command, *args)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr
    assert not (reports.path / ".aiorch").exists()


def test_a_started_run_has_its_complete_input(reports):
    """`start` completes the input, and starts the same run again for a default that is written out."""
    assert reports.run("start", "report.json", "day=2026-11-28", "--run-id", "r1").stdout == "r1\n"
    assert reports.document("r1")["$run"]["input"] == {"day": "2026-11-28", "limit": 100, "tags": [], "code": "none"}
    assert reports.run("start", "report.json", "limit=100", "day=2026-11-28", "--run-id", "r1").returncode == 0
    done = reports.run("start", "report.json", "limit=99", "day=2026-11-28", "--run-id", "r1")
    assert done.returncode == 2
    assert "different input" in done.stderr


@pytest.mark.parametrize(
    ("args", "dag", "parameters"),
    [
        (["report", "day=2026-11-28", "limit=5"], "report", {"day": "2026-11-28", "limit": 5}),
        (["day=2026/11/28", "limit=5"], None, {"day": "2026/11/28", "limit": 5}),
        (["report", "limit=5", "--input", '{"code": "5"}'], "report", {"limit": 5, "code": "5"}),
        (["report"], "report", None),
        ([], None, None),
    ],
)
def test_a_published_start_carries_the_values(monkeypatch, args, dag, parameters):
    """With --topic no definition is known, so values are JSON or text; the DAG may be left out before values, too."""
    sent = []

    async def keep(topic, message):
        sent.append(message)
        return "1"

    monkeypatch.setattr(publish, "publish", keep)
    done = CliRunner().invoke(cli, ["start", "--topic", "projects/acme-data/topics/runs", "--run-id", "r1", *args])
    assert (done.exit_code, done.stdout) == (0, "r1\n"), done.output
    [message] = sent
    assert message["resource"]["labels"] == {"run_id": "r1"} | ({} if dag is None else {"dag": dag})
    assert message.get("parameters") == parameters


def test_an_interrupted_run_is_continued_with_its_values(reports):
    """The command that continues a run repeats the words of its input."""
    reports.write("waits.json", {**REPORT, **calls("waits")})
    process = reports.start("run", "waits.json", "day=2026-11-28", 'tags=["a b"]')
    reports.await_call("S1/1")
    process.terminate()
    _, said = process.communicate(timeout=60)
    [command] = [line for line in said.splitlines() if line.startswith("Continue it with: ")]
    assert """ run waits.json day=2026-11-28 'tags=["a b"]' --run-id """ in command


def test_runs_are_listed_and_shown_with_labels(reports):
    """`runs --label` filters, `runs --json` and `show` show the labels of a run."""
    for run_id, words in (("r1", ["report.json", "day=2026-11-28"]), ("r2", ["plain.json"])):
        assert reports.run("start", *words, "--run-id", run_id).returncode == 0
    listed = json.loads(reports.run("runs", "--json").stdout)
    labels = {"team": "data", "env": "prod"}
    assert {run["run_id"]: run["labels"] for run in listed} == {"r1": labels, "r2": {}}
    [run] = json.loads(reports.run("runs", "--json", "--label", "team=data", "--label", "env=prod").stdout)
    assert run["run_id"] == "r1"
    assert reports.run("runs", "--json", AIORCH_RUNS_LABEL="team=data env=dev").stdout == "[]\n"
    assert "\nlabels env=prod, team=data\n" in reports.run("show", "r1").stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--label", "team"], "no run was listed: 'team' is no label; write KEY=VALUE, like team=data."),
        (["--label", "a=1", "--label", "a=2"], "no run was listed: no run has two values of the label 'a'"),
    ],
)
def test_a_wrong_label_is_told(reports, args, message):
    """A filter that can match no run is wrong usage."""
    done = reports.run("runs", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("command", ["run", "start"])
def test_names_of_inputs_are_completed(tmp_path, command):
    """Behind a file its inputs are proposed that were not given yet; other files propose none."""
    shell = Shell(tmp_path)
    shell.write("report.json", REPORT)
    shell.write("plain.json", calls("echo"))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "odd.json").write_text('{"inputs": ["day"]}')
    assert shell.complete(f"aiorch {command} report.json ") == ["day=", "limit=", "tags=", "code="]
    assert shell.complete(f"aiorch {command} report.json da") == ["day="]
    assert shell.complete(f"aiorch {command} report.json day=2026-11-28 ") == ["limit=", "tags=", "code="]
    assert shell.complete(f"aiorch {command} --run-id r1 report.json day=2026-11-28 t") == ["tags="]
    for file in ("plain.json", "broken.json", "odd.json", "none.json"):
        assert shell.complete(f"aiorch {command} {file} ") == []


@pytest.mark.parametrize("command", ["run", "start"])
def test_the_help_shows_values(folder, command):
    """The usage line has the words, and the text says how they are read."""
    text = " ".join(folder.run(command, "--help").stdout.split())
    assert "DAG] [NAME=VALUE]..." in text or "DAG [NAME=VALUE]..." in text
    assert "NAME=VALUE gives one input of the run" in text
