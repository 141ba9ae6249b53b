"""
Decoding: what a Pub/Sub message says about a run. Pure: no I/O, no clock, nothing remembered.

`decode_message` turns the bytes of a message into a JSON object, `EventFactory.create_from_event` turns that object
into an `Event`. There are three answers, and the caller does something else for each:

- an `Event`: it may be ours; whether it is, only the execution record of its `execution_key` can tell;
- `None`: none of ours, whatever it is; acknowledge and count;
- `MalformedEventError`: it has the shape of ours and cannot be read; park it.

A message is first told apart by what it calls itself (``resource.type`` and log name, or the CloudEvent ``type``), and
only then checked against the one shape that such a message has. So a foreign log entry is never refused for its
fields, and no field of ours is used unchecked. A missing field makes an event malformed only if the decoder cannot tell
the end of an execution without it: platforms leave fields out without notice, and an end that is parked is lost.

Source: Cloud Logging documentation, "LogEntry" and "Monitored resource types"; Eventarc documentation, "Dataflow".
"""

import re
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aiorch.errors import InvalidIdError, MalformedEventError
from aiorch.events.event import (
    EXECUTION_LABEL,
    NAME_CHARS_MAX,
    REASON_CHARS_MAX,
    TERMINAL_JOB_STATES,
    CancelEvent,
    CloudFunctionEvent,
    DataflowEvent,
    Event,
    StartEvent,
)
from aiorch.model.enums import TargetTypes
from aiorch.model.failure import Failure
from aiorch.model.names import ExecutionId, RunId, execution_id, run_id
from aiorch.model.status import TaskStatus

MESSAGE_BYTES_MAX = 1024 * 1024
"""
A larger message is refused unread. Pub/Sub would carry 10 MB, but the largest that can concern us is far smaller: a
log entry holds about 256 KB, counted before JSON escapes it, and a start message carries an input, not a data set.
Source: Cloud Logging documentation, "Quotas and limits".
"""

NESTING_MAX = 64
"""Levels of objects and arrays. Events have 8 at most; a deeper input could not safely be encoded again."""

_FUNCTION_LOG = "/logs/cloudfunctions.googleapis.com%2Fcloud-functions"
_REQUEST_LOG = "/logs/run.googleapis.com%2Frequests"
_FUNCTION_LABEL = "goog-drz-cloudfunctions-id"

# Until mid-2022 ", finished with status code: 200" or "'timeout'", since then ". Finished with status: timeout".
_TOOK = re.compile(r"Function execution took [0-9]+ ms")
_FINISHED = re.compile(
    _TOOK.pattern + r"[,.] [Ff]inished with status(?: code: (?P<code>[0-9]{3})|: '?(?P<word>[^'\n]+)'?)"
)
_SUCCESS = re.compile(r"HTTP 2..|ok", re.IGNORECASE)
_TIMEOUT = re.compile(r"HTTP 504|timeout", re.IGNORECASE)
_JOB_OVER = re.compile(r"Worker pool stopped\.\Z|Workflow failed\.|Error occurred in the launcher container")
_NO_INSTANCE = "the request was aborted because there was no available instance"
_TRACE = re.compile(r"projects/[^/]+/traces/([0-9a-f]{32})")
_KEY = re.compile(r"([0-9a-f]{32})")
_KEY_AT_END = re.compile(r"-([0-9a-f]{32})\Z")


class EventFactory:
    """Decodes events. An instance knows the names that the orchestrator itself is deployed under."""

    def __init__(self, own_names: frozenset[str] = frozenset()) -> None:
        self.own_names = own_names

    def is_own(self, event: Event) -> bool:
        """Whether *event* is the end of a request to the orchestrator itself, which else would feed on its own log."""
        return isinstance(event, CloudFunctionEvent) and not self.own_names.isdisjoint(event.names)

    @staticmethod
    def create_from_event(event_data: dict[str, Any]) -> Event | None:
        """
        Return the event that *event_data* is, or `None` when it is none of ours.

        Raises:
            MalformedEventError: It has the shape of ours and cannot be read. Nothing else is raised for any JSON.
        """
        if not isinstance(event_data, dict):
            raise MalformedEventError("message", "it is not a JSON object")
        resource = event_data.get("resource")
        kind = _text(resource if isinstance(resource, dict) else event_data, "type")
        decode = _BY_RESOURCE.get(kind) if isinstance(resource, dict) else _BY_TYPE.get(kind)
        if decode is None:
            return None
        try:
            return decode(event_data)
        except (msgspec.ValidationError, InvalidIdError, UnicodeError, OverflowError) as error:
            raise MalformedEventError(f"{kind} event", str(error)) from error


