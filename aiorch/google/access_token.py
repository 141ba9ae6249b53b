"""The access token with which this process uses Google Cloud: one for all adapters, renewed ahead of time."""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from aiorch.errors import AiorchError, in_words
from aiorch.google.extras import gcp_imports

with gcp_imports():
    from gcloud.aio.auth import Token

logger = logging.getLogger(__name__)

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

RENEW_AT = 0.5
"""Part of a token's life after which the next one is fetched, while the old one is still given out."""

USE_UNTIL = 0.95
"""Part of a token's life after which it is given out no more: clocks differ, and a call may wait for a connection."""

RENEW_AGAIN_AFTER_S = 60.0
"""A renewal ahead of time that failed is tried again after this: each request must not become one more."""

FETCH_S = 10

_REASON_CHARS_MAX = 300


class AccessTokenError(AiorchError):
    """
    No access token could be had, so nothing was sent.

    Attributes:
        is_final: Repeating does not mend it: there are no credentials, or they were refused.
    """

    def __init__(self, error: Exception, *, is_final: bool) -> None:
        self.is_final = is_final
        super().__init__(
            f"there is no access token for Google Cloud, so nothing was sent ({in_words(error)[:_REASON_CHARS_MAX]}). "
            f"Outside Google Cloud, set GOOGLE_APPLICATION_CREDENTIALS to a credentials file or run `gcloud auth "
            f"application-default login`; inside, give this machine a service account."
        )


class AccessToken:
    """
    Gives out the token of the Application Default Credentials, which are looked for when it is first asked for.

    Callers that wait for the same fetch share it, and one of them that is cancelled does not stop it for the others.

    Args:
        session: Used for fetches; `None`: one of its own.

        now: Time of day in seconds since 1970.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._session = session
        self._now = now
        self._source: Token | None = None
        # These change between two awaits only, never across one.
        self._kept = ""
        self._renew_at = 0.0
        self._use_until = 0.0
        self._fetch: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """
        Return a token that is valid for a while.

        Raises:
            AccessTokenError: None could be had.
        """
        if self._now() < self._renew_at:
            return self._kept
        if self._fetch is None:
            self._fetch = asyncio.create_task(self._renew())
            self._fetch.add_done_callback(self._end_fetch)
        if self._now() < self._use_until:
            return self._kept
        return await asyncio.shield(self._fetch)

    def drop(self) -> None:
        """Fetch another one next time: this one was not accepted."""
        self._renew_at = self._use_until = 0.0

    async def aclose(self) -> None:
        """Stop a fetch that is under way, and close the session if it is its own."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])
        if self._source is not None:
            await self._source.close()

    async def _renew(self) -> str:
        """Once, without the library's own tries, which take up to minutes: callers have theirs, with deadlines."""
        begun_at = self._now()
        try:
            if self._source is None:
                self._source = Token(session=self._session, scopes=[CLOUD_PLATFORM])
            fetched = await self._source.refresh(timeout=FETCH_S)
        except Exception as error:
            # Of credentials anything may be wrong, and the library raises what it likes.
            if begun_at < self._use_until:
                self._renew_at = begun_at + RENEW_AGAIN_AFTER_S
                logger.warning("access token not renewed yet, trying again", extra={"error": in_words(error)})
            raise AccessTokenError(error, is_final=not _may_pass(error)) from error
        self._kept = fetched.value
        self._renew_at = begun_at + fetched.expires_in * RENEW_AT
        self._use_until = begun_at + fetched.expires_in * USE_UNTIL
        return self._kept

    def _end_fetch(self, fetch: asyncio.Task[str]) -> None:
        self._fetch = None
        if not fetch.cancelled():
            fetch.exception()  # looked at, since every caller may have been cancelled meanwhile


def _may_pass(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in (408, 429) or error.status >= 500
    return isinstance(error, (aiohttp.ClientConnectionError, TimeoutError))
