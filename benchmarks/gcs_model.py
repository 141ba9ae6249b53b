"""
The engine over a bucket that behaves like the real one, in virtual time: how late, and how many operations.

    python benchmarks/gcs_model.py --width 10 100 1000 10000 --length 20 --replicas 1 2 4 --repeat 5

One run at a time, on one store that 1, 2 or 4 replicas share. Its tasks are calls of Cloud Functions of the second
generation that take some seconds each. The answer of a call comes to the replica that made it; the request log of the
same call comes through the subscription to any of them, a moment or some seconds later, and now and then once more to
any of them. The bucket is `aiorch.testing.modelled_bucket`: 100 ms a write, 30 ms a read, one write a second of an
object. No time passes but the model's, and all chance comes from seeds: the same options give the same figures.

The latency told is that from the end of a task's function (at a join: of the last branch) to the call of the next one.
"""

import argparse
import asyncio
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from statistics import mean
from typing import Any, NamedTuple

import msgspec
from measuring import Column, arguments, build, chain, environment, fan_out, percentile, positive, rounded, tell_rows
from operations import per_task

from aiorch import DAG, Orchestrator, Parallel, Settings, Task, TaskContext
from aiorch.model.enums import TargetTypes
from aiorch.ports.target import Answer, Succeeded, Unknown
from aiorch.testing import ManualClock, SeededEntropy, VirtualTimeLoop
from aiorch.testing.modelled_bucket import ModelledBucket

FUNCTION = "load_orders"
PROJECT, REGION = "acme-data-dev", "us-central1"

CONNECTIONS_MAX = Settings().function_connections_max
"""Calls under way at once in one replica."""

WIDTHS = [10, 100, 1000, 10_000]

RUNS = {10: 20, 100: 10, 1000: 4}
"""Runs of a fan-out so wide, for each time that is measured; one of a wider one."""

DELIVERY_S = (0.02, 0.1)
REDELIVERY_S = (1.0, 10.0)
"""How long the subscription takes, and how long a message that was given back is away."""

BATCH_MAX = 100
LOOK_S = 0.25
LONG_S = 5.0
"""A task that takes longer is recorded as ``Running``, see `aiorch.stores.gcs.BUCKET_PACE`."""


# -- the world -------------------------------------------------------------------------------------------------------


class Message:
    """A delivery of the modelled subscription."""

    def __init__(self, topic: "Topic", number: int, data: bytes) -> None:
        self._topic = topic
        self.data = data
        self.message_id = str(number)
        self.publish_time = datetime.now(UTC)
        self.attributes: Mapping[str, str] = {}
        self.delivery_attempt = 1

    def ack(self) -> None:
        self._topic.unsettled -= 1

    def nack(self) -> None:
        self._topic.unsettled -= 1
        self._topic.deliver(self, self._topic.chance.uniform(*REDELIVERY_S))


class Source:
    """The subscription, as one replica sees it."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._may_bring = asyncio.Event()
        self._may_bring.set()

    def put(self, message: Message) -> None:
        self._messages.append(message)
        self._arrived.set()

    async def receive(self) -> Sequence[Message]:
        while True:
            await self._may_bring.wait()
            if self._messages:
                return [self._messages.popleft() for _ in range(min(BATCH_MAX, len(self._messages)))]
            self._arrived.clear()
            await self._arrived.wait()

    def pause(self) -> None:
        self._may_bring.clear()

    def resume(self) -> None:
        self._may_bring.set()

    def stop(self) -> None:
        self._may_bring.clear()

    async def aclose(self) -> None:
        """Nothing to release."""


class Topic:
    """Hands each message to one of the replicas, whichever."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.sources: list[Source] = []
        self.unsettled = 0
        self._published = 0

    def source(self) -> Source:
        source = Source()
        self.sources.append(source)
        return source

    def publish(self, message: Mapping[str, Any], late_s: float = 0.0) -> None:
        self._published += 1
        self.deliver(Message(self, self._published, msgspec.json.encode(message)), late_s)

    def deliver(self, message: Message, late_s: float = 0.0) -> None:
        self.unsettled += 1
        source = self.chance.choice(self.sources)
        asyncio.get_running_loop().call_later(late_s + self.chance.uniform(*DELIVERY_S), source.put, message)


