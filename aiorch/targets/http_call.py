"""
What the call of a function looks like on the wire, and what its answer means. Pure: nothing here opens a connection.

    2xx                                           Succeeded    the body is the result
    2xx whose body cannot be kept                 Failed       ``ResultTooLarge``, ``ResultNotJSON``
    429; 5xx that says "no available instance"    NotStarted   refused for load: it never ran
    every other status, redirects included        Failed       ``HTTP <status>``
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from string import Formatter
from typing import Any
from urllib.parse import quote

import msgspec
from yarl import URL

from aiorch.context import TaskContext
from aiorch.ports import Answer, Failed, NotStarted, Succeeded
from aiorch.run_state import Failure, is_json

_PLACEHOLDERS = frozenset({"name", "service", "project_id", "region"})
_URL_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", re.ASCII)

_NEXT_MOVES = {
    401: ". The ID token was missing or not accepted: it must be meant for this URL",
    403: ". Give the account that calls the role roles/run.invoker on the function (first generation: "
    "roles/cloudfunctions.invoker)",
    404: ". Is the function deployed under this name, in this project and region?",
}


def placeholders(url_pattern: str) -> frozenset[str]:
    """
    Return the names of the placeholders in *url_pattern*.

    Raises:
        ValueError: One is not known, or stands with more than its name between the braces.
    """
    fields = [
        (name, spec, conversion) for _, name, spec, conversion in Formatter().parse(url_pattern) if name is not None
    ]
    if any(name not in _PLACEHOLDERS or spec or conversion for name, spec, conversion in fields):
        known = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS))
        raise ValueError(f"URL pattern {url_pattern!r} cannot be used: its placeholders may be {known} and no others.")
    return frozenset(name for name, _, _ in fields)


def fill_in(url_pattern: str, values: Mapping[str, str | None]) -> str:
    """
    Return the URL that *url_pattern* gives.

    Raises:
        ValueError: A value is missing, or could change more of the URL than its own place.
    """
    for name, value in values.items():
        if value is None or not _URL_PART.fullmatch(value):
            raise ValueError(f"{name} {value!a} cannot be part of a URL: use letters, digits, '-', '_' and '.'")
    return url_pattern.format_map(values)


def checked_url(text: str) -> URL:
    """Return *text* as the URL to call. Raises: ValueError when it cannot be called, or must not be."""
    try:
        url = URL(text)
        host = url.raw_host or ""
        host.encode("idna")  # as the resolver will
    except ValueError as error:
        raise ValueError(f"URL {text!a} is not valid: {error}") from error
    if url.scheme not in {"http", "https"} or not host:
        raise ValueError(f"URL {text!a} is not valid: it must begin with https:// and name a host")
    if url.user is not None or url.password is not None:
        raise ValueError(
            f"the URL of host {host!r} holds a user name or password, which every run would store and show"
        )
    if url.scheme == "http" and not _is_loopback(host):
        raise ValueError(
            f"URL {text!a} is refused: plain http shows the call to everyone on its way, so it is for this "
            f"machine only (localhost, 127.0.0.0/8, ::1); use https"
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def audience_of(url: URL) -> str:
    """
    Return the audience that an ID token for *url* must be made for.

    Source: Cloud Functions documentation, "Authenticate for invocation": the function's URL; Cloud Run documentation,
    "Authenticating service-to-service": the service's URL, without a path.
    """
    origin = str(url.origin())
    if (url.raw_host or "").endswith(".cloudfunctions.net"):
        return f"{origin}/{url.raw_path.removeprefix('/').split('/')[0]}"
    return origin


def encode_parameters(parameters: Mapping[str, Any]) -> bytes:
    """Return the body of a call. Raises: ValueError when the parameters are not JSON."""
    try:
        return msgspec.json.encode(parameters)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the parameters cannot be sent as JSON: {error}") from error


def headers(context: TaskContext) -> dict[str, str]:
    """
    Return the headers of a call, the authorization aside. They are the same when the same attempt is sent again.

    Source: W3C, "Trace Context", section 3.2; Cloud Trace documentation, "Trace context": the span is hexadecimal in
    the one header and decimal in the other.
    """
    key = context.execution_id
    span = key[:16]
    return {
        "Content-Type": "application/json",
        "User-Agent": _user_agent(),
        # A compressed answer could unpack to any size.
        "Accept-Encoding": "identity",
        "traceparent": f"00-{key}-{span}-01",
        "X-Cloud-Trace-Context": f"{key}/{int(span, 16)};o=1",
        "Idempotency-Key": key,
        "Function-Execution-Id": key,
        "X-Aiorch-Run-Id": context.run_id,
        "X-Aiorch-Node": quote(context.node, safe="", errors="replace"),
        "X-Aiorch-Attempt": str(context.attempt),
    }


@cache
def _user_agent() -> str:
    try:
        return f"aiorch/{version('aiorch')}"
    except PackageNotFoundError:  # imported from a source tree that was never installed
        return "aiorch/0"


def read_success(where: str, content_type: str, body: bytes, *, bytes_max: int) -> Answer:
    """
    Return what a 2xx answer means.

    Args:
        where: The URL called, for messages.

        content_type: Media type of the answer, without parameters.

        body: The body; of a body longer than *bytes_max* any part that is longer, too.

        bytes_max: Limit of a result, as received and as stored.
    """
    try:
        result = None if len(body) > bytes_max else result_of(content_type, body)
    except UnicodeDecodeError:
        message = (
            f"{where} succeeded, and its answer is {len(body)} bytes of {content_type}, which is neither JSON nor text "
            f"in UTF-8 (a compressed answer is not unpacked), so it cannot be kept as a result. Return JSON, or put "
            f"the data into a bucket and return its name"
        )
        return Failed(Failure.of("ResultNotJSON", message))
    if len(body) > bytes_max or (result is not None and len(result) > bytes_max):
        message = (
            f"{where} succeeded, and its answer is larger than the limit of {bytes_max} bytes, so it was not kept. Put "
            f"the data into a bucket and return its name, or raise the limit"
        )
        return Failed(Failure.of("ResultTooLarge", message))
    return Succeeded(result)


def result_of(content_type: str, body: bytes) -> bytes | None:
    """
    Return a body as the JSON that is stored as the task's result.

    An empty body and ``null`` are no result. JSON stays what it is, without the white space between its parts: a body
    that is said to be JSON, and any JSON object or array, since functions often return ``json.dumps(...)`` as
    ``text/html``. Every other text becomes a JSON string, and so does what is said to be JSON and is not.

    Raises:
        UnicodeDecodeError: The body is neither JSON nor UTF-8.
    """
    if not body:
        return None
    said_to_be_json = content_type.endswith(("/json", "+json"))
    if (said_to_be_json or body.lstrip().startswith((b"{", b"["))) and is_json(body):
        compact = msgspec.json.format(body, indent=-1)
        return None if compact == b"null" else compact
    return msgspec.json.encode(body.decode())


def read_refusal(where: str, status: int, reason: str, location: str | None, body: bytes) -> Answer:
    """
    Return what an answer other than 2xx means.

    Args:
        where: The URL called, for messages.

        status: Status of the answer.

        reason: The words beside it.

        location: The header ``Location``, if there is one.

        body: The first part of the body.

    Source: Cloud Run documentation, "Troubleshoot Cloud Run issues": an instance that is not available is reported as
    429 or 500, and the request was not handled.
    """
    said = f"{where} answered HTTP {status} {reason}".rstrip()
    text = body.decode(errors="replace").strip()
    if status == 429 or (status >= 500 and "no available instance" in text.lower()):
        return NotStarted(f"{said}: {text[:200]}" if text else said)
    if 300 <= status < 400:
        said += f", a redirect to {_host_of(location)}, and redirects are not followed. Set the URL that it leads to"
    return Failed(Failure.of(f"HTTP {status}", said + _NEXT_MOVES.get(status, ""), text or None))


def _host_of(location: str | None) -> str:
    try:
        host = URL(location or "").host
    except ValueError:
        return "something that is no URL"
    return f"host {host!r}" if host else "another path of the same host"
