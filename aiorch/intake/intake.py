"""
The intake: from deliveries of messages to events in the inboxes of runs.

A message is acknowledged only after the commit that contains what it said, or when it needs none. One bad message
never stops another.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from aiorch.core.fold import FoldError
from aiorch.core.run_events import RunEvent, TaskFailed, TaskSucceeded, TaskUnanswered
from aiorch.documents.executions import Execution
from aiorch.engine.executor import DAGExecutor
from aiorch.errors import (
    AiorchError,
    DefinitionGoneError,
    DocumentError,
    MalformedEventError,
    NewerSchemaError,
    RunConflictError,
    RunNotFoundError,
    RunTooLargeError,
    StoreError,
)
from aiorch.events.decode import EventFactory, decode_message, start_run_id
from aiorch.events.event import CancelEvent, CloudFunctionEvent, DataflowEvent, Event, StartEvent
from aiorch.intake.answers import is_called_here, let_answer_come
from aiorch.model.dag import DAG
from aiorch.model.failure import Failure
from aiorch.model.status import TaskStatus
from aiorch.ports.source import Delivery, EventSource

logger = logging.getLogger(__name__)

RECEIVE_PAUSE_S = 1.0
"""Pause after a failure that the source itself did not handle."""

PROBE_PAUSE_S = 0.5
PROBE_PAUSE_MAX_S = 10.0
"""First and longest pause before a store that did not answer is asked again."""

CANCEL_WAITS_S = 3600.0
"""How long a cancel waits for the start of its run where no dead-letter topic takes it in the end."""

UNREADABLE_DELIVERIES = 5
"""Deliveries after which a message about a stored document that cannot be read is parked: one bad read passes."""

UNREADABLE_S = 600.0
"""The same where deliveries are not counted: seconds since the message was published."""

USER_AGENT_PREFIX = "aiorch/"

_encode = msgspec.json.Encoder().encode


class Outcome(StrEnum):
    """What became of a delivery."""

    APPLIED = "applied"
    """What it says is committed, by it or before it; acknowledged."""

    HINTED = "hinted"
    """The target is asked about it; acknowledged."""

    FOREIGN = "foreign"
    """None of ours; acknowledged."""

    OWN = "own"
    """The end of a request to this orchestrator itself; acknowledged."""

    DROPPED = "dropped"
    """Its run is gone, so there is nothing to do; acknowledged, with a warning."""

    PARKED = "parked"
    """Nothing can be done with it; put under ``rejected/`` and acknowledged, with a warning."""

    RETURNED = "returned"
    """It cannot be handled now or here; given back."""


class _Settling:
    """What is known of a delivery while it is handled, for the line that sums it up."""

    __slots__ = ("attempt", "begun_at", "delivery", "error", "execution_id", "kind", "node", "run_id")

    def __init__(self, delivery: Delivery, begun_at: float) -> None:
        self.delivery = delivery
        self.begun_at = begun_at
        self.kind = "other"
        self.run_id: str | None = None
        self.node: str | None = None
        self.attempt: int | None = None
        self.execution_id: str | None = None
        self.error: str | None = None

    def is_about(self, record: Execution) -> None:
        self.run_id, self.node = record.run_id, record.node_name
        self.attempt, self.execution_id = record.attempt, record.execution_id

    def fields(self) -> dict[str, Any]:
        known = {name: getattr(self, name) for name in ("run_id", "node", "attempt", "execution_id", "error")}
        delivery = {"message_id": self.delivery.message_id, "delivery_attempt": self.delivery.delivery_attempt}
        return {name: value for name, value in {**delivery, "kind": self.kind, **known}.items() if value is not None}


class Intake:
    """
    Receives messages and lets the engine know what they say.

    Args:
        executor: The engine.

        source: Where messages come from. It is paused while the store does not answer.

        dags: DAGs that a start message may name. A bare one starts the only one there is.

        own_names: Names under which this orchestrator itself runs: it must not feed on its own log.
    """

    def __init__(
        self,
        executor: DAGExecutor,
        source: EventSource,
        dags: Mapping[str, DAG],
        *,
        own_names: frozenset[str] = frozenset(),
    ) -> None:
        self._executor = executor
        self._source = source
        self._dags = dags
        self._factory = EventFactory(own_names)
        self._is_paused = False
        executor.on_store_away = self._pause

    async def run(self) -> None:
        """Receive for ever."""
        while True:
            try:
                self.handle(await self._source.receive())
            except Exception:
                logger.exception("messages cannot be received, trying again")
                await asyncio.sleep(RECEIVE_PAUSE_S)

    def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Take a batch. Each delivery is settled on its own, when what it says is committed."""
        for delivery in deliveries:
            self._executor.spawn(self._handle(delivery))

    async def _handle(self, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        settling = _Settling(delivery, loop.time())
        outcome = Outcome.RETURNED
        try:
            outcome = await self._outcome(settling)
        finally:
            # Also when cancelled: nothing was committed, so it is given back.
            delivery.nack() if outcome is Outcome.RETURNED else delivery.ack()
            seconds = loop.time() - settling.begun_at
            self._executor.observer.message_settled(settling.kind, outcome.value, seconds)
            is_bad = outcome in (Outcome.DROPPED, Outcome.PARKED)
            logger.log(
                logging.WARNING if is_bad else logging.INFO,
                "message settled",
                extra={
                    "action": "message_settled",
                    "outcome": outcome.value,
                    "duration_ms": round(seconds * 1000, 1),
                    **settling.fields(),
                },
            )

    async def _outcome(self, settling: _Settling) -> Outcome:
        """Handle a delivery, and say what is to become of it. Whatever is wrong with it, it stops no other."""
        try:
            return await self._take(settling)
        except Exception as error:
            settling.error = str(error) or repr(error)
            outcome = next((outcome for kinds, outcome in _REFUSED if isinstance(error, kinds)), Outcome.RETURNED)
            if outcome is Outcome.PARKED or (
                outcome is Outcome.RETURNED and self._is_hopeless(error, settling.delivery)
            ):
                return await self._park(settling)
            if isinstance(error, StoreError):
                self._pause()
            elif not isinstance(error, AiorchError):
                logger.exception("message cannot be handled", extra={"message_id": settling.delivery.message_id})
            return outcome

    def _is_hopeless(self, error: Exception, delivery: Delivery) -> bool:
        """Whether giving a message back once more would most likely change nothing."""
        attempt = delivery.delivery_attempt
        match error:
            case UnknownDAGError():
                return attempt is None  # there is no dead-letter topic to end its rounds
            case NewerSchemaError():
                return False  # a newer replica can read the document
            case DocumentError():
                return attempt >= UNREADABLE_DELIVERIES if attempt is not None else self._age_s(delivery) > UNREADABLE_S
            case _:
                return False

    async def _take(self, settling: _Settling) -> Outcome:
        """Return when nothing of the message can be lost any more. Raises what refuses it."""
        event = self._factory.create_from_event(decode_message(settling.delivery.data))
        match event:
            case StartEvent():
                settling.kind = "start"
                return await self._start(event, settling)
            case CancelEvent():
                settling.kind = "cancel"
                return await self._cancel(event, settling)
            case CloudFunctionEvent():
                settling.kind = "function"
                return Outcome.OWN if self._factory.is_own(event) else await self._complete(event, settling)
            case DataflowEvent():
                settling.kind = "dataflow"
                return await self._hint(event, settling)
            case _:
                return Outcome.FOREIGN

    async def _start(self, event: StartEvent, settling: _Settling) -> Outcome:
        delivery = settling.delivery
        settling.run_id = event.run_id or start_run_id(delivery.message_id, delivery.publish_time)
        dag = self._dag(event.dag)
        await self._executor.start(dag, self._executor.start_command(dag, settling.run_id, _encode(event.parameters)))
        return Outcome.APPLIED

    async def _cancel(self, event: CancelEvent, settling: _Settling) -> Outcome:
        assert event.run_id is not None
        settling.run_id = event.run_id
        try:
            await self._executor.cancel(event.run_id, event.reason)
        except RunNotFoundError as error:
            settling.error = str(error)
            if settling.delivery.delivery_attempt is None and self._age_s(settling.delivery) > CANCEL_WAITS_S:
                return Outcome.DROPPED  # there is no dead-letter topic to end its rounds
            return Outcome.RETURNED  # its start may still come
        return Outcome.APPLIED

    def _age_s(self, delivery: Delivery) -> float:
        return (self._executor.clock.now() - delivery.publish_time).total_seconds()

    def _dag(self, name: str | None) -> DAG:
        if name is None and len(self._dags) == 1:
            return next(iter(self._dags.values()))
        if name is None or name not in self._dags:
            raise UnknownDAGError(name, self._dags)
        return self._dags[name]

    async def _complete(self, event: CloudFunctionEvent, settling: _Settling) -> Outcome:
        if event.execution_key is None:
            return Outcome.FOREIGN
        record = await self._executor.executions.get_record(event.execution_key)
        if record is None or not is_of(event, record):
            return Outcome.FOREIGN
        settling.is_about(record)
        if event.never_ran and is_called_here(self._executor, record.run_id, record.node_name):
            return Outcome.APPLIED  # the call itself is told so, and there may be thousands of these
        if await let_answer_come(self._executor, record.run_id, record.node_name, record.attempt):
            # A large result is stored before its commit, and outlives the process that did not come to that.
            record = await self._executor.executions.get_record(event.execution_key) or record
        await self._executor.committer(record.run_id).apply(completion(event, record))
        return Outcome.APPLIED

    async def _hint(self, event: DataflowEvent, settling: _Settling) -> Outcome:
        record = None
        for known_as in (event.execution_key, event.execution_id):
            if known_as is not None and record is None:
                record = await self._executor.executions.get_record(known_as)
        if record is None or record.target_type != event.target_type or not _is_at(event, record):
            return Outcome.FOREIGN
        settling.is_about(record)
        await self._executor.hint(record.run_id, record.node_name, record.attempt)
        return Outcome.HINTED

    async def _park(self, settling: _Settling) -> Outcome:
        """Put away what can never be handled, so that it is neither lost nor delivered for ever."""
        token = self._executor.entropy.token()
        try:
            await self._executor.runs.reject(token, settling.delivery.data, settling.error or "")
        except AiorchError:
            logger.exception("message not parked", extra={"message_id": settling.delivery.message_id})
            self._pause()  # it would come again at once, and the others with it
            return Outcome.RETURNED
        return Outcome.PARKED

    # -- while the store is away ---------------------------------------------------------------------------------

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._source.pause()
            self._executor.spawn(self._until_store_answers(), may_be_cut=True)

    async def _until_store_answers(self) -> None:
        pause_s = PROBE_PAUSE_S
        while True:
            await asyncio.sleep(pause_s * (0.5 + 0.5 * self._executor.entropy.jitter()))
            try:
                await self._executor.runs.ping()
            except StoreError as error:
                logger.warning("nothing is pulled while the store is away", extra={"error": str(error)})
                pause_s = min(PROBE_PAUSE_MAX_S, pause_s * 2)
                continue
            self._is_paused = False
            self._source.resume()
            return


class UnknownDAGError(AiorchError, LookupError):
    """A start message names no DAG that is served here."""

    def __init__(self, name: str | None, known: Mapping[str, DAG]) -> None:
        served = ", ".join(sorted(known)) or "none"
        asked = f"DAG {name!r} is not served here" if name else "a start message must name one of several DAGs"
        super().__init__(f"{asked}, so no run was started; served: {served}")


_REFUSED: tuple[tuple[tuple[type[Exception], ...], Outcome], ...] = (
    ((RunNotFoundError, DefinitionGoneError), Outcome.DROPPED),
    ((NewerSchemaError, UnknownDAGError), Outcome.RETURNED),  # to a replica that is newer, or serves that DAG
    ((MalformedEventError, FoldError, RunConflictError, RunTooLargeError), Outcome.PARKED),
)
"""
What becomes of a delivery whose handling raised; the first that fits counts. All else is given back, other errors of
documents included: what was read may be damaged, and what is stored be sound. See `Intake._is_hopeless`.
"""


def is_of(event: CloudFunctionEvent, record: Execution) -> bool:
    """
    Whether a completion is that of the recorded execution itself.

    A function may hand our trace on to the functions that it calls, so the target must be the recorded one, and the
    request ours. A gen1 log does not tell who called.
    """
    return (
        record.task_name in event.names
        and _is_at(event, record)
        and (event.user_agent is None or event.user_agent.startswith(USER_AGENT_PREFIX))
    )


def _is_at(event: Event, record: Execution) -> bool:
    return record.region is None or event.region == record.region


def completion(event: CloudFunctionEvent, record: Execution) -> RunEvent:
    """What a completion says about the run of its execution."""
    if record.succeeded:
        return TaskSucceeded(record.node_name, record.attempt, result_in="execution")
    if event.status is TaskStatus.COMPLETED or event.never_ran:
        return TaskUnanswered(record.node_name, record.attempt, event.event_id, ran=not event.never_ran)
    return TaskFailed(record.node_name, record.attempt, event.failure or Failure.of("Error", "failed without a reason"))
