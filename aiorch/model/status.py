"""Statuses of nodes and of runs. Stored documents hold the values."""

from enum import StrEnum


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
        """Whether the status never changes again."""
        return self in _TERMINAL_TASK


class RunStatus(StrEnum):
    """
    Status of a run.

    ``Running`` -> ``Completed``, or ``Failing`` -> ``Failed``, or ``Cancelling`` -> ``Cancelled``.
    """

    RUNNING = "Running"
    FAILING = "Failing"
    CANCELLING = "Cancelling"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the run never changes again."""
        return self in _TERMINAL_RUN


_TERMINAL_TASK = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED})
_TERMINAL_RUN = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
