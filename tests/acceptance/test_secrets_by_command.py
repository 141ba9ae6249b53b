"""The value of a secret leaves a command with the launch of its task alone."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from aiorch.engine.redaction import REDACTED
from tests.acceptance.folder import Folder
from tests.definitions import task

SECRET = "the-value-of-the-secret"

TASKS = """
import logging

logger = logging.getLogger("tasks")

def answer(key):
    return {"whole": key, "part": f"<{key}>", key: [key]}

def fail(key):
    try:
        try:
            raise OSError(f"no access with {key}")
        except OSError as error:
            raise ValueError(key) from error
    except ValueError:
        raise ExceptionGroup(f"several with {key}", [RuntimeError(key), KeyError(key)])

def log(key):
    logger.warning("plain " + key)
    logger.warning("argument %s", key, extra={"fact": key, "facts": {"key": [key]}})
    try:
        raise ValueError(key)
    except ValueError:
        logger.exception("with a traceback", stack_info=True)
"""


class Function(BaseHTTPRequestHandler):
    """Answers with what it was sent, as a failure."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print no line for a call."""


@pytest.fixture
def function() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a function, and the bodies of its calls."""
    handler = type("Handler", (Function,), {"bodies": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", handler.bodies
        server.shutdown()
        thread.join()


def test_no_file_line_or_picture_holds_the_value_of_a_secret(folder: Folder, function: tuple[str, list[bytes]]) -> None:
    """Store, output, logs at `debug`, tracebacks, documents and pictures hold the mark that stands for the value."""
    url, bodies = function
    (folder.path / "tasks.py").write_text(TASKS)
    keys = {"parameters": {"key": "${ secrets.api_key }"}, "retry": {"max_attempts": 2, "initial_delay": 0}}
    steps = {name: task(target_name=f"tasks:{name.lower()}", **keys) for name in ("Answer", "Fail", "Log")}
    steps["Call"] = task(target_type="CloudFunction", target_name="f", url=url, **keys)
    steps = {name: {key: value for key, value in step.items() if key != "end"} for name, step in steps.items()}
    handler = {"message": "${ default(errors.Inside.message, '') }"}
    inside = task(target_name="tasks:fail", **keys, catch=[{"next": "Handler"}])
    ways = {"start": "Inside", "steps": {"Inside": inside, "Handler": {"type": "Pass", "result": handler, "end": True}}}
    steps["Caught"] = {"type": "Parallel", "branches": [ways]}
    folder.write("d.json", {"name": "d", "secrets": ["api_key"], "on_failure": "wait", "steps": steps})

    def printed(*args: str) -> str:
        done = folder.python("-m", "aiorch", "--log-level", "debug", *args, API_KEY=SECRET)
        return done.stdout + done.stderr

    run = printed("run", "d.json", "--run-id", "r", "--secret", "api_key=env:API_KEY", "--function-anonymous")
    views = [printed("show", "r"), printed("show", "r", "--json"), printed("result", "r", "Answer")]
    pictures = [printed("graph", "r", "--format", format_) for format_ in ("mermaid", "dot", "svg")]
    resumed = printed("resume", "r", "--secret", "api_key=env:API_KEY", "--function-anonymous")
    files = {str(path): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}

    for line in (f"plain {REDACTED}", f"argument {REDACTED}", f"fact='{REDACTED}'", f"ValueError: {REDACTED}"):
        assert line in run
    assert {SECRET.encode() in body for body in bodies} == {True}, "the task got the value"
    assert len(bodies) == 4
    assert REDACTED in views[1]
    assert any(REDACTED.encode() in content for name, content in files.items() if "state.db" in name)
    assert [text for text in (run, resumed, *views, *pictures) if SECRET in text] == []
    assert [name for name, content in files.items() if SECRET.encode() in content] == []
