"""Events: the end of an execution, the start or the cancel of a run, as a message tells it."""

from typing import Any, ClassVar

import msgspec

from aiorch.model.failure import Failure
from aiorch.model.names import ExecutionId, RunId
from aiorch.model.status import TaskStatus

NAME_CHARS_MAX = 1024
"""The longest of all names is a Dataflow job's. Source: Dataflow REST reference v1b3, "jobName"."""

REASON_CHARS_MAX = 1000
"""Of a cancel: it is kept in the run's document."""

EXECUTION_LABEL = "aiorch_execution"
"""User label of a Dataflow job whose value is the execution key."""

TERMINAL_JOB_STATES = frozenset(f"JOB_STATE_{state}" for state in ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED"))
"""Dataflow job states that no job leaves. Source: Dataflow REST reference v1b3, "JobState"."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What one message says. The kinds are `StartEvent`, `CancelEvent`, `CloudFunctionEvent` and `DataflowEvent`."""

    event_data: dict[str, Any]
    """The original JSON object; not to be changed."""

    target_type: str
    """Of what it tells about; ``Start`` for what somebody asks for, a cancel included."""

    task_name: str | None = None
    """Name of the target: of the function or service, or of the job. `None` for a start or cancel."""

    execution_id: str | None = None
    """The platform's own id of the execution, fit for an object name; `None` where the event bears none."""

    run_id: RunId | None = None
    """The run that a start or cancel asks for. No other event knows its run."""

    status: TaskStatus = TaskStatus.NEW
    """Outcome of the execution: ``Completed`` or ``Failed``; ``New`` where the event does not tell one."""

    execution_key: ExecutionId | None = None
    """The key that we gave the execution, 32 hex digits, if it carries one. Anyone may have chosen it: compare."""

    region: str | None = None


class StartEvent(Event, frozen=True, kw_only=True):
    """
    Somebody asks for a run.

    ``{"resource": {"type": "start", "labels": {"dag": "etl", "run_id": "etl-7"}}, "parameters": {...}}``, where all
    but ``{"resource": {"type": "start"}}`` may be left out. Without ``run_id`` the run is `start_run_id`'s.
    """

    dag: str | None = None
    """Name of the DAG; `None`: the only one there is."""

    parameters: dict[str, Any]
    """The run's input. Can be encoded as JSON."""


class CancelEvent(Event, frozen=True, kw_only=True):
    """
    Somebody wants a run to end.

    ``{"resource": {"type": "cancel", "labels": {"run_id": "etl-7"}}, "reason": "..."}``; the reason may be left out.
    """

    reason: str


class Completion(Event, frozen=True, kw_only=True):
    """An execution has ended, perhaps none of ours. ``status`` is ``Completed`` or ``Failed``."""

    label: ClassVar[str] = "completion"
    """Of metrics: the kind of message."""

    user_agent: str | None = None
    """Caller, ``""`` when the event names none; `None` where events of this shape need not name the caller."""

    failure: Failure | None = None
    """Why it failed, as ``HTTP 500``, ``Timeout`` or the platform's own word; `None` when it completed."""

    event_id: str = ""
    """The same for one message however often it is delivered, another one for each request."""

    never_ran: bool = False
    """The platform turned the request away for load (``status`` is ``Failed``): the same attempt may be sent again."""

    @property
    def names(self) -> frozenset[str]:
        """Every name that the target goes by."""
        return frozenset(name for name in (self.task_name,) if name)


class Hint(Event, frozen=True, kw_only=True):
    """
    An execution seems to be over: ask its target how it ended, and again later if it does not know yet.

    ``execution_id`` is the target's own id; `None` only where ``execution_key`` tells which execution it is.
    """

    label: ClassVar[str] = "hint"
    """Of metrics: the kind of message."""

    hint: str
    """The words of the message."""


class CloudFunctionEvent(Completion, frozen=True, kw_only=True):
    """A function (either generation) or a Cloud Run service has answered a request, perhaps not one of ours."""

    label: ClassVar[str] = "function"

    service_name: str | None = None
    """The Cloud Run service behind a function of the second generation: its name with dashes for underscores."""

    @property
    def names(self) -> frozenset[str]:
        """Every name that the target goes by."""
        return frozenset(name for name in (self.task_name, self.service_name) if name)


class DataflowEvent(Hint, frozen=True, kw_only=True):
    """
    A Dataflow job seems to be over. The hint is the log line, or one of `TERMINAL_JOB_STATES`.

    ``status`` is always ``New``: "Worker pool stopped." follows failures too, and of one end there are up to three
    events in any order.
    """

    label: ClassVar[str] = "dataflow"
