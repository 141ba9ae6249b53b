"""
The meaning of the answers of the Dataflow API. Pure: this module opens no connection.

A job in a state that is final has ended:

    DONE, DRAINED    Succeeded    ``{"job_id": …, "job_name": …, "state": …, "project_id": …, "region": …}``
    FAILED           Failed       ``JobFailed``, with the job's error messages as its cause
    CANCELLED        Failed       ``JobCancelled``
    UPDATED          follow the job that replaced it
    any other        not yet; states that are new to us included

Source: Dataflow REST reference v1b3, "Job".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from aiorch.errors import InvalidIdError
from aiorch.events.event import EXECUTION_LABEL, TERMINAL_JOB_STATES
from aiorch.model.failure import Failure
from aiorch.model.names import execution_id
from aiorch.ports.target import Accepted, Answer, Failed, Succeeded
from aiorch.targets.dataflow.launch import Place

_FINE_BY_ITSELF = frozenset({"JOB_STATE_DONE", "JOB_STATE_DRAINED"})
_RATE_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RESOURCE_EXHAUSTED"})
_JOBS_QUOTA = re.compile(r"jobs-per-project quota|limit for active jobs|too many running jobs", re.IGNORECASE)


_NEXT_MOVES = {
    400: ". Look at the template's parameters and at the step's environment",
    401: ". Give this process credentials for Google Cloud",
    403: ". Give the account of this process the role roles/dataflow.developer in that project, and "
    "roles/iam.serviceAccountUser on the account that the job's workers run as; is the Dataflow API enabled there?",
    404: ". Are the project, the region and the template's path right?",
}


class Job(NamedTuple):
    """The fields of a job that we read. Any field may be missing in any answer."""

    id: str
    name: str = ""
    state: str = ""
    labels: Mapping[str, str] = {}
    replaced_by: str | None = None
    created_at: str = ""
    """RFC 3339 in the API's own form: UTC, so that times compare as text."""

    @property
    def has_ended(self) -> bool:
        """No state follows."""
        return self.state in TERMINAL_JOB_STATES

    def bears(self, key: str) -> bool | None:
        """Whether the job's label names the execution with this key; `None` when there is no such label."""
        label = self.labels.get(EXECUTION_LABEL)
        return None if label is None else label == key


class Refusal(NamedTuple):
    """An answer that is no success."""

    status: int
    reason: str
    message: str

    @property
    def says_busy(self) -> bool:
        """The API refused for load or for a quota, did no part of the request, and may accept a later one."""
        return (
            self.status == 429
            or self.reason in _RATE_REASONS
            or (400 <= self.status < 500 and _JOBS_QUOTA.search(self.message) is not None)
        )

    @property
    def says_exists(self) -> bool:
        """A job of that name is active, perhaps ours."""
        return self.status == 409

    @property
    def says_nothing(self) -> bool:
        """The API may have done the request, or may not."""
        return self.status == 408 or self.status >= 500

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"HTTP {self.status}{reason}: {self.message}".rstrip(": ")


class _JobFields(msgspec.Struct, rename="camel", gc=False):
    """The fields of a job in an answer, of which any may be missing."""

    id: str | None = None
    name: str | None = None
    current_state: str | None = None
    labels: dict[str, str] | None = None
    replaced_by_job_id: str | None = None
    create_time: str | None = None


def read_job(data: Any, asked_for: str = "") -> Job | None:
    """
    Return the job that a part of an answer describes, or `None` when the part describes no job.

    A job with a field of a wrong type counts as no job: without labels, a job of a foreign execution would look like
    ours.

    Args:
        data: Any JSON.

        asked_for: Id of the job, for an answer that gives no id.
    """
    try:
        fields = msgspec.convert(data, _JobFields)
        job_id = execution_id(fields.id or asked_for)
    except (msgspec.ValidationError, InvalidIdError):
        return None
    return Job(
        id=job_id,
        name=fields.name or "",
        state=fields.current_state or "",
        labels=fields.labels or {},
        replaced_by=fields.replaced_by_job_id or None,
        created_at=fields.create_time or "",
    )


