"""
What it takes to begin, and what it takes to hold much: times of a fresh process, and memory of a busy one.

Each figure comes from a process of its own, since nothing that another has imported or allocated may count. Modules are
compiled beforehand, as they are from the second start on: into a directory of this benchmark, so that neither what lies
in the tree nor an environment that forbids to write there makes a difference.

    python benchmarks/startup.py --repeat 7
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Line, arguments, directory_argument, environment, positive, rounded, tell

HERE = Path(__file__).parent

IMPORT = """
import time
begin = time.perf_counter()
{}
print(time.perf_counter() - begin)
"""

FIRST_TASK = """
import asyncio, sys, time
from aiorch import Orchestrator

async def first(context):
    print(time.monotonic(), time.process_time())

async def main():
    step = {"type": "Task", "target_type": "Function", "function": first, "end": True}
    async with Orchestrator(sys.argv[1]) as orchestrator:
        await (await orchestrator.start({"start": "First", "steps": {"First": step}})).wait()

asyncio.run(main())
"""
"""A whole program that runs one task on a new file."""


def output_of(*command: str, compiled: str | None = None) -> str:
    """Run this Python with *command*, and return what it prints. It finds and keeps compiled modules in *compiled*."""
    env = dict(os.environ)
    if compiled is not None:
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["PYTHONPYCACHEPREFIX"] = compiled
    return subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, env=env).stdout


def import_s(statement: str, compiled: str) -> float:
    return float(output_of("-c", IMPORT.format(statement), compiled=compiled))


def first_task(directory: str, compiled: str) -> dict[str, float]:
    """Measure from before the process exists until its first task is called; all processes have the same clock."""
    with tempfile.TemporaryDirectory(prefix="aiorch-benchmark-", dir=directory) as folder:
        begin = time.monotonic()
        at, cpu_s = map(float, output_of("-c", FIRST_TASK, f"sqlite:///{folder}/state.db", compiled=compiled).split())
        return {"first_task_s": at - begin, "first_task_cpu_s": cpu_s}


def result_of(script: str, options: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    """Run another benchmark, and return its result."""
    common = "--store", "sqlite", "--directory", options.directory, "--json"
    return json.loads(output_of(str(HERE / script), *arguments, *common))


def times(directory: str, compiled: str) -> dict[str, float]:
    return {
        "import_s": import_s("import aiorch", compiled),
        "import_orchestrator_s": import_s("from aiorch import DAGBuilder, Orchestrator", compiled),
        **first_task(directory, compiled),
    }


def main() -> None:
    parser = arguments("Measure start-up times and memory.")
    directory_argument(parser)
    parser.add_argument("--width", type=positive, default=10_000, metavar="N", help="of the fan-out (default: 10000)")
    parser.add_argument("--open-runs", type=positive, default=10_000, metavar="R", help="default: 10000")
    options = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="aiorch-benchmark-") as compiled:
        times(options.directory, compiled)
        rounds = [times(options.directory, compiled) for _ in range(options.repeat)]
    result: dict[str, Any] = {key: rounded(median(each[key] for each in rounds)) for key in rounds[0]}
    result["min"] = {key: rounded(min(each[key] for each in rounds)) for key in rounds[0]}
    fan_out = result_of("fanout.py", options, "--width", str(options.width), "--repeat", "1")
    open_runs = result_of("open_runs.py", options, "--runs", str(options.open_runs))
    result |= {"fan_out_peak_rss_mb": fan_out["peak_rss_mb"], "open_runs_rss_mb": open_runs["rss_mb"]}
    lines = [
        Line("import aiorch, s", "import_s", "<= 0.15"),
        Line("import of Orchestrator and DAGBuilder, s", "import_orchestrator_s"),
        Line("start of the process to the first task, s", "first_task_s", "<= 0.3"),
        Line("the same, CPU, s", "first_task_cpu_s"),
        Line(
            f"peak memory of a fan-out of {options.width:,}, MB",
            "fan_out_peak_rss_mb",
            "<= 140" if options.width == 10_000 else "",
        ),
        Line(
            f"memory of {options.open_runs:,} open runs, MB",
            "open_runs_rss_mb",
            "<= 200" if options.open_runs == 10_000 else "",
        ),
    ]
    tell({**result, **environment(options, load)}, "start-up and memory", lines, as_json=options.json)


if __name__ == "__main__":
    main()
