"""`TaskContext`: the facts that a launched task receives about its run and its execution."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec


class TaskContext:
    """
    The facts of one execution, for the target that launches it and for the callable that runs.

    Attributes:
        run_id: Id of the run.

        dag: Name of the DAG.

        node: Name of the entry in the run document: that of the node, or in a repeated scope a name with the number of
            the scope, such as ``Resize[17].Convert`` or ``Fan#2.Load``. No other execution of the run has the same
            `node` and `attempt`.

        attempt: Number of this execution within the task, from 1.

        execution_id: Key of this execution, 32 hex digits; the same when the same attempt is sent again.

        parameters: The step's parameters, as a copy: the caller may change them.

        results: Results of the nodes that ended before this one, by node name: also of nodes inside an earlier
            `Parallel`, but not of branches that run beside this node. In a repeated scope, the names of nodes in the
            same scope mean their entries in this scope. Decoded from JSON on each access. Every other name raises
            `NoResultError`, a `KeyError` with the reason why the task can see no such result.

        has_secrets: The parameters hold secrets, so that no text made of them may be logged.
    """

    __slots__ = (
        "_encoded_input",
        "_on_begin",
        "_on_blocked",
        "attempt",
        "dag",
        "execution_id",
        "has_secrets",
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
        self.has_secrets: bool = False
        self.results: Mapping[str, Any] = results

    @property
    def input(self) -> Any:
        """The run's input, as the start gave it. Decoded from JSON on each access."""
        return msgspec.json.decode(self._encoded_input)

    def begin(self) -> None:
        """
        Tell the engine that the attempt begins now. Targets that wait, for a thread say, call this after the wait.

        From now on the attempt counts as sent, and its timeout runs.
        """
        if self._on_begin is not None:
            self._on_begin()

    def blocked(self, seconds: float) -> None:
        """
        Tell the engine that the attempt has just held up the event loop for so long. Targets call this.

        The time counts against the timeout of this attempt, and the engine gives the time back to all other attempts.
        """
        if self._on_blocked is not None:
            self._on_blocked(seconds)

    def __repr__(self) -> str:
        return f"<TaskContext {self.run_id}/{self.node} attempt {self.attempt}>"
