"""Dataflow jobs against a fake of the API on loopback: launched once, found again, asked about, cancelled."""

import asyncio
import json
import logging
from contextlib import aclosing
from functools import partial

import pytest

from aiorch.events.decode import EventFactory
from aiorch.events.event import EXECUTION_LABEL
from aiorch.ports.target import Accepted, NotStarted, Succeeded, Unknown
from aiorch.targets.dataflow import client as dataflow_client
from aiorch.targets.dataflow import target as dataflow
from aiorch.targets.dataflow.client import DataflowClient, DataflowNoAnswer, DataflowRefused
from aiorch.targets.dataflow.node import DataflowJob
from aiorch.targets.dataflow.target import DataflowTarget
from tests import contexts
from tests.contexts import KEY
from tests.fakes.dataflow import FakeDataflow

NAME = f"aggregate-{KEY}"
CLASSIC = {"template_path": "gs://acme/templates/etl"}
FLEX = {"container_gcs_path": "gs://acme/templates/etl.json"}

a_context = partial(contexts.a_context, parameters={"input": "gs://acme/in", "rows": 3})


def a_task(**changes):
    facts = {"target_name": "Aggregate", **({} if changes.keys() & {*CLASSIC, *FLEX} else CLASSIC)}
    return DataflowJob("Step 1", None, **{**facts, **changes})


def a_target(api, **settings):
    given = {"api_root": api.root, "project_id": "acme", "region": "europe-west1", "appears_s": 0, **settings}
    return aclosing(DataflowTarget(**given))


@pytest.fixture
async def api():
    async with FakeDataflow().serving() as fake:
        yield fake


@pytest.fixture
async def target(api):
    async with a_target(api) as target:
        yield target


async def relaunch(target, **changes):
    """Launch as the engine does: the same attempt again as long as it was not started, without its pauses."""
    for _ in range(20):
        answer = await target.launch(a_task(), a_context(**changes))
        if not isinstance(answer, NotStarted):
            return answer
    raise AssertionError(answer)


def quick(monkeypatch):
    monkeypatch.setattr(dataflow, "LOOK_AGAIN_S", 0.01)


# Launches


@pytest.mark.parametrize("template", [CLASSIC, FLEX], ids=["classic", "flex"])
async def test_a_launch_on_the_wire(api, target, template):
    """A launch lists the name in all states, then posts template, parameters, environment and labels to the region."""
    environment = {"tempLocation": "gs://acme/tmp", "maxWorkers": 2, "additionalUserLabels": {"team": "data"}}
    task = a_task(**template, environment=environment)
    answer = await target.launch(task, a_context())
    job = api.only_job()
    assert answer == Accepted(job.id)
    assert [request.operation for request in api.seen] == ["list", "launch"]
    listed, launched = api.seen
    base = "/v1b3/projects/acme/locations/europe-west1"
    assert (listed.path, listed.query) == (f"{base}/jobs", {"name": NAME, "filter": "ALL"})
    parameters = {"input": "gs://acme/in", "rows": "3"}
    labels = {"team": "data", EXECUTION_LABEL: KEY, "aiorch_run": "run_1", "aiorch_node": "step-1"}
    sent = {
        "jobName": NAME,
        "parameters": parameters,
        "environment": {**environment, "additionalUserLabels": labels},
    }
    if template is CLASSIC:
        assert (launched.path, launched.query) == (f"{base}/templates:launch", {"gcsPath": CLASSIC["template_path"]})
        assert launched.body == sent
    else:
        assert (launched.path, launched.query) == (f"{base}/flexTemplates:launch", {})
        assert launched.body == {"launchParameter": {**sent, "containerSpecGcsPath": FLEX["container_gcs_path"]}}
    assert launched.authorization is None
    assert job.labels == labels


async def test_a_step_says_where_its_job_is(api, target):
    """Project and region of a step count before the settings, in every request."""
    task = a_task(project_id="example.com:other", region="us-east1")
    answer = await target.launch(task, a_context())
    assert await target.poll(task, a_context(), answer.job_id) is None
    assert (api.only_job().project, api.only_job().region) == ("example.com:other", "us-east1")
    assert {request.path.split("/jobs")[0].split("/templates")[0] for request in api.seen} == {
        "/v1b3/projects/example.com%3Aother/locations/us-east1"
    }


