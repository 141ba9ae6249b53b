"""A day's work on a laptop: thirty files, a server that fails and hangs, a bad file, a kill, a resume, the results."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.acceptance.surroundings import clean_environment
from tests.definitions import chain, parallel, task

PATIENCE_S = 100.0
FILES = 30
BAD, WAITING, HANGING = 13, 29, 7

ETL = """
import csv, time
from pathlib import Path

def read(context):
    path = Path("orders") / context.parameters["file"]
    while context.parameters["waits"] and not Path("go").exists():
        time.sleep(0.01)
    with path.open() as file:
        amounts = [int(row["amount"]) for row in csv.DictReader(file)]
    return {"file": path.name, "total": sum(amounts)}

def request(context):
    return {"total": context.results[context.parameters["reads"]]["total"]}

def report(context):
    euros = [result["euros"] for name, result in context.results.items() if name.startswith("Convert")]
    return {"files": len(euros), "euros": sum(euros)}
"""


class Exchange(ThreadingHTTPServer):
    """Converts totals. The first call for every third file is answered with 503, that for one file never."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversion)
        self.calls: list[int] = []
        self.answered = 0
        self.changed = threading.Condition()
        self.closing = threading.Event()

    def await_answers(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.answered >= count, PATIENCE_S)


class Conversion(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Exchange)
        number = int(self.path.rpartition("/")[2])
        total = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["total"]
        with server.changed:
            is_first = number not in server.calls
            server.calls.append(number)
        if number == HANGING and is_first:
            server.closing.wait()
            return
        is_busy = number % 3 == 0 and is_first
        body = b"busy" if is_busy else json.dumps({"euros": total * 2}).encode()
        self.send_response(503 if is_busy else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)
        with server.changed:
            server.answered += not is_busy
            server.changed.notify_all()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def exchange() -> Iterator[Exchange]:
    with Exchange() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            serving.join()


def total_of(number: int) -> int:
    return sum(range(number, number + 5))


def write_project(folder: Path, port: int) -> None:
    """Write the orders, the functions and the definition."""
    (folder / "orders").mkdir()
    for number in range(FILES):
        rows = "\n".join(f"{line},{number + line}" for line in range(5))
        (folder / "orders" / f"{number:02}.csv").write_text(f"line,amount\n{rows}\n")
    bad = folder / "orders" / f"{BAD:02}.csv"
    bad.write_text(bad.read_text() + "5,n/a\n")
    (folder / "etl.py").write_text(ETL)
    branches = []
    for number in range(FILES):
        read = task(function="etl:read", parameters={"file": f"{number:02}.csv", "waits": number == WAITING})
        convert = task(
            target_type="CloudFunction",
            target_name="convert",
            url=f"http://127.0.0.1:{port}/convert/{number}",
            function="etl:request",
            parameters={"reads": f"Read{number:02}"},
            timeout=3,
            retry={"max_attempts": 6, "initial_delay": 0.05, "on": ["5xx", "Timeout"]},
        )
        branches.append(chain(**{f"Read{number:02}": read, f"Convert{number:02}": convert}))
    definition = chain(Files=parallel(*branches, on_failure="wait"), Report=task(function="etl:report"))
    (folder / "etl.json").write_text(json.dumps({"name": "etl", **definition}))


def test_an_etl_survives_a_kill_and_a_bad_file(tmp_path: Path) -> None:
    """
    An ETL of thirty files that is killed in the middle goes on with the same command: no conversion that had completed
    is sent again. It fails for the bad file alone; mended and resumed, it completes, and commands tell the results.
    """

    def run(*args: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "aiorch", *args]
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def document(run_id: str) -> dict[str, dict[str, str]]:
        loaded = json.loads(run("show", run_id, "--json").stdout)
        assert isinstance(loaded, dict)
        return loaded

    env = clean_environment() | {"AIORCH_FUNCTION_ANONYMOUS": "true"}
    with exchange() as server:
        write_project(tmp_path, server.server_port)
        start = ("run", "etl.json", "--run-id", "etl")
        process = subprocess.Popen(
            [sys.executable, "-m", "aiorch", *start], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
        )
        server.await_answers(10)
        process.kill()
        process.wait(PATIENCE_S)
        killed = document("etl")
        completed = {name for name, entry in killed.items() if entry["status"] == "Completed"}
        assert killed["$run"]["status"] == "Running"
        calls_before = len(server.calls)

        (tmp_path / "go").touch()
        failed = run(*start)
        assert (failed.returncode, failed.stdout) == (1, ""), failed.stderr
        called_again = {f"Convert{number:02}" for number in server.calls[calls_before:]}
        assert not called_again & completed
        entries = document("etl")
        assert Counter(entries[f"Convert{number:02}"]["status"] for number in range(FILES)) == {
            "Completed": FILES - 1,
            "Skipped": 1,
        }
        shown = run("show", "etl", "--failed").stdout
        assert f"Read{BAD:02}" in shown
        assert "ValueError: invalid literal for int() with base 10: 'n/a'" in shown
        assert "at etl.py:10 in" in shown

        bad = tmp_path / "orders" / f"{BAD:02}.csv"
        bad.write_text(bad.read_text().replace("5,n/a\n", ""))
        calls_before = len(server.calls)
        resumed = run("resume", "etl")
        assert resumed.returncode == 0, resumed.stderr
        assert server.calls[calls_before:] == [BAD]

    report = {"files": FILES, "euros": 2 * sum(map(total_of, range(FILES)))}
    assert json.loads(resumed.stdout) == report
    assert json.loads(run("result", "etl.2").stdout) == report
    assert json.loads(run("result", "etl.2", f"Convert{BAD:02}").stdout) == {"euros": 2 * total_of(BAD)}
    assert json.loads(run("result", "etl.2", "Read00").stdout) == {"file": "00.csv", "total": total_of(0)}
