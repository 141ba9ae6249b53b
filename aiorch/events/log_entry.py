"""
Entries of Cloud Logging as far as decoders read them, and parts of messages that several decoders read.

Unknown fields are ignored: platforms add some without notice.

Source: Cloud Logging documentation, "LogEntry" and "Monitored resource types".
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aiorch.errors import InvalidIdError, MalformedEventError
from aiorch.events.event import NAME_CHARS_MAX
from aiorch.model.names import ExecutionId, execution_id

_TRACE = re.compile(r"projects/[^/]+/traces/([0-9a-f]{32})")

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]


class _LogResource(msgspec.Struct):
    labels: dict[str, str] = {}


class LogEntry(msgspec.Struct, rename="camel"):
    """Fields of any log entry. Each decoder checks for those that it needs."""

    resource: _LogResource
    labels: dict[str, str] = {}
    text_payload: str = ""
    trace: str = ""

    def name(self, label: str) -> str:
        """Return a label of the resource. Raises: MalformedEventError: it is missing or too long."""
        name = self.name_or_none(label)
        if name is None:
            raise MalformedEventError("log entry", f"its resource label {label!r} is missing")
        return name

    def name_or_none(self, label: str) -> str | None:
        """Return a label of the resource, `None` when it is missing. Raises: MalformedEventError: it is too long."""
        value = self.resource.labels.get(label) or None
        if value is not None and len(value) > NAME_CHARS_MAX:
            raise MalformedEventError("log entry", f"its resource label {label!r} is too long")
        return value

    @property
    def execution_key(self) -> ExecutionId | None:
        return key_in(_TRACE.fullmatch(self.trace))


def text_of(mapping: dict[str, Any], key: str) -> str:
    """Return the text there, or an empty one: for telling messages apart, before their types are checked."""
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def key_in(match: re.Match[str] | None) -> ExecutionId | None:
    return ExecutionId(match[1]) if match else None


def id_or_none(value: str) -> ExecutionId | None:
    # Functions with other triggers run under their event's id, which may be anything: none is a call of ours.
    try:
        return execution_id(value)
    except InvalidIdError:
        return None
