"""
The sweeper: it finds the work that no event tells of.

Every process lists the open markers now and then. There is no leader: two processes may act on the same run, and the
conditional write lets one through. The sweeper looks at a run for one of these reasons:

- its marker is new: a start without a document, a task that a different process could not launch, a cancel;
- an owner of the run has died;
- this process has read the run, and one of its tasks can begin;
- this process holds the run, and the run is open no more.

The sweeper removes a marker whose run has ended.

Where the store tells that no process has written, and this process has neither learned a fact nor forgotten a run, a
sweep has no work to find: it only asks whether the owners of runs are alive, and reads the runs that are due by time.
"""

import asyncio
import logging
import math
from collections.abc import Hashable, Mapping

from aiorch.engine.committer import Committer
from aiorch.engine.executor import DAGExecutor
from aiorch.errors import AiorchError, DocumentError, NewerSchemaError, RunNotFoundError, StoreError
from aiorch.model import names
from aiorch.ports.store import Liveness

logger = logging.getLogger(__name__)

LOOK_S = 10.0
"""Longest look at one run, in seconds: a run that the store does not return must not keep the other runs waiting."""

WATCH_S = 2.0
"""Longest pause between two reads of a run that a caller of a client waits for."""

LOOKS_MAX = 256
"""Runs read at once: after a long pause any number may be due."""


