"""The engine reads time and chance through its ports only, and has no thread or socket of its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "aiorch"

ADAPTERS = {
    # These speak to the world.
    "google",
    "web",
    "service",
    "system",
    "cli",
    "sources",
    "stores",
    "targets",
    # These wait for people and their terminals, and for tests.
    "views",
    "testing",
    # This reads files.
    "definition",
}
"""Everything else is the engine, or pure: a module that is added is, too."""

MODULES = {
    "concurrent", "ctypes", "multiprocessing", "queue", "random", "sched", "secrets", "select", "selectors", "signal",
    "socket", "ssl", "subprocess", "threading", "time", "uuid",
}  # fmt: skip
FROM_OS = {"getpid", "getrandom", "urandom", "times", "fork"}
NAMES = {"now", "utcnow", "today"}
"""Of `datetime` and `date`: only a `Clock` says what time it is."""

FROM_ASYNCIO = {
    "create_subprocess_exec", "create_subprocess_shell", "open_connection", "open_unix_connection",
    "run_coroutine_threadsafe", "start_server", "to_thread",
}  # fmt: skip
FROM_LOOP = {"run_in_executor", "call_soon_threadsafe", "create_connection", "create_server", "add_reader"}


def engine_files() -> list[Path]:
    return sorted(
        path
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] not in ADAPTERS and path.name != "__main__.py"
    )


def impurities(source: str) -> list[str]:
    """Say which parts of *source* read a clock, draw chance, or reach for a thread or a socket."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"import {name.name}" for name in node.names if name.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = (node.module or "").partition(".")[0]
            names = [name.name for name in node.names]
            if module in MODULES:
                found.append(f"from {node.module} import {', '.join(names)}")
            found += [f"from {module} import {name}" for name in names if name in _of(module)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = node.value.id
            if _is_clock(node) or node.attr in _of(module) or node.attr in FROM_LOOP:
                found.append(f"{module}.{node.attr}")
        elif isinstance(node, ast.Attribute) and (node.attr in FROM_LOOP or _is_clock(node)):
            found.append(f"….{node.attr}")
    return found


def _is_clock(node: ast.Attribute) -> bool:
    owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
    return owner in ("datetime", "date") and node.attr in NAMES


def _of(module: str) -> set[str]:
    return {"os": FROM_OS, "asyncio": FROM_ASYNCIO}.get(module, set())


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_has_no_clock_chance_thread_or_socket_of_its_own(path: Path) -> None:
    """A simulation repeats itself only if all of these come through ports: whoever adds one is told here."""
    assert impurities(path.read_text()) == []


def test_the_engine_is_looked_at() -> None:
    """The list of adapters leaves what decides, and names nothing that is not there."""
    names = {path.name for path in engine_files()}
    assert names >= {"fold.py", "committer.py", "executor.py", "launches.py", "sweeper.py", "intake.py"}
    assert names >= {"orchestrator.py", "run.py", "status.py", "results.py", "event.py", "decode.py"}
    assert names >= {"run_document.py", "failure.py", "outcomes.py"}
    assert all((ROOT / name).exists() for name in ADAPTERS)


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import random as chance",
        "from uuid import uuid4",
        "import concurrent.futures",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "from datetime import date\ndate.today()",
        "import os\nos.urandom(8)",
        "from os import urandom",
        "import asyncio\nasyncio.to_thread(print)",
        "import asyncio\nasyncio.get_running_loop().run_in_executor(None, print)",
        "loop.call_soon_threadsafe(print)",
    ],
)
def test_check_finds_forbidden_calls(source: str) -> None:
    """The check itself can fail."""
    assert impurities(source)
