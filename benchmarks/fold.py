"""
The core alone: what it costs to fold one event, by the number of nodes in the run. It should cost the same.

Two shapes: the end of one of many branches (nothing follows yet), and the end of a task in a long chain (the next one
starts). Encoding the document afterwards does grow with the run, since a commit writes all of it; it is told beside.

    python benchmarks/fold.py --repeat 9
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

import msgspec
from measuring import Line, arguments, build, chain, environment, fan_out, in_rounds, positive, rounded, tell

from aiorch import DAG
from aiorch.core.begin import new_header, new_run
from aiorch.core.draft import Changes, Process
from aiorch.core.fold import fold
from aiorch.core.run_events import RunEvent, RunStarted, TaskSucceeded
from aiorch.model.run import Run
from aiorch.model.run_document import SCHEMA_VERSION, StartCommand

SIZES = (10, 1_000, 10_000)
SHAPES = {"fan_out": "fan-out", "chain": "chain"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROCESS = Process("benchmark", lambda _: True)


def begun(dag: DAG, *events: RunEvent) -> Run:
    """Return a run of *dag* in which *events* have been committed."""
    command = StartCommand(
        schema_version=SCHEMA_VERSION,
        run_id="benchmark",
        nonce="0" * 32,
        dag=dag.name,
        definition=dag.definition_id,
        input=msgspec.Raw(b"null"),
        created_at=NOW,
    )
    run = new_run(dag, new_header(command, dag, None))
    for event in (RunStarted(), *events):
        changes = fold(dag, run, [event], now=NOW, process=PROCESS)
        document, encoded = run.encode(changes.header, changes.nodes)
        run.apply(changes, encoded, len(document))
    return run


def time_us(work: Callable[[], Any], calls: int) -> float:
    """Return the time of one call, over *calls* calls."""
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - begin) / calls * 1e6


def cases_of(event: RunEvent, dag: DAG, run: Run, folds: int) -> dict[str, Callable[[], float]]:
    """Return what measures the folding of *event*, and the encoding of the document that comes of it."""

    def folding() -> Changes:
        return fold(dag, run, [event], now=NOW, process=PROCESS)

    changes = folding()
    assert event.node in changes.nodes
    return {
        "fold_us": lambda: time_us(folding, folds),
        "encode_us": lambda: time_us(
            lambda: run.encode(changes.header, changes.nodes), max(1, folds // len(run.nodes))
        ),
    }


def all_cases(folds: int) -> dict[str, Callable[[], float]]:
    """Return what measures each figure."""
    cases = {}
    for nodes in SIZES:
        width = nodes - 3  # besides: Init, the Parallel, End
        wide, long = build(fan_out(width))[0], build(chain(nodes))[0]
        for shape, dag, run, event in (
            ("fan_out", wide, begun(wide, TaskSucceeded("Init", 1)), TaskSucceeded(f"Branch{width // 2}", 1)),
            ("chain", long, begun(long), TaskSucceeded("Step1", 1)),
        ):
            cases |= {f"{shape}_{nodes}_{what}": case for what, case in cases_of(event, dag, run, folds).items()}
    return cases


def main() -> None:
    parser = arguments("Measure how the cost of one event depends on the size of its run.")
    parser.add_argument("--folds", type=positive, default=5000, metavar="N", help="of each measurement (default: 5000)")
    options = parser.parse_args()
    load = os.getloadavg()
    cases = all_cases(options.folds)
    rounds, result = in_rounds(cases, options.repeat)
    for shape in SHAPES:
        most, least = f"{shape}_{SIZES[-1]}_fold_us", f"{shape}_{SIZES[0]}_fold_us"
        result[f"{shape}_fold_ratio"] = rounded(median(each[most] / each[least] for each in rounds))
    lines = []
    for shape, name in SHAPES.items():
        lines += [Line(f"fold, {name} of {nodes:,} nodes, us", f"{shape}_{nodes}_fold_us") for nodes in SIZES]
        lines += [Line(f"fold, {name}, {SIZES[-1]:,} nodes against {SIZES[0]}", f"{shape}_fold_ratio", "about 1")]
        lines += [Line(f"encode, {name} of {nodes:,} nodes, us", f"{shape}_{nodes}_encode_us") for nodes in SIZES]
    tell({**result, **environment(options, load)}, "one event", lines, as_json=options.json)


if __name__ == "__main__":
    main()
