"""
The limit of concurrent requests to a store: it grows with answers and shrinks with timeouts.

A server with more requests than it can carry out answers each request later, until all of them time out and are sent
again, and none is ever answered. So the limit follows the answers, like the congestion window of TCP (additive
increase, multiplicative decrease). The limit begins at its maximum, which a healthy server never reaches.

Source: RFC 5681, "TCP Congestion Control", section 3.1; Chiu and Jain, "Analysis of the Increase and Decrease
Algorithms for Congestion Avoidance in Computer Networks" (1989).
"""

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

REQUESTS_MAX = 256
"""Requests under way at once while the server keeps up."""

REQUESTS_MIN = 8
"""Lower bound of the limit: so few requests overload no server."""

INCREASE = 4.0
"""Growth of the limit per round of answers."""

DECREASE = 0.5
"""Factor by which the limit shrinks at a sign of overload."""


class ConcurrencyLimit:
    """
    The limit itself, computed from answers only.

    One overload causes many timeouts, because all requests under way time out together. So the limit shrinks once per
    round, and the next round consists of requests that began after the limit shrank.

    Args:
        least, most: Bounds of the limit.

    Attributes:
        round: Number of the present round.
    """

    def __init__(self, *, least: int = REQUESTS_MIN, most: int = REQUESTS_MAX) -> None:
        self._least, self._most = least, most
        self._value = float(most)
        self.round: int = 0

    @property
    def value(self) -> int:
        """Number of requests that may be under way."""
        return int(self._value)

    def answered(self) -> None:
        """The server answered a request in time."""
        self._value = min(self._most, self._value + INCREASE / self._value)

    def overloaded(self, began_in_round: int, under_way: int) -> None:
        """
        A request got no answer in time, or the server reported an overload.

        Args:
            began_in_round: The round in which the request began.

            under_way: Requests under way, including this one. The limit shrinks from this number, because a limit that
                was never reached tells no property of the server.
        """
        if began_in_round == self.round:
            self.round += 1
            self._value = max(self._least, min(self._value, under_way) * DECREASE)


class Gate:
    """
    Admits as many requests at a time as a `ConcurrencyLimit` allows, in the order of their arrival.

    Urgent requests do not wait, but count as under way. There must be only few of them.

    Args:
        limit: The limit; `None`: a limit with the default bounds.
    """

    def __init__(self, limit: ConcurrencyLimit | None = None) -> None:
        self.limit: ConcurrencyLimit = limit or ConcurrencyLimit()
        self.under_way: int = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closing: asyncio.Future[None] | None = None

    def turn(self, *, is_urgent: bool = False) -> "Turn":
        """Return the context for one request; entering the context waits for a free place."""
        return Turn(self, is_urgent=is_urgent)

    async def until_empty(self) -> None:
        """Return when no request is under way or waits. To be called once, after the last request."""
        if self.under_way or self._waiting:
            self._closing = asyncio.get_running_loop().create_future()
            await self._closing

    async def enter(self, *, is_urgent: bool) -> None:
        """Take a place, if necessary after a wait."""
        if is_urgent or (not self._waiting and self.under_way < self.limit.value):
            self.under_way += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with suppress(ValueError):  # `leave` may have skipped the entry already
                    self._waiting.remove(place)
                self._tell_if_empty()
            else:
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back, and admit waiting requests."""
        self.under_way -= 1
        while self._waiting and self.under_way < self.limit.value:
            place = self._waiting.popleft()
            if not place.cancelled():
                self.under_way += 1
                place.set_result(None)
        self._tell_if_empty()

    def _tell_if_empty(self) -> None:
        is_empty = not (self.under_way or self._waiting)
        if is_empty and self._closing is not None and not self._closing.done():
            self._closing.set_result(None)


class Turn:
    """The place of one request. Report the outcome here if it tells how loaded the server is."""

    __slots__ = ("_gate", "_is_urgent", "_round")

    def __init__(self, gate: Gate, *, is_urgent: bool) -> None:
        self._gate = gate
        self._is_urgent = is_urgent
        self._round = 0

    def answered(self) -> None:
        """See `ConcurrencyLimit.answered`."""
        self._gate.limit.answered()

    def overloaded(self) -> None:
        """See `ConcurrencyLimit.overloaded`."""
        self._gate.limit.overloaded(self._round, self._gate.under_way)

    async def __aenter__(self) -> Self:
        await self._gate.enter(is_urgent=self._is_urgent)
        self._round = self._gate.limit.round
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._gate.leave()