def adopt(jobs: Sequence[Job], key: str, place: Place) -> Answer | None:
    """
    Judge the jobs that bear the name of an execution: ``Accepted`` for the execution's own job, `None` for a free name.

    A job whose label names a different execution is foreign, even under the same name. A job without the label counts
    as ours: the API may show labels late, and no other program draws the 32 hex digits of this execution. Of several
    jobs the oldest is ours: copies that a user made by hand are younger.

    Args:
        jobs: All jobs of that name, ended jobs included.

        key: Key of the execution.

        place: Project and region of the jobs.
    """
    ours = [job for job in jobs if job.bears(key)] or [job for job in jobs if job.bears(key) is None]
    if ours:
        return Accepted(min(ours, key=lambda job: job.created_at).id)
    for job in jobs:
        if not job.has_ended:
            message = (
                f"the name {job.name!r} is taken in {place.project_id}, {place.region}: job {job.id} has it, whose "
                f"label {EXECUTION_LABEL} is {job.labels.get(EXECUTION_LABEL)!r} and not {key!r}. It was left alone, "
                f"and nothing was launched. Find the owner of that job; the next attempt has a new name"
            )
            return Failed(Failure.of("JobNameTaken", message))
    return None


def refused(refusal: Refusal, name: str, place: Place) -> Failed:
    """Return the failure of a launch that the API refused for good."""
    message = f"job {name!r} was not launched in {place.project_id}, {place.region}: {refusal}"
    return Failed(Failure.of(f"HTTP {refusal.status}", message + _NEXT_MOVES.get(refusal.status, "")))


def read_refusal(status: int, body: bytes) -> Refusal:
    """Return the reason in an answer other than 2xx: an answer of the API itself, which is JSON, or of a proxy."""
    try:
        error = msgspec.json.decode(body)["error"]
        errors = error.get("errors") or [{}]
        reason = _text(errors[0], "reason") or _text(error, "status")
        message = _text(error, "message")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Refusal(status, "", body.decode(errors="replace").strip())
    return Refusal(status, reason, message)


def read_jobs(data: Mapping[str, Any]) -> list[Job] | None:
    """Return the jobs on one page of a listing, or `None` when the page may lack some."""
    found = data.get("jobs", [])
    if data.get("failedLocation") or not isinstance(found, list) or not isinstance(data.get("nextPageToken", ""), str):
        return None
    jobs = [read_job(each) for each in found]
    return [job for job in jobs if job is not None] if None not in jobs else None


def next_page(data: Mapping[str, Any]) -> str:
    """Return the token of the page that follows, ``""`` for the last page."""
    return _text(data, "nextPageToken")


def read_messages(data: Mapping[str, Any]) -> list[str]:
    """Return the texts of one page of a job's messages."""
    found = data.get("jobMessages")
    messages = found if isinstance(found, list) else []
    texts = [_text(message, "messageText") for message in messages if isinstance(message, dict)]
    return [text for text in texts if text]


def outcome(job: Job, place: Place, messages: Sequence[str]) -> Answer | None:
    """
    Return the outcome of a job, or `None` while the outcome is not known.

    Args:
        job: The job in its present state; for a job that was replaced, the last replacement.

        place: Project and region of the job.

        messages: The job's error messages, oldest first; read for a job that has failed.
    """
    where = f"Dataflow job {job.name!r} ({job.id}) in {place.region}"
    match job.state:
        case state if state in _FINE_BY_ITSELF:
            result = {
                "job_id": job.id,
                "job_name": job.name,
                "state": state,
                "project_id": place.project_id,
                "region": place.region,
            }
            return Succeeded(msgspec.json.encode(result))
        case "JOB_STATE_FAILED":
            why = _first_cause(messages) or "it gave no error message; look at its logs"
            return Failed(Failure.of("JobFailed", f"{where} failed: {why}", "\n".join(messages) or None))
        case "JOB_STATE_CANCELLED":
            return Failed(Failure.of("JobCancelled", f"{where} was cancelled"))
        case _:
            return None


def _first_cause(messages: Sequence[str]) -> str | None:
    """Return the message that sums up the failure, else the last message."""
    for message in reversed(messages):
        if message.startswith("Workflow failed."):
            return message
    return messages[-1] if messages else None


def _text(mapping: Any, key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""
