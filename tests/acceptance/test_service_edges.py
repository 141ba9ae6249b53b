"""The service where the system is unkind: signals while it is still being imported."""

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from tests.acceptance.test_service import PATIENCE_S, REPOSITORY, Place

HELD_IMPORT = """
import sys

class Held:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            open("reached", "w").close()
            open("go").read()

sys.meta_path.insert(0, Held())
"""


def at_start(place, code):
    """Let every interpreter that is started in *place* run *code* before anything else."""
    folder = place.folder / "at_start"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    place.environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(REPOSITORY)))


@pytest.fixture
def place(tmp_path):
    with closing(Place(tmp_path, AIORCH_STORE="sqlite:///state.db")) as place:
        yield place


# -- signals during imports ------------------------------------------------------------------------------------------


def signalled_during_import(place, module, words, number):
    """Start a program, send it a signal while it imports *module*, return its exit code and what it has printed."""
    at_start(place, HELD_IMPORT.format(module=module))
    for name in ("reached", "go"):
        os.mkfifo(place.folder / name)
    process = subprocess.Popen(
        [sys.executable, *words], **place.options({}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        (place.folder / "reached").read_text()  # until the process is in the import
        process.send_signal(number)
        printed, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert not (place.folder / "state.db").exists()
    return process.returncode, printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["argparse", "asyncio", "msgspec", "aiohttp", "aiorch.service.settings", "work"])
def test_signal_during_imports_ends_the_service_cleanly(place, module, number):
    """A signal while the service imports its own modules or callables ends it with 0; nothing was opened or said."""
    words = [str(REPOSITORY / "service.py")]
    assert signalled_during_import(place, module, words, number) == (0, "")


@pytest.mark.parametrize("module", ["argparse", "aiohttp", "work"])
def test_interrupted_check_is_no_success(place, module):
    """A check that a signal ends early does not end with the code of a check that found nothing wrong."""
    words = [str(REPOSITORY / "service.py"), "--check"]
    code, _ = signalled_during_import(place, module, words, signal.SIGTERM)
    assert code == -signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "module"),
    [
        ("serve --dag dags", "click"),
        ("serve --dag dags", "aiorch.orchestrator"),
        ("serve --dag dags", "work"),
        ("run dags/echo.json", "click"),
        ("run dags/echo.json", "aiorch.orchestrator"),
        ("runs", "aiorch.orchestrator"),
    ],
)
def test_sigterm_during_imports_interrupts_commands(place, words, module):
    """SIGTERM while a command imports ends it with the code of an interruption, without a word."""
    assert signalled_during_import(place, module, ["-m", "aiorch", *words.split()], signal.SIGTERM) == (130, "")
