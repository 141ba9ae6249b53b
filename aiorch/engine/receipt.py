"""`Receipt`: the run and the task that an event is about, and the outcome of its handling."""

from enum import StrEnum

from aiorch.documents.executions import Execution


class Outcome(StrEnum):
    """The way in which the handling of a delivery ended."""

    APPLIED = "applied"
    """The run contains the fact of the event, from this delivery or an earlier one; acknowledged."""

    HINTED = "hinted"
    """This process asks the target about the execution; acknowledged."""

    FOREIGN = "foreign"
    """The event is about no run of this store; acknowledged."""

    OWN = "own"
    """The event tells the end of a request to this orchestrator itself; acknowledged."""

    DROPPED = "dropped"
    """The run of the event is gone, so no work is left; acknowledged, with a warning."""

    PARKED = "parked"
    """No process can handle the event; put under ``rejected/`` and acknowledged, with a warning."""

    RETURNED = "returned"
    """This process cannot handle the event, or not now; given back."""


class Receipt:
    """
    The facts about one event, during its handling and afterwards.

    Attributes:
        kind: ``start``, ``cancel``, ``function``, ``dataflow``; ``other``: no event of a run.

        run_id, node, attempt, execution_id: The run and the execution that the event is about, as far as known.

        outcome: The way in which the handling ended.
    """

    __slots__ = ("attempt", "execution_id", "kind", "node", "outcome", "run_id")

    def __init__(self) -> None:
        self.kind: str = "other"
        self.run_id: str | None = None
        self.node: str | None = None
        self.attempt: int | None = None
        self.execution_id: str | None = None
        self.outcome: Outcome = Outcome.RETURNED

    def __repr__(self) -> str:
        return f"<Receipt {self.kind} {self.run_id} {self.outcome}>"

    def is_about(self, record: Execution) -> None:
        """Take over the facts of an execution's record."""
        self.run_id, self.node = record.run_id, record.node_name
        self.attempt, self.execution_id = record.attempt, record.execution_id
