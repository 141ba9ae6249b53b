"""`Observer`: receives facts about the work of the engine."""

from typing import Protocol

from aiorch.model.status import RunStatus
from aiorch.ports.target import Answer


class Observer(Protocol):
    """Receives facts about the work of the engine, for metrics. All methods are quick, and never raise."""

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:
        """
        Count a delivery that was acknowledged or given back.

        Args:
            kind: ``start``, ``cancel``, ``function``, ``dataflow``; ``other``: a foreign or unreadable message.

            outcome: The outcome of the delivery, see `aiorch.engine.receipt.Outcome`.

            seconds: Time since the process received the delivery.
        """
        ...

    def committed(self, events: int, seconds: float) -> None:
        """Count a written run document, with the number of its events and the duration of the write."""
        ...

    def throttled(self) -> None:
        """Count a commit that the store refused for its rate."""
        ...

    def run_ended(self, status: RunStatus) -> None:
        """Count the end of a run, committed by this process."""
        ...

    def conflicted(self) -> None:
        """Count a commit that the store refused because a different process had written the run."""
        ...

    def launched(self, target_type: str) -> None:
        """Count an execution that was handed to its target."""
        ...

    def ended(self, target_type: str, answer: Answer, seconds: float) -> None:
        """Count the answer to an execution, with its time under way in this process."""
        ...


class NoObserver:
    """An `Observer` that ignores all facts."""

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def committed(self, events: int, seconds: float) -> None:
        """Do nothing."""

    def throttled(self) -> None:
        """Do nothing."""

    def run_ended(self, status: RunStatus) -> None:
        """Do nothing."""

    def conflicted(self) -> None:
        """Do nothing."""

    def launched(self, target_type: str) -> None:
        """Do nothing."""

    def ended(self, target_type: str, answer: Answer, seconds: float) -> None:
        """Do nothing."""
