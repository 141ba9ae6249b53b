"""``service.py`` as a black box: real processes over emulators, and over fakes that fail."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from aiorch.testing.gcs_server import gcs_server
from tests.definitions import chain, task
from tests.fakes.gcs import BUCKET, Fault, fake_gcs
from tests.fakes.pubsub import SUBSCRIPTION, fake_pubsub

pytest_plugins = ["tests.pubsub_emulator"]

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60.0
CLOUD_RUN_S = 10.0
"""Between SIGTERM and SIGKILL."""

TOKEN = "t0ken-marker"

WORK = """
import asyncio
import logging
from pathlib import Path

def echo(context):
    return context.input

def broken(context):
    if not Path("mended").exists():
        raise ValueError(f"no good: {context.input}")
    return "mended"

async def waits(context):
    Path("waiting").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return "went"

def logs(context):
    logging.getLogger("mine").warning("of the user")

async def stubborn(context):
    Path("waiting").touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""


def calls(*functions):
    return chain(**{f"S{number}": task(target_name=f"work:{name}") for number, name in enumerate(functions, 1)})


def request(url, body=None, **headers):
    """Return (status, text)."""
    data = None if body is None else json.dumps(body).encode()
    headers |= {"Content-Type": "application/json"} if data else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Place:
    """A folder with definitions and callables, and an environment, in which services and commands are run."""

    def __init__(self, folder, **environment):
        self.folder = folder
        (folder / "work.py").write_text(WORK)
        (folder / "dags").mkdir()
        for name, functions in {
            "echo": ("echo", "echo"), "broken": ("echo", "broken"), "waits": ("waits",), "stubborn": ("stubborn",),
        }.items():  # fmt: skip
            (folder / "dags" / f"{name}.json").write_text(json.dumps(calls(*functions)))
        ours = ("AIORCH_", "GOOGLE_", "STORAGE_EMULATOR", "PUBSUB_EMULATOR", "K_", "PORT")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment |= {
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error",
            "AIORCH_HOST": "127.0.0.1",
            "AIORCH_PORT": "0",
            "AIORCH_DAGS": "dags",
            **environment,
        }
        self.services = []

    def service(self, *args, **environment):
        """Start a service."""
        started = Service(self, args, environment)
        self.services.append(started)
        return started

    def ended(self, *args, **environment):
        """Run a service that ends by itself."""
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "service.py"), *args],
            **self.options(environment), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def aiorch(self, *args, **environment):
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "aiorch", *args],
            **self.options(environment), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def options(self, environment):
        return {"cwd": self.folder, "env": self.environment | environment, "stdin": subprocess.DEVNULL}

    def document(self, run_id):
        done = self.aiorch("show", run_id, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def until_run(self, run_id, *statuses):
        """Wait until a run has one of these statuses, as the command line sees it."""
        return until(lambda: (found := self.document(run_id)) and found["$run"]["status"] in statuses and found)

    def close(self):
        for service in self.services:
            if service.process.poll() is None:
                service.process.kill()
            service.process.wait()


class Service:
    """A process of `service.py`; what it writes goes into a file."""

    def __init__(self, place, args, environment):
        self.log = place.folder / f"service-{len(place.services)}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "service.py"), *args],
                **place.options(environment), stdout=output, stderr=output,
            )  # fmt: skip
        self.url = until(lambda: self.process.poll() is None and self.said("serving"), self.text)[0]["url"]

    def text(self):
        return self.log.read_text()

    def lines(self):
        """Every line that it has written, each of which is one JSON object."""
        return [json.loads(line) for line in self.text().splitlines(keepends=True) if line.endswith("\n")]

    def said(self, action):
        return [line for line in self.lines() if line.get("action") == action]

    def metric(self, sample):
        found = [line for line in request(f"{self.url}/metrics")[1].splitlines() if line.startswith(f"{sample} ")]
        return float(found[0].rpartition(" ")[2])

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)


