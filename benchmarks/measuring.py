"""
What the benchmarks share: the DAGs that they run, what is measured of a run, and how it is told.

Step latency is the time from the end of a task's function to the start of the function that follows it in the run:
event, fold, commit (on disk, with SQLite) and launch lie in between. A task after a `Parallel` follows the last of its
branches. The functions do nothing but look at the clock, once: their end is their start.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

from operations import per_task

import aiorch
from aiorch import DAG, DAGBuilder, Node, Orchestrator, Parallel, Settings, TaskContext
from aiorch.model.names import RUNS
from aiorch.ports.store import Store
from aiorch.stores import open_store
from aiorch.testing.gcs_server import BUCKET, gcs_server

NOOP = "benchmarks:noop"
"""Name of the function of every task."""

SYNCS = 50
SYNC_BYTES = 16 * 1024
"""One page of the store's file, the least that a commit writes."""

DIRECTORY = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
"""On disk nearly everywhere, while ``/tmp`` is often memory, which needs no syncing."""


Step = Callable[..., dict[str, Any]]
"""Makes a step, followed by the one of that name or by none."""


# -- DAGs ------------------------------------------------------------------------------------------------------------


def task(following: str | None = None) -> dict[str, Any]:
    """A step whose function only looks at the clock."""
    step = {"type": "Task", "target_type": "Function", "target_name": NOOP}
    return {**step, "next": following} if following else {**step, "end": True}


def parallel(width: int, following: str, step: Step = task) -> dict[str, Any]:
    """A `Parallel` of *width* branches of one task each."""
    branches = [{"start": f"Branch{n}", "steps": {f"Branch{n}": step()}} for n in range(1, width + 1)]
    return {"type": "Parallel", "branches": branches, "next": following}


def fan_out(width: int, step: Step = task) -> dict[str, Any]:
    """``Init``, *width* branches, ``End``."""
    return {"start": "Init", "steps": {"Init": step("Fan"), "Fan": parallel(width, "End", step), "End": step()}}


def sample() -> dict[str, Any]:
    """The sample of five tasks: ``Init``, ``Step1``, two branches, ``End``."""
    steps = {"Init": task("Step1"), "Step1": task("Fan"), "Fan": parallel(2, "End"), "End": task()}
    return {"start": "Init", "steps": steps}


def chain(length: int, step: Step = task) -> dict[str, Any]:
    """*length* tasks, one after the other."""
    steps = {f"Step{n}": step(f"Step{n + 1}" if n < length else None) for n in range(1, length + 1)}
    return {"start": "Step1", "steps": steps}


def build(definition: Mapping[str, Any]) -> tuple[DAG, float]:
    """Build a DAG, and say how many seconds that took."""
    begin = time.perf_counter()
    return DAGBuilder(definition).build_dag(), time.perf_counter() - begin


# -- what is measured ------------------------------------------------------------------------------------------------


class StepClock:
    """Notes when the function of each task ran, in a flat list: nothing that the garbage collector has to look at."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def noop(self, context: TaskContext) -> None:
        self.seen += (context.run_id, context.node, time.perf_counter())

    def latencies_ms(self, dag: DAG) -> dict[str, list[float]]:
        """For each task that follows others, its step latency in each run."""
        runs: dict[str, dict[str, float]] = {}
        for run_id, node, at in zip(*[iter(self.seen)] * 3, strict=True):
            runs.setdefault(run_id, {})[node] = at
        return {
            name: [(at[name] - max(at[end] for end in ends)) * 1000 for at in runs.values()]
            for name, node in dag.all_tasks.items()
            if (ends := _ends_before(node))
        }


def _ends_before(node: Node) -> list[str]:
    """Names of the tasks of which the last to end lets *node* start."""
    while not node.previous_nodes:
        if node.parent_dag.parent_node is None:
            return []
        node = node.parent_dag.parent_node
    return _ends_of(node.previous_nodes[0])


def _ends_of(node: Node) -> list[str]:
    if not isinstance(node, Parallel):
        return [node.name]
    return [name for branch in node.branches for name in _ends_of(branch.ends[0])]


class CountingStore:
    """A store that counts what it has accepted: objects written (documents, records, markers), and commits of runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes = 0
        self.commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def operations(self) -> Counter[str]:
        """Requests sent by class, see `GCSStore`; always empty for a store that sends none."""
        return getattr(self._store, "operations", Counter())

    async def write(self, name: str, data: bytes, *, create: Sequence[tuple[str, bytes]] = (), **rest: Any) -> int:
        generation = await self._store.write(name, data, create=create, **rest)
        self.writes += 1 + len(create)
        self.commits += name.startswith(RUNS)
        return generation

    async def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        await self._store.create_all(objects)
        self.writes += len(objects)


class Sample(NamedTuple):
    """One measurement: from the first start until the ends of all runs are committed."""

    runs: int
    tasks: int
    wall_s: float
    cpu_s: float
    """Of all threads of the process."""

    writes: int
    commits: int
    operations: dict[str, int]
    """Requests to a bucket by class, empty where there is none."""

    latencies_ms: dict[str, list[float]]
    """By task, one for each run."""


