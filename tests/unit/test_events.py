"""Events: what every log sample decodes to, and that nothing anybody sends does more than that."""

import base64
import copy
import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorch.documents.executions import Execution
from aiorch.engine.answers import is_of
from aiorch.errors import MalformedEventError
from aiorch.events.decode import MESSAGE_BYTES_MAX, NESTING_MAX, EventFactory, decode_message, start_run_id
from aiorch.events.event import (
    EXECUTION_LABEL,
    TERMINAL_JOB_STATES,
    CancelEvent,
    CloudFunctionEvent,
    DataflowEvent,
    Event,
    StartEvent,
)
from aiorch.model import names
from aiorch.model.enums import TargetTypes
from aiorch.model.status import TaskStatus
from tests.log_samples import SAMPLES, sample

KEY = "0123456789abcdef0123456789abcdef"

create = EventFactory().create_from_event


def failed(kind):
    return {"status": TaskStatus.FAILED, "failure_type": kind}


COMPLETED = {"status": TaskStatus.COMPLETED, "failure": None}
GEN1 = {
    "target_type": TargetTypes.CLOUD_FUNCTION,
    "task_name": "load-orders",
    "service_name": None,
    "region": "europe-west1",
    "run_id": None,
    "user_agent": None,
    "never_ran": False,
    "execution_key": "c4d487678a5270c113bbde284fc35bed",
}
GEN2 = {
    "target_type": TargetTypes.CLOUD_FUNCTION,
    "task_name": "load_orders",
    "service_name": "load-orders",
    "names": {"load_orders", "load-orders"},
    "region": "us-central1",
    "execution_id": None,
    "run_id": None,
    "user_agent": "aiorch/0.1",
    "never_ran": False,
}
DATAFLOW = {
    "target_type": TargetTypes.DATAFLOW,
    "execution_key": None,
    "run_id": None,
    "status": TaskStatus.NEW,
}
ORDERS_JOB = DATAFLOW | {
    "task_name": "orders-agg-1710361845353",
    "execution_id": "2024-03-13_13_30_56-9773037660972565699",
    "region": "us-central1",
}
WORD_COUNT_9 = DATAFLOW | {
    "task_name": "word-count-9",
    "execution_id": "2021-09-26_00_16_24-6802767166116217174",
    "region": "us-central1",
}
START = {
    "target_type": TargetTypes.START,
    "task_name": None,
    "execution_id": None,
    "execution_key": None,
    "status": TaskStatus.NEW,
}

