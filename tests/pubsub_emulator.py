"""The official Pub/Sub emulator, started once for all tests, and topics in it."""

import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from gcloud.aio.pubsub import PublisherClient, PubsubMessage, SubscriberClient

START_S = 30

ACK_DEADLINE_S = 10
"""Of every subscription here, the shortest there is."""

ROOTS = [
    Path(os.environ.get("CLOUDSDK_ROOT_DIR", "/usr/lib/google-cloud-sdk")),
    Path("/usr/lib/google-cloud-sdk"),
    Path("~/google-cloud-sdk").expanduser(),
]
HOW_TO_GET_IT = (
    "the Pub/Sub emulator is not installed, so nothing was tested against it: install a Java runtime and the package "
    "google-cloud-cli-pubsub-emulator, or run `gcloud components install pubsub-emulator`"
)

_numbers = itertools.count(1)


def _command(port: int) -> list[str] | None:
    java = shutil.which("java")
    jars = [jar for root in ROOTS for jar in sorted(root.glob("platform/pubsub-emulator/lib/*pubsub-emulator*.jar"))]
    if java is None or not jars:
        return None
    # The jar itself: the gcloud command would leave its Java process behind. The flags make it start in half the time.
    flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return [java, *flags, "-jar", str(jars[-1]), "--host=127.0.0.1", f"--port={port}"]


def _is_ready(address: str) -> bool:
    try:
        with urlopen(f"http://{address}/", timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


@pytest.fixture(scope="session")
def pubsub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address (``host:port``) of an emulator."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = _command(port)
    if command is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(HOW_TO_GET_IT)
    log = tmp_path_factory.mktemp("pubsub-emulator") / "log.txt"
    address = f"127.0.0.1:{port}"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            give_up_at = time.monotonic() + START_S
            while not _is_ready(address):
                if process.poll() is not None or time.monotonic() > give_up_at:
                    pytest.fail(f"the Pub/Sub emulator did not start:\n{log.read_text()}")
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()


class Topic(NamedTuple):
    """A topic of one test, with one subscription."""

    name: str
    subscription: str

    async def publish(self, *payloads: bytes, **attributes: str) -> list[str]:
        """Publish, and return the ids of the messages, in order."""
        async with PublisherClient() as client:
            messages = [PubsubMessage(payload, **attributes) for payload in payloads]
            ids: list[str] = (await client.publish(self.name, messages))["messageIds"]
            return ids


@pytest.fixture
async def topic(pubsub_emulator: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Topic]:
    """Yield a topic of which nobody else knows; from here on, clients find the emulator by themselves."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_emulator)
    number = next(_numbers)
    topic = Topic(f"projects/tests/topics/topic-{number}", f"projects/tests/subscriptions/subscription-{number}")
    async with PublisherClient() as publisher, SubscriberClient() as subscriber:
        await publisher.create_topic(topic.name)
        await subscriber.create_subscription(topic.subscription, topic.name, {"ackDeadlineSeconds": ACK_DEADLINE_S})
        yield topic
        await subscriber.delete_subscription(topic.subscription)
