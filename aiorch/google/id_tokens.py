"""
ID tokens for calls of Cloud Functions and Cloud Run services.

Credentials are the Application Default Credentials: the file that ``GOOGLE_APPLICATION_CREDENTIALS`` names, else the
file that gcloud keeps in its configuration folder, else the metadata server (at ``GCE_METADATA_HOST``, if set). They
are looked for again at each fetch, so that a rotated key counts at once. The issuer of the token:

    metadata server                          the metadata server, for the account of this machine
    key of a service account                 its `token_uri`, for a request signed with the key
    any of them, impersonating an account    IAM Credentials, ``generateIdToken`` for that account
    credentials of a user                    none: a user must impersonate an account

Source: Google Cloud documentation, "How Application Default Credentials works" and "Get an ID token".
"""

import asyncio
import base64
import io
import json
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from aiorch.errors import AiorchError, in_words

IAM_URL = "https://iamcredentials.googleapis.com"
TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  an address, no secret
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

REFRESH_BEFORE_S = 300.0
"""A token that expires within this time is replaced: clocks differ, and a call may wait for a connection."""

FETCH_S = 30.0
"""Deadline in seconds of one fetch, of up to two requests."""

_REASON_CHARS_MAX = 300
_TOKEN = re.compile(r"[A-Za-z0-9_\-]+\.([A-Za-z0-9_\-]+)\.[A-Za-z0-9_\-]+", re.ASCII)
_GET_CREDENTIALS = (
    "Outside Google Cloud, set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or run `gcloud "
    "auth application-default login --impersonate-service-account=EMAIL`; inside, give this machine a service account"
)


class IdTokenError(AiorchError):
    """
    There is no ID token, so the function was not called.

    Attributes:
        is_final: A repetition does not help: this process has no credentials.
    """

    def __init__(self, audience: str, source: str, reason: str, next_move: str, *, is_final: bool = False) -> None:
        self.audience: str = audience
        self.source: str = source
        self.is_final: bool = is_final
        super().__init__(
            f"no ID token for audience {audience!r} from {source}, so the function was not called: {reason}. "
            f"{next_move}."
        )


class _Maker(NamedTuple):
    """The issuer of tokens for the credentials."""

    source: str
    make: Callable[[aiohttp.ClientSession, str], Awaitable[str]]
    """Fetches a token; called with a session and the audience."""

    next_move: str
    """The remedy for a failed fetch."""


