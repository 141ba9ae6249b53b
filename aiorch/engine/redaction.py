"""Redaction: the values of secrets do not leave this process with the answer to a task that was given them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from aiorch.model.failure import Failure, Part
from aiorch.ports.target import Answer, Failed, NotStarted, Succeeded, Unknown

REDACTED = "[secret]"

SECRET_CHARS_MIN = 8
"""A shorter value is not replaced: it would be found in texts that have nothing to do with the secret."""


def without_secrets(answer: Answer, secrets: Sequence[str]) -> Answer:
    """Return an answer with all values of secrets replaced."""
    known = sorted({secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}, key=len, reverse=True)
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


def _text(text: str, known: Sequence[str]) -> str:
    for secret in known:
        text = text.replace(secret, REDACTED)
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
