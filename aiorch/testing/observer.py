"""An observer that counts."""

from collections import Counter

from aiorch.model.status import RunStatus
from aiorch.ports.target import Answer


class CountingObserver:
    """
    An `aiorch.ports.Observer` that counts.

    Attributes:
        settled: Deliveries by kind and outcome.

        commits, events: Documents written, and events in them.

        conflicts: Commits that conflicted with a different commit.

        throttles: Commits that were refused for their rate.

        ends: Runs whose end was committed, by status.

        launches: Executions handed to their target, by target type.

        answers: Outcomes of executions, by target type and answer.
    """

    def __init__(self) -> None:
        self.settled: Counter[tuple[str, str]] = Counter()
        self.commits: int = 0
        self.events: int = 0
        self.conflicts: int = 0
        self.throttles: int = 0
        self.ends: Counter[RunStatus] = Counter()
        self.launches: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str]] = Counter()

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:  # noqa: ARG002
        """See `Observer.message_settled`."""
        self.settled[kind, outcome] += 1

    def committed(self, events: int, seconds: float) -> None:  # noqa: ARG002
        """See `Observer.committed`."""
        self.commits += 1
        self.events += events

    def throttled(self) -> None:
        """See `Observer.throttled`."""
        self.throttles += 1

    def run_ended(self, status: RunStatus) -> None:
        """See `Observer.run_ended`."""
        self.ends[status] += 1

    def conflicted(self) -> None:
        """See `Observer.conflicted`."""
        self.conflicts += 1

    def launched(self, target_type: str) -> None:
        """See `Observer.launched`."""
        self.launches[target_type] += 1

    def ended(self, target_type: str, answer: Answer, seconds: float) -> None:  # noqa: ARG002
        """See `Observer.ended`."""
        self.answers[target_type, type(answer).__name__] += 1
