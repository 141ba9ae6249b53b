"""One world: everything that one seed decides, from its beginning to its end."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiorch.errors import AiorchError
from tests.simulation import folds
from tests.simulation.cluster import Cluster, SimulatedProcess
from tests.simulation.dataflow import DataflowService
from tests.simulation.loop import DeadlockError, LivelockError, SimulationLoop
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.pubsub import Subscription
from tests.simulation.storage import Bucket, Fault
from tests.simulation.swarm import Swarm, draw_swarm
from tests.simulation.tape import Notes, Tape
from tests.simulation.targets import Platform, Scripts
from tests.simulation.workload import Clients, PlannedRun

START = datetime(2026, 1, 1, tzinfo=UTC)

END_S = 3000.0
"""
L1: time in which everything must have ended once the faults are over: messages that are 15 minutes late, a process that
is called dead, a chain of retries. Less than the hour after which every run is looked at, which is for the unforeseen.
"""

DIRECTED_PAUSE_S = 150.0
"""Long enough to be called dead, and for the work to be taken over."""

_STORE_FAULTS = ("refused", "reply_lost", "late", "repeated", "throttled")


@dataclass
class Outcome:
    """What came of one schedule."""

    violation: Violation | None
    at_s: float
    notes: Notes
    digest: str
    steps: int
    counts: Counter[str]
    trace: list[str] | None
    calls: int


@dataclass(frozen=True)
class Directed:
    """Exactly one thing goes wrong: what, and at which call of a process, from 1."""

    call: int
    fault: Fault


class World:
    """
    One schedule.

    Args:
        tape: Where every choice comes from.

        swarm: What can go wrong; `None` to draw it.

        directed: The one thing that goes wrong besides.

        runs: What is run; `None` to draw it.

        traces: Keep a readable trace.
    """

    def __init__(
        self,
        tape: Tape,
        *,
        swarm: Swarm | None = None,
        directed: Directed | None = None,
        runs: Sequence[PlannedRun] | None = None,
        traces: bool = False,
    ) -> None:
        self.tape = tape
        self.swarm = swarm if swarm is not None else draw_swarm(tape)
        self.loop = SimulationLoop(tape if self.swarm.is_order_drawn else None)
        self.is_faulty = True
        self.is_over = False
        self.counts: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.trace: list[str] | None = [] if traces else None
        self.topic_back_at = 0.0
        self._store_back_at = 0.0
        self._store_faults = [(getattr(self.swarm, name), Fault[name.upper()]) for name in _STORE_FAULTS]
        self._store_faults = [(rate, fault) for rate, fault in self._store_faults if rate]
        self._fault_rate = sum(rate for rate, _ in self._store_faults)
        self._directed = directed
        self.is_directed = directed is not None
        self.calls = 0
        self._over: asyncio.Future[None] = self.loop.create_future()
        self.bucket = Bucket(self)
        self.subscription = Subscription(self)
        self.scripts = Scripts(self)
        self.platform = Platform(self)
        self.dataflow = DataflowService(self)
        self.oracle = Oracle(self)
        self.bucket.watchers.append(self.oracle)
        self.clients = Clients(self, runs)
        self.cluster = Cluster(self)

    # -- for all rooms -------------------------------------------------------------------------------------------

    def time_of_day(self) -> datetime:
        """The true one."""
        return START + timedelta(seconds=self.loop.time())

    def count(self, what: str, times: int = 1) -> None:
        """C1: it did happen."""
        self.counts[what] += times

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.loop.time():10.3f}  {who:<8} {what}")

    def stop(self) -> None:
        """It is over."""
        if not self._over.done():
            self._over.set_result(None)

    def cut(self, process: SimulatedProcess | None) -> None:
        """Let a process lose power."""
        if process is not None:
            self.cluster.cut(process)

    def enter(self, process: SimulatedProcess | None, kind: str, name: str) -> Fault:
        """A process calls the world. Return what is directed to become of it."""
        self.calls += 1
        if self._directed is not None and self._directed.call == self.calls:
            self.note(process.name if process else "world", f"{kind} {name}: {self._directed.fault.name}")
            return self._directed.fault
        return Fault.NONE

    async def before_call(self, process: SimulatedProcess | None, fault: Fault) -> Fault:
        """Let a process lose power or stand still just before or after its request goes out. Return what is left."""
        if process is None or fault not in (Fault.CUT_BEFORE, Fault.PAUSE_BEFORE, Fault.PAUSE_AFTER):
            return fault
        if fault is Fault.CUT_BEFORE:
            self.cut(process)
            await self.loop.create_future()
        self.cluster.pause(process, DIRECTED_PAUSE_S)
        if fault is Fault.PAUSE_BEFORE:
            await asyncio.sleep(0)  # it goes on from here
        return Fault.NONE

    def store_fault(self, process: SimulatedProcess | None, kind: str, name: str) -> Fault:
        """Return what becomes of a call to the store."""
        if kind == "write":
            self.writes[name.partition("/")[0]] += 1
        directed = self.enter(process, kind, name)
        if directed or not self.is_faulty:
            return directed
        if self.loop.time() < self._store_back_at:
            self.count("call during an outage")
            return Fault.REFUSED
        if kind == "read" and self.tape.chance("damaged read", self.swarm.damaged):
            self.count("damaged read")
            return Fault.DAMAGED
        if not self._fault_rate:
            return Fault.NONE
        label = f"fault of {kind}" if process is None else f"fault of {kind} by {process.name}"
        if not self.tape.chance(label, self._fault_rate):
            return Fault.NONE
        _, fault = self._store_faults[self.tape.draw(f"{label}: which", len(self._store_faults))]
        if kind in ("read", "list"):
            fault = Fault.REFUSED
        self.count(f"store {fault.name.lower()}")
        return fault

    # -- the schedule --------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Run it to its end, whatever that is."""
        errors = _EngineErrors(self)
        with folds.checked(self.oracle.fail, all_of_them=self.swarm.deep_checks), errors:
            try:
                self.loop.run(self._main())
            except (DeadlockError, LivelockError) as error:
                self.oracle.fail("L3", str(error))
        for error in self.loop.errors:
            if "handle" in error or "task" not in error:
                self.oracle.fail("S0", f"{error.get('message')}: {error.get('exception')!r}")
        digest = f"{self.bucket.digest:08x}-{self.tape.draws}-{self.loop.steps}-{self.loop.time():.6f}"
        return Outcome(
            self.oracle.violation,
            self.loop.time(),
            self.tape.notes,
            digest,
            self.loop.steps,
            self.counts,
            self.trace,
            self.calls,
        )

    async def _main(self) -> None:
        lasting = asyncio.ensure_future(self._last())
        await asyncio.wait([lasting, self._over], return_when=asyncio.FIRST_COMPLETED)
        self.is_over = True
        if lasting.done():
            lasting.result()

    async def _last(self) -> None:
        tape, swarm = self.tape, self.swarm
        for slot in range(swarm.processes):
            self.loop.later(tape.draw(f"boot of {slot}", 4), self.cluster.boot, slot)
        clients = asyncio.ensure_future(self.clients.act())
        faulty_s = swarm.lasts_s or tape.pick("faults last", (30.0, 60.0, 120.0, 240.0))
        if swarm.outages:
            self.loop.later(tape.draw("store goes at", 30), self._store_goes)
        if swarm.topic_outage:
            self.loop.later(tape.draw("topic goes at", 30), self._topic_goes)
        if swarm.freezes:
            self.loop.later(3 + tape.draw("all freeze at", 60), self.cluster.freeze)
        if swarm.newer:
            self.loop.later(2 + tape.draw("newer at", 30), self._newer_version)
        if swarm.unreadable:
            self.loop.later(2 + tape.draw("unreadable at", 30), self._unreadable_version)
        ends_at = self.loop.time() + faulty_s
        while self.loop.time() < ends_at:
            await asyncio.sleep(5)
            if clients.done() and self._is_quiet():
                break
        self.note("world", "heals")
        self.is_faulty = False
        self._store_back_at = self.topic_back_at = 0.0
        self.cluster.heal()
        await self._all_ended(clients)
        self.oracle.check_end()

    async def _all_ended(self, clients: "asyncio.Future[None]") -> None:
        give_up_at = self.loop.time() + END_S
        while not (clients.done() and self._is_quiet()):
            if self.loop.time() > give_up_at:
                what = ", ".join(f"{run_id} {self.oracle.status(run_id)}" for run_id in self.oracle.open_runs)
                left = ", ".join(self.subscription.outstanding)
                law = "L1" if self.swarm.sweeps else "L2"
                self.oracle.fail(law, f"{END_S:g} s after the last fault: open {what or 'none'}; unsettled {left}")
                return
            await asyncio.sleep(5)

    def _is_quiet(self) -> bool:
        return not self.subscription.outstanding and not self.oracle.open_runs

    def _store_goes(self) -> None:
        if self.is_faulty:
            self.count("outage of the store")
            self._store_back_at = self.loop.time() + self.tape.pick("store back after", (5.0, 20.0, 90.0))
            self.note("world", f"the store is away until {self._store_back_at:g}")

    def _topic_goes(self) -> None:
        if self.is_faulty:
            self.count("outage of the topic")
            self.topic_back_at = self.loop.time() + self.tape.pick("topic back after", (5.0, 20.0, 90.0))

    def _unreadable_version(self) -> None:
        """A process of a newer version commits what nobody here can read."""
        folds.write_as_newer(self)

    def _newer_version(self) -> None:
        """A process of a newer version commits, and adds fields that nobody here knows."""
        folds.add_future_fields(self)


class _EngineErrors(logging.Handler):
    """What the engine logs with a traceback is a bug of it: S0."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world
        self._logger = logging.getLogger("aiorch")

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, AiorchError) and not self._world.is_over:
            self._world.oracle.fail("S0", f"{record.getMessage()}: {error!r}")

    def __enter__(self) -> Self:
        self._before: tuple[Any, ...] = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.ERROR)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.level, self._logger.propagate = self._before
        self._logger.setLevel(self._before[0])


def simulate(
    seed: int | None = None,
    *,
    notes: Notes | None = None,
    swarm: Swarm | None = None,
    directed: Directed | None = None,
    runs: Sequence[PlannedRun] | None = None,
    traces: bool = False,
) -> Outcome:
    """Run one schedule: of a seed, or as the notes of an earlier one say."""
    return World(Tape(seed, replayed=notes), swarm=swarm, directed=directed, runs=runs, traces=traces).run()
