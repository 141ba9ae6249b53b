"""
The HTTP call of a function: its bytes, and the meaning of its answer. Pure: this module opens no connection.

    2xx                                           Succeeded    the body is the result
    2xx whose body cannot be kept                 Failed       ``ResultTooLarge``, ``ResultNotJSON``
    429; 5xx that says "no available instance"    NotStarted   refused for load: the function never ran
    every other status, redirects included        Failed       ``HTTP <status>``
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import quote

import msgspec

from aiorch.model.failure import Failure
from aiorch.model.run_document import is_json
from aiorch.model.url import redirected_to
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Answer, Failed, NotStarted, Succeeded

_NEXT_MOVES = {
    401: ". The ID token was missing or not accepted: it must be meant for this URL",
    403: ". Give the account that calls the role roles/run.invoker on the function (first generation: "
    "roles/cloudfunctions.invoker)",
    404: ". Is the function deployed under this name, in this project and region?",
}


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
    Return the outcome of the execution after a 2xx answer.

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

    An empty body and ``null`` are no result. JSON is kept without the white space between its parts: a body that the
    content type declares as JSON, and any JSON object or array, since functions often return ``json.dumps(...)`` as
    ``text/html``. Every other text becomes a JSON string, as does a body that is declared as JSON and is not JSON.

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
    Return the outcome of the execution after an answer other than 2xx.

    Args:
        where: The URL called, for messages.

        status: Status of the answer.

        reason: The words beside the status.

        location: The header ``Location``, if there is one.

        body: The first part of the body.

    Source: Cloud Run documentation, "Troubleshoot Cloud Run issues": an instance that is not available is reported as
    429 or 500, and the request was not handled.
    """
    said = f"{where} answered HTTP {status} {reason}".rstrip()
    text = body.decode(errors="replace").strip()
    if status == 429 or (status >= 500 and "no available instance" in text.lower()):
        return NotStarted(f"{said}: turned away for load")  # this text goes into the log, and the body must not
    if 300 <= status < 400:
        said += (
            f", a redirect to {redirected_to(location)}. It was not followed, since a POST could become a GET. Set the "
            f"URL of the function itself; a sign-in page means that a proxy stands before the function"
        )
    return Failed(Failure.of(f"HTTP {status}", said + _NEXT_MOVES.get(status, ""), text or None))
