"""Outcomes: the way of one execution, from its launch to the event that tells its outcome."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, assert_never

import msgspec

from aiorch.core.draft import Process, expression_failure
from aiorch.core.run_events import RunEvent, TaskFailed, TaskLost, TaskRunning, TaskStopped, TaskSucceeded, TaskWaits
from aiorch.core.values import NeedsResults, Values, encode_value
from aiorch.documents.executions import Execution, ExecutionStatus
from aiorch.documents.results import EarlierNodes, Results, SpilledResults
from aiorch.engine.committer import BACKOFF_MAX_S as STORE_BACKOFF_MAX_S
from aiorch.engine.committer import Committer
from aiorch.engine.execution_context import executing
from aiorch.engine.in_flight import InFlight
from aiorch.engine.redaction import failure_without_secrets, without_secrets
from aiorch.engine.standstill import EVENTS_S, READING_S, LivedTimeout, Standstill
from aiorch.errors import (
    AiorchError,
    OrchestratorLeftError,
    ResultUnreadableError,
    RunNotFoundError,
    SecretError,
    StoreError,
    StoreThrottled,
    StoreUnavailable,
    counted,
    in_words,
)
from aiorch.expressions.errors import ExpressionError
from aiorch.model.dag import Task, Value
from aiorch.model.enums import OnLost
from aiorch.model.failure import Failure
from aiorch.model.place import At
from aiorch.model.run import INLINE_RESULT_BYTES_MAX, Run
from aiorch.model.run_document import IN_RECORD, NodeState, RunHeader
from aiorch.ports.context import TaskContext
from aiorch.ports.observer import Observer
from aiorch.ports.secrets import Secrets
from aiorch.ports.store import Liveness
from aiorch.ports.target import Accepted, Answer, Failed, NotStarted, PolledTarget, Succeeded, Target, Unknown
from aiorch.ports.world import Clock, Entropy

logger = logging.getLogger(__name__)

GIVE_UP_S = 5.0
"""Seconds to wait for a cancelled call: code that swallows its cancellation must not hold up the end of the process."""

FIRST_POLL_S = 2.0
"""Pause before the first poll of an execution, and after a hint that it may have ended; doubled each time."""

HINT_POLLS_S = (0.0, 5.0, 10.0, 20.0, 40.0)
"""Pauses before each poll that follows a hint about an execution of a different process: the API lags 30 s."""

TAKEN_S = 15.0
"""Seconds after which a target seems to have taken a request, after refusals: no connection takes as long."""

FAULTS_MAX = 5
"""Unexpected exceptions of this process that one execution survives: a defect must not keep it open for ever."""

_T = TypeVar("_T")


class SupplementaryFunctions(Protocol):
    """Calls the function that a task names beside its target."""

    async def call(self, name: str, context: TaskContext) -> Any:
        """Call the function *name* and return its result. Raises the exceptions of the function."""
        ...


class OwedExecution(NamedTuple):
    """One execution, and the run as it was when this process committed to the execution."""

    committer: Committer
    at: At[Task]
    run: Run
    state: NodeState
    """The entry of the task then: a later commit may remove the entry."""

    sent: InFlight


class Outcomes:
    """
    Finds out the outcomes of executions that committed runs owe, and posts them to the committers.

    This class launches and stops executions at their targets, polls them, and turns each answer into a run event.
    """

    def __init__(  # noqa: PLR0913  the needs of an execution, one each
        self,
        *,
        targets: Mapping[str, Target],
        functions: SupplementaryFunctions | None,
        executions: ExecutionStatus,
        spilled: SpilledResults,
        process: Process,
        liveness: Liveness,
        clock: Clock,
        entropy: Entropy,
        observer: Observer,
        standstill: Standstill,
        poll_interval_s: float,
        backoff_max_s: float,
        secrets: Secrets,
        record_of: Callable[[Task, NodeState, RunHeader], Execution],
        is_closing: Callable[[], bool],
    ) -> None:
        self._targets = targets
        self._functions = functions
        self._executions = executions
        self._spilled = spilled
        self._process = process
        self._liveness = liveness
        self._clock = clock
        self._entropy = entropy
        self._observer = observer
        self._standstill = standstill
        self._poll_interval_s = poll_interval_s
        self._backoff_max_s = backoff_max_s
        self._record_of = record_of
        self._secrets = secrets
        self._is_closing = is_closing
        self._asked_about: set[str] = set()

    async def carry(self, execution: OwedExecution) -> None:
        """Carry an execution from its launch to the event that tells its outcome."""
        committer, at, _, _, sent = execution
        try:
            answer = await self._answer_in_time(execution)
            if answer is None:
                return
            self._observer.ended(at.node.target_type, answer, asyncio.get_running_loop().time() - sent.begun_at)
            event = await self._event_of(answer, execution)
        except Exception as error:
            with executing(_new_context(execution), sent.secrets):
                logger.exception("launch failed inside aiorch", extra=_of(execution))
            if not await self._give_up(execution):
                return
            failure = failure_without_secrets(Failure.of("InternalError", repr(error)), sent.secrets)
            event = TaskFailed(at.name, sent.attempt, failure, is_given_up=True)
        sent.has_ended = True
        committer.post(event)

    async def _answer_in_time(self, execution: OwedExecution) -> Answer | None:
        """Return the answer within the task's timeout; `None` when a different process owes the execution now."""
        task, sent = execution.at.node, execution.sent
        context = await self._context(execution)
        limit_s = task.timeout_s
        if limit_s is None:
            return await self._answer(execution, context)
        sent.limit_s = limit_s
        reading_s = EVENTS_S if self._process.awaits_event_of(task) else READING_S
        try:
            # The timeout runs from the moment at which the target takes the execution: see `TaskContext.begin`.
            async with LivedTimeout(self._standstill, reading_s=reading_s) as sent.deadline:
                if sent.was_taken_over:
                    sent.deadline.begin(self._left_s(execution, limit_s))
                return await self._answer(execution, context)
        except TimeoutError:
            return _timed_out(task, sent) if await self._give_up(execution) else None

    async def _give_up(self, execution: OwedExecution) -> bool:
        """Stop an execution that has not ended by itself, wherever it goes on. `False`: we owe it no more."""
        committer, at, _, _, sent = execution
        sent.is_given_up = True
        if not await self._is_still_owed(execution):
            return False
        assert committer.run is not None
        if at.node.execution.can_be_stopped and may_be_launched_before(committer.run.nodes[at.name]):
            sent.is_at_target = True
        return not sent.is_at_target or await self._until_stopped(execution)

    async def _not_sent(self, execution: OwedExecution, failure: Failure) -> Answer | None:
        """Return the failure of an execution that was not sent: its timeout ends, since no outcome can follow."""
        if execution.sent.deadline is not None:
            execution.sent.deadline.drop()
        return Failed(failure) if await self._give_up(execution) else None

    def _left_s(self, execution: OwedExecution, limit_s: float) -> float:
        """Return the seconds that are left of the timeout of an execution that a different process has launched."""
        started_at = execution.state.started_at
        if started_at is None or may_be_launched_before(execution.state):
            return limit_s  # no entry tells the beginning of the last of several launches
        # The clocks of two machines give this time, so keep it within the possible.
        return min(limit_s, max(0.0, limit_s - (self._clock.now() - started_at).total_seconds()))

    async def _answer(self, execution: OwedExecution, context: TaskContext) -> Answer | None:
        committer, at, _, state, sent = execution
        task = at.node
        if sent.was_taken_over:
            answer: Answer | None = self._was_accepted(task, state.job_id)
        else:
            answer = await self._launch(execution, context)
        if isinstance(answer, Accepted):
            return await self._poll(execution, context, answer.job_id)
        if isinstance(answer, Unknown) and self._process.awaits_event_of(task):
            # The execution may have run: its completion event tells, and the commit of that event ends this wait.
            sent.is_awaited = True
            if not sent.was_taken_over:
                self._observer.ended(task.target_type, answer, asyncio.get_running_loop().time() - sent.begun_at)
                logger.warning("no answer, waiting for its event", extra=_about(context) | {"reason": answer.reason})
            committer.post(answer_lost(at.name, sent))
            await asyncio.get_running_loop().create_future()
        return answer

    def _was_accepted(self, task: Task, job_id: str | None) -> Answer:
        if isinstance(self._targets[task.target_type], PolledTarget):
            return Accepted(job_id)
        return Unknown("its process died before the answer came")

    async def _launch(self, execution: OwedExecution, context: TaskContext) -> Answer | None:
        """Launch, and launch again while the execution never ran: the same attempt, until the caller's deadline."""
        committer, at, _, _, sent = execution
        task = at.node
        failure = await self._fill(execution, context)
        if failure is not None:
            return await self._not_sent(execution, failure)
        if task.supplement:
            sent.is_preparing = True
            context.begin()
            failure = await self._supplement(task.supplement, context, sent.secrets)
            sent.is_preparing = False
            if failure is not None:
                return await self._not_sent(execution, failure)
        pause_s = 0.5
        kind = task.execution
        may_arrive = False
        while True:
            if not await self._is_still_owed(execution):
                return None
            self._observer.launched(task.target_type)
            target = self._targets[task.target_type]
            if not getattr(target, "begins_itself", False):
                context.begin()
            sent.is_at_target = kind.can_be_stopped
            started = TaskWaits(at.name, sent.attempt, None, sent.launch)
            taken = asyncio.get_running_loop().call_later(TAKEN_S, committer.note, started) if sent.refusals else None
            with executing(context, sent.secrets):
                try:
                    answer = await target.launch(task, context)
                except Exception as error:
                    if not kind.outlives_process:
                        raise
                    # A request may be out: the next launch of a job finds the job, an event tells the end of a call.
                    _excuse(execution, "launch failed inside aiorch, and may have been sent")
                    reason = f"InternalError: {in_words(error)}"
                    answer = NotStarted(reason, may_arrive=True) if kind.is_found_again else Unknown(reason)
                finally:
                    if taken is not None:
                        taken.cancel()
            if sent.secrets:
                answer = without_secrets(answer, sent.secrets)
            if isinstance(answer, Failed) and kind.is_polled:
                sent.is_at_target = kind.can_be_stopped and may_arrive
                return await self._not_sent(execution, answer.failure)
            if not isinstance(answer, NotStarted):
                return answer
            # An unanswered launch of a job may still arrive: only the process that takes over can find out.
            sent.is_out = kind.is_found_again
            sent.refusals += 1
            sent.refusal = answer.reason
            committer.note(TaskWaits(at.name, sent.attempt, answer.reason, sent.launch))
            may_arrive |= answer.may_arrive
            logger.warning("launch did not start, trying again", extra=_about(context) | {"reason": answer.reason})
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._backoff_max_s, pause_s * 2)

    async def _is_still_owed(self, execution: OwedExecution) -> bool:
        """
        Say whether this process still owes an execution that is to be sent, or given up, as far as it can know.

        If this process was silent for so long that it may have been called dead, now or since it last knew the run,
        a different process may have taken over: then this process makes itself heard and reads the run again.
        """
        committer, at, _, _, sent = execution
        process = self._process.id
        is_known = True
        # In a loop, since this process may have been silent while it looked.
        while is_known and (
            self._liveness.is_silent(process) or committer.known_at < self._liveness.heard_since(process)
        ):
            is_known = await self._look_again(execution)
        if committer.in_flight.get(at.name) is not sent:
            return False
        state = committer.run.nodes.get(at.name) if is_known and committer.run is not None else None
        if state is not None and state.attempt == sent.attempt and state.by == process and state.is_live:
            return not state.stop
        if not sent.is_stopping:
            del committer.in_flight[at.name]  # if we owe it all the same, the next look at the run launches it
        return False

    async def _look_again(self, execution: OwedExecution) -> bool:
        """Be heard, and read the run again, in as many tries as needed. `False`: the run or the time is gone."""
        committer = execution.committer
        await self._until_stored(execution, lambda: self._liveness.announce(self._process.id))
        pause_s = 1.0
        while True:
            try:
                await committer.apply(None)
            except AiorchError as error:
                about = _of(execution) | {"error": str(error)}
                logger.warning("neither launched nor given up, since its run cannot be read", extra=about)
                if isinstance(error, RunNotFoundError | OrchestratorLeftError):
                    return False
            else:
                return True
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._backoff_max_s, pause_s * 2)

    # -- executions that end later -------------------------------------------------------------------------------

    async def _poll(self, execution: OwedExecution, context: TaskContext, job_id: str | None) -> Answer:
        """Record that the target has the execution, and poll the target until the execution has ended."""
        committer, at, run, state, sent = execution
        task = at.node
        target = self._targets[task.target_type]
        assert isinstance(target, PolledTarget), task.target_type
        sent.is_awaited = sent.is_at_target = True
        sent.job_id = job_id
        committer.post(TaskRunning(at.name, sent.attempt, job_id, sent.launch))
        if job_id is not None and not sent.was_taken_over:
            record = self._record_of(task, state, run.header)
            await self._until_stored(execution, lambda: self._executions.name_also(job_id, record))
        if task.secrets:
            await self._find_secrets(execution)
        pause_s = FIRST_POLL_S
        while True:
            pause_s = min(self._poll_interval_s, pause_s)
            try:
                async with asyncio.timeout(pause_s * (0.75 + 0.5 * self._entropy.jitter())):
                    await sent.hint.wait()
            except TimeoutError:
                pause_s *= 2
            else:
                sent.hint.clear()
                pause_s = FIRST_POLL_S
            with executing(context, sent.secrets):
                try:
                    answer = await target.poll(task, context, job_id)
                except Exception:  # noqa: BLE001  the job goes on, also after a defect in this process
                    _excuse(execution, "execution cannot be asked about, trying again")
                    continue
            sent.faults = 0
            if answer is not None:
                return answer

    async def ask_about(self, committer: Committer, at: At[Task], attempt: int) -> None:
        """Ask a few times about an execution of a different process, which does not know of the hint."""
        target, run = self._targets.get(at.node.target_type), committer.run
        if not isinstance(target, PolledTarget) or run is None:
            return
        state = run.nodes[at.name]
        key = state.execution_id or ""
        if state.attempt != attempt or not state.is_live or key in self._asked_about:
            return
        self._asked_about.add(key)
        execution = OwedExecution(committer, at, run, state, InFlight(attempt))
        try:
            context = await self._context(execution)
            if at.node.secrets:
                await self._find_secrets(execution)
            for pause_s in HINT_POLLS_S:
                await asyncio.sleep(pause_s)
                with executing(context, execution.sent.secrets):
                    try:
                        answer = await target.poll(at.node, context, state.job_id)
                    except Exception:  # noqa: BLE001  a spawned coroutine raises no exception
                        _excuse(execution, "execution cannot be asked about, trying again")
                        continue
                if answer is not None and not isinstance(answer, Unknown):
                    committer.post(await self._event_of(answer, execution))
                    return
        finally:
            self._asked_about.discard(key)

    async def _until_stopped(self, execution: OwedExecution) -> bool:
        """
        Stop an execution at its target, in as many tries as needed: it costs money, and the next attempt may wait for
        its end.

        Returns:
            `False` when this process ends first, or owes the execution no more: the process that owes it then stops it.
        """
        _, at, _, state, sent = execution
        task = at.node
        context = _new_context(execution)
        if task.secrets:
            await self._find_secrets(execution)
        pause_s = 1.0
        while True:
            job_id = sent.job_id or state.job_id
            with executing(context, sent.secrets):
                try:
                    await self._targets[task.target_type].stop(task, context, job_id)
                except Exception:
                    logger.exception("task cannot be stopped, trying again", extra=_of(execution))
                else:
                    return True
            if self._is_closing():
                return False
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._backoff_max_s, pause_s * 2)
            if not sent.is_stopping and not await self._is_still_owed(execution):
                return False

    async def _context(self, execution: OwedExecution) -> TaskContext:
        at, run = execution.at, execution.run
        earlier = EarlierNodes(at)
        large: Mapping[str, bytes] = {}
        if run.spilled and at.node.reads_results:
            large = await self._until_stored(execution, lambda: self._spilled.fetch(run, earlier.entries(run)))
        return _new_context(execution, Results(run, earlier, large))

    async def _evaluate(self, execution: OwedExecution, value: Value, **more: Any) -> Any:
        """
        Work out a value of the definition for an execution, over the committed run.

        Args:
            execution: The execution.

            value: The value, with its expressions.

            more: Values by name that only this value may read.

        Raises:
            ExpressionError: There is no value.
        """
        at, run = execution.at, execution.run
        loaded: dict[str, bytes] = {}
        while True:
            try:
                return value.evaluate(Values(run.header, run.nodes.__getitem__, loaded).names(at, value.reads, **more))
            except NeedsResults as needed:
                loaded |= await self._until_stored(execution, partial(self._spilled.of, needed.places))

    async def _fill(self, execution: OwedExecution, context: TaskContext) -> Failure | None:
        """Replace the expressions in the parameters of a launch. Return the failure of one that has no value."""
        value = execution.at.node.parameters_value
        if value is None:
            return None
        facts = {"execution_id": context.execution_id, "attempt": context.attempt}
        secrets = await self._read_secrets(execution)
        context.has_secrets = bool(secrets)
        try:
            context.parameters = await self._evaluate(execution, value, task=facts, secrets=secrets)
        except ExpressionError as error:
            return expression_failure(error)
        return None

    async def _read_secrets(self, execution: OwedExecution) -> Mapping[str, str]:
        """Return the secrets that the parameters of a launch read, in as many tries as needed."""
        _, at, _, _, sent = execution
        pause_s = 1.0
        while at.node.secrets:
            try:
                secrets = dict(await self._secrets.values(sorted(at.node.secrets)))
            except SecretError as error:
                execution.committer.note(TaskWaits(at.name, sent.attempt, str(error), sent.launch))
                about = _of(execution) | {"error": str(error)}
                logger.warning("not launched, since a secret cannot be read", extra=about)
            else:
                sent.secrets = tuple(secrets.values())
                return secrets
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(self._backoff_max_s, pause_s * 2)
        return {}

    async def _find_secrets(self, execution: OwedExecution) -> None:
        """
        Read the secrets that a different process gave to an execution, unless they are known.

        Texts are kept without these values. Missing are the secrets that this process does not have, all of them if
        one cannot be read at present, and older versions of a secret that has changed since the launch.
        """
        sent = execution.sent
        if sent.secrets:
            return
        whys = {name: self._secrets.why_not(name) for name in sorted(execution.at.node.secrets)}
        reasons = [why for why in whys.values() if why is not None]
        try:
            known = await self._secrets.values([name for name, why in whys.items() if why is None])
            sent.secrets = tuple(known.values())
        except Exception as error:  # noqa: BLE001  an execution ends and is stopped, also after a defect in this process
            reasons.append(in_words(error))
        if reasons:
            about = _of(execution) | {"error": "; ".join(reasons)}
            logger.warning("secrets not hidden in answers and logs of a task", extra=about)

    async def _supplement(self, function: str, context: TaskContext, secrets: Sequence[str]) -> Failure | None:
        """Let the task's own function change the parameters of the launch."""
        try:
            with executing(context, secrets):
                assert self._functions is not None
                parameters = await self._functions.call(function, context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # a stop, a timeout, or the end of this process
            return Failure.of("CancelledError", f"{function!r}, called before the launch, was cancelled from within")
        except (Exception, SystemExit) as error:  # noqa: BLE001  any exception of the user's code is its failure
            return Failure.of(
                type(error).__name__, f"{function!r}, called before the launch: {str(error) or 'no message'}"
            )
        if parameters is None:
            return None
        if not isinstance(parameters, Mapping):
            return Failure.of(
                "TypeError", f"{function!r} must return a mapping or None, not {type(parameters).__name__}"
            )
        context.parameters.update(parameters)
        return None

    async def _event_of(self, answer: Answer, execution: OwedExecution) -> RunEvent:
        _, at, run, state, sent = execution
        if at.node.secrets:
            await self._find_secrets(execution)
            answer = without_secrets(answer, sent.secrets)
        match answer:
            case Succeeded(result=result):
                if at.node.result_value is not None:
                    own = None if result is None else msgspec.json.decode(result)
                    try:
                        result = encode_value(await self._evaluate(execution, at.node.result_value, result=own))
                    except ExpressionError as error:
                        return TaskFailed(at.name, sent.attempt, expression_failure(error))
                if result is None:
                    return TaskSucceeded(at.name, sent.attempt)
                if len(result) > INLINE_RESULT_BYTES_MAX or not run.has_room(len(result)):
                    record = self._record_of(at.node, state, run.header)
                    await self._until_stored(execution, lambda: self._spilled.save(record, result))
                    return TaskSucceeded(at.name, sent.attempt, result_in=IN_RECORD)
                return TaskSucceeded(at.name, sent.attempt, msgspec.Raw(result))
            case Failed(failure=failure):
                is_given_up = sent.is_given_up or (sent.deadline is not None and sent.deadline.expired())
                return TaskFailed(at.name, sent.attempt, failure, is_given_up, sent.launch if is_given_up else 0)
            case Unknown(reason=reason):
                return TaskLost(at.name, sent.attempt, reason, sent.launch)
            case NotStarted() | Accepted():
                raise AssertionError(answer)
            case unreachable:
                assert_never(unreachable)

    async def _until_stored(self, execution: OwedExecution, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat *call* on an execution's record until the store has done it: an outcome must not be lost."""
        pause_s = 0.2
        while True:
            try:
                done = await call()
            except (StoreUnavailable, StoreThrottled, ResultUnreadableError) as error:
                logger.warning("store unavailable, trying again", extra=_of(execution) | {"error": str(error)})
            except StoreError as error:
                execution.committer.refuse(error)
            except Exception:  # noqa: BLE001  a sent execution must not end as if it had not been sent
                _excuse(execution, "store failed inside aiorch, trying again")
            else:
                execution.sent.faults = 0
                return done
            await asyncio.sleep(pause_s * (0.5 + self._entropy.jitter()))
            pause_s = min(STORE_BACKOFF_MAX_S, pause_s * 2)

    async def stop(self, execution: OwedExecution, running: asyncio.Task[None] | None) -> None:
        committer, at, _, _, sent = execution
        if running is not None:
            await asyncio.wait([running], timeout=GIVE_UP_S)
        if await self._until_stopped(execution):
            sent.has_ended = True
            committer.post(TaskStopped(at.name, sent.attempt))


def _excuse(execution: OwedExecution, what: str) -> None:
    """
    Log the exception that is being handled, and raise it again if its execution has met too many.

    Raises:
        Exception: The exception that is being handled, the `FAULTS_MAX` + 1st.
    """
    execution.sent.faults += 1
    if execution.sent.faults > FAULTS_MAX:
        raise  # noqa: PLE0704  the exception of the caller
    logger.exception(what, extra=_of(execution))  # noqa: LOG004  called by exception handlers only


def answer_lost(name: str, sent: InFlight) -> TaskRunning:
    """Say that no process waits for the answer to a call any more: its event will tell the outcome of the call."""
    return TaskRunning(name, sent.attempt, launch=sent.launch, answer_lost=True, was_refused=sent.refusals > 0)


def may_be_launched_before(state: NodeState) -> bool:
    """Whether a former owner of an execution may have launched it."""
    return state.launches > 1


def _of(execution: OwedExecution) -> dict[str, Any]:
    """Return the facts for log records about an execution that has no context yet, or no context any more."""
    committer, at, _, state, sent = execution
    return {
        "run_id": committer.run_id,
        "node": at.name,
        "attempt": sent.attempt,
        "execution_id": state.execution_id,
    }


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
    limit = f"its timeout of {sent.limit_s:g} s"
    tried = f"was tried {counted(sent.refusals, 'time')}"
    if sent.refusal is not None:
        message = f"{task.target_name!r} did not start within {limit}: it {tried}, the last time: {sent.refusal}"
        return Failed(Failure.of("NotStarted", message))
    message = f"{task.target_name!r} did not end within {limit}"
    if sent.refusals:
        message += f", after it {tried} and refused"
    if task.on_lost is OnLost.FAIL and sent.is_out and not sent.is_at_target:
        return Unknown(f"{message}, and may go on: it must not be started twice")
    return Failed(Failure.of("Timeout", message + (", and was stopped" if sent.is_at_target else "")))


def _new_context(execution: OwedExecution, results: Results | None = None) -> TaskContext:
    _, at, run, state, sent = execution
    header = run.header
    return TaskContext(
        run_id=header.run_id,
        dag=header.dag,
        node=at.name,
        attempt=state.attempt,
        execution_id=state.execution_id or "",
        parameters=msgspec.json.decode(at.node.encoded_parameters),
        encoded_input=header.input,
        results=Results(run, EarlierNodes(at), {}) if results is None else results,
        on_begin=sent.begin,
        on_blocked=sent.blocked,
    )
