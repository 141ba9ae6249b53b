"""
Who is alive, told by objects that the living rewrite.

Every process that has joined rewrites ``alive/<process>`` every 20 s while it works, until it leaves and removes it.
One that owes nothing to any run is not heard: nobody asks whether it lives. Before it commits to work again it
announces itself. An observer calls a process dead when it has seen the same generation for 60 s of its own clock, or
when there is no such object. Clocks of different machines are never compared, and an observer that looks for the first
time waits those 60 s. So does one that could not look for 60 s: the store may have been away, for everybody.

Whoever calls a process dead removes its object, on condition of the generation that it saw, and the next observer need
not wait. Nobody asks about a process that died owing nothing, so whoever joins looks for objects that stay the same,
and removes them: nothing is left behind by processes that were killed. A process that was idle or only paused finds its
object gone when it goes on, and writes it anew. It may have been called dead meanwhile: it can tell by the age of its
own heartbeat (`is_silent`, `heard_since`), and reads a run again before it sends anything for it.
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
"""Between tries of the first heartbeat, without which nothing may be launched: a blip must not fail a start."""


class _Heartbeat:
    """What is known of the object of a process that joined here."""

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
    """What was last seen of another process: its generation, since when, and when it was last looked at."""

    generation: int
    since: float
    looked_at: float
    look: int
    """Number of the look, counted over all processes from 1."""


class Heartbeats:
    """
    `Liveness` over any `ObjectStore`. Durations are those of the event loop's clock.

    A process that works all day writes 4,320 times. It lists when it joins, and once more when it is not the only one.

    An observer reads one object per process asked about, and says from memory for a quarter of the interval that one
    is alive: any number of runs with the same owners costs one look. Death is never told from memory, since a process
    that was not heard may have announced itself just now. An observer must be asked more often than every
    `dead_after_s`, or it calls nobody dead.

    Args:
        store: Where the objects are.

        interval_s: Pause between two heartbeats.

        dead_after_s: How long a generation must stay the same.
    """

    def __init__(self, store: ObjectStore, *, interval_s: float = 20.0, dead_after_s: float = 60.0) -> None:
        if not 0 < interval_s <= dead_after_s / 2:
            raise ValueError(
                f"a heartbeat every {interval_s} s and death after {dead_after_s} s of silence do not fit: one "
                f"heartbeat that is lost must not be taken for death. Let the interval be half of it at most."
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
        Return how long ago the last heartbeat of *process* that was written here began; infinite for none.

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
        except GenerationConflict:  # the last write was applied after all, and nobody heard of it
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
            if age_s < self._interval_s / 2:  # it has announced itself meanwhile: once more would be too soon
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
                # Whatever it is, silence would be taken for death.
                logger.exception("no heartbeat, trying again", extra={"object": name})

    def _expect(self, heartbeat: _Heartbeat, within_s: float) -> None:
        """Note when the next step of a heartbeat is due, and whether this one came in time."""
        self._notice_standstill()
        heartbeat.due_at = asyncio.get_running_loop().time() + within_s

    def _notice_standstill(self) -> None:
        """
        Take note that this process stood still if a heartbeat is overdue: the process has heard no other one meanwhile.

        A standstill may go unnoticed while it is shorter than `interval_s` and `LATE_S` together. With an interval of
        20 s that leaves 35 s of the 60 s in which the observer did live, and heard nothing.
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
            # An earlier write was applied and its answer lost, or somebody called this process dead.
            stored = await self._store.read(name)
            written = await self._store.write(name, data, if_generation_match=stored.generation if stored else 0)
        heartbeat.generation = written
        if begun_at - heartbeat.begun_at > self._silent_after_s:
            heartbeat.heard_since = begun_at
        heartbeat.begun_at = begun_at

    def _is_due(self, process: str, now: float, asked_after: int) -> bool:
        """Whether to look at *process* for a question that was asked when so many looks had begun."""
        observed = self._observed.get(process)
        if observed is None or (observed.generation == 0 and observed.look <= asked_after):
            return True
        return now - observed.looked_at >= self._interval_s / 4

    async def _look(self, process: str) -> None:
        """Read the object of *process*. Its age counts from the end of one read to the beginning of another."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        self._notice_standstill()
        self._looks += 1
        look = self._looks
        try:
            name = names.alive_object(process)
        except InvalidIdError:  # nobody can have joined under it
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
        """Remove what a dead process left behind; `False` when it has come back in this very moment."""
        try:
            await self._store.delete(name, if_generation_match=generation)
        except GenerationConflict:
            return False
        except StoreError as error:  # it is dead all the same, and whoever looks next removes it
            logger.warning("heartbeat of the dead not removed", extra={"object": name, "error": str(error)})
        return True

    async def _clear(self, own_name: str) -> None:
        """
        Remove the objects of others that stay the same: whose they are died, or owes nothing.

        One that lives and owes nothing writes anew before it commits to anything: by its own clock it is silent.
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
                    logger.info("heartbeat of nobody removed", extra={"object": info.name})
        except StoreError as error:
            logger.warning("no look for heartbeats of the dead", extra={"error": str(error)})  # the next to join looks
        except Exception:
            logger.exception("no look for heartbeats of the dead")
