"""Handles of runs for users: read a run, wait for its end, cancel it."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from aiorch.documents.results import (
    FETCHES_MAX,
    AllNodes,
    Results,
    SpilledResults,
    end_names,
    end_results,
    entries_of,
)
from aiorch.engine.committer import Committer
from aiorch.engine.executor import DAGExecutor
from aiorch.errors import NoResultError, ResultPendingError, RunTooLargeError
from aiorch.model.dag import DAG
from aiorch.model.failure import Failure
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import RunStatus, TaskStatus


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run."""

    run_id: str

    status: RunStatus
    """``Completed``, ``Failed`` or ``Cancelled``."""

    error: Failure | None
    """The failure of the run, `None` if it completed."""

    results: Results
    """Results of the completed tasks by node name."""

    _dag: DAG = field(repr=False)
    _run: Run = field(repr=False)
    _encoded_output: bytes | None = field(repr=False)
    """The output that the definition gives, `None` where the definition gives none."""

    @property
    def output(self) -> Any:
        """The result of the run, as `RunHandle.result` returns it; `None` if the run did not complete."""
        if self.status is not RunStatus.COMPLETED:
            return None
        if self._encoded_output is not None:
            return msgspec.json.decode(self._encoded_output)
        return end_results(self._dag, self._run, self.results)


