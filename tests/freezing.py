"""A process that stands still, in virtual time."""

import asyncio

from aiorch.testing.time import VirtualTimeLoop


def stand_still(seconds: float) -> None:
    """Let time pass in which no callback runs, as SIGSTOP does."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop._pass(seconds)