CASES = {
    # First generation
    "gen1_function_end_200_old_wording": GEN1 | {"execution_id": "grcug3cacqj4"} | COMPLETED,
    "gen1_function_end_200_new_wording": GEN1
    | {
        "execution_id": "k2v9x0q7d1bs",
        "execution_key": "54aa8a20875253c6b47caa8bd28ad652",
    }
    | COMPLETED,
    "gen1_function_end_500_old_wording": GEN1 | {"execution_id": "p1c0d4j8w2ze"} | failed("HTTP 500"),
    "gen1_function_end_timeout_new_wording": GEN1
    | {"execution_id": "zgvo2jb4fhlj", "execution_key": "6476b882189959963206ce9b6b78a6ff"}
    | failed("Timeout"),
    "gen1_request_500_no_available_instance": GEN1
    | {"execution_id": None, "execution_key": "6476b882189959963206ce9b6b78a6fe"}
    | failed("HTTP 500")
    | {"never_ran": True},
    "gen1_function_end_timeout_old_wording": GEN1 | {"execution_id": "zgvo2jb4fhlm"} | failed("Timeout"),
    "gen1_function_end_error_new_wording": GEN1 | {"execution_id": "q8w7e6r5t4y3"} | failed("error"),
    # Its id is that of the Pub/Sub event, the same for every redelivery.
    "gen1_function_end_ok_background_event": GEN1 | {"execution_id": "970106426815308"} | COMPLETED,
    "gen1_orchestrator_own_end_must_be_ignored": GEN1
    | {"execution_id": "0rch35tr4t0r", "task_name": "orchestrator-dev-default", "own": True}
    | COMPLETED,
    "gen1_function_started": None,
    # Second generation and Cloud Run
    "gen2_request_200": GEN2 | {"execution_key": "28aa953fa1f2991be95301717a3e65be"} | COMPLETED,
    "gen2_request_500": GEN2
    | {
        "execution_key": "28aa953fa1f2991be95301717a3e65bc",
        "user_agent": "Google-Cloud-Scheduler",
    }
    | failed("HTTP 500"),
    "gen2_request_429_no_available_instance": GEN2
    | {"execution_key": "28aa953fa1f2991be95301717a3e65bd"}
    | failed("HTTP 429")
    | {"never_ran": True},
    "gen2_request_504_timeout": GEN2 | {"execution_key": "28aa953fa1f2991be95301717a3e65bf"} | failed("Timeout"),
    # Its severity is INFO: the status decides.
    "cloud_run_service_request_500": GEN2
    | {
        "task_name": "hello",
        "service_name": "hello",
        "names": {"hello"},
        "execution_key": "abf1c36d7e868424827714c3e4438d8a",
        "user_agent": "SiteMonitor/1.0",
    }
    | failed("HTTP 500"),
    "gen2_app_log_with_execution_id": None,
    # Dataflow: the same line after success and failure, so that none of them tells how it ended
    "dataflow_worker_pool_stopped": DATAFLOW
    | {
        "task_name": "word-count-3",
        "execution_id": "2021-12-12_03_32_45-10348224896447605834",
        "region": "europe-west4",
        "hint": "Worker pool stopped.",
    },
    "dataflow_worker_pool_stopped_after_failure": WORD_COUNT_9 | {"hint": "Worker pool stopped."},
    "dataflow_workflow_failed": WORD_COUNT_9 | {"hint_starts": "Workflow failed. Causes: Permissions verification"},
    "dataflow_flex_launcher_failed": DATAFLOW
    | {
        "task_name": "fetch-tiles-1",
        "execution_id": "2026-09-01_06_43_37-5369134304052716273",
        "region": "us-central1",
        "hint_starts": "Error occurred in the launcher container: Template launch failed.",
    },
    "dataflow_cleaning_up_progress": None,
    "eventarc_dataflow_status_changed_pending": None,
    "eventarc_dataflow_status_changed_done": ORDERS_JOB | {"hint": "JOB_STATE_DONE"},
    "eventarc_dataflow_status_changed_failed": ORDERS_JOB | {"hint": "JOB_STATE_FAILED"},
    # Starts
    "start_message_bare": START | {"dag": None, "run_id": None, "parameters": {}},
    "start_message_with_parameters": START
    | {"dag": "orders_daily", "run_id": "orders_daily-2025-05-23", "parameters": {"date": "2025-05-23"}},
    # Other sources
    "batch_job_state_changed_pubsub_message": None,
    "bigquery_audit_job_change_done": None,
    "bigquery_audit_job_completed_legacy": None,
    "cloud_run_job_execution_succeeded": None,
    "cloud_scheduler_attempt_finished_error": None,
    # No events at all: answers of APIs, envelopes
    "dataflow_api_flex_launch_response": None,
    "dataflow_api_job_get_done": None,
    "dataflow_api_launch_409_already_exists": None,
    "gcf_gen1_pubsub_trigger_event": None,
    "gcs_error_412_condition_not_met": None,
    "gcs_error_429_object_mutation": None,
    "pubsub_pull_response": None,
    "pubsub_push_envelope_of_log_entry": None,
}

KINDS = {
    TargetTypes.START: StartEvent,
    TargetTypes.CLOUD_FUNCTION: CloudFunctionEvent,
    TargetTypes.DATAFLOW: DataflowEvent,
}
OURS = sorted(name for name, expected in CASES.items() if expected is not None)


def test_every_sample_has_a_case():
    """No sample is without a case, no case without its sample and line in the index."""
    assert set(CASES) == {path.stem for path in SAMPLES.glob("*.json")}
    index = (SAMPLES / "INDEX.md").read_text()
    assert [name for name in CASES if f"| {name}.json |" not in index] == []


@pytest.mark.parametrize("name", CASES)
def test_sample(name):
    """Every sample decodes to what the index says of it, through its bytes, and keeps the original."""
    data = decode_message((SAMPLES / f"{name}.json").read_bytes())
    event = create(data)
    if CASES[name] is None:
        assert event is None
        return
    expected = dict(CASES[name])
    assert type(event) is KINDS[expected["target_type"]]
    assert event.event_data is data
    assert EventFactory(frozenset({"orchestrator-dev-default"})).is_own(event) is expected.pop("own", False)
    if "failure_type" in expected:
        assert event.failure.type == expected.pop("failure_type")
    if "hint_starts" in expected:
        assert event.hint.startswith(expected.pop("hint_starts"))
    assert {field: getattr(event, field) for field in expected} == expected