class IdTokens:
    """
    Provides ID tokens, and keeps each until shortly before it expires.

    Callers that need the same token at the same time share one fetch. A cancelled caller does not stop the fetch, and a
    failed fetch is not remembered.

    Args:
        impersonate: E-mail address of the service account that makes the calls; `None`: the account of the credentials.

        delegates: Accounts between the credentials and *impersonate*, each allowed to act as the next.

        iam_url: URL of the IAM Credentials API.

        now: Time of day in seconds since 1970, as ``exp`` in tokens.
    """

    def __init__(
        self,
        *,
        impersonate: str | None = None,
        delegates: Sequence[str] = (),
        iam_url: str = IAM_URL,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._impersonate = impersonate
        self._delegates = tuple(delegates)
        self._iam_url = iam_url
        self._now = now
        # Both fields change between two awaits only, never across one.
        self._kept: dict[str, tuple[str, float]] = {}
        self._fetches: dict[str, asyncio.Task[str]] = {}

    async def token(self, audience: str) -> str:
        """
        Return an ID token for *audience*.

        Raises:
            IdTokenError: There is no token. The error names the issuer and the remedy.
        """
        if audience in self._kept:
            token, refresh_at = self._kept[audience]
            if self._now() < refresh_at:
                return token
        fetch = self._fetches.get(audience)
        if fetch is None:
            fetch = self._fetches[audience] = asyncio.create_task(self._fetch(audience))
            fetch.add_done_callback(partial(self._end_fetch, audience))
        return await asyncio.shield(fetch)

    async def aclose(self) -> None:
        """Stop the running fetches."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    def _end_fetch(self, audience: str, fetch: asyncio.Task[str]) -> None:
        del self._fetches[audience]
        if not fetch.cancelled():
            fetch.exception()  # retrieve the error, because all callers may have been cancelled

    async def _fetch(self, audience: str) -> str:
        try:
            maker = self._find_maker()
        except (OSError, ValueError) as error:
            words = str(error)
            raise IdTokenError(
                audience, "the credentials of this process", words, _GET_CREDENTIALS, is_final=True
            ) from error
        try:
            async with asyncio.timeout(FETCH_S), aiohttp.ClientSession() as session:
                token = await maker.make(session, audience)
            expires_at = _expiry(token)
        except Exception as error:
            # Libraries raise errors of any type here, and after each of them there is no token.
            reason = in_words(error)[:_REASON_CHARS_MAX]
            is_final = maker.make is _from_metadata_server and _has_no_such_name(error) and not self._kept
            raise IdTokenError(audience, maker.source, reason, maker.next_move, is_final=is_final) from error
        self._kept[audience] = token, expires_at - REFRESH_BEFORE_S
        return token

    def _find_maker(self) -> _Maker:
        """Return the issuer. Raises: OSError, ValueError if the credentials exist and are unusable."""
        source, data = _find_credentials()
        url: str | None = data.get("service_account_impersonation_url")
        delegates = self._delegates
        if self._impersonate:
            url = f"{self._iam_url}/v1/projects/-/serviceAccounts/{quote(self._impersonate, safe='@')}:generateIdToken"
        elif url:
            url = url.removesuffix(":generateAccessToken") + ":generateIdToken"
            delegates = tuple(data.get("delegates") or ())
        if url:
            return _Maker(
                f"{url}, asked with {source}",
                partial(_impersonated, url, delegates, data),
                "Give the account of these credentials the role roles/iam.serviceAccountTokenCreator on that account",
            )
        if not data:
            return _Maker(source, _from_metadata_server, _GET_CREDENTIALS)
        if data["type"] == "service_account":
            return _Maker(
                source, partial(_signed, data, self._now), "Check whether the key was deleted or the clock is wrong"
            )
        raise ValueError(f"{source} are of type {data['type']!r}, which gets no ID tokens without impersonation")


def _has_no_such_name(error: Exception) -> bool:
    """Whether the name of a server does not exist: outside of Google Cloud there is no metadata server."""
    return isinstance(error, aiohttp.ClientConnectorDNSError) and error.os_error.errno in (
        socket.EAI_NONAME,
        socket.EAI_NODATA,
    )


def _find_credentials() -> tuple[str, dict[str, Any]]:
    """Return a name for the credentials, and the content of their file (empty for the metadata server)."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    # Path.home() raises if the user of a container has no home.
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")  # noqa: PTH111
    path = Path(named or f"{folder}/application_default_credentials.json")
    if not named and not path.exists():
        return f"the metadata server at {_metadata_host()}", {}
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or not data.get("type"):
        raise ValueError(f"{path} is no credentials file: it has no `type`")
    return f"the credentials in {path}", data


def _metadata_host() -> str:
    return os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"


async def _from_metadata_server(session: aiohttp.ClientSession, audience: str) -> str:
    return await _ask_metadata_server(session, f"identity?audience={quote(audience, safe='')}&format=full")


async def _ask_metadata_server(session: aiohttp.ClientSession, path: str) -> str:
    url = f"http://{_metadata_host()}/computeMetadata/v1/instance/service-accounts/default/{path}"
    asked = session.get(URL(url, encoded=True), headers={"Metadata-Flavor": "Google"}, allow_redirects=False)
    async with asked as response:
        text = await _text_of(response)
        if response.headers.get("Metadata-Flavor") != "Google":
            raise ValueError("the answer comes from no metadata server")
        return text


async def _signed(key: dict[str, Any], now: Callable[[], float], session: aiohttp.ClientSession, audience: str) -> str:
    import jwt  # noqa: PLC0415  slow to import, and needed only for keys

    url = key.get("token_uri", TOKEN_URL)
    claims = {
        "iss": key["client_email"],
        "sub": key["client_email"],
        "aud": url,
        "iat": int(now()),
        "exp": int(now()) + 3600,
        "target_audience": audience,
    }
    key_id = {"kid": key["private_key_id"]} if "private_key_id" in key else None
    assertion = jwt.encode(claims, key["private_key"], "RS256", headers=key_id)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    async with session.post(url, data=form, allow_redirects=False) as response:
        return str(json.loads(await _text_of(response))["id_token"])


async def _impersonated(
    url: str, delegates: Sequence[str], credentials: dict[str, Any], session: aiohttp.ClientSession, audience: str
) -> str:
    request = {
        "audience": audience,
        "includeEmail": True,
        "delegates": [name if "/" in name else f"projects/-/serviceAccounts/{name}" for name in delegates],
    }
    headers = {"Authorization": f"Bearer {await _access_token(session, credentials)}"}
    async with session.post(url, json=request, headers=headers, allow_redirects=False) as response:
        return str(json.loads(await _text_of(response))["token"])


async def _access_token(session: aiohttp.ClientSession, credentials: dict[str, Any]) -> str:
    """Return an access token of the caller itself, not of the account that it impersonates."""
    if not credentials:
        return str(json.loads(await _ask_metadata_server(session, "token"))["access_token"])
    from gcloud.aio.auth import Token  # noqa: PLC0415  slow to import, and needed only for impersonation

    if credentials["type"] == "impersonated_service_account":
        own = credentials["source_credentials"]
    else:
        own = {key: value for key, value in credentials.items() if key != "service_account_impersonation_url"}
    token = Token(io.StringIO(json.dumps(own)), session=session, scopes=[CLOUD_PLATFORM])
    return (await token.refresh(timeout=10)).value


async def _text_of(response: aiohttp.ClientResponse) -> str:
    text = (await response.text(errors="replace")).strip()
    if response.status != 200:
        raise ValueError(f"HTTP {response.status} {response.reason}: {text}")
    return text


def _expiry(token: str) -> float:
    """Return the expiry of *token* in seconds since 1970. No error shows the token."""
    try:
        parts = _TOKEN.fullmatch(token)
        claims = parts[1] if parts else ""
        return float(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"])
    except (ValueError, LookupError, TypeError):
        raise ValueError("the answer is no ID token with a time of expiry") from None
