"""
What is run: random DAGs, and clients that start, cancel and resume runs whenever they please.

DAGs come from a fixed collection, by size and number, so that they are built once per Python process and a smaller one
is a smaller choice.
"""

import asyncio
import random
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from aiorch.definition.build import DAGBuilder
from aiorch.errors import RunNotFoundError, RunStateError
from aiorch.events.decode import start_run_id
from aiorch.model.dag import DAG
from tests.language import Writer, example_input
from tests.simulation.oracle import cancel_of
from tests.simulation.targets import PROJECT, REGION

if TYPE_CHECKING:
    from tests.simulation.world import World

SIZES = (1, 2, 3, 4, 6, 8, 11)
"""Nodes of a DAG, at most."""

MEMBERS = 150
"""DAGs of each size."""

WORDED = 400
"""Further DAGs of each size, which use the whole language."""

FUNCTIONS = ("load", "load", "join-2", "report2")
"""Cloud Functions: fewer than nodes, so that several nodes call the same."""

TRIES_MAX = 200


@cache
def definition(size: int, number: int) -> dict[str, Any]:
    """Return a DAG definition of the collection."""
    chance = random.Random(f"{size}/{number}")
    names = iter(range(1000))
    budget = [SIZES[size]]
    kinds = (("CloudFunction",), ("Function", "CloudFunction"), ("Function", "CloudFunction", "Dataflow"))
    targets = chance.choice(kinds) if number else ("Function",)

    def chain(depth: int) -> dict[str, Any]:
        chosen = []
        length = chance.choice((1, 2, 3)) if depth else SIZES[size]
        while budget[0] > 0 and len(chosen) < length:
            budget[0] -= 1
            chosen.append(f"n{next(names)}")
        chosen = chosen or [f"n{next(names)}"]
        steps: dict[str, Any] = {}
        if depth == 0 and len(chosen) > 3:
            # Some of the first level's nodes become what is inside its Parallels.
            kept = chance.randint(1, len(chosen) - 2)
            budget[0] += len(chosen) - kept
            chosen = chosen[:kept]
        for name, following in zip(chosen, [*chosen[1:], None], strict=True):
            steps[name] = {**node(depth), **({"next": following} if following else {"end": True})}
        return {"start": chosen[0], "steps": steps}

    def node(depth: int) -> dict[str, Any]:
        if depth < 3 and budget[0] > 0 and chance.random() < 0.6:
            branches = [chain(depth + 1) for _ in range(chance.randint(1, 3))]
            return {"type": "Parallel", "branches": branches, "on_failure": chance.choice(("wait", "fail_fast"))}
        return task()

    def task() -> dict[str, Any]:
        target = chance.choice(targets)
        step: dict[str, Any] = {"type": "Task", "target_type": target}
        if target == "Function":
            step["target_name"] = "simulation:work"
        elif target == "CloudFunction":
            step |= {"target_name": chance.choice(FUNCTIONS), "region": REGION, "project_id": PROJECT}
        else:
            step |= {"target_name": "etl", "region": REGION, "project_id": PROJECT, "template_path": "gs://t/etl"}
        step["timeout"] = chance.choice((30, 10, 60, 300)) if target != "Dataflow" else chance.choice((200, 30))
        if chance.random() < 0.5:
            step["retry"] = {"max_attempts": chance.choice((2, 2, 3)), "initial_delay": chance.choice((0, 1, 15))}
            if chance.random() < 0.3:
                step["retry"]["on"] = ["5xx", "Timeout", *(["FunctionError"] if target == "Function" else [])]
        if chance.random() < 0.25:
            step["on_lost"] = "fail"
        if target == "CloudFunction" and chance.random() < 0.5:
            step["on_no_result"] = chance.choice(("call_again", "call_again", "accept", "fail"))
        if target != "Function" and chance.random() < 0.25:
            step["function"] = "simulation:supplement"
        return step

    if number >= MEMBERS:
        return Writer(chance, SIZES[size] + 2, lambda _: task()).definition(f"dag-{size}-{number}")
    made = {"name": f"dag-{size}-{number}", **chain(0)}
    if number % 3 == 2:
        _decide_some(made, random.Random(f"decided {size}/{number}"))
    if number and chance.random() < 0.12:
        made["timeout"] = chance.choice((40, 120))
    return made