def decode_message(data: bytes, *, bytes_max: int = MESSAGE_BYTES_MAX) -> dict[str, Any]:
    """
    Return the JSON object in the body of a message.

    Raises:
        MalformedEventError: It is larger than *bytes_max*, nested deeper than `NESTING_MAX`, or no JSON object.
    """
    if len(data) > bytes_max:
        raise MalformedEventError("message", f"it has {len(data)} bytes, above the limit of {bytes_max}")
    try:
        message = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedEventError("message", f"it is not JSON that we read: {error}") from error
    if not isinstance(message, dict):
        raise MalformedEventError("message", "it is not a JSON object")
    _refuse_deep(message)
    return message


def start_run_id(message_id: str, publish_time: datetime) -> RunId:
    """
    Return the run id of a start message that names none: ``run_<epoch seconds>_<16 hex digits of a hash>``.

    Both parts stay the same when the message is delivered again, so a redelivery is the same run.
    """
    if publish_time.tzinfo is None:
        raise ValueError(f"publish time {publish_time} has no time zone, so it names no moment; pass an aware one.")
    digits = sha256(message_id.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    return run_id(f"run_{int(publish_time.timestamp())}_{digits}")


# The shapes, as far as we read them. Unknown fields are ignored everywhere: platforms add some without notice.

_Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]


class _StartLabels(msgspec.Struct):
    dag: _Name | None = None
    run_id: str | None = None


class _StartResource(msgspec.Struct):
    labels: _StartLabels | None = None


class _Start(msgspec.Struct):
    resource: _StartResource
    parameters: dict[str, Any] | None = None


class _CancelLabels(msgspec.Struct):
    run_id: str


class _CancelResource(msgspec.Struct):
    labels: _CancelLabels


class _Cancel(msgspec.Struct):
    resource: _CancelResource
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)] = "cancelled on request"


class _LogResource(msgspec.Struct):
    labels: dict[str, str] = {}


class _LogEntry(msgspec.Struct, rename="camel"):
    """Fields of any log entry. Each decoder checks for those that it needs."""

    resource: _LogResource
    labels: dict[str, str] = {}
    text_payload: str = ""
    trace: str = ""

    def name(self, label: str) -> str:
        """Return a label of the resource. Raises: MalformedEventError: it is missing or too long."""
        name = self.name_or_none(label)
        if name is None:
            raise MalformedEventError("log entry", f"its resource label {label!r} is missing")
        return name

    def name_or_none(self, label: str) -> str | None:
        """Return a label of the resource, `None` when it is missing. Raises: MalformedEventError: it is too long."""
        value = self.resource.labels.get(label) or None
        if value is not None and len(value) > NAME_CHARS_MAX:
            raise MalformedEventError("log entry", f"its resource label {label!r} is too long")
        return value

    @property
    def execution_key(self) -> ExecutionId | None:
        return _key(_TRACE.fullmatch(self.trace))


class _HttpRequest(msgspec.Struct, rename="camel"):
    status: Annotated[int, Meta(ge=100, le=599)]
    user_agent: str = ""


class _RequestEntry(_LogEntry, rename="camel", kw_only=True):
    """An entry about a request. Only its status says how the request ended."""

    http_request: _HttpRequest


class _Job(msgspec.Struct, rename="camel"):
    location: _Name
    id: str = ""
    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX)] = ""
    current_state: str = "JOB_STATE_UNKNOWN"
    labels: dict[str, str] = {}


