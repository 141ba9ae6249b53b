"""
The messages that a process holds: the number of further messages to pull, and the times to extend leases.

Pure: time comes in as seconds of a monotonic clock, randomness as a number in [0, 1).
"""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

FIRST_EXTENSION_S = 4.0
"""
Seconds after which a lease is extended for the first time.

The subscription determines the first lease, at least 10 s. A subscriber has no permission to read this setting.
Source: Pub/Sub REST reference, "projects.subscriptions", ``ackDeadlineSeconds``.
"""

FIRST_LEASE_S = 15.0
"""
Duration of the first extension; each further one lasts twice as long, up to the limit.

After a crash, messages that a process had held for some seconds come again some seconds later, not a minute later.
"""


class Lease:
    """
    A message that this process holds until its deadline, or whose answer Pub/Sub has not confirmed yet.

    Attributes:
        ack_id: Id of this delivery of the message.

        size: Bytes of the content.

        since: Time of arrival.

        extend_at: Time for the next extension.

        lasts_s: Seconds from there to the new deadline.
    """

    __slots__ = ("ack_id", "extend_at", "lasts_s", "since", "size")

    def __init__(self, ack_id: str, size: int, since: float) -> None:
        self.ack_id: str = ack_id
        self.size: int = size
        self.since: float = since
        self.extend_at: float = since + FIRST_EXTENSION_S
        self.lasts_s: float = 0.0


class Due(NamedTuple):
    """The leases that need an action now."""

    extend: list[Lease]
    """Leases to extend, each by its `lasts_s`."""

    let_go: list[Lease]
    """Leases that were held too long and are no longer extended: Pub/Sub will deliver the messages again."""


class Leases:
    """
    All leases of one process.

    A message counts against the limits from its arrival until its answer has been sent, also after it was let go. So a
    stuck process pulls no further messages.

    Args:
        messages_max: Messages held at once.

        bytes_max: Bytes of content held at once. A pull that was opened below this limit may exceed it.

        ack_deadline_s: Longest lease in seconds that an extension asks for.

        hold_s_max: Seconds after which a lease is no longer extended.

    Attributes:
        messages: Number of messages that count against the limits.

        bytes: Number of their bytes.
    """

    def __init__(self, *, messages_max: int, bytes_max: int, ack_deadline_s: float, hold_s_max: float) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._ack_deadline_s = ack_deadline_s
        self._hold_s_max = hold_s_max
        self._held: dict[Lease, None] = {}  # the oldest first
        self.messages: int = 0
        self.bytes: int = 0

    @property
    def held(self) -> list[Lease]:
        """Return the unanswered messages, the oldest first."""
        return list(self._held)

    def room(self) -> int:
        """Return the number of further messages that may be pulled."""
        return max(0, self._messages_max - self.messages) if self.bytes < self._bytes_max else 0

    def take(self, ack_id: str, size: int, now: float) -> Lease:
        """Add a message that has arrived."""
        lease = Lease(ack_id, size, now)
        self._held[lease] = None
        self.messages += 1
        self.bytes += size
        return lease

    def settle(self, lease: Lease) -> bool:
        """Mark a message as answered. `False`: it was answered before, and the first answer counts."""
        if lease not in self._held:
            return False
        del self._held[lease]
        return True

    def release(self, leases: Iterable[Lease]) -> None:
        """Remove messages whose answers were sent or given up."""
        for lease in leases:
            self.messages -= 1
            self.bytes -= lease.size

    def due(self, now: float, jitter: float) -> Due:
        """
        Return the leases that need an action now, and count the action as done.

        A lease is extended again after 40 to 60 % of its time, so that one extension may fail. Leases that are extended
        together stay together, so that a thousand of them need one request.
        """
        due = Due([], [])
        for lease in self._held:
            if now < lease.extend_at:
                continue
            if now - lease.since < self._hold_s_max:
                lease.lasts_s = min(self._ack_deadline_s, 2 * lease.lasts_s or FIRST_LEASE_S)
                lease.extend_at = now + lease.lasts_s * (0.4 + 0.2 * jitter)
                due.extend.append(lease)
            else:
                lease.extend_at = inf
                due.let_go.append(lease)
        return due

    def oldest_s(self, now: float) -> float:
        """Return the age of the oldest unanswered message in seconds; 0 without one."""
        return now - next(iter(self._held)).since if self._held else 0.0
