"""
`ExecutionStatus`: the records of executions, ``executions/<execution_id>.json``, read and written in a store.

A record holds the facts of its launch. The outcome stands in the run's document, and `get_execution` reads it there.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from aiorch.errors import DocumentError, GenerationConflict
from aiorch.model import names
from aiorch.model.dag import Task
from aiorch.model.run_document import NO_RESULT, NodeState, RunHeader, decode_document, decode_entry
from aiorch.model.status import TaskStatus
from aiorch.ports.store import ObjectStore

_encode = msgspec.json.Encoder().encode


class Execution(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    The record of one launch of one task, ``executions/<execution_id>.json``. It exists before the launch.

    ``succeeded`` and ``response`` are known once the run has moved on; a large response is stored here, a small one is
    filled in from the run's document when the record is read.
    """

    execution_id: str
    task_name: str
    """Name of the target."""

    node_name: str
    """Name of the entry in the run document."""

    run_id: str
    attempt: int
    launched_at: datetime
    """When the intent to launch was committed."""

    target_type: str | None = None
    region: str | None = None
    succeeded: bool | None = None
    response: msgspec.Raw = NO_RESULT


class ExecutionStatus:
    """Execution records in a store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    async def create_executions(self, executions: Iterable[Execution]) -> None:
        """Create the records of executions that are about to be launched; existing records stay."""
        await self.store.create_all([named(each) for each in executions])

    async def name_also(self, execution_id: str, execution: Execution) -> None:
        """Let the record be found under the target's own id of the execution, too."""
        name = names.execution_object(names.execution_id(execution_id))
        await self.store.create_all([(name, _encode(execution))])

    async def get_execution(self, execution_id: str) -> Execution | None:
        """Read a record; ``succeeded`` and ``response`` are filled in from the run when it knows them."""
        execution = await self.get_record(execution_id)
        if execution is None or execution.succeeded is not None:
            return execution
        name = names.run_object(names.run_id(execution.run_id))
        stored = await self.store.read(name)
        if stored is None:
            return execution
        entry = decode_document(stored.data, name)[1].get(execution.node_name)
        if entry is None:
            return execution
        return _with_outcome(execution, decode_entry(execution.node_name, entry, name))

    async def save_execution(self, execution: Execution) -> None:
        """Write a record, unless there is one that knows an outcome: the first one stays, a run may have used it."""
        name = names.execution_object(names.execution_id(execution.execution_id))
        while True:
            stored = await self.store.read(name)
            if stored is not None and _decode_execution(name, stored.data).succeeded is not None:
                return
            try:
                generation = stored.generation if stored else 0
                await self.store.write(name, _encode(execution), if_generation_match=generation)
            except GenerationConflict:
                continue
            return

    async def get_response(self, execution_id: str) -> bytes | None:
        """Return the encoded result that is kept in the record, `None` when there is none."""
        execution = await self.get_record(execution_id)
        return bytes(execution.response) if execution else None

    async def get_record(self, execution_id: str) -> Execution | None:
        """Read a record as it is stored, without a look at its run."""
        name = names.execution_object(names.execution_id(execution_id))
        stored = await self.store.read(name)
        if stored is None:
            return None
        return _decode_execution(name, stored.data)


def _decode_execution(name: str, data: bytes) -> Execution:
    try:
        return msgspec.json.decode(data, type=Execution)
    except msgspec.DecodeError as error:
        raise DocumentError(f"{name} is no execution record that this aiorch can read: {error}") from error


def named(execution: Execution) -> tuple[str, bytes]:
    """Return the object name and the content of a record."""
    return names.execution_object(names.ExecutionId(execution.execution_id)), _encode(execution)


def _with_outcome(execution: Execution, state: NodeState) -> Execution:
    if state.attempt == execution.attempt and state.status is TaskStatus.COMPLETED:
        return msgspec.structs.replace(execution, succeeded=True, response=state.result)
    # Also of a task whose retry was cancelled: its entry keeps the failure that the retry was for.
    has_failed = state.error is not None and state.error.attempt == execution.attempt
    if state.attempt > execution.attempt or has_failed:
        return msgspec.structs.replace(execution, succeeded=False)
    return execution


def new_execution(task: Task, state: NodeState, header: RunHeader, *, default_region: str | None = None) -> Execution:
    """
    Return the record of the execution that *state* is about.

    Args:
        task: The task.

        state: Its entry.

        header: Of its run.

        default_region: Region of the settings.
    """
    return Execution(
        execution_id=state.execution_id or "",
        task_name=task.target_name,
        node_name=state.node_name,
        run_id=header.run_id,
        attempt=state.attempt,
        launched_at=state.started_at or header.updated_at,
        target_type=task.target_type,
        region=task.region_for(default_region),
    )
