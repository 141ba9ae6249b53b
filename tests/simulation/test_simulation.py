"""Ten seconds of the simulation, and tests of its parts; `make simulation` runs the whole of it, as CI does."""

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from aiorch.engine.standstill import LivedTimeout, Standstill
from tests.simulation.calls import SCENES, run_case
from tests.simulation.cluster import SimulatedProcess
from tests.simulation.loop import PROCESS, DeadlockError, Handle, LivelockError, SimulationLoop
from tests.simulation.mutants import MUTANTS, DoesNotFitError, Mutant, changed
from tests.simulation.runner import FAULTS, missing_faults, run_shared
from tests.simulation.shrink import shrink
from tests.simulation.swarm import Swarm
from tests.simulation.tape import Tape
from tests.simulation.targets import Execution
from tests.simulation.world import World, simulate

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("AIORCH_SIMULATION_S", "0")) or None
"""How long the random schedules are run, unless `COUNT` of them are enough."""

COUNT = 240
"""Random schedules of the default suite: a number, since a busy machine runs few of them in ten seconds."""

OTHER_PYTHON = os.environ.get("AIORCH_OTHER_PYTHON")
"""Another interpreter that has what the engine needs: same seeds must be the same there."""


@pytest.mark.timeout((SECONDS or 80) + 100)
def test_random_schedules() -> None:
    """No invariant is violated, whatever is drawn; and every fault did occur, if there was time enough."""
    tallies = run_shared(0, jobs=2, seconds=SECONDS, count=None if SECONDS else COUNT)
    for tally in tallies:
        assert not tally.failures, [f"seed {each['seed']}: {each['message']}" for each in tally.failures]
    merged = tallies[0]
    merged.add(tallies[1])
    assert merged.schedules > 100
    assert not missing_faults(merged)


@pytest.mark.parametrize("name", SCENES)
def test_the_scenes_of_the_sweep_end_without_faults(name: str) -> None:
    """What is swept is a run that ends, and calls the world often enough to be worth it."""
    outcome = run_case(name, None)
    assert outcome.violation is None
    assert outcome.calls > 20


