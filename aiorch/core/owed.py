"""Obligations: the work that the entries of a committed run require from their owners."""

from enum import StrEnum

from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus


class Obligation(StrEnum):
    """The work that one entry of a committed run requires from its owner."""

    LAUNCH = "launch"
    AWAIT = "await"
    """Wait for the end of the execution, unless this process waits already."""

    STOP = "stop"
    RETRY = "retry"


def obligation(state: NodeState, process_id: str) -> Obligation | None:
    """Return the obligation of *process_id* to a task of a committed run. Launches follow from this alone."""
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
