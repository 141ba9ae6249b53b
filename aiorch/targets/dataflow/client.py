"""
Requests to the Dataflow API, and the three ways in which a request can fail.

    DataflowUnreachable    the request was not sent: no connection, no access token
    DataflowNoAnswer       the request was sent, and no usable answer came: the API may have done the request
    DataflowRefused        the API refused the request, and gave a reason
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from yarl import URL

from aiorch.errors import AiorchError, in_words
from aiorch.model.url import checked_url
from aiorch.targets.dataflow.api import Refusal, read_refusal

if TYPE_CHECKING:
    from aiorch.google.access_token import AccessToken

API_ROOT = "https://dataflow.googleapis.com"

CONNECT_S = 10.0

ANSWER_S = 60.0
"""Seconds for a whole answer. A launch takes longest: the API reads the template from its bucket meanwhile."""

TOKEN_S = 30.0
"""Seconds to wait for an access token."""

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Summaries have a few KB each."""


class DataflowApiError(AiorchError):
    """A request to the Dataflow API failed. The error tells no fact about any job."""


class DataflowUnreachable(DataflowApiError):  # noqa: N818  named for the fact, as errors of the store are
    """The request was not sent."""


class DataflowNoAnswer(DataflowApiError):  # noqa: N818
    """The request was sent, and the API may have done it."""


class DataflowRefused(DataflowApiError):  # noqa: N818
    """The API answered, and the answer is no success."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(f"{what} was answered {refusal}")


class DataflowClient:
    """
    Sends requests and reads their answers, which are JSON objects.

    Args:
        api_root: Root URL of the API: ``https``, or ``http`` on this machine, which gets no access token.

        token: The source of access tokens, shared and not closed here; `None`: this process's own credentials.

        answer_s: Seconds for a whole answer.

    Raises:
        ValueError: *api_root* is no URL that requests may be sent to.
    """

    def __init__(
        self, api_root: str | None = None, *, token: "AccessToken | None" = None, answer_s: float = ANSWER_S
    ) -> None:
        self._root = checked_url(api_root or API_ROOT)
        self._token = token
        self._own_token: AccessToken | None = None
        self._answer_s = answer_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def needs_credentials(self) -> bool:
        """Whether requests carry an access token of this process's own credentials."""
        return self._root.scheme == "https" and self._token is None

    async def get(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        """
        Read an object of the API.

        Args:
            path: Encoded, from ``/v1b3`` on.

            params: The query.

        Returns:
            The answer, decoded.

        Raises:
            DataflowApiError: No usable answer came.
        """
        return await self._request("GET", path, params, None)

    async def post(self, path: str, params: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """As `get`, with a body of JSON; the client sends the request once and no more."""
        return await self._request("POST", path, params, body)

    async def put(self, path: str, body: bytes) -> dict[str, Any]:
        """As `post`; the client may send the request twice when a connection ends."""
        return await self._request("PUT", path, {}, body)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
        if self._own_token is not None:
            await self._own_token.aclose()

    async def _request(self, method: str, path: str, params: Mapping[str, str], body: bytes | None) -> dict[str, Any]:
        what = f"{method} {self._root.origin()}{path}"
        url = URL(str(self._root).rstrip("/") + path, encoded=True).with_query(params)
        status, data = await self._send(what, method, url, body)
        if status == 401 and self._token is not None:
            self._token.drop()  # a token may be revoked before it expires
            status, data = await self._send(what, method, url, body)
        if not 200 <= status < 300:
            raise DataflowRefused(what, read_refusal(status, data))
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except (ValueError, RecursionError) as error:
            raise DataflowNoAnswer(f"{what} was answered HTTP {status} and no JSON object: {error}") from error

    async def _send(self, what: str, method: str, url: URL, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **await self._authorization(what)}
        try:
            async with self._open().request(method, url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status, await _read(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise DataflowUnreachable(f"{what} was not sent, there is no connection: {error}") from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            raise DataflowNoAnswer(f"{what} was sent, and no whole answer came: {in_words(error)}") from error

    async def _authorization(self, what: str) -> dict[str, str]:
        if self._root.scheme == "http":  # this machine: plain http would show the token, and a local API asks for none
            return {}
        try:
            async with asyncio.timeout(TOKEN_S):
                return {"Authorization": f"Bearer {await self._access_token().get()}"}
        except (AiorchError, TimeoutError) as error:
            raise DataflowUnreachable(f"{what} was not sent: {str(error) or 'no access token came in time'}") from error

    def _access_token(self) -> "AccessToken":
        if self._token is None:
            from aiorch.google.access_token import AccessToken  # noqa: PLC0415  slow to import, needed for https only

            self._token = self._own_token = AccessToken(self._open())
        return self._token

    def _open(self) -> aiohttp.ClientSession:
        # Made at the first request: a session belongs to the running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._answer_s, sock_connect=min(CONNECT_S, self._answer_s)),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"it is larger than {ANSWER_BYTES_MAX} bytes")
    return bytes(data)
