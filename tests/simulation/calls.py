"""
Everything that can go wrong at the k-th call of a process to the world, for every k: what random schedules miss.

A few small DAGs are run once without any fault, to count the calls to the store and to the targets. Then they are run
once more for each call and each thing that can become of it: no answer, applied or not, now or later, a process that
loses power just before or just after, a process that stands still there until its work has been taken over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from aiorch.definition.build import DAGBuilder
from tests.simulation.oracle import Violation
from tests.simulation.storage import Fault
from tests.simulation.swarm import Swarm
from tests.simulation.tape import Notes
from tests.simulation.targets import PROJECT, REGION
from tests.simulation.workload import PlannedRun
from tests.simulation.world import Directed, Outcome, simulate

FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)


def _call(**link: Any) -> dict[str, Any]:
    where = {"target_name": "load", "project_id": PROJECT, "region": REGION, "timeout": 30}
    return {"type": "Task", "target_type": "CloudFunction", **where, **link}


def _function(**link: Any) -> dict[str, Any]:
    return {"type": "Task", "target_type": "Function", "target_name": "simulation:work", "timeout": 30, **link}


def _job(**link: Any) -> dict[str, Any]:
    where = {"target_name": "etl", "template_path": "gs://t/etl", "project_id": PROJECT, "region": REGION}
    return {"type": "Task", "target_type": "Dataflow", "timeout": 200, **where, **link}


_RETRY = {"retry": {"max_attempts": 2, "initial_delay": 1}}

CALLS = {
    "name": "calls",
    "start": "a",
    "steps": {
        "a": _call(next="p", on_lost="fail"),
        "p": {
            "type": "Parallel",
            "on_failure": "wait",
            "next": "e",
            "branches": [
                {"start": "b", "steps": {"b": _call(end=True, **_RETRY)}},
                {"start": "c", "steps": {"c": _function(next="d"), "d": _call(end=True)}},
            ],
        },
        "e": _function(end=True),
    },
}
JOBS = {"name": "jobs", "start": "j", "steps": {"j": _job(next="k", **_RETRY), "k": _call(end=True)}}
CANCELLED = {
    "name": "cancelled",
    "start": "p",
    "steps": {
        "p": {
            "type": "Parallel",
            "end": True,
            "branches": [
                {"start": "j", "steps": {"j": _job(end=True)}},
                {"start": "f", "steps": {"f": _function(end=True, **_RETRY)}},
            ],
        }
    },
}

# By message or not, which attempts fail, what hangs, when it is cancelled: as notes of a tape.
SCENES: dict[str, tuple[dict[str, Any], Notes, Swarm]] = {
    "calls": (CALLS, {("start r0 by message", 0): 1, ("fails r0 b 1", 0): 1}, Swarm(fails=0.1)),
    "jobs": (JOBS, {("fails r0 j 1", 0): 1}, Swarm(fails=0.1)),
    "cancelled": (
        CANCELLED,
        {
            ("fails r0 f 1", 0): 1,
            ("hangs r0 f 2", 0): 1,
            ("hangs r0 j 1", 0): 1,
            ("r0 cancelled", 0): 1,
            ("cancel r0 at", 0): 8,
        },
        Swarm(fails=0.1, hangs=0.1, cancels=True),
    ),
}


@dataclass(frozen=True)
class Case:
    """One schedule of the sweep."""

    dag: str
    call: int
    fault: Fault
    violation: Violation | None


@cache
def _planned(name: str) -> PlannedRun:
    definition = SCENES[name][0]
    return PlannedRun("r0", definition, DAGBuilder(definition).build_dag())


def run_case(name: str, directed: Directed | None, *, processes: int = 1, traces: bool = False) -> Outcome:
    """Run one scene."""
    _, notes, swarm = SCENES[name]
    swarm = replace(swarm, processes=processes, lasts_s=400.0)  # no pause is cut short
    return simulate(notes=notes, swarm=swarm, directed=directed, runs=[_planned(name)], traces=traces)


def sweep() -> Iterator[Case]:
    """Yield what came of every case."""
    for name in SCENES:
        for fault in FAULTS:
            # Only another process calls one dead that stands still.
            processes = 2 if fault in (Fault.PAUSE_BEFORE, Fault.PAUSE_AFTER) else 1
            for call in range(1, run_case(name, None, processes=processes).calls + 1):
                yield Case(name, call, fault, run_case(name, Directed(call, fault), processes=processes).violation)
