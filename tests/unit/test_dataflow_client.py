"""Requests to the Dataflow API over https: what each answer means, and which token a request carries."""

import asyncio
import re
from contextlib import aclosing

import pytest
from aioresponses import aioresponses

from aiorch.ports.target import Accepted, Failed, NotStarted
from aiorch.targets.dataflow import client as dataflow_client
from aiorch.targets.dataflow.client import DataflowClient, DataflowNoAnswer, DataflowRefused, DataflowUnreachable
from aiorch.targets.dataflow.node import DataflowJob
from aiorch.targets.dataflow.target import DataflowTarget
from tests.contexts import KEY, a_context

ROOT = "https://dataflow.example"
NAME = f"aggregate-{KEY}"
TASK = DataflowJob("Step 1", None, target_name="Aggregate", template_path="gs://acme/templates/etl")
LISTING = re.compile(rf"{ROOT}/v1b3/projects/acme/locations/europe-west1/jobs\?.*")
LAUNCH = re.compile(rf"{ROOT}/v1b3/projects/acme/locations/europe-west1/templates:launch\?.*")
JOB = {"id": "job_1", "name": NAME, "currentState": "JOB_STATE_PENDING"}


class FakeToken:
    """Gives out numbered tokens, or an error."""

    def __init__(self, error=None):
        self.error = error
        self.dropped = 0
        self.closed = False

    async def get(self):
        if self.error:
            raise self.error
        return f"token-{self.dropped}"

    def drop(self):
        self.dropped += 1

    async def aclose(self):
        self.closed = True


@pytest.fixture
def api():
    with aioresponses() as api:
        yield api


@pytest.fixture
def token():
    return FakeToken()


@pytest.fixture
async def client(token):
    async with aclosing(DataflowClient(ROOT, token=token)) as client:
        yield client


@pytest.fixture
async def target(token):
    settings = {"api_root": ROOT, "project_id": "acme", "region": "europe-west1", "appears_s": 0}
    async with aclosing(DataflowTarget(**settings, token=token)) as target:
        yield target


def bearers(api):
    """Return the token of each request, in order."""
    calls = [call for calls in api.requests.values() for call in calls]
    return [call.kwargs["headers"]["Authorization"].removeprefix("Bearer ") for call in calls]


REFUSALS = [
    (429, "", None),
    (403, '{"error":{"message":"slow down","errors":[{"reason":"rateLimitExceeded"}]}}', None),
    (400, '{"error":{"message":"Dataflow quota error for jobs-per-project quota."}}', None),
    (400, '{"error":{"message":"bad parameter","status":"INVALID_ARGUMENT"}}', "(INVALID_ARGUMENT): bad parameter"),
    (403, '{"error":{"message":"Permission denied"}}', "Permission denied. Give the account"),
    (404, "no such page", "no such page. Are the project, the region"),
    (401, "", "Give this process credentials"),
    (302, "", "HTTP 302"),
]


@pytest.mark.parametrize(("status", "body", "words"), REFUSALS)
@pytest.mark.parametrize("operation", ["launch", "list"])
async def test_refusals(api, target, *, operation, status, body, words):
    """Refusals for load or quota are no launch; all others fail the attempt with the words of the API."""
    if operation == "launch":
        api.get(LISTING, payload={}, repeat=True)
    refuse, url = (api.post, LAUNCH) if operation == "launch" else (api.get, LISTING)
    refuse(url, status=status, body=body, repeat=True)
    answer = await target.launch(TASK, a_context())
    assert isinstance(answer, Failed if words else NotStarted)
    if words:
        assert answer.failure.type == f"HTTP {status}"
        assert NAME in answer.failure.message
        assert words in answer.failure.message


@pytest.mark.parametrize("body", ["", "<html>", "{", '{"jobs": [', "\xff", "[" * 100_000])
async def test_a_success_without_json_is_no_answer(api, client, body):
    """A 2xx whose body cannot be read says nothing about the request: the API may have done it."""
    api.post(f"{ROOT}/v1b3/x", status=200, body=body.encode("latin-1"))
    with pytest.raises(DataflowNoAnswer, match=r"POST https://dataflow\.example/v1b3/x was answered HTTP 200"):
        await client.post("/v1b3/x", {}, b"{}")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 400, 404, 409, 429, 500, 503])
@pytest.mark.parametrize("method", ["get", "post", "put"])
async def test_every_other_status_is_a_refusal(api, client, method, status):
    """No status but 2xx is a success, and a redirect is not followed; the error carries the status."""
    getattr(api, method)(f"{ROOT}/v1b3/x", status=status, headers={"Location": f"{ROOT}/elsewhere"})
    api.get(f"{ROOT}/elsewhere", payload={})
    sent = {"get": lambda: client.get("/v1b3/x", {}), "post": lambda: client.post("/v1b3/x", {}, b"{}"),
            "put": lambda: client.put("/v1b3/x", b"{}")}  # fmt: skip
    with pytest.raises(DataflowRefused, match=f"{method.upper()} https://dataflow.example/v1b3/x was") as caught:
        await sent[method]()
    assert caught.value.refusal.status == status


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("reset")])
async def test_an_exception_after_the_request_is_no_answer(api, client, error):
    """A request that was sent and ends with an exception may have been done; the message names the exception."""
    api.post(f"{ROOT}/v1b3/x", exception=error)
    with pytest.raises(DataflowNoAnswer, match=rf"no whole answer came: {type(error).__name__}(: reset)?$"):
        await client.post("/v1b3/x", {}, b"{}")


# Access tokens


async def test_requests_carry_the_access_token(api, target, token):
    """Every request over https carries the token; one that is shared is not closed with the target."""
    api.get(LISTING, payload={})
    api.post(LAUNCH, payload={"job": JOB})
    assert await target.launch(TASK, a_context()) == Accepted("job_1")
    await target.aclose()
    assert bearers(api) == ["token-0", "token-0"]
    assert not token.closed


async def test_a_token_that_is_not_accepted_is_replaced_once(api, target):
    """After 401 the request is sent again with another token; a second 401 is the answer."""
    api.get(LISTING, status=401)
    api.get(LISTING, payload={})
    api.post(LAUNCH, status=401, repeat=True)
    answer = await target.launch(TASK, a_context())
    assert answer.failure.type == "HTTP 401"
    assert bearers(api) == ["token-0", "token-1", "token-1", "token-2"]


async def test_without_a_token_nothing_is_sent(api, target, token, monkeypatch):
    """Nothing is launched without a token, whether the token is refused or does not come."""
    token.error = DataflowUnreachable("no credentials")
    answer = await target.launch(TASK, a_context())
    assert isinstance(answer, NotStarted)
    assert "no credentials" in answer.reason
    monkeypatch.setattr(dataflow_client, "TOKEN_S", 0.01)
    token.get = asyncio.Event().wait
    answer = await target.launch(TASK, a_context())
    assert isinstance(answer, NotStarted)
    assert "no access token came in time" in answer.reason
    assert not api.requests
