"""The access token of this process for Google Cloud: shared by all adapters, renewed ahead of time."""

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
"""Fraction of the life of a token after which the next one is fetched, while the old one is still used."""

USE_UNTIL = 0.95
"""Fraction of the life of a token after which it is no longer used: clocks differ, and calls may have to wait."""

RENEW_AGAIN_AFTER_S = 60.0
"""Pause after a failed renewal ahead of time, so that not every request causes a further one."""

FETCH_S = 10

_REASON_CHARS_MAX = 300


class AccessTokenError(AiorchError):
    """
    There is no access token, so the request was not sent.

    Attributes:
        is_final: A repetition does not help: there are no credentials, or they were refused.
    """

    def __init__(self, error: Exception, *, is_final: bool) -> None:
        self.is_final = is_final
        super().__init__(
            f"there is no access token for Google Cloud, so no request was sent "
            f"({in_words(error)[:_REASON_CHARS_MAX]}). Outside Google Cloud, set GOOGLE_APPLICATION_CREDENTIALS to a "
            f"credentials file or run `gcloud auth application-default login`; inside, give this machine a service "
            f"account."
        )


class AccessToken:
    """
    Provides the token of the Application Default Credentials, which are looked for on the first call.

    Callers that wait at the same time share one fetch. A cancelled caller does not stop the fetch.

    Args:
        session: HTTP session for fetches; `None`: a new one.

        now: Time of day in seconds since 1970.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._session = session
        self._now = now
        self._source: Token | None = None
        # These fields change between two awaits only, never across one.
        self._kept = ""
        self._renew_at = 0.0
        self._use_until = 0.0
        self._fetch: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """
        Return a token that is valid for a while.

        Raises:
            AccessTokenError: There is no token.
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
        """Drop the token, which was not accepted: the next call fetches a new one."""
        self._renew_at = self._use_until = 0.0

    async def aclose(self) -> None:
        """Stop a running fetch, and close the session if it was created here."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])
        if self._source is not None:
            await self._source.close()

    async def _renew(self) -> str:
        """Fetch once, without the retries of the library, which take minutes: callers have their own deadlines."""
        begun_at = self._now()
        try:
            if self._source is None:
                self._source = Token(session=self._session, scopes=[CLOUD_PLATFORM])
            fetched = await self._source.refresh(timeout=FETCH_S)
        except Exception as error:
            # Credentials may be wrong in many ways, and the library raises errors of any type.
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
            fetch.exception()  # retrieve the error, because all callers may have been cancelled


def _may_pass(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in (408, 429) or error.status >= 500
    return isinstance(error, (aiohttp.ClientConnectionError, TimeoutError))
