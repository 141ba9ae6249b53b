"""
Memory of R open runs of the sample: each has done ``Init`` and waits in ``Step1``, recorded as ``Running``.

    python benchmarks/open_runs.py --runs 10000 --store sqlite
"""

import argparse
import asyncio
import gc
import os
import tempfile

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


async def waits_in_step1(handle: RunHandle) -> None:
    async for _ in handle.changes():
        if handle.run.nodes["Step1"].status is TaskStatus.RUNNING:
            return


async def measure(options: argparse.Namespace, url: str) -> dict[str, float]:
    ended = asyncio.Event()

    async def hold(context: TaskContext) -> None:
        if context.node == "Step1":
            await ended.wait()

    dag, _ = build(sample())
    async with Orchestrator(url, functions={NOOP: hold}, settings=Settings(drain_s=60)) as orchestrator:
        before_mb = rss_mb()
        handles: list[RunHandle] = []
        while missing := options.runs - len(handles):
            wave = (orchestrator.start(dag) for _ in range(min(WAVE, missing)))
            handles += await asyncio.gather(*wave)
        for handle in handles:
            await waits_in_step1(handle)
        gc.collect()
        after_mb, peak_mb = rss_mb(), peak_rss_mb()
        ended.set()
    return {
        "rss_mb": after_mb,
        "rss_before_mb": before_mb,
        "kb_per_run": rounded((after_mb - before_mb) * 1000 / options.runs),
        "peak_rss_mb": peak_mb,
    }


def main() -> None:
    parser = arguments("Measure the memory of many open runs.", repeats=False)
    store_arguments(parser)
    parser.add_argument("--runs", type=positive, default=10_000, metavar="R", help="open runs (default: 10000)")
    options = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="aiorch-benchmark-", dir=options.directory) as folder:
        result = asyncio.run(measure(options, store_url(options, folder)))
    budget = "<= 200" if options.runs == 10_000 else ""
    lines = [
        Line("memory with all of them open, MB", "rss_mb", budget),
        Line("memory before the first, MB", "rss_before_mb"),
        Line("memory per run, KB", "kb_per_run"),
        Line("peak, MB", "peak_rss_mb"),
    ]
    tell({**result, **environment(options, load)}, f"{options.runs:,} open runs", lines, as_json=options.json)


if __name__ == "__main__":
    main()