def until(condition, explain=lambda: "it did not come to be"):
    """Ask again and again, as one has to of another process."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at, explain()
        time.sleep(0.02)
    return found


@asynccontextmanager
async def faked(folder):
    """A place whose store and subscription are fakes in this process; yields it with them."""
    async with fake_gcs() as gcs, fake_pubsub() as (pubsub, address):
        store = {"AIORCH_STORE": f"gs://{BUCKET}", "STORAGE_EMULATOR_HOST": gcs.url}
        source = {"AIORCH_SUBSCRIPTION": SUBSCRIPTION, "PUBSUB_EMULATOR_HOST": address}
        with closing(Place(folder, **store, **source)) as place:
            yield place, gcs, pubsub


@pytest.fixture(scope="module")
def gcs_url(tmp_path_factory):
    with gcs_server(tmp_path_factory.mktemp("gcs")) as url:
        yield url


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path, AIORCH_STORE="sqlite:///state.db")
    yield place
    place.close()


@pytest.fixture
def cloud(tmp_path, gcs_url):
    """Yield a place with a bucket; what is under its prefix is of one test."""
    store = f"gs://{BUCKET}/{tmp_path.name}"
    place = Place(tmp_path, AIORCH_STORE=store, STORAGE_EMULATOR_HOST=gcs_url, AIORCH_SWEEP_INTERVAL="0.5")
    yield place
    place.close()


def objects(gcs_url, place, prefix=""):
    """Name and generation of what a place has in the bucket."""
    folder = f"{place.folder.name}/{prefix}"
    _, text = request(f"{gcs_url}/storage/v1/b/{BUCKET}/o?prefix={folder}")
    return {item["name"]: item["generation"] for item in json.loads(text).get("items", [])}


# -- settings and starts ---------------------------------------------------------------------------------------------


def test_check_prints_what_is_in_effect_and_touches_nothing(place):
    """With everything right it prints settings and DAGs, the token masked, ends with 0, and leaves no file behind."""
    before = sorted(place.folder.rglob("*.db*"))
    done = place.ended("--check", AIORCH_SERVE_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert "AIORCH_STORE=sqlite:///state.db\n" in done.stdout
    assert "AIORCH_CONCURRENCY=1000  (default)\n" in done.stdout
    assert "DAGs: broken, echo, stubborn, waits\n" in done.stdout
    assert TOKEN not in done.stdout
    assert sorted(place.folder.rglob("*.db*")) == before == []


@pytest.mark.parametrize("args", [(), ("--check",)])
def test_wrong_settings_end_it_with_2(place, args):
    """Everything wrong is told at once, also without --check, and nothing was opened."""
    done = place.ended(*args, AIORCH_PORT="x", AIORCH_DAGZ="dags", AIORCH_SERVE_TOKEN="")
    assert done.returncode == 2
    assert "3 settings are wrong" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [(), ("--check",)])
def test_wrong_definitions_end_it_with_2(place, args):
    """Every definition is checked, callables included, before anything is opened."""
    (place.folder / "dags/missing.json").write_text(json.dumps(calls("missing")))
    (place.folder / "dags/typo.json").write_text('{"start": "A", "steps": {}}')
    done = place.ended(*args)
    assert done.returncode == 2
    assert "work:missing" in done.stderr
    assert "typo.json" in done.stderr
    assert not (place.folder / "state.db").exists()


def test_a_port_that_is_taken_ends_it_with_1(place):
    """What the settings cannot show is another code, with a message that names the settings."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = place.ended(AIORCH_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 1
    failed = json.loads(done.stderr.splitlines()[-1])
    assert (failed["severity"], failed["action"]) == ("CRITICAL", "failed")
    assert "AIORCH_PORT" in failed["error"]


def test_a_bucket_that_is_not_there_ends_it_with_1(cloud):
    """A store that refuses for good ends the start, with what to do."""
    done = cloud.ended(AIORCH_STORE="gs://no-such-bucket")
    assert done.returncode == 1
    assert "Create bucket 'no-such-bucket'" in done.stderr