@pytest.mark.parametrize(
    ("name", "inside", "path"),
    [
        (
            "pubsub_pull_response",
            "gen1_function_end_200_new_wording",
            lambda d: d["receivedMessages"][0]["message"]["data"],
        ),
        (
            "pubsub_push_envelope_of_log_entry",
            "gen1_function_end_200_new_wording",
            lambda d: d["message"]["data"],
        ),
        ("gcf_gen1_pubsub_trigger_event", "start_message_bare", lambda d: d["data"]),
    ],
)
def test_envelope_holds_the_event_of_its_sample(name, inside, path):
    """The envelopes are no events, and the data in them is the event that another sample shows."""
    assert create(decode_message(base64.b64decode(path(sample(name))))) == create(sample(inside))


# Commands


def test_a_cancel_names_its_run():
    """A run id is all it needs, and the reason is kept."""
    bare = create({"resource": {"type": "cancel", "labels": {"run_id": "r"}}})
    assert (type(bare), bare.run_id, bare.reason) == (CancelEvent, "r", "cancelled on request")
    said = create({"resource": {"type": "cancel", "labels": {"run_id": "r"}}, "reason": "wrong input"})
    assert said.reason == "wrong input"


CANCEL = {"resource": {"type": "cancel", "labels": {"run_id": "r"}}, "reason": "why"}


@pytest.mark.parametrize(
    "changes",
    [
        {"resource": {"type": "cancel"}},
        {"resource": {"type": "cancel", "labels": {}}},
        {"resource": {"type": "cancel", "labels": {"run_id": "../r"}}},
        {"reason": 7},
        {"reason": "x" * 1001},
        {"reason": "\ud800"},
    ],
)
def test_a_cancel_that_cannot_be_read(changes):
    """It is refused as malformed, and cancels nothing."""
    with pytest.raises(MalformedEventError):
        create(CANCEL | changes)


@pytest.mark.parametrize("value", ["\ud800", "", "\x00", 10**400, float("nan"), -1, None, True, [], {}])
def test_any_field_of_a_cancel(value):
    """No field of it can be replaced by a value that gets through to harm."""
    for path in list(paths(CANCEL)):
        data = copy.deepcopy(CANCEL)
        change(data, path, value)
        check_answer(data)


# Functions


def gen1(text, **changes):
    return sample("gen1_function_end_200_old_wording") | {"textPayload": text} | changes


def gen2(status, *, text=None, agent="aiorch/0.1"):
    entry = sample("gen2_request_200")
    entry["httpRequest"] |= {"status": status, "userAgent": agent}
    return entry if text is None else entry | {"textPayload": text}


@pytest.mark.parametrize(
    "wording", ["took 1 ms, finished with status code: {}", "took 1 ms. Finished with status code: {}"]
)
def test_only_2xx_completes(wording):
    """Of all status codes exactly 200 to 299 complete, in both wordings and in the request log."""
    for code in range(100, 600):
        for event in (create(gen1(f"Function execution {wording.format(code)}")), create(gen2(code))):
            completed = 200 <= code < 300
            assert event.status is (TaskStatus.COMPLETED if completed else TaskStatus.FAILED)
            kind = None if completed else "Timeout" if code == 504 else f"HTTP {code}"
            assert (event.failure and event.failure.type) == kind
            assert event.never_ran is (code == 429)


WORDS = ["crash", "error", "out of memory", "out of quota", "load error", "load timeout", "connection error",
         "invalid header", "request too large", "response error", "system error", "invalid message", "okay",
         "never heard of (this)"]  # fmt: skip


@pytest.mark.parametrize("wording", ["ms, finished with status: '{}'", "ms. Finished with status: {}"])
@pytest.mark.parametrize(
    ("word", "kind"),
    [("ok", None), ("OK", None), ("timeout", "Timeout"), ("Timeout", "Timeout"), *((word, word) for word in WORDS)],
)
def test_status_words(wording, word, kind):
    """Of the status words only ``ok`` completes; a word nobody has heard of is a failure."""
    event = create(gen1(f"Function execution took 12 {wording.format(word)}"))
    assert (event.failure and event.failure.type) == kind
    assert event.status is (TaskStatus.FAILED if kind else TaskStatus.COMPLETED)


@pytest.mark.parametrize(
    "text",
    [
        "Function execution took 5 ms",
        "Function execution took 5 ms, finished with status code: 2000",
        "Function execution took 5 ms; ended well",
        "Function execution took 5 ms, finished with status code: 200 and more",
        "Function execution took 5 ms, finished with status: 'ok'\nnot",
    ],
)
def test_an_unknown_wording_is_refused(text):
    """A wording that nobody knows yet is neither guessed nor lost."""
    with pytest.raises(MalformedEventError, match="no wording that we know"):
        create(gen1(text))


