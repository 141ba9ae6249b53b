"""
Room: what could begin in this process, and what has to wait because its target type has a limit.

What finds no room stays ready, or keeps its retry, and nobody has claimed it. It begins when something of its target
type ends here, or in another process that has room.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from aiorch.committer import Committer
from aiorch.enums import TargetTypes, TaskStatus
from aiorch.nodes import Task
from aiorch.ports import Clock
from aiorch.run_document import NodeState
from aiorch.transitions import Changes, LaunchOffered, Obligation, RetryDue, RunEvent, obligation


class Room:
    """
    The room of one process. Touched by the event loop's thread alone.

    Args:
        limits: Executions under way at once, for target types with a limit.

        process_id: Whose room it is.

        can_launch: Whether the process is able to launch a task.

        committers: The runs in memory, by run id, as they come and go.

        clock: Tells which retries are due.

    Attributes:
        left_by_type: For `aiorch.transitions.Process`: how much is left now, for target types with a limit.
    """

    def __init__(
        self,
        limits: Mapping[TargetTypes, int],
        *,
        process_id: str,
        can_launch: Callable[[Task], bool],
        committers: Mapping[str, Committer],
        clock: Clock,
    ) -> None:
        self.left_by_type = {kind: partial(self.left, kind) for kind in limits}
        self._limits = limits
        self._process_id = process_id
        self._can_launch = can_launch
        self._committers = committers
        self._clock = clock
        self._taken = dict.fromkeys(limits, 0)
        """Executions that were launched here and have not ended, whether they have begun or wait for their turn."""

        self._claimed = dict.fromkeys(limits, 0)
        """Executions that a commit under way lets begin here."""

        self._wanted: dict[TargetTypes, None] = {}
        """Target types of which something may wait."""

    # -- how much there is ---------------------------------------------------------------------------------------

    def is_limited(self, kind: TargetTypes) -> bool:
        """Whether a target type has a limit."""
        return kind in self._limits

    def left(self, kind: TargetTypes) -> int:
        """How many more executions of a limited target type may be launched now."""
        return max(0, self._limits[kind] - self._taken[kind] - self._claimed[kind])

    def is_full(self, kind: TargetTypes, *, queued: int) -> bool:
        """Whether as many have begun as may, when of those that were launched so many wait for their turn."""
        return self._taken[kind] - queued >= self._limits[kind]

    def take(self, kind: TargetTypes) -> None:
        """Count an execution of a limited target type as launched here."""
        self._taken[kind] += 1

    def give_back(self, kind: TargetTypes) -> None:
        """Count it no more. To `offer` what is free now is up to the caller."""
        self._taken[kind] -= 1

    @contextmanager
    def claiming(self, changes: Changes) -> Iterator[None]:
        """Count what *changes* let begin here as if it had begun, until it has: others are folded meanwhile."""
        kinds = [
            state.target_type
            for state in changes.nodes.values()
            if state.target_type in self._claimed and obligation(state, self._process_id) is Obligation.LAUNCH
        ]
        for kind in kinds:
            self._claimed[kind] += 1
        try:
            yield
        finally:
            for kind in kinds:
                self._claimed[kind] -= 1

    # -- what waits ----------------------------------------------------------------------------------------------

    def unclaimed(self, committer: Committer) -> list[RunEvent]:
        """What this process could launch in a run and nobody has claimed: ready tasks, retries without an owner."""
        events: list[RunEvent] = []
        room: dict[TargetTypes, int] = {}
        now = self._clock.now()
        for task, state in self._waiting(committer):
            kind = task.target_type
            # To wait for a retry that is not due takes no room, and somebody has to.
            if kind in self._limits and (state.status is TaskStatus.NEW or _due(state) <= now):
                left = room[kind] = room.get(kind, self.left(kind)) - 1
                if left < 0:
                    continue
            events.append(_claim(task.name, state))
        return events

    def is_wanted_by(self, committer: Committer) -> bool:
        """Whether something in a run waits for room here."""
        run = committer.run
        if run is None or not run.active:
            return False
        return any(task.target_type in self._limits for task, _ in self._waiting(committer))

    def want(self, kind: TargetTypes) -> None:
        """Remember that something of a target type may wait, if that has a limit: `offer_wanted` looks for it."""
        if kind in self._limits:
            self._wanted[kind] = None

    def offer_wanted(self) -> None:
        """Let begin what may have been waiting while there is room: what took it may have ended since."""
        for kind in list(self._wanted):
            if self.left(kind):
                self.offer(kind)

    def offer(self, kind: TargetTypes) -> None:
        """
        There may be room: let those begin that have waited longest, whatever run they are of.

        What was launched by another process meanwhile is offered in vain; the read that tells so offers again.
        """
        now = self._clock.now()
        waiting = [
            (_due(state), committer, task.name, state)
            for committer in self._committers.values()
            for task, state in self._waiting(committer, own_retries=True)
            if task.target_type is kind and (state.status is TaskStatus.NEW or _due(state) <= now)
        ]
        if not waiting:
            self._wanted.pop(kind, None)
        waiting.sort(key=lambda each: each[0])
        for _, committer, name, state in waiting[: self.left(kind)]:
            committer.post(_claim(name, state))

    def _waiting(self, committer: Committer, *, own_retries: bool = False) -> list[tuple[Task, NodeState]]:
        """
        What this process could begin: what nobody has claimed, in the order in which it became ready.

        Args:
            committer: The run.

            own_retries: Retries that this process waits for, too; they come last.
        """
        dag, run = committer.dag, committer.run
        if dag is None or run is None:
            return []
        found = []
        for name in run.active:
            task, state = dag.all_tasks[name], run.nodes[name]
            is_own_retry = state.by == self._process_id and state.status is TaskStatus.RETRYING
            # Near its end this process can launch nothing, and would offer that to itself for ever.
            if (state.by is None or (own_retries and is_own_retry)) and self._can_launch(task):
                found.append((task, state))
        return sorted(found, key=lambda each: (each[1].by is not None, _due(each[1])))


def _due(state: NodeState) -> datetime:
    """Since when a ready task or a retry could begin."""
    due = state.retry_at or state.ready_at
    assert due is not None, state.node_name
    return due


def _claim(name: str, state: NodeState) -> RunEvent:
    return RetryDue(name, state.attempt) if state.status is TaskStatus.RETRYING else LaunchOffered(name)