# -- runs ------------------------------------------------------------------------------------------------------------


async def test_messages_become_runs_that_the_command_line_sees(cloud, gcs_url, pubsub_emulator, topic):
    """Starts published with `aiorch start --topic` run in the service; every command works on the bucket."""
    cloud.environment |= {"PUBSUB_EMULATOR_HOST": pubsub_emulator}
    await asyncio.to_thread(_messages_become_runs, cloud, gcs_url, topic)


def _messages_become_runs(cloud, gcs_url, topic):
    service = cloud.service(AIORCH_SUBSCRIPTION=topic.subscription)
    started = cloud.aiorch("start", "--topic", topic.name, "echo", "--run-id", "r1", "--input", '{"n": 1}')
    assert (started.returncode, started.stdout) == (0, "r1\n")
    assert "Published message" in started.stderr
    chosen = cloud.aiorch("start", "--topic", topic.name, "broken").stdout.strip()
    assert cloud.until_run("r1", "Completed")["S2"]["result"] == {"n": 1}
    cloud.until_run(chosen, "Failed")

    listed = {run["run_id"]: run["status"] for run in json.loads(cloud.aiorch("runs", "--json").stdout)}
    assert listed == {"r1": "Completed", chosen: "Failed"}
    assert "Completed" in cloud.aiorch("show", "r1").stdout
    assert "work" in cloud.aiorch("graph", "r1", "--format", "dot").stdout

    (cloud.folder / "mended").touch()
    assert cloud.aiorch("resume", chosen, "--detach").stdout == f"{chosen}.2\n"
    cloud.until_run(f"{chosen}.2", "Completed")
    assert cloud.aiorch("resume", chosen, "--path", ".").returncode == 0  # the same new run, which has ended
    cloud.aiorch("start", "--topic", topic.name, "waits", "--run-id", "r2")
    until((cloud.folder / "waiting").exists)
    assert cloud.aiorch("cancel", "r2").returncode == 0
    cloud.until_run("r2", "Cancelled")

    settled = until(lambda: len(found := service.said("message_settled")) == 3 and found)
    assert {(line["run_id"], line["kind"], line["outcome"]) for line in settled} == {
        (run_id, "start", "applied") for run_id in ("r1", chosen, "r2")
    }
    assert service.metric('aiorch_messages_total{kind="start",outcome="applied"}') == 3
    assert service.metric('aiorch_store_operations_total{class="A"}') > 0
    until(lambda: service.metric('aiorch_deliveries_total{state="acked"}') == 3)
    until(lambda: not objects(gcs_url, cloud, "open/"))
    service.stop()
    assert service.process.wait(CLOUD_RUN_S) == 0
    assert not objects(gcs_url, cloud, "alive/")


