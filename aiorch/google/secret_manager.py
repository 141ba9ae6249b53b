"""Secret Manager of Google Cloud: reads secrets, and remembers them for a while."""

import asyncio
from base64 import b64decode
from typing import Final

import aiohttp

from aiorch.errors import SecretError
from aiorch.google.access_token import AccessToken, AccessTokenError

API: Final = "https://secretmanager.googleapis.com"

REMEMBERED_S: Final = 300.0
"""Time for which a secret is used again without a request: a new version counts after this time at the latest."""

TIMEOUT_S: Final = 10.0


class SecretManager:
    """
    Reads secrets with the credentials of this process.

    Args:
        api: Endpoint of the API.

        token: Provides access tokens; `None`: the Application Default Credentials.
    """

    def __init__(self, api: str = API, token: AccessToken | None = None) -> None:
        self._api = api
        self._token = token or AccessToken()
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[str, tuple[float, str]] = {}

    async def access(self, name: str) -> str:
        """
        Return the value of a secret.

        Args:
            name: ``projects/PROJECT/secrets/SECRET``, with ``/versions/VERSION`` or the latest one.

        Raises:
            SecretError: The secret cannot be read at present.
        """
        now = asyncio.get_running_loop().time()
        read_at, value = self._known.get(name, (float("-inf"), ""))
        if now - read_at < REMEMBERED_S:
            return value
        version = name if "/versions/" in name else f"{name}/versions/latest"
        try:
            headers = {"Authorization": f"Bearer {await self._token.get()}"}
            if self._session is None:
                self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
            async with self._session.get(f"{self._api}/v1/{version}:access", headers=headers) as answer:
                if answer.status != 200:
                    raise SecretError(f"Secret Manager answers {answer.status} about {version!r}")
                payload = await answer.json()
            value = b64decode(payload["payload"]["data"], validate=True).decode()
        except (aiohttp.ClientError, TimeoutError, AccessTokenError) as error:
            raise SecretError(f"Secret Manager does not answer about {version!r}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise SecretError(f"Secret Manager gives no text for {version!r}") from error
        self._known[name] = now, value
        return value

    async def aclose(self) -> None:
        """Close the connections."""
        await self._token.aclose()
        if self._session is not None:
            await self._session.close()
