"""The closed sets of the design. Values are what stands in definitions and in stored documents."""

from enum import StrEnum


class NodeTypes(StrEnum):
    """Kind of a node."""

    TASK = "Task"
    PARALLEL = "Parallel"


class TargetTypes(StrEnum):
    """What a task launches; ``Start`` is the type of start events and never of a task."""

    START = "Start"
    FUNCTION = "Function"
    CLOUD_FUNCTION = "CloudFunction"
    DATAFLOW = "Dataflow"


class DataflowTemplateType(StrEnum):
    """How a Dataflow job is packaged."""

    CLASSIC = "Classic"
    FLEX = "Flex"


class OnFailure(StrEnum):
    """What a ``Parallel`` does with its other branches when one has failed."""

    FAIL_FAST = "fail_fast"
    WAIT = "wait"


class OnLost(StrEnum):
    """What becomes of an attempt whose outcome will never be known."""

    RETRY = "retry"
    FAIL = "fail"


class OnNoResult(StrEnum):
    """What becomes of a call that succeeded, as an event says, and whose answer with the result was lost."""

    ACCEPT = "accept"
    """The task completes, and its result is null."""

    CALL_AGAIN = "call_again"
    """The same execution is sent again, under its execution id."""

    FAIL = "fail"


class TaskStatus(StrEnum):
    """
    Status of a node in a run.

    ``New`` -> ``Starting`` (the intent to launch is committed) -> ``Running`` -> a terminal status, with
    ``Retrying`` between two attempts. A ``Parallel`` uses ``New``, ``Running`` and the terminal ones.
    ``(attempt, status)`` never moves backwards.
    """

    NEW = "New"
    STARTING = "Starting"
    RUNNING = "Running"
    RETRYING = "Retrying"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SKIPPED = "Skipped"

    @property
    def is_terminal(self) -> bool:
        """No event leaves this status."""
        return self in _TERMINAL_TASK


class RunStatus(StrEnum):
    """Status of a run: ``Running`` -> ``Completed``, or through ``Failing`` / ``Cancelling`` to its end."""

    RUNNING = "Running"
    FAILING = "Failing"
    CANCELLING = "Cancelling"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_terminal(self) -> bool:
        """A run in this status never changes again."""
        return self in _TERMINAL_RUN


_TERMINAL_TASK = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED})
_TERMINAL_RUN = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
