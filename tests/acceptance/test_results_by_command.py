"""Results, inputs and failures of runs as commands print them, of real runs in a folder."""

import json
import re

import pytest

from tests.acceptance.folder import Folder, on_terminal
from tests.definitions import chain, parallel, task

ETL = """
import asyncio
from pathlib import Path

def extract(context):
    return {"rows": list(range(3)), "of": context.input}

def large(context):
    return "x" * 5000

def nothing(context):
    return None

def load(context):
    number = int(context.node.removeprefix("Load"))
    parse(number)
    return number

def parse(number):
    if number % 2:
        raise ValueError(f"row {number} of '{number}.csv' is no good")

async def group(context):
    async with asyncio.TaskGroup() as group:
        for host in range(8):
            group.create_task(connect(host))

async def connect(host):
    raise ConnectionError(f"host {host}")

def misspelt(context):
    return context.results["Extarct"]

def waits(context):
    while not Path("go").exists():
        pass
"""


def step(function, **more):
    return task(target_name="f", function=f"etl:{function}", **more)


@pytest.fixture
def etl(tmp_path):
    folder = Folder(tmp_path)
    (tmp_path / "etl.py").write_text(ETL)
    yield folder
    folder.close()


def ran(folder, definition, *args):
    """Run *definition* under the id ``r``."""
    return folder.run("run", folder.write("dag.json", definition), "--run-id", "r", *args)


# --- aiorch result ----------------------------------------------------------------------------------------------


def test_results_are_printed(etl):
    """The result of a run is what `run` has printed at its end; that of a task is found where it is kept."""
    done = ran(etl, chain(Extract=step("extract"), Large=step("large"), Last=step("extract")), "--input", "7")
    printed = etl.run("result", "r")
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, done.stdout, "")
    assert json.loads(etl.run("result", "r", "Extract").stdout) == {"rows": [0, 1, 2], "of": 7}
    assert json.loads(etl.run("result", "r", "Large").stdout) == "x" * 5000


