"""
The intake: from deliveries of messages to events in the inboxes of runs.

A message is acknowledged only after the commit that contains what it said, or when it needs none. One bad message
never stops another.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

import msgspec

from aiorch.dag import DAG
from aiorch.enums import TaskStatus
from aiorch.errors import (
    AiorchError,
    DocumentError,
    MalformedEventError,
    NewerSchemaError,
    RunConflictError,
    RunNotFoundError,
    RunTooLargeError,
)
from aiorch.events import CloudFunctionEvent, EventFactory, StartEvent, decode_message, start_run_id
from aiorch.executor import DAGExecutor
from aiorch.ports import Delivery, EventSource
from aiorch.run_state import Failure
from aiorch.status import Execution
from aiorch.transitions import FoldError, RunEvent, TaskFailed, TaskSucceeded

logger = logging.getLogger(__name__)

RECEIVE_PAUSE_S = 1.0
"""Pause after a failure that the source itself did not handle."""

USER_AGENT_PREFIX = "aiorch/"

_encode = msgspec.json.Encoder().encode


class Intake:
    """
    Receives messages and lets the engine know what they say.

    Args:
        executor: The engine.

        source: Where messages come from.

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
        try:
            await self._take(delivery)
        except (RunConflictError, RunNotFoundError, RunTooLargeError, UnknownDAGError) as error:
            logger.warning("message dropped", extra={"message_id": delivery.message_id, "error": str(error)})
            delivery.ack()
        except NewerSchemaError as error:
            logger.info("message is for a newer aiorch", extra={"message_id": delivery.message_id, "error": str(error)})
            delivery.nack()
        except (MalformedEventError, DocumentError, FoldError) as error:
            await self._park(delivery, error)
        except AiorchError as error:
            logger.warning("message given back", extra={"message_id": delivery.message_id, "error": str(error)})
            delivery.nack()
        except asyncio.CancelledError:
            delivery.nack()
            raise
        except Exception:
            logger.exception("message given back", extra={"message_id": delivery.message_id})
            delivery.nack()
        else:
            delivery.ack()

    async def _take(self, delivery: Delivery) -> None:
        """Return when nothing of the message can be lost any more. Raises what refuses it."""
        event = self._factory.create_from_event(decode_message(delivery.data))
        if event is None or self._factory.is_own(event):
            return
        if isinstance(event, StartEvent):
            await self._start(event, delivery)
        elif isinstance(event, CloudFunctionEvent):
            await self._complete(event)

    async def _start(self, event: StartEvent, delivery: Delivery) -> None:
        dag = self._dag(event.dag)
        run_id = event.run_id or start_run_id(delivery.message_id, delivery.publish_time)
        await self._executor.start(dag, self._executor.start_command(dag, run_id, _encode(event.parameters)))

    def _dag(self, name: str | None) -> DAG:
        if name is None and len(self._dags) == 1:
            return next(iter(self._dags.values()))
        if name is None or name not in self._dags:
            raise UnknownDAGError(name, self._dags)
        return self._dags[name]

    async def _complete(self, event: CloudFunctionEvent) -> None:
        if event.execution_key is None or event.never_ran:
            return
        record = await self._executor.executions.get_record(event.execution_key)
        if record is not None and is_of(event, record):
            await self._executor.committer(record.run_id).apply(completion(event, record))

    async def _park(self, delivery: Delivery, error: Exception) -> None:
        """Put away what can never be handled, so that it is neither lost nor delivered for ever."""
        logger.warning("message parked", extra={"message_id": delivery.message_id, "error": str(error)})
        try:
            await self._executor.runs.reject(self._executor.entropy.token(), delivery.data, str(error))
        except AiorchError:
            logger.exception("message not parked", extra={"message_id": delivery.message_id})
            delivery.nack()
        else:
            delivery.ack()


class UnknownDAGError(AiorchError, LookupError):
    """A start message names no DAG that is served here."""

    def __init__(self, name: str | None, known: Mapping[str, DAG]) -> None:
        served = ", ".join(sorted(known)) or "none"
        asked = f"DAG {name!r} is not served here" if name else "a start message must name one of several DAGs"
        super().__init__(f"{asked}, so no run was started; served: {served}")


def is_of(event: CloudFunctionEvent, record: Execution) -> bool:
    """
    Whether a completion is that of the recorded execution itself.

    A function may hand our trace on to the functions that it calls, so the target must be the recorded one, and the
    request ours. A gen1 log does not tell who called.
    """
    return (
        record.task_name in event.names
        and (record.region is None or event.region == record.region)
        and (event.user_agent is None or event.user_agent.startswith(USER_AGENT_PREFIX))
    )


def completion(event: CloudFunctionEvent, record: Execution) -> RunEvent:
    """What a completion says about the run of its execution."""
    if event.status is TaskStatus.COMPLETED:
        return TaskSucceeded(record.node_name, record.attempt)
    return TaskFailed(record.node_name, record.attempt, event.failure or Failure.of("Error", "failed without a reason"))
