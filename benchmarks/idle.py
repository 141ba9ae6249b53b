"""
What it costs when nothing happens: requests to a bucket, counted in virtual time, and their price.

    python benchmarks/idle.py --runs 1000 --replicas 1 2 --hours 24

First with no run at all, then with R open runs that wait, each for the same, until long after the end:

    call        the answer of a function
    job         a Dataflow job: each replica has 25, the others wait for room
    retry       the next attempt of a task, which is due much later
    nobody      a process that knows the function of a task: none here does

The runs are started on all replicas in turn. What is counted begins when that has settled. The bucket is
`aiorch.testing.modelled_bucket`, and everything but the wire is what would be sent to a real one.
"""

import argparse
import asyncio
import logging
import os
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

from measuring import Column, arguments, build, environment, positive, rounded, tell_rows
from operations import price_usd

from aiorch import Orchestrator, Task, TaskContext
from aiorch.model.enums import TargetTypes
from aiorch.model.failure import Failure
from aiorch.ports.target import Accepted, Answer, Failed
from aiorch.testing import ManualClock, SeededEntropy, VirtualTimeLoop
from aiorch.testing.modelled_bucket import ModelledBucket

SETTLED_S = 300.0
FOR_LONG_S = 30 * 86400

CALL = {"type": "Task", "target_type": "CloudFunction", "target_name": "f", "url": "https://f.invalid", "end": True}
JOB = {"type": "Task", "target_type": "Dataflow", "target_name": "j", "template_path": "gs://b/t", "end": True}
WAITS = {
    "call": {**CALL, "timeout": FOR_LONG_S},
    "job": {**JOB, "project_id": "acme", "region": "us-central1"},
    "retry": {**CALL, "retry": {"max_attempts": 2, "initial_delay": FOR_LONG_S, "max_delay": FOR_LONG_S}},
    "nobody": {"type": "Task", "target_type": "Function", "target_name": "modules:elsewhere", "end": True},
}

BUDGETS = {"lists": 5800, "heartbeats": 4400, "reads_per_run": 30}
"""For each replica and day."""

PRICE_BUDGET_USD = 0.15
"""For 1,000 open runs on two replicas and a day."""


class Waiting:
    """A target of executions that do not end; of runs that wait for a retry, the first attempt fails."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def resolve(self, task: Task) -> str | None:
        return "nobody knows it" if task.target_type == TargetTypes.FUNCTION else None

    async def launch(self, task: Task, context: TaskContext) -> Answer:  # noqa: ARG002
        if self._kind == "retry":
            return Failed(Failure.of("Busy", "not now"))
        if self._kind == "job":
            return Accepted(f"job-{context.execution_id}")
        return await asyncio.get_running_loop().create_future()

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        """It goes on."""

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """Nothing to stop."""

    async def aclose(self) -> None:
        """Nothing to release."""


async def count(kind: str, runs: int, replicas: int, hours: float) -> Counter[tuple[str, str]]:
    """Return how many requests of which method, about which prefix, there are in so many hours."""
    bucket = ModelledBucket()
    dag, _ = build({"name": "waits", "start": "A", "steps": {"A": WAITS[kind]}})
    async with AsyncExitStack() as stack:
        orchestrators = [
            Orchestrator(
                bucket.store(),
                dags=[dag],
                targets=dict.fromkeys(TargetTypes, Waiting(kind)),
                clock=ManualClock(),
                entropy=SeededEntropy(number),
            )
            for number in range(replicas)
        ]
        for orchestrator in orchestrators:
            await stack.enter_async_context(orchestrator)
        for number in range(runs):
            start = {"type": "start", "labels": {"dag": "waits", "run_id": f"r{number}"}}
            orchestrators[number % replicas].publish({"resource": start})
        await asyncio.sleep(SETTLED_S)
        before = bucket.requests.copy()
        await asyncio.sleep(hours * 3600)
        requests = bucket.requests - before
        assert sum(name.startswith("open/") for name in bucket.objects) == runs
    counts = Counter[tuple[str, str]]()
    for request, number in requests.items():
        counts[request.kind, request.prefix] += number
    return counts


def measure(kind: str, runs: int, replicas: int, options: argparse.Namespace) -> dict[str, Any]:
    """Count one kind of waiting on so many replicas: a row of the table."""
    cpu = time.process_time()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        counts = runner.run(count(kind, runs, replicas, options.hours))
    days = options.hours / 24
    methods = Counter[str]()
    for (method, _), number in counts.items():
        methods[method] += number
    operations = {"A": methods["list"] + methods["write"], "B": methods["read"], "free": methods["delete"]}
    budget = {**BUDGETS, "heartbeats": BUDGETS["heartbeats"] if runs else 0}
    if runs == 1000 and replicas == 2:
        budget["usd_per_day"] = PRICE_BUDGET_USD
    return {
        "waits_for": kind if runs else "no runs",
        "runs": runs,
        "replicas": replicas,
        "class_a_per_hour": rounded(operations["A"] / options.hours),
        "class_b_per_hour": rounded(operations["B"] / options.hours),
        "free_per_hour": rounded(operations["free"] / options.hours),
        "usd_per_day": rounded(price_usd(operations) / days),
        "lists": rounded(methods["list"] / days / replicas),
        "heartbeats": rounded(counts["write", "alive/"] / days / replicas),
        "other_writes": rounded((methods["write"] - counts["write", "alive/"]) / days / replicas),
        "looks": rounded(counts["read", "alive/"] / days / replicas),
        "reads_per_run": rounded((methods["read"] - counts["read", "alive/"]) / days / replicas / max(1, runs)),
        "requests_per_hour": {" ".join(each): rounded(counts[each] / options.hours) for each in sorted(counts)},
        "cpu_s": rounded(time.process_time() - cpu),
        "budget": budget,
    }


def main() -> None:
    parser = arguments("Count what open runs cost while they wait, and what no runs cost.", repeats=False)
    parser.add_argument("--runs", type=positive, default=1000, metavar="R", help="open runs (default: 1000)")
    parser.add_argument("--replicas", type=positive, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--hours", type=float, default=6.0, metavar="H", help="that are counted (default: 6)")
    options = parser.parse_args()
    logging.getLogger("aiorch").setLevel(logging.ERROR)  # that nobody can launch a task is what is asked for
    load = os.getloadavg()
    rows = [
        measure(kind, runs, replicas, options)
        for kind, runs in [("call", 0), *((kind, options.runs) for kind in WAITS)]
        for replicas in options.replicas
    ]
    columns = [
        Column("wait for", "waits_for"),
        Column("runs", "runs"),
        Column("replicas", "replicas"),
        Column("A per hour", "class_a_per_hour"),
        Column("B per hour", "class_b_per_hour"),
        Column("$ per day", "usd_per_day"),
        Column("per replica and day: lists", "lists"),
        Column("heartbeats", "heartbeats"),
        Column("other writes", "other_writes"),
        Column("looks at others", "looks"),
        Column("reads of a run", "reads_per_run"),
        Column("CPU, s", "cpu_s"),
    ]
    tell_rows({"rows": rows, **environment(options, load)}, "open runs that wait", columns, as_json=options.json)


if __name__ == "__main__":
    main()