def test_a_mutant_is_killed() -> None:
    """A change of the engine that breaks a promise is found: the simulation can fail."""
    command = [sys.executable, "-m", "tests.simulation", "mutants", "--quick", "--only", MUTANTS[0].name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(120)
def test_a_seed_is_the_same_whatever_the_order_of_hashing() -> None:
    """Two processes that hash differently come to the same documents, draws, steps and times."""
    one, other = run_shared(7000, jobs=2, count=40, same_seeds=True)
    assert len(one.digests) == 40
    assert one.digests == other.digests


@pytest.mark.skipif(OTHER_PYTHON is None, reason="AIORCH_OTHER_PYTHON names no other interpreter")
@pytest.mark.timeout(120)
def test_a_seed_is_the_same_on_another_python() -> None:
    """What a seed decides does not depend on the version of the interpreter."""
    assert OTHER_PYTHON is not None
    one, other = run_shared(7000, jobs=2, count=300, same_seeds=True, pythons=[sys.executable, OTHER_PYTHON])
    assert one.digests == other.digests


# -- its own parts -----------------------------------------------------------------------------------------------


def test_a_schedule_is_replayed_from_its_notes() -> None:
    """The unusual choices are all that there is to know of a schedule."""
    for seed in range(20):
        first = simulate(seed)
        again = simulate(notes=first.notes)
        assert (again.digest, again.notes) == (first.digest, first.notes)


def test_a_tape_without_notes_is_benign() -> None:
    """0 is the benign choice, everywhere: no fault occurs, and the run completes."""
    outcome = simulate(notes={})
    assert outcome.violation is None
    assert not set(outcome.counts) & {*FAULTS} - {"end before Running"}


def test_choices_that_do_not_matter_are_shrunk_away() -> None:
    """What is left is what makes it fail, each as small as it can be."""
    tape = Tape(1)
    for number in range(50):
        tape.draw(f"family{number % 7} x", 10)
    matters = [key for key, value in tape.notes.items() if value > 3][5:7]
    tries = []

    def fails(notes: dict[tuple[str, int], int]) -> bool:
        tries.append(notes)
        return all(notes.get(key, 0) >= 3 for key in matters)

    assert shrink(tape.notes, fails) == dict.fromkeys(matters, 3)
    assert len(tries) < 300


def test_draws_of_one_label_do_not_move_those_of_another() -> None:
    """Taking a choice away leaves the others where they are."""
    notes = {("a", 1): 2, ("b", 0): 3}
    with_more = Tape(replayed=notes)
    assert [with_more.draw("a", 5), with_more.draw("c", 5), with_more.draw("a", 5), with_more.draw("b", 5)] == [
        0,
        0,
        2,
        3,
    ]
    with_less = Tape(replayed=notes)
    assert [with_less.draw("b", 5), with_less.draw("a", 5), with_less.draw("a", 5)] == [3, 0, 2]


class APower:
    """A process that can lose its power."""

    def __init__(self) -> None:
        self.parked: list[Handle] | None = None
        self.fuse = -1

    def burn(self) -> None:
        self.parked = []


def test_a_process_without_power_runs_no_finally() -> None:
    """What it had under way is gone: neither its next step nor what it would clean up is run, not even in the end."""
    loop = SimulationLoop(None)
    process = APower()
    did: list[str] = []

    async def work() -> None:
        PROCESS.set(process)
        try:
            did.append("began")
            await asyncio.sleep(1)
            did.append("went on")
        finally:
            if loop.is_running():
                did.append("cleaned up")

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(work())
        await asyncio.sleep(0.5)
        process.parked = []
        await asyncio.sleep(10)
        assert not task.done()

    loop.run(main())
    assert did == ["began"]


def test_a_process_that_was_paused_goes_on_where_it_stood() -> None:
    """Timers that came due meanwhile come due at once when it wakes up."""
    loop = SimulationLoop(None)
    process = APower()
    woke_at: list[float] = []

    async def work() -> None:
        PROCESS.set(process)
        await asyncio.sleep(1)
        woke_at.append(loop.time())

    async def main() -> None:
        asyncio.get_running_loop().create_task(work())
        await asyncio.sleep(0.5)
        process.parked = []
        await asyncio.sleep(100)
        parked, process.parked = process.parked, None
        loop.give_back(parked)
        await asyncio.sleep(1)

    loop.run(main())
    assert woke_at == [100.5]


@pytest.mark.parametrize(("answered_at", "is_violated"), [(20.0, True), (88.0, True), (90.0, False)])
def test_an_answer_that_comes_as_the_timeout_ends_need_not_be_read(answered_at: float, *, is_violated: bool) -> None:
    """S12: a timeout that counts a part of a pause ends early, and only an answer before its end is in time."""
    world = World(Tape(replayed={}), swarm=Swarm())
    process, execution = SimulatedProcess(world, 0, 1), Execution("r0", "a", 1, "key")
    world.oracle.expect("r0", {"start": "a", "steps": {"a": {"type": "Task", "timeout": 60, "end": True}}})
    ended_at: list[float] = []

    async def call() -> None:
        world.oracle.begins(process, execution)
        with suppress(TimeoutError):
            async with LivedTimeout(Standstill(), reading_s=5.0) as deadline:
                deadline.begin(60.0)
                await world.loop.create_future()
        ended_at.append(world.loop.time())
        world.oracle._check_lived(process, "r0 a", "key", {"message": "'load' did not end within its timeout of 60 s"})

    async def main() -> None:
        world.loop.later(10.5, world.cluster.pause, process, 30.5)
        world.loop.later(answered_at, world.oracle.answered, process, execution)
        await world.loop.create_task(call(), context=process.context)

    world.loop.run(main())
    assert ended_at == [90.0]
    assert process.lived_s(0.0) == 59.5
    assert (world.oracle.violation is not None) == is_violated


def test_a_schedule_that_cannot_end_is_told() -> None:
    """L3: nothing is ready and nothing is scheduled; or something goes round and round."""

    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    async def spinning() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(DeadlockError):
        SimulationLoop(None).run(stuck())
    with pytest.raises(LivelockError):
        SimulationLoop(None).run(spinning())


def test_the_world_has_no_threads() -> None:
    """Whoever asks for a thread is refused: nobody would know when it ends."""

    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(NotImplementedError):
        SimulationLoop(None).run(main())


def test_a_mutant_that_does_not_fit_is_an_error() -> None:
    """Each text stands exactly once in its module today; one that does not is not passed over."""
    for mutant in MUTANTS:
        changed(mutant, (ROOT / f"{mutant.module.replace('.', '/')}.py").read_text())
    with pytest.raises(DoesNotFitError):
        changed(Mutant("m", "aiorch.model.names", "no such text", ""), "some text")
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
