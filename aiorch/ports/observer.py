"""`Observer`: is told what the engine does."""

from typing import Protocol

from aiorch.model.status import RunStatus
from aiorch.ports.target import Answer


class Observer(Protocol):
    """Is told what the engine does, for metrics. Its methods are quick and raise nothing."""

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:
        """
        A delivery was answered for.

        Args:
            kind: ``start``, ``cancel``, ``function``, ``dataflow``; ``other``: none of ours, or it cannot be read.

            outcome: What became of it, see `aiorch.engine.receipt.Outcome`.

            seconds: Since it was received.
        """
        ...

    def committed(self, events: int, seconds: float) -> None:
        """A run document was written, with this many events in it; the write took so long."""
        ...

    def throttled(self) -> None:
        """A commit was refused for its rate."""
        ...

    def run_ended(self, status: RunStatus) -> None:
        """The end of a run was committed here."""
        ...

    def conflicted(self) -> None:
        """A commit found somebody else's."""
        ...

    def launched(self, target_type: str) -> None:
        """An execution was handed to its target."""
        ...

    def ended(self, target_type: str, answer: Answer, seconds: float) -> None:
        """What came of an execution, and how long it was under way here."""
        ...


class NoObserver:
    """An `Observer` that does not listen."""

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
