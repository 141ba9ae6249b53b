"""A run in the hands of those who started it: look at it, wait for its end, cancel it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiorch.committer import Committer
from aiorch.enums import RunStatus
from aiorch.executor import DAGExecutor
from aiorch.failure import Failure
from aiorch.results import AllNodes, Results, SpilledResults
from aiorch.run_state import Run


@dataclass(frozen=True)
class RunResult:
    """How a run has ended."""

    run_id: str

    status: RunStatus
    """``Completed``, ``Failed`` or ``Cancelled``."""

    error: Failure | None
    """Why it did not complete, `None` when it did."""

    results: Results
    """Results of the completed tasks by node name."""


class RunHandle:
    """
    A run, as last committed.

    Attributes:
        run_id: Its id.

        dag: Its DAG.

        run: Its state: ``run.header``, and ``run.nodes[name]`` with a `NodeState` each. It changes as the run goes on.
    """

    def __init__(self, executor: DAGExecutor, committer: Committer) -> None:
        assert committer.dag is not None
        assert committer.run is not None
        self._executor = executor
        self._committer = committer
        self._run = committer.run
        self.run_id: str = committer.run_id
        self.dag = committer.dag

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} {self.status}>"

    @property
    def run(self) -> Run:
        """State as of the last commit that this process knows."""
        if self._committer.run is not None:
            self._run = self._committer.run
        return self._run

    @property
    def status(self) -> RunStatus:
        """Status of the run."""
        return self.run.status

    def document(self) -> bytes:
        """Return the run document, as it is stored."""
        run = self.run
        return run.encode(run.header, {})[0]

    async def wait(self) -> RunResult:
        """
        Wait for the end of the run, however it ends.

        Raises:
            StoreError: The store refuses the run's commits for good (full, read-only). The run stays open, and goes on
                when that is mended.
        """
        while not self.status.is_terminal:
            await self._next_commit(None)
        run = self.run
        nodes = AllNodes(self.dag)
        large = await SpilledResults(self._executor.executions).fetch(run, nodes) if run.spilled else {}
        return RunResult(self.run_id, run.status, run.header.error, Results(run, nodes, large))

    async def changes(self) -> AsyncIterator[None]:
        """
        Yield now, and after every commit until the run has ended. Commits in quick succession may be seen as one.

        Raises:
            StoreError: As `wait`.
        """
        generation = self._committer.generation
        yield
        while not self.status.is_terminal:
            generation = await self._next_commit(generation)
            yield

    async def _next_commit(self, since: int | None) -> int:
        held = self._executor.committer(self.run_id)
        if held is not self._committer:  # it was forgotten here, since all that is owed to the run is owed elsewhere
            self._committer = held
            held.refresh()
        if held.error is not None:
            raise held.error
        await held.changed(since)
        return held.generation

    async def cancel(self, *, reason: str = "cancelled on request") -> None:
        """Ask for the end of the run: nothing is launched any more, and what runs is stopped."""
        await self._executor.cancel(self.run_id, reason)
