"""
Markers: with them, processes draw each other's attention to a run.

A run has a marker from before its first commit until after its end. Every process lists the markers now and then (see
`aiorch.engine.sweeper`) and looks at the runs whose marker is new to it. A process that writes a marker anew says: look
at this run. This process remembers the writes and removals that the store does not take now, and its next sweep tries
again.
"""

import asyncio
import logging

from aiorch.documents.runs import OrchestrationStatus
from aiorch.engine.committer import Committer
from aiorch.errors import AiorchError
from aiorch.model.run_document import StartCommand
from aiorch.ports.world import Entropy

logger = logging.getLogger(__name__)

TOUCHES_MAX = 4
"""Tries to give a marker a new generation."""


class Markers:
    """
    Markers that this process writes and removes.

    Attributes:
        untouched: Runs that other processes should look at, and whose marker the store did not let this process touch.

        unremoved: Runs that have ended, and whose marker the store did not let this process remove.
    """

    def __init__(self, runs: OrchestrationStatus, entropy: Entropy) -> None:
        self.untouched: dict[str, None] = {}
        self.unremoved: set[str] = set()
        self._runs = runs
        self._entropy = entropy

    async def create(self, committer: Committer, command: StartCommand) -> None:
        """Write the marker of a run that is to begin, unless the run has a marker."""
        marker = await self._runs.open_run(command)
        if marker is not None:
            committer.marker, committer.is_announced = marker, True

    async def touch(self, committer: Committer) -> bool:
        """Let the other processes look at a run. `False`: not now; the next sweep tries again."""
        refusal: AiorchError | None = None
        for tries in range(TOUCHES_MAX):
            try:
                committer.marker = await self._runs.touch_open(committer.run_id)
            except AiorchError as error:
                refusal = error
                await asyncio.sleep(2**tries * (0.5 + self._entropy.jitter()))
            else:
                self.untouched.pop(committer.run_id, None)
                return True
        logger.warning("marker not touched", extra={"run_id": committer.run_id, "error": str(refusal)})
        self.untouched[committer.run_id] = None
        return False

    async def remove(self, committer: Committer) -> None:
        """
        Remove the marker of a run that has ended.

        The process that ends a run calls this. If it died before, any process removes the marker at a sweep; if the
        store refused, the next sweep here tries again.
        """
        try:
            await self._runs.close_run(committer.run_id, committer.marker)
        except AiorchError as error:
            logger.warning("marker of an ended run left", extra={"run_id": committer.run_id, "error": str(error)})
            self.unremoved.add(committer.run_id)
        else:
            self.unremoved.discard(committer.run_id)
