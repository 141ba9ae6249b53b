"""The pure half of Dataflow jobs: their names, labels and parameters, and what the API's answers mean."""

import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.events.decode import EventFactory
from aiorch.events.event import EXECUTION_LABEL
from aiorch.ports.target import Accepted, Failed, Succeeded
from aiorch.targets.dataflow import api, launch
from aiorch.targets.dataflow.api import Job, Refusal
from aiorch.targets.dataflow.launch import Place
from aiorch.targets.dataflow.node import DataflowJob
from tests.contexts import KEY, a_context

OTHER_KEY = "f" * 32
PLACE = Place("acme", "europe-west1")
NAME = f"aggregate-{KEY}"


def a_task(**changes):
    return DataflowJob("Step 1", None, **{"target_name": "Aggregate", **changes})


def a_job(**changes):
    return Job(**{"id": "job_1", "name": NAME, "state": "JOB_STATE_RUNNING", **changes})


# Names, labels, parameters


@given(st.text(max_size=300), st.text("0123456789abcdef", min_size=32, max_size=32))
def test_every_name_fits_the_rules(target_name, key):
    """Whatever a target is called, its job's name is one the API takes, ends in the key, and begins readably short."""
    name = launch.job_name(target_name, key)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?", name)
    assert name.endswith(f"-{key}")
    assert len(name) <= 63 + 33


@pytest.mark.parametrize(
    ("target_name", "readable"),
    [
        ("word-count", "word-count"),
        ("Word_Count 3", "word-count-3"),
        ("3-words", "job-3-words"),
        ("", "job"),
        ("數據", "job"),
        ("../../etc/passwd", "etc-passwd"),
        ("a?b#c&gcsPath=gs://evil/x", "a-b-c-gcspath-gs-evil-x"),
        ("\x00\n", "job"),
        ("x" * 500, "x" * 40),
        ("x" * 39 + "-y", "x" * 39),
    ],
)
def test_names_stay_readable(target_name, readable):
    """What can be read of the target's name stands before the key; hostile characters become dashes."""
    assert launch.job_name(target_name, KEY) == f"{readable}-{KEY}"


def test_an_event_of_the_job_leads_back_to_the_execution():
    """The name and the label that a job gets are what the events of its end are recognised by."""
    line = {
        "textPayload": "Worker pool stopped.",
        "logName": "projects/acme/logs/dataflow.googleapis.com%2Fjob-message",
        "timestamp": "2026-11-23T01:10:00Z",
        "resource": {
            "type": "dataflow_step",
            "labels": {"job_id": "1", "job_name": launch.job_name("A", KEY), "region": "r"},
        },
    }
    job = {"id": "1", "name": "x", "location": "r", "currentState": "JOB_STATE_DONE"}
    change = {
        "type": "google.cloud.dataflow.job.v1beta3.statusChanged",
        "data": {"payload": {**job, "labels": launch.own_labels(a_context())}},
    }
    assert EventFactory().create_from_event(line).execution_key == KEY
    assert EventFactory().create_from_event(change).execution_key == KEY


@given(st.text(max_size=200), st.text(max_size=200))
def test_own_labels_fit_the_rules(run_id, node):
    """Whatever run and node are called, our labels are ones that the API takes."""
    labels = launch.own_labels(a_context(run_id=run_id, node=node))
    assert labels[EXECUTION_LABEL] == KEY
    assert labels.keys() == {EXECUTION_LABEL, "aiorch_run", "aiorch_node"}
    for name, value in labels.items():
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name)
        assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)


def test_parameters_become_text():
    """Text stays, null is left out, and everything else becomes its JSON, as templates read it."""
    parameters = {
        "text": "a b",
        "quoted": '"x"',
        "empty": "",
        "yes": True,
        "no": False,
        "count": 5,
        "ratio": 1.5,
        "list": [1, "a"],
        "mapping": {"a": {"b": None}},
        "nothing": None,
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "the word null": "null",
    }
    assert launch.launch_parameters(parameters) == {
        "text": "a b",
        "quoted": '"x"',
        "empty": "",
        "yes": "true",
        "no": "false",
        "count": "5",
        "ratio": "1.5",
        "list": '[1,"a"]',
        "mapping": '{"a":{"b":null}}',
        "time": "2026-01-02T00:00:00Z",
        "the word null": "null",
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), "\ud800", {"a": {1, object()}}])
def test_parameters_that_are_not_json_are_refused(value):
    """What has no form in JSON is refused by name, not sent as something else."""
    with pytest.raises(ValueError, match="parameter 'p' cannot be sent as text"):
        launch.launch_parameters({"p": value})


