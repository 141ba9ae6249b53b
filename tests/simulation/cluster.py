"""
The processes: several engines in one Python process, each of which may lose power or be paused between any two steps.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from aiorch.errors import AiorchError, StoreError
from aiorch.model.dag import Task
from aiorch.model.enums import TargetTypes
from aiorch.orchestrator import Orchestrator
from aiorch.settings import LaunchSettings, Settings
from tests.simulation.dataflow import dataflow_target
from tests.simulation.loop import PROCESS, Handle
from tests.simulation.pubsub import SimulatedSource
from tests.simulation.storage import BucketClient
from tests.simulation.targets import CloudFunctions, python_function, supplementary_function

if TYPE_CHECKING:
    from tests.simulation.world import World

FUSES = (0, 5, 20, 50, 80, 120, 200, 300, 450, 700, 1000, 1500)
"""Steps until a process loses power or is paused; 0: it does not."""

PAUSES_S = (3.0, 20.0, 45.0, 70.0, 77.0, 85.0, 92.0, 100.0, 110.0, 200.0)
"""Some shorter than it takes to be called dead, some longer."""

FREEZES_S = (50.0, 8.0, 35.0, 57.0, 75.0, 400.0)
"""Pauses of all processes at once: longer than timeouts, and some too short for a death."""

DEAD_AFTER_S = 60.0
"""After how long a process that is not heard is called dead."""

SKEWS_S = (0.0, -30.0, -3.0, 3.0, 30.0)

LACKS: tuple[frozenset[TargetTypes], ...] = (
    frozenset(),
    *(frozenset({kind}) for kind in (TargetTypes.FUNCTION, TargetTypes.CLOUD_FUNCTION, TargetTypes.DATAFLOW)),
    frozenset(TargetTypes),
)
"""What a process does not know how to launch."""

CALL_S = 60.0
"""How long a client waits for a process."""


class GoneError(Exception):
    """The process that a client has asked does not answer any more."""


class SkewedClock:
    """Time of day as one process has it."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._name = name
        self.skew_s = 0.0

    def now(self) -> datetime:
        """See `Clock.now`."""
        world = self._world
        if world.swarm.jumpy and world.is_faulty and world.tape.chance(f"{self._name} looks at its clock", 0.3):
            self.jump()
        return self._world.time_of_day() + timedelta(seconds=self.skew_s)

    def jump(self) -> None:
        """Be set anew."""
        self._world.count("jump of a clock")
        self.skew_s = self._world.tape.pick(f"skew of {self._name}", SKEWS_S)


