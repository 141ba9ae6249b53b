"""The HTTP endpoint of ``aiorch serve``, over real sockets."""

import asyncio
import json
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
import pytest

from aiorch.errors import StoreUnavailable
from aiorch.orchestrator import Orchestrator
from aiorch.settings import Settings
from aiorch.web import server
from aiorch.web.server import BODY_BYTES_MAX, exposure_warning, is_loopback, listening, make_app
from tests import definitions
from tests.definitions import task

NO_DRAIN = Settings(drain_s=0, sweep_interval_s=0.05)
JSON = {"Content-Type": "application/json"}


def chain(name, *functions):
    """A definition of these callables in sequence, steps named ``S1``, ``S2`` …"""
    steps = {f"S{number}": task(function=function) for number, function in enumerate(functions, 1)}
    return {"name": name, **definitions.chain(**steps)}


def echo(context):
    return context.input


def broken(context):
    raise ValueError("no good")


async def endless(context):
    await asyncio.get_running_loop().create_future()


INPUTS = {"day": {"type": "string", "format": "date"}, "limit": {"type": "integer", "default": 100}}
REPORT = {**chain("report", echo), "inputs": INPUTS, "labels": {"team": "data", "env": "prod"}}
DAGS = (chain("echo", echo), chain("broken", echo, broken), chain("endless", endless), REPORT)


class Client:
    """Sends requests to one server; every error that comes back is checked for its shape."""

    def __init__(self, session, url):
        self.session, self.url = session, url

    async def get(self, path, **options):
        return await self.request("GET", path, **options)

    async def post(self, path, body=None, **options):
        data = b"" if body is None else json.dumps(body)
        return await self.request("POST", path, **({"data": data, "headers": JSON} | options))

    async def request(self, method, path, **options):
        """Return (status, decoded body, headers)."""
        async with self.session.request(method, self.url + path, **options) as response:
            assert response.content_type == "application/json"
            body = json.loads(await response.read())
            if response.status >= 400:
                assert_error_shape(body)
            return response.status, body, response.headers


def assert_error_shape(body):
    """The one shape that an error has on every route."""
    assert body.keys() == {"error"}
    assert {"type", "message"} <= body["error"].keys() <= {"type", "message", "problems"}
    assert body["error"]["type"]
    assert body["error"]["message"]
    for problem in body["error"].get("problems", ()):
        assert {"path", "message"} <= problem.keys() <= {"path", "message", "line", "column", "name"}


@asynccontextmanager
async def serving(orchestrator=None, **options):
    orchestrator = orchestrator or Orchestrator("memory:", dags=DAGS, settings=NO_DRAIN)
    async with (
        orchestrator,
        listening(make_app(orchestrator, **options), "127.0.0.1", 0) as url,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, url)


@pytest.fixture
async def client():
    async with serving() as client:
        yield client


async def ended(client, run_id):
    """Wait for the end of a run and return its document."""
    for _ in range(500):
        _, document, _ = await client.get(f"/runs/{run_id}")
        if document["$run"]["status"] in ("Completed", "Failed", "Cancelled"):
            return document
        await asyncio.sleep(0.01)  # what a client of HTTP has to do
    raise AssertionError(f"run {run_id} did not end: {document}")


async def test_started_run_can_be_followed_to_its_end(client):
    """A run that is started by the name of its DAG runs with its input, and its document tells the result."""
    status, answer, headers = await client.post("/runs", {"dag": "echo", "run_id": "r1", "input": {"n": 1}})
    assert (status, answer["run_id"], answer["dag"]) == (201, "r1", "echo")
    assert headers["Location"] == "/runs/r1"
    document = await ended(client, "r1")
    assert document["S1"]["status"] == "Completed"
    assert document["S1"]["result"] == {"n": 1}