def test_a_classic_launch():
    """A Classic template goes into the query, the rest into the body; our labels join the user's."""
    task = a_task(
        template_path="gs://acme/templates/etl?x=1",
        environment={"maxWorkers": 3, "additionalUserLabels": {"team": "data"}},
    )
    request = launch.launch_request(task, a_context(parameters={"n": 1}), PLACE)
    assert request.path == "/v1b3/projects/acme/locations/europe-west1/templates:launch"
    assert request.params == {"gcsPath": "gs://acme/templates/etl?x=1"}
    assert json.loads(request.body) == {
        "jobName": NAME,
        "parameters": {"n": "1"},
        "environment": {
            "maxWorkers": 3,
            "additionalUserLabels": {
                "team": "data",
                "aiorch_execution": KEY,
                "aiorch_run": "run_1",
                "aiorch_node": "step-1",
            },
        },
    }
    assert task.environment == {"maxWorkers": 3, "additionalUserLabels": {"team": "data"}}


def test_a_flex_launch():
    """A Flex template is named in the launch parameter, and nothing stands in the query."""
    request = launch.launch_request(a_task(container_gcs_path="gs://acme/etl.json"), a_context(), PLACE)
    assert request.path == "/v1b3/projects/acme/locations/europe-west1/flexTemplates:launch"
    assert request.params == {}
    body = json.loads(request.body)
    assert body.keys() == {"launchParameter"}
    assert body["launchParameter"] == {
        "jobName": NAME,
        "parameters": {},
        "environment": {"additionalUserLabels": launch.own_labels(a_context())},
        "containerSpecGcsPath": "gs://acme/etl.json",
    }


def test_places_cannot_lead_elsewhere():
    """A project, region or job id with a slash, a question mark or dots stays one segment of its path."""
    path = Place("a/../b", "x?y=1").job_path("../../secrets#")
    assert path == "/v1b3/projects/a%2F..%2Fb/locations/x%3Fy%3D1/jobs/..%2F..%2Fsecrets%23"


# Answers


@pytest.mark.parametrize(
    "data",
    [
        *(None, [], "job", {}, {"id": "../x"}, {"id": "x" * 200}, {"name": "x"}),
        *({"id": "1"} | odd for odd in ({"id": 5}, {"name": 5}, {"currentState": []}, {"labels": []})),
        *({"id": "1"} | odd for odd in ({"labels": {"x": 5}}, {"replacedByJobId": {}}, {"createTime": 1})),
    ],
)
def test_an_answer_that_describes_no_job(data):
    """An answer without a usable id is no job, and neither is one with a field of a wrong type."""
    assert api.read_job(data) is None


def test_missing_fields():
    """Any field may be missing, or null; the id that was asked for stands in for a missing one."""
    assert api.read_job({"id": "1"}) == Job("1")
    nulls = dict.fromkeys(("name", "currentState", "labels", "replacedByJobId", "createTime"))
    assert api.read_job(nulls, "2") == Job("2")


@pytest.mark.parametrize(
    "page",
    [
        {"jobs": {}},
        {"jobs": None},
        {"jobs": [{"id": "1"}, 5]},
        {"jobs": [{"id": "1"}, {}]},
        {"jobs": [{"id": "1"}], "nextPageToken": 5},
        {"jobs": [{"id": "1"}], "failedLocation": [{"name": "r"}]},
    ],
)
def test_incomplete_listings(page):
    """A page that is no listing, names what is no job, or says that a region did not answer, proves nothing."""
    assert api.read_jobs(page) is None


def test_listings():
    """A page without jobs is an empty one."""
    assert api.read_jobs({}) == []
    assert api.read_jobs({"jobs": [{"id": "1"}]}) == [Job("1")]
    assert api.next_page({"nextPageToken": "t"}) == "t"
    assert api.next_page({}) == ""


def test_the_api_refuses():
    """An error of the API gives its reason: here that the name is taken."""
    path = Path(__file__).parents[1] / "data/log_samples/dataflow_api_launch_409_already_exists.json"
    refusal = api.read_refusal(409, path.read_bytes())
    assert refusal.reason == "alreadyExists"
    assert refusal.says_exists
    assert not refusal.says_busy


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b'{"error":"x"}', b"[]", b'{"error":{"errors":[5]}}', b"[" * 10_000]
)
def test_refusals_in_other_formats_are_shown_whole(body):
    """Any other body is shown as it is."""
    refusal = api.read_refusal(502, body)
    assert refusal == Refusal(502, "", body.decode())
    assert refusal.says_nothing


@pytest.mark.parametrize(
    ("refusal", "kinds"),
    [
        (Refusal(429, "", ""), {"busy"}),
        (Refusal(429, "RESOURCE_EXHAUSTED", ""), {"busy"}),
        (Refusal(403, "rateLimitExceeded", ""), {"busy"}),
        (Refusal(400, "badRequest", "Causes: Dataflow quota error for jobs-per-project quota. Project x"), {"busy"}),
        (Refusal(500, "x", "jobs-per-project quota"), {"nothing"}),
        (Refusal(409, "alreadyExists", ""), {"exists"}),
        (Refusal(408, "", ""), {"nothing"}),
        (Refusal(500, "", ""), {"nothing"}),
        (Refusal(503, "", ""), {"nothing"}),
        (Refusal(400, "badRequest", "quota"), set()),
        (Refusal(401, "", ""), set()),
        (Refusal(403, "forbidden", ""), set()),
        (Refusal(404, "notFound", ""), set()),
        (Refusal(302, "", ""), set()),
    ],
)
def test_kinds_of_refusals(refusal, kinds):
    """For load: it did not happen. 409: perhaps ours. 408 and 5xx: nobody knows. Everything else is final."""
    found = {"busy": refusal.says_busy, "exists": refusal.says_exists, "nothing": refusal.says_nothing}
    assert {kind for kind, is_it in found.items() if is_it} == kinds