async def _measure_once(dag: DAG, runs: int, store: CountingStore) -> Sample:
    clock = StepClock()
    # No store of a benchmark refuses a commit for coming too soon: see `gcs_model.py` for one that does.
    settings = Settings(commit_interval_s=0)
    async with Orchestrator(store, functions={NOOP: clock.noop}, settings=settings) as orchestrator:
        await (await orchestrator.start(sample())).wait()  # opens the file, imports what is imported late
        clock.seen.clear()
        store.writes = store.commits = 0
        before = store.operations.copy()
        gc.collect()  # what was there before is not paid for here
        wall, cpu = time.perf_counter(), time.process_time()
        handles = await asyncio.gather(*(orchestrator.start(dag) for _ in range(runs)))
        ends = await asyncio.gather(*(handle.wait() for handle in handles))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        operations = dict(store.operations - before)
    assert all(end.status == "Completed" for end in ends)
    tasks, latencies_ms = runs * len(dag.all_tasks), clock.latencies_ms(dag)
    return Sample(runs, tasks, wall, cpu, store.writes, store.commits, operations, latencies_ms)


def measure(definition: Mapping[str, Any], options: argparse.Namespace, *, runs: int = 1) -> dict[str, Any]:
    """
    Run a definition, *runs* times at once, in a new store for each of ``options.repeat`` measurements.

    Returns:
        What was found: medians over the measurements, and under ``min`` the least of each.
    """
    dag, build_s = build(definition)
    load = os.getloadavg()
    samples, syncs_ms = [], []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-benchmark-", dir=options.directory))
        if options.store == "gcs":
            url = stack.enter_context(gcs_server(Path(folder)))
            stack.enter_context(patch.dict(os.environ, {"STORAGE_EMULATOR_HOST": url}))
        for number in range(options.repeat):
            if options.store == "sqlite":
                syncs_ms += sync_times_ms(Path(folder))
            store = CountingStore(open_store(store_url(options, folder, str(number))))
            samples.append(asyncio.run(_measure_once(dag, runs, store)))
    figures = [_figures(each) for each in samples]
    result = {key: rounded(median(each[key] for each in figures)) for key in figures[0]}
    result["min"] = {key: rounded(min(each[key] for each in figures)) for key in figures[0] if key not in _COUNTS}
    if syncs_ms:
        result["disk_sync_ms_p50"] = rounded(percentile(syncs_ms, 50))
        result["disk_sync_ms_p99"] = rounded(percentile(syncs_ms, 99))
    return {**result, "build_s": rounded(build_s), "peak_rss_mb": peak_rss_mb(), **environment(options, load)}


_COUNTS = {"tasks", "runs_per_s", "tasks_per_s", "store_writes_per_task", "commits", *per_task({}, 1)}
"""Figures of which the least is not the best, or always the same."""


def _figures(sample: Sample) -> dict[str, float]:
    latencies = [latency for each in sample.latencies_ms.values() for latency in each]
    figures = {
        "tasks": sample.tasks,
        "wall_s": sample.wall_s,
        "tasks_per_s": sample.tasks / sample.wall_s,
        "runs_per_s": sample.runs / sample.wall_s,
        "cpu_s_per_1k_tasks": sample.cpu_s / sample.tasks * 1000,
        "store_writes_per_task": sample.writes / sample.tasks,
        "commits": sample.commits,
        "step_latency_ms_p50": percentile(latencies, 50),
        "step_latency_ms_p99": percentile(latencies, 99),
    }
    if "End" in sample.latencies_ms:
        figures["join_latency_ms_p50"] = percentile(sample.latencies_ms["End"], 50)
    return {**figures, **per_task(sample.operations, sample.tasks)} if sample.operations else figures


def sync_times_ms(folder: Path) -> list[float]:
    """How long the disk takes to write a page over an old one and sync it: what no commit can be faster than."""
    sync = getattr(os, "fdatasync", os.fsync)  # as SQLite does
    page, times = os.urandom(SYNC_BYTES), []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS + 1):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), page, 0)
            sync(file.fileno())
            times.append((time.perf_counter() - begin) * 1000)
    return times[1:]  # the first one makes the file longer


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that *percent* of all do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def reference_loop_ms() -> float:
    """Time of a loop that never changes: how fast this machine is just now. The least of ten."""
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        for _ in range(100_000):
            pass
        times.append((time.perf_counter() - begin) * 1000)
    return rounded(min(times))


def peak_rss_mb() -> float:
    """Most memory that this process has held so far, in 10**6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def rss_mb() -> float:
    """Memory that this process holds now, in 10**6 bytes; its peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_rss_mb()
    return round(int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6, 1)


# -- in and out ------------------------------------------------------------------------------------------------------


