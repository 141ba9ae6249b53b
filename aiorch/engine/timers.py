"""
Timers of runs: they say when a retry is due, and when the time of a run is over.

The event loop measures the pause, and the time of day tells whether it is over: the loop's clock may run ahead of it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from aiorch.core.run_events import RetryDue, RunTimeoutDue, TimerDue
from aiorch.engine.committer import Committer
from aiorch.engine.slots import Slots
from aiorch.engine.standstill import EVENTS_S, READING_S
from aiorch.errors import RunNotFoundError
from aiorch.model.place import At
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import RunStatus
from aiorch.ports.world import LATE_S, Clock

OTHERS_S = 10.0
"""A timer of an entry fires first in the process that committed the entry, and so much later in every other one."""

CHECK_S = 60.0
"""Pause before a second look at a due timer: the clock may have gone back, and a retry may have found no slot."""


class Timers:
    """The timers of one process."""

    def __init__(
        self,
        clock: Clock,
        slots: Slots,
        committers: Mapping[str, Committer],
        *,
        awaits_events: bool,
        committer_of: Callable[[str], Committer],
    ) -> None:
        self._clock = clock
        self._reading_s = EVENTS_S if awaits_events else READING_S
        self._slots = slots
        self._committers = committers
        self._committer_of = committer_of
        self._of_runs: dict[str, tuple[datetime, asyncio.TimerHandle]] = {}
        self._of_entries: dict[tuple[str, str], tuple[datetime, asyncio.TimerHandle]] = {}
        self._is_closed = False

    def close(self) -> None:
        """Report no due time any more."""
        self._is_closed = True

    def arm_retry(self, committer: Committer, name: str, state: NodeState) -> None:
        """Say when the retry that a task waits for is due, unless its entry *name* has a different state by then."""
        self._arm(self._seconds_to(state.retry_at), self._retry_is_due, committer, name, state)

    def arm_due(self, run_id: str, name: str, due_at: datetime, *, is_own: bool) -> None:
        """
        Say when the time of an entry without an owner has come. The timer outlives the copy of the run in memory.

        Args:
            run_id: The run.

            name: The entry.

            due_at: See `NodeState.due_at`.

            is_own: This process has committed the entry.
        """
        known_at, timer = self._of_entries.get((run_id, name), (None, None))
        if known_at == due_at:
            return
        if timer is not None:
            timer.cancel()
        delay_s = self._seconds_to(due_at) + (0.0 if is_own else OTHERS_S)
        self._of_entries[run_id, name] = due_at, self._arm_due(delay_s, run_id, name, due_at)

    @property
    def has_entries(self) -> bool:
        """Whether there is a timer of any entry."""
        return bool(self._of_entries)

    def drop_due(self, run_id: str, name: str) -> None:
        """Drop the timer of an entry, if there is one: the entry waits no more, or is gone, or its run has ended."""
        _, timer = self._of_entries.pop((run_id, name), (None, None))
        if timer is not None:
            timer.cancel()

    def _arm_due(self, delay_s: float, run_id: str, name: str, due_at: datetime) -> asyncio.TimerHandle:
        at = asyncio.get_running_loop().time() + max(0.0, delay_s)
        return self._arm(delay_s, self._entry_is_due, run_id, name, due_at, at)

    def _entry_is_due(self, run_id: str, name: str, due_at: datetime, at: float) -> None:
        held = self._committers.get(run_id)
        if held is not None and held.is_current and held.run is not None and held.run.due.get(name) != due_at:
            del self._of_entries[run_id, name]
        elif (left_s := self._seconds_to(due_at)) > 0:
            self._of_entries[run_id, name] = due_at, self._arm_due(left_s, run_id, name, due_at)
        elif asyncio.get_running_loop().time() - at > LATE_S:
            # This process stood still: first it reads the answers and events that may end what the entry waits for.
            self._of_entries[run_id, name] = due_at, self._arm_due(self._reading_s, run_id, name, due_at)
        else:
            self._of_entries[run_id, name] = due_at, self._arm_due(CHECK_S, run_id, name, due_at)
            committer = self._committer_of(run_id)
            committer.post(TimerDue(name), partial(self._told, committer, name, due_at))

    def _told(self, committer: Committer, name: str, due_at: datetime, error: Exception | None) -> None:
        """Drop a timer whose event was folded, unless the entry is still due: the clock may have gone back."""
        run_id, run = committer.run_id, committer.run
        is_over = isinstance(error, RunNotFoundError) or (
            error is None and run is not None and run.due.get(name) != due_at
        )
        if is_over and self._of_entries.get((run_id, name), (None, None))[0] == due_at:
            self.drop_due(run_id, name)

    def arm_timeout(self, committer: Committer) -> None:
        """Say when the time of a run is over, if it has a timeout; once is enough for each time."""
        run, run_id = committer.run, committer.run_id
        if run is None or run.header.timeout_at is None or run.status.is_terminal:
            return
        timeout_at = run.header.timeout_at
        known_at, timer = self._of_runs.get(run_id, (None, None))
        if known_at == timeout_at:
            return
        if timer is not None:
            timer.cancel()
        self._arm_timeout(self._seconds_to(timeout_at), committer, timeout_at)

    def _arm_timeout(self, delay_s: float, committer: Committer, timeout_at: datetime) -> None:
        due_at = asyncio.get_running_loop().time() + max(0.0, delay_s)
        timer = self._arm(delay_s, self._timeout_is_due, committer, timeout_at, due_at)
        self._of_runs[committer.run_id] = timeout_at, timer

    def drop_timers(self, run_id: str, entries: Iterable[str]) -> None:
        """Drop the timers of a run that has ended, and those of its entries."""
        _, timer = self._of_runs.pop(run_id, (None, None))
        if timer is not None:
            timer.cancel()
        if self._of_entries:
            for name in entries:
                self.drop_due(run_id, name)

    def _retry_is_due(self, committer: Committer, name: str, state: NodeState) -> None:
        if committer.run is None or committer.run.nodes.get(name) is not state:
            return
        if self._seconds_to(state.retry_at) > 0:
            self.arm_retry(committer, name, state)
        else:
            self._arm(CHECK_S, self._check_retry, committer.run_id, name, state)
            task = committer.dag.task_of(name) if committer.dag is not None else None
            if committer.is_current and task is not None and self._slots.is_limited(task.target_type):
                self._slots.wait(committer, [At(task, name)])
            else:  # the event lets the committer read a run whose last read failed
                committer.post(RetryDue(name, state.attempt))

    def _check_retry(self, run_id: str, name: str, state: NodeState) -> None:
        if (committer := self._committers.get(run_id)) is not None:  # else this process owes no action to the run
            self._retry_is_due(committer, name, state)

    def _timeout_is_due(self, committer: Committer, timeout_at: datetime, due_at: float) -> None:
        del self._of_runs[committer.run_id]
        if self._seconds_to(timeout_at) > 0:
            self.arm_timeout(committer)
        elif asyncio.get_running_loop().time() - due_at > LATE_S:
            # This process stood still: first it reads the answers and events that may end the run.
            self._arm_timeout(self._reading_s, committer, timeout_at)
        elif committer.run is None or _may_time_out(committer.run):
            check = self._arm(CHECK_S, self._check_timeout, committer.run_id, timeout_at)
            self._of_runs[committer.run_id] = timeout_at, check
            committer.post(RunTimeoutDue())

    def _check_timeout(self, run_id: str, timeout_at: datetime) -> None:
        if (committer := self._committers.get(run_id)) is not None:
            self._timeout_is_due(committer, timeout_at, asyncio.get_running_loop().time())
        else:
            del self._of_runs[run_id]

    def _arm(self, delay_s: float, callback: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        def fire() -> None:
            if not self._is_closed:
                callback(*args)

        return asyncio.get_running_loop().call_later(max(0.0, delay_s), fire)

    def _seconds_to(self, due: datetime | None) -> float:
        return 0.0 if due is None else (due - self._clock.now()).total_seconds()


def _may_time_out(run: Run) -> bool:
    """Whether the time of the run, or of its level `finally`, still counts."""
    if run.header.final is not None:
        return run.header.final.ended_at is None
    return run.status is RunStatus.RUNNING