class RunView:
    """
    A run as of one commit. A view does not change while the run continues.

    Attributes:
        nodes: The entries by name, read-only: a `NodeState` each, with ``status``, ``attempt``, ``started_at``,
            ``ended_at``, ``error``, … The name is that of the node, unless the node is in a repeated scope.
    """

    def __init__(self, run: Run) -> None:
        self._header = run.header
        self.nodes: Mapping[str, NodeState] = MappingProxyType(dict(run.nodes))

    def __repr__(self) -> str:
        return f"<RunView {self.run_id} {self.status}>"

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._header.run_id

    @property
    def dag(self) -> str:
        """Name of its DAG."""
        return self._header.dag

    @property
    def status(self) -> RunStatus:
        """Status of the run."""
        return self._header.status

    @property
    def error(self) -> Failure | None:
        """The failure of the run, `None` if it has not failed."""
        return self._header.error

    @property
    def input(self) -> Any:
        """The input of the run. Decoded from JSON on each access."""
        return msgspec.json.decode(self._header.input)

    @property
    def created_at(self) -> datetime:
        """Time of the start."""
        return self._header.created_at

    @property
    def updated_at(self) -> datetime:
        """Time of the commit."""
        return self._header.updated_at

    @property
    def ended_at(self) -> datetime | None:
        """Time of the end, `None` while the run is open."""
        return self._header.ended_at

    @property
    def resumed_from(self) -> str | None:
        """Id of the run that this one resumed, `None` for a run that was started."""
        return self._header.resumed_from

    @property
    def resumed_from_step(self) -> str | None:
        """The step with which a resumed run began anew, `None` where the resume named no step."""
        return self._header.resumed_from_step

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the run, from its definition."""
        return dict(self._header.labels)

    @property
    def counts(self) -> dict[TaskStatus, int]:
        """Number of tasks by status, without statuses that no task has."""
        return dict(Counter(state.status for state in self.nodes.values() if state.target_type is not None))


def refuse_wrong_reason(reason: Any) -> None:
    """Raise a TypeError for a reason of a cancel that a run document cannot hold."""
    if not isinstance(reason, str):
        raise TypeError(f"reason is of type {type(reason).__name__} and must be a text, so the run was not cancelled.")


class RunHandle:
    """
    A run, as last committed.

    Attributes:
        run_id: Id of the run.

        dag: DAG of the run.
    """

    def __init__(self, executor: DAGExecutor, committer: Committer) -> None:
        assert committer.dag is not None
        assert committer.run is not None
        self._executor = executor
        self._committer = committer
        self._run = committer.run
        self.run_id: str = committer.run_id
        self.dag: DAG = committer.dag

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} {self.status}>"

    @property
    def view(self) -> RunView:
        """The run as of the last commit that this process knows."""
        return RunView(self.run)

    @property
    def run(self) -> Run:
        """The state of the run inside the engine, which changes as the run continues; `view` is the public state."""
        if self._committer.run is not None:
            self._run = self._committer.run
        return self._run

    @property
    def status(self) -> RunStatus:
        """Status of the run."""
        return self.run.status

    def document(self) -> bytes:
        """Return the stored run document."""
        run = self.run
        return run.encode(run.header, {})[0]

    async def wait(self) -> RunResult:
        """
        Wait for the end of the run, with any status.

        Raises:
            StoreError: The store refuses the commits of the run permanently (full, read-only). The run stays open, and
                continues when the store accepts writes again.
        """
        while not self.status.is_terminal:
            await self._next_commit(None)
        results = await self.results()
        error, output = self.run.header.error, await self._output()
        return RunResult(self.run_id, self.status, error, results, self.dag, self.run, output)

    async def results(self) -> Results:
        """
        Return the results of the tasks that have completed so far, by node name.

        Raises:
            StoreError: A result that is too large for the run document cannot be read from its execution record.
        """
        return await self._results_of(None)

    async def result(self, node: str | None = None) -> Any:
        """
        Return the result of a task, or the result of the run.

        Args:
            node: Name of the task, or of one of its entries in a repeated scope. `None`: the result of the last task of
                the DAG. If the DAG ends with a `Parallel`, this is a mapping with the result of the last task of every
                branch that has a result.

        Raises:
            TaskNotFoundError: The DAG has no task with this name.

            ResultPendingError: The task, or the run, has not ended.

            NoResultError: The task or the run has failed or was cancelled, or the task was skipped.

            StoreError: A result that is too large for the run document cannot be read from its execution record.
        """
        if node is not None:
            return (await self._results_of({node}))[node]
        if not self.status.is_terminal:
            raise ResultPendingError(
                f"run {self.run_id!r} is {self.status}, so it has no result yet; wait for the end, or continue the "
                f"run if no process works on it."
            )
        if self.status is not RunStatus.COMPLETED:
            error = self.run.header.error
            why = f" ({error.text})" if error is not None else ""
            raise NoResultError(
                f"run {self.run_id!r} is {self.status}, so it has no result{why}. The results of completed tasks can "
                f"be read by the names of these tasks."
            )
        output = await self._output()
        if output is not None:
            return msgspec.json.decode(output)
        return end_results(self.dag, self.run, await self._results_of(set(end_names(self.dag))))

    async def _output(self) -> bytes | None:
        """Return the result of the run that the definition gives, as JSON; `None` where the definition gives none."""
        header = self.run.header
        if self.dag.output is None:
            return None
        if header.output_in is None:
            return bytes(header.output)
        return (await SpilledResults(self._executor.executions).of({"": header.output_in}))[""]

    async def document_with_results(self, *, bytes_max: int | None = None) -> bytes:
        """
        Return the run document with all results, also those that are stored in execution records.

        Args:
            bytes_max: Largest document in bytes; `None` for no limit.

        Raises:
            RunTooLargeError: The document would exceed *bytes_max*.

            StoreError: A record cannot be read.
        """
        run, spilled = self.run, SpilledResults(self._executor.executions)
        names, found, size = list(run.spilled), dict[str, NodeState](), run.size
        for first in range(0, len(names), FETCHES_MAX):
            for name, result in (await spilled.fetch(run, set(names[first : first + FETCHES_MAX]))).items():
                found[name] = replace(run.nodes[name], result=Raw(result), result_in=None)
                size += len(result)
            if bytes_max is not None and size > bytes_max:
                raise RunTooLargeError(
                    f"run {self.run_id!r} has more than {bytes_max} bytes of results, so the document does not include "
                    f"them; read the result of each task separately."
                )
        return run.encode(run.header, found)[0]

    async def _results_of(self, names: Iterable[str] | None) -> Results:
        """Return results, with those of the nodes *names* at least; `None`: of all nodes."""
        run, nodes = self.run.snapshot(), AllNodes(self.dag)  # a result that is committed later is not fetched
        large: Mapping[str, bytes] = {}
        if run.spilled:
            entries = run.spilled if names is None else entries_of(nodes, names, run)
            large = await SpilledResults(self._executor.executions).fetch(run, entries)
        return Results(run, nodes, large)

    async def changes(self) -> AsyncIterator[RunView]:
        """
        Yield the present state of the run, and then the state after every commit until the run has ended.

        Commits in quick succession may give one state.

        Raises:
            StoreError: See `wait`.
        """
        generation = self._committer.generation
        yield self.view
        while not self.status.is_terminal:
            generation = await self._next_commit(generation)
            yield self.view

    async def _next_commit(self, since: int | None) -> int:
        self._committer = await self._executor.next_commit(self._committer, since)
        return self._committer.generation

    async def cancel(self, *, reason: str = "cancelled on request", force: bool = False) -> None:
        """
        Request the end of the run: no further task is launched, and running executions are stopped.

        Args:
            reason: Kept in the run document.

            force: Also stop the level `finally`, or let it never begin.

        Raises:
            TypeError: The reason is no text.
        """
        refuse_wrong_reason(reason)
        await self._executor.cancel(self.run_id, reason, force=force)
