"""
The end of the service: a signal cancels the work, and a deadline bounds the end.

    SIGTERM ─▶ not ready ─▶ no more pulls ─▶ drain ─▶ last commits, messages given back ─▶ exit 0
       └──────────────── after `end_after_s` at the latest, whatever still waits ─────────────┘

All state is durable, so an end at any moment loses no event: messages that were not given back come again later.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine
from typing import Any

from aiorch.errors import AiorchError
from aiorch.system.exit import ENDING, heeded, leave

logger = logging.getLogger(__name__)

STOPPED, STOPPED_AT_ONCE = 0, 130

REST_S = 6.0
CLOSING_S = 3.0
"""Time for the end after the drain (last commits, giving messages back, closing): as a rule, and at least."""

CLOUD_RUN_S = 8.5
"""
Time until the process must have ended, if the drain leaves time for `CLOSING_S`.

Source: Cloud Run documentation, "Container runtime contract": SIGKILL follows 10 s after SIGTERM.
"""


def end_after_s(drain_s: float) -> float:
    """Return the seconds after which the process ends, even if a task or a request still waits."""
    return min(drain_s + REST_S, max(drain_s + CLOSING_S, CLOUD_RUN_S))


class Ending:
    """
    Runs the work of a service until a signal comes, and ends the process in time.

    Args:
        drain_s: Time for the work to end after its cancellation.

    Attributes:
        not_ready: The reason why requests are refused at present; `None` when they are accepted.
    """

    def __init__(self, drain_s: float) -> None:
        self.not_ready: str | None = "the service is starting: ask again in a moment"
        self._end_s = end_after_s(drain_s)
        self._is_signalled = False

    def is_ready(self) -> None:
        """Accept requests from now on."""
        self.not_ready = None

    async def until_signalled(self, work: Coroutine[Any, Any, None], *, failed: int) -> int:
        """
        Run *work* in a task. The first SIGINT, SIGTERM or SIGHUP cancels it, the second ends the process at once.

        Returns:
            0 when a signal has ended *work*, *failed* when an error has; the error is logged.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        for number in heeded(ENDING):
            loop.add_signal_handler(number, self._signalled, number, task)
        try:
            await task
        except asyncio.CancelledError:
            if not self._is_signalled:
                raise
        except AiorchError as error:
            logger.critical("service failed", extra={"action": "failed", "error": str(error)})
            return failed
        except Exception:
            logger.critical("service failed", extra={"action": "failed"}, exc_info=True)
            return failed
        logger.info("stopped", extra={"action": "stopped"})
        return STOPPED

    def _signalled(self, number: int, task: "asyncio.Task[None]") -> None:
        if self._is_signalled:
            leave(STOPPED_AT_ONCE, at_once=True)
        self._is_signalled = True
        self.not_ready = "the service is stopping: send the request to another instance"
        logger.info("stopping", extra={"action": "stopping", "signal": signal.Signals(number).name})
        # In a thread, because the event loop may be blocked by then.
        timer = threading.Timer(self._end_s, self._end)
        timer.daemon = True
        timer.start()
        task.cancel()

    def _end(self) -> None:
        logger.warning(
            "ended before all messages were given back: they come again later",
            extra={"action": "stopped", "seconds": self._end_s},
        )
        leave(STOPPED, at_once=True)
