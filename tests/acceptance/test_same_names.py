"""Modules of the same name in several folders: a run never calls the code of another folder."""

import json
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.folder import PATIENCE_S, Folder, call, serving_url
from tests.definitions import chain, task

LAZY = """
def load(context):
    from helpers import where
    return where()
"""


def definition(function: str) -> str:
    return json.dumps(chain(Load=task(function=function)))


def department(folder: Folder, name: str, function: str, **modules: str) -> Path:
    """A folder with a definition of its own name, that calls *function*, and with modules."""
    path = folder.path / name
    path.mkdir()
    (path / f"{name}.json").write_text(definition(function))
    write_modules(path, modules)
    return path


def write_modules(path: Path, modules: dict[str, str]) -> None:
    """Write modules into a folder, each with its dotted name; `__init__` is written only where it is named."""
    for name, text in modules.items():
        file = path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def run_program(folder: Folder, program: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python program of a user in the folder."""
    (folder.path / "program.py").write_text(program)
    return folder.python("program.py")


def load(name: str) -> str:
    return f"def load(context):\n    return {name!r}\n"


def where(name: str) -> str:
    return f"def where():\n    return {name!r}\n"


def test_a_definition_elsewhere_calls_the_code_beside_it(folder):
    """`cd sales; aiorch run ../hr/hr.json` calls `tasks` of hr, and its helpers, though sales has both names, too."""
    department(folder, "sales", "tasks:load", tasks=LAZY, helpers=where("sales"))
    department(folder, "hr", "tasks:load", tasks=LAZY, helpers=where("hr"))
    folder.path /= "sales"
    assert folder.run("run", "sales.json").stdout == '"sales"\n'
    done = folder.run("run", "../hr/hr.json")
    assert (done.returncode, done.stdout) == (0, '"hr"\n'), done.stderr


@pytest.mark.parametrize(
    ("functions", "modules", "name"),
    [
        (("tasks:load", "tasks:load"), ({"tasks": load("sales")}, {"tasks": load("hr")}), "tasks"),
        (
            ("orders:load", "people:load"),
            ({"orders": LAZY, "helpers": where("sales")}, {"people": LAZY, "helpers": where("hr")}),
            "helpers",
        ),
    ],
    ids=["callables", "their imports"],
)
def test_serve_refuses_a_definition_whose_module_another_folder_has(folder, functions, modules, name):
    """`serve` of two folders that hold a module of the same name refuses the second definition, with both paths."""
    for department_name, function, given in zip(("sales", "hr"), functions, modules, strict=True):
        department(folder, department_name, function, **given)
    done = folder.run("serve", "--dag", "sales", "--dag", "hr", "--port", "0")
    assert done.returncode == 2
    assert "the server was not started" in done.stderr
    for department_name in ("sales", "hr"):
        assert str(folder.path / department_name / f"{name}.py") in done.stderr
    assert "rename one of the two modules" in done.stderr


FROM_LIBRARY = LAZY.replace("from helpers", "from lib.helpers")
OPTIONAL = """
def load(context):
    try:
        from fast import where
    except ImportError:
        return "slow"
    return where()
"""
CONFIGURED = "import config\nwhere = config.where\n"
USES_CONFIGURED = "def load(context):\n    import pkg.tasks\n    return pkg.where()\n"


@pytest.mark.parametrize(
    ("function", "hr", "sales", "names"),
    [
        (
            "stasks:load",
            {"lib.helpers": where("hr")},
            {"stasks": FROM_LIBRARY, "lib.helpers": where("sales")},
            ["hr/lib/helpers.py", "sales/lib/helpers.py"],
        ),
        (
            "pkg.tasks:load",
            {"config": where("hr")},
            {"pkg.__init__": CONFIGURED, "pkg.tasks": load("sales"), "config": where("sales")},
            ["hr/config.py", "sales/config.py"],
        ),
        (
            "stasks:load",
            {"config": where("hr")},
            {"stasks": USES_CONFIGURED, "pkg.__init__": CONFIGURED, "pkg.tasks": "", "config": where("sales")},
            ["hr/config.py", "sales/config.py"],
        ),
        (
            "stasks:load",
            {"util": where("hr")},
            {"stasks": LAZY.replace("helpers", "util")},
            ["hr/util.py", "shared/util.py"],
        ),
        ("stasks:load", {"fast": where("hr")}, {"stasks": OPTIONAL}, ["hr/fast.py"]),
    ],
    ids=["package without __init__", "parent's import", "imported parent's import", "search path", "optional"],
)
def test_a_module_of_another_folder_is_found_wherever_the_import_stands(folder, function, hr, sales, names):
    """`serve` refuses a definition, with the paths, if a module that its callable may import is another folder's."""
    department(folder, "hr", "htasks:load", htasks=load("hr"), **hr)
    department(folder, "sales", function, **sales)
    write_modules(folder.path / "shared", {"util": where("shared")})
    done = folder.run("serve", "--dag", "hr", "--dag", "sales", "--path", "shared", "--port", "0")
    assert done.returncode == 2
    assert "the server was not started:\nsales/sales.json: " in done.stderr
    for name in names:
        assert str(folder.path / name) in done.stderr


def test_a_folder_that_joins_later_changes_no_code(folder):
    """A function that imports a module of a search path when it runs does not get that of a definition read since."""
    department(folder, "sales", "stasks:load", stasks=LAZY.replace("helpers", "util"))
    department(folder, "hr", "htasks:load", htasks=load("hr"), util=where("hr"))
    write_modules(folder.path / "shared", {"util": where("shared")})
    program = """
import asyncio
from aiorch import Orchestrator

async def main():
    async with Orchestrator("memory:", search_paths=["shared"], dags=["sales/sales.json"]) as orchestrator:
        orchestrator.check(orchestrator.dags["sales"])
        orchestrator.dag("hr/hr.json")
        run = await orchestrator.start(orchestrator.dags["sales"])
        print(await run.wait())

asyncio.run(main())
"""
    done = run_program(folder, program)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"'util' of {folder.path}/shared/util.py" in done.stderr
    assert f"stands for {folder.path}/hr/util.py" in done.stderr


@pytest.mark.parametrize("where_it_is", ["beside the program", "PYTHONPATH"])
def test_a_module_of_the_application_is_not_taken_for_that_beside_the_definition(folder, where_it_is):
    """A definition whose `helpers` an application or a folder of PYTHONPATH has, too, is refused with both paths."""
    department(folder, "dags", "jobs:load", jobs=LAZY, helpers=where("dags"))
    other = folder.path if where_it_is == "beside the program" else folder.path / "other"
    write_modules(other, {"helpers": where("application")})
    folder.env["PYTHONPATH"] += f":{other}"
    program = """
import asyncio
from aiorch import Orchestrator

async def main():
    async with Orchestrator("memory:") as orchestrator:
        print((await (await orchestrator.start("dags/dags.json")).wait()).results)

asyncio.run(main())
"""
    done = run_program(folder, program)
    assert (done.returncode, done.stdout) == (1, "")
    for path in (folder.path / "dags", other):
        assert f"{path}/helpers.py" in done.stderr


def test_callables_of_a_mapping_are_those_of_its_own_dag(folder):
    """A callable object in a definition stands for its name there alone, and one of `functions` in all definitions."""
    department(folder, "hr", "tasks:load", tasks=load("hr"))
    department(folder, "it", "given:load", given=load("it"))
    write_modules(folder.path, {"tasks": load("mapping")})
    program = """
import asyncio, sys
from aiorch import Orchestrator
from tasks import load

step = {"type": "Task", "target_type": "Function", "function": load, "end": True}

async def main():
    async with Orchestrator("memory:", functions={"given:load": lambda context: "given"}) as orchestrator:
        mapping = {"name": "mapping", "start": "Load", "steps": {"Load": step}}
        for definition in (mapping, "it/it.json", "hr/hr.json"):
            print((await (await orchestrator.start(definition)).wait()).results["Load"])
            if definition == "it/it.json":
                del sys.modules["tasks"]  # the name is free again
                sys.path.remove(sys.path[0])

asyncio.run(main())
"""
    done = run_program(folder, program)
    assert (done.stdout, done.stderr) == ("mapping\ngiven\nhr\n", "")


def test_folders_without_a_common_module_are_served_together(folder):
    """Two definitions whose modules have names of their own are served by one process, each with its own code."""
    department(folder, "sales", "orders:load", orders=LAZY.replace("helpers", "prices"), prices=where("sales"))
    department(folder, "hr", "people:load", people=LAZY.replace("helpers", "wages"), wages=where("hr"))
    url = serving_url(folder.start("serve", "--dag", "sales", "--dag", "hr", "--port", "0"))
    results = {}
    for name in ("sales", "hr"):
        run_id = call(f"{url}/runs", {"dag": name})[1]["run_id"]
        deadline = time.monotonic() + PATIENCE_S
        while (document := call(f"{url}/runs/{run_id}")[1])["$run"]["status"] != "Completed":
            assert time.monotonic() < deadline, document
            time.sleep(0.01)
        results[name] = document["Load"]["result"]
    assert results == {"sales": "sales", "hr": "hr"}


def test_a_stored_run_never_calls_the_code_beside_another_definition(folder):
    """A run of a DAG that `serve` was not given waits, though a served folder has its module; `--path` continues it."""
    department(folder, "sales", "tasks:load", tasks=load("sales"))
    hr = department(folder, "hr", "tasks:load", tasks=load("hr"))
    folder.run("start", "hr/hr.json", "--run-id", "hr")
    process = folder.start("serve", "--dag", "sales", "--port", "0")
    for line in process.stderr:
        if "waits for a process that can launch it" in line:
            break
    assert "beside another definition" in line
    assert folder.document("hr")["Load"]["status"] == "New"
    process.kill()
    process.wait(PATIENCE_S)
    done = folder.run("resume", "hr", "--path", str(hr))
    assert (done.returncode, done.stdout) == (0, '"hr"\n'), done.stderr


def test_a_module_beside_a_definition_replaces_none_of_the_standard_library(folder):
    """A `queue.py` beside a definition changes nothing for the others; as a callable's module it is refused."""
    (folder.path / "queue.py").write_text("raise RuntimeError('this is not the standard library')\n")
    (folder.path / "work.py").write_text("import queue\ndef load(context):\n    return queue.Queue.__module__\n")
    (folder.path / "a.json").write_text(definition("work:load"))
    done = folder.run("run", "a.json")
    assert (done.returncode, done.stdout) == (0, '"queue"\n'), done.stderr
    (folder.path / "b.json").write_text(definition("queue:load"))
    refused = folder.run("run", "b.json")
    assert refused.returncode == 2
    assert re.search(
        rf"names the module 'queue' of {folder.path}/queue\.py, .* stands for \S+/queue\.py,", refused.stderr
    )


def test_two_definitions_of_one_name_in_two_folders_are_refused(folder):
    """A library user who starts two DAGs of one name from two folders is told both, and only the first one runs."""
    for name in ("v1", "v2"):
        path = department(folder, name, "etl:load", etl=load(name))
        (path / f"{name}.json").rename(path / "etl.json")
    program = """
import asyncio
from aiorch import Orchestrator

async def main():
    async with Orchestrator("memory:") as orchestrator:
        print((await (await orchestrator.start("v1/etl.json")).wait()).results["Load"])
        try:
            await orchestrator.start("v2/etl.json")
        except Exception as error:
            print(error)

asyncio.run(main())
"""
    done = run_program(folder, program)
    assert done.stdout.startswith("v1\n"), done.stderr
    assert f"a DAG 'etl' was read from {folder.path}/v1 before" in done.stdout


# --- Runs that are stored, and commands that are printed -----------------------------------------------------------


def continue_command(text: str, lead: str) -> list[str]:
    """Return the words of a command that was printed, without `aiorch`."""
    found = re.search(f"{lead}: aiorch (.*)", text)
    assert found is not None, text
    return shlex.split(found[1])


def test_the_command_for_another_run_calls_the_code_of_that_run(folder):
    """`cd sales; aiorch run ../hr/hr.json` prints a command for a run of sales, and that calls the code of sales."""
    department(folder, "sales", "tasks:load", tasks=load("sales"))
    department(folder, "hr", "tasks:load", tasks=load("hr"))
    folder.path /= "sales"
    folder.run("start", "sales.json", "--run-id", "s1")
    told = folder.run("run", "../hr/hr.json").stderr
    command = continue_command(told, "Another run of this store waits for a process. Continue it with")
    assert command == ["resume", "s1"]
    done = folder.run(*command)
    assert (done.returncode, done.stdout) == (0, '"sales"\n'), done.stderr


@pytest.mark.parametrize("has_definition", [False, True])
def test_the_current_folder_is_no_search_path_for_a_run_of_elsewhere(folder, has_definition):
    """`resume` and `serve` call no code of the current folder for a run whose definition is not there."""
    department(folder, "a", "t:load", t=load("a"))
    department(folder, "b", "t:load", t=load("b"))
    if not has_definition:
        (folder.path / "b" / "b.json").unlink()
    store = ("--store", f"sqlite:///{folder.path}/state.db")
    folder.run("start", "a/a.json", "--run-id", "ra", *store)
    folder.path /= "b"
    refused = folder.run("resume", "ra", *store)
    assert refused.returncode == 2
    assert "no module 't' was found" in refused.stderr
    assert "name the folder with --path (the current folder: --path .)" in refused.stderr
    process = folder.start("serve", "--port", "0", *store)
    for line in process.stderr:
        if "waits for a process that can launch it" in line:
            break
    assert "no module 't' was found" in line
    process.kill()
    process.wait(PATIENCE_S)
    done = folder.run("resume", "ra", "--path", "../a", *store)
    assert (done.returncode, done.stdout) == (0, '"a"\n'), done.stderr


def test_a_run_of_the_current_folder_goes_on_there(folder):
    """`resume` and `serve` find the callables of a stored run when the current folder has a definition of its DAG."""
    (folder.path / "a.json").write_text(json.dumps({"name": "etl", **chain(Load=task(function="t:load"))}))
    (folder.path / "data.json").write_text('{"start": 1, "steps": [')
    write_modules(folder.path, {"t": load("here")})
    for run_id in ("r1", "r2"):
        folder.run("start", "a.json", "--run-id", run_id)
    done = folder.run("resume", "r1")
    assert (done.returncode, done.stdout) == (0, '"here"\n'), done.stderr
    url = serving_url(folder.start("serve", "--port", "0"))
    deadline = time.monotonic() + PATIENCE_S
    while (document := call(f"{url}/runs/r2")[1])["$run"]["status"] != "Completed":
        assert time.monotonic() < deadline, document
        time.sleep(0.01)


@pytest.mark.parametrize("options", [(), ("--path", "lib")], ids=["no path", "path"])
def test_the_command_after_a_failure_finds_what_the_run_has_found(folder, options):
    """The printed `resume` finds the modules of the definition's folder, of `--path` and of the current folder."""
    steps = chain(Here=task(function="here:load"), Beside=task(function="beside:load"))
    (folder.path / "dags").mkdir()
    (folder.path / "dags" / "a.json").write_text(json.dumps(steps))
    (folder.path / "a.json").write_text(json.dumps(steps))  # another definition of this name: not that of the run
    broken = "from pathlib import Path\n\ndef load(context):\n    Path('mended').read_text()\n    return 'dags'\n"
    write_modules(folder.path, {"here": load("here"), "dags.beside": broken, "beside": load("wrong"), "lib.x": ""})
    failed = folder.run("run", "dags/a.json", *options)
    assert failed.returncode == 1, failed.stderr
    (folder.path / "mended").touch()
    command = continue_command(failed.stderr, "Keep the completed results and continue from there")
    assert command[2:] == ["--path", "dags", *options, "--path", "."]
    done = folder.run(*command)
    assert (done.returncode, done.stdout) == (0, '"dags"\n'), done.stderr


@pytest.mark.parametrize("command", ["aiorch", "aiorch.service"])
def test_modules_of_the_current_folder_replace_none_of_the_standard_library(folder, command):
    """`python -m` in a folder with modules named as those of the standard library runs none of them."""
    names = ("signal", "re", "typing", "enum", "threading", "queue", "logging", "asyncio", "contextlib", "pathlib")
    write_modules(folder.path, dict.fromkeys(names, "raise RuntimeError(__file__)\n"))
    done = folder.python("-m", command, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