def arguments(description: str, *, repeats: bool = True) -> argparse.ArgumentParser:
    """Return a parser of the options that all benchmarks have, or all that measure several times."""
    parser = argparse.ArgumentParser(description=description)
    if repeats:
        parser.add_argument("--repeat", type=positive, default=5, metavar="K", help="measure K times (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def store_arguments(parser: argparse.ArgumentParser, *, in_bucket: bool = False) -> None:
    """Add the options of those that use a store; *in_bucket*: also one in a bucket, of a server started here."""
    kinds = ("sqlite", "memory", "gcs") if in_bucket else ("sqlite", "memory")
    parser.add_argument("--store", choices=kinds, default="sqlite", help="default: sqlite")
    directory_argument(parser)


def directory_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which disk is measured."""
    parser.add_argument("--directory", default=DIRECTORY, help=f"where SQLite's files go (default: {DIRECTORY})")


def store_url(options: argparse.Namespace, folder: str, name: str = "state") -> str:
    """Return the URL of a new store of the kind that was asked for."""
    if options.store == "gcs":
        return f"gs://{BUCKET}/{name}"
    return "memory:" if options.store == "memory" else f"sqlite:///{folder}/{name}.db"


def positive(text: str) -> int:
    """Read a number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def environment(options: argparse.Namespace, load: tuple[float, float, float]) -> dict[str, Any]:
    """What the figures depend on: the options, the versions and the machine. *load* is that of the beginning."""
    return {
        **{key: value for key, value in vars(options).items() if key != "json"},
        "python": platform.python_version(),
        "aiorch": aiorch.__version__,
        "sqlite": sqlite3.sqlite_version,
        "msgspec": version("msgspec"),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "reference_loop_ms": reference_loop_ms(),
        "load_before": [round(each, 2) for each in load],
        "load_after": [round(each, 2) for each in os.getloadavg()],
    }


class Line(NamedTuple):
    """One line of a table."""

    name: str
    key: str
    """Of the figure in the result."""

    budget: str = ""


OPERATION_LINES = [
    Line("class A operations per task", "class_a_per_task"),
    Line("class B operations per task", "class_b_per_task"),
    Line("free operations per task", "free_per_task"),
    Line("price of a million tasks, $", "usd_per_million_tasks"),
]
"""Of a store in a bucket."""


def tell(result: Mapping[str, Any], title: str, lines: Sequence[Line], *, as_json: bool) -> None:
    """Print *result* whole as JSON, or *lines* of it as a table."""
    if as_json:
        print(json.dumps(result))
        return
    least = result.get("min", {})
    print(title)
    rows = [("", f"median of {result['repeat']}" if least else "", "min" if least else "", "budget")]
    rows += [(line.name, _number(result[line.key]), _number(least.get(line.key)), line.budget) for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, middle, lowest, budget in rows:
        print(f"  {name:<{widths[0]}}  {middle:>{widths[1]}}  {lowest:>{widths[2]}}  {budget}".rstrip())
    print(_facts(result))


class Column(NamedTuple):
    """One column of a table of many rows."""

    name: str
    key: str


def tell_rows(result: Mapping[str, Any], title: str, columns: Sequence[Column], *, as_json: bool) -> None:
    """Print *result* whole as JSON, or its ``rows`` as a table, each figure with the row's budget for it."""
    if as_json:
        print(json.dumps(result))
        return
    print(title)
    cells = [[column.name for column in columns]]
    cells += [[_with_budget(row, column.key) for column in columns] for row in result["rows"]]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    for first, *others in cells:
        aligned = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        print(f"  {first:<{widths[0]}}  {'  '.join(aligned)}".rstrip())
    print(_facts(result))


def _with_budget(row: Mapping[str, Any], key: str) -> str:
    value, budget = row[key], row.get("budget", {}).get(key)
    text = value if isinstance(value, str) else _number(value) if isinstance(value, float) else f"{value:,}"
    return text if budget is None else f"{text} (<= {budget:g})"


def _facts(result: Mapping[str, Any]) -> str:
    facts = (
        "python",
        "aiorch",
        "sqlite",
        "msgspec",
        "machine",
        "cores",
        "reference_loop_ms",
        "load_before",
        "load_after",
    )
    return "  " + ", ".join(f"{fact} {result[fact]}" for fact in facts)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.{0 if abs(value) >= 1000 else 3}f}"


def in_rounds(cases: Mapping[str, Callable[[], float]], repeat: int) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """
    Measure every figure once, then every figure again: a slow moment of the machine slows all figures alike.

    Returns:
        The rounds; and the median of each figure, with the least of each under ``min``.
    """
    rounds = [{key: case() for key, case in cases.items()} for _ in range(repeat)]
    result: dict[str, Any] = {key: rounded(median(each[key] for each in rounds)) for key in cases}
    return rounds, result | {"min": {key: rounded(min(each[key] for each in rounds)) for key in cases}}


def rounded(value: float) -> float:
    """Five significant digits: the rest is noise."""
    return float(f"{value:.5g}")