async def test_hostile_names_stay_where_they_belong(api, target):
    """A target name, node and run full of separators change neither path nor query."""
    name = "../../x?gcsPath=gs://evil/y&z#"
    context = a_context(node="a/../b?c=d\r\nX: y", run_id="run.1")
    answer = await target.launch(a_task(target_name=name), context)
    assert answer == Accepted(api.only_job().id)
    assert api.only_job().name == f"x-gcspath-gs-evil-y-z-{KEY}"
    assert api.only_job().labels["aiorch_node"] == "a-b-c-d-x-y"
    assert api.requests("launch")[0].query == {"gcsPath": CLASSIC["template_path"]}


async def test_parameters_that_cannot_be_sent(api, target):
    """Parameters that are not JSON fail the attempt before anything is sent."""
    answer = await target.launch(a_task(), a_context(parameters={"x": object()}))
    assert answer.failure.type == "ConfigurationError"
    assert api.seen == []


async def test_an_answer_without_a_job_is_accepted(api, target):
    """A launch that was answered 200 and no more is found by its name; if it does not show yet, it was accepted."""
    api.bare_launch_answers = True
    assert await target.launch(a_task(), a_context()) == Accepted(api.only_job().id)
    api.lists_new_jobs = False
    other = "e" * 32
    assert await target.launch(a_task(), a_context(execution_id=other)) == Accepted(None)
    assert await target.poll(a_task(), a_context(execution_id=other), None) is None


# Never twice


@pytest.mark.parametrize("fault", ["applied, reset", "applied, 503", "truncated"])
async def test_a_lost_answer_starts_no_second_job(api, target, fault):
    """A launch that was done and whose answer was lost is found by its name, in the same call."""
    api.fail("launch", fault)
    assert await target.launch(a_task(), a_context()) == Accepted(api.only_job().id)
    assert api.launches == {NAME: 1}


async def test_a_silent_api_starts_no_second_job(api):
    """A launch that is never answered is looked for after the deadline, and found."""
    api.fail("launch", "applied, silent")
    async with a_target(api, answer_s=0.3) as target:
        assert await target.launch(a_task(), a_context()) == Accepted(api.only_job().id)
    assert api.launches == {NAME: 1}


@pytest.mark.parametrize("fault", ["reset", 500, 502, 503, 504, 408])
async def test_a_launch_that_was_not_done_is_sent_again(api, target, fault):
    """After an unknown answer and a listing without the job, the attempt has not started; the next launch does it."""
    api.fail("launch", fault)
    assert isinstance(await target.launch(a_task(), a_context()), NotStarted)
    assert await relaunch(target) == Accepted(api.only_job().id)
    assert [request.operation for request in api.seen] == ["list", "launch", "list", "list", "launch"]
    assert api.launches == {NAME: 1}


async def test_a_job_that_is_listed_late_is_started_once(api, target):
    """As long as a lost launch does not show in listings, the next one is answered 409; once it shows it is adopted."""
    api.lists_new_jobs = False
    api.fail("launch", "applied, reset")
    for _ in range(3):
        assert isinstance(await target.launch(a_task(), a_context()), NotStarted)
    api.only_job().is_listed = True
    assert await target.launch(a_task(), a_context()) == Accepted(api.only_job().id)
    assert api.launches == {NAME: 1}


@pytest.mark.parametrize("state", ["RUNNING", "DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED", "NEW_IN_2030"])
async def test_a_relaunch_by_another_process_starts_no_second_job(api, target, state):
    """Whoever takes an execution over finds its job in whatever state, though an ended job gives its name back."""
    first = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), state)
    async with a_target(api) as other:
        assert await other.launch(a_task(), a_context()) == first
    assert api.launches == {NAME: 1}
    assert len(api.requests("launch")) == 1


async def test_two_processes_at_once_start_one_job(api, target):
    """Two that launch the same execution at the same time end with the same job."""
    async with a_target(api) as other:
        answers = await asyncio.gather(relaunch(target), relaunch(other))
    assert answers == [Accepted(api.only_job().id)] * 2
    assert api.launches == {NAME: 1}


async def test_the_job_is_found_behind_other_pages(api, target):
    """All pages of a listing are read, and names that only begin like ours are passed over."""
    api.page_size, api.lists_prefixes = 1, True
    for number in range(3):
        api.add(f"{NAME}-{number}", labels={EXECUTION_LABEL: KEY})
    ours = api.add(NAME, labels={EXECUTION_LABEL: KEY}, state="JOB_STATE_DONE")
    assert await target.launch(a_task(), a_context()) == Accepted(ours.id)
    assert len(api.requests("list")) == 4


