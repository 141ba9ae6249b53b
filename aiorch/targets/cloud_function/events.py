"""
Decoders of the log entries that tell the end of a call.

Source: Cloud Logging documentation, "Monitored resource types".
"""

import re
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aiorch.errors import MalformedEventError
from aiorch.events.event import CloudFunctionEvent
from aiorch.events.log_entry import LogEntry, id_or_none, text_of
from aiorch.model.failure import Failure
from aiorch.model.status import TaskStatus
from aiorch.targets.cloud_function import KIND

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
_NO_INSTANCE = "the request was aborted because there was no available instance"


class _HttpRequest(msgspec.Struct, rename="camel"):
    status: Annotated[int, Meta(ge=100, le=599)]
    user_agent: str = ""


class _RequestEntry(LogEntry, rename="camel", kw_only=True):
    """An entry about a request. Only the status tells the outcome of the request."""

    http_request: _HttpRequest


def function_end(event_data: dict[str, Any]) -> CloudFunctionEvent | None:
    """
    First generation: a line of the platform, among those of the function itself.

    Two marks tell the two apart: the whole text is the platform's sentence, and the platform names the execution (or,
    where no instance took the request, the status of its answer).
    """
    text = text_of(event_data, "textPayload")
    if not text_of(event_data, "logName").endswith(_FUNCTION_LOG):
        return None
    if text.lower().startswith(_NO_INSTANCE):
        return _turned_away(event_data)
    if not _TOOK.match(text):
        return None
    entry = msgspec.convert(event_data, LogEntry)
    if not entry.labels.get("execution_id"):
        return None
    end = _FINISHED.fullmatch(text)
    if end is None:  # perhaps a third wording: an error shows it, and we never guess
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


def request_end(event_data: dict[str, Any]) -> CloudFunctionEvent | None:
    """Second generation and Cloud Run: the request log. Severity does not count: status 500 may come with INFO."""
    if not text_of(event_data, "logName").endswith(_REQUEST_LOG):
        return None
    entry = msgspec.convert(event_data, _RequestEntry)
    request, service = entry.http_request, entry.name_or_none("service_name")
    names = (entry.labels.get(_FUNCTION_LABEL) or entry.name("service_name"), service)
    return _answered(
        event_data, entry, names, entry.name("location"), f"HTTP {request.status}", user_agent=request.user_agent
    )


def _answered(  # noqa: PLR0913, PLR0917  the parts of one event
    event_data: dict[str, Any],
    entry: LogEntry,
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
        target_type=KIND.name,
        task_name=names[0],
        service_name=names[1],
        execution_id=id_or_none(entry.labels.get("execution_id", "")),
        status=TaskStatus.FAILED if failure else TaskStatus.COMPLETED,
        execution_key=entry.execution_key,
        region=region,
        user_agent=user_agent,
        failure=failure,
        event_id=_event_id(event_data, entry),
        never_ran=bool(failure) and (outcome == "HTTP 429" or _NO_INSTANCE in text.lower()),
    )


def _event_id(event_data: dict[str, Any], entry: LogEntry) -> str:
    """Source: Cloud Logging documentation, "LogEntry": entries of one timestamp and insertId are duplicates."""
    parts = text_of(event_data, "insertId"), text_of(event_data, "timestamp"), entry.labels.get("execution_id", "")
    return sha256("/".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]
