"""Modules of the same name in several folders: a run never calls the code of another folder."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.test_cli import PATIENCE_S, Folder, call, folder, serving_url
from tests.definitions import chain, task

__all__ = ["folder"]

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
    for module, text in modules.items():
        (path / f"{module}.py").write_text(text)
    return path


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
    assert "nothing is served" in done.stderr
    for department_name in ("sales", "hr"):
        assert str(folder.path / department_name / f"{name}.py") in done.stderr
    assert "rename one of the two modules" in done.stderr


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
    (folder.path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder.path, env=folder.env, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("v1\n"), done.stderr
    assert f"a DAG 'etl' was read from {folder.path}/v1 before" in done.stdout


@pytest.mark.parametrize("command", ["aiorch", "aiorch.service"])
def test_modules_of_the_current_folder_replace_none_of_the_standard_library(folder, command):
    """`python -m` in a folder with modules named as those of the standard library runs none of them."""
    names = ("signal", "re", "typing", "enum", "threading", "queue", "logging", "asyncio", "contextlib", "pathlib")
    write_modules(folder.path, dict.fromkeys(names, "raise RuntimeError(__file__)\n"))
    done = subprocess.run(
        [sys.executable, "-m", command, "--version"],
        cwd=folder.path,
        env=folder.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