NOT_AN_OBJECT = ["", "null", "[]", '""', "5", "<html>", "[" * 100_000]
NOT_A_LISTING = ['{"jobs":{}}', '{"jobs":5}', '{"jobs":[null]}', '{"jobs":[5]}', '{"jobs":[{"id":"1","labels":[]}]}']


@pytest.mark.parametrize(
    "fault", ["reset", 503, 429, "truncated", *((200, body) for body in (*NOT_AN_OBJECT, *NOT_A_LISTING))]
)
async def test_job_is_not_launched_without_a_complete_listing(api, target, fault):
    """While the name cannot be listed whole, nothing is launched; it is tried again."""
    api.fail("list", *[fault] * 2)  # a GET whose connection ends is repeated once by the library
    assert isinstance(await target.launch(a_task(), a_context()), NotStarted)
    assert api.requests("launch") == []
    assert await relaunch(target) == Accepted(api.only_job().id)


@pytest.mark.parametrize("answer", [*NOT_AN_OBJECT, '{"job":5}', '{"job":[]}', '{"job":{"id":[]}}', '{"job":{}}'])
@pytest.mark.parametrize("is_listed", [True, False])
async def test_a_launch_whose_answer_is_of_another_form_is_looked_for(api, target, answer, is_listed):
    """Nobody can tell from such an answer whether there is a job: it is found by its name, or may arrive later."""
    api.lists_new_jobs = is_listed
    api.fail("launch", ("applied", answer))
    outcome = await target.launch(a_task(), a_context())
    job = api.only_job()
    if is_listed:
        assert outcome == Accepted(job.id)
    else:
        assert isinstance(outcome, NotStarted)
        assert outcome.may_arrive
    assert api.launches == {NAME: 1}


@pytest.mark.parametrize("answer", [*NOT_AN_OBJECT, '{"currentState":[]}', '{"id":5}'])
async def test_a_question_about_a_job_that_is_answered_in_another_form_is_asked_again(api, target, answer):
    """A job has not ended, and is not missing, because an answer about it could not be read."""
    accepted = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), "DONE")
    api.fail("get", (200, answer))
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    assert isinstance(await target.poll(a_task(), a_context(), accepted.job_id), Succeeded)


@pytest.mark.parametrize("answer", NOT_AN_OBJECT)
async def test_a_cancel_that_is_answered_in_another_form_may_not_be_done(api, target, answer):
    """The stop says that the job may go on, and is tried again."""
    accepted = await target.launch(a_task(), a_context())
    api.fail("cancel", (200, answer))
    with pytest.raises(DataflowNoAnswer, match="no JSON object"):
        await target.stop(a_task(), a_context(), accepted.job_id)
    await target.stop(a_task(), a_context(), accepted.job_id)
    assert len(api.requests("cancel")) == 2


async def test_a_partial_listing_is_none(api, target):
    """A listing that says that its region did not answer does not prove that there is no job."""
    api.failed_locations = ["europe-west1"]
    assert isinstance(await target.launch(a_task(), a_context()), NotStarted)
    assert api.requests("launch") == []


async def test_an_old_listing_proves_nothing(api, target, monkeypatch):
    """A process that stood still between listing and launch launches nothing: another one may have, meanwhile."""
    monkeypatch.setattr(dataflow, "LISTING_S", -1.0)
    answer = await target.launch(a_task(), a_context())
    assert isinstance(answer, NotStarted)
    assert "too old" in answer.reason
    assert not api.launches


async def test_labels_that_listings_do_not_show(api, target):
    """Where summaries have no labels, the job itself is asked for them."""
    api.summaries_have_labels = False
    ours = api.add(NAME, labels={EXECUTION_LABEL: KEY})
    assert await target.launch(a_task(), a_context()) == Accepted(ours.id)
    assert api.requests("get")[0].query == {"view": "JOB_VIEW_DESCRIPTION"}


@pytest.mark.parametrize("has_labels", [True, False])
async def test_foreign_job_is_not_adopted(api, target, has_labels):
    """An active job of our name with another's label fails the attempt, and is neither adopted nor stopped."""
    api.summaries_have_labels = has_labels
    theirs = api.add(NAME, labels={EXECUTION_LABEL: "f" * 32})
    answer = await target.launch(a_task(), a_context())
    assert answer.failure.type == "JobNameTaken"
    await target.stop(a_task(), a_context(), None)
    assert theirs.state == "JOB_STATE_RUNNING"
    assert api.requests("launch") == api.requests("cancel") == []