async def test_starting_the_same_run_again_gives_the_existing_one(client):
    """The second start with the same id and input is answered with 200 and starts nothing; another input with 409."""
    await client.post("/runs", {"dag": "echo", "run_id": "r1", "input": 1})
    first = await ended(client, "r1")
    status, answer, _ = await client.post("/runs", {"dag": "echo", "run_id": "r1", "input": 1})
    assert (status, answer["status"]) == (200, "Completed")
    assert (await client.get("/runs/r1"))[1] == first
    status, answer, _ = await client.post("/runs", {"dag": "echo", "run_id": "r1", "input": 2})
    assert (status, answer["error"]["type"]) == (409, "RunConflictError")


async def test_an_input_is_completed_and_compared_as_a_json_value(client):
    """The task sees the defaults, and a second start with a default written out is the same run."""
    status, _, _ = await client.post("/runs", {"dag": "report", "run_id": "r1", "input": {"day": "2026-11-28"}})
    assert status == 201
    complete = {"day": "2026-11-28", "limit": 100}
    assert (await ended(client, "r1"))["S1"]["result"] == complete
    assert (await client.post("/runs", {"dag": "report", "run_id": "r1", "input": complete}))[0] == 200


async def test_a_wrong_input_is_told_with_every_mistake(client):
    """The answer is 400, with the name, the place and the message of each problem, and no run starts."""
    status, answer, _ = await client.post("/runs", {"dag": "report", "input": {"dya": "x", "limit": "5"}})
    assert (status, answer["error"]["type"]) == (400, "InvalidInputError")
    assert answer["error"]["problems"] == [
        {"name": "dya", "path": "dya", "message": "is no input of this DAG; did you mean 'day'?"},
        {"name": "limit", "path": "limit", "message": "must be a whole number, not the text '5'"},
        {"name": "day", "path": "day", "message": "is missing; it must be a date like '2026-11-28'"},
    ]
    assert (await client.post("/runs", {"dag": "report", "input": [1]}))[0] == 400
    assert (await client.get("/runs"))[1] == {"runs": []}


async def test_runs_are_listed_by_labels(client):
    """Each `label` of the query leaves the runs that have it, and every run of the list shows its labels."""
    await client.post("/runs", {"dag": "report", "run_id": "r1", "input": {"day": "2026-11-28"}})
    await client.post("/runs", {"dag": "echo", "run_id": "r2"})
    for query, found in (
        ("", {"r1", "r2"}),
        ("?label=team%3Ddata", {"r1"}),
        ("?label=team=data&label=env%3Dprod", {"r1"}),
        ("?label=team%3Ddata&label=env%3D", set()),
        ("?label=team%3Ddata&status=Cancelled", set()),
    ):
        runs = (await client.get(f"/runs{query}"))[1]["runs"]
        assert {run["run_id"] for run in runs} == found, query
        assert all(run["labels"] == ({"team": "data", "env": "prod"} if run["run_id"] == "r1" else {}) for run in runs)
    for query in ("?label=team", "?label=team%3Da&label=team%3Db"):
        status, answer, _ = await client.get(f"/runs{query}")
        assert (status, answer["error"]["type"]) == (400, "InvalidRequest")
        assert answer["error"]["message"].startswith("no run was listed: ")


async def test_results_are_read_wherever_they_are_kept(client, monkeypatch):
    """The result of a run and of a task are JSON of their own; the document is filled with those in records."""
    large = "x" * 5000
    await client.post("/runs", {"dag": "echo", "run_id": "r1", "input": large})
    assert "result" not in (await ended(client, "r1"))["S1"]
    for path in ("/runs/r1/result", "/runs/r1/result?node=S1"):
        assert (await client.get(path))[:2] == (200, large)
    status, document, _ = await client.get("/runs/r1?results=1")
    assert (status, document["S1"]["result"]) == (200, large)
    assert (await client.get("/runs/r1?results=0"))[1] == (await client.get("/runs/r1"))[1]
    status, answer, _ = await client.get("/runs/r1?results=yes")
    assert (status, answer["error"]["message"]) == (400, "results is 'yes', but must be 0 or 1")
    monkeypatch.setattr(server, "RESULTS_BYTES_MAX", 5000)
    status, answer, _ = await client.get("/runs/r1?results=1")
    assert (status, answer["error"]["type"]) == (413, "RunTooLargeError")


