"""
Liveness by objects that each living process rewrites.

A process that has joined rewrites ``alive/<process>`` every 20 s while it works, and removes the object when it leaves.
A process that owes no run an action sends no heartbeats, because no process asks about it. It writes a heartbeat before
it commits to work again. An observer calls a process dead when it has seen the same generation for 60 s of its own
clock, or when the object does not exist. Clocks of different machines are never compared. An observer that looks for
the first time waits those 60 s. So does an observer that could not look for 60 s: the store may have been away for all
processes.

An observer that calls a process dead removes its object, on condition of the generation that it saw, so that the next
observer need not wait. No process asks about one that died without owing an action. So a process that joins looks for
objects that do not change, and removes them. A process that was idle or only paused finds its object removed when it
continues, and writes it again. It may have been called dead meanwhile. It can tell by the age of its own heartbeat
(`is_silent`, `heard_since`), and reads a run again before it sends a request for the run.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from aiorch.errors import GenerationConflict, InvalidIdError, StoreError, StoreThrottled, StoreUnavailable
from aiorch.model import names
from aiorch.ports.store import ObjectStore
from aiorch.ports.world import LATE_S

logger = logging.getLogger(__name__)

JOIN_PAUSES_S = (0.5, 1.0, 2.0)
"""Pauses between tries of the first heartbeat, which every launch needs: a short fault must not fail a start."""


class _Heartbeat:
    """State of the heartbeat of a process that joined here."""

    def __init__(self, is_working: Callable[[], bool] | None) -> None:
        self.is_working = is_working
        self.writing = asyncio.Lock()
        self.generation = 0
        self.count = 0
        self.begun_at = float("-inf")
        self.heard_since = float("-inf")
        self.due_at = float("inf")
        self.task: asyncio.Task[None] | None = None
        self.clearing: asyncio.Task[None] | None = None


class _Observed(msgspec.Struct, frozen=True, gc=False):
    """The last observation of another process: the generation, its age, and the time of the last look."""

    generation: int
    since: float
    looked_at: float
    look: int
    """Number of the look, counted over all processes from 1."""


class Heartbeats:
    """
    `Liveness` over any `ObjectStore`. Durations are measured by the clock of the event loop.

    A process that works all day writes 4,320 times. It lists when it joins, and once more if it is not the only one.

    An observer reads one object per process in question. For a quarter of the interval it answers from memory that a
    process is alive, so any number of runs with the same owners costs one look. It never answers from memory that a
    process is dead, because the process may have sent a heartbeat just now. An observer must be asked more often than
    every `dead_after_s`, or it never calls a process dead.

    Args:
        store: The store of the objects.

        interval_s: Pause between two heartbeats.

        dead_after_s: Time for which a generation must stay the same.
    """

    def __init__(self, store: ObjectStore, *, interval_s: float = 20.0, dead_after_s: float = 60.0) -> None:
        if not 0 < interval_s <= dead_after_s / 2:
            raise ValueError(
                f"a heartbeat every {interval_s} s and death after {dead_after_s} s of silence do not fit: one lost "
                f"heartbeat would count as death. Let the interval be at most half of that time."
            )
        self._store = store
        self._interval_s = interval_s
        self._dead_after_s = dead_after_s
        self._silent_after_s = dead_after_s * 2 / 3
        self._joined: dict[str, _Heartbeat] = {}
        self._observed: dict[str, _Observed] = {}
        self._looking = asyncio.Lock()
        self._looks = 0
        self._went_on_at = float("-inf")

    def own_age_s(self, process: str) -> float:
        """
        Return the time since the start of the last heartbeat of *process* that was written here; infinite for none.

        No observer can have waited longer than this.
        """
        heartbeat = self._joined.get(process)
        return asyncio.get_running_loop().time() - heartbeat.begun_at if heartbeat else float("inf")

    def is_silent(self, process: str) -> bool:
        """See `Liveness.is_silent`. Two thirds of `dead_after_s` leave time for what is done after asking."""
        return self.own_age_s(process) > self._silent_after_s

    def heard_since(self, process: str) -> float:
        """See `Liveness.heard_since`."""
        heartbeat = self._joined.get(process)
        return heartbeat.heard_since if heartbeat else float("inf")

    async def announce(self, process: str) -> None:
        """See `Liveness.announce`. Any number of callers at once cost one write."""
        heartbeat = self._joined.get(process)
        if heartbeat is None or not self.is_silent(process):
            return
        async with heartbeat.writing:
            if self.is_silent(process):
                await self._beat(names.alive_object(process), heartbeat)

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:
        """
        See `Liveness.join`. Returns when the first heartbeat is written.

        Raises:
            InvalidIdError: The id cannot become part of an object name.
        """
        name = names.alive_object(process)
        if process in self._joined:
            return
        heartbeat = _Heartbeat(is_working)
        for pause_s in JOIN_PAUSES_S:
            try:
                await self._beat(name, heartbeat)
                break
            except (StoreThrottled, StoreUnavailable):
                await asyncio.sleep(pause_s)
        else:
            await self._beat(name, heartbeat)
        heartbeat.task = asyncio.create_task(self._keep_beating(name, heartbeat), name=f"heartbeat of {process}")
        heartbeat.clearing = asyncio.create_task(self._clear(name), name=f"clearing by {process}")
        self._joined[process] = heartbeat

    async def leave(self, process: str) -> None:
        """See `Liveness.leave`. A process that did not join here is left alone."""
        heartbeat = self._joined.pop(process, None)
        if heartbeat is None:
            return
        assert heartbeat.task is not None
        assert heartbeat.clearing is not None
        heartbeat.task.cancel()
        heartbeat.clearing.cancel()
        await asyncio.wait([heartbeat.task, heartbeat.clearing])
        self._observed.pop(process, None)
        name = names.alive_object(process)
        try:
            await self._store.delete(name, if_generation_match=heartbeat.generation)
        except GenerationConflict:  # the last write was applied after all, although its answer was lost
            stored = await self._store.read(name)
            if stored is not None:
                await self._store.delete(name, if_generation_match=stored.generation)

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """See `Liveness.dead_among`."""
        others = sorted(processes - self._joined.keys())
        asked_after = self._looks
        async with self._looking:
            now = asyncio.get_running_loop().time()
            due = [process for process in others if self._is_due(process, now, asked_after)]
            if due:
                self._observed = {
                    process: observed
                    for process, observed in self._observed.items()
                    if now - observed.looked_at < self._dead_after_s
                }
                await asyncio.gather(*(self._look(process) for process in due))
            return frozenset(process for process in others if self._observed[process].generation == 0)

    async def aclose(self) -> None:
        """Leave on behalf of every process that joined here."""
        for process in list(self._joined):
            await self.leave(process)

    async def _keep_beating(self, name: str, heartbeat: _Heartbeat) -> None:
        pause_s = self._interval_s
        while True:
            self._expect(heartbeat, pause_s)
            await asyncio.sleep(pause_s)
            self._expect(heartbeat, self._interval_s)
            if heartbeat.is_working is not None and not heartbeat.is_working():
                pause_s = self._interval_s
                continue
            age_s = asyncio.get_running_loop().time() - heartbeat.begun_at
            if age_s < self._interval_s / 2:  # `announce` wrote a heartbeat meanwhile, so this one would be too early
                pause_s = self._interval_s - age_s
                continue
            pause_s = self._interval_s / 4
            try:
                async with heartbeat.writing, asyncio.timeout(self._interval_s):
                    await self._beat(name, heartbeat)
                pause_s = self._interval_s
            except (StoreError, TimeoutError) as error:
                logger.warning("no heartbeat, trying again", extra={"object": name, "error": str(error)})
            except Exception:
                # After any error, silence would count as death.
                logger.exception("no heartbeat, trying again", extra={"object": name})

    def _expect(self, heartbeat: _Heartbeat, within_s: float) -> None:
        """Note the due time of the next step of a heartbeat, and whether this step came in time."""
        self._notice_standstill()
        heartbeat.due_at = asyncio.get_running_loop().time() + within_s

    def _notice_standstill(self) -> None:
        """
        Note a standstill of this process if a heartbeat is overdue: the process has observed no other one meanwhile.

        A standstill shorter than `interval_s` and `LATE_S` together may go unnoticed. With an interval of 20 s, the
        observer then still ran for 35 s of the 60 s of silence.
        """
        now = asyncio.get_running_loop().time()
        if any(now - heartbeat.due_at > LATE_S for heartbeat in self._joined.values()):
            self._went_on_at = now

    async def _beat(self, name: str, heartbeat: _Heartbeat) -> None:
        begun_at = asyncio.get_running_loop().time()
        heartbeat.count += 1
        data = msgspec.json.encode({"schema_version": 1, "heartbeats": heartbeat.count})
        try:
            written = await self._store.write(name, data, if_generation_match=heartbeat.generation)
        except GenerationConflict:
            # An earlier write was applied and its answer lost, or an observer called this process dead.
            stored = await self._store.read(name)
            written = await self._store.write(name, data, if_generation_match=stored.generation if stored else 0)
        heartbeat.generation = written
        now = asyncio.get_running_loop().time()
        if now - heartbeat.begun_at > self._silent_after_s:
            heartbeat.heard_since = now  # a slow write may have ended long after it began
        heartbeat.begun_at = begun_at

    def _is_due(self, process: str, now: float, asked_after: int) -> bool:
        """Whether a question that was asked after *asked_after* looks needs a new look at *process*."""
        observed = self._observed.get(process)
        if observed is None or (observed.generation == 0 and observed.look <= asked_after):
            return True
        return now - observed.looked_at >= self._interval_s / 4

    async def _look(self, process: str) -> None:
        """Read the object of *process*. Its age counts from the end of one read to the start of the next."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        self._notice_standstill()
        self._looks += 1
        look = self._looks
        try:
            name = names.alive_object(process)
        except InvalidIdError:  # no process can have joined under this id
            self._observed[process] = _Observed(0, begun_at, begun_at, look)
            return
        stored = await self._store.read(name)
        generation = stored.generation if stored else 0
        known = self._observed.get(process)
        since = known.since if known is not None and known.generation == generation else loop.time()
        since = max(since, self._went_on_at)
        if generation and begun_at - since >= self._dead_after_s:
            if await self._remove(name, generation):
                logger.warning("process is dead", extra={"object": name, "silent_s": self._dead_after_s})
                generation = 0
            else:
                since = loop.time()
        self._observed[process] = _Observed(generation, since, loop.time(), look)

    async def _remove(self, name: str, generation: int) -> bool:
        """Remove the heartbeat of a dead process; `False` if the process has just come back."""
        try:
            await self._store.delete(name, if_generation_match=generation)
        except GenerationConflict:
            return False
        except StoreError as error:  # the process is dead anyway, and the next observer removes the object
            logger.warning("heartbeat of a dead process not removed", extra={"object": name, "error": str(error)})
        return True

    async def _clear(self, own_name: str) -> None:
        """
        Remove objects of other processes that do not change: their owners are dead, or owe no action.

        A living owner writes its object again before it commits to work: by its own clock it is silent.
        """
        try:
            others = [info for info in await self._store.list(names.ALIVE) if info.name != own_name]
            if not others:
                return
            while True:
                looked_at = asyncio.get_running_loop().time()
                await asyncio.sleep(self._dead_after_s)
                self._notice_standstill()
                if self._went_on_at <= looked_at:
                    break
            known = {info.name: info.generation for info in others}
            for info in await self._store.list(names.ALIVE):
                if known.get(info.name) == info.generation and await self._remove(info.name, info.generation):
                    logger.info("unchanged heartbeat removed", extra={"object": info.name})
        except StoreError as error:
            logger.warning(
                "old heartbeats not looked for", extra={"error": str(error)}
            )  # the next process to join looks
        except Exception:
            logger.exception("old heartbeats not looked for")
