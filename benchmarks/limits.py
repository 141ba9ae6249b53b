"""
CPU time per task, at several numbers of tasks, when most of them wait for a slot of their target type.

    python benchmarks/limits.py --tasks 500 2000 8000 --limit 50 --store sqlite --repeat 5

The tasks are those of runs of a hundred tasks each (``--run-tasks``), and all runs begin at once. The figures should be
alike: a task costs the same however many wait. In one run of 8,000 tasks each task costs more, since the document of
the run is written whole for every fifty ends.
"""

import argparse
import asyncio
import gc
import os
import tempfile
import time
from statistics import median

from measuring import (
    NOOP,
    Line,
    arguments,
    build,
    environment,
    fan_out,
    positive,
    rounded,
    sample,
    store_arguments,
    store_url,
    tell,
)

from aiorch import Orchestrator, Settings, TargetTypes, TaskContext
from aiorch.settings import LaunchSettings


async def measure(tasks: int, options: argparse.Namespace, url: str) -> float:
    """Return the CPU seconds per 1,000 tasks of as many runs as have so many tasks."""

    async def noop(context: TaskContext) -> None:
        pass

    width = min(tasks, options.run_tasks)
    dag, _ = build(fan_out(width))
    runs = round(tasks / width)
    launches = LaunchSettings(limits={TargetTypes.FUNCTION: options.limit})
    async with Orchestrator(url, functions={NOOP: noop}, settings=Settings(launches=launches)) as orchestrator:
        await (await orchestrator.start(sample())).wait()  # opens the file, imports what is imported late
        gc.collect()
        begin = time.process_time()
        handles = await asyncio.gather(*(orchestrator.start(dag) for _ in range(runs)))
        await asyncio.gather(*(handle.wait() for handle in handles))
        return (time.process_time() - begin) / (runs * len(dag.all_tasks)) * 1000


def main() -> None:
    parser = arguments("Measure what tasks cost that wait for a slot of their target type.")
    store_arguments(parser)
    sizes = [500, 2000, 8000]
    parser.add_argument("--tasks", type=positive, nargs="+", default=sizes, metavar="N", help="default: 500 2000 8000")
    parser.add_argument("--limit", type=positive, default=50, metavar="L", help="tasks at once (default: 50)")
    parser.add_argument("--run-tasks", type=positive, default=100, metavar="W", help="tasks of a run (default: 100)")
    options = parser.parse_args()
    load = os.getloadavg()
    result: dict[str, float] = {}
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="aiorch-benchmark-", dir=options.directory) as folder:
        for tasks in options.tasks:
            key = f"cpu_s_per_1k_of_{tasks}"
            found = [
                asyncio.run(measure(tasks, options, store_url(options, folder, f"{tasks}-{number}")))
                for number in range(options.repeat)
            ]
            result[key], least[key] = rounded(median(found)), rounded(min(found))
    first, *_, last = result.values() if len(result) > 1 else [*result.values()] * 2
    result["ratio"] = rounded(last / first)
    first, *_, last = least.values() if len(least) > 1 else [*least.values()] * 2
    least["ratio"] = rounded(last / first)
    lines = [Line(f"CPU per 1,000 of {n:,} tasks, s", f"cpu_s_per_1k_of_{n}") for n in options.tasks]
    lines.append(Line("the last against the first, ratio", "ratio", "<= 1.3" if options.tasks == sizes else ""))
    title = f"tasks with a limit of {options.limit} on {options.store}"
    tell({**result, "min": least, **environment(options, load)}, title, lines, as_json=options.json)


if __name__ == "__main__":
    main()