def _decide_some(level: dict[str, Any], chance: random.Random) -> None:
    """Let steps that the fold decides stand in the place of some tasks."""
    for name, step in level["steps"].items():
        for branch in step.get("branches", ()):
            _decide_some(branch, chance)
        if step["type"] != "Task":
            continue
        kind = chance.random()
        if kind < 0.2:
            links = {key: step[key] for key in ("next", "end") if key in step}
            level["steps"][name] = {"type": "Pass", "result": {"of": name}, **links}
        elif kind < 0.3 and "end" in step:
            level["steps"][name] = {"type": "Fail", "error": "Decided", "message": f"by {name}"}


@cache
def dag(size: int, number: int) -> DAG:
    """Return a DAG of the collection, built."""
    return DAGBuilder(definition(size, number)).build_dag()


@cache
def members_with_jobs(size: int) -> tuple[int, ...]:
    """Return which definitions of a size launch more than one job."""
    return tuple(number for number in range(MEMBERS) if repr(definition(size, number)).count("'Dataflow'") > 1)


class PlannedRun:
    """One run that a client wants."""

    def __init__(self, run_id: str, definition: dict[str, Any], dag: DAG, input: Any = None) -> None:
        self.run_id = run_id
        self.definition = definition
        self.dag = dag
        self.input = {"of": run_id} if input is None else input
        self.is_worded = input is not None


