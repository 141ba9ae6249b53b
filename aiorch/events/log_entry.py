"""
The fields of Cloud Logging entries that decoders read, and parsers that several decoders share.

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
    """Fields of any log entry. Each decoder checks the fields that it needs."""

    resource: _LogResource
    labels: dict[str, str] = {}
    text_payload: str = ""
    trace: str = ""

    def name(self, label: str) -> str:
        """Return a label of the resource. Raises: MalformedEventError if it is missing or too long."""
        name = self.name_or_none(label)
        if name is None:
            raise MalformedEventError("log entry", f"its resource label {label!r} is missing")
        return name

    def name_or_none(self, label: str) -> str | None:
        """Return a label of the resource, `None` if it is missing. Raises: MalformedEventError if it is too long."""
        value = self.resource.labels.get(label) or None
        if value is not None and len(value) > NAME_CHARS_MAX:
            raise MalformedEventError("log entry", f"its resource label {label!r} is too long")
        return value

    @property
    def execution_key(self) -> ExecutionId | None:
        return key_in(_TRACE.fullmatch(self.trace))


def text_of(mapping: dict[str, Any], key: str) -> str:
    """Return the text at this place, or an empty one, to find the kind of a message before its types are checked."""
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def key_in(match: re.Match[str] | None) -> ExecutionId | None:
    return ExecutionId(match[1]) if match else None


def id_or_none(value: str) -> ExecutionId | None:
    # Functions with other triggers run under the id of their event, which may be any text: aiorch did not call them.
    try:
        return execution_id(value)
    except InvalidIdError:
        return None