async def test_a_name_that_somebody_else_gave_back(api, target):
    """An ended job of somebody else's does not count: the name is free."""
    theirs = api.add(NAME, labels={EXECUTION_LABEL: "f" * 32}, state="JOB_STATE_DONE")
    answer = await target.launch(a_task(), a_context())
    assert isinstance(answer, Accepted)
    assert answer.job_id != theirs.id
    assert await target.launch(a_task(), a_context()) == answer
    assert api.launches == {NAME: 1}


# Refusals


async def test_no_connection(api):
    """Without a connection nothing was sent."""
    root = api.root
    async with a_target(api, api_root=f"http://127.0.0.1:{_free_port()}") as target:
        answer = await target.launch(a_task(), a_context())
    assert isinstance(answer, NotStarted)
    assert "no connection" in answer.reason
    assert api.root == root
    assert api.seen == []


async def test_a_quota_refusal_is_no_launch(api, target):
    """While the project has as many jobs as it may, the attempt has not started; it starts when one has ended."""
    api.jobs_max = 1
    running = api.add("somebody-elses")
    answer = await target.launch(a_task(), a_context())
    assert isinstance(answer, NotStarted)
    assert "jobs-per-project quota" in answer.reason
    api.advance(running, "DONE")
    assert isinstance(await target.launch(a_task(), a_context()), Accepted)
    assert api.launches == {NAME: 1}


# The end of a job


@pytest.mark.parametrize("state", ["DONE", "DRAINED"])
async def test_the_api_lags_behind_the_log(api, target, state):
    """After the log line the API may still show the old state: not yet, then the end."""
    accepted = await target.launch(a_task(), a_context())
    line = api.advance(api.only_job(), state, lags=True)
    event = EventFactory().create_from_event(line)
    assert (event.execution_key, event.execution_id) == (KEY, accepted.job_id)
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    api.catch_up(api.only_job())
    answer = await target.poll(a_task(), a_context(), accepted.job_id)
    assert isinstance(answer, Succeeded)
    assert json.loads(answer.result)["job_id"] == accepted.job_id
    assert api.requests("get")[-1].query == {"view": "JOB_VIEW_SUMMARY"}


async def test_a_failed_job_tells_why(api, target):
    """The log line of a failed job is the same; its messages, on however many pages, give the cause."""
    api.page_size = 2
    accepted = await target.launch(a_task(), a_context())
    messages = ["Worker 1 died", "Worker 2 died", "Workflow failed. Causes: no disk"]
    line = api.advance(api.only_job(), "FAILED", messages=messages)
    assert line["textPayload"] == "Worker pool stopped."
    failure = (await target.poll(a_task(), a_context(), accepted.job_id)).failure
    assert failure.type == "JobFailed"
    assert "Workflow failed. Causes: no disk" in failure.message
    assert failure.cause == "\n".join(messages)


async def test_a_failed_job_whose_messages_cannot_be_read(api, target):
    """That a job has failed is certain without its messages."""
    accepted = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), "FAILED")
    api.fail("messages", 403)
    failure = (await target.poll(a_task(), a_context(), accepted.job_id)).failure
    assert failure.type == "JobFailed"
    assert "its messages could not be read" in failure.message


async def test_a_job_that_somebody_cancelled(api, target):
    """A job that was cancelled by hand fails its attempt, and is no success."""
    accepted = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), "CANCELLED")
    assert (await target.poll(a_task(), a_context(), accepted.job_id)).failure.type == "JobCancelled"


@pytest.mark.parametrize("state", ["QUEUED", "CANCELLING", "RESOURCE_CLEANING_UP", "PAUSED", "NEW_IN_2030", "UNKNOWN"])
async def test_unknown_states_mean_not_yet(api, target, state):
    """A state that is not final, or that nobody has heard of, is waited out."""
    accepted = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), state)
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None


async def test_updated_jobs_are_followed(api, target):
    """The end of an updated job is that of the last of its successors."""
    accepted = await target.launch(a_task(), a_context())
    last = api.update(api.update(api.only_job()))
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    api.advance(last, "DRAINED")
    answer = await target.poll(a_task(), a_context(), accepted.job_id)
    assert json.loads(answer.result)["job_id"] == last.id