class Clients:
    """
    Everybody who wants something.

    Args:
        world: The world.

        runs: What they want; `None` to draw it.
    """

    def __init__(self, world: "World", runs: Sequence[PlannedRun] | None = None) -> None:
        self._world = world
        self.runs = [self._draw(f"r{number}") for number in range(world.swarm.runs)] if runs is None else runs

    def _draw(self, run_id: str) -> PlannedRun:
        tape = self._world.tape
        if self._world.swarm.jobs:
            size = 2 + tape.draw(f"size of {run_id} with jobs", len(SIZES) - 2)
            number = tape.pick(f"dag of {run_id} with jobs", members_with_jobs(size))
        elif self._world.swarm.worded:
            size = tape.draw(f"size of {run_id}", len(SIZES))
            number = MEMBERS + tape.draw(f"worded dag of {run_id}", WORDED)
            given = example_input(random.Random(tape.draw(f"input of {run_id}", 20)))
            return PlannedRun(run_id, definition(size, number), dag(size, number), given)
        else:
            size = tape.draw(f"size of {run_id}", len(SIZES))
            number = tape.draw(f"dag of {run_id}", MEMBERS)
        return PlannedRun(run_id, definition(size, number), dag(size, number))

    async def act(self) -> None:
        """Return when everybody has got what they wanted, or given it up."""
        wishes = []
        tape, swarm = self._world.tape, self._world.swarm
        for run in self.runs:
            starts = swarm.starts if swarm.starts != 2 or tape.draw(f"{run.run_id} twice", 2) else 1
            wishes += [self._start(run) for _ in range(starts)]
            if swarm.cancels and tape.draw(f"{run.run_id} cancelled", 2):
                wishes.append(self._cancel(run.run_id))
            if swarm.resumes and not run.is_worded and tape.draw(f"{run.run_id} resumed", 2):
                wishes.append(self._resume(run.run_id))
        if swarm.poison:
            wishes.append(self._poison())
        await asyncio.gather(*wishes)

    async def _start(self, run: PlannedRun) -> None:
        world, tape = self._world, self._world.tape
        world.oracle.expect(run.run_id, run.definition)
        await asyncio.sleep(
            (world.swarm.starts_from + tape.draw(f"start {run.run_id} at", world.swarm.starts_within)) * 0.5
        )
        if world.swarm.has_source and tape.draw(f"start {run.run_id} by message", 2):
            labels = {"dag": run.dag.name, "run_id": run.run_id}
            message_id = None
            if tape.draw(f"start {run.run_id} without its id", 4) == 1:
                # Then the run is called by the message, and is another one than that of this name.
                del labels["run_id"]
                message_id = f"start-{run.run_id}"
                world.oracle.expect(start_run_id(message_id, world.time_of_day()), run.definition)
            message = {"resource": {"type": "start", "labels": labels}, "parameters": run.input}
            world.subscription.publish(
                msgspec.json.encode(message), message_id=message_id, what=f"start of {run.run_id}"
            )
            return
        for _ in range(TRIES_MAX):
            outcome = await world.cluster.call(
                f"start {run.run_id}", lambda each: each.start(run.dag, input=run.input, run_id=run.run_id), run.run_id
            )
            if not isinstance(outcome, Exception):
                world.oracle.confirmed(run.run_id)
                return
            if isinstance(outcome, RunNotFoundError):
                world.oracle.fail("S5", f"a client was told that there is no run {run.run_id}, which it starts")
            if tape.draw(f"start {run.run_id} once only", 6) == 1:
                return  # it may exist, and it may not
            await asyncio.sleep(2)

    async def _cancel(self, run_id: str) -> None:
        world, tape = self._world, self._world.tape
        await asyncio.sleep(1 + tape.draw(f"cancel {run_id} at", 40) * 0.5)
        if world.swarm.has_source and tape.draw(f"cancel {run_id} by message", 2):
            world.oracle.cancels.add(run_id)
            world.subscription.publish(cancel_of(run_id), what=f"cancel of {run_id}")
            return
        for _ in range(5):
            world.oracle.cancels.add(run_id)
            outcome = await world.cluster.call(f"cancel {run_id}", lambda each: each.cancel(run_id), run_id)
            if not isinstance(outcome, Exception):
                world.oracle.cancelled(run_id)
                return
            if isinstance(outcome, RunNotFoundError):
                return
            await asyncio.sleep(2)

    async def _resume(self, run_id: str) -> None:
        world, tape = self._world, self._world.tape
        for _ in range(60):
            await asyncio.sleep(3 + tape.draw(f"resume {run_id} after", 4))
            status = world.oracle.status(run_id)
            if status == "Completed":
                return
            if status in ("Failed", "Cancelled"):
                break
        else:
            return
        again = 1 + (world.swarm.starts > 1 and tape.draw(f"resume {run_id} twice", 2))
        await asyncio.gather(*(self._resume_once(run_id) for _ in range(again)))

    async def _resume_once(self, run_id: str) -> None:
        world = self._world
        resumed = f"{run_id}.2"
        for _ in range(TRIES_MAX):
            world.oracle.expect(resumed, world.oracle.definitions[run_id], resumed_from=run_id)
            outcome = await world.cluster.call(f"resume {run_id}", lambda each: each.resume(run_id), resumed)
            if not isinstance(outcome, Exception):
                world.count("resume")
                world.oracle.confirmed(resumed)
                return
            assert not isinstance(outcome, RunStateError), outcome
            await asyncio.sleep(2)

    async def _poison(self) -> None:
        """Messages that nobody should have sent."""
        world, tape = self._world, self._world.tape
        for _ in range(1 + tape.draw("poison count", 3)):
            await asyncio.sleep(tape.draw("poison at", 30))
            world.count("poison message")
            poison = tape.pick("poison", POISON)
            world.oracle.poison.add(poison)
            world.subscription.publish(poison, what="poison")


POISON = (
    b"{}",
    b"\xff\x00 no JSON",
    b"[" * 2000 + b"]" * 2000,
    b'{"resource": {"type": "start", "labels": {"dag": "nobody"}}}',
    b'{"resource": {"type": "start", "labels": {"dag": "x", "run_id": "../../alive/x"}}}',
    (
        b'{"resource": {"type": "cloud_function", "labels": {}}, "textPayload": "Function execution took 1 ms, odd", '
        b'"logName": "projects/p/logs/cloudfunctions.googleapis.com%2Fcloud-functions"}'
    ),
    (
        b'{"resource": {"type": "dataflow_step", "labels": {"job_name": "x", "job_id": "y", "region": "z"}}, '
        b'"textPayload": "Worker pool stopped.", "timestamp": "2026-01-01T00:00:00Z", "logName": "projects/p/logs/x"}'
    ),
)
