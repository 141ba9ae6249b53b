"""The access token with which this process uses Google Cloud: one for all adapters, renewed ahead of time."""

import asyncio
import inspect
import logging
import time

import aiohttp
from gcloud.aio.auth import Token

from aiorch.errors import AiorchError

logger = logging.getLogger(__name__)

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

RENEW_AGAIN_AFTER_S = 60
"""A renewal ahead of time that failed is tried again after this: each request must not become one more."""

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
            f"there is no access token for Google Cloud, so nothing was sent ({type(error).__name__}: "
            f"{str(error)[:_REASON_CHARS_MAX]}). Outside Google Cloud, set GOOGLE_APPLICATION_CREDENTIALS to a "
            f"credentials file or run `gcloud auth application-default login`; inside, give this machine a service "
            f"account."
        )


class AccessToken:
    """
    Gives out the token of the Application Default Credentials, which are looked for when it is first asked for.

    Callers that wait for the same fetch share it, and one of them that is cancelled does not stop it for the others.

    Args:
        session: Used for fetches; `None`: one of its own.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None) -> None:
        self._session = session
        self._token: _Token | None = None

    async def get(self) -> str:
        """
        Return a token that is valid for a while.

        Raises:
            AccessTokenError: None could be had.
        """
        if self._token is None:
            try:
                self._token = _Token(session=self._session, scopes=[CLOUD_PLATFORM])
            except Exception as error:
                # Of a credentials file anything may be wrong, and the library raises what it likes.
                raise AccessTokenError(error, is_final=True) from error
        # All callers await one task of the library, which the cancellation of any of them would cancel for all.
        await asyncio.shield(asyncio.ensure_future(self._token.ensure_token()))
        return str(self._token.access_token)

    def drop(self) -> None:
        """Fetch another one next time: this one was not accepted."""
        if self._token is not None:
            self._token.access_token = None

    async def aclose(self) -> None:
        """Stop a fetch that is under way, and close the session if it is its own."""
        if self._token is not None:
            if self._token.acquiring is not None:
                self._token.acquiring.cancel()
                await asyncio.wait([self._token.acquiring])
            await self._token.close()


class _Token(Token):
    async def acquire_access_token(self, timeout: int = 10) -> None:  # noqa: ASYNC109  the library's signature
        # Without the library's own tries, which take any time up to a minute: callers have theirs, with deadlines.
        acquire_once = inspect.unwrap(Token.acquire_access_token)
        try:
            await acquire_once(self, timeout)
        except Exception as error:
            if self.access_token and time.time() < self.access_token_refresh_after:
                self.access_token_preempt_after = int(time.time()) + RENEW_AGAIN_AFTER_S
                logger.warning("access token not renewed yet, trying again", extra={"error": str(error)})
                return
            is_passing = isinstance(error, (aiohttp.ClientConnectionError, TimeoutError)) or (
                isinstance(error, aiohttp.ClientResponseError) and (error.status in (408, 429) or error.status >= 500)
            )
            raise AccessTokenError(error, is_final=not is_passing) from error
