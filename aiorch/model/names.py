"""Names of objects in a store. All of them are built here, from typed ids only."""

import re
from hashlib import sha256
from typing import NewType

from aiorch.errors import InvalidIdError

RunId = NewType("RunId", str)
ExecutionId = NewType("ExecutionId", str)

RUNS = "runs/"
EXECUTIONS = "executions/"
DEFINITIONS = "definitions/"
OPEN = "open/"
ALIVE = "alive/"
REJECTED = "rejected/"
VALUES = "values/"

_ID = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.\-]{0,127}", re.ASCII)
_DEFINITION_ID = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def run_id(value: str) -> RunId:
    """Return *value* as a run id. Raises: InvalidIdError."""
    if not _is_id(value):
        raise InvalidIdError("run id", value)
    return RunId(value)


def execution_id(value: str) -> ExecutionId:
    """Return *value* as an execution id. Raises: InvalidIdError."""
    if not _is_id(value):
        raise InvalidIdError("execution id", value)
    return ExecutionId(value)


def run_object(run: RunId) -> str:
    """Return the name of a run document."""
    return f"{RUNS}{run}.json"


def value_object(run: RunId, value: bytes) -> str:
    """Return the name of a value that is too large for the run document: the name holds a hash of the content."""
    return f"{VALUES}{run}/{_digest(value)}.json"


def is_content_of(name: str, value: bytes) -> bool:
    """Whether *value* is the content of the object with this `value_object` name."""
    return name.endswith(f"/{_digest(value)}.json")


def _digest(value: bytes) -> str:
    return sha256(value).hexdigest()[:32]


def execution_object(execution: ExecutionId) -> str:
    """Return the name of an execution record."""
    return f"{EXECUTIONS}{execution}.json"


def open_object(run: RunId) -> str:
    """Return the name of the marker that exists while a run is open."""
    return f"{OPEN}{run}"


def alive_object(process: str) -> str:
    """Return the name of the heartbeat of a process. Raises: InvalidIdError."""
    if not _ID.fullmatch(process):
        raise InvalidIdError("process id", process)
    return f"{ALIVE}{process}"


def definition_object(definition_id: str) -> str:
    """Return the name of a stored definition, from ``sha256:<64 hex digits>``. Raises: InvalidIdError."""
    match = _DEFINITION_ID.fullmatch(definition_id)
    if match is None:
        raise InvalidIdError("definition id", definition_id)
    return f"{DEFINITIONS}{match[1]}.json"


def rejected_object(token: str) -> str:
    """Return the name under which a message is parked; *token*: random hex digits from this process."""
    return f"{REJECTED}{token}.json"
