"""
Single requests to the JSON API of Cloud Storage: connections, credentials, deadlines, and the meaning of answers.

    412                                       GenerationConflict
    429                                       StoreThrottled      not applied
    408, 409, 5xx, timeout, reset, a damaged  StoreUnavailable    may have been applied or not
    answer, an answer of a wrong form
    404 of an object                          `MissingError`, to reads and deletes
    401, after one try with a new token; every other 4xx; every 3xx; 404 of the bucket
                                              StoreError          not applied, and a repetition does not help

Source: Cloud Storage documentation, "Request preconditions", "HTTP status and error codes for JSON".
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from aiorch.errors import GenerationConflict, StoreError, StoreThrottled, StoreUnavailable, in_words
from aiorch.google.access_token import AccessToken, AccessTokenError
from aiorch.google.extras import gcp_imports
from aiorch.model.url import redirected_to
from aiorch.stores.concurrency import Gate

with gcp_imports():
    from gcloud.aio.auth import Token
    from gcloud.aio.storage import Storage

_REASON_CHARS_MAX = 300
_UNKNOWN = frozenset({408, 409})
_RATE_OF_AN_OBJECT = 429
"""No sign of overload: one object is changed too often, and other objects may be answered as fast as before."""

_T = TypeVar("_T")


def _endpoint() -> str:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    return f"STORAGE_EMULATOR_HOST={emulator}" if emulator else "Cloud Storage"


class MissingError(StoreError):
    """404: there is no such object."""


class BucketApi:
    """
    A client of one bucket, for one event loop. The first request opens the connections.

    Args:
        bucket: Name of the bucket.

        api_url: Endpoint of the JSON API. `None`: the public one, or the emulator that ``STORAGE_EMULATOR_HOST`` names,
            which gets no credentials.

        token: Access token shared with other adapters, which its creator closes; `None`: a new one.

        request_s: Deadline of one request in seconds. The wait for a free place does not count.

    Attributes:
        operations: Requests sent so far by class: ``A`` (writes and listings), ``B`` (reads), ``free`` (deletes).
    """

    def __init__(self, bucket: str, *, api_url: str | None, token: AccessToken | None, request_s: float) -> None:
        self.bucket = bucket
        self.operations: Counter[str] = Counter()
        self._api_url = api_url
        self._shared_token = token
        self._token = token
        self._request_s = request_s
        self._gate = Gate()
        self._session: aiohttp.ClientSession | None = None
        self._storage: Storage | None = None
        self._is_closed = False

    async def ask(
        self, kind: str, done: str, name: str, request: Callable[[Storage], Awaitable[_T]], *, is_urgent: bool = False
    ) -> _T:
        """
        Send one request, once more with a new token if the token was refused, and raise the error that its answer
        means.

        Args:
            kind: Class of the operation, for `operations`.

            done: The effect of the request, for messages: ``read``, ``written``, ``listed`` or ``deleted``.

            name: The object, or the prefix that is listed.

            request: Sends the request and reads the answer. Raises `ValueError` or `KeyError` if the answer does not
                have the form of the API.

            is_urgent: The request does not wait for a free place.
        """
        about = f"gs://{self.bucket}/{name}"
        storage = self._open(about)
        async with self._gate.turn(is_urgent=is_urgent) as turn:
            try:
                async with asyncio.timeout(self._request_s):
                    answer = await self._send(kind, storage, request)
            except AccessTokenError as error:
                refusal = StoreError if error.is_final else StoreUnavailable
                raise refusal(f"{about} was not {done}: {error}") from error
            except aiohttp.ClientResponseError as error:
                if isinstance(
                    error.__cause__, HttpProcessingError
                ):  # the answer is no HTTP, and the library invents its status
                    turn.overloaded()
                    raise self._no_answer(about, done, error) from error
                if error.status == 408 or error.status >= 500:
                    turn.overloaded()
                elif error.status != _RATE_OF_AN_OBJECT:
                    turn.answered()
                raise self._refusal(about, done, error.status, error.message) from error
            except (aiohttp.ClientError, OSError, ValueError, KeyError, RecursionError) as error:
                if isinstance(error, aiohttp.ClientConnectionError | OSError):
                    turn.overloaded()
                raise self._no_answer(about, done, error) from error
            turn.answered()
            return answer

    async def _send(self, kind: str, storage: Storage, request: Callable[[Storage], Awaitable[_T]]) -> _T:
        """Send a request, and once more with a new access token if the first token is refused."""
        try:
            self.operations[kind] += 1
            return await request(storage)
        except aiohttp.ClientResponseError as error:
            if error.status != 401 or self._token is None:
                raise
        self._token.drop()
        self.operations[kind] += 1
        return await request(storage)

    async def aclose(self) -> None:
        """Refuse further requests, wait for accepted ones, and close the connections."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._gate.until_empty()
        if self._token is not None and self._shared_token is None:
            await self._token.aclose()
        if self._session is not None:
            await self._session.close()

    def _open(self, about: str) -> Storage:
        if self._is_closed:
            raise StoreError(f"the store is closed, so the request for {about} was not sent. Create a new store.")
        if self._storage is None:
            emulator = None if self._api_url else os.environ.get("STORAGE_EMULATOR_HOST")
            if emulator and "://" not in emulator:
                emulator = f"http://{emulator}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # see `_gate`
                middlewares=[_refuse_redirect],
            )
            self._token = self._shared_token or AccessToken(self._session)
            self._storage = Storage(
                session=self._session,
                token=cast("Token", self._token),  # the library only calls `get`
                api_root=(emulator or self._api_url or "").rstrip("/") or None,
                api_is_dev=bool(emulator),
            )
        return self._storage

    @staticmethod
    def _no_answer(about: str, done: str, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"no usable answer came about {about} ({in_words(error)}), so it may have been {done} or not. Trying "
            f"again is safe; if this repeats, check that {_endpoint()} can be reached."
        )

    def _refusal(self, about: str, done: str, status: int, message: str) -> StoreError:
        reason = f"HTTP {status} {_reason_in(message)}"
        if status == 412:
            return GenerationConflict(
                f"{about} has a different generation ({reason}), so it was not {done}. A different process changed it, "
                f"or an earlier try of the same write was applied: read it again and decide again."
            )
        if status == 429:
            return StoreThrottled(f"{about} was not {done}: {reason}. Wait, then send the same request again.")
        if status in _UNKNOWN or status >= 500:
            return StoreUnavailable(f"{about} may have been {done} or not: {reason}. Trying again is safe.")
        if status == 404 and done in ("read", "deleted") and "bucket does not exist" not in message:
            return MissingError(f"{about} does not exist")
        if 300 <= status < 400:
            return StoreError(
                f"{about} was not {done}: {reason}. The redirect was not followed, since a POST could become a GET. A "
                f"proxy or a sign-in page of this network answers in place of {_endpoint()}, or the address is wrong: "
                f"let this process reach {_endpoint()} directly, or correct STORAGE_EMULATOR_HOST."
            )
        next_move = {
            401: "Check whether the account, or its key, was deleted or disabled",
            403: f"Give the account of this process the role roles/storage.objectUser on bucket {self.bucket!r}",
            404: f"Create bucket {self.bucket!r}, or correct the URL of the store",
        }.get(status, "Check the name of the bucket and the prefix")
        return StoreError(f"{about} was not {done}: {reason}. {next_move}.")


async def _refuse_redirect(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Raise for a redirect: the library would follow it, and trust the answer of a different server."""
    response = await send(request)
    if not 300 <= response.status < 400:
        return response
    response.close()
    raise aiohttp.ClientResponseError(
        response.request_info,
        response.history,
        status=response.status,
        message=f"{response.reason}: a redirect to {redirected_to(response.headers.get('Location'))}",
    )


def _reason_in(message: str) -> str:
    """Return the message of Google from the ``<reason>: <body>`` of the library."""
    reason, _, body = message.partition(": ")
    try:
        text = str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        text = body.strip()
    return f"{reason}: {text[:_REASON_CHARS_MAX]}" if text else reason
