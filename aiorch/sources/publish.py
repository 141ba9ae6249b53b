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
    """A message was not published, or may have been published or not."""

    def __init__(self, topic: str, reason: str, *, is_refused: bool) -> None:
        self.topic: str = topic
        self.reason: str = reason
        self.is_refused: bool = is_refused
        known = (
            "so the message was not published: check the name of the topic and the permissions on it"
            if is_refused
            else "so the message may have been published or not: a start message with a run id may be sent again"
        )
        super().__init__(f"topic {topic!r} did not accept the message, {known}. {reason}")


async def publish(topic: str, message: Mapping[str, Any]) -> str:
    """
    Publish *message* as JSON, once, and return its id.

    The message is not sent again automatically: without a run id, a start message that is published twice starts two
    runs.

    Args:
        topic: ``projects/PROJECT/topics/NAME``.

        message: A start message, or any other JSON value.

    Raises:
        ResourceNameError: The topic is not named in full.

        PublishError: The message was not published (`is_refused`), or may have been published or not.
    """
    check_name("topic", topic)
    payload = PubsubMessage(msgspec.json.encode(message))
    async with aiohttp.ClientSession() as session:
        token = AccessToken(session)
        client = PublisherClient(session=session, token=cast("Token", token))  # the library only calls `get`
        try:
            reply = await client.publish(topic, [payload], timeout=TIMEOUT)
            return str(reply["messageIds"][0])
        except Exception as error:
            # After any error of credentials, connections and answers, there is no id.
            raise PublishError(topic, describe(error), is_refused=_is_refusal(error)) from error
        finally:
            await token.aclose()


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status < 500
    return isinstance(error, aiohttp.ClientConnectorError | AccessTokenError)