def test_a_result_of_nothing_is_null(etl):
    """A run whose last task returned nothing has a result all the same: programs read null."""
    ran(etl, chain(Last=step("nothing")))
    assert etl.run("result", "r").stdout == etl.run("result", "r", "Last").stdout == "null\n"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["r"], 1, r"run 'r' is Failed, so it has no result \(ValueError: node 'Load1' failed: row 1 of .*\)"),
        (["r", "Load1"], 1, r"no result of 'Load1': it is Failed \(ValueError: row 1 of '1.csv' is no good\)"),
        (["r", "Rest"], 1, "no result of 'Rest': it is Skipped"),
        (["r", "Par"], 2, "no result of 'Par': it is a Parallel, and has no result of its own"),
        (["r", "Laod1"], 2, "the DAG has no node of this name; did you mean 'Load1'?"),
        (["s"], 2, "there is no run 's' in sqlite:///"),
        (["waiting"], 4, "run 'waiting' is Running, so it has no result yet"),
        (["waiting", "Par"], 2, "is a Parallel"),
        (["waiting", "Load1"], 4, "no result of 'Load1' yet: it is New"),
    ],
)
def test_why_there_is_no_result_is_told(etl, args, code, said):
    """Not ended, failed, skipped, a Parallel and no such name differ in message and exit code; stdout stays empty."""
    definition = chain(Par=parallel(chain(A=step("nothing"))), Load1=step("load"), Rest=step("nothing"))
    if args[0] == "waiting":
        etl.run("start", etl.write("dag.json", definition), "--run-id", "waiting")
    else:
        ran(etl, definition)
    done = etl.run("result", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.search(said, done.stderr), done.stderr


# --- aiorch show ------------------------------------------------------------------------------------------------


def test_show_has_the_input_and_the_results(etl):
    """The input and the result of each completed task have one line, cut to the screen."""
    definition = chain(Extract=step("extract"), Large=step("large"), Nothing=step("nothing"), End=step("extract"))
    ran(etl, definition, "--input", json.dumps({"text": "long\n" * 100}))
    lines = etl.run("show", "r").stdout.splitlines()
    assert max(map(len, lines)) <= 120
    (told,) = [line for line in lines if line.startswith("input ")]
    assert told.startswith('input {"text":"long\\nlong')
    rows = {line.split()[0]: line for line in lines[lines.index("") + 2 :]}
    assert 'Function f → {"rows":[0,1,2],"of":{"text":"long' in rows["Extract"]
    assert rows["Extract"].endswith("…")
    assert rows["Large"].endswith("Function f → a large result")
    assert rows["Nothing"].endswith("Function f")
    _, narrow = on_terminal(etl, "show", "r", columns=70)
    assert max(len(line) for line in narrow.splitlines() if "→" in line) == 70


def test_json_is_filled_with_results(etl):
    """With --results the run document holds the results that are in records; alone, that option is wrong usage."""
    ran(etl, chain(Extract=step("extract"), Large=step("large")))
    assert "result" not in etl.document("r")["Large"]
    filled = json.loads(etl.run("show", "r", "--json", "--results").stdout)
    assert filled["Large"]["result"] == "x" * 5000
    assert "result_in" not in filled["Large"]
    assert filled["Extract"] == etl.document("r")["Extract"]
    refused = etl.run("show", "r", "--results")
    assert refused.returncode == 2
    assert "--results needs --json" in refused.stderr


def test_show_has_tracebacks_of_the_users_code(etl):
    """`show` prints where an exception was raised, frame by frame, without the engine's own frames."""
    ran(etl, chain(Load1=step("load")))
    shown = etl.run("show", "r").stdout
    for line in ("Traceback (most recent call last):", "parse(number)", "raise ValueError(f", "in parse"):
        assert line in shown
    assert "aiorch" not in shown.partition("Traceback")[2]


def test_the_parts_of_an_exception_group_are_told(etl):
    """`run` names the first exceptions of a group with their lines, and counts the others."""
    said = ran(etl, chain(Connect=step("group"))).stderr
    assert re.search(r"    - ConnectionError: host 0 \(at etl.py:\d+ in connect\)\n", said)
    assert "    … and 3 more exceptions\n" in said
    assert len(etl.document("r")["Connect"]["error"]["parts"]) == 8


def test_equal_failures_are_told_together(etl):
    """`show --failed` groups failed tasks whose messages differ only in numbers and quoted parts, and no others."""
    loads = [chain(**{f"Load{n}": step("load")}) for n in range(40)]
    ran(etl, chain(Par=parallel(*loads, chain(Bad=step("misspelt")), on_failure="wait")))
    shown = etl.run("show", "r", "--failed").stdout
    lines = shown.splitlines()
    assert lines[0].startswith("Run r Failed after")
    assert lines[1] == "  20 tasks failed with ValueError, such as: row 1 of '1.csv' is no good"
    assert lines[2] == "    Load1, Load3, Load5, Load7, Load9 and 15 more"
    assert "  Bad (attempt 1): TaskNotFoundError: there is no result of 'Extarct'" in shown
    assert shown.count("Traceback") == 2
    assert "Load2" not in shown
    assert "Load37, Load39\n" in etl.run("show", "r", "--failed", "--all").stdout
    both = etl.run("show", "r", "--failed", "--json")
    assert both.returncode == 2
    assert "--failed is for people" in both.stderr


def test_show_says_that_nothing_failed(etl):
    """Of a run without failures `show --failed` says so, and exits with 0."""
    ran(etl, chain(Extract=step("extract")))
    done = etl.run("show", "r", "--failed")
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "No task of the run has failed.")


# --- Words and tables -------------------------------------------------------------------------------------------


def test_wide_characters_keep_the_columns(etl):
    """A name of characters that are two columns wide, or an emoji, does not shift the columns after it."""
    cells_of = {"数据加载": 8, "naïve": 5, "🚀launch": 8, "plain": 5}
    ran(etl, chain(**{name: step("nothing") for name in cells_of}))
    lines = etl.run("show", "r").stdout.splitlines()
    for name, cells in cells_of.items():
        (row,) = [line for line in lines if line.startswith(name)]
        assert row[len(name) :].index("Completed") + cells == 10
    _, written = on_terminal(etl, "run", "dag.json", "--run-id", "r2")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    last = plain[plain.rindex("  r2  ") :].splitlines()[1:5]
    assert len({line.index("Completed") - len(name) + cells for line, (name, cells) in
                zip(last, cells_of.items(), strict=True)}) == 1  # fmt: skip


def test_one_of_a_thing_is_singular(etl):
    """A DAG of one task is said to be one task in one node, and a Parallel of one branch has one branch."""
    etl.write("dag.json", chain(Only=step("nothing")))
    assert "is valid: 1 task in 1 node\n" in etl.run("validate", "dag.json").stdout
    ran(etl, chain(Par=parallel(chain(Load1=step("load")))))
    assert "BranchFailed: 1 of 1 branch failed, the first at" in etl.run("show", "r").stdout
    _, written = on_terminal(etl, "run", "dag.json", "--run-id", "r2")
    assert "1 of 1 task" in written
    assert "1 tasks" not in written