class _JobEventData(msgspec.Struct):
    payload: _Job


class _StatusChanged(msgspec.Struct):
    data: _JobEventData


def _start(event_data: dict[str, Any]) -> StartEvent:
    start = msgspec.convert(event_data, _Start)
    labels = start.resource.labels or _StartLabels()
    parameters = start.parameters or {}
    _refuse_deep(parameters)
    try:
        msgspec.json.encode(parameters)
    except (TypeError, ValueError) as error:
        raise MalformedEventError("start event", f"its parameters cannot be stored as JSON: {error}") from error
    return StartEvent(
        event_data=event_data,
        target_type=TargetTypes.START,
        run_id=None if labels.run_id is None else run_id(labels.run_id),
        dag=labels.dag,
        parameters=parameters,
    )


def _cancel(event_data: dict[str, Any]) -> CancelEvent:
    cancel = msgspec.convert(event_data, _Cancel)
    cancel.reason.encode()  # refused here, with its reason, rather than when it is stored
    return CancelEvent(
        event_data=event_data,
        target_type=TargetTypes.START,
        run_id=run_id(cancel.resource.labels.run_id),
        reason=cancel.reason,
    )


def _function_end(event_data: dict[str, Any]) -> CloudFunctionEvent | None:
    """
    First generation: a line of the platform, among those of the function itself.

    Two marks tell the two apart: the whole text is the platform's sentence, and the platform names the execution (or,
    where no instance took the request, the status of its answer).
    """
    text = _text(event_data, "textPayload")
    if not _text(event_data, "logName").endswith(_FUNCTION_LOG):
        return None
    if text.lower().startswith(_NO_INSTANCE):
        return _turned_away(event_data)
    if not _TOOK.match(text):
        return None
    entry = msgspec.convert(event_data, _LogEntry)
    if not entry.labels.get("execution_id"):
        return None
    end = _FINISHED.fullmatch(text)
    if end is None:  # perhaps a third wording: to be seen, not lost, and by no means guessed
        raise MalformedEventError("cloud_function event", "its textPayload ends in no wording that we know")
    outcome = f"HTTP {end['code']}" if end["code"] else end["word"]
    return _answered(event_data, entry, (entry.name("function_name"), None), entry.name("region"), outcome)


def _turned_away(event_data: dict[str, Any]) -> CloudFunctionEvent | None:
    """First generation: no instance took the request, so there is no execution whose end could be logged."""
    request = event_data.get("httpRequest")
    if not isinstance(request, dict) or "status" not in request:
        return None
    entry = msgspec.convert(event_data, _RequestEntry)
    outcome = f"HTTP {entry.http_request.status}"
    return _answered(event_data, entry, (entry.name("function_name"), None), entry.name("region"), outcome)


def _request_end(event_data: dict[str, Any]) -> CloudFunctionEvent | None:
    """Second generation and Cloud Run: the request log. Severity does not count, it may be INFO with status 500."""
    if not _text(event_data, "logName").endswith(_REQUEST_LOG):
        return None
    entry = msgspec.convert(event_data, _RequestEntry)
    request, service = entry.http_request, entry.name_or_none("service_name")
    names = (entry.labels.get(_FUNCTION_LABEL) or entry.name("service_name"), service)
    return _answered(
        event_data, entry, names, entry.name("location"), f"HTTP {request.status}", user_agent=request.user_agent
    )


