"""
Decoding of Pub/Sub messages into events. Pure: no I/O, no clock, no state.

`decode_message` turns the bytes of a message into a JSON object, `EventFactory.create_from_event` turns that object
into an `Event`. There are three outcomes, with different reactions of the caller:

- an `Event`: it may concern a run of this store; only the execution record of its `execution_key` can tell;
- `None`: a foreign message; acknowledge and count;
- `MalformedEventError`: the message has the form of an event of aiorch and cannot be read; park it.

The decoder first reads the kind of a message (``resource.type`` and log name, or the CloudEvent ``type``), and then
checks the message against the one form of this kind. So a foreign log entry is never refused for its fields, and no
field is used unchecked. A missing field makes an event malformed only if the end of an execution cannot be read without
it: platforms leave fields out without notice, and an end that is parked is lost.

Starts and cancels are decoded here, the ends of executions by the decoders of their kinds of targets.
"""

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from importlib import import_module
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aiorch.errors import InvalidIdError, MalformedEventError
from aiorch.events.event import REASON_CHARS_MAX, CancelEvent, Completion, Event, StartEvent
from aiorch.events.log_entry import Name, text_of
from aiorch.model.enums import TargetTypes
from aiorch.model.names import RunId, run_id

MESSAGE_BYTES_MAX = 1024 * 1024
"""
Limit of a message in bytes. Pub/Sub would carry 10 MB, but the largest relevant message is far smaller: a log entry
holds about 256 KB, counted before JSON escapes it, and a start message carries an input, not a data set. Source: Cloud
Logging documentation, "Quotas and limits".
"""

NESTING_MAX = 64
"""Largest nesting of objects and arrays. Events have at most 8; a deeper input could not safely be encoded again."""

Decode = Callable[[dict[str, Any]], Event | None]
"""Decodes messages of one shape into an event, or `None`. Errors: see `EventFactory.create_from_event`."""

_KINDS = "aiorch.targets.kind"
"""Named by a text, as the kinds of targets name their decoders: events stand below the targets."""


class EventFactory:
    """
    Decodes events.

    Args:
        own_names: Names under which the orchestrator itself is deployed.

        decoder_of: Returns the decoder for messages of a shape, `None` if there is none. A shape is ``resource:`` or
            ``type:`` with the name that a message contains. By default the decoders of all kinds of targets.
    """

    def __init__(
        self,
        own_names: frozenset[str] = frozenset(),
        decoder_of: Callable[[str], Decode | None] | None = None,
    ) -> None:
        self.own_names = own_names
        self._decoder_of: Callable[[str], Decode | None] = decoder_of or import_module(_KINDS).decoder_of

    def is_own(self, event: Event) -> bool:
        """Whether *event* is the end of a request to the orchestrator itself, which must ignore its own log."""
        return isinstance(event, Completion) and not self.own_names.isdisjoint(event.names)

    def create_from_event(self, event_data: dict[str, Any]) -> Event | None:
        """
        Return the event in *event_data*, or `None` for a foreign message.

        Raises:
            MalformedEventError: The message has the form of an event of aiorch and cannot be read. The method raises
                no other error for any JSON.
        """
        if not isinstance(event_data, dict):
            raise MalformedEventError("message", "it is not a JSON object")
        resource = event_data.get("resource")
        where, named = ("resource", resource) if isinstance(resource, dict) else ("type", event_data)
        kind = text_of(named, "type")
        shape = f"{where}:{kind}"
        decode = _COMMANDS.get(shape) or self._decoder_of(shape)
        if decode is None:
            return None
        try:
            return decode(event_data)
        except (msgspec.ValidationError, InvalidIdError, UnicodeError, OverflowError) as error:
            raise MalformedEventError(f"{kind} event", str(error)) from error


def decode_message(data: bytes, *, bytes_max: int = MESSAGE_BYTES_MAX) -> dict[str, Any]:
    """
    Return the JSON object in the body of a message.

    Raises:
        MalformedEventError: The body is larger than *bytes_max*, nested deeper than `NESTING_MAX`, or no JSON object.
    """
    if len(data) > bytes_max:
        raise MalformedEventError("message", f"it has {len(data)} bytes, above the limit of {bytes_max}")
    try:
        message = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedEventError("message", f"it is not JSON of a supported form: {error}") from error
    if not isinstance(message, dict):
        raise MalformedEventError("message", "it is not a JSON object")
    _refuse_deep(message)
    return message


def start_run_id(message_id: str, publish_time: datetime) -> RunId:
    """
    Return the run id for a start message without one: ``run_<epoch seconds>_<16 hex digits of a hash>``.

    Both parts stay the same when the message is delivered again, so a redelivery starts no second run.
    """
    if publish_time.tzinfo is None:
        raise ValueError(f"publish time {publish_time} has no time zone, so it is ambiguous; pass an aware time.")
    digits = sha256(message_id.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    return run_id(f"run_{int(publish_time.timestamp())}_{digits}")


# The fields that are read. Unknown fields are ignored everywhere: platforms add some without notice.


class _StartLabels(msgspec.Struct):
    dag: Name | None = None
    run_id: str | None = None


class _StartResource(msgspec.Struct):
    labels: _StartLabels | None = None


class _Start(msgspec.Struct):
    resource: _StartResource
    parameters: dict[str, Any] | None = None


class _CancelLabels(msgspec.Struct):
    run_id: str


class _CancelResource(msgspec.Struct):
    labels: _CancelLabels


class _Cancel(msgspec.Struct):
    resource: _CancelResource
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)] = "cancelled on request"
    force: bool = False


def _start(event_data: dict[str, Any]) -> StartEvent:
    start = msgspec.convert(event_data, _Start)
    labels = start.resource.labels or _StartLabels()
    parameters = start.parameters or {}
    _refuse_deep(parameters)
    try:
        msgspec.json.encode(parameters)
    except (TypeError, ValueError) as error:
        raise MalformedEventError("start event", f"its parameters cannot be stored as JSON: {error}") from error
    return StartEvent(
        event_data=event_data,
        target_type=TargetTypes.START,
        run_id=None if labels.run_id is None else run_id(labels.run_id),
        dag=labels.dag,
        parameters=parameters,
    )


def _cancel(event_data: dict[str, Any]) -> CancelEvent:
    cancel = msgspec.convert(event_data, _Cancel)
    cancel.reason.encode()  # refused here, with the reason, rather than when it is stored
    return CancelEvent(
        event_data=event_data,
        target_type=TargetTypes.START,
        run_id=run_id(cancel.resource.labels.run_id),
        reason=cancel.reason,
        force=cancel.force,
    )


_COMMANDS: dict[str, Decode] = {"resource:start": _start, "resource:cancel": _cancel}


def _refuse_deep(value: dict[str, Any]) -> None:
    """Raise unless *value* has at most `NESTING_MAX` levels. Works level by level, because recursion could overflow."""
    level: list[Any] = [value]
    for _ in range(NESTING_MAX):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise MalformedEventError("message", f"it is nested deeper than {NESTING_MAX} levels")