def test_refused_for_good():
    """The failure of a launch names the job, what the API said, and the next move."""
    failure = api.refused(Refusal(403, "forbidden", "Permission denied"), NAME, PLACE).failure
    assert failure.type == "HTTP 403"
    assert NAME in failure.message
    assert "HTTP 403 (forbidden): Permission denied" in failure.message
    assert "roles/dataflow.developer" in failure.message


OURS, THEIRS = {EXECUTION_LABEL: KEY}, {EXECUTION_LABEL: OTHER_KEY}


@pytest.mark.parametrize(
    ("jobs", "adopted"),
    [
        ([a_job(labels=OURS)], "job_1"),
        ([a_job(labels=OURS, state="JOB_STATE_DONE")], "job_1"),
        ([a_job(labels=OURS, state="JOB_STATE_FAILED")], "job_1"),
        ([a_job(labels={})], "job_1"),
        ([a_job(labels={}), a_job(id="labelled", labels=OURS, created_at="9")], "labelled"),
        (
            [a_job(id="copy", labels=OURS, created_at="2026-11-23T02"), a_job(labels=OURS, created_at="2026-11-23T01")],
            "job_1",
        ),
        ([a_job(id="theirs", labels=THEIRS), a_job(labels=OURS, state="JOB_STATE_DONE")], "job_1"),
        ([], None),
        ([a_job(labels=THEIRS, state="JOB_STATE_DONE")], None),
    ],
)
def test_adoption(jobs, adopted):
    """The oldest job with our label is ours, whatever its state; ended jobs of others leave the name free."""
    assert api.adopt(jobs, KEY, PLACE) == (None if adopted is None else Accepted(adopted))


def test_a_name_that_is_taken():
    """An active job of our name with somebody else's label is left alone, and the failure names it."""
    answer = api.adopt([a_job(labels=THEIRS)], KEY, PLACE)
    assert isinstance(answer, Failed)
    assert answer.failure.type == "JobNameTaken"
    assert "job_1" in answer.failure.message
    assert OTHER_KEY in answer.failure.message


@pytest.mark.parametrize("state", ["DONE", "DRAINED"])
def test_jobs_that_ended_well(state):
    """A job that is done or drained succeeded, and its result says which job it was."""
    answer = api.outcome(a_job(state=f"JOB_STATE_{state}"), PLACE, [])
    assert isinstance(answer, Succeeded)
    assert json.loads(answer.result) == {
        "job_id": "job_1",
        "job_name": NAME,
        "state": f"JOB_STATE_{state}",
        "project_id": "acme",
        "region": "europe-west1",
    }


@pytest.mark.parametrize(
    "state",
    [
        "",
        "DONE",
        *(
            f"JOB_STATE_{state}"
            for state in (
                "UNKNOWN", "STOPPED", "RUNNING", "DRAINING", "PENDING", "CANCELLING", "QUEUED", "RESOURCE_CLEANING_UP",
                "PAUSING", "PAUSED", "UPDATED", "INVENTED_IN_2030", "done",
            )
        ),
    ],
)  # fmt: skip
def test_every_other_state_means_not_yet(state):
    """A state that is not final, or that nobody has heard of, decides nothing."""
    assert api.outcome(a_job(state=state), PLACE, []) is None


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "it gave no error message"),
        (["Worker died", "Workflow failed. Causes: disk full", "Cleaning"], "Workflow failed. Causes: disk full"),
        (["a", "Error occurred in the launcher container: x"], "Error occurred in the launcher container: x"),
    ],
)
def test_jobs_that_failed(messages, why):
    """A failed job fails its task with the message that sums up the others, and with all of them as the cause."""
    failure = api.outcome(a_job(state="JOB_STATE_FAILED"), PLACE, messages).failure
    assert failure.type == "JobFailed"
    assert failure.message.startswith(f"Dataflow job '{NAME}' (job_1) in europe-west1 failed: {why}")
    assert failure.cause == ("\n".join(messages) or None)


def test_jobs_that_were_cancelled():
    """A job that somebody cancelled failed, in a way that a retry policy can tell apart."""
    assert api.outcome(a_job(state="JOB_STATE_CANCELLED"), PLACE, []).failure.type == "JobCancelled"


@pytest.mark.parametrize("data", [{}, {"jobMessages": {}}, {"jobMessages": [5, {}, {"messageText": 5}]}])
def test_messages_that_are_none(data):
    """A page of messages may be empty or odd."""
    assert api.read_messages(data) == []
