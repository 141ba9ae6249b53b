"""
Random runs on a random world: whatever happens, every run ends, and its document is right.

Three processes come and go on one store. Each is called dead now and then although it lives, and wakes up later;
each operation of the store may fail in every way; runs are started twice, cancelled and watched; functions succeed,
fail, hang and return large results. Everything follows from a seed: a failure repeats itself.

More seeds: ``AIORCH_SEEDS=5000 python -m pytest tests/integration/test_simulation.py``.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aiorch import AiorchError, Orchestrator, Settings, StoreError, TaskContext
from aiorch.settings import LaunchSettings
from aiorch.stores.memory import MemoryStore
from aiorch.testing import Call, Fault, FaultyStore, ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain

SEEDS = int(os.environ.get("AIORCH_SEEDS", "60"))
RUNS = ("r0", "r1", "r2", "r3")
ENDED = ("Completed", "Failed", "Cancelled", "Skipped")
RANKS = ("New", "Starting", "Running", "Retrying", *ENDED)
FAULT_RATE = 0.02
END_S = 4000.0
"""Time in which everything must have ended once the faults are over: retries, timeouts and back-offs included."""


def definition(chance: random.Random) -> dict[str, Any]:
    """A DAG of about a dozen nodes, nested, with all policies."""
    names = iter(f"n{number}" for number in range(1000))
    budget = [12]

    def sequence(depth: int) -> dict[str, Any]:
        chosen = [next(names) for _ in range(chance.randint(1, 3))]
        budget[0] -= len(chosen)
        return chain(**{name: node(depth) for name in chosen})

    def node(depth: int) -> dict[str, Any]:
        if depth < 3 and budget[0] > 0 and chance.random() < 0.4:
            branches = [sequence(depth + 1) for _ in range(chance.randint(1, 3))]
            return {"type": "Parallel", "branches": branches, "on_failure": chance.choice(["wait", "fail_fast"])}
        step: dict[str, Any] = {"type": "Task", "target_type": "Function", "target_name": "t:work"}
        step["timeout"] = chance.choice([3, 30])
        if chance.random() < 0.5:
            step["retry"] = {"max_attempts": chance.randint(2, 4), "initial_delay": chance.choice([0, 1, 20])}
        if chance.random() < 0.2:
            step["on_lost"] = "fail"
        return step

    dag = sequence(0)
    return {**dag, "timeout": chance.choice([5, 50])} if chance.random() < 0.2 else dag


class Ledger(MemoryStore):
    """A store that takes down what must never happen."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.launches: dict[tuple[str, str, int], int] = {}
        self.calls: Counter[tuple[str, str, int]] = Counter()

    async def write(self, name: str, data: bytes, **keys: Any) -> int:
        before = self._objects.get(name)
        generation = await super().write(name, data, **keys)
        if name.startswith("runs/"):
            self._compare(msgspec.json.decode(before[0]) if before else {}, msgspec.json.decode(data))
        return generation

    def called(self, context: TaskContext) -> None:
        """A function was called: its intent must be committed, as often as it is called, and its record stored."""
        key = context.run_id, context.node, context.attempt
        self.calls[key] += 1
        if self.calls[key] > self.launches.get(key, 0):
            self.wrong.append(f"{key} was called more often than commits say")
        if f"executions/{context.execution_id}.json" not in self._objects:
            self.wrong.append(f"{key} was called without its record")

    def _compare(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        run_id = new["$run"]["run_id"]
        for node, entry in new.items():
            before = old.get(node, entry)
            if before["status"] in ENDED and before != entry:
                self.wrong.append(f"{run_id}/{node} had ended and was changed")
            if node == "$run":
                continue
            attempt = entry.get("attempt", 0)
            if (before.get("attempt", 0), RANKS.index(before["status"])) > (attempt, RANKS.index(entry["status"])):
                self.wrong.append(f"{run_id}/{node} moved back")
            key = run_id, node, attempt
            self.launches[key] = max(self.launches.get(key, 0), entry.get("launches", 0))

    def check_end(self) -> None:
        """Everything has ended, and what is Completed was done."""
        for name in self._objects:
            if not name.startswith("runs/"):
                continue
            for node, entry in msgspec.json.decode(self._objects[name][0]).items():
                assert entry["status"] in ENDED, f"{name}: {node} is {entry['status']}"
                if entry["status"] == "Completed" and entry.get("node_type") == "Task":
                    key = name[len("runs/") : -len(".json")], node, entry["attempt"]
                    assert self.calls[key] >= 1, f"{key} is Completed and was never called"
        assert not self.wrong


class Simulation:
    """One world, as its seed has it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.store = Ledger()
        self.is_quiet = False
        self.is_over = asyncio.Event()
        self.started: list[str] = []
        self._processes = 0

    async def run(self) -> None:
        """Let processes come and go for a while, then let what is left come to its end."""
        processes = [asyncio.create_task(self.live()) for _ in range(3)]
        await asyncio.sleep(self.chance.randint(20, 100))
        self.is_quiet = True
        try:
            async with asyncio.timeout(END_S):
                while await self.store.list("open/"):
                    await asyncio.sleep(1)
        finally:
            self.is_over.set()
            await asyncio.gather(*processes)
        self.store.check_end()

    async def live(self) -> None:
        """One process after the other."""
        while not self.is_over.is_set():
            try:
                async with self.process() as (client, orchestrator):
                    for _ in range(self.chance.randint(1, 6)):
                        await asyncio.sleep(self.chance.random() * 8)
                        if self.is_quiet:
                            await self.is_over.wait()
                            break
                        await self.act(client, orchestrator)
            except StoreError:
                await asyncio.sleep(1)  # it could not even begin

    @asynccontextmanager
    async def process(self) -> AsyncIterator[tuple[FaultyStore, Orchestrator]]:
        self._processes += 1
        client = FaultyStore(self.store)
        for fault in Fault:
            if fault is not Fault.BROKEN:
                client.arm("*", "", fault, times=None, when=lambda call, fault=fault: self.fails(call, fault))
        launches = LaunchSettings(
            running_after_s=self.chance.choice([0.5, 3]), at_once_max=self.chance.choice([2, 1000])
        )
        settings = Settings(sweep_interval_s=1, drain_s=self.chance.choice([0, 0, 4]), launches=launches)
        entropy = SeededEntropy(self.seed * 1000 + self._processes)
        async with Orchestrator(
            client, functions={"t:work": self.work}, settings=settings, clock=ManualClock(), entropy=entropy
        ) as orchestrator:
            yield client, orchestrator

    def fails(self, call: Call, fault: Fault) -> bool:
        # Of a process whose leaving is not heard of, a store in memory would believe for ever that it lives.
        is_fair = call.kind not in ("join", "leave")
        if fault is Fault.CONFLICT_WITH_ONESELF:
            is_fair = call.kind in ("write", "delete")
        return is_fair and not self.is_quiet and self.chance.random() < FAULT_RATE

    async def act(self, client: FaultyStore, orchestrator: Orchestrator) -> None:
        what = self.chance.random()
        try:
            async with asyncio.timeout(20):
                if what < 0.35:
                    await self.start(orchestrator)
                elif what < 0.45 and self.started:
                    await orchestrator.cancel(self.chance.choice(self.started))
                elif what < 0.65:
                    await self.pause(client, orchestrator)
                elif what < 0.75 and self.started:
                    run = await orchestrator.attach(self.chance.choice(self.started))
                    await asyncio.wait_for(run.wait(), self.chance.random() * 10)
        except (AiorchError, TimeoutError):
            pass  # said to whoever asked, who may ask again

    async def start(self, orchestrator: Orchestrator) -> None:
        run_id = self.chance.choice(RUNS)
        self.started.append(run_id)
        await orchestrator.start(definition(random.Random(f"{self.seed}/{run_id}")), run_id=run_id)

    async def pause(self, client: FaultyStore, orchestrator: Orchestrator) -> None:
        """Nothing of the process reaches the store, and the others hear that it is dead; then it wakes up."""
        silence = client.arm("*", "", times=None, hold=True)
        await self.store.leave(orchestrator._executor.process.id)
        try:
            await asyncio.sleep(self.chance.random() * 15)
        finally:
            silence.disarm()
            await self.store.join(orchestrator._executor.process.id)

    async def work(self, context: TaskContext) -> Any:
        """What all functions are."""
        self.store.called(context)
        dict(context.results)
        what = self.chance.random()
        if what < 0.1:
            raise ValueError("no luck")
        if what < 0.15:
            await asyncio.Event().wait()
        if what < 0.5:
            await asyncio.sleep(self.chance.random() * 6)
        return "x" * 3000 if what > 0.9 else context.execution_id


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
@in_virtual_time
async def test_random_runs_on_a_random_world(first: int) -> None:
    """Every run ends; no status is taken back; nothing is launched without its intent and record, or more often."""
    for seed in range(first, min(first + 10, SEEDS)):
        try:
            await Simulation(seed).run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
