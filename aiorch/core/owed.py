"""The work that a committed run owes. Launches follow from it alone."""

from enum import StrEnum

from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus


class Obligation(StrEnum):
    """What one entry of a committed run owes, and its process does."""

    LAUNCH = "launch"
    AWAIT = "await"
    """Find out how it ends, if nobody here does so already."""

    STOP = "stop"
    RETRY = "retry"


def obligation(state: NodeState, process_id: str) -> Obligation | None:
    """Return what *process_id* owes to a task, as the committed run has it. Launches follow from this alone."""
    if state.by != process_id:
        return None
    status = state.status
    if status is TaskStatus.RETRYING:
        return Obligation.RETRY
    if status is TaskStatus.STARTING or status is TaskStatus.RUNNING:
        if state.stop:
            return Obligation.STOP
        return Obligation.LAUNCH if status is TaskStatus.STARTING or state.calls_again else Obligation.AWAIT
    return None