def test_a_functions_own_lines_are_none_of_ours():
    """What a function prints, in another log or in other words, is not its end."""
    text = "Function execution took 5 ms. Finished with status code: 200"
    assert create(gen1("Function execution took long")) is None
    assert create(gen1(f"I say: {text}")) is None
    assert create(gen1(text, logName="projects/acme-data-dev/logs/my-log")) is None
    assert create(gen2(200) | {"logName": "projects/acme-data-dev/logs/run.googleapis.com%2Fstderr"}) is None


@pytest.mark.parametrize("execution_id", [None, ""])
def test_a_line_without_an_execution_id_is_not_the_platforms(execution_id):
    """The platform names the execution whose end it logs: the same sentence without that id is only text."""
    for text in ("Function execution took 5 ms. Finished with status: ok", "Function execution took 5 ms; ended well"):
        entry = gen1(text)
        entry["labels"] = {} if execution_id is None else {"execution_id": execution_id}
        assert create(entry) is None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_first_generation_call_that_no_instance_took_never_ran(status):
    """The platform's sentence with the status of its answer says that nothing ran; without a status it is only text."""
    entry = sample("gen1_request_500_no_available_instance")
    entry["httpRequest"]["status"] = status
    assert (create(entry).never_ran, create(entry).status) == (True, TaskStatus.FAILED)
    assert create(gen1(entry["textPayload"])) is None
    assert create(entry | {"textPayload": f"I say: {entry['textPayload']}"}) is None


def test_no_available_instance_never_ran():
    """A request that was turned away for load is told apart, whatever its status; a success never is."""
    text = "The request was aborted because there was no available instance."
    assert create(gen2(500, text=text)).never_ran
    assert create(gen2(429)).never_ran
    assert not create(gen2(500)).never_ran
    assert not create(gen2(200, text=text)).never_ran
    assert create(gen2(500, text=text)).failure.cause == text


def test_the_timeout_text_is_a_timeout():
    """The platform's text makes a timeout of any failed status."""
    text = "The request has been terminated because it has reached the maximum request timeout."
    assert create(gen2(500, text=text)).failure.type == "Timeout"


def test_a_caller_without_name():
    """A request log without a user agent is told apart from a log that knows none."""
    entry = gen2(200)
    del entry["httpRequest"]["userAgent"]
    assert create(entry).user_agent == ""
    assert create(gen1("Function execution took 5 ms, finished with status code: 200")).user_agent is None


@pytest.mark.parametrize(
    ("trace", "key"),
    [
        (f"projects/p/traces/{KEY}", KEY),
        (f"projects/p/traces/{KEY.upper()}", None),
        (f"projects/p/traces/{KEY}0", None),
        (f"projects/p/traces/{KEY[1:]}", None),
        (f"projects/p/traces/{KEY}\n", None),
        (f"projects/p/traces/../{KEY}", None),
        (KEY, None),
        ("", None),
        (None, None),
    ],
)
def test_key_from_trace(trace, key):
    """Only a whole trace of 32 lower-case hex digits is a key; without one the event is simply not ours."""
    entry = gen2(200)
    del entry["trace"]
    assert create(entry | ({} if trace is None else {"trace": trace})).execution_key == key


@pytest.mark.parametrize("value", ["../x", "SkgSzVqCGZ1HLEcG+CHZ/qDnCjo=", ".hidden", "x" * 129, "a\nb"])
def test_an_id_unfit_for_an_object_name_is_left_out(value):
    """Functions with other triggers run under any event id: it is not taken over and not refused either."""
    event = create(gen1("Function execution took 5 ms, finished with status: 'ok'", labels={"execution_id": value}))
    assert event.execution_id is None


@pytest.mark.parametrize("own", ["load_orders", "load-orders"])
def test_own_names(own):
    """The orchestrator knows itself by its function's name and by its service's; nobody else is it."""
    assert EventFactory(frozenset({own})).is_own(create(gen2(200)))
    assert not EventFactory(frozenset({"orchestrator"})).is_own(create(gen2(200)))
    assert not EventFactory().is_own(create(gen2(200)))
    assert not EventFactory(frozenset({"word-count-3"})).is_own(create(sample("dataflow_worker_pool_stopped")))


# Dataflow


def dataflow_line(text="Worker pool stopped.", **labels):
    entry = sample("dataflow_worker_pool_stopped")
    entry["resource"]["labels"] |= labels
    return entry | {"textPayload": text}


def status_changed(**changes):
    event = sample("eventarc_dataflow_status_changed_done")
    event["data"]["payload"] |= changes
    return event


