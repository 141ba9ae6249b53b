"""
The decoders of 0.1, frozen: the answer of a replica of that version to a run document or a marker.

The shapes and the order of the checks are those of `aiorch/run_document.py` of 0.1. They are never changed: a replica
gives a message back for `NewerSchemaError`, and parks it for any other `DocumentError`.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from aiorch.errors import DocumentError, NewerSchemaError

SCHEMA_VERSION = 1


class NodeTypes(StrEnum):
    TASK = "Task"
    PARALLEL = "Parallel"


class TargetTypes(StrEnum):
    START = "Start"
    FUNCTION = "Function"
    CLOUD_FUNCTION = "CloudFunction"
    DATAFLOW = "Dataflow"


class TaskStatus(StrEnum):
    NEW = "New"
    STARTING = "Starting"
    RUNNING = "Running"
    RETRYING = "Retrying"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SKIPPED = "Skipped"


class RunStatus(StrEnum):
    RUNNING = "Running"
    FAILING = "Failing"
    CANCELLING = "Cancelling"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Header(msgspec.Struct):
    schema_version: int
    run_id: str
    nonce: str
    dag: str
    definition: str
    status: RunStatus
    input: msgspec.Raw
    created_at: datetime
    updated_at: datetime


class Entry(msgspec.Struct):
    node_name: str
    node_type: NodeTypes
    status: TaskStatus
    target_type: TargetTypes | None = None


class StartCommand(msgspec.Struct):
    schema_version: int
    run_id: str
    nonce: str
    dag: str
    definition: str
    input: msgspec.Raw
    created_at: datetime


class _Version(msgspec.Struct):
    schema_version: int


class _Status(msgspec.Struct):
    status: str


def decode_document(data: bytes) -> None:
    """Read a run document as 0.1 does. Raises: NewerSchemaError, DocumentError."""
    raw = msgspec.Raw(b"null")
    try:
        entries = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        raw = entries.pop("$run")
        _refuse_newer(raw)
        msgspec.json.decode(raw, type=Header)
        for raw in entries.values():
            msgspec.json.decode(raw, type=Entry)
    except KeyError:
        raise DocumentError("no entry '$run'") from None
    except msgspec.DecodeError as error:
        _refuse_unknown_status(raw)
        raise DocumentError(str(error)) from error


def decode_start_command(data: bytes) -> None:
    """Read the body of an open marker as 0.1 does. Raises: NewerSchemaError, DocumentError."""
    try:
        _refuse_newer(data)
        msgspec.json.decode(data, type=StartCommand)
    except msgspec.DecodeError as error:
        raise DocumentError(str(error)) from error


def _refuse_newer(data: bytes | msgspec.Raw) -> None:
    if msgspec.json.decode(data, type=_Version).schema_version > SCHEMA_VERSION:
        raise NewerSchemaError("a newer schema version")


def _refuse_unknown_status(raw: msgspec.Raw) -> None:
    try:
        status = msgspec.json.decode(raw, type=_Status).status
    except msgspec.DecodeError:
        return
    if status not in {*TaskStatus, *RunStatus}:
        raise NewerSchemaError("an unknown status")
