"""
Launches: what a committed intent turns into, and what each answer of a target means.

In memory an execution counts as sent from before its request goes out until the commit that holds its outcome;
otherwise a ``Starting`` that is still committed would be sent a second time while the outcome waits in the inbox.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, assert_never

import msgspec

from aiorch.committer import BACKOFF_MAX_S as STORE_BACKOFF_MAX_S
from aiorch.committer import Committer, InFlight
from aiorch.context import TaskContext
from aiorch.enums import OnLost, TargetTypes
from aiorch.errors import StoreError, StoreThrottled, StoreUnavailable
from aiorch.nodes import Task
from aiorch.ports import Accepted, Answer, Entropy, Failed, NotStarted, Succeeded, Target, Unknown
from aiorch.results import EarlierNodes, Results, SpilledResults
from aiorch.run_state import INLINE_RESULT_BYTES_MAX, Failure, Run
from aiorch.status import ExecutionStatus
from aiorch.transitions import (
    Process,
    RunEvent,
    TaskFailed,
    TaskInterrupted,
    TaskLost,
    TaskRunning,
    TaskStopped,
    TaskSucceeded,
)

logger = logging.getLogger(__name__)

GIVE_UP_S = 5.0
"""How long a call that was cancelled is waited for: code that swallows its cancellation must not hold up an end."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """What can be tuned about launches."""

    at_once_max: int = 10_000
    """Executions under way at once in this process: more wait their turn, so that memory is bounded."""

    running_after_s: float = 5.0
    """After how long an execution that is under way is recorded as ``Running``."""

    backoff_max_s: float = 30.0
    """Longest pause before a launch that never started is sent again."""


class SupplementaryFunctions(Protocol):
    """Calls the function that a task names beside its target."""

    async def call(self, name: str, context: TaskContext) -> Any:
        """Call it and return what it returns. Raises what it raises."""
        ...


class Launches:
    """All executions of this process that are under way. Touched by the event loop's thread alone."""

    def __init__(  # noqa: PLR0913  what a launch needs, one each
        self,
        *,
        targets: Mapping[TargetTypes, Target],
        functions: SupplementaryFunctions,
        executions: ExecutionStatus,
        process: Process,
        entropy: Entropy,
        settings: LaunchSettings,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self.count = 0
        self._targets = targets
        self._functions = functions
        self._executions = executions
        self._spilled = SpilledResults(executions)
        self._process = process
        self._entropy = entropy
        self._settings = settings
        self._spawn = spawn
        self._waiting: deque[tuple[Committer, Task, Run, InFlight]] = deque()
        self._under_way: dict[asyncio.Task[None], tuple[Committer, Task, InFlight]] = {}
        self._unrecorded: deque[tuple[float, Committer, str, InFlight]] = deque()
        self._recorder: asyncio.TimerHandle | None = None
        self._is_closing = False

    # -- in and out ----------------------------------------------------------------------------------------------

    def launch(self, committer: Committer, task: Task) -> None:
        """Send an execution that the committed run owes, unless it counts as sent already."""
        run = committer.run
        assert run is not None
        state = run.nodes[task.name]
        sent = committer.in_flight.get(task.name)
        if sent is None or sent.attempt != state.attempt:
            sent = committer.in_flight[task.name] = InFlight(state.attempt)
            self._waiting.append((committer, task, run, sent))
            self._fill()

    def stop(self, committer: Committer, task: Task) -> None:
        """Stop an execution that the committed run wants stopped, and report it when that is done."""
        run = committer.run
        assert run is not None
        state = run.nodes[task.name]
        sent = committer.in_flight.get(task.name)
        if sent is None:
            sent = committer.in_flight[task.name] = InFlight(state.attempt)
        if sent.is_stopping or sent.has_ended:
            return
        sent.is_stopping = True
        running = sent.handle
        if running is not None:
            running.cancel()
        sent.handle = self._spawn(self._stop(committer, task, run, sent, running))

    async def close(self, grace_s: float) -> None:
        """
        Launch nothing more, and wait for what is under way.

        What has not ended after the grace is given up, and what has not begun is given back. The run says so: it goes
        on elsewhere, or at the next start.
        """
        self._is_closing = True
        if self._recorder is not None:
            self._recorder.cancel()
        if self._under_way and grace_s > 0:
            await asyncio.wait(self._under_way, timeout=grace_s)
        left = [(committer, task, sent) for committer, task, _, sent in self._waiting]
        self._waiting.clear()
        left += self._under_way.values()
        handles = list(self._under_way)
        for handle in handles:
            handle.cancel()
        if handles:
            await asyncio.wait(handles, timeout=GIVE_UP_S)
        for committer, task, sent in left:
            if not sent.has_ended and committer.in_flight.get(task.name) is sent:
                committer.post(self._given_up(task, sent))

    def _given_up(self, task: Task, sent: InFlight) -> RunEvent:
        if sent.has_begun and self._process.awaits_events and task.target_type is not TargetTypes.FUNCTION:
            return TaskRunning(task.name, sent.attempt)  # its completion event will come to another process
        return TaskInterrupted(task.name, sent.attempt, was_sent=sent.has_begun)

    def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._under_way) < self._settings.at_once_max and not self._is_closing:
            committer, task, run, sent = self._waiting.popleft()
            if committer.in_flight.get(task.name) is not sent or sent.is_stopping:
                continue
            self.count += 1
            sent.handle = asyncio.Task(self._execute(committer, task, run, sent), loop=loop)
            self._under_way[sent.handle] = committer, task, sent
            sent.handle.add_done_callback(self._ended)
            self._unrecorded.append((loop.time() + self._settings.running_after_s, committer, task.name, sent))
        if self._unrecorded and self._recorder is None and not self._is_closing:
            self._recorder = loop.call_at(self._unrecorded[0][0], self._record_running)

    def _ended(self, handle: asyncio.Task[None]) -> None:
        del self._under_way[handle]
        if self._waiting:
            self._fill()

    def _record_running(self) -> None:
        """Record what has been under way for long: lazily, since most executions end before that is due."""
        self._recorder = None
        loop = asyncio.get_running_loop()
        while self._unrecorded and self._unrecorded[0][0] <= loop.time():
            _, committer, name, sent = self._unrecorded.popleft()
            if committer.in_flight.get(name) is sent and not sent.has_ended:
                committer.post(TaskRunning(name, sent.attempt))
        if self._unrecorded:
            self._recorder = loop.call_at(self._unrecorded[0][0], self._record_running)

    # -- one execution -------------------------------------------------------------------------------------------

    async def _execute(self, committer: Committer, task: Task, run: Run, sent: InFlight) -> None:
        """Carry an execution from its launch to the event that tells what came of it."""
        try:
            event = await self._attempt(committer, task, run, sent)
        except Exception as error:
            logger.exception("launch failed inside aiorch", extra={"run_id": committer.run_id, "node": task.name})
            event = TaskFailed(task.name, sent.attempt, Failure.of("InternalError", repr(error)))
        sent.has_ended = not isinstance(event, TaskRunning)
        committer.post(event)

    async def _attempt(self, committer: Committer, task: Task, run: Run, sent: InFlight) -> RunEvent:
        context = await self._context(committer, task, run, sent)
        limit_s = task.timeout_s
        if limit_s is None:
            answer = await self._answer(committer, task, context, sent)
        else:
            try:
                # It runs from the moment at which the target takes the execution: see `TaskContext.begin`.
                async with asyncio.timeout(None) as sent.deadline:
                    sent.limit_s = limit_s
                    answer = await self._answer(committer, task, context, sent)
            except TimeoutError:
                return _timed_out(task, sent)
        return await self._event_of(answer, committer, task, run, sent)

    async def _answer(self, committer: Committer, task: Task, context: TaskContext, sent: InFlight) -> Answer:
        """Launch, and again as long as it never ran: the same attempt, until the deadline around this."""
        if task.target_type is not TargetTypes.FUNCTION:
            context.begin()
            failure = await self._supplement(task.function, context) if task.function else None
            if failure is not None:
                return Failed(failure)
        pause_s = 0.5
        while isinstance(answer := await self._targets[task.target_type].launch(task, context), NotStarted):
            logger.warning(
                "launch did not start, trying again",
                extra={"run_id": context.run_id, "node": context.node, "reason": answer.reason},
            )
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._settings.backoff_max_s, pause_s * 2)
        if isinstance(answer, Unknown) and self._process.awaits_events:
            # It may have run: its completion event tells, and the commit of that ends this wait.
            sent.awaits_event = True
            committer.post(TaskRunning(task.name, sent.attempt))
            await asyncio.get_running_loop().create_future()
        return answer

    async def _context(self, committer: Committer, task: Task, run: Run, sent: InFlight) -> TaskContext:
        earlier = EarlierNodes(task)
        large: Mapping[str, bytes] = {}
        if run.spilled and (task.function is not None or task.target_type is TargetTypes.FUNCTION):
            large = await self._until_stored(committer, lambda: self._spilled.fetch(run, earlier))
        return _new_context(task, run, Results(run, earlier, large), sent)

    async def _supplement(self, function: str, context: TaskContext) -> Failure | None:
        """Let the task's own function have a say in its parameters."""
        try:
            parameters = await self._functions.call(function, context)
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the user's code raises is its failure
            return Failure.of(type(error).__name__, f"{function!r}, called before the launch: {error}")
        if parameters is None:
            return None
        if not isinstance(parameters, Mapping):
            return Failure.of(
                "TypeError", f"{function!r} must return a mapping or None, not {type(parameters).__name__}"
            )
        context.parameters.update(parameters)
        return None

    async def _event_of(self, answer: Answer, committer: Committer, task: Task, run: Run, sent: InFlight) -> RunEvent:
        match answer:
            case Succeeded(result=result):
                if result is None:
                    return TaskSucceeded(task.name, sent.attempt)
                if len(result) > INLINE_RESULT_BYTES_MAX or not run.has_room(len(result)):
                    await self._until_stored(committer, lambda: self._spilled.save(run, task, result))
                    return TaskSucceeded(task.name, sent.attempt, result_in="execution")
                return TaskSucceeded(task.name, sent.attempt, msgspec.Raw(result))
            case Failed(failure=failure):
                return TaskFailed(task.name, sent.attempt, failure)
            case Accepted(job_id=job_id):
                return TaskRunning(task.name, sent.attempt, job_id)
            case Unknown(reason=reason):
                return TaskLost(task.name, sent.attempt, reason)
            case NotStarted():
                raise AssertionError(answer)
            case unreachable:
                assert_never(unreachable)

    async def _until_stored(self, committer: Committer, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a read or write of an execution's record until the store has done it: an outcome must not be lost."""
        pause_s = 0.2
        while True:
            try:
                return await call()
            except (StoreUnavailable, StoreThrottled) as error:
                logger.warning("store unavailable, trying again", extra={"error": str(error)})
            except StoreError as error:
                committer.refuse(error)
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(STORE_BACKOFF_MAX_S, pause_s * 2)

    async def _stop(
        self, committer: Committer, task: Task, run: Run, sent: InFlight, running: asyncio.Task[None] | None
    ) -> None:
        try:
            if running is not None:
                await asyncio.wait([running], timeout=GIVE_UP_S)
            context = _new_context(task, run, Results(run, EarlierNodes(task), {}), sent)
            await self._targets[task.target_type].stop(task, context, run.nodes[task.name].job_id)
        except Exception:
            # Perhaps it goes on there: not reported as stopped, and tried again when the run is read again.
            logger.exception("task cannot be stopped", extra={"run_id": committer.run_id, "node": task.name})
            sent.is_stopping = False
            return
        sent.has_ended = True
        committer.post(TaskStopped(task.name, sent.attempt))


def _timed_out(task: Task, sent: InFlight) -> RunEvent:
    if sent.awaits_event:
        return TaskLost(task.name, sent.attempt, f"no answer, and no event within its timeout of {sent.limit_s:g} s")
    message = f"{task.target_name!r} did not end within its timeout of {sent.limit_s:g} s"
    if task.on_lost is OnLost.FAIL:
        return TaskLost(task.name, sent.attempt, f"{message}, and may go on: it must not be started twice")
    return TaskFailed(task.name, sent.attempt, Failure.of("Timeout", message))


def _new_context(task: Task, run: Run, results: Results, sent: InFlight) -> TaskContext:
    state, header = run.nodes[task.name], run.header
    return TaskContext(
        run_id=header.run_id,
        dag=header.dag,
        node=task.name,
        attempt=state.attempt,
        execution_id=state.execution_id or "",
        parameters=msgspec.json.decode(task.encoded_parameters),
        encoded_input=header.input,
        results=results,
        on_begin=sent.begin,
    )
