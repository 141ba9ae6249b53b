"""`Receipt`: the run and the task that an event is about, and the outcome of its handling."""

from enum import StrEnum

from aiorch.documents.executions import Execution


class Outcome(StrEnum):
    """What became of a delivery."""

    APPLIED = "applied"
    """What it says is committed, by it or before it; acknowledged."""

    HINTED = "hinted"
    """The target is asked about it; acknowledged."""

    FOREIGN = "foreign"
    """None of ours; acknowledged."""

    OWN = "own"
    """The end of a request to this orchestrator itself; acknowledged."""

    DROPPED = "dropped"
    """Its run is gone, so there is nothing to do; acknowledged, with a warning."""

    PARKED = "parked"
    """Nothing can be done with it; put under ``rejected/`` and acknowledged, with a warning."""

    RETURNED = "returned"
    """It cannot be handled now or here; given back."""


class Receipt:
    """
    An event while it is handled, and after.

    Attributes:
        kind: ``start``, ``cancel``, ``function``, ``dataflow``; ``other``: no event of a run.

        run_id, node, attempt, execution_id: The run and the execution that the event is about, as far as known.

        outcome: What became of the event.
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
