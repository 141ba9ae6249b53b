"""
Messages from a Pub/Sub subscription.

    pulls ──▶ ready ──▶ receive() ──▶ ack() / nack() ──▶ gathered for 50 ms ──▶ sent
      ▲         └─ stop() gives them back                                        │
      └───────────────────── below the limits again ◀────────────────────────────┘

The source pulls independently of calls to `receive`: an abandoned pull delays the next message by its whole deadline,
so only the end of the source abandons pulls. Every held message is leased; `leases` decides when a lease is extended,
and how many further messages are pulled. The source has no durable state: messages that a crash leaves unanswered are
delivered again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiorch.google.extras import gcp_imports
from aiorch.ports.world import Entropy
from aiorch.sources.leases import Lease, Leases
from aiorch.sources.pubsub_api import IDS_MAX, Subscription, back_off_s, check_name, describe
from aiorch.system.chance import SystemEntropy

with gcp_imports():
    from gcloud.aio.pubsub import SubscriberMessage

logger = logging.getLogger(__name__)

GATHER_S = 0.05
"""Time for which answers are collected before they are sent together. Far below any deadline."""

TICK_S = 1.0
"""Pause between two checks of the leases. Well below `leases.FIRST_EXTENSION_S`."""

OPEN_PULL_GRACE_S = 1.0
"""Longest wait for an open pull at the end: under load a pull returns messages at once."""

CLOSE_S = 3.0
"""Longest time for closing. Cloud Run leaves 10 s between SIGTERM and SIGKILL, and runs are drained first."""


class PubSubDelivery:
    """One delivery of a message."""

    __slots__ = ("_lease", "_source", "attributes", "data", "delivery_attempt", "message_id", "publish_time")

    def __init__(self, source: "PubSubSource", message: SubscriberMessage, lease: Lease) -> None:
        self._source = source
        self._lease = lease
        self.data: bytes = message.data or b""
        self.message_id: str = message.message_id
        published = message.publish_time  # gcloud-aio-pubsub 7 leaves the time zone out
        self.publish_time: datetime = published if published.tzinfo else published.replace(tzinfo=UTC)
        self.attributes: Mapping[str, str] = message.attributes or {}
        self.delivery_attempt: int | None = message.delivery_attempt
        """Number of the delivery, from 1; `None` if the subscription has no dead-letter topic."""

    def ack(self) -> None:
        """Acknowledge: the event of the message is committed, or needs no commit. The first answer counts."""
        self._source.settle(self._lease, ack=True)

    def nack(self) -> None:
        """Give the message back, to be delivered again to any process. The first answer counts."""
        self._source.settle(self._lease, ack=False)


class PubSubSource:
    """
    An `EventSource` over one subscription. Any number of sources, in any number of processes, share its messages.

    Pulling starts with the first `receive`, in one event loop. Errors of any kind (5xx, resets, credentials, a
    subscription that does not exist yet) are logged, and pulling continues when their cause ends.

    Args:
        subscription: ``projects/PROJECT/subscriptions/NAME``.

        outstanding_messages_max: Messages held at once; at this number the source stops pulling.

        outstanding_bytes_max: Bytes of messages held at once. No pull is opened above this limit, and an open pull may
            exceed it by one reply.

        ack_deadline_s: Longest lease in seconds that an extension asks for, 10 to 600. After a crash, messages that
            were held longest are delivered again after this time.

        hold_s_max: Seconds after which a lease is no longer extended: the handler of the message is stuck.

        pulls: Pulls open at once.

        entropy: Source of randomness that spreads simultaneous requests.

    Attributes:
        received, acked, nacked, extended: Messages since the start; the last three as confirmed by Pub/Sub.

        let_go: Messages held longer than *hold_s_max*.

        unheard: Acknowledgements, nacks and extensions that Pub/Sub has not confirmed.

        pull_errors: Pulls that failed.

    Raises:
        ResourceNameError: The subscription is not named in full.

        ValueError: A limit is out of its range.
    """

    def __init__(  # noqa: PLR0913  all optional but the first
        self,
        subscription: str,
        *,
        outstanding_messages_max: int = 1000,
        outstanding_bytes_max: int = 64 * 1024 * 1024,
        ack_deadline_s: int = 60,
        hold_s_max: float = 600,
        pulls: int = 2,
        entropy: Entropy | None = None,
    ) -> None:
        if not 10 <= ack_deadline_s <= 600:
            raise ValueError(f"ack_deadline_s is {ack_deadline_s}, and Pub/Sub takes 10 to 600 seconds")
        if min(outstanding_messages_max, outstanding_bytes_max, hold_s_max, pulls) <= 0:
            raise ValueError("a limit is not above 0, so no message could be received")
        self.subscription: str = check_name("subscription", subscription)
        self.received: int = 0
        self.acked: int = 0
        self.nacked: int = 0
        self.extended: int = 0
        self.let_go: int = 0
        self.unheard: int = 0
        self.pull_errors: int = 0
        self._pulls_max = pulls
        self._pull_share = max(1, outstanding_messages_max // pulls)
        self._entropy = entropy or SystemEntropy()
        self._leases = Leases(
            messages_max=outstanding_messages_max,
            bytes_max=outstanding_bytes_max,
            ack_deadline_s=ack_deadline_s,
            hold_s_max=hold_s_max,
        )
        # No method awaits between reading and writing these fields.
        self._api: Subscription | None = None
        self._pulls: set[asyncio.Task[None]] = set()
        self._sends: set[asyncio.Task[None]] = set()
        self._tick_timer: asyncio.TimerHandle | None = None
        self._answers_timer: asyncio.TimerHandle | None = None
        self._ready: deque[PubSubDelivery] = deque()
        self._answers: dict[bool, list[Lease]] = {True: [], False: []}
        self._asked = 0
        self._arrived = asyncio.Event()
        self._may_pull = asyncio.Event()
        self._is_paused = False
        self._stopped_at: float | None = None

    @property
    def is_paused(self) -> bool:
        """Whether pulling is paused, between `pause` and `resume`."""
        return self._is_paused

    @property
    def outstanding(self) -> int:
        """Messages that count against the limit: unanswered, or with an answer that Pub/Sub has not confirmed."""
        return self._leases.messages

    @property
    def oldest_unacked_s(self) -> float:
        """Age of the oldest unanswered message in seconds; 0 without one."""
        return self._leases.oldest_s(_now()) if self._leases.messages else 0.0

    async def receive(self) -> Sequence[PubSubDelivery]:
        """
        Wait for messages, and return all waiting ones, in the order of each pull. Cancellation loses no message.

        After `stop` there are no further messages: the call waits for ever.
        """
        self._start()
        while not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        batch = list(self._ready)
        self._ready.clear()
        return batch

    def pause(self) -> None:
        """Open no further pulls, because their messages could not be handled. Pulled messages are still handed out."""
        self._is_paused = True

    def resume(self) -> None:
        """Pull again."""
        self._is_paused = False
        self._may_pull.set()

    def stop(self) -> None:
        """
        Stop pulling, and give back at once all messages that were not handed out.

        Until `aclose`, messages that were handed out can still be answered, and their leases are extended. Messages of
        a pull that is still open are given back, too.
        """
        if self._stopped_at is None:
            self._stopped_at = _now()
        self._may_pull.set()
        while self._ready:
            self._ready.popleft().nack()
        self._send_answers()

    async def aclose(self, deadline_s: float = CLOSE_S) -> None:
        """
        Stop, give back unsettled messages, send the last answers, and close the connections.

        Args:
            deadline_s: Longest time for closing. Messages whose answers were not sent by then are delivered again
            later.
        """
        self.stop()
        assert self._stopped_at is not None
        grace_s = min(self._stopped_at + OPEN_PULL_GRACE_S - _now(), deadline_s / 2)
        try:
            async with asyncio.timeout(deadline_s):
                if self._pulls and grace_s > 0:
                    await asyncio.wait(self._pulls, timeout=grace_s)
                await _end(self._pulls)
                for lease in self._leases.held:
                    self.settle(lease, ack=False)
                self._send_answers()
                if self._sends:
                    await asyncio.wait(self._sends)
        except TimeoutError:
            logger.warning(
                "closed before Pub/Sub confirmed every answer; it will deliver some messages again",
                extra={"messages": self._leases.messages, "subscription": self.subscription},
            )
        finally:
            for timer in (self._tick_timer, self._answers_timer):
                if timer is not None:
                    timer.cancel()
            await _end(self._pulls | self._sends)
            if self._api is not None:
                await self._api.aclose()

    # -- pulling -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._api is not None or self._stopped_at is not None:
            return
        self._api = Subscription(self.subscription, self._entropy)
        for _ in range(self._pulls_max):
            _spawn(self._pull_on(self._api), self._pulls)

    async def _pull_on(self, api: Subscription) -> None:
        failures = 0
        while asked := await self._room():
            self._asked += asked
            try:
                self._take(await api.pull(asked))
                failures = 0
            except Exception as error:  # noqa: BLE001  after any error, only a new pull can show that its cause has ended
                failures += 1
                self.pull_errors += 1
                pause_s = back_off_s(failures, self._entropy.jitter())
                logger.warning(
                    "pull failed, trying again",
                    extra={"subscription": api.name, "error": describe(error), "pause_s": round(pause_s, 1)},
                )
                await asyncio.sleep(pause_s)
            finally:
                self._asked -= asked
                self._may_pull.set()

    async def _room(self) -> int:
        """Wait until messages may be pulled, and return their number: 0 at the end."""
        while self._stopped_at is None:
            room = min(self._leases.room() - self._asked, self._pull_share)
            if room > 0 and not self._is_paused:
                return room
            self._may_pull.clear()
            await self._may_pull.wait()
        return 0

    def _take(self, messages: Sequence[SubscriberMessage]) -> None:
        now = _now()
        self.received += len(messages)
        for message in messages:
            lease = self._leases.take(message.ack_id, len(message.data or b""), now)
            self._ready.append(PubSubDelivery(self, message, lease))
        if self._tick_timer is None:
            self._tick_timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._arrived.set()
        if self._stopped_at is not None:
            self.stop()

    # -- leases and answers --------------------------------------------------------------------------------------

    def settle(self, lease: Lease, *, ack: bool) -> None:
        """Queue the answer to a message, to be sent with further answers. For deliveries."""
        if self._leases.settle(lease):
            self._answers[ack].append(lease)
            if self._answers_timer is None:
                self._answers_timer = asyncio.get_running_loop().call_later(GATHER_S, self._send_answers)

    def _send_answers(self) -> None:
        if self._answers_timer is not None:
            self._answers_timer.cancel()
            self._answers_timer = None
        for ack, leases in self._answers.items():
            for part in _parts(leases):
                _spawn(self._answer(part, ack=ack), self._sends)
            leases.clear()

    async def _answer(self, leases: list[Lease], *, ack: bool) -> None:
        assert self._api is not None
        ack_ids = [lease.ack_id for lease in leases]
        heard = await (self._api.acknowledge(ack_ids) if ack else self._api.extend(ack_ids, 0))
        self._leases.release(leases)
        self._may_pull.set()
        if not heard:
            self.unheard += len(leases)
        elif ack:
            self.acked += len(leases)
        else:
            self.nacked += len(leases)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._tick_timer = loop.call_later(TICK_S, self._tick) if self._leases.messages else None
        due = self._leases.due(loop.time(), self._entropy.jitter())
        for lasts_s in {lease.lasts_s for lease in due.extend}:
            for part in _parts([lease for lease in due.extend if lease.lasts_s == lasts_s]):
                _spawn(self._extend(part, lasts_s), self._sends)
        if due.let_go:
            self.let_go += len(due.let_go)
            logger.warning(
                "messages held too long; Pub/Sub will deliver them again",
                extra={"messages": len(due.let_go), "subscription": self.subscription},
            )

    async def _extend(self, leases: list[Lease], lasts_s: float) -> None:
        assert self._api is not None
        if await self._api.extend([lease.ack_id for lease in leases], round(lasts_s)):
            self.extended += len(leases)
        else:
            self.unheard += len(leases)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _parts(leases: Sequence[Lease]) -> list[list[Lease]]:
    """Yield chunks of the size of one request."""
    return [list(leases[first : first + IDS_MAX]) for first in range(0, len(leases), IDS_MAX)]


def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
