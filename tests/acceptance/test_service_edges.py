"""The service where the system is unkind: few files, silent clients, and signals while it is still being imported."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager

import pytest

from tests.acceptance.test_service import PATIENCE_S, REPOSITORY, Place, request, until
from tests.definitions import call, chain
from tests.fakes.serving import anything, serving

FILES = 200
SILENT_CLIENTS = 260

FEW_FILES = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
"""

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


# -- few files -------------------------------------------------------------------------------------------------------


@contextmanager
def silent_clients(port):
    """Clients that begin a request and send no more."""
    with ExitStack() as stack:
        clients = []
        for _ in range(SILENT_CLIENTS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(b"GET /runs HTTP/1.1\r\nHost: localh")
            client.setblocking(False)
            clients.append(client)
        yield clients


def is_open(client):
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize("command", ["service.py", "aiorch serve"])
async def test_silent_clients_stop_nothing(place, command):
    """With 200 files and 260 half-open requests a run that calls functions starts at once, and /healthz answers."""
    called = []

    async def function(request):
        called.append(request)
        return anything_answered()

    async with serving(anything(function)) as origin:
        steps = {f"S{number}": call(url=f"{origin}/f") for number in range(3)}
        (place.folder / "dags/calls.json").write_text(json.dumps(chain(**steps)))
        at_start(place, FEW_FILES)
        await asyncio.to_thread(_silent_clients_stop_nothing, place, command)
    assert len(called) == 6


def anything_answered():
    from aiohttp import web

    return web.json_response({})


def _silent_clients_stop_nothing(place, command):
    with ExitStack() as stack:
        url, log = stack.enter_context(_served(place, command))
        port = int(url.rpartition(":")[2])
        clients = stack.enter_context(silent_clients(port))
        assert request(f"{url}/healthz")[0] == 200
        until(lambda: sum(is_open(client) for client in clients) <= FILES // 4, lambda: "too many connections stay")
        assert place.aiorch("start", "dags/calls.json", "--run-id", "r1").returncode == 0
        place.until_run("r1", "Completed")
        assert request(f"{url}/runs", {"dag": "calls", "run_id": "r2"})[0] == 201
        place.until_run("r2", "Completed")
        assert sum(is_open(client) for client in clients) > 0  # silent clients still hold connections
        assert "too many open files" not in log().lower()
        assert "traceback" not in log().lower()


@contextmanager
def _served(place, command):
    """Serve by *command*; yield the URL, and a function that returns what was logged."""
    if command == "service.py":
        service = place.service()
        yield service.url, service.text
        return
    log = place.folder / "serve.log"
    words = ["--log-level", "warning", "serve", "--dag", "dags", "--port", "0"]
    environment = {name: value for name, value in place.environment.items() if name.startswith(("AIORCH_STORE", "P"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiorch", *words],
            cwd=place.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield until(lambda: _between(log.read_text(), "Serving on ", ";"), log.read_text), log.read_text
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def _between(text, before, after):
    return text.partition(before)[2].partition(after)[0]


def test_too_few_files_end_it_with_1(place):
    """When no file is left for a connection the service does not start, and says how to raise the limit."""
    at_start(place, FEW_FILES.replace(str(FILES), "64"))
    done = place.ended()
    assert done.returncode == 1
    failed = json.loads(done.stderr.splitlines()[-1])
    assert (failed["severity"], failed["action"]) == ("CRITICAL", "failed")
    assert "ulimit -n" in failed["error"]


# -- signals during imports ------------------------------------------------------------------------------------------


def signalled_during_import(place, module, words, number):
    """Start a program, send it a signal while it imports *module*, return its exit code and its output."""
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


PROGRAMS = [[str(REPOSITORY / "service.py")], ["-m", "aiorch.service"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["argparse", "asyncio", "msgspec", "aiohttp", "aiorch.service.settings", "work"])
@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_signal_during_imports_ends_the_service_cleanly(place, program, module, number):
    """A signal while the service imports its own modules or callables ends it with 0; nothing was opened or said."""
    assert signalled_during_import(place, module, program, number) == (0, "")


def test_the_module_is_the_program(place):
    """``python -m aiorch.service --check`` prints the same as ``service.py --check``, and ends with the same code."""
    for settings, code in (({}, 0), ({"AIORCH_PORT": "x"}, 2)):
        checked = [
            subprocess.run(
                [sys.executable, *program, "--check"],
                **place.options(settings),
                capture_output=True,
                timeout=PATIENCE_S,
                check=False,
            )
            for program in PROGRAMS
        ]
        assert [done.returncode for done in checked] == [code, code]
        assert checked[0].stdout == checked[1].stdout
        assert checked[0].stderr == checked[1].stderr


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
        ("runs", "aiorch.client"),
    ],
)
def test_sigterm_during_imports_interrupts_commands(place, words, module):
    """SIGTERM while a command imports ends it with the code of an interruption, without a word."""
    assert signalled_during_import(place, module, ["-m", "aiorch", *words.split()], signal.SIGTERM) == (130, "")