class Sweeper:
    """
    Looks after the open runs of a store.

    Args:
        executor: The engine.

        liveness: Tells which processes are dead.

        interval_s: Pause between two sweeps, jittered.

        relook_s: Longest time between two looks at a run, even without a reason.

        refresh_s: Age at which the sweeper reads a run with executions of this process again.

    Attributes:
        open_runs: Number of runs that the last sweep found open, in the whole store; `None` before the first sweep.
    """

    def __init__(
        self,
        executor: DAGExecutor,
        liveness: Liveness,
        *,
        interval_s: float,
        relook_s: float,
        refresh_s: float,
    ) -> None:
        self._executor = executor
        self._liveness = liveness
        self._interval_s = interval_s
        self._relook_s = relook_s
        self._refresh_s = refresh_s
        self._seen: dict[str, int] = {}
        self._owners: dict[str, frozenset[str]] = {}
        self._looked_at: dict[str, float] = {}
        self._looks_at_all = False
        self._to_begin: set[str] = set()
        self._version: Hashable | None = None
        """The version of the store at the last look."""

        self._unchanged_since = math.inf
        """Since when no process has written to the store, in the event loop's time, as far as the store tells."""

        self._swept: tuple[Hashable, int] | None = None
        """Version and activity before the last listing, `None` when a run of the listing needs a second look."""

        self._others: frozenset[str] = frozenset()
        """Owners of open runs besides this process."""

        self._relook_at = math.inf
        """When the next look without a reason is due."""

        self.open_runs: int | None = None

    def look_again(self) -> None:
        """Let the next sweep look at every open run: this process may be able to launch more of them."""
        self._looks_at_all = True

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self.sweep()
            except StoreError as error:
                logger.warning("sweep failed, trying again", extra={"error": str(error)})
            except Exception:
                logger.exception("sweep failed, trying again")
            await self._pause(self._interval_s)

    async def watch(self) -> None:
        """For a client, which leaves all work to other processes: only read again the runs that a caller waits for."""
        while True:
            await self._pause(min(self._interval_s, WATCH_S))
            try:
                await self._look_at_version()
            except Exception as error:
                self._unchanged_since = math.inf  # the reads of the runs will tell this error to the waiting callers
                if not isinstance(error, StoreError):
                    logger.exception("the store's version cannot be read, reading the runs all the same")
            self._refresh_old()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * (0.75 + 0.5 * self._executor.entropy.jitter()))

    async def sweep(self) -> None:
        """
        Look at every open run of this process that may have changed.

        Raises:
            StoreError: The store does not list the open runs.
        """
        await self._look_at_version()
        found = self._version, self._executor.activity
        if found == self._swept and not self._is_anything_due() and not await self._dead_others():
            self._refresh_old()
            return
        self._swept = None
        found_open = await self._executor.runs.list_open()
        self.open_runs = len(found_open)
        carries_out, own_runs = self._executor.carries_out, self._executor.own_runs
        if own_runs is not None:
            own_runs.intersection_update({*self._executor.committers, *(marker.run_id for marker in found_open)})
        markers = {marker.run_id: marker.generation for marker in found_open if carries_out(marker.run_id)}
        closed = self._refresh_closed(markers)
        unremoved, untouched = self._executor.markers.unremoved, self._executor.markers.untouched
        unremoved.intersection_update(markers)
        for run_id in list(untouched):
            del untouched[run_id]
            if run_id in markers:
                self._executor.notify_replicas(self._executor.committer(run_id))
        held = self._executor.committers
        for run_id, committer in held.items():
            if run_id in markers and committer.generation:  # else it has no copy yet, or only the copy of a run to be
                self._owners[run_id] = self._executor.owners(committer)
        self._others = frozenset().union(*self._owners.values()) - {self._executor.process.id}
        dead = await self._dead_others()
        gate = asyncio.Semaphore(LOOKS_MAX)
        looks_at_all, self._looks_at_all = self._looks_at_all, False
        to_begin, self._to_begin = self._to_begin, set()
        now = asyncio.get_running_loop().time()
        ours = {run_id for run_id, generation in markers.items() if self._is_ours(run_id, generation)}
        due = [
            run_id
            for run_id, generation in markers.items()
            if looks_at_all
            or (self._seen.get(run_id) != generation and run_id not in ours)
            or run_id in unremoved
            or run_id in to_begin
            or now - self._looked_at.get(run_id, now) > self._relook_s
            or self._owners.get(run_id, frozenset()) & dead
        ]
        looked = await asyncio.gather(*(self._look(run_id, gate) for run_id in due))
        again = {run_id for run_id, is_done in zip(due, looked, strict=True) if not is_done}
        self._seen = {run_id: generation for run_id, generation in markers.items() if run_id not in again | ours}
        known = {run_id: self._looked_at.get(run_id, now) for run_id in (*markers, *closed)}
        self._looked_at = known | dict.fromkeys(due, now)
        self._relook_at = min(self._looked_at.values(), default=math.inf) + self._relook_s
        if self._version is not None and not (again or closed):
            self._swept = found
        self._refresh_old()

    async def _look_at_version(self) -> None:
        version = await self._executor.runs.store.version()
        if version is None or version != self._version:
            self._unchanged_since = math.inf if version is None else asyncio.get_running_loop().time()
        self._version = version

    def _is_anything_due(self) -> bool:
        """Whether a look or a notice is due for some run, although no process has written."""
        markers = self._executor.markers
        if self._looks_at_all or self._to_begin or markers.unremoved or markers.untouched:
            return True
        return asyncio.get_running_loop().time() > self._relook_at

    async def _dead_others(self) -> frozenset[str]:
        return await self._liveness.dead_among(self._others) if self._others else self._others

    def remember(self, committer: Committer) -> None:
        """
        Remember the owners of a run that this process has read, and whether one of its tasks can begin.

        A process that has taken the run over may have died before it told the other processes.
        """
        run_id = committer.run_id
        self._owners[run_id] = self._owners.get(run_id, frozenset()) | self._executor.owners(committer)
        if self._executor.slots.has_unclaimed(committer):
            self._to_begin.add(run_id)

    def _is_ours(self, run_id: str, generation: int) -> bool:
        """Whether this process wrote the marker and holds the run: the marker tells this process no new fact yet."""
        held = self._executor.committers.get(run_id)
        return held is not None and (held.starting > 0 or held.marker == generation)

    def _refresh_closed(self, markers: Mapping[str, int]) -> list[str]:
        """
        Forget the owners of runs that are open no more, and read those of them again that this process holds as open.

        Returns:
            The runs that are read again: the next sweep reads them once more, should this reading fail.
        """
        for run_id in self._owners.keys() - markers.keys():
            del self._owners[run_id]
        closed = []
        for run_id, committer in self._executor.committers.items():
            run = committer.run
            if run_id in self._looked_at and run_id not in markers and run is not None and not run.status.is_terminal:
                committer.refresh()
                closed.append(run_id)
        return closed

    def _refresh_old(self) -> None:
        now = asyncio.get_running_loop().time()
        for committer in self._executor.committers.values():
            if committer.known_at >= self._unchanged_since:
                continue  # the copy equals the stored document
            is_old = now - committer.known_at > self._refresh_s
            if (committer.in_flight and is_old) or (committer.is_watched and not self._executor.owns(committer)):
                committer.refresh()

    async def look(self, run_id: str) -> None:
        """
        Load a run, and do the due work: begin the run, take over from dead processes, claim tasks without an owner.

        Raises:
            RunNotFoundError: The store holds neither a document nor a marker of the run.
        """
        committer = self._executor.committer(run_id)
        try:
            await committer.apply(None)
        except RunNotFoundError:
            committer = await self._begin(run_id)
        if committer.run is not None and committer.run.status.is_terminal:
            await self._executor.markers.remove(committer)
            return
        await self._executor.adopt(committer)
        self._owners[run_id] = self._executor.owners(committer)
        self._executor.release(committer)

    async def _look(self, run_id: str, gate: asyncio.Semaphore) -> bool:
        """Look at one run of many: a bad run never stops the rest. Return `False` when the run needs a second look."""
        async with gate:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self.look(run_id)
            except TimeoutError:
                logger.warning("open run does not answer, looking again later", extra={"run_id": run_id})
                return False
            except AiorchError as error:
                logger.warning("open run cannot be looked after", extra={"run_id": run_id, "error": str(error)})
                return isinstance(error, NewerSchemaError) or not isinstance(error, StoreError | DocumentError)
            except Exception:
                logger.exception("open run cannot be looked after", extra={"run_id": run_id})
            return True

    async def _begin(self, run_id: str) -> Committer:
        """Begin a run with a marker and no document: its process died in between, or left the start to the sweepers."""
        command = await self._executor.runs.get_start_command(names.run_id(run_id))
        if command is None:
            raise RunNotFoundError(run_id, str(self._executor.runs.store))
        dag = await self._executor.runs.get_dag(command.definition)
        return await self._executor.start(dag, command)