@pytest.mark.parametrize(
    ("dag", "path", "status", "kind"),
    [
        ("broken", "/runs/r1/result", 409, "NoResultError"),
        ("broken", "/runs/r1/result?node=S2", 409, "NoResultError"),
        ("broken", "/runs/r1/result?node=S3", 404, "TaskNotFoundError"),
        ("endless", "/runs/r1/result", 409, "ResultPendingError"),
        ("endless", "/runs/r1/result?node=S1", 409, "ResultPendingError"),
        ("echo", "/runs/r2/result", 404, "RunNotFoundError"),
    ],
)
async def test_why_there_is_no_result_is_told(client, dag, path, status, kind):
    """A run or task that has failed or not ended is a conflict, and a name that is unknown is not found."""
    await client.post("/runs", {"dag": dag, "run_id": "r1"})
    if dag != "endless":
        await ended(client, "r1")
    answered, answer, _ = await client.get(path)
    assert (answered, answer["error"]["type"]) == (status, kind)


async def test_runs_are_listed_filtered_and_limited(client):
    """The list shows every run with its status, and takes a status and a limit."""
    for run_id, dag in (("r1", "echo"), ("r2", "broken"), ("r3", "echo")):
        await client.post("/runs", {"dag": dag, "run_id": run_id})
        await ended(client, run_id)
    _, answer, _ = await client.get("/runs")
    assert {(run["run_id"], run["status"]) for run in answer["runs"]} == {
        ("r1", "Completed"), ("r2", "Failed"), ("r3", "Completed"),
    }  # fmt: skip
    _, failed, _ = await client.get("/runs?status=Failed")
    assert [run["run_id"] for run in failed["runs"]] == ["r2"]
    _, one, _ = await client.get("/runs?limit=1")
    assert len(one["runs"]) == 1


async def test_run_is_cancelled(client):
    """A cancel stops what runs, keeps its reason, and on a run that has ended changes nothing."""
    await client.post("/runs", {"dag": "endless", "run_id": "r1"})
    status, _, _ = await client.post("/runs/r1/cancel", {"reason": "wrong day"})
    assert status in (200, 202)
    document = await ended(client, "r1")
    assert (document["$run"]["status"], document["S1"]["status"]) == ("Cancelled", "Cancelled")
    assert document["$run"]["error"]["message"] == "wrong day"
    status, answer, _ = await client.post("/runs/r1/cancel")
    assert (status, answer["status"]) == (200, "Cancelled")


async def test_failed_run_is_resumed_once(client):
    """Resume begins one new run that keeps results; asked again it gives the same; a completed run is refused."""
    await client.post("/runs", {"dag": "broken", "run_id": "r1", "input": 5})
    await ended(client, "r1")
    status, first, headers = await client.post("/runs/r1/resume")
    assert (status, first["run_id"], headers["Location"]) == (200, "r1.2", "/runs/r1.2")
    document = await ended(client, "r1.2")
    assert document["S1"]["result"] == 5
    assert document["$run"]["resumed_from"] == "r1"
    assert (await client.post("/runs/r1/resume"))[1]["run_id"] == "r1.2"
    await client.post("/runs", {"dag": "echo", "run_id": "fine"})
    await ended(client, "fine")
    status, answer, _ = await client.post("/runs/fine/resume")
    assert (status, answer["error"]["type"]) == (409, "RunStateError")