class Functions:
    """The target of one replica: calls that take a while, and are logged."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)

    def resolve(self, task: Task) -> str | None:  # noqa: ARG002
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:  # noqa: ARG002
        async with self._connections:
            is_answered = await self._world.call(context)
        return Succeeded() if is_answered else Unknown("the connection was reset")

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """A call cannot be recalled."""

    async def aclose(self) -> None:
        """Nothing to release."""


class World:
    """What one run meets, and what was seen of it."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self._chance = random.Random(seed)
        self._options = options
        self.topic = Topic(self._chance)
        self.began_at: dict[str, float] = {}
        self.ended_at: dict[str, float] = {}

    async def call(self, context: TaskContext) -> bool:
        """Let a function run. Return whether its answer arrives."""
        loop = asyncio.get_running_loop()
        self.began_at.setdefault(context.node, loop.time())
        seconds = self._chance.uniform(*self._options.seconds)
        await asyncio.sleep(seconds)
        self.ended_at.setdefault(context.node, loop.time())
        for _ in range(1 + (self._chance.random() < self._options.twice)):
            self.topic.publish(request_log(context.execution_id, seconds), self._chance.uniform(*self._options.late))
        return self._chance.random() >= self._options.lost

    def latencies_s(self, dag: DAG) -> list[float]:
        """From the last end before a task to its call: of the join in a fan-out, of every step in a chain."""
        names = ["End"] if "End" in dag.all_tasks else [name for name in dag.all_tasks if name != dag.start_node]
        return [self.began_at[name] - max(self.ended_at[end] for end in _before(dag, name)) for name in names]


def _before(dag: DAG, name: str) -> list[str]:
    (previous,) = dag.all_nodes[name].previous_nodes
    if isinstance(previous, Parallel):
        return [branch.ends[0].name for branch in previous.branches]
    return [previous.name]


def request_log(execution_key: str, seconds: float) -> dict[str, Any]:
    """What the platform logs about a call that was answered, as far as it is read."""
    return {
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": FUNCTION, "location": REGION}},
        "httpRequest": {"status": 200, "userAgent": "aiorch/0.1", "latency": f"{seconds:.6f}s"},
        "timestamp": "2026-01-01T00:00:00Z",
        "logName": f"projects/{PROJECT}/logs/run.googleapis.com%2Frequests",
        "trace": f"projects/{PROJECT}/traces/{execution_key}",
    }


# -- the runs --------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What was seen of one run."""

    latencies_s: list[float]
    seconds: float
    class_a_of_run: int
    """Writes of the run's own objects: marker, document, records. Beside them there are listings and heartbeats."""

    operations: dict[str, int]
    """All of them, by class."""

    commits: int
    too_soon: int
    """Commits that were refused since the document had been written within the second."""

    conflicts: int
    long_tasks: int
    requests: dict[str, int]
    """By method, prefix and status."""


async def run_once(dag: DAG, replicas: int, options: argparse.Namespace, seed: int) -> Found:
    """Let one run come to its end, and everything that is told of it be answered for."""
    bucket, world = ModelledBucket(seed, write_interval_s=options.interval), World(options, seed)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for number in range(replicas):
            orchestrator = Orchestrator(
                bucket.store(),
                dags=[dag],
                source=world.topic.source(),
                targets={TargetTypes.CLOUD_FUNCTION: Functions(world)},
                clock=ManualClock(),
                entropy=SeededEntropy(seed * 100 + number),
            )
            await stack.enter_async_context(orchestrator)
        before, begun_at = bucket.requests.copy(), loop.time()
        world.topic.publish({"resource": {"type": "start", "labels": {"run_id": "r"}}})
        await until(lambda: "runs/r.json" in bucket.objects and "open/r" not in bucket.objects)
        seconds = loop.time() - begun_at
        await until(lambda: not world.topic.unsettled)
        requests = bucket.requests - before
    assert msgspec.json.decode(bucket.objects["runs/r.json"].data)["$run"]["status"] == "Completed"
    documents = {each.status: count for each, count in requests.items() if each[:2] == ("write", "runs/")}
    own = sum(requests[each] for each in requests if each.kind == "write" and each.prefix in _OF_RUN)
    classes = {"A": ("write", "list"), "B": ("read",), "free": ("delete",)}
    return Found(
        latencies_s=world.latencies_s(dag),
        seconds=seconds,
        class_a_of_run=own,
        operations={
            name: sum(count for each, count in requests.items() if each.kind in kinds)
            for name, kinds in classes.items()
        },
        commits=documents.get(200, 0),
        too_soon=documents.get(429, 0),
        conflicts=documents.get(412, 0),
        long_tasks=sum(world.ended_at[name] - world.began_at[name] > LONG_S for name in dag.all_tasks),
        requests={f"{each.kind} {each.prefix} {each.status}": count for each, count in sorted(requests.items())},
    )


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  what is stored tells, and nobody else
        await asyncio.sleep(LOOK_S)


_OF_RUN = ("runs/", "executions/", "open/")


