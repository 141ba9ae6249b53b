"""Redaction: the values of secrets leave this process neither in the answer nor in the logs of a task that got them."""

import logging
import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from aiorch.model.failure import CUT, Failure, Part
from aiorch.ports.target import Answer, Failed, NotStarted, Succeeded, Unknown

REDACTED = "[secret]"

SECRET_CHARS_MIN = 8
"""A shorter value is not replaced: it would be found in texts that have nothing to do with the secret."""

_CUTS = re.compile(f"(?:{CUT}|\\.{{3,}})\\n?")
"""Marks of a cut, in a text without escapes: that of aiorch, and the dots of other libraries."""

_ESCAPED = re.compile(
    r"(\n|\\+n)[ |]*"  # the end of a line, with the margin of the next one: a group of exceptions is indented
    rf"|\\+(?:[xuU][0-9a-fA-F]{{0,7}}(?={CUT}|\.\.\.)"  # an escape that was cut
    r"|([rtbf])|(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|)"
    r"|([\U00010000-\U0010ffff])"
)
_LETTERS = {"r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class _Known(NamedTuple):
    """The values of secrets, as they are and without escapes."""

    values: Sequence[str]
    plain: Sequence[str]


def without_secrets(answer: Answer, secrets: Sequence[str]) -> Answer:
    """Return an answer with all values of secrets replaced."""
    known = _known(secrets)
    if known is None:
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


def failure_without_secrets(failure: Failure, secrets: Sequence[str]) -> Failure:
    """Return a failure with all values of secrets replaced."""
    known = _known(secrets)
    return failure if known is None else _cleaned_failure(failure, known)


def redact(record: logging.LogRecord, secrets: Sequence[str]) -> None:
    """Replace all values of secrets in a log record: in its message, traceback, stack and facts."""
    known = _known(secrets)
    if known is None:
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


def _known(secrets: Sequence[str]) -> _Known | None:
    """Return the secrets that are replaced, `None` if there is none; a value that holds a second one comes first."""
    values = sorted({secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}, key=len, reverse=True)
    bytes_of = [value.encode("utf-8", "surrogatepass").decode("latin-1") for value in values]
    plain = {plain for value in (*values, *bytes_of) if len(plain := _plain(value)) >= SECRET_CHARS_MIN}
    return _Known(values, sorted(plain)) if values else None


def _text(text: str, known: _Known) -> str:
    """
    Return a text without the values of secrets: raw, escaped by `repr` or JSON any number of times, or indented.

    A mark where the text was cut may stand in the middle of a value: then the beginning of the value before the mark
    and the end of the value after the mark are replaced as well.
    """
    plain = _plain(text)
    cuts = [cut.span() for cut in _CUTS.finditer(plain)]
    found = sorted(span for secret in known.plain for span in _spans(plain, secret, cuts))
    if found:
        text = _without(text, found)
    for secret in known.values:
        text = text.replace(secret, REDACTED)
    return text


def _plain(text: str) -> str:
    """Return a text without escapes: equal for all forms of one value. Backslashes are left out."""
    return _ESCAPED.sub(_unescaped, text)


def _unescaped(escaped: re.Match[str]) -> str:
    line, letter, code, astral = escaped.groups()
    if line:
        return "\n"
    if letter:
        return _LETTERS[letter]
    number = int(code[1:], 16) if code else ord(astral) if astral else None
    if number is None:
        return ""
    # As JSON does: a character beyond 16 bits is a pair.
    return chr(number) if number < 0x10000 else chr(0xD7C0 + (number >> 10)) + chr(0xDC00 + (number & 0x3FF))


def _spans(plain: str, secret: str, cuts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the places of a secret, and those of its parts at cuts."""
    at = plain.find(secret)
    while at >= 0:
        yield at, at + len(secret)
        at = plain.find(secret, at + len(secret))
    for begin, end in cuts:
        # The last characters before the cut tell how much of the beginning may stand there, the longest part first.
        last = plain[max(0, begin - SECRET_CHARS_MIN) : begin]
        at = secret.rfind(last) if len(last) == SECRET_CHARS_MIN else -1
        while at >= 0:
            if plain.endswith(secret[: at + SECRET_CHARS_MIN], 0, begin):
                yield begin - at - SECRET_CHARS_MIN, begin
                break
            at = secret.rfind(last, 0, at + SECRET_CHARS_MIN - 1)
        first = plain[end : end + SECRET_CHARS_MIN]
        at = secret.find(first) if len(first) == SECRET_CHARS_MIN else -1
        while at >= 0:
            if plain.startswith(secret[at:], end):
                yield end, end + len(secret) - at
                break
            at = secret.find(first, at + 1)


def _without(text: str, found: Sequence[tuple[int, int]]) -> str:
    """Return a text without the places, in their order, that were found in its plain form. Overlapping ones are one."""
    starts, stops, end = array("I"), array("I"), 0  # where each character of the plain form stands in the text
    for escaped in _ESCAPED.finditer(text):
        starts.extend(range(end, escaped.start()))
        stops.extend(range(end + 1, escaped.start() + 1))
        chars, end = len(_unescaped(escaped)), escaped.end()
        starts.extend([escaped.start()] * chars)
        stops.extend([end] * chars)
    starts.extend(range(end, len(text)))
    stops.extend(range(end + 1, len(text) + 1))
    kept, done = [], 0
    for first, last in found:
        if starts[first] >= done:
            kept.append(text[done : starts[first]])
        done = max(done, stops[last - 1])
    return REDACTED.join([*kept, text[done:]])


def _cleaned(value: Any, known: _Known) -> Any:
    if type(value) is str:
        return _text(value, known)
    if type(value) is dict:
        return {_text(key, known): _cleaned(item, known) for key, item in value.items()}
    if type(value) is list:
        return [_cleaned(item, known) for item in value]
    return value


def _cleaned_failure(failure: Failure, known: _Known) -> Failure:
    texts = {
        name: _text(text, known)
        for name in ("type", "message", "cause", "where", "traceback")
        if (text := getattr(failure, name)) is not None
    }
    parts = tuple(Part(_text(part.type, known), _text(part.message, known), part.where) for part in failure.parts)
    return replace(failure, parts=parts, **texts)
