"""What a launched task is told about itself."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec


class TaskContext:
    """
    The context that a callable is called with, and that a target launches with.

    Attributes:
        run_id: Id of the run.

        dag: Name of the DAG.

        node: Name of the node in the DAG.

        attempt: Number of this execution within its task, from 1.

        execution_id: Key of this execution, 32 hex digits; the same when the same attempt is sent again.

        parameters: The step's parameters (a copy: changing it changes nothing elsewhere).

        results: Results of the nodes that ended before this one, by node name; nodes inside an earlier `Parallel`
            included, those of branches that run beside this node not. Decoded from JSON on each access. For any
            other name it raises `NoResultError`, a `KeyError` that says why there is no result to see.
    """

    __slots__ = (
        "_encoded_input",
        "_on_begin",
        "_on_blocked",
        "attempt",
        "dag",
        "execution_id",
        "node",
        "parameters",
        "results",
        "run_id",
    )

    def __init__(  # noqa: PLR0913  a record, built in one place
        self,
        *,
        run_id: str,
        dag: str,
        node: str,
        attempt: int,
        execution_id: str,
        parameters: dict[str, Any],
        encoded_input: bytes | msgspec.Raw,
        results: Mapping[str, Any],
        on_begin: Callable[[], None] | None = None,
        on_blocked: Callable[[float], None] | None = None,
    ) -> None:
        self.run_id: str = run_id
        self.dag: str = dag
        self.node: str = node
        self.attempt: int = attempt
        self.execution_id: str = execution_id
        self.parameters: dict[str, Any] = parameters
        self._encoded_input = encoded_input
        self._on_begin = on_begin
        self._on_blocked = on_blocked
        self.results: Mapping[str, Any] = results

    @property
    def input(self) -> Any:
        """The run's input, as given at its start. Decoded from JSON on each access."""
        return msgspec.json.decode(self._encoded_input)

    def begin(self) -> None:
        """
        Tell the engine that the attempt begins now. Called by targets, once what they wait for (a thread) is there.

        From here on the attempt counts as sent, and its timeout runs.
        """
        if self._on_begin is not None:
            self._on_begin()

    def blocked(self, seconds: float) -> None:
        """
        Tell the engine that the attempt has just held up the event loop for so long. Called by targets.

        Its timeout counts that time, which is given back to all other attempts.
        """
        if self._on_blocked is not None:
            self._on_blocked(seconds)

    def __repr__(self) -> str:
        return f"<TaskContext {self.run_id}/{self.node} attempt {self.attempt}>"