class DrawnEntropy:
    """Chance as one process has it: tokens that are never the same, jitter from the tape."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._name = name
        self._label = f"jitter of {name}"
        self._tokens = 0

    def token(self) -> str:
        """See `Entropy.token`."""
        self._tokens += 1
        return sha256(f"{self._name} {self._tokens}".encode()).hexdigest()[:32]

    def jitter(self) -> float:
        """See `Entropy.jitter`."""
        return self._world.tape.draw(self._label, 8) / 8


class SimulatedProcess:
    """
    One process from its start to its end.

    Attributes:
        parked: See `loop.Process`.

        lacks: Target types that it does not know how to launch.

        is_command: It carries out only the runs that a client asks it about.

        asked_about: Those runs.

        was_paused: It may have been called dead, and live.

        went_on_at: When it last went on after a pause.

        woke_at: When it last went on after a pause that is long enough to be called dead.

        pauses: When it was paused, and when it went on.
    """

    def __init__(self, world: "World", slot: int, number: int) -> None:
        self._world = world
        self.slot = slot
        self.name = f"p{slot}.{number}"
        self.parked: list[Handle] | None = None
        self.fuse = -1
        self.pauses_next = False
        self.is_running = False
        self.lacks: frozenset[TargetTypes] = frozenset()
        self.is_command = False
        self.asked_about: set[str] = set()
        self.was_paused = False
        self.paused_at = self.went_on_at = self.woke_at = 0.0
        self.pauses: list[tuple[float, float]] = []
        self.has_power = True
        self.clock = SkewedClock(world, self.name)
        self.orchestrator: Orchestrator | None = None
        self.client = BucketClient(world, self)
        self.source = SimulatedSource(world.subscription, self) if world.swarm.has_source else None
        self.callers: list[asyncio.Future[Any]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.context = contextvars.Context()
        self.context.run(PROCESS.set, self)
        self._stopped: asyncio.Future[None] = world.loop.create_future()

    @property
    def id(self) -> str:
        """As the engine calls it; empty before it has begun."""
        return self.orchestrator._executor.process.id if self.orchestrator is not None else ""

    def pauses_since(self, since: float) -> list[tuple[float, float]]:
        """Return its pauses since a point in time, as far as they are later than that."""
        return [(max(paused_at, since), went_on_at) for paused_at, went_on_at in self.pauses if went_on_at > since]

    def lived_s(self, since: float) -> float:
        """Return how many seconds it ran since a point in time."""
        paused_s = sum(went_on_at - paused_at for paused_at, went_on_at in self.pauses_since(since))
        return self._world.loop.time() - since - paused_s

    def why_not(self, task: Task) -> str | None:
        """See `Target.resolve`."""
        return f"{self.name} is too old for it" if task.target_type in self.lacks else None

    def burn(self) -> None:
        """See `loop.Process`."""
        self._world.cluster.burnt(self)

    def begin(self) -> None:
        """Power on."""
        self._world.loop.create_task(self._live(), context=self.context)

    def stop(self) -> None:
        """SIGTERM."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def _live(self) -> None:
        try:
            self.orchestrator = self._orchestrator()
            async with self.orchestrator:
                self.is_running = True
                await self._stopped
                self.is_running = False
        except StoreError as error:
            self._world.note(self.name, f"could not begin or end: {error}")
        self._world.loop.later(0, self._world.cluster.ended, self)

    def _orchestrator(self) -> Orchestrator:
        world, swarm = self._world, self._world.swarm
        at_once_max = (1 if swarm.zombies else 2) if swarm.narrow else 1000
        limits = {TargetTypes.DATAFLOW: 1 if swarm.narrow else 25}
        settings = Settings(
            sweep_interval_s=swarm.sweep_interval_s if swarm.sweeps else 1e9,
            drain_s=world.tape.pick(f"drain of {self.name}", (20.0,) if swarm.is_draining_all else (0.0, 3.0)),
            launches=LaunchSettings(at_once_max=at_once_max, limits=limits),
        )
        functions = {
            "simulation:work": python_function(world, self),
            "simulation:supplement": supplementary_function(world, self),
        }
        return Orchestrator(
            self.client,
            dags=[run.dag for run in world.clients.runs],
            functions={} if TargetTypes.FUNCTION in self.lacks else functions,
            targets={
                TargetTypes.CLOUD_FUNCTION: CloudFunctions(world, self),
                TargetTypes.DATAFLOW: dataflow_target(world, self),
            },
            source=self.source,
            only_own_runs=self.is_command,
            settings=settings,
            clock=self.clock,
            entropy=DrawnEntropy(world, self.name),
        )


