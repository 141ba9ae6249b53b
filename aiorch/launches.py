"""Launches: what a committed intent turns into, and what each answer of a target means."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, assert_never

import msgspec

from aiorch.committer import BACKOFF_MAX_S as STORE_BACKOFF_MAX_S
from aiorch.committer import Committer
from aiorch.context import TaskContext
from aiorch.enums import OnLost, TargetTypes
from aiorch.errors import (
    AiorchError,
    OrchestratorLeftError,
    RunNotFoundError,
    StoreError,
    StoreThrottled,
    StoreUnavailable,
)
from aiorch.failure import Failure
from aiorch.in_flight import InFlight
from aiorch.nodes import Task
from aiorch.ports import (
    Accepted,
    Answer,
    Clock,
    Entropy,
    Failed,
    Liveness,
    NotStarted,
    Observer,
    PolledTarget,
    Succeeded,
    Target,
    Unknown,
)
from aiorch.results import EarlierNodes, Results, SpilledResults
from aiorch.room import Room
from aiorch.run_document import NodeState, RunHeader
from aiorch.run_state import INLINE_RESULT_BYTES_MAX, Run
from aiorch.status import Execution, ExecutionStatus
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

FIRST_POLL_S = 2.0
"""Pause before the first question about an execution, and after a hint that it may have ended; doubled each time."""

HINT_POLLS_S = (0.0, 5.0, 10.0, 20.0, 40.0)
"""Pauses before each question that follows a hint about an execution of another process: the API lags 30 s."""

_T = TypeVar("_T")


DATAFLOW_JOBS_MAX = 25
"""Source: Dataflow documentation, "Quotas": 25 concurrent jobs per project, unless raised."""


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """What can be tuned about launches."""

    at_once_max: int = 10_000
    """Executions under way at once in this process: more wait their turn, so that memory is bounded."""

    running_after_s: float | None = None
    """After how long an execution that is under way is recorded as ``Running``; `None`: the store's `Pace` says it."""

    poll_interval_s: float = 30.0
    """Longest pause between two questions about an execution whose target has taken it."""

    limits: Mapping[TargetTypes, int] = field(default_factory=lambda: {TargetTypes.DATAFLOW: DATAFLOW_JOBS_MAX})
    """Executions of a target type under way at once in this process. Surplus tasks wait as ``New``."""

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
        liveness: Liveness,
        clock: Clock,
        entropy: Entropy,
        observer: Observer,
        settings: LaunchSettings,
        spawn: Callable[..., asyncio.Task[None]],
        room: Room,
        record_of: Callable[[Task, NodeState, RunHeader], Execution],
    ) -> None:
        self._record_of = record_of
        self._begin_themselves = {kind for kind, target in targets.items() if getattr(target, "begins_itself", False)}
        self._targets = targets
        self._functions = functions
        self._executions = executions
        self._spilled = SpilledResults(executions)
        self._process = process
        self._liveness = liveness
        self._clock = clock
        self._entropy = entropy
        self._observer = observer
        self._settings = settings
        self._spawn = spawn
        self._room = room
        self._waiting: deque[_Execution] = deque()
        self._limited: dict[TargetTypes, deque[_Execution]] = {kind: deque() for kind in settings.limits}
        self._under_way: dict[asyncio.Task[None], _Execution] = {}
        self._asked_about: set[str] = set()
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
            execution = _Execution(committer, task, run, sent)
            queue = self._limited.get(task.target_type)
            if queue is not None:
                self._room.take(task.target_type)
                queue.append(execution)
                self._fill_limited(task.target_type)
            elif self._may_begin:
                self._begin(execution)
            else:
                self._waiting.append(execution)

    def await_end(self, committer: Committer, task: Task) -> None:
        """Find out how an execution ends that another process has launched, and that this one has taken over."""
        run = committer.run
        assert run is not None
        is_told = task.target_type is not TargetTypes.FUNCTION
        if is_told and task.name not in committer.in_flight and not self._is_closing:
            attempt = run.nodes[task.name].attempt
            sent = committer.in_flight[task.name] = InFlight(attempt, was_taken_over=True)
            if task.target_type in self._limited:
                self._room.take(task.target_type)
            self._begin(_Execution(committer, task, run, sent))

    def hint(self, committer: Committer, task: Task, attempt: int) -> None:
        """Ask soon whether an execution has ended: something said so. Whoever has launched it, this process asks."""
        sent = committer.in_flight.get(task.name)
        if sent is not None and sent.attempt == attempt:
            sent.hint.set()
        else:
            self._spawn(self._ask_about(committer, task, attempt), may_be_cut=True)

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
        left = [execution for queue in (self._waiting, *self._limited.values()) for execution in queue]
        left += self._under_way.values()
        ending = [handle for handle, execution in self._under_way.items() if not execution.sent.is_awaited]
        if ending and grace_s > 0:
            await asyncio.wait(ending, timeout=grace_s)
        handles = list(self._under_way)
        for handle in handles:
            handle.cancel()
        if handles:
            await asyncio.wait(handles, timeout=GIVE_UP_S)
        for execution in left:
            committer, task, _, sent = execution
            if not sent.has_ended and committer.in_flight.get(task.name) is sent:
                event = self._given_up(execution)
                if event is not None:
                    committer.post(event)

    def _given_up(self, execution: "_Execution") -> RunEvent | None:
        _, task, run, sent = execution
        if task.target_type is TargetTypes.DATAFLOW and (sent.is_out or run.nodes[task.name].launches > 1):
            # Launched here, or perhaps by whoever owned it before: the next one finds the job, if there is one.
            return None
        if sent.is_out and self._process.awaits_events and task.target_type is not TargetTypes.FUNCTION:
            return TaskRunning(task.name, sent.attempt)  # its completion event will come to another process
        return TaskInterrupted(task.name, sent.attempt, was_sent=sent.is_out)

    def _fill_limited(self, kind: TargetTypes) -> None:
        queue = self._limited[kind]
        while queue and not self._room.is_full(kind, queued=len(queue)) and self._may_begin:
            self._begin(queue.popleft())

    @property
    def _may_begin(self) -> bool:
        return len(self._under_way) < self._settings.at_once_max and not self._is_closing

    def _begin(self, execution: "_Execution") -> None:
        committer, task, _, sent = execution
        if committer.in_flight.get(task.name) is not sent or sent.is_stopping:
            if task.target_type in self._limited:
                self._room.give_back(task.target_type)
            return
        loop = asyncio.get_running_loop()
        sent.begun_at = loop.time()
        sent.handle = asyncio.Task(self._execute(execution), loop=loop)
        self._under_way[sent.handle] = execution
        sent.handle.add_done_callback(self._ended)
        if task.target_type is TargetTypes.DATAFLOW or sent.was_taken_over:
            return  # a job is recorded as soon as it is accepted, what was taken over has been
        assert self._settings.running_after_s is not None
        self._unrecorded.append((loop.time() + self._settings.running_after_s, committer, task.name, sent))
        if self._recorder is None and not self._is_closing:
            self._recorder = loop.call_at(self._unrecorded[0][0], self._record_running)

    def _ended(self, handle: asyncio.Task[None]) -> None:
        kind = self._under_way.pop(handle).task.target_type
        if kind in self._limited:
            self._room.give_back(kind)
        for limited, queue in self._limited.items():
            if queue:  # perhaps it was only this process that was full
                self._fill_limited(limited)
        while self._waiting and self._may_begin:
            self._begin(self._waiting.popleft())
        if kind in self._limited and not self._is_closing:
            self._room.offer(kind)

    def _record_running(self) -> None:
        """Record what has been under way for long: lazily, since most executions end before that is due."""
        self._recorder = None
        loop = asyncio.get_running_loop()
        while self._unrecorded and self._unrecorded[0][0] <= loop.time():
            _, committer, name, sent = self._unrecorded.popleft()
            if committer.in_flight.get(name) is not sent or sent.has_ended:
                continue
            if sent.is_out:
                committer.post(TaskRunning(name, sent.attempt))
            else:  # it waits for its turn, or was turned away: nothing of it runs, and nobody shall wait for its end
                assert self._settings.running_after_s is not None
                self._unrecorded.append((loop.time() + self._settings.running_after_s, committer, name, sent))
        if self._unrecorded:
            self._recorder = loop.call_at(self._unrecorded[0][0], self._record_running)

    # -- one execution -------------------------------------------------------------------------------------------

    async def _execute(self, execution: "_Execution") -> None:
        """Carry an execution from its launch to the event that tells what came of it."""
        committer, task, _, sent = execution
        try:
            answer = await self._answer_in_time(execution)
            if answer is None:
                return
            self._observer.ended(task.target_type, answer, asyncio.get_running_loop().time() - sent.begun_at)
            event = await self._event_of(answer, execution)
        except Exception as error:
            logger.exception("launch failed inside aiorch", extra={"run_id": committer.run_id, "node": task.name})
            event = TaskFailed(task.name, sent.attempt, Failure.of("InternalError", repr(error)), is_given_up=True)
        sent.has_ended = True
        committer.post(event)

    async def _answer_in_time(self, execution: "_Execution") -> Answer | None:
        """Return what came of an execution, within the task's timeout; `None` when it is owed by somebody else now."""
        _, task, _, sent = execution
        context = await self._context(execution)
        limit_s = task.timeout_s
        if limit_s is None:
            return await self._answer(execution, context)
        try:
            # It runs from the moment at which the target takes the execution: see `TaskContext.begin`.
            async with asyncio.timeout(None) as sent.deadline:
                sent.limit_s = limit_s
                if sent.was_taken_over:
                    sent.deadline.reschedule(asyncio.get_running_loop().time() + self._left_s(execution, limit_s))
                return await self._answer(execution, context)
        except TimeoutError:
            if not await self._is_still_owed(execution):
                return None
            if sent.is_at_target and not await self._until_stopped(execution, context):
                return None
            return _timed_out(task, sent)

    def _left_s(self, execution: "_Execution", limit_s: float) -> float:
        """What is left of the timeout of an execution that another process has launched."""
        started_at = execution.run.nodes[execution.task.name].started_at
        if started_at is None:
            return limit_s
        # By the clocks of two machines, so within what it could be.
        return min(limit_s, max(0.0, limit_s - (self._clock.now() - started_at).total_seconds()))

    async def _answer(self, execution: "_Execution", context: TaskContext) -> Answer | None:
        committer, task, run, sent = execution
        if sent.was_taken_over:
            answer: Answer | None = self._was_accepted(task, run.nodes[task.name].job_id)
        else:
            answer = await self._launch(execution, context)
        if isinstance(answer, Accepted):
            return await self._poll(execution, context, answer.job_id)
        if isinstance(answer, Unknown) and self._process.awaits_events:
            # It may have run: its completion event tells, and the commit of that ends this wait.
            sent.is_awaited = True
            if not sent.was_taken_over:
                self._observer.ended(task.target_type, answer, asyncio.get_running_loop().time() - sent.begun_at)
                logger.warning("no answer, waiting for its event", extra=_about(context) | {"reason": answer.reason})
            committer.post(TaskRunning(task.name, sent.attempt))
            await asyncio.get_running_loop().create_future()
        return answer

    def _was_accepted(self, task: Task, job_id: str | None) -> Answer:
        if isinstance(self._targets[task.target_type], PolledTarget):
            return Accepted(job_id)
        return Unknown("its process died before the answer came")

    async def _launch(self, execution: "_Execution", context: TaskContext) -> Answer | None:
        """Launch, and again as long as it never ran: the same attempt, until the deadline around this."""
        _, task, _, sent = execution
        if task.target_type is not TargetTypes.FUNCTION and task.function:
            context.begin()
            failure = await self._supplement(task.function, context)
            if failure is not None:
                return Failed(failure) if await self._is_still_owed(execution) else None
            sent.is_out = False
        pause_s = 0.5
        sent.is_at_target = task.target_type is TargetTypes.DATAFLOW
        while True:
            if not await self._is_still_owed(execution):
                return None
            self._observer.launched(task.target_type)
            target = self._targets[task.target_type]
            if task.target_type not in self._begin_themselves:
                context.begin()
            answer = await target.launch(task, context)
            if not isinstance(answer, NotStarted):
                return answer
            # A launch of a job that was not answered may still arrive: only whoever takes over can find out.
            sent.is_out = sent.is_at_target
            logger.warning("launch did not start, trying again", extra=_about(context) | {"reason": answer.reason})
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._settings.backoff_max_s, pause_s * 2)

    async def _is_still_owed(self, execution: "_Execution") -> bool:
        """
        Say whether an execution that is to be sent, or given up, is still ours, as far as can be known.

        If this process was silent for so long that it may have been called dead, now or since it last knew the run,
        another one may have taken over: then it makes itself heard and reads the run again.
        """
        committer, task, _, sent = execution
        process = self._process.id
        is_known = True
        # Again, since it may have been silent while it looked.
        while is_known and (
            self._liveness.is_silent(process) or committer.known_at < self._liveness.heard_since(process)
        ):
            is_known = await self._look_again(committer, task)
        if committer.in_flight.get(task.name) is not sent:
            return False
        state = committer.run.nodes[task.name] if is_known and committer.run is not None else None
        if state is not None and state.attempt == sent.attempt and state.by == process and state.is_live:
            return not state.stop
        if not sent.is_stopping:
            del committer.in_flight[task.name]  # should it be owed all the same, the next look at the run launches it
        return False

    async def _look_again(self, committer: Committer, task: Task) -> bool:
        """Be heard, and read the run again, however often that takes. `False`: there is none any more, or no time."""
        await self._until_stored(committer, lambda: self._liveness.announce(self._process.id))
        pause_s = 1.0
        while True:
            try:
                await committer.apply(None)
            except AiorchError as error:
                about = {"run_id": committer.run_id, "node": task.name, "error": str(error)}
                logger.warning("neither launched nor given up, since its run cannot be read", extra=about)
                if isinstance(error, RunNotFoundError | OrchestratorLeftError):
                    return False
            else:
                return True
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._settings.backoff_max_s, pause_s * 2)

    # -- what ends later -----------------------------------------------------------------------------------------

    async def _poll(self, execution: "_Execution", context: TaskContext, job_id: str | None) -> Answer:
        """Record that the target has the execution, and ask about it until it has ended."""
        committer, task, run, sent = execution
        target = self._targets[task.target_type]
        assert isinstance(target, PolledTarget), task.target_type
        sent.is_awaited = sent.is_at_target = True
        sent.job_id = job_id
        committer.post(TaskRunning(task.name, sent.attempt, job_id))
        if job_id is not None and not sent.was_taken_over:
            record = self._record_of(task, run.nodes[task.name], run.header)
            await self._until_stored(committer, lambda: self._executions.name_also(job_id, record))
        pause_s = FIRST_POLL_S
        while True:
            pause_s = min(self._settings.poll_interval_s, pause_s)
            try:
                async with asyncio.timeout(pause_s * (0.75 + 0.5 * self._entropy.jitter())):
                    await sent.hint.wait()
            except TimeoutError:
                pause_s *= 2
            else:
                sent.hint.clear()
                pause_s = FIRST_POLL_S
            answer = await target.poll(task, context, job_id)
            if answer is not None:
                return answer

    async def _ask_about(self, committer: Committer, task: Task, attempt: int) -> None:
        """Ask a few times about an execution that another process looks after, which does not know of the hint."""
        target, run = self._targets.get(task.target_type), committer.run
        if not isinstance(target, PolledTarget) or run is None:
            return
        state = run.nodes[task.name]
        key = state.execution_id or ""
        if state.attempt != attempt or not state.is_live or key in self._asked_about:
            return
        self._asked_about.add(key)
        execution = _Execution(committer, task, run, InFlight(attempt))
        try:
            context = await self._context(execution)
            for pause_s in HINT_POLLS_S:
                await asyncio.sleep(pause_s)
                answer = await target.poll(task, context, state.job_id)
                if answer is not None and not isinstance(answer, Unknown):
                    committer.post(await self._event_of(answer, execution))
                    return
        finally:
            self._asked_about.discard(key)

    async def _until_stopped(self, execution: "_Execution", context: TaskContext) -> bool:
        """
        Stop an execution at its target, however often that takes: it costs money, and another attempt may wait for it.

        Returns:
            `False` when this process ends before that: it is not reported as stopped, and whoever takes over stops it.
        """
        committer, task, run, sent = execution
        pause_s = 1.0
        while True:
            try:
                job_id = sent.job_id or run.nodes[task.name].job_id
                await self._targets[task.target_type].stop(task, context, job_id)
            except Exception:
                logger.exception(
                    "task cannot be stopped, trying again", extra={"run_id": committer.run_id, "node": task.name}
                )
            else:
                return True
            if self._is_closing:
                return False
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._settings.backoff_max_s, pause_s * 2)

    async def _context(self, execution: "_Execution") -> TaskContext:
        committer, task, run, sent = execution
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

    async def _event_of(self, answer: Answer, execution: "_Execution") -> RunEvent:
        committer, task, run, sent = execution
        match answer:
            case Succeeded(result=result):
                if result is None:
                    return TaskSucceeded(task.name, sent.attempt)
                if len(result) > INLINE_RESULT_BYTES_MAX or not run.has_room(len(result)):
                    record = self._record_of(task, run.nodes[task.name], run.header)
                    await self._until_stored(committer, lambda: self._spilled.save(record, result))
                    return TaskSucceeded(task.name, sent.attempt, result_in="execution")
                return TaskSucceeded(task.name, sent.attempt, msgspec.Raw(result))
            case Failed(failure=failure):
                is_given_up = sent.deadline is not None and sent.deadline.expired()
                return TaskFailed(task.name, sent.attempt, failure, is_given_up)
            case Unknown(reason=reason):
                return TaskLost(task.name, sent.attempt, reason)
            case NotStarted() | Accepted():
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
        if running is not None:
            await asyncio.wait([running], timeout=GIVE_UP_S)
        context = _new_context(task, run, Results(run, EarlierNodes(task), {}), sent)
        if await self._until_stopped(_Execution(committer, task, run, sent), context):
            sent.has_ended = True
            committer.post(TaskStopped(task.name, sent.attempt))


class _Execution(NamedTuple):
    """One execution, and the run as it was when that was committed to."""

    committer: Committer
    task: Task
    run: Run
    sent: InFlight


def _about(context: TaskContext) -> dict[str, Any]:
    return {
        "run_id": context.run_id,
        "node": context.node,
        "attempt": context.attempt,
        "execution_id": context.execution_id,
    }


def _timed_out(task: Task, sent: InFlight) -> Answer:
    if sent.is_awaited and not sent.is_at_target:
        return Unknown(f"no answer, and no event within its timeout of {sent.limit_s:g} s")
    message = f"{task.target_name!r} did not end within its timeout of {sent.limit_s:g} s"
    if task.on_lost is OnLost.FAIL and sent.is_out and not sent.is_at_target:
        return Unknown(f"{message}, and may go on: it must not be started twice")
    return Failed(Failure.of("Timeout", message + (", and was stopped" if sent.is_at_target else "")))


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
