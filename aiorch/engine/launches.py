"""Launches: they begin committed executions at once, or when a slot is free, or never in this process."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

from aiorch.core.draft import Process
from aiorch.core.run_events import RunEvent, TaskInterrupted, TaskRunning
from aiorch.engine.committer import Committer
from aiorch.engine.in_flight import InFlight
from aiorch.engine.outcomes import GIVE_UP_S, Outcomes, OwedExecution, answer_lost, may_be_launched_before
from aiorch.engine.slots import Slots
from aiorch.model.dag import Task
from aiorch.model.execution_kind import EndTold
from aiorch.model.place import At
from aiorch.settings import LaunchSettings


class Launches:
    """All executions of this process that are under way. Touched by the event loop's thread alone."""

    def __init__(  # noqa: PLR0913  the needs of launches, one each
        self,
        *,
        outcomes: Outcomes,
        process: Process,
        settings: LaunchSettings,
        spawn: Callable[..., asyncio.Task[None]],
        slots: Slots,
        is_closing: Callable[[], bool],
    ) -> None:
        self._outcomes = outcomes
        self._process = process
        self._settings = settings
        self._spawn = spawn
        self._slots = slots
        self._is_closing = is_closing
        self._waiting: deque[OwedExecution] = deque()
        self._limited: defaultdict[str, deque[OwedExecution]] = defaultdict(deque)
        self._under_way: dict[asyncio.Task[None], OwedExecution] = {}
        self._unrecorded: deque[tuple[float, Committer, str, InFlight]] = deque()
        self._recorder: asyncio.TimerHandle | None = None

    # -- in and out ----------------------------------------------------------------------------------------------

    def launch(self, committer: Committer, at: At[Task]) -> None:
        """Send an execution that the committed run owes, unless it counts as sent already."""
        run = committer.run
        assert run is not None
        state, kind = run.nodes[at.name], at.node.target_type
        sent = committer.in_flight.get(at.name)
        if sent is None or sent.attempt != state.attempt:
            sent = committer.in_flight[at.name] = InFlight(state.attempt, state.launches)
            execution = OwedExecution(committer, at, run, state, sent)
            if self._slots.is_limited(kind):
                self._slots.take(kind)
                self._limited[kind].append(execution)
                self._fill_limited(kind)
            elif self._may_begin:
                self._begin(execution)
            else:
                self._waiting.append(execution)

    def await_end(self, committer: Committer, at: At[Task]) -> None:
        """Find out the outcome of an execution that a different process launched, and that this process took over."""
        run = committer.run
        assert run is not None
        is_told = at.node.execution.end_told is not EndTold.NEVER
        state, kind = run.nodes[at.name], at.node.target_type
        has_ended = state.is_undecided  # a process that is able to launch it decides
        if is_told and not has_ended and at.name not in committer.in_flight and not self._is_closing():
            sent = committer.in_flight[at.name] = InFlight(state.attempt, state.launches, was_taken_over=True)
            if self._slots.is_limited(kind):
                self._slots.take(kind)
            self._begin(OwedExecution(committer, at, run, state, sent))

    def hint(self, committer: Committer, at: At[Task], attempt: int) -> None:
        """Ask soon whether an execution has ended, after a hint. This process asks, whichever process launched it."""
        sent = committer.in_flight.get(at.name)
        if sent is not None and sent.attempt == attempt:
            sent.hint.set()
        else:
            self._spawn(self._outcomes.ask_about(committer, at, attempt), may_be_cut=True)

    def stop(self, committer: Committer, at: At[Task]) -> None:
        """Stop an execution that the committed run wants stopped, and report the stop once it is done."""
        run = committer.run
        assert run is not None
        state = run.nodes[at.name]
        sent = committer.in_flight.get(at.name)
        if sent is None:
            sent = committer.in_flight[at.name] = InFlight(state.attempt, state.launches)
        if sent.is_stopping or sent.has_ended:
            return
        sent.is_stopping = True
        running = sent.handle
        if running is not None:
            running.cancel()
        execution = OwedExecution(committer, at, run, state, sent)
        sent.handle = self._spawn(self._outcomes.stop(execution, running))

    async def close(self, grace_s: float) -> None:
        """
        Launch no more executions, give back those that have not begun, and wait for those that have.

        This process gives up each execution that has not ended after the grace, and says so in the run: a different
        process goes on with the execution, or this program at its next start.
        """
        if self._recorder is not None:
            self._recorder.cancel()
        left = [execution for queue in (self._waiting, *self._limited.values()) for execution in queue]
        left += self._under_way.values()
        ending = []
        for handle, execution in self._under_way.items():
            if not execution.sent.is_out:
                handle.cancel()  # it waits for its turn, or for a further try: a different process begins it
            elif not execution.sent.is_awaited:
                ending.append(handle)
        if ending and grace_s > 0:
            await asyncio.wait(ending, timeout=grace_s)
        handles = list(self._under_way)
        for handle in handles:
            handle.cancel()
        if handles:
            await asyncio.wait(handles, timeout=GIVE_UP_S)
        for execution in left:
            committer, sent = execution.committer, execution.sent
            if not sent.has_ended and committer.in_flight.get(execution.at.name) is sent:
                event = self._given_up(execution)
                if event is not None:
                    committer.post(event)

    def _given_up(self, execution: OwedExecution) -> RunEvent | None:
        committer, at, _, _, sent = execution
        assert committer.run is not None
        is_found = at.node.execution.is_found_again
        if is_found and (sent.is_out or may_be_launched_before(committer.run.nodes[at.name])):
            return None  # the next launch finds the execution, if there is one
        if sent.is_out and self._process.awaits_event_of(at.node):
            return answer_lost(at.name, sent)  # its completion event will come to a different process
        return TaskInterrupted(at.name, sent.attempt, was_sent=sent.is_out)

    def _fill_limited(self, kind: str) -> None:
        queue = self._limited[kind]
        while queue and not self._slots.is_full(kind, queued=len(queue)) and self._may_begin:
            self._begin(queue.popleft())

    @property
    def _may_begin(self) -> bool:
        return len(self._under_way) < self._settings.at_once_max and not self._is_closing()

    def _begin(self, execution: OwedExecution) -> None:
        committer, at, _, _, sent = execution
        task = at.node
        if committer.in_flight.get(at.name) is not sent or sent.is_stopping:
            if self._slots.is_limited(task.target_type):
                self._slots.give_back(task.target_type)
            return
        loop = asyncio.get_running_loop()
        sent.begun_at = loop.time()
        sent.handle = asyncio.Task(self._outcomes.carry(execution), loop=loop)
        self._under_way[sent.handle] = execution
        sent.handle.add_done_callback(self._ended)
        if task.execution.is_polled or sent.was_taken_over:
            return  # the former is recorded as soon as its target has taken it, the latter has been recorded
        assert self._settings.running_after_s is not None
        self._unrecorded.append((loop.time() + self._settings.running_after_s, committer, at.name, sent))
        if self._recorder is None and not self._is_closing():
            self._recorder = loop.call_at(self._unrecorded[0][0], self._record_running)

    def _ended(self, handle: asyncio.Task[None]) -> None:
        was_full = len(self._under_way) >= self._settings.at_once_max
        kind = self._under_way.pop(handle).at.node.target_type
        if self._slots.is_limited(kind):
            self._slots.give_back(kind)
            self._fill_limited(kind)
        if was_full:  # executions of all kinds may have waited for their turn
            for limited in self._limited:
                self._fill_limited(limited)
        while self._waiting and self._may_begin:
            self._begin(self._waiting.popleft())

    def _record_running(self) -> None:
        """Record executions that have been under way for long: lazily, since most end before the record is due."""
        self._recorder = None
        loop = asyncio.get_running_loop()
        while self._unrecorded and self._unrecorded[0][0] <= loop.time():
            _, committer, name, sent = self._unrecorded.popleft()
            if committer.in_flight.get(name) is not sent or sent.has_ended:
                continue
            if sent.is_out:
                committer.post(TaskRunning(name, sent.attempt, launch=sent.launch))
            else:  # it waits for its turn, or was turned away: it does not run, and no process shall wait for its end
                assert self._settings.running_after_s is not None
                self._unrecorded.append((loop.time() + self._settings.running_after_s, committer, name, sent))
        if self._unrecorded:
            self._recorder = loop.call_at(self._unrecorded[0][0], self._record_running)