async def test_completed_run_is_resumed_from_a_step(client):
    """The body names the step, a new input, and the served DAG whose definition the new run gets."""
    await client.post("/runs", {"dag": "echo", "run_id": "r1", "input": 5})
    await ended(client, "r1")
    body = {"from": "S1", "input": None, "dag": "echo"}
    status, answer, _ = await client.post("/runs/r1/resume", body)
    assert (status, answer["run_id"]) == (200, "r1.2")
    document = await ended(client, "r1.2")
    assert document["$run"]["resumed_from_step"] == "S1"
    assert "result" not in document["S1"]
    status, answer, _ = await client.post("/runs/r1/resume", body | {"input": 7})
    assert (status, answer["error"]["type"]) == (409, "RunConflictError")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"from": "S7"}, 409, "StepNotResumableError"),
        ({"input": 5}, 400, "StepMissingError"),
        ({"from": "S2", "dag": "endless"}, 409, "DefinitionChangedError"),
        ({"from": "S1", "dag": "none"}, 404, "DAGNotFound"),
        ({"from": "S1", "definition": {}}, 403, "DefinitionsNotAllowed"),
        ({"from_step": "S1"}, 400, "InvalidRequest"),
    ],
)
async def test_wrong_resume_is_refused(client, body, status, kind):
    """Nothing starts, and the answer tells the reason."""
    await client.post("/runs", {"dag": "broken", "run_id": "r1"})
    await ended(client, "r1")
    answered, answer, _ = await client.post("/runs/r1/resume", body)
    assert (answered, answer["error"]["type"]) == (status, kind)
    assert [run["run_id"] for run in (await client.get("/runs"))[1]["runs"]] == ["r1"]


@pytest.mark.parametrize(
    ("request_line", "body", "status", "kind"),
    [
        ("GET /nothing", None, 404, "NotFound"),
        ("GET /runs/none", None, 404, "RunNotFoundError"),
        ("POST /runs/none/cancel", {}, 404, "RunNotFoundError"),
        ("POST /runs/none/resume", {}, 404, "RunNotFoundError"),
        ("DELETE /runs", None, 405, "MethodNotAllowed"),
        ("GET /runs?status=Finished", None, 400, "InvalidRequest"),
        ("GET /runs?limit=-1", None, 400, "InvalidRequest"),
        ("GET /runs/.hidden", None, 400, "InvalidIdError"),
        ("GET /runs/..%2Fopen%2Fx", None, 400, "InvalidIdError"),
        ("POST /runs", {}, 400, "InvalidRequest"),
        ("POST /runs", {"dag": "echo", "definition": {}}, 400, "InvalidRequest"),
        ("POST /runs", {"dag": 1}, 400, "InvalidRequest"),
        ("POST /runs", {"dag": "echo", "runid": "r"}, 400, "InvalidRequest"),
        ("POST /runs", {"dag": "echo", "run_id": "../x"}, 400, "InvalidIdError"),
        ("POST /runs", {"dag": "other"}, 404, "DAGNotFound"),
        ("POST /runs", {"definition": chain("x", "os:getcwd")}, 403, "DefinitionsNotAllowed"),
    ],
)
async def test_wrong_requests_are_told_what_is_wrong(client, request_line, body, status, kind):
    """Each kind of wrong request has its own status and type, in the one error shape, and starts nothing."""
    options = {} if body is None else {"data": json.dumps(body), "headers": JSON}
    found, answer, _ = await client.request(*request_line.split(" "), **options)
    assert (found, answer["error"]["type"]) == (status, kind)
    assert (await client.get("/runs"))[1] == {"runs": []}


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"dag": "echo", "run_id": "\xff"}', b"[]", b"null", b"[" * 100_000, b'{"dag": "echo", "input": NaN}'],
)
async def test_bodies_that_are_no_request_are_refused(client, body):
    """Broken, binary, wrong and endlessly nested JSON is a 400 and never a fault of the server."""
    status, answer, _ = await client.request("POST", "/runs", data=body, headers=JSON)
    assert (status, answer["error"]["type"]) == (400, "InvalidRequest")