@pytest.mark.parametrize(
    ("args", "environment", "code", "says"),
    [
        (("runs", "--store", "gs://no-such-bucket"), {}, 3, "Create bucket 'no-such-bucket'"),
        (("runs", "--store", "gs:/x"), {}, 2, "names no store"),
        (("show", "r1"), {}, 2, "there is no run 'r1'"),
        (("show", "r1"), {"STORAGE_EMULATOR_HOST": "127.0.0.1:1"}, 3, "Cannot connect"),
        (("runs",), {"STORAGE_EMULATOR_HOST": "127.0.0.1:1"}, 3, "Cannot connect"),
        (("cancel", "r1"), {"STORAGE_EMULATOR_HOST": "127.0.0.1:1"}, 3, "Cannot connect"),
        (("start", "echo", "--topic", "topic"), {}, 2, "projects/PROJECT/topics/NAME"),
        (("start", "dags/echo.json", "--topic", "projects/p/topics/events"), {}, 2, "like 'echo'"),
        (("start", "--topic", "projects/p/topics/events", "--input", "[1]"), {}, 2, "JSON object"),
        (("start", "--topic", "projects/p/topics/events", "--run-id", "../x"), {}, 2, "is refused"),
        (("start", "--topic", "projects/p/topics/events", "--store", "memory:"), {}, 2, "has its own store"),
        (("start",), {}, 2, "no definition file and no --topic"),
        (
            ("start", "--topic", "projects/p/topics/events"),
            {"PUBSUB_EMULATOR_HOST": "127.0.0.1:1"},
            3,
            "was not published",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_told(cloud, args, environment, code, says):
    """Each typical mistake has its exit code, and a message that names the next move; nothing takes for ever."""
    done = cloud.aiorch(*args, **environment)
    assert done.returncode == code, done.stderr
    assert says in done.stderr


async def test_a_topic_that_is_not_there(cloud, pubsub_emulator, topic):
    """Publishing to a topic that does not exist says that nothing was published."""
    args = ("start", "--topic", f"{topic.name}-not")
    done = await asyncio.to_thread(cloud.aiorch, *args, PUBSUB_EMULATOR_HOST=pubsub_emulator)
    assert done.returncode == 3
    assert "was not published" in done.stderr


@pytest.mark.parametrize("args", [("runs",), ("show", "r1"), ("graph", "r1"), ("show", "r1", "--json")])
async def test_commands_that_look_send_no_writes(tmp_path, args):
    """Commands that look at a bucket send no write at all: no heartbeat, no commit."""
    async with fake_gcs() as gcs:
        with closing(Place(tmp_path, AIORCH_STORE=f"gs://{BUCKET}", STORAGE_EMULATOR_HOST=gcs.url)) as place:
            service = await asyncio.to_thread(place.service)
            await asyncio.to_thread(request, f"{service.url}/runs", {"dag": "waits", "run_id": "r1"})
            await asyncio.to_thread(until, (tmp_path / "waiting").exists)
            service.process.kill()
            await asyncio.to_thread(service.process.wait)
            gcs.sent.clear()
            done = await asyncio.to_thread(place.aiorch, *args)
            assert (done.returncode, "r1" in done.stdout) == (0, True)
            assert {sent.method for sent in gcs.sent} == {"GET"}


async def test_no_payload_and_no_secret_gets_into_logs(tmp_path):
    """Whatever is in messages, requests, results, failures and settings, no line of the log shows it."""
    marker = "pay10ad-marker"
    async with fake_pubsub() as (fake, address):
        source = {"AIORCH_SUBSCRIPTION": SUBSCRIPTION, "PUBSUB_EMULATOR_HOST": address}
        with closing(Place(tmp_path, AIORCH_STORE="memory:", **source)) as place:
            service = await asyncio.to_thread(place.service, AIORCH_SERVE_TOKEN=TOKEN, AIORCH_PROJECT_ID="acme")
            for dag in ("echo", "broken"):
                labels = {"dag": dag, "run_id": dag}
                await _put(fake, {"resource": {"type": "start", "labels": labels}, "parameters": {"x": marker}})
            await _put(fake, {"resource": {"type": "start"}, "parameters": marker})
            await _put(fake, {"resource": {"type": "cloud_function", "labels": {"function_name": [marker]}}})
            await fake.put(f'{{"broken": "{marker}"'.encode(), f'"{marker}"'.encode(), marker.encode())
            await asyncio.to_thread(_until_settled, service, 7)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            for body, sent in (({"dag": "echo", "input": marker}, headers), ({marker: 1}, headers), ({}, {})):
                await asyncio.to_thread(request, f"{service.url}/runs", body, **sent)
            _, listed = await asyncio.to_thread(request, f"{service.url}/runs", None, **headers)
            assert {run["dag"] for run in json.loads(listed)["runs"]} == {"echo", "broken"}
            service.stop()
            assert await asyncio.to_thread(service.process.wait, PATIENCE_S) == 0
    outcomes = Counter(line["outcome"] for line in service.said("message_settled"))
    assert outcomes == {"applied": 2, "parked": 4, "foreign": 1}
    assert any(line["message"] == "function raised" for line in service.lines())
    (failed,) = (line for line in service.said("run_ended") if line["severity"] == "WARNING")
    told = ("message", "run_id", "dag", "node", "error_type", "failed_tasks")
    assert [failed[each] for each in told] == ["run failed", "broken", "broken", "S2", "ValueError", 1]
    assert failed["where"].startswith("work.py:")
    assert marker not in service.text()
    assert TOKEN not in service.text()


async def _put(fake, message):
    await fake.put(json.dumps(message).encode())


def _until_settled(service, count):
    until(lambda: len(service.said("message_settled")) >= count, service.text)


# -- the store is away -----------------------------------------------------------------------------------------------


async def test_pulling_stops_while_the_store_is_away(tmp_path):
    """A message that cannot be stored goes back and is not pulled again until the store answers; /readyz says so."""
    async with faked(tmp_path) as (place, gcs, pubsub):
        service = await asyncio.to_thread(place.service)
        assert (await asyncio.to_thread(request, f"{service.url}/readyz"))[0] == 200
        away = [gcs.arm(Fault.UNAVAILABLE, method, times=1_000_000) for method in ("GET", "POST", "DELETE")]
        labels = {"dag": "echo", "run_id": "r1"}
        await _put(pubsub, {"resource": {"type": "start", "labels": labels}})
        await asyncio.to_thread(until, lambda: service.metric("aiorch_paused") == 1)
        status, text = await asyncio.to_thread(request, f"{service.url}/readyz")
        assert (status, json.loads(text)["error"]["type"] in {"StoreUnavailable", "NotReady"}) == (503, True)
        assert (await asyncio.to_thread(request, f"{service.url}/healthz"))[0] == 200
        # Pulls that were open already may bring it once more each; then nobody asks for it.
        await pubsub.until(lambda: pubsub.pulls_open == 0 and not pubsub.outstanding)
        assert len(await asyncio.to_thread(service.said, "message_settled")) <= 3
        for armed in away:
            armed.times = 0
        await asyncio.to_thread(_until_completed, service, "r1")
        await pubsub.until(lambda: pubsub.is_done)
        assert (await asyncio.to_thread(request, f"{service.url}/readyz"))[0] == 200
        assert await asyncio.to_thread(service.metric, "aiorch_paused") == 0


def _until_completed(service, run_id):
    def has_completed():
        status, text = request(f"{service.url}/runs/{run_id}")
        return status == 200 and json.loads(text)["$run"]["status"] == "Completed"

    until(has_completed, service.text)


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_sigterm_lets_work_end_and_takes_no_more(cloud, gcs_url, pubsub_emulator, topic):
    """On SIGTERM it is not ready at once, what runs may end, what comes stays in the subscription, and 0 is the end."""
    cloud.environment |= {"PUBSUB_EMULATOR_HOST": pubsub_emulator}
    await asyncio.to_thread(_sigterm_lets_work_end, cloud, gcs_url, topic)


def _sigterm_lets_work_end(cloud, gcs_url, topic):
    first = cloud.service(AIORCH_SUBSCRIPTION=topic.subscription, AIORCH_DRAIN="20")
    cloud.aiorch("start", "--topic", topic.name, "waits", "--run-id", "r1")
    until((cloud.folder / "waiting").exists, first.text)
    first.stop()
    until(lambda: first.said("stopping"))
    status, text = request(f"{first.url}/readyz")
    assert (status, json.loads(text)["error"]["type"]) == (503, "NotReady")
    assert request(f"{first.url}/healthz")[0] == 200
    cloud.aiorch("start", "--topic", topic.name, "echo", "--run-id", "r2")
    (cloud.folder / "go").touch()
    assert first.process.wait(PATIENCE_S) == 0
    assert cloud.document("r1")["$run"]["status"] == "Completed"
    assert cloud.document("r2") is None
    assert {line["run_id"] for line in first.said("message_settled") if line["outcome"] == "applied"} == {"r1"}
    assert not objects(gcs_url, cloud, "alive/")
    second = cloud.service(AIORCH_SUBSCRIPTION=topic.subscription)
    cloud.until_run("r2", "Completed")
    second.stop(signal.SIGINT)
    assert second.process.wait(CLOUD_RUN_S) == 0


@pytest.mark.parametrize("answers", ["nothing answers", "everything answers"])
async def test_the_end_comes_in_time_whatever_hangs(tmp_path, answers):
    """With work that swallows its cancellation, and a store and a subscription that hang, 0 comes within 10 s."""
    async with faked(tmp_path) as (place, gcs, pubsub):
        service = await asyncio.to_thread(place.service)
        labels = {"dag": "stubborn", "run_id": "r1"}
        await _put(pubsub, {"resource": {"type": "start", "labels": labels}})
        await asyncio.to_thread(until, (tmp_path / "waiting").exists)
        armed = []
        if answers == "nothing answers":
            armed = [gcs.arm(Fault.HOLD, method, times=1_000_000) for method in ("GET", "POST", "DELETE")]
            for method in ("acknowledge", "modifyAckDeadline"):
                pubsub.arm(method, "reset", times=1_000_000)
            await _put(pubsub, {"resource": {"type": "start", "labels": {"dag": "echo", "run_id": "r2"}}})
            await pubsub.until(lambda: pubsub.outstanding)
        service.stop()
        assert await asyncio.to_thread(service.process.wait, CLOUD_RUN_S) == 0
        for each in armed:
            each.released.set()


def test_hangup_is_a_clean_end_too(place):
    """SIGHUP lets a run end, and the service exits with 0; a log record of a callable names its run and node."""
    (place.folder / "dags" / "logs.json").write_text(json.dumps(calls("logs", "waits")))
    service = place.service(AIORCH_DRAIN="20")
    assert request(f"{service.url}/runs", {"dag": "logs", "run_id": "r1"})[0] == 201
    until((place.folder / "waiting").exists)
    service.stop(signal.SIGHUP)
    until(lambda: service.said("stopping"))
    (place.folder / "go").touch()
    assert service.process.wait(PATIENCE_S) == 0
    (line,) = (line for line in service.lines() if line["logger"] == "mine")
    assert (line["message"], line["run_id"], line["node"], line["attempt"]) == ("of the user", "r1", "S1", 1)
    assert len(line["execution_id"]) == 32


def test_a_second_signal_ends_it_on_the_spot(place):
    """Whoever asks twice does not wait for the drain; the exit code says that it was not a clean end."""
    service = place.service(AIORCH_DRAIN="3600")
    assert request(f"{service.url}/runs", {"dag": "waits", "run_id": "r1"})[0] == 201
    until((place.folder / "waiting").exists)
    service.stop()
    until(lambda: service.said("stopping"))
    assert service.process.poll() is None
    service.stop()
    assert service.process.wait(PATIENCE_S) == 130


async def test_sigterm_during_the_start_ends_it(tmp_path):
    """A service whose store does not answer yet says that it is not ready, and ends when it is asked to."""
    async with fake_gcs() as gcs:
        held = [gcs.arm(Fault.HOLD, method, times=1_000_000) for method in ("GET", "POST")]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        environment = {"AIORCH_STORE": f"gs://{BUCKET}", "STORAGE_EMULATOR_HOST": gcs.url, "AIORCH_PORT": str(port)}
        place = Place(tmp_path, **environment)
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "service.py")], **place.options({}), stderr=subprocess.DEVNULL
        )
        try:
            await held[1].reached.wait()
            status, text = await asyncio.to_thread(request, f"http://127.0.0.1:{port}/readyz")
            assert (status, json.loads(text)["error"]["type"]) == (503, "NotReady")
            process.terminate()
            assert await asyncio.to_thread(process.wait, CLOUD_RUN_S) == 0
        finally:
            process.kill()
            process.wait()