async def test_a_circle_of_updates_ends(api, target, monkeypatch):
    """Jobs that claim to have replaced each other are not followed for ever."""
    monkeypatch.setattr("aiorch.targets.dataflow.jobs.REPLACEMENTS_MAX", 5)
    accepted = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), "UPDATED")
    api.only_job().replaced_by = accepted.job_id
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    assert len(api.requests("get")) == 5


async def test_an_updated_job_without_successor_is_waited_for(api, target):
    """An update whose successor is not told yet is not the end."""
    accepted = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), "UPDATED")
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None


@pytest.mark.parametrize("fault", [500, 503, 429, 401, 403, "reset", (200, "<html>"), (200, "[]"), "truncated"])
async def test_errors_of_the_api_are_no_failures_of_the_task(api, target, fault, caplog):
    """Whatever the API answers when it is asked, the job goes on, and the log says what is wrong."""
    accepted = await target.launch(a_task(), a_context())
    api.advance(api.only_job(), "DONE")
    api.fail("get", *[fault] * 2)
    with caplog.at_level(logging.WARNING):
        assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    assert caplog.messages == ["job cannot be asked about, trying again later"]
    while (answer := await target.poll(a_task(), a_context(), accepted.job_id)) is None:
        pass
    assert isinstance(answer, Succeeded)


async def test_a_job_that_the_api_does_not_know(api, target, monkeypatch):
    """A job that is not found is waited for; only after a long time is it unknown what became of it."""
    accepted = await target.launch(a_task(), a_context())
    api.only_job().hidden = True
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    api.only_job().hidden = False
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    monkeypatch.setattr(dataflow, "MISSING_S", 0)
    api.only_job().hidden = True
    answer = await target.poll(a_task(), a_context(), accepted.job_id)
    assert isinstance(answer, Unknown)
    assert accepted.job_id in answer.reason


# Stops


async def test_a_stop_cancels_the_job(api, target):
    """A job is cancelled by its id; it takes its time to end, and then it is over."""
    accepted = await target.launch(a_task(), a_context())
    job = api.only_job()
    await target.stop(a_task(), a_context(), accepted.job_id)
    assert job.state == "JOB_STATE_CANCELLING"
    assert await target.poll(a_task(), a_context(), accepted.job_id) is None
    api.advance(job, "CANCELLED")
    assert (await target.poll(a_task(), a_context(), accepted.job_id)).failure.type == "JobCancelled"


async def test_a_stop_finds_the_job_by_its_name(api, target):
    """Whoever knows no job id, such as another process, finds the job by its name."""
    await target.launch(a_task(), a_context())
    async with a_target(api) as other:
        await other.stop(a_task(), a_context(), None)
    assert api.only_job().state == "JOB_STATE_CANCELLING"


async def test_a_stop_reaches_the_successor(api, target):
    """Of a job that was updated, the one that runs is cancelled."""
    accepted = await target.launch(a_task(), a_context())
    successor = api.update(api.only_job())
    await target.stop(a_task(), a_context(), accepted.job_id)
    assert successor.state == "JOB_STATE_CANCELLING"