async def test_body_above_the_limit_is_refused(client):
    """A body that is too large is a 413 in the one error shape, also when it comes without a length."""
    body = BytesIO(json.dumps({"dag": "echo", "input": "x" * BODY_BYTES_MAX}).encode())
    status, answer, _ = await client.request("POST", "/runs", data=body, headers=JSON)
    assert (status, answer["error"]["type"]) == (413, "RequestEntityTooLarge")

    async def endless_body():
        for _ in range(20):
            yield b" " * (BODY_BYTES_MAX // 10)

    status, _, _ = await client.request("POST", "/runs", data=endless_body(), headers=JSON)
    assert status == 413


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("path", ["/runs", "/runs/r1/cancel", "/runs/r1/resume"])
async def test_posts_that_a_foreign_page_may_send_are_refused(client, path, content_type):
    """The content types that a browser sends across origins without asking are refused on every route that acts."""
    await client.post("/runs", {"dag": "endless", "run_id": "r1"})
    body = b'{"dag": "echo", "run_id": "r2"}'
    status, answer, _ = await client.request("POST", path, data=body, headers={"Content-Type": content_type})
    assert (status, answer["error"]["type"]) == (415, "UnsupportedMediaType")
    _, answer, _ = await client.get("/runs")
    assert [(run["run_id"], run["status"]) for run in answer["runs"]] == [("r1", "Running")]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.1.1", "[", ""]
)
async def test_foreign_host_names_are_refused_on_loopback(client, host):
    """A name that was re-bound to 127.0.0.1 does not make a page of it one of ours."""
    status, answer, _ = await client.get("/runs", headers={"Host": host})
    assert status in (400, 403)
    if status == 403:
        assert answer["error"]["type"] == "HostRefused"


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "LOCALHOST"])
async def test_loopback_names_are_served(client, host):
    """Every usual name of this machine is accepted, with and without a port."""
    status, _, _ = await client.get("/runs", headers={"Host": host})
    assert status == 200


