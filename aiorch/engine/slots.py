"""
Concurrency limits: the executions that this process may still start, and the tasks that wait for a slot.

A limit has a key, today the target type. A task that finds no slot stays ready, or keeps its retry, and no process has
claimed it. The task waits here in the heap of its key, ordered by the time since which the task could begin, over all
runs. This process offers a free slot to the first task of the heap alone. A different process with a free slot may be
faster; then this process offers the slot to the next task.

Entries are deleted lazily. A commit or a read adds the tasks that wait after it. When the turn of an entry comes, the
entry is compared with the run, and dropped if its task waits no longer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from typing import NamedTuple

from aiorch.core.owed import Obligation, obligation
from aiorch.core.run_events import LaunchOffered, RetryDue, RunEvent
from aiorch.engine.committer import Committer
from aiorch.model.dag import Task
from aiorch.model.place import At
from aiorch.model.run import Changes
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus
from aiorch.ports.world import Clock

PRUNE_AT = 1_000
"""Entries of one heap, at least, before those that wait no longer are removed all at once."""

_NO_LIMITS = nullcontext()


class _Entry(NamedTuple):
    """A task that waits, in the order of its heap."""

    since: datetime
    number: int
    """Tasks that became ready at the same time begin in the order of their run."""

    run_id: str
    name: str
    """The entry of the task."""


class _Limit:
    """The slots of one key, and the tasks that wait for one."""

    __slots__ = ("claimed", "heap", "offered", "prune_at", "queued", "slots", "taken")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.taken = 0
        """Executions that this process launched and that have not ended, also those that wait for their turn."""

        self.claimed = 0
        """Executions that a commit under way lets begin here."""

        self.offered = 0
        """Slots that were offered to a task whose run has not answered yet."""

        self.heap: list[_Entry] = []
        self.queued: set[tuple[datetime, str, str]] = set()
        """The entries of the heap, without their numbers."""

        self.prune_at = PRUNE_AT

    def push(self, entry: _Entry) -> None:
        """Add an entry, unless the heap holds it."""
        key = entry.since, entry.run_id, entry.name
        if key not in self.queued:
            self.queued.add(key)
            heappush(self.heap, entry)

    def pop(self) -> _Entry:
        """Remove and return the entry that has waited longest."""
        entry = heappop(self.heap)
        self.queued.discard((entry.since, entry.run_id, entry.name))
        return entry

    def keep(self, entries: list[_Entry]) -> None:
        """Replace the heap by *entries*."""
        self.heap = entries
        heapify(self.heap)
        self.queued = {(entry.since, entry.run_id, entry.name) for entry in entries}
        self.prune_at = max(PRUNE_AT, 2 * len(entries))


class Slots:
    """
    The slots of one process. Touched by the event loop's thread alone.

    Args:
        limits: Executions under way at once, for target types with a limit.

        process_id: The process.

        can_launch: Whether the process is able to launch a task.

        carries_out: Whether the process begins tasks of the run of an id.

        committers: The committers of the runs in memory, by run id, as they come and go.

        clock: Tells which retries are due.

    Attributes:
        left_by_type: For `aiorch.core.fold.Process`: the number of slots left now, of target types with a limit.
    """

    def __init__(  # noqa: PLR0913  one caller, which names them
        self,
        limits: Mapping[str, int],
        *,
        process_id: str,
        can_launch: Callable[[Task], bool],
        carries_out: Callable[[str], bool],
        committers: Mapping[str, Committer],
        clock: Clock,
    ) -> None:
        self.left_by_type: dict[str, Callable[[], int]] = {}
        self._limits: dict[str, _Limit] = {}
        self._process_id = process_id
        self._can_launch = can_launch
        self._carries_out = carries_out
        self._committers = committers
        self._clock = clock
        self._numbers = count()
        for kind, slots in limits.items():
            self.limit_to(kind, slots)

    def limit_to(self, kind: str, slots: int) -> None:
        """Limit a target type, unless it has a limit already. Called before the first task of the type is launched."""
        if kind not in self._limits:
            self._limits[kind] = _Limit(slots)
            self.left_by_type[kind] = partial(self.left, kind)

    # -- the number of slots -------------------------------------------------------------------------------------

    def is_limited(self, kind: str) -> bool:
        """Whether a target type has a limit."""
        return kind in self._limits

    def left(self, kind: str) -> int:
        """Return the number of further executions of a limited target type that may be launched now."""
        limit = self._limits[kind]
        return max(0, limit.slots - limit.taken - limit.claimed)

    def is_full(self, kind: str, *, queued: int) -> bool:
        """Whether as many executions have begun as may, when *queued* of the launched ones wait for their turn."""
        limit = self._limits[kind]
        return limit.taken - queued >= limit.slots

    def take(self, kind: str) -> None:
        """Count an execution of a limited target type as launched here."""
        self._limits[kind].taken += 1

    def give_back(self, kind: str) -> None:
        """Count one launched execution less, and let the next task begin."""
        self._limits[kind].taken -= 1
        self.start_waiting(kind)

    def claiming(self, changes: Changes) -> AbstractContextManager[None]:
        """Count the executions that *changes* let begin here as begun during the commit: other runs may fold."""
        return self._claiming(changes) if self._limits else _NO_LIMITS

    @contextmanager
    def _claiming(self, changes: Changes) -> Iterator[None]:
        kinds = [
            state.target_type
            for state in changes.nodes.values()
            if state.target_type in self._limits and obligation(state, self._process_id) is Obligation.LAUNCH
        ]
        for kind in kinds:
            self._limits[kind].claimed += 1
        try:
            yield
        finally:
            for kind in kinds:
                self._limits[kind].claimed -= 1
            for kind in dict.fromkeys(kinds):  # the commit may have failed
                self.start_waiting(kind)

    # -- tasks that wait -----------------------------------------------------------------------------------------

    def unclaimed(self, committer: Committer) -> list[RunEvent]:
        """
        Return the claims for the tasks of a run that this process could launch, no process has claimed, and need no
        slot now: those of target types without a limit, and retries that are not due, since a process has to wait for
        them. The rest wait in a heap.
        """
        now = self._clock.now()
        return [
            _claim(at.name, state)
            for at, state in self._launchable(committer)
            if at.node.target_type not in self._limits or not _is_due(state, now)
        ]

    def has_unclaimed(self, committer: Committer) -> bool:
        """Whether this process could launch a task of a run that no process has claimed."""
        return any(True for _ in self._launchable(committer))

    def is_wanted_by(self, committer: Committer) -> bool:
        """Whether a task of a run waits for a slot here. After a commit that failed, the next read tells."""
        return committer.is_current and any(
            at.node.target_type in self._limits for at, _ in self._launchable(committer)
        )

    def wait(self, committer: Committer, places: Iterable[At[Task]]) -> None:
        """Let those tasks at *places* wait for a slot whose type has a limit, and that are ready or due again."""
        run = committer.run
        assert run is not None
        kinds: dict[str, None] = {}
        for at in places:
            since = _since(run.nodes[at.name])
            if since is None or not self._can_launch(at.node):  # `_can_launch` sets the limit of a target met first
                continue
            limit = self._limits.get(at.node.target_type)
            if limit is not None:
                kinds[at.node.target_type] = None
                self._queue(limit, _Entry(since, next(self._numbers), committer.run_id, at.name))
        for kind in kinds:
            self.start_waiting(kind)

    def start_waiting(self, kind: str) -> None:
        """Offer each free slot of a limited target type to the task that has waited longest, over all runs."""
        limit = self._limits[kind]
        while limit.heap and self.left(kind) > limit.offered:
            entry = limit.pop()
            event = self._claim_of(entry)
            if event is not None:
                limit.offered += 1
                self._committers[entry.run_id].post(event, partial(self._answered, kind, entry))

    def _answered(self, kind: str, entry: _Entry, error: Exception | None) -> None:
        """Note that a run took the slot or did not. After an error the next read of the run adds its tasks again."""
        limit = self._limits[kind]
        limit.offered -= 1
        if error is None:
            self._queue(limit, entry)
        self.start_waiting(kind)

    def _queue(self, limit: _Limit, entry: _Entry) -> None:
        if self._claim_of(entry) is None:
            return
        if len(limit.heap) >= limit.prune_at:
            limit.keep([each for each in limit.heap if self._claim_of(each) is not None])
        limit.push(entry)

    def _claim_of(self, entry: _Entry) -> RunEvent | None:
        """
        Return the event that lets a task begin, `None` when it does not wait.

        A run whose last commit failed is read again, and adds its tasks then. A retry that is not due any more, since
        the clock was set back, is added again by its timer.
        """
        committer = self._committers.get(entry.run_id)
        if committer is None or not committer.is_current or committer.dag is None or committer.run is None:
            return None
        state = committer.run.nodes.get(entry.name)
        if state is None or _since(state) != entry.since or not _is_due(state, self._clock.now()):
            return None
        if state.by not in (None, self._process_id) or not self._can_launch(committer.dag.task_of(entry.name)):
            return None
        return _claim(entry.name, state)

    def _launchable(self, committer: Committer) -> Iterator[tuple[At[Task], NodeState]]:
        """Tasks of a run that no process has claimed, and that this process is able to launch: near its end, none."""
        dag, run = committer.dag, committer.run
        if dag is None or run is None or not self._carries_out(committer.run_id):
            return
        for name in run.active_by.get(None, ()):
            task = dag.task_of(name)
            if self._can_launch(task):
                yield At(task, name), run.nodes[name]


def _since(state: NodeState) -> datetime | None:
    """Since when a ready task or a retry could begin, `None` for other tasks."""
    return state.retry_at or state.ready_at


def _is_due(state: NodeState, now: datetime) -> bool:
    """Whether a ready task or a retry may begin now."""
    return state.retry_at is None or state.retry_at <= now


def _claim(name: str, state: NodeState) -> RunEvent:
    return RetryDue(name, state.attempt) if state.status is TaskStatus.RETRYING else LaunchOffered(name)