@pytest.mark.parametrize(
    ("job_name", "key"),
    [
        (f"load-{KEY}", KEY),
        (f"a-b-{KEY}", KEY),
        (KEY, None),
        (f"load{KEY}", None),
        (f"load-{KEY}-2", None),
        (f"load-{KEY}\n", None),
        (f"load-{KEY.upper()}", None),
    ],
)
def test_key_from_job_name(job_name, key):
    """The key is the last 32 hex digits of the job name, after a dash."""
    assert create(dataflow_line(job_name=job_name)).execution_key == key
    assert create(status_changed(name=job_name)).execution_key == key


def test_key_from_label():
    """A label with our key goes before the job name; a label that holds none does not hide the name."""
    other = KEY[::-1]
    labelled = status_changed(name=f"load-{other}", labels={EXECUTION_LABEL: KEY})
    assert create(labelled).execution_key == KEY
    assert create(status_changed(name=f"load-{other}", labels={EXECUTION_LABEL: "?"})).execution_key == other


@pytest.mark.parametrize(
    "text",
    ["Cleaning up.", "Worker pool stopped. Not.", "The Worker pool stopped.", "Stopping worker pool...", ""],
)
def test_progress_is_no_end(text):
    """Other lines of a job are none of ours."""
    assert create(dataflow_line(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "Error occurred in the launcher container: file /opt/x does not exist",
        "Workflow failed.",
        "Workflow failed. Causes: S01:Read failed.",
    ],
)
def test_a_failed_job_is_a_hint(text):
    """Failures are hints by the beginning of their text, and decide nothing."""
    event = create(dataflow_line(text))
    assert event.hint == text
    assert event.status is TaskStatus.NEW


def test_job_states():
    """Terminal states are hints; all others, those not known yet included, mean: not yet."""
    others = ["PENDING", "RUNNING", "QUEUED", "CANCELLING", "DRAINING", "STOPPED", "RESOURCE_CLEANING_UP", "PAUSED",
              "UNKNOWN", "FINISHED"]  # fmt: skip
    for state in TERMINAL_JOB_STATES:
        event = create(status_changed(currentState=state))
        assert (event.hint, event.status) == (state, TaskStatus.NEW)
    assert [state for state in others if create(status_changed(currentState=f"JOB_STATE_{state}"))] == []
    event = sample("eventarc_dataflow_status_changed_done")
    del event["data"]["payload"]["currentState"]
    assert create(event) is None


# Starts


def start(**fields):
    return {"resource": {"type": "start"}} | fields


def start_labels(**labels):
    return {"resource": {"type": "start", "labels": labels}}


@pytest.mark.parametrize("run_id", ["", "../x", ".x", "a/b", "x" * 129, "a\n", "\x00", "ü", "x" * 10_000])
def test_hostile_run_id(run_id):
    """A run id that could not be an object name makes a start malformed."""
    with pytest.raises(MalformedEventError, match="run id"):
        create(start_labels(run_id=run_id))


@pytest.mark.parametrize(
    "message",
    [
        start_labels(run_id=7),
        start_labels(dag=["etl"]),
        start_labels(dag=""),
        start_labels(dag="x" * 1025),
        {"resource": {"type": "start", "labels": "etl"}},
        start(parameters=[1]),
        start(parameters="x"),
        start(parameters={"a": "\ud800"}),
    ],
)
def test_start_with_wrong_types(message):
    """Every field of a start is checked; an input that cannot be stored is refused before it is anything's input."""
    with pytest.raises(MalformedEventError):
        create(message)


def test_start_with_nulls():
    """Fields that are null are as good as left out."""
    event = create({"resource": {"type": "start", "labels": None}, "parameters": None})
    assert (event.dag, event.run_id, event.parameters) == (None, None, {})
    assert create(start_labels(dag=None, run_id=None)).run_id is None


def test_start_run_id():
    """The id is the same for a redelivery, in any time zone, and another for another message or second."""
    published = datetime(2021, 12, 12, 15, 19, 44, 999_999, tzinfo=UTC)
    run_id = start_run_id("5187581549398349", published)
    assert run_id == "run_1639322384_decbc18117e8b74b"
    assert start_run_id("5187581549398349", published.astimezone(timezone(timedelta(hours=5)))) == run_id
    assert start_run_id("5187581549398350", published) != run_id
    assert start_run_id("5187581549398349", published + timedelta(seconds=1)) != run_id
    assert names.run_id(start_run_id("../\ud800" * 100, published)).startswith("run_1639322384_")
    with pytest.raises(ValueError, match="time zone"):
        start_run_id("1", published.replace(tzinfo=None))