def measure(
    name: str, definition: Mapping[str, Any], runs: int, replicas: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one shape on so many replicas: a row of the table."""
    dag, _ = build({"name": "model", **definition})
    tasks = len(dag.all_tasks)
    cpu = time.process_time()
    found = []
    for seed in range(runs):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            found.append(runner.run(run_once(dag, replicas, options, seed)))
    latencies_s = [latency for each in found for latency in each.latencies_s]
    operations = {kind: sum(each.operations[kind] for each in found) for kind in ("A", "B", "free")}
    requests = Counter[str]()
    for each in found:
        requests.update(each.requests)
    row = {
        "shape": name,
        "tasks": tasks,
        "replicas": replicas,
        "runs": runs,
        "latency_s_p50": percentile(latencies_s, 50),
        "latency_s_p99": percentile(latencies_s, 99),
        "run_s": mean(each.seconds for each in found),
        "commits": mean(each.commits for each in found),
        "too_soon": mean(each.too_soon for each in found),
        "conflicts": mean(each.conflicts for each in found),
        "class_a_of_run_per_task": sum(each.class_a_of_run for each in found) / tasks / runs,
        **per_task(operations, tasks * runs),
        "cpu_s": time.process_time() - cpu,
        "requests_per_run": {key: count / runs for key, count in sorted(requests.items())},
    }
    row = {key: rounded(value) if isinstance(value, float) else value for key, value in row.items()}
    if replicas == 1:
        row["budget"] = budgets(name, tasks, mean(each.long_tasks for each in found), row)
    return row


def budgets(name: str, tasks: int, long_tasks: float, row: Mapping[str, Any]) -> dict[str, float]:
    """The budgets that bind one replica, by figure."""
    if name.startswith("chain"):
        return {"class_a_of_run_per_task": rounded(2 + 2 / tasks + long_tasks / tasks)}
    bounds: dict[str, float] = {"latency_s_p99": 1.5}
    if tasks > 10_000:
        bounds["commits"] = 60
    if tasks > 1000 and row["run_s"] <= 60:
        bounds["class_a_of_run_per_task"] = 1.1
    return bounds


# -- in and out ------------------------------------------------------------------------------------------------------


def call(following: str | None = None) -> dict[str, Any]:
    """A step that calls the function."""
    step = {"type": "Task", "target_type": "CloudFunction", "target_name": FUNCTION, "region": REGION}
    return {**step, "project_id": PROJECT, **({"next": following} if following else {"end": True})}


def main() -> None:
    parser = arguments("Count operations, and measure latencies, over a model of Cloud Storage.")
    parser.add_argument(
        "--width", type=positive, nargs="*", default=[10, 100, 1000, 10_000], metavar="N", help="fan-outs"
    )
    parser.add_argument("--length", type=positive, default=20, metavar="N", help="tasks of the chain (default: 20)")
    parser.add_argument("--replicas", type=positive, nargs="+", default=[1, 2, 4], metavar="N", help="default: 1 2 4")
    range_of = {"type": float, "nargs": 2, "metavar": ("LEAST", "MOST")}
    parser.add_argument("--seconds", **range_of, default=[1.0, 10.0], help="of a call (default: 1 10)")
    parser.add_argument("--late", **range_of, default=[0.02, 10.0], help="a log entry, in s (default: 0.02 10)")
    part = {"type": float, "metavar": "PART"}
    parser.add_argument("--twice", **part, default=0.1, help="of all log entries come twice (default: 0.1)")
    parser.add_argument("--lost", **part, default=0.0, help="of all answers do not arrive (default: 0)")
    least = "least time between two writes of one object (default: 1)"
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help=least)
    options = parser.parse_args()
    load = os.getloadavg()
    shapes = [(f"chain of {options.length}", chain(options.length, call), 4)]
    shapes += [(f"fan-out of {width:,}", fan_out(width, call), RUNS.get(width, 1)) for width in options.width]
    rows = [
        measure(name, definition, runs * options.repeat, replicas, options)
        for name, definition, runs in shapes
        for replicas in options.replicas
    ]
    columns = [
        Column("", "shape"),
        Column("replicas", "replicas"),
        Column("latency p50, s", "latency_s_p50"),
        Column("p99, s", "latency_s_p99"),
        Column("commits", "commits"),
        Column("too soon", "too_soon"),
        Column("conflicts", "conflicts"),
        Column("A per task: of the run", "class_a_of_run_per_task"),
        Column("all", "class_a_per_task"),
        Column("B per task", "class_b_per_task"),
        Column("$ per million", "usd_per_million_tasks"),
        Column("run, s", "run_s"),
        Column("CPU, s", "cpu_s"),
    ]
    tell_rows({"rows": rows, **environment(options, load)}, "a model of Cloud Storage", columns, as_json=options.json)


if __name__ == "__main__":
    main()