def _answered(  # noqa: PLR0913, PLR0917  the parts of one event
    event_data: dict[str, Any],
    entry: _LogEntry,
    names: tuple[str, str | None],
    region: str,
    outcome: str,
    user_agent: str | None = None,
) -> CloudFunctionEvent:
    """Build the event of an answered request; *outcome* is ``HTTP <code>`` or the platform's word."""
    text = entry.text_payload
    failure = None
    if not _SUCCESS.fullmatch(outcome):
        timed_out = _TIMEOUT.fullmatch(outcome) or "maximum request timeout" in text
        kind = "Timeout" if timed_out else outcome
        failure = Failure.of(kind, f"{names[0]} ended with {outcome}", text or None)
    return CloudFunctionEvent(
        event_data=event_data,
        target_type=TargetTypes.CLOUD_FUNCTION,
        task_name=names[0],
        service_name=names[1],
        execution_id=_id_or_none(entry.labels.get("execution_id", "")),
        status=TaskStatus.FAILED if failure else TaskStatus.COMPLETED,
        execution_key=entry.execution_key,
        region=region,
        user_agent=user_agent,
        failure=failure,
        event_id=_event_id(event_data, entry),
        never_ran=bool(failure) and (outcome == "HTTP 429" or _NO_INSTANCE in text.lower()),
    )


def _event_id(event_data: dict[str, Any], entry: _LogEntry) -> str:
    """Source: Cloud Logging documentation, "LogEntry": entries of one timestamp and insertId are duplicates."""
    parts = _text(event_data, "insertId"), _text(event_data, "timestamp"), entry.labels.get("execution_id", "")
    return sha256("/".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _job_line(event_data: dict[str, Any]) -> DataflowEvent | None:
    """The few job messages that mean an end, in whichever log: that of the launcher's is not documented."""
    text = _text(event_data, "textPayload")
    if not _JOB_OVER.match(text):
        return None
    entry = msgspec.convert(event_data, _LogEntry)
    return _job_over(
        event_data, entry.name_or_none("job_id"), entry.name_or_none("job_name"), None, entry.name("region"), text
    )


def _job_status(event_data: dict[str, Any]) -> DataflowEvent | None:
    """A CloudEvent from Eventarc, which carries the whole job."""
    job = msgspec.convert(event_data, _StatusChanged).data.payload
    if job.current_state not in TERMINAL_JOB_STATES:  # an unknown state means: not yet
        return None
    label = _KEY.fullmatch(job.labels.get(EXECUTION_LABEL, ""))
    return _job_over(event_data, job.id or None, job.name or None, _key(label), job.location, job.current_state)


def _job_over(  # noqa: PLR0913, PLR0917  the parts of one event
    event_data: dict[str, Any],
    job_id: str | None,
    name: str | None,
    key: ExecutionId | None,
    region: str,
    hint: str,
) -> DataflowEvent:
    """Build the event of a job. Our key, in a label or at the end of the name, identifies the job as well as its id."""
    key = key or _key(_KEY_AT_END.search(name or ""))
    if job_id is None and key is None:
        raise MalformedEventError("Dataflow event", "it has neither the id of a job nor the name of one of ours")
    return DataflowEvent(
        event_data=event_data,
        target_type=TargetTypes.DATAFLOW,
        task_name=name,
        execution_id=None if job_id is None else execution_id(job_id),
        execution_key=key,
        region=region,
        hint=hint,
    )


_BY_RESOURCE: dict[str, Callable[[dict[str, Any]], Event | None]] = {
    "start": _start,
    "cancel": _cancel,
    "cloud_function": _function_end,
    "cloud_run_revision": _request_end,
    "dataflow_step": _job_line,
}
_BY_TYPE: dict[str, Callable[[dict[str, Any]], Event | None]] = {
    "google.cloud.dataflow.job.v1beta3.statusChanged": _job_status,
}


def _text(mapping: dict[str, Any], key: str) -> str:
    """Return the text there, or an empty one: for telling messages apart, before their types are checked."""
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def _key(match: re.Match[str] | None) -> ExecutionId | None:
    return ExecutionId(match[1]) if match else None


def _id_or_none(value: str) -> ExecutionId | None:
    # Functions with other triggers run under their event's id, which may be anything: none is a call of ours.
    try:
        return execution_id(value)
    except InvalidIdError:
        return None


def _refuse_deep(value: dict[str, Any]) -> None:
    """Raise unless *value* has at most `NESTING_MAX` levels. Level by level: recursion is what it guards against."""
    level: list[Any] = [value]
    for _ in range(NESTING_MAX):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise MalformedEventError("message", f"it is nested deeper than {NESTING_MAX} levels")