# A field that is missing

HERE = [("resource",), ("resource", "type"), ("resource", "labels")]
WHOSE = [("trace",)]
GEN1_PLACE = [*HERE, ("resource", "labels", "function_name"), ("resource", "labels", "region")]
LINE = [*GEN1_PLACE, ("logName",), ("textPayload",), ("labels",), ("labels", "execution_id"), *WHOSE]
TURNED_AWAY = [*GEN1_PLACE, ("logName",), ("textPayload",), ("httpRequest",), ("httpRequest", "status"), *WHOSE]
REQUEST = [
    *HERE,
    ("resource", "labels", "location"),
    ("logName",),
    ("httpRequest",),
    ("httpRequest", "status"),
    ("httpRequest", "userAgent"),
    *WHOSE,
]
FUNCTION = [*REQUEST, ("labels",), ("labels", "goog-drz-cloudfunctions-id")]
SERVICE = [*REQUEST, ("resource", "labels", "service_name")]
JOB_LINE = [*HERE, ("resource", "labels", "job_id"), ("resource", "labels", "region"), ("textPayload",)]
PAYLOAD = ("data", "payload")
JOB_STATUS = [("type",), ("data",), PAYLOAD, *((*PAYLOAD, name) for name in ("id", "location", "currentState"))]

NEEDED = {
    # The sentence with the execution that it is about, which function, where, whose.
    **{name: LINE for name in OURS if name.startswith("gen1_") and "_end_" in name},
    "gen1_orchestrator_own_end_must_be_ignored": LINE,
    "gen1_request_500_no_available_instance": TURNED_AWAY,
    # The status, who called, which function, where, whose.
    **{name: FUNCTION for name in OURS if name.startswith("gen2_")},
    "cloud_run_service_request_500": SERVICE,
    # That a job is over, which one, where. The names of these jobs bear no key of ours: their ids tell which they are.
    **{name: JOB_LINE for name in OURS if name.startswith("dataflow_")},
    **{name: JOB_STATUS for name in OURS if name.startswith("eventarc_")},
}
"""By sample: the fields without which a log line does not say how an execution of ours ended. All others may go."""


def told(event):
    """What a log line says of the end of an execution: of which, and how. `None`: nothing that the engine acts on."""
    match event:
        case CloudFunctionEvent() if event.execution_key is not None:
            return "function", event.execution_key, event.status, event.never_ran
        case DataflowEvent():
            return "job", event.execution_id, event.execution_key, event.region
    return None


def without(data, path):
    *above, last = path
    for key in above:
        data = data[key]
    del data[last]


def is_recognised(event, original):
    """Whether the engine takes *event* for the end of the execution that *original* has ended."""
    if isinstance(event, CloudFunctionEvent):
        record = Execution(
            execution_id=original.execution_key,
            task_name=original.task_name,
            node_name="A",
            run_id="r",
            attempt=1,
            launched_at=datetime(2026, 1, 1, tzinfo=UTC),
            target_type=TargetTypes.CLOUD_FUNCTION,
            region=original.region,
        )
        return event.execution_key == original.execution_key and is_of(event, record)
    return told(event) == told(original)


def called_by_us(name):
    data = sample(name)
    if "userAgent" in data.get("httpRequest", {}) and name.startswith(("gen2", "cloud_run_service")):
        data["httpRequest"]["userAgent"] = "aiorch/0.1"
    return data


@pytest.mark.parametrize("name", CASES)
def test_any_field_may_be_missing(name):
    """
    No log line without one of its fields, at any depth, ends an execution in another way than the whole line does, and
    none that says how an execution of ours ended is refused or overlooked unless the field is one that says it.
    """
    original = create(called_by_us(name))
    needed, missed = NEEDED.get(name, []), []
    assert told(original) is None or is_recognised(original, original)
    for path in paths(called_by_us(name)):
        data = called_by_us(name)
        without(data, path)
        try:
            event = create(data)
        except MalformedEventError:
            event = None
        assert told(event) in (None, told(original)), path
        if told(original) is not None and (event is None or not is_recognised(event, original)):
            missed.append(path)
    assert sorted(missed) == sorted(needed)


