"""Redaction: the values of secrets leave this process neither in the answer nor in the logs of a task that got them."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from aiorch.model.failure import CUT, Failure, Part
from aiorch.ports.target import Answer, Failed, NotStarted, Succeeded, Unknown

REDACTED = "[secret]"

SECRET_CHARS_MIN = 8
"""A shorter value is not replaced: it would be found in texts that have nothing to do with the secret."""


def without_secrets(answer: Answer, secrets: Sequence[str]) -> Answer:
    """Return an answer with all values of secrets replaced."""
    known = _replaced(secrets)
    if not known:
        return answer
    match answer:
        case Succeeded(result=bytes(result)):
            return Succeeded(msgspec.json.encode(_cleaned(msgspec.json.decode(result), known)))
        case Failed(failure=failure):
            return Failed(_cleaned_failure(failure, known))
        case Unknown(reason=reason):
            return Unknown(_text(reason, known))
        case NotStarted(reason=reason, may_arrive=may_arrive):
            return NotStarted(_text(reason, known), may_arrive=may_arrive)
        case _:
            return answer


def redact(record: logging.LogRecord, secrets: Sequence[str]) -> None:
    """Replace all values of secrets in a log record: in its message, traceback, stack and facts."""
    known = _replaced(secrets)
    if not known:
        return
    facts = vars(record)
    try:
        facts["msg"] = record.getMessage()
    except Exception:  # noqa: BLE001  logging raises no mistake of its caller
        facts["msg"] = f"{record.msg} {_repr(record.args)}"
    facts["args"] = None
    if record.exc_info:
        facts |= {"exc_text": logging.Formatter().formatException(record.exc_info), "exc_info": None}
    for name, value in list(facts.items()):
        told = value if isinstance(value, str) else _repr(value)
        if (text := _text(told, known)) != told:
            facts[name] = text


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  of an object of the user
        return f"<{type(value).__name__} without repr: {type(error).__name__}>"


def _replaced(secrets: Sequence[str]) -> list[str]:
    """Return the values that are replaced; a value that holds another one comes first."""
    return sorted({secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}, key=len, reverse=True)


def _text(text: str, known: Sequence[str]) -> str:
    for secret in known:
        text = text.replace(secret, REDACTED)
        if text.endswith(CUT):  # perhaps in the middle of the value
            kept = text.removesuffix(CUT)
            lengths = range(len(secret) - 1, SECRET_CHARS_MIN - 1, -1)
            text = next((kept[:-n] + REDACTED + CUT for n in lengths if kept.endswith(secret[:n])), text)
    return text


def _cleaned(value: Any, known: Sequence[str]) -> Any:
    if type(value) is str:
        return _text(value, known)
    if type(value) is dict:
        return {_text(key, known): _cleaned(item, known) for key, item in value.items()}
    if type(value) is list:
        return [_cleaned(item, known) for item in value]
    return value


def _cleaned_failure(failure: Failure, known: Sequence[str]) -> Failure:
    texts = {
        name: _text(text, known)
        for name in ("type", "message", "cause", "where", "traceback")
        if (text := getattr(failure, name)) is not None
    }
    parts = tuple(Part(_text(part.type, known), _text(part.message, known), part.where) for part in failure.parts)
    return replace(failure, parts=parts, **texts)
