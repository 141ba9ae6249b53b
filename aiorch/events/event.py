"""Events in messages: the end of an execution, the start or the cancel of a run."""

from typing import Any, ClassVar

import msgspec

from aiorch.model.failure import Failure
from aiorch.model.names import ExecutionId, RunId
from aiorch.model.status import TaskStatus

NAME_CHARS_MAX = 1024
"""Limit of names: the longest is that of a Dataflow job. Source: Dataflow REST reference v1b3, "jobName"."""

REASON_CHARS_MAX = 1000
"""Limit of the reason of a cancel, which the run document holds."""

EXECUTION_LABEL = "aiorch_execution"
"""User label of a Dataflow job whose value is the execution key."""

TERMINAL_JOB_STATES = frozenset(f"JOB_STATE_{state}" for state in ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED"))
"""Dataflow job states that no job leaves. Source: Dataflow REST reference v1b3, "JobState"."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The event in one message: a `StartEvent`, `CancelEvent`, `CloudFunctionEvent` or `DataflowEvent`."""

    event_data: dict[str, Any]
    """The original JSON object; not to be changed."""

    target_type: str
    """Target type of the execution; ``Start`` for requests, also for a cancel."""

    task_name: str | None = None
    """Name of the function, service or job. `None` for a start or cancel."""

    execution_id: str | None = None
    """Id of the execution on the platform, valid in an object name; `None` if the event has none."""

    run_id: RunId | None = None
    """The run of a start or cancel. No other event names its run."""

    status: TaskStatus = TaskStatus.NEW
    """Outcome of the execution: ``Completed`` or ``Failed``; ``New`` if the event does not tell the outcome."""

    execution_key: ExecutionId | None = None
    """The execution id of aiorch, 32 hex digits, if the event has one. It is not trusted: compare with the record."""

    region: str | None = None


class StartEvent(Event, frozen=True, kw_only=True):
    """
    A request to start a run.

    ``{"resource": {"type": "start", "labels": {"dag": "etl", "run_id": "etl-7"}}, "parameters": {...}}``, where all
    but ``{"resource": {"type": "start"}}`` may be left out. Without ``run_id``, `start_run_id` gives the run id.
    """

    dag: str | None = None
    """Name of the DAG; `None`: the only served DAG."""

    parameters: dict[str, Any]
    """The input of the run, a JSON value."""


class CancelEvent(Event, frozen=True, kw_only=True):
    """
    A request to end a run.

    ``{"resource": {"type": "cancel", "labels": {"run_id": "etl-7"}}, "reason": "...", "force": false}``; the reason and
    `force` may be left out.
    """

    reason: str
    force: bool = False
    """Also stop the level `finally`, or let it never begin."""


class Completion(Event, frozen=True, kw_only=True):
    """The end of an execution, possibly of a different caller. ``status`` is ``Completed`` or ``Failed``."""

    label: ClassVar[str] = "completion"
    """The kind of message in metrics."""

    user_agent: str | None = None
    """User agent of the caller, ``""`` if missing; `None` if events of this shape need not name the caller."""

    failure: Failure | None = None
    """Reason of a failure: ``HTTP 500``, ``Timeout`` or a word of the platform; `None` after a success."""

    event_id: str = ""
    """Id of the event: the same for each delivery of one message, different for each request."""

    never_ran: bool = False
    """The platform refused the request for load (``status`` is ``Failed``): the same attempt may be sent again."""

    @property
    def names(self) -> frozenset[str]:
        """All names of the target."""
        return frozenset(name for name in (self.task_name,) if name)


class Hint(Event, frozen=True, kw_only=True):
    """
    A hint that an execution has ended: poll its target, and again later if the target does not know the end yet.

    ``execution_id`` is the id of the target; `None` only if ``execution_key`` identifies the execution.
    """

    label: ClassVar[str] = "hint"
    """The kind of message in metrics."""

    hint: str
    """The text of the message."""


class CloudFunctionEvent(Completion, frozen=True, kw_only=True):
    """A function (either generation) or a Cloud Run service has answered a request, possibly of a different caller."""

    label: ClassVar[str] = "function"

    service_name: str | None = None
    """The Cloud Run service behind a function of the second generation: the name with dashes for underscores."""

    @property
    def names(self) -> frozenset[str]:
        """All names of the target."""
        return frozenset(name for name in (self.task_name, self.service_name) if name)


class DataflowEvent(Hint, frozen=True, kw_only=True):
    """
    A hint that a Dataflow job has ended. The text is the log line, or one of `TERMINAL_JOB_STATES`.

    ``status`` is always ``New``: "Worker pool stopped." also follows failures, and one end causes up to three events in
    any order.
    """

    label: ClassVar[str] = "dataflow"