def test_the_key_of_a_job_stands_for_its_id():
    """A job whose name or label bears our key is told by it alone; a job with neither key nor id is malformed."""
    line = sample("dataflow_worker_pool_stopped")
    line["resource"]["labels"] |= {"job_name": f"word-count-{KEY}"}
    without(line, ("resource", "labels", "job_id"))
    status = status_changed(labels={EXECUTION_LABEL: KEY})
    without(status, (*PAYLOAD, "id"))
    without(status, (*PAYLOAD, "name"))
    assert [(create(each).execution_key, create(each).execution_id) for each in (line, status)] == [(KEY, None)] * 2
    without(line, ("resource", "labels", "job_name"))
    with pytest.raises(MalformedEventError, match="neither the id of a job"):
        create(line)


# Malformed and hostile


def change(data, path, value):
    *above, last = path
    for key in above:
        data = data[key]
    data[last] = value


@pytest.mark.parametrize("value", [None, 7, True, 1.5, ["x"], {"x": "y"}])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gen1_function_end_200_old_wording", ("resource", "labels")),
        ("gen1_function_end_200_old_wording", ("resource", "labels", "function_name")),
        ("gen1_function_end_200_old_wording", ("resource", "labels", "region")),
        ("gen1_function_end_200_old_wording", ("labels", "execution_id")),
        ("gen1_function_end_200_old_wording", ("trace",)),
        ("gen2_request_200", ("httpRequest",)),
        ("gen2_request_200", ("httpRequest", "status")),
        ("gen2_request_200", ("httpRequest", "userAgent")),
        ("gen2_request_200", ("resource", "labels", "service_name")),
        ("gen2_request_200", ("resource", "labels", "location")),
        ("gen2_request_504_timeout", ("textPayload",)),
        ("dataflow_worker_pool_stopped", ("resource", "labels", "job_id")),
        ("dataflow_worker_pool_stopped", ("resource", "labels", "job_name")),
        ("dataflow_worker_pool_stopped", ("resource", "labels", "region")),
        ("eventarc_dataflow_status_changed_done", ("data",)),
        ("eventarc_dataflow_status_changed_done", ("data", "payload")),
        ("eventarc_dataflow_status_changed_done", ("data", "payload", "id")),
        ("eventarc_dataflow_status_changed_done", ("data", "payload", "name")),
        ("eventarc_dataflow_status_changed_done", ("data", "payload", "location")),
        ("eventarc_dataflow_status_changed_done", ("data", "payload", "currentState")),
    ],
)
def test_wrong_types(name, path, value):
    """A field of ours with another type makes the event malformed."""
    data = sample(name)
    change(data, path, value)
    with pytest.raises(MalformedEventError):
        create(data)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("dataflow_worker_pool_stopped", ("resource", "labels", "job_id"), "../../runs/x"),
        ("dataflow_worker_pool_stopped", ("resource", "labels", "job_id"), ""),
        ("dataflow_worker_pool_stopped", ("resource", "labels", "job_name"), "x" * 1025),
        ("eventarc_dataflow_status_changed_done", ("data", "payload", "id"), "a/b"),
        ("gen2_request_200", ("resource", "labels", "service_name"), "x" * 1_000_000),
        ("gen2_request_200", ("httpRequest", "status"), 10**40),
        ("gen2_request_200", ("httpRequest", "status"), 0),
    ],
)
def test_hostile_values(name, path, value):
    """Path tricks, absurd lengths and numbers are refused, with a short message that does not repeat them."""
    data = sample(name)
    change(data, path, value)
    with pytest.raises(MalformedEventError) as caught:
        create(data)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("data", [None, [], "start", 7, [{"resource": {"type": "start"}}]])
def test_not_an_object(data):
    """What is no JSON object is malformed."""
    with pytest.raises(MalformedEventError, match="not a JSON object"):
        create(data)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"resource": None},
        {"resource": "start"},
        {"resource": ["start"]},
        {"resource": {}},
        {"resource": {"type": None}},
        {"resource": {"type": ["start"]}},
        {"resource": {"type": "START"}},
        {"type": "start"},
        {"type": {"start": 1}},
        {"resource": {"type": "google.cloud.dataflow.job.v1beta3.statusChanged"}},
    ],
)
def test_unknown_shapes_are_none_of_ours(data):
    """What does not call itself one of ours is none, whatever its types."""
    assert create(data) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": 1', "not JSON"),
        (b'{"a": 1}{}', "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": 1e999}', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"start"', "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        (b'{"a": "' + b"x" * 10_000_000 + b'"}', "above the limit"),
    ],
)
def test_bytes_that_are_no_message(data, reason):
    """Broken, deep and huge bodies are malformed and nothing worse."""
    with pytest.raises(MalformedEventError, match=reason):
        decode_message(data)


