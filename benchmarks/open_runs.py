"""
Memory of R open runs, and the CPU time that they take while nothing happens.

    python benchmarks/open_runs.py --runs 10000 --store sqlite
    python benchmarks/open_runs.py --runs 5000 --wait-for retry --rest 60

Each is a run of the sample that has done ``Init`` and waits in ``Step1``:

    call      for the end of its function, recorded as ``Running``
    retry     for the next attempt, which is due in an hour
    nobody    for a process that knows its function: this one does not
"""

import argparse
import asyncio
import gc
import logging
import os
import tempfile
import time
from typing import Any

from measuring import (
    NOOP,
    Line,
    arguments,
    build,
    environment,
    peak_rss_mb,
    positive,
    rounded,
    rss_mb,
    sample,
    store_arguments,
    store_url,
    tell,
)

from aiorch import Orchestrator, RunHandle, Settings, TaskContext, TaskStatus

WAVE = 500
"""Runs started at once."""


UNSETTLED_S = 5.0
"""Seconds before the rest begins: what the last starts have left to do is done by then."""

REACHED = {"call": TaskStatus.RUNNING, "retry": TaskStatus.RETRYING, "nobody": TaskStatus.NEW}
"""Status of ``Step1`` while it waits."""

RETRY = {"max_attempts": 2, "initial_delay": 3600, "max_delay": 3600}


def definition(wait_for: str) -> dict[str, Any]:
    """The sample with a ``Step1`` that waits."""
    dag = sample()
    step = dag["steps"]["Step1"]
    dag["steps"]["Step1"] = {
        "call": step,
        "retry": {**step, "retry": RETRY},
        "nobody": {**step, "target_name": "benchmarks:elsewhere"},
    }[wait_for]
    return dag


async def waits_in_step1(handle: RunHandle, wait_for: str) -> None:
    async for _ in handle.changes():
        init, step = (handle.run.nodes[name].status for name in ("Init", "Step1"))
        if init is TaskStatus.COMPLETED and step is REACHED[wait_for]:
            return


async def measure(options: argparse.Namespace, url: str) -> dict[str, float]:
    ended = asyncio.Event()

    async def hold(context: TaskContext) -> None:
        if context.node == "Step1":
            if options.wait_for == "retry":
                raise RuntimeError("not now")
            await ended.wait()

    dag, _ = build(definition(options.wait_for))
    async with Orchestrator(url, functions={NOOP: hold}, settings=Settings(drain_s=60)) as orchestrator:
        orchestrator.check = lambda _: None  # type: ignore[method-assign]  # a function may be unknown on purpose
        before_mb = rss_mb()
        handles: list[RunHandle] = []
        while missing := options.runs - len(handles):
            wave = (orchestrator.start(dag) for _ in range(min(WAVE, missing)))
            handles += await asyncio.gather(*wave)
        for handle in handles:
            await waits_in_step1(handle, options.wait_for)
        gc.collect()
        after_mb, peak_mb = rss_mb(), peak_rss_mb()
        await asyncio.sleep(UNSETTLED_S)
        begin, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(options.rest)
        cpu_percent = (time.process_time() - cpu) / (time.perf_counter() - begin) * 100
        ended.set()
    return {
        "rss_mb": after_mb,
        "rss_before_mb": before_mb,
        "kb_per_run": rounded((after_mb - before_mb) * 1000 / options.runs),
        "peak_rss_mb": peak_mb,
        "cpu_percent_at_rest": rounded(cpu_percent),
    }


def main() -> None:
    parser = arguments("Measure the memory of many open runs, and their CPU time at rest.", repeats=False)
    store_arguments(parser)
    parser.add_argument("--runs", type=positive, default=10_000, metavar="R", help="open runs (default: 10000)")
    parser.add_argument("--wait-for", choices=REACHED, default="call", help="default: call")
    parser.add_argument("--rest", type=positive, default=20, metavar="S", help="seconds of rest (default: 20)")
    options = parser.parse_args()
    logging.getLogger("aiorch").setLevel(logging.ERROR)  # that nobody can launch a task is what is asked for
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="aiorch-benchmark-", dir=options.directory) as folder:
        result = asyncio.run(measure(options, store_url(options, folder)))
    budget = "<= 200" if options.runs == 10_000 and options.wait_for == "call" else ""
    lines = [
        Line("memory with all of them open, MB", "rss_mb", budget),
        Line("memory before the first, MB", "rss_before_mb"),
        Line("memory per run, KB", "kb_per_run"),
        Line("peak, MB", "peak_rss_mb"),
        Line("CPU at rest, % of a core", "cpu_percent_at_rest", "<= 1" if options.runs <= 5000 else ""),
    ]
    tell({**result, **environment(options, load)}, f"{options.runs:,} open runs", lines, as_json=options.json)


if __name__ == "__main__":
    main()
