"""
Decoders of the messages that tell the end of a job.

Source: Cloud Logging documentation, "Monitored resource types"; Eventarc documentation, "Dataflow".
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aiorch.errors import MalformedEventError
from aiorch.events.event import EXECUTION_LABEL, NAME_CHARS_MAX, TERMINAL_JOB_STATES, DataflowEvent
from aiorch.events.log_entry import LogEntry, Name, key_in, text_of
from aiorch.model.names import ExecutionId, execution_id
from aiorch.targets.dataflow import KIND

_JOB_OVER = re.compile(r"Worker pool stopped\.\Z|Workflow failed\.|Error occurred in the launcher container")
_KEY = re.compile(r"([0-9a-f]{32})")
_KEY_AT_END = re.compile(r"-([0-9a-f]{32})\Z")


class _Job(msgspec.Struct, rename="camel"):
    location: Name
    id: str = ""
    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX)] = ""
    current_state: str = "JOB_STATE_UNKNOWN"
    labels: dict[str, str] = {}


class _JobEventData(msgspec.Struct):
    payload: _Job


class _StatusChanged(msgspec.Struct):
    data: _JobEventData


def job_line(event_data: dict[str, Any]) -> DataflowEvent | None:
    """Decode the few job messages that mean an end, in any log: no documentation names the launcher's log."""
    text = text_of(event_data, "textPayload")
    if not _JOB_OVER.match(text):
        return None
    entry = msgspec.convert(event_data, LogEntry)
    return _job_over(
        event_data, entry.name_or_none("job_id"), entry.name_or_none("job_name"), None, entry.name("region"), text
    )


def job_status(event_data: dict[str, Any]) -> DataflowEvent | None:
    """A CloudEvent from Eventarc, which carries the whole job."""
    job = msgspec.convert(event_data, _StatusChanged).data.payload
    if job.current_state not in TERMINAL_JOB_STATES:  # an unknown state means: not yet
        return None
    label = _KEY.fullmatch(job.labels.get(EXECUTION_LABEL, ""))
    return _job_over(event_data, job.id or None, job.name or None, key_in(label), job.location, job.current_state)


def _job_over(  # noqa: PLR0913, PLR0917  the parts of one event
    event_data: dict[str, Any],
    job_id: str | None,
    name: str | None,
    key: ExecutionId | None,
    region: str,
    hint: str,
) -> DataflowEvent:
    """Build the event of a job. Our key, in a label or at the end of the name, identifies the job as well as its id."""
    key = key or key_in(_KEY_AT_END.search(name or ""))
    if job_id is None and key is None:
        raise MalformedEventError("Dataflow event", "it has neither the id of a job nor the name of one of ours")
    return DataflowEvent(
        event_data=event_data,
        target_type=KIND.name,
        task_name=name,
        execution_id=None if job_id is None else execution_id(job_id),
        execution_key=key,
        region=region,
        hint=hint,
    )
