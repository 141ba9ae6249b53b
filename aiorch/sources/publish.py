"""Publishing one message to a Pub/Sub topic."""

from collections.abc import Mapping
from typing import Any, cast

import aiohttp
import msgspec

from aiorch.errors import AiorchError
from aiorch.google.access_token import AccessToken, AccessTokenError
from aiorch.google.extras import gcp_imports
from aiorch.sources.pubsub_api import TIMEOUT, check_name, describe

with gcp_imports():
    from gcloud.aio.auth import Token
    from gcloud.aio.pubsub import PublisherClient, PubsubMessage


class PublishError(AiorchError):
    """A message was not published, or nobody knows whether it was."""

    def __init__(self, topic: str, reason: str, *, is_refused: bool) -> None:
        self.topic, self.reason, self.is_refused = topic, reason, is_refused
        known = (
            "so the message was not published: look at the topic's name and who may publish to it"
            if is_refused
            else "so it is unknown whether the message was published: a start message with a run id may be sent again"
        )
        super().__init__(f"topic {topic!r} did not take the message, {known}. {reason}")


async def publish(topic: str, message: Mapping[str, Any]) -> str:
    """
    Publish *message* as JSON, once, and return its id.

    It is not sent again by itself: without a run id, a start message that is published twice is two runs.

    Args:
        topic: ``projects/PROJECT/topics/NAME``.

        message: A start message, or anything else that JSON can hold.

    Raises:
        ResourceNameError: The topic is not named in full.

        PublishError: The message was not published, or nobody knows; `is_refused` tells which.
    """
    check_name("topic", topic)
    payload = PubsubMessage(msgspec.json.encode(message))
    async with aiohttp.ClientSession() as session:
        token = AccessToken(session)
        client = PublisherClient(session=session, token=cast("Token", token))  # only `get` is used
        try:
            reply = await client.publish(topic, [payload], timeout=TIMEOUT)
            return str(reply["messageIds"][0])
        except Exception as error:
            # Whatever credentials, connections and answers raise, there is no id.
            raise PublishError(topic, describe(error), is_refused=_is_refusal(error)) from error
        finally:
            await token.aclose()


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status < 500
    return isinstance(error, aiohttp.ClientConnectorError | AccessTokenError)
