"""
The intake: from deliveries of messages to events in the inboxes of runs.

The intake acknowledges a message only after the commit that holds the event of the message, or when the message needs
no commit. A bad message never stops a good one.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiorch.core.fold import FoldError
from aiorch.engine.executor import DAGExecutor
from aiorch.engine.receipt import Outcome, Receipt
from aiorch.errors import (
    AiorchError,
    DefinitionGoneError,
    DocumentError,
    InvalidInputError,
    MalformedEventError,
    NewerSchemaError,
    ResultUnreadableError,
    RunConflictError,
    RunNotFoundError,
    RunTooLargeError,
    StoreError,
    UnknownDAGError,
)
from aiorch.events.decode import decode_message
from aiorch.ports.source import Delivery, EventSource

logger = logging.getLogger(__name__)

RECEIVE_PAUSE_S = 1.0
"""Pause after a failure that the source did not handle."""

PROBE_PAUSE_S = 0.5
PROBE_PAUSE_MAX_S = 10.0
"""First and longest pause between two questions to a store that does not answer."""

CANCEL_WAITS_S = 3600.0
"""Longest wait of a cancel for the start of the run, where no dead-letter topic takes the message in the end."""

UNREADABLE_DELIVERIES = 5
"""Deliveries after which a message about an unreadable document is parked: one bad read passes."""

UNREADABLE_S = 600.0
"""The same limit where deliveries are not counted: seconds since the message was published."""


class _Settling(Receipt):
    """A receipt with its delivery, for the log line about the delivery."""

    __slots__ = ("begun_at", "delivery", "error")

    def __init__(self, delivery: Delivery, begun_at: float) -> None:
        super().__init__()
        self.delivery = delivery
        self.begun_at = begun_at
        self.error: str | None = None

    def fields(self) -> dict[str, Any]:
        known = {name: getattr(self, name) for name in ("run_id", "node", "attempt", "execution_id", "error")}
        delivery = {"message_id": self.delivery.message_id, "delivery_attempt": self.delivery.delivery_attempt}
        return {name: value for name, value in {**delivery, "kind": self.kind, **known}.items() if value is not None}


class Intake:
    """
    Receives messages and hands their events to the engine.

    Args:
        executor: The engine.

        source: The source of messages. The intake pauses the source while the store does not answer.
    """

    def __init__(self, executor: DAGExecutor, source: EventSource) -> None:
        self._executor = executor
        self._source = source
        self._is_paused = False
        executor.on_store_away = self._pause

    async def run(self) -> None:
        """Receive messages until cancelled."""
        while True:
            try:
                self.handle(await self._source.receive())
            except Exception:
                logger.exception("messages not received, trying again", extra={"action": "messages_not_received"})
                await asyncio.sleep(RECEIVE_PAUSE_S)

    def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Take a batch. Each delivery is settled alone, when its event is committed."""
        for delivery in deliveries:
            self._executor.spawn(self._handle(delivery))

    async def _handle(self, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        settling = _Settling(delivery, loop.time())
        outcome = Outcome.RETURNED
        try:
            outcome = await self._outcome(settling)
        finally:
            # Also when cancelled: no commit was made, so the message is given back.
            delivery.nack() if outcome is Outcome.RETURNED else delivery.ack()
            seconds = loop.time() - settling.begun_at
            self._executor.observer.message_settled(settling.kind, outcome.value, seconds)
            is_bad = outcome in (Outcome.DROPPED, Outcome.PARKED)
            logger.log(
                logging.WARNING if is_bad else logging.INFO,
                _TEXTS.get(outcome, "message settled").format(
                    id=delivery.message_id, reason=(settling.error or "").rstrip(".")
                ),
                extra={
                    "action": "message_settled",
                    "outcome": outcome.value,
                    "duration_ms": round(seconds * 1000, 1),
                    **settling.fields(),
                },
            )

    async def _outcome(self, settling: _Settling) -> Outcome:
        """Handle a delivery and return the outcome. No exception leaves, so that a bad message stops no good one."""
        try:
            return await self._take(settling)
        except Exception as error:
            reason = str(error) or repr(error)
            settling.error = error.without_values if isinstance(error, InvalidInputError) else reason
            outcome = next((outcome for kinds, outcome in _REFUSED if isinstance(error, kinds)), Outcome.RETURNED)
            if settling.kind == "cancel" and isinstance(error, RunNotFoundError):
                return self._of_early_cancel(settling.delivery)
            if outcome is Outcome.PARKED or (
                outcome is Outcome.RETURNED and self._is_hopeless(error, settling.delivery)
            ):
                return await self._park(settling, reason)
            if isinstance(error, StoreError):
                self._pause()
            elif not isinstance(error, AiorchError):
                facts = {"action": "message_not_handled", "message_id": settling.delivery.message_id}
                logger.exception("message not handled", extra=facts)
            return outcome

    def _of_early_cancel(self, delivery: Delivery) -> Outcome:
        """Return the outcome of a cancel without a run: the start of the run may still come."""
        if delivery.delivery_attempt is None and self._age_s(delivery) > CANCEL_WAITS_S:
            return Outcome.DROPPED  # no dead-letter topic ends the redeliveries
        return Outcome.RETURNED

    def _is_hopeless(self, error: Exception, delivery: Delivery) -> bool:
        """Whether one more delivery of a message would most likely fail the same way."""
        attempt = delivery.delivery_attempt
        match error:
            case UnknownDAGError():
                return attempt is None  # no dead-letter topic ends the redeliveries
            case NewerSchemaError() | ResultUnreadableError():
                return False  # a newer replica can read the document, and the result can be restored
            case DocumentError():
                return attempt >= UNREADABLE_DELIVERIES if attempt is not None else self._age_s(delivery) > UNREADABLE_S
            case _:
                return False

    async def _take(self, settling: _Settling) -> Outcome:
        """Return the outcome when no part of the message can be lost any more. Raises the reason of a refusal."""
        delivery = settling.delivery
        event_data = decode_message(delivery.data)
        await self._executor.handle(
            event_data, message_id=delivery.message_id, publish_time=delivery.publish_time, receipt=settling
        )
        return settling.outcome

    def _age_s(self, delivery: Delivery) -> float:
        return (self._executor.clock.now() - delivery.publish_time).total_seconds()

    async def _park(self, settling: _Settling, reason: str) -> Outcome:
        """Store a message that can never be handled, so that it is neither lost nor delivered for ever."""
        token = self._executor.entropy.token()
        try:
            await self._executor.runs.reject(token, settling.delivery.data, reason)
        except AiorchError:
            facts = {"action": "message_not_parked", "message_id": settling.delivery.message_id}
            logger.exception("message not parked", extra=facts)
            self._pause()  # the source would deliver the message again at once, and further messages with it
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
                facts = {"action": "pulling_paused", "error": str(error)}
                logger.warning("pulling is paused while the store does not answer", extra=facts)
                pause_s = min(PROBE_PAUSE_MAX_S, pause_s * 2)
                continue
            self._is_paused = False
            self._source.resume()
            return


_TEXTS: Mapping[Outcome, str] = {
    Outcome.PARKED: (
        "message {id} was applied to no run and is kept under rejected/: {reason}. Correct it and publish it again."
    ),
    Outcome.DROPPED: "message {id} was dropped, because its run is gone: {reason}. No action is needed.",
}
"""The log texts of bad messages; that of every other message is ``message settled``."""

_REFUSED: tuple[tuple[tuple[type[Exception], ...], Outcome], ...] = (
    ((RunNotFoundError, DefinitionGoneError), Outcome.DROPPED),
    ((NewerSchemaError, UnknownDAGError), Outcome.RETURNED),  # to a replica that is newer, or serves that DAG
    ((MalformedEventError, InvalidInputError, FoldError, RunConflictError, RunTooLargeError), Outcome.PARKED),
)
"""
The outcome of a delivery whose handling raised; the first row that fits counts. All other errors give the message back,
including other errors of documents: the read may be damaged, and the stored document sound. See `Intake._is_hopeless`.
"""