class Cluster:
    """
    All processes.

    Attributes:
        processes: That have power, by slot.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._count = 0
        self._buried: list[SimulatedProcess] = []  # what is collected would run its `finally`
        self._given_up: set[int] = set()
        self.processes: dict[int, SimulatedProcess] = {}

    def boot(self, slot: int) -> None:
        """Start a process, unless there is one in this place."""
        world = self._world
        if slot in self.processes or world.is_over or (slot in self._given_up and self.processes):
            return
        self._count += 1
        process = self.processes[slot] = SimulatedProcess(world, slot, self._count)
        world.note(process.name, "boots")
        if world.is_faulty:
            if world.swarm.unequal:
                process.lacks = world.tape.pick(f"{process.name} lacks", LACKS)
                world.count("process that cannot launch everything", bool(process.lacks))
            if world.swarm.commands and slot:
                process.is_command = bool(world.tape.draw(f"{process.name} is a command", 2))
                world.count("command", process.is_command)
            self._light(process, FUSES[3:8] if world.swarm.zombies else FUSES)
            if world.swarm.skewed:
                process.clock.skew_s = world.tape.pick(f"skew of {process.name}", SKEWS_S)
                if world.tape.draw(f"{process.name} jumps", 3) == 1:
                    world.loop.later(20.0, process.clock.jump)
            if world.swarm.is_draining_all:
                world.loop.later(3.0 + world.tape.draw(f"{process.name} drains at", 12), self._drain, process)
            elif world.swarm.drains and world.tape.draw(f"{process.name} drains", 2):
                world.loop.later(world.tape.draw(f"{process.name} drains at", 30), self._drain, process)
        process.begin()

    def _light(self, process: SimulatedProcess, fuses: tuple[int, ...] = FUSES) -> None:
        """Draw after how many steps something happens to a process."""
        world = self._world
        kinds = [False] * world.swarm.power_cuts + [True] * world.swarm.pauses
        if not kinds:
            return
        fuse = world.tape.pick(f"fuse of {process.name}", fuses)
        if fuse:
            process.pauses_next = kinds[world.tape.draw(f"{process.name} pauses", len(kinds))]
            process.fuse = fuse + world.tape.draw(f"more fuse of {process.name}", max(2, fuse // 2))

    def burnt(self, process: SimulatedProcess) -> None:
        """The fuse of a process has burnt down."""
        if not self._world.is_faulty:
            return
        if process.pauses_next:
            pauses = PAUSES_S[3:] if self._world.swarm.zombies else PAUSES_S
            self.pause(process, self._world.tape.pick(f"pause of {process.name}", pauses))
        else:
            self.cut(process)

    def cut(self, process: SimulatedProcess) -> None:
        """Power off: nothing of it runs any more, not even a `finally`."""
        if not process.has_power:
            return
        world = self._world
        world.count("power cut")
        world.note(process.name, "loses power")
        process.has_power = process.is_running = False
        if process.parked is None:
            process.parked = []
        world.oracle.calls = {call for call in world.oracle.calls if call[0] is not process}
        if len(self.processes) > 1 and self._is_given_up(process):
            world.count("process that is not replaced")
            self._given_up.add(process.slot)
        self._vacate(process, world.tape.pick(f"{process.name} comes back after", (2.0, 0.5, 15.0, 90.0)))

    def _is_given_up(self, process: SimulatedProcess) -> bool:
        return self._world.swarm.leaves or self._world.tape.draw(f"{process.name} is not replaced", 3) == 1

    def pause(self, process: SimulatedProcess, seconds: float) -> None:
        """Let a process stand still."""
        if process.parked is not None:
            return
        world = self._world
        world.count("pause")
        world.note(process.name, f"is paused for {seconds:g} s")
        process.parked = []
        process.was_paused = True
        process.paused_at = world.loop.time()
        world.loop.later(seconds, self.go_on, process)

    def go_on(self, process: SimulatedProcess) -> None:
        """Let a process that was paused go on."""
        if not process.has_power or process.parked is None:
            return
        self._world.note(process.name, "goes on")
        process.went_on_at = self._world.loop.time()
        process.pauses.append((process.paused_at, process.went_on_at))
        if process.went_on_at - process.paused_at >= DEAD_AFTER_S:
            process.woke_at = process.went_on_at
        parked, process.parked = process.parked, None
        self._world.loop.give_back(parked)
        if self._world.is_faulty:
            self._light(process, FUSES[2:8] if self._world.swarm.zombies else FUSES)
            drains = self._world.swarm.zombies and self._world.swarm.drains
            if drains and self._world.tape.draw(f"{process.name} ends when it wakes up", 2):
                self._drain(process)

    def freeze(self) -> None:
        """Let all processes stand still together, as on one machine that is paused."""
        if self._world.is_faulty:
            self._world.count("freeze of all processes")
            seconds = self._world.tape.pick("all freeze for", FREEZES_S)
            for process in list(self.processes.values()):
                self.pause(process, seconds + self._world.tape.draw(f"{process.name} freezes longer", 4) * 0.5)

    def may_die(self, process: SimulatedProcess) -> None:
        """Let a process lose power, perhaps, that has committed to something and has not told anybody."""
        world = self._world
        if world.swarm.leaves and world.is_faulty and world.tape.chance(f"{process.name} dies before it tells", 0.1):
            world.loop.later(0.0, self.cut, process)

    def may_pause(self, process: SimulatedProcess, when: str, probability: float, within_s: float) -> None:
        """Let a process stand still, perhaps, just when it does what a pause would seldom meet by chance."""
        world = self._world
        if (
            world.swarm.aimed
            and world.is_faulty
            and world.tape.chance(f"{process.name} pauses when it {when}", probability)
        ):
            after_s = within_s * world.tape.draw(f"{process.name} pauses after", 4) / 4
            world.loop.later(after_s, self.pause, process, world.tape.pick(f"pause of {process.name}", PAUSES_S[3:]))

    def were_called_dead(self, processes: frozenset[str], by: SimulatedProcess) -> None:
        """Let paused processes come back, perhaps, before the process that calls them dead takes over their work."""
        world = self._world
        back = [
            process for process in self.processes.values() if process.id in processes and process.parked is not None
        ]
        if not (back and world.swarm.zombies and world.is_faulty):
            return
        if world.tape.chance(f"the dead come back before {by.name} takes over", 0.2):
            world.loop.later(0.0, self.pause, by, world.tape.pick(f"pause of {by.name}", (3.0, 20.0)))
            for process in back:
                world.loop.later(0.1, self.go_on, process)

    def may_pause_before(self, process: SimulatedProcess, timeout_s: float) -> None:
        """Let a process stand still, perhaps, from just before the timeout of an execution until after its answer."""
        world = self._world
        if world.swarm.pauses and world.is_faulty and world.tape.chance(f"{process.name} pauses before a timeout", 0.6):
            seconds = world.tape.pick(f"pause of {process.name} before a timeout", (20.0, 55.0, 100.0))
            world.loop.later(max(0.0, timeout_s - 0.4), self.pause, process, seconds)

    def taken_over(self, process_id: str, by: SimulatedProcess | None) -> None:
        """Work was taken over: its owner may wake up just now, should it stand still, or the new one be told to end."""
        world = self._world
        if not (world.swarm.zombies and world.is_faulty):
            return
        if by is not None and world.swarm.drains and world.tape.draw(f"{by.name} ends when it has taken over", 2):
            world.loop.later(0.1, self._drain, by)
        for process in self.processes.values():
            if process.id == process_id and process.parked is not None:
                if world.tape.draw(f"{process.name} wakes up when it was taken over", 2):
                    after_s = world.tape.pick(f"{process.name} wakes up after", (0.02, 0.1, 0.5, 2.0))
                    world.loop.later(after_s, self.go_on, process)
                return

    def _drain(self, process: SimulatedProcess) -> None:
        if process.has_power and self._world.is_faulty:
            self._world.count("drain")
            self._world.note(process.name, "is told to end")
            process.stop()

    def ended(self, process: SimulatedProcess) -> None:
        """A process has ended by itself."""
        self._world.note(process.name, "has ended")
        process.has_power = process.is_running = False
        self._vacate(process, 3.0)

    def _vacate(self, process: SimulatedProcess, after_s: float) -> None:
        for caller in process.callers:
            if not caller.done():
                caller.set_result(GoneError())
        self._buried.append(process)
        if self.processes.get(process.slot) is process:
            del self.processes[process.slot]
            self._world.loop.later(after_s, self.boot, process.slot)

    def heal(self) -> None:
        """Nothing happens to anybody any more, and somebody is able to launch everything."""
        knows_all = any(
            process.is_running and not process.lacks and not process.is_command for process in self.processes.values()
        )
        for process in list(self.processes.values()):
            process.fuse = -1
            process.clock.skew_s = 0.0
            self.go_on(process)
            if (process.lacks and not knows_all) or process.is_command:
                process.stop()
        for slot in range(self._world.swarm.processes):
            if slot not in self._given_up or not self.processes:
                self.boot(slot)

    async def call(self, what: str, make: Callable[[Orchestrator], Awaitable[Any]], *runs: str) -> Any:
        """
        Ask any process that runs about *runs*.

        Returns:
            What it says, or the `AiorchError` or `GoneError` that came of it.
        """
        world = self._world
        running = [process for process in self.processes.values() if process.is_running]
        if not running:
            return GoneError()
        process = running[world.tape.draw(f"who is asked to {what}", len(running))]
        told: asyncio.Future[Any] = world.loop.create_future()
        process.callers.append(told)
        process.asked_about.update(runs)
        world.note("client", f"asks {process.name} to {what}")

        async def ask() -> None:
            outcome: Any
            assert process.orchestrator is not None
            try:
                outcome = await make(process.orchestrator)
            except AiorchError as error:
                outcome = error
            if not told.done():
                told.set_result(outcome)

        context = process.context.copy()
        process.tasks.append(world.loop.create_task(ask(), context=context))
        world.loop.later(CALL_S, _give_up, told)
        outcome = await told
        world.note("client", f"was told about {what}: {outcome!r}"[:200])
        return outcome


def _give_up(told: "asyncio.Future[Any]") -> None:
    if not told.done():
        told.set_result(GoneError())
