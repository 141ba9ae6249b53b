"""
Requests to the REST API of Pub/Sub.

``PUBSUB_EMULATOR_HOST`` (``host:port``) sends them to an emulator, without credentials. The meaning of answers:

    pull                  any failure         the caller waits and pulls again; lost messages come again
    acknowledge, extend   401                 a new access token, and a second try
                          408, 429, 5xx, none  again after a pause, `TRIES_MAX` times in all
                          other 4xx           given up: it would be refused for ever

A request that is given up is only logged: a message whose acknowledgement is lost is delivered again without effect.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar, cast

import aiohttp

from aiorch.errors import AiorchError, in_words
from aiorch.google.access_token import AccessToken
from aiorch.google.extras import gcp_imports
from aiorch.ports.world import Entropy

with gcp_imports():
    from gcloud.aio.auth import Token
    from gcloud.aio.pubsub import SubscriberClient, SubscriberMessage

logger = logging.getLogger(__name__)

IDS_MAX = 1000
"""
Largest number of messages and of ids in one request.

An id has about 200 characters, and a request for acknowledgement may have 512 KiB. Source: Pub/Sub documentation,
"Quotas and limits", resource limits.
"""

PULL_TIMEOUT: Any = aiohttp.ClientTimeout(total=100, sock_connect=10)
"""
Deadline of a pull. Pub/Sub answers a pull without messages after about 90 s. A pull that is given up earlier stays open
at the server, which assigns it the next message: no process gets that message until its deadline.
"""

TIMEOUT: Any = aiohttp.ClientTimeout(total=10, sock_connect=5)

TRIES_MAX = 4

BACK_OFF_S = 0.1
BACK_OFF_S_MAX = 30.0

_RETRIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

_T = TypeVar("_T")


class ResourceNameError(AiorchError, ValueError):
    """A topic or subscription is not named in full."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind: str = kind
        self.name: str = name
        other = "subscription" if kind == "topic" else "topic"
        if f"/{other}s/" in name:
            reason = f" but a {other} (messages are published to a topic and pulled from a subscription)"
        elif f"/{kind}s/" in name:
            reason = " (a name begins with a letter, and has 3 to 255 of A-Z a-z 0-9 - . _ ~ + %)"
        else:
            reason = ""
        super().__init__(f"{name!r} names no {kind}{reason}, so no request was sent; use projects/PROJECT/{kind}s/NAME")


def check_name(kind: str, name: str) -> str:
    """Return the name of a ``topic`` or ``subscription``. Raises: ResourceNameError."""
    # From the Pub/Sub documentation, "Guidelines to name a topic, subscription, schema, or snapshot"; a project may
    # have the prefix of a domain.
    if not re.fullmatch(rf"projects/[\w.:-]+/{kind}s/[A-Za-z][\w.~+%-]{{2,254}}", name, re.ASCII):
        raise ResourceNameError(kind, name)
    return name


def back_off_s(failures: int, jitter: float) -> float:
    """Return the pause in seconds after a number of consecutive failures, from 1."""
    return min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** min(failures - 1, 16)) * (0.5 + jitter / 2)


_NEXT_MOVES = {
    403: "give this process roles/pubsub.subscriber on the subscription",
    404: "create the subscription, or correct its name",
}


def describe(error: Exception) -> str:
    """Return the error in one line of bounded length, with the remedy if there is one."""
    text = in_words(error)[:500]
    move = _NEXT_MOVES.get(error.status) if isinstance(error, aiohttp.ClientResponseError) else None
    return f"{text}; {move}" if move else text


class Subscription:
    """
    The requests about one subscription, for the event loop in which this object is created.

    Args:
        name: ``projects/PROJECT/subscriptions/NAME``.

        entropy: Source of randomness that spreads retries.

    Raises:
        ResourceNameError: The name is not a full name.
    """

    def __init__(self, name: str, entropy: Entropy) -> None:
        self.name: str = check_name("subscription", name)
        self._entropy = entropy
        self._session = aiohttp.ClientSession()
        self._token = AccessToken(self._session)
        self._client = SubscriberClient(
            session=self._session, token=cast("Token", self._token)
        )  # the library only calls `get`

    async def pull(self, messages_max: int) -> list[SubscriberMessage]:
        """Wait for messages, and return the waiting ones in order; after about 90 s possibly none."""
        return await self._ask(self._client.pull(self.name, min(messages_max, IDS_MAX), timeout=PULL_TIMEOUT))

    async def acknowledge(self, ack_ids: Sequence[str]) -> bool:
        """Acknowledge messages. `False`: the request was given up."""
        return await self._insist("acknowledge", ack_ids, self._client.acknowledge)

    async def extend(self, ack_ids: Sequence[str], ack_deadline_s: int) -> bool:
        """Set the deadlines of messages, in seconds from now; 0 gives them back. `False`: the request was given up."""
        extend = partial(self._client.modify_ack_deadline, ack_deadline_seconds=ack_deadline_s)
        return await self._insist("extend" if ack_deadline_s else "give back", ack_ids, extend)

    async def _insist(self, action: str, ack_ids: Sequence[str], request: Callable[..., Awaitable[None]]) -> bool:
        failures = 0
        while True:
            try:
                await self._ask(request(self.name, ack_ids=list(ack_ids), timeout=TIMEOUT))
            except Exception as error:  # noqa: BLE001  credentials raise errors of many types, and all mean: not sent
                failures += 1
                if failures == TRIES_MAX or not _may_pass(error):
                    logger.warning(
                        "answers not confirmed by Pub/Sub; it will deliver the messages again",
                        extra={"action": action, "messages": len(ack_ids), "error": describe(error)},
                    )
                    return False
            else:
                return True
            await asyncio.sleep(back_off_s(failures, self._entropy.jitter()))

    async def _ask(self, request: Awaitable[_T]) -> _T:
        try:
            return await request
        except aiohttp.ClientResponseError as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                self._token.drop()
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._token.aclose()
        await self._session.close()


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, aiohttp.ClientResponseError) or error.status >= 500 or error.status in _RETRIED
