"""
Timers of runs: they say when a retry is due, and when the time of a run is over.

The event loop measures the pause, and the time of day tells whether it is over: the loop's clock may run ahead of it.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from aiorch.core.run_events import RetryDue, RunTimeoutDue
from aiorch.engine.committer import Committer
from aiorch.engine.slots import Slots
from aiorch.engine.standstill import EVENTS_S, READING_S
from aiorch.model.run_document import NodeState
from aiorch.model.status import RunStatus
from aiorch.ports.world import LATE_S, Clock

CHECK_S = 60.0
"""Pause before a second look at a due timer: the clock may have gone back, and a retry may have found no slot."""


class Timers:
    """The timers of one process."""

    def __init__(self, clock: Clock, slots: Slots, committers: Mapping[str, Committer], *, awaits_events: bool) -> None:
        self._clock = clock
        self._reading_s = EVENTS_S if awaits_events else READING_S
        self._slots = slots
        self._committers = committers
        self._of_runs: dict[str, asyncio.TimerHandle] = {}
        self._is_closed = False

    def close(self) -> None:
        """Report no due time any more."""
        self._is_closed = True

    def arm_retry(self, committer: Committer, name: str, state: NodeState) -> None:
        """Say when the retry that a node waits for is due, unless the node has a different state by then."""
        self._arm(self._seconds_to(state.retry_at), self._retry_is_due, committer, name, state)

    def arm_timeout(self, committer: Committer) -> None:
        """Say when the time of a run is over, if it has a timeout; once is enough."""
        run, run_id = committer.run, committer.run_id
        if run is None or run.header.timeout_at is None or run.status.is_terminal or run_id in self._of_runs:
            return
        timeout_at = run.header.timeout_at
        self._of_runs[run_id] = self._arm_timeout(self._seconds_to(timeout_at), committer, timeout_at)

    def _arm_timeout(self, delay_s: float, committer: Committer, timeout_at: datetime) -> asyncio.TimerHandle:
        due_at = asyncio.get_running_loop().time() + max(0.0, delay_s)
        return self._arm(delay_s, self._timeout_is_due, committer, timeout_at, due_at)

    def drop_timeout(self, run_id: str) -> None:
        """Drop the timer of a run that has ended."""
        if timer := self._of_runs.pop(run_id, None):
            timer.cancel()

    def _retry_is_due(self, committer: Committer, name: str, state: NodeState) -> None:
        if committer.run is None or committer.run.nodes[name] is not state:
            return
        if self._seconds_to(state.retry_at) > 0:
            self.arm_retry(committer, name, state)
        else:
            self._arm(CHECK_S, self._check_retry, committer.run_id, name, state)
            task = committer.dag.all_tasks[name] if committer.dag is not None else None
            if committer.is_current and task is not None and self._slots.is_limited(task.target_type):
                self._slots.wait(committer, [task])
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
            self._of_runs[committer.run_id] = self._arm_timeout(self._reading_s, committer, timeout_at)
        elif committer.run is None or committer.run.status is RunStatus.RUNNING:
            self._of_runs[committer.run_id] = self._arm(CHECK_S, self._check_timeout, committer.run_id, timeout_at)
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