async def test_token_is_needed_for_everything_but_probes():
    """With a token set, requests without it, with another or with a part of it are refused; the probes need none."""
    async with serving(token="s3cret", only_loopback_names=False) as client:
        for header in (
            {},
            {"Authorization": "Bearer s3cre"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer \udcff"},
        ):
            sent = {key: value.encode("utf-8", "surrogateescape").decode("latin-1") for key, value in header.items()}
            status, answer, headers = await client.get("/runs", headers=sent)
            assert (status, answer["error"]["type"]) == (401, "Unauthorized")
            assert headers["WWW-Authenticate"] == "Bearer"
        status, _, _ = await client.get("/runs", headers={"Authorization": "Bearer s3cret", "Host": "any.example"})
        assert status == 200
        assert (await client.get("/healthz"))[0] == 200
        assert (await client.get("/readyz"))[0] == 200


@pytest.mark.parametrize("header", ["bearer s3cret", "BEARER s3cret", "Bearer   s3cret", "bEaReR s3cret "])
async def test_scheme_of_the_token_is_case_insensitive(header):
    """The scheme may be in any case, and more than one space may follow; the token itself is compared exactly."""
    async with serving(token="s3cret", only_loopback_names=False) as client:
        assert (await client.get("/runs", headers={"Authorization": header}))[0] == 200
        assert (await client.get("/runs", headers={"Authorization": header.replace("s3c", "S3C")}))[0] == 401


@pytest.mark.parametrize("header", ["Basic s3cret", "Bearers3cret", "Bearer\ts3cret", "Bearer", "Bearer s3cret s3cret"])
async def test_other_schemes_are_refused(header):
    """A token without the scheme of bearer tokens, or with anything behind it, is refused."""
    async with serving(token="s3cret", only_loopback_names=False) as client:
        status, answer, _ = await client.get("/runs", headers={"Authorization": header})
        assert (status, answer["error"]["type"]) == (401, "Unauthorized")


async def test_definitions_can_be_allowed():
    """When switched on, a definition in the request runs; a wrong one is answered with every problem it has."""
    async with serving(allow_definitions=True) as client:
        definition = chain("mine", "tests.integration.test_server:echo")
        status, _, _ = await client.post("/runs", {"definition": definition, "run_id": "r1", "input": 3})
        assert status == 201
        assert (await ended(client, "r1"))["S1"]["result"] == 3
        wrong = {"start": "A", "steps": {"B": {"type": "Tusk"}}}
        status, answer, _ = await client.post("/runs", {"definition": wrong})
        assert (status, answer["error"]["type"]) == (400, "DefinitionError")
        assert len(answer["error"]["problems"]) > 1
        missing = chain("mine", "no_such_module:f")
        status, answer, _ = await client.post("/runs", {"definition": missing})
        assert (status, answer["error"]["type"]) == (422, "UnresolvedFunctionError")


async def test_probes_tell_process_and_store_apart():
    """While the store is gone the process is healthy and not ready, and requests end with a 503 in time."""
    orchestrator = Orchestrator("memory:", dags=DAGS, settings=NO_DRAIN)
    async with serving(orchestrator, deadline_s=0.2) as client:
        assert (await client.get("/readyz"))[0] == 200

        async def gone(*_, **__):
            raise StoreUnavailable("the disk is gone")

        orchestrator.store.read = gone
        assert (await client.get("/healthz"))[0] == 200
        status, answer, _ = await client.get("/readyz")
        assert (status, answer["error"]["message"]) == (503, "the disk is gone")
        status, answer, _ = await client.get("/runs/r1")
        assert (status, answer["error"]["type"]) == (503, "Timeout")
        del orchestrator.store.read


async def test_a_store_that_hangs_is_not_ready(monkeypatch):
    """What probes is told within its time, however long the store takes."""
    monkeypatch.setattr(server, "READY_S", 0.01)
    orchestrator = Orchestrator("memory:", settings=NO_DRAIN)
    async with serving(orchestrator) as client:
        monkeypatch.setattr(orchestrator.runs_status, "ping", asyncio.get_running_loop().create_future)
        status, answer, _ = await client.get("/readyz")
        assert (status, answer["error"]["type"]) == (503, "NotReady")


async def test_requests_are_refused_while_not_ready():
    """A process that starts or stops says so to everything but the question whether it lives; the token comes first."""
    reason = "it starts"
    async with serving(token="t", only_loopback_names=False, not_ready=lambda: reason) as client:
        headers = {"Authorization": "Bearer t"}
        for path in ("/readyz", "/runs", "/runs/r1"):
            status, answer, _ = await client.get(path, headers=headers)
            assert (status, answer["error"]) == (503, {"type": "NotReady", "message": "it starts"})
        assert (await client.get("/runs"))[0] == 401
        assert (await client.get("/healthz"))[0] == 200
        reason = None
        assert (await client.get("/runs", headers=headers))[0] == 200


async def test_a_run_that_was_left_meanwhile_is_no_fault():
    """A request that waits for a commit when the orchestrator is left is answered with a 503, not with a 500."""
    orchestrator = Orchestrator("memory:", dags=DAGS, settings=NO_DRAIN)
    async with serving(orchestrator) as client:
        reached = asyncio.Event()

        async def hangs(*_, **__):
            reached.set()
            await asyncio.get_running_loop().create_future()

        orchestrator.store.read = hangs
        asked = asyncio.create_task(client.get("/runs/r1"))
        await reached.wait()
        await orchestrator._executor.close(0)
        status, answer, _ = await asked
        assert (status, answer["error"]["type"]) == (503, "OrchestratorLeftError")
        del orchestrator.store.read


async def test_fault_of_the_server_is_logged_and_not_shown(client, monkeypatch, caplog):
    """What nobody foresaw is a 500 in the one error shape without inner details; the log has the traceback."""

    async def faulty(self, **_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Orchestrator, "runs", faulty)
    status, answer, _ = await client.get("/runs")
    assert (status, answer["error"]["type"]) == (500, "InternalError")
    assert "secret detail" not in answer["error"]["message"]
    assert "secret detail" in caplog.text


def test_exposure_is_warned_about():
    """Only an address that others can reach, without a token, is warned about, and the warning names the cure."""
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        assert "AIORCH_SERVE_TOKEN" in exposure_warning(host, None, host_setting="--host")
        assert "--host to 127.0.0.1" in exposure_warning(host, None, host_setting="--host")
        assert exposure_warning(host, "t", host_setting="--host") is None
    for host in ("127.0.0.1", "::1", "localhost"):
        assert exposure_warning(host, None, host_setting="--host") is None
    assert not is_loopback("localhost.example.org")
