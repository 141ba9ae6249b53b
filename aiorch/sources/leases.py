"""
The messages that a process holds: how many more there is room for, and whose lease is to be extended when.

Pure: time comes in as seconds of a clock that only goes forward, chance as a number in [0, 1).
"""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

FIRST_EXTENSION_S = 4.0
"""
Seconds after which a lease is extended for the first time.

The first lease lasts as long as the subscription says, which a subscriber has no permission to ask; never under 10 s.
Source: Pub/Sub REST reference, "projects.subscriptions", ``ackDeadlineSeconds``.
"""

FIRST_LEASE_S = 15.0
"""
How long the first extension lasts; each further one lasts twice as long, up to the whole.

After a crash, what a process had held for some seconds comes again some seconds later, and not a minute later.
"""


class Lease:
    """
    A message that is ours until its deadline, or has been answered and not heard of by Pub/Sub yet.

    Attributes:
        ack_id: What Pub/Sub calls this handing-over of the message.

        size: Bytes of its content.

        since: When it came.

        extend_at: When its deadline is to be moved.

        lasts_s: Seconds from there to the new deadline.
    """

    __slots__ = ("ack_id", "extend_at", "lasts_s", "since", "size")

    def __init__(self, ack_id: str, size: int, since: float) -> None:
        self.ack_id = ack_id
        self.size = size
        self.since = since
        self.extend_at = since + FIRST_EXTENSION_S
        self.lasts_s = 0.0


class Due(NamedTuple):
    """What is to be done about leases now."""

    extend: list[Lease]
    """Move their deadlines, each by its own `lasts_s`."""

    let_go: list[Lease]
    """Held too long, and extended no more from now on: Pub/Sub will deliver them again."""


class Leases:
    """
    All leases of one process.

    A message takes up room from its arrival until the answer to it has been sent, also after it was let go: a process
    that is stuck gathers no more of them.

    Args:
        messages_max: Messages held at once.

        bytes_max: Bytes of content held at once. Exceeded by what a pull brings that was opened below it.

        ack_deadline_s: Seconds that an extended lease lasts, at most.

        hold_s_max: Seconds after which a lease is extended no more.

    Attributes:
        messages: How many take up room.

        bytes: How many bytes they have.
    """

    def __init__(self, *, messages_max: int, bytes_max: int, ack_deadline_s: float, hold_s_max: float) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._ack_deadline_s = ack_deadline_s
        self._hold_s_max = hold_s_max
        self._held: dict[Lease, None] = {}  # the oldest first
        self.messages = 0
        self.bytes = 0

    @property
    def held(self) -> list[Lease]:
        """Those that nobody has answered for, the oldest first."""
        return list(self._held)

    def room(self) -> int:
        """How many more messages may be asked for."""
        return max(0, self._messages_max - self.messages) if self.bytes < self._bytes_max else 0

    def take(self, ack_id: str, size: int, now: float) -> Lease:
        """A message has come."""
        lease = Lease(ack_id, size, now)
        self._held[lease] = None
        self.messages += 1
        self.bytes += size
        return lease

    def settle(self, lease: Lease) -> bool:
        """A message is answered for. `False`: it was before, and the first answer counts."""
        if lease not in self._held:
            return False
        del self._held[lease]
        return True

    def release(self, leases: Iterable[Lease]) -> None:
        """The answers have been sent, or given up."""
        for lease in leases:
            self.messages -= 1
            self.bytes -= lease.size

    def due(self, now: float, jitter: float) -> Due:
        """
        Return what is to be done now, and count it as done.

        A lease is extended again after 40 to 60 % of its time, so that one extension may fail. All that are extended
        together stay together, so that a thousand of them are one request.
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
        """Seconds since the oldest message came that nobody has answered for; 0 without any."""
        return now - next(iter(self._held)).since if self._held else 0.0
