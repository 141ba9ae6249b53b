"""An installation without the extra ``gcp``: programs run, and name the extra where they need Google's libraries."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.acceptance.surroundings import clean_environment
from tests.definitions import chain, task

REPOSITORY = Path(__file__).parents[2]
HINT = "pip install '.[gcp]'"
PATIENCE_S = 60

WITHOUT_GCP = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("gcloud", "google_crc32c", "jwt", "cryptography"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusal())
"""


class Bare:
    """A folder whose processes find no library of the extra."""

    def __init__(self, path):
        self.path = path
        (path / "hook").mkdir()
        (path / "hook" / "sitecustomize.py").write_text(WITHOUT_GCP)
        env = clean_environment()
        self.env = env | {"PYTHONPATH": f"{path / 'hook'}:{env['PYTHONPATH']}"}

    def python(self, *args, **env):
        return subprocess.run(
            [sys.executable, *args],
            cwd=self.path,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def aiorch(self, *args):
        return self.python("-m", "aiorch", *args)

    def write(self, **step):
        (self.path / "a.json").write_text(json.dumps(chain(Call=task(**step))))
        return "a.json"


@pytest.fixture
def bare(tmp_path):
    return Bare(tmp_path)


@pytest.fixture
def function_url():
    """The URL of a function on loopback, whose answer is the header ``Authorization``."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            body = json.dumps({"authorization": self.headers["Authorization"]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refused(done, *words):
    """Make sure that the process ended with 2 and one error that holds the extra and these words."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count(HINT) == 1
    for word in words:
        assert word in done.stderr


def test_base_has_few_packages():
    """`pip install .` brings at most 26 packages beside aiorch, on any supported Python, and none of Google's."""
    found, waiting = set(), ["aiorch"]
    while waiting:
        name = waiting.pop()
        for text in requires(name) or ():
            needed = Requirement(text)
            is_needed = needed.marker is None or needed.marker.evaluate({"extra": "", "python_version": "3.11"})
            if is_needed and canonicalize_name(needed.name) not in found:
                found.add(canonicalize_name(needed.name))
                waiting.append(needed.name)
    assert len(found) <= 26, sorted(found)
    assert "aiohttp" in found
    assert not [name for name in found if "gcloud" in name or "google" in name or "jwt" in name]


def test_run_in_sqlite_needs_no_extra(bare):
    """A run of Python functions in a SQLite file completes without any library of Google."""
    (bare.path / "work.py").write_text("def f(context): return 'done'")
    done = bare.aiorch("run", bare.write(target_name="work:f"), "--run-id", "r1")
    assert (done.returncode, done.stdout) == (0, '"done"\n'), done.stderr
    assert "r1" in bare.aiorch("runs").stdout


def test_call_of_loopback_needs_no_extra(bare, function_url):
    """A Cloud Function on loopback is called over plain http, without an ID token and without the extra."""
    step = {"target_type": "CloudFunction", "target_name": "f", "url": function_url}
    done = bare.aiorch("run", bare.write(**step))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"authorization": None}), done.stderr


def test_bucket_needs_the_extra(bare):
    """A command for a store in a bucket names the store and the extra, and opens nothing."""
    refused(bare.aiorch("runs", "--store", "gs://acme-runs"), "Cloud Storage", "no store was opened")


def test_topic_needs_the_extra(bare):
    """A start message is not published, and the error names the extra."""
    refused(bare.aiorch("start", "--topic", "projects/acme/topics/t", "dag"), "Pub/Sub")


def test_run_whose_call_needs_a_token_is_refused_at_the_start(bare):
    """A run that calls an https URL with an ID token is refused before the store has the run."""
    bare.write(target_type="CloudFunction", target_name="load", url="https://load-x.a.run.app")
    refused(bare.aiorch("run", "a.json", "--run-id", "r1"), "'Call'", "ID token", "--function-anonymous")
    listed = bare.aiorch("runs")
    assert "r1" not in listed.stdout
    url = "https://{region}-{project_id}.cloudfunctions.net/{name}"
    bare.write(target_type="CloudFunction", target_name="load", project_id="p", region="r")
    refused(bare.aiorch("run", "a.json", "--function-url", url))


def test_anonymous_call_needs_no_extra(bare):
    """With --function-anonymous a step that calls an https URL passes the check that a start makes."""
    code = """if True:
        from aiorch import Orchestrator, Settings
        Orchestrator("memory:", settings=Settings(function_anonymous=True)).check(Orchestrator("memory:").dag("a.json"))
    """
    bare.write(target_type="CloudFunction", target_name="load", url="https://load-x.a.run.app")
    assert (done := bare.python("-c", code)).returncode == 0, done.stderr
    assert HINT in bare.python("-c", code.replace("=True", "=False")).stderr


def test_dataflow_job_needs_the_extra(bare):
    """A run with a Dataflow job is refused before the store has the run."""
    place = {"project_id": "p", "region": "r"}
    bare.write(target_type="Dataflow", target_name="job", template_path="gs://b/t", **place)
    done = bare.aiorch("run", "a.json")
    refused(done, "1 task cannot be launched", "'Call'", "Dataflow")
    assert "Callables are looked up" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"AIORCH_STORE": "gs://acme-runs"}, "Cloud Storage"),
        ({"AIORCH_SUBSCRIPTION": "projects/acme/subscriptions/s"}, "Pub/Sub"),
    ],
)
def test_service_names_the_extra(bare, settings, word):
    """The service, and its --check, tell that a bucket or a subscription needs the extra."""
    service = str(REPOSITORY / "service.py")
    refused(bare.python(service, **settings), word)
    refused(bare.python(service, "--check", **settings), word)


def test_import_by_a_library_user_names_the_extra(bare):
    """``PubSubSource`` and ``GCSStore`` cannot be imported, and the ImportError says what to install."""
    for module in ("sources.pubsub", "sources.publish", "stores.gcs", "testing.modelled_bucket"):
        code = f"try: import aiorch.{module}\nexcept ImportError as error: print(error)"
        assert HINT in bare.python("-c", code).stdout, module