def nested(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_limits_to_the_byte():
    """What just fits is read, one byte or level more is not."""
    body = b'{"a":"' + b"x" * (MESSAGE_BYTES_MAX - 8) + b'"}'
    assert len(decode_message(body)["a"]) == MESSAGE_BYTES_MAX - 8
    with pytest.raises(MalformedEventError, match="above the limit"):
        decode_message(body + b" ")
    assert decode_message(b"{}", bytes_max=2) == {}
    assert decode_message(nested(NESTING_MAX))
    assert decode_message(b'{"a":' + b"[" * (NESTING_MAX - 1) + b"]" * (NESTING_MAX - 1) + b"}")
    with pytest.raises(MalformedEventError, match="nested deeper"):
        decode_message(nested(NESTING_MAX + 1))


@pytest.mark.parametrize("name", ["start_message_with_parameters", "gen2_request_200", "dataflow_workflow_failed"])
def test_deep_objects(name):
    """Nesting beyond any recursion limit, put into any field of an event, raises nothing but the error."""
    deep = {}
    for _ in range(100_000):
        deep = {"a": [deep]}
    for key in [*sample(name), "parameters"]:
        data = sample(name) | {key: deep}
        try:
            assert isinstance(create(data), Event | None)
        except MalformedEventError as error:
            assert len(str(error)) < 500  # noqa: PT017  both answers are right, depending on the field
    with pytest.raises(MalformedEventError, match="nested deeper"):
        create(start(parameters=deep))


# Any JSON at all

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18)
    | st.floats()
    | st.text(max_size=30)
    | st.text(st.characters(codec=None, categories=["Cs", "Cc"]), max_size=3)
    | st.sampled_from(["start", "cloud_function", "cloud_run_revision", "dataflow_step", "x" * 5000, "../../x", KEY])
)
KEYS = st.sampled_from(["resource", "type", "labels", "data", "payload", "parameters", "run_id", "dag"]) | st.text(
    max_size=5
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=15
)


def paths(value, above=()):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*above, key)
            yield from paths(item, (*above, key))


@st.composite
def mutated_samples(draw):
    data = sample(draw(st.sampled_from(OURS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(paths(data), key=str)))
        *above, last = path
        place = data
        for key in above:
            place = place[key]
        if draw(st.booleans()):
            place[last] = draw(JSON)
        else:
            del place[last]
        if not data:
            break
    return data


def check_answer(data):
    """Whatever comes out can be used as it is: typed, storable, fit for object names, and nothing was changed."""
    before = copy.deepcopy(data)
    try:
        event = create(data)
    except MalformedEventError as error:
        assert len(str(error)) < 500  # noqa: PT017  a refusal is one of the three right answers
        return
    assert repr(data) == repr(before)
    if event is None:
        return
    assert event.event_data is data
    assert type(event) in {*KINDS.values(), CancelEvent}
    assert event.execution_id is None or names.execution_id(event.execution_id)
    assert event.run_id is None or names.run_id(event.run_id)
    assert event.execution_key is None or (len(event.execution_key) == 32 and int(event.execution_key, 16) >= 0)
    match event:
        case StartEvent():
            msgspec.json.encode(event.parameters)
            assert event.status is TaskStatus.NEW
        case CancelEvent():
            msgspec.json.encode(event.reason)
            assert event.run_id
        case CloudFunctionEvent():
            assert (event.status is TaskStatus.FAILED) == (event.failure is not None)
            msgspec.json.encode(event.failure)
            assert isinstance(EventFactory(frozenset({"x"})).is_own(event), bool)
        case DataflowEvent():
            assert event.status is TaskStatus.NEW
            assert event.execution_id or event.execution_key


@pytest.mark.parametrize("value", ["\ud800", "", "\x00", "x" * 100_000, 10**400, float("nan"), -1, None, True, [], {}])
@pytest.mark.parametrize("name", OURS)
def test_any_field_of_a_sample(name, value):
    """No field of any sample can be replaced by a value that gets through to harm."""
    for path in list(paths(sample(name))):
        data = sample(name)
        change(data, path, value)
        check_answer(data)


@given(JSON | st.dictionaries(KEYS, JSON, max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_json(data):
    """Any JSON value gives an event, none, or the one error."""
    check_answer(data)


@given(mutated_samples())
@settings(max_examples=500, deadline=None)
def test_any_mutation_of_a_sample(data):
    """So does any sample with fields replaced by anything or taken away."""
    check_answer(data)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data):
    """Any bytes give a JSON object or the one error, and such an object can be encoded again."""
    try:
        message = decode_message(data)
    except MalformedEventError:
        return
    assert isinstance(message, dict)
    msgspec.json.encode(message)
