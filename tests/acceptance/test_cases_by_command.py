"""`aiorch test` as a user calls it: progress, differences, JSON, exit codes, and mistakes in the files."""

import json
import re

import pytest

from tests.acceptance.folder import calls

PASSES = """\
definition: a.json
cases:
  - name: all is well
    answers: {S1: {result: 1}, S2: {result: 2, after: 86400}}
    expect: {output: 2, way: [S1, S2]}
"""

FAILS = """\
definition: a.json
cases:
  - name: the second step breaks
    answers: {S1: {result: 1}, S2: {error: OSError, message: "\\e[31mred"}}
  - name: the functions are called
    input: 7
    answers: {"*": {call: true}}
    expect: {output: {node: S2, input: 8}}
"""


@pytest.fixture
def cases(folder):
    folder.write("a.json", calls("noisy", "echo"))
    (folder.path / "good.cases.yaml").write_text(PASSES)
    (folder.path / "bad.cases.yaml").write_text(FAILS)
    return folder


def without_times(text):
    return re.sub(r"\(\d+(\.\d+)? m?s\)", "(TIME)", text)


def test_cases_that_pass_give_code_0(cases):
    """One line per case, in place of a day of waiting, and nothing is stored or logged."""
    done = cases.run("test", "good.cases.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    expected = "passed  good.cases.yaml:3: all is well (TIME)\n1 case: 1 passed, 0 failed\n"
    assert without_times(done.stdout) == expected
    assert not (cases.path / ".aiorch").exists()


def test_a_case_that_fails_gives_code_1_and_the_differences(cases):
    """Of all files of a folder: the differences and the way, without escape sequences; functions print to stderr."""
    done = cases.run("test", ".")
    assert done.returncode == 1
    shown = without_times(done.stdout)
    assert shown.startswith(
        "FAILED  bad.cases.yaml:3: the second step breaks (TIME)\n"
        "  status: expected Completed, got Failed (OSError: node 'S2' failed: \\u001b[31mred)\n"
        "  the way of the run, Failed after 0 ms:\n"
        "    STEP  STATUS     BEGAN AFTER  CALLS  DETAIL\n"
        "    S1    Completed  0 ms         1      → 1\n"
        "    S2    Failed     0 ms         1      OSError: \\u001b[31mred\n"
        "FAILED  bad.cases.yaml:5: the functions are called (TIME)\n"
        "  output.input: expected 8, got 7\n"
    )
    assert shown.endswith("passed  good.cases.yaml:3: all is well (TIME)\n3 cases: 1 passed, 2 failed\n")
    assert done.stderr == "printed by the function\nprinted by a child\n"


def test_json_tells_the_same(cases):
    """`--json` prints one document with every case, also where a run cannot be started."""
    (cases.path / "c.cases.json").write_text(
        json.dumps({"definition": "b.json", "cases": [{"name": "lost", "answers": {"S1": {"call": True}}}]})
    )
    cases.write("b.json", calls("no_such_function"))
    done = cases.run("test", "--json", "bad.cases.yaml", "good.cases.yaml", "c.cases.json", "good.cases.yaml")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["passed"], told["failed"]) == (1, 3)
    breaks, called, passes, lost = told["cases"]
    assert (breaks["file"], breaks["line"], breaks["name"]) == ("bad.cases.yaml", 3, "the second step breaks")
    assert (breaks["passed"], breaks["status"], breaks["way"]) == (False, "Failed", ["S1", "S2"])
    assert called["problems"] == [{"path": "output.input", "message": "expected 8, got 7"}]
    assert (passes["passed"], passes["problems"], passes["seconds"] // 1) == (True, [], 86400)
    assert (lost["passed"], lost["status"], lost["way"]) == (False, None, None)
    assert "module 'work'" in lost["problems"][0]["message"]


def test_a_case_is_chosen_by_its_name(cases):
    """`--case` takes a part of the name; one that no case has is refused with the most similar name."""
    done = cases.run("test", ".", "--case", "All is")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 case: 1 passed, 0 failed")
    done = cases.run("test", ".", AIORCH_TEST_CASE="all is wel1")
    assert done.returncode == 2
    assert "none of the 3 cases has 'all is wel1' in its name, so no case was run" in done.stderr
    assert "did you mean 'all is well'?" in done.stderr


def test_mistakes_in_files_give_code_2_before_any_case_runs(cases):
    """The mistakes of all files are told, on stderr or as JSON."""
    (cases.path / "wrong.cases.yaml").write_text(PASSES.replace("S1: {result", "S3: {reslt"))
    (cases.path / "empty.cases.yaml").write_text("")
    done = cases.run("test", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: empty.cases.yaml is not valid (1 problem), so no case was run:\n"
        "  - this is empty; a file of cases has `definition` and `cases`\n"
        "wrong.cases.yaml is not valid (2 problems), so no case was run:\n"
        "  - line 4, column 15: cases[0].answers.S3: the definition has no step 'S3'; the steps are `S1`, `S2`\n"
        "  - line 4, column 20: cases[0].answers.S3.reslt: unknown key; did you mean `result`?\n"
    )
    done = cases.run("test", "--json", "wrong.cases.yaml")
    assert done.returncode == 2
    first, second = json.loads(done.stdout)["problems"]
    assert (first["file"], first["path"], first["line"]) == ("wrong.cases.yaml", "cases[0].answers.S3", 4)
    assert second["message"] == "unknown key; did you mean `result`?"


def test_missing_files_are_named(cases):
    """A file that is not there gets a proposal, and a folder without cases the endings of their names."""
    done = cases.run("test", "god.cases.yaml")
    assert done.returncode == 2
    assert "there is no file god.cases.yaml, so no case was run; did you mean good.cases.yaml?" in done.stderr
    (cases.path / "empty").mkdir()
    done = cases.run("test", "empty")
    assert done.returncode == 2
    assert "empty holds no cases, so no case was run: no file there ends in .cases.json, .cases.yaml" in done.stderr
    assert "no case was run; give the path of a file of cases." in cases.run("test", "x/y.yaml").stderr


def test_a_folder_of_definitions_may_hold_cases(cases):
    """`aiorch serve` does not take files of cases for definitions."""
    code = "from aiorch import Orchestrator; from aiorch.web import serving; from pathlib import Path"
    done = cases.python("-c", f"{code}; print(serving.serve_dags(Orchestrator('memory:'), [Path('.')]))")
    assert done.stdout == "[]\n"


def test_the_schema_of_cases_is_printed(cases):
    """`schema --cases` prints the schema of files of cases."""
    schema = json.loads(cases.run("schema", "--cases").stdout)
    assert schema["required"] == ["definition", "cases"]


def test_other_commands_load_no_module_for_cases(cases):
    """Neither `import aiorch` nor a run nor the help of all commands imports the tools of tests."""
    code = (
        "import sys, aiorch; from aiorch.cli.main import cli; cli.main({args}, standalone_mode=False, obj=()); "
        "print(*[name for name in sys.modules if name.startswith('aiorch.testing')], file=sys.stderr)"
    )
    for args in (["--help"], ["test", "--help"], ["run", "a.json", "--store", "memory:"]):
        done = cases.python("-c", code.replace("{args}", repr(args)))
        assert done.returncode == 0
        assert done.stderr.splitlines()[-1] == ""