@pytest.mark.parametrize("state", ["DONE", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("lags", [True, False])
async def test_a_job_that_has_ended_is_not_cancelled(api, target, state, lags):
    """A stop that comes after the end returns, also when the API learns of the end only from the cancel."""
    accepted = await target.launch(a_task(), a_context())
    job = api.only_job()
    api.advance(job, state, lags=lags)
    if lags:
        api.fail("get", *[(200, json.dumps({"id": job.id, "currentState": "JOB_STATE_RUNNING"}))])
        api.catch_up(job)
    await target.stop(a_task(), a_context(), accepted.job_id)
    assert job.state == f"JOB_STATE_{state}"


@pytest.mark.parametrize(
    ("fault", "error"),
    [(503, DataflowRefused), (403, DataflowRefused), ((200, "<html>"), DataflowNoAnswer), ("reset", DataflowNoAnswer)],
)
async def test_a_stop_that_may_not_have_happened_raises(api, target, fault, error):
    """When the API has not accepted the cancel, the caller is told, and trying again stops the job."""
    accepted = await target.launch(a_task(), a_context())
    api.fail("cancel", *[fault] * 2)
    with pytest.raises(error):
        await target.stop(a_task(), a_context(), accepted.job_id)
    api.fail("cancel", "ok")
    api._faults["cancel"].clear()
    await target.stop(a_task(), a_context(), accepted.job_id)
    assert api.only_job().state == "JOB_STATE_CANCELLING"


async def test_a_stop_during_the_launch_waits_for_its_answer(api, target):
    """A launch that is given up while its request is out leaves no job running: the stop waits for the answer."""
    release = asyncio.Event()
    launch = DataflowClient.post

    async def held(self, path, params, body):
        answer = await launch(self, path, params, body)
        await release.wait()
        return answer

    target._client.post = held.__get__(target._client)
    launching = asyncio.create_task(target.launch(a_task(), a_context()))
    while not api.jobs:
        await asyncio.sleep(0)
    api.only_job().is_listed = False  # the listing alone would not find it
    launching.cancel()
    stopping = asyncio.create_task(target.stop(a_task(), a_context(), None))
    await asyncio.sleep(0)
    assert not stopping.done()
    release.set()
    await stopping
    assert launching.cancelled()
    assert api.only_job().state == "JOB_STATE_CANCELLING"


async def test_a_stop_before_the_request_leaves_no_job(api, target):
    """A launch that is given up while it looks for the name launches nothing afterwards."""
    api.fail("list", "applied, silent")
    launching = asyncio.create_task(target.launch(a_task(), a_context()))
    while not api.seen:
        await asyncio.sleep(0)
    launching.cancel()
    await target.stop(a_task(), a_context(), None)
    assert api.jobs == {}
    assert api.requests("launch") == []


async def test_a_stop_waits_for_a_job_that_appears_late(api, monkeypatch):
    """A job that another process launched just before it died is found when it shows, and cancelled."""
    quick(monkeypatch)
    async with a_target(api, appears_s=5) as target:
        stopping = asyncio.create_task(target.stop(a_task(), a_context(), None))
        while len(api.requests("list")) < 3:
            await asyncio.sleep(0.005)
        job = api.add(NAME, labels={EXECUTION_LABEL: KEY})
        await stopping
    assert job.state == "JOB_STATE_CANCELLING"


async def test_a_stop_of_what_never_was_ends(api, monkeypatch):
    """Where no job appears the stop gives up looking."""
    monkeypatch.setattr(dataflow, "LOOK_AGAIN_S", 0.001)
    async with a_target(api, appears_s=0.003) as target:
        await target.stop(a_task(), a_context(), None)
    assert len(api.requests("list")) == 4


# Settings, limits, the end


@pytest.mark.parametrize(
    ("settings", "step", "missing"),
    [
        ({}, {}, "project_id and region"),
        ({"project_id": "acme"}, {}, "region"),
        ({"region": "r"}, {}, "project_id"),
        ({}, {"project_id": "acme"}, "region"),
    ],
)
def test_job_without_project_or_region_is_not_launched(settings, step, missing):
    """A job whose project or region nobody gives cannot be launched here, and the reason says what is missing."""
    reason = DataflowTarget(**settings).resolve(a_task(**step))
    assert f"needs {missing}, and" in reason


def test_project_and_region_come_from_step_or_settings():
    """Project and region may come from the step, from the settings, or one from each."""
    assert DataflowTarget(project_id="acme", region="r").resolve(a_task()) is None
    assert DataflowTarget(project_id="acme").resolve(a_task(region="r")) is None
    assert DataflowTarget().resolve(a_task(project_id="acme", region="r")) is None


@pytest.mark.parametrize("root", ["ftp://x", "http://example.com", "dataflow.googleapis.com", "https://u:p@x"])
def test_an_api_root_that_tokens_must_not_go_to(root):
    """Tokens and definitions go over https only, or to this machine."""
    with pytest.raises(ValueError, match=r"URL|host"):
        DataflowTarget(api_root=root)


async def test_an_endless_answer_is_cut_off(api, target, monkeypatch):
    """An answer larger than any that is due is not read to its end."""
    monkeypatch.setattr(dataflow_client, "ANSWER_BYTES_MAX", 100)
    api.fail("list", (200, " " * 101))
    answer = await target.launch(a_task(), a_context())
    assert isinstance(answer, NotStarted)
    assert "larger than 100 bytes" in answer.reason


async def test_closing_gives_up_a_launch(api):
    """A target is closed while a launch is out: nobody is kept waiting."""
    api.fail("launch", "applied, silent")
    async with a_target(api) as target:
        launching = asyncio.create_task(target.launch(a_task(), a_context()))
        while not api.jobs:
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await launching


def _free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
