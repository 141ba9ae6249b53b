"""
N tasks, one after the other: how long a step takes beyond what the disk takes to sync.

Each step is one commit, which must be on disk before the next function is called. The disk's own time, to write one
page over an old one and sync it, is measured in the same run.

    python benchmarks/chain.py --length 200 --store sqlite --repeat 5
"""

from measuring import Line, arguments, chain, measure, positive, rounded, store_arguments, tell


def main() -> None:
    parser = arguments("Measure the gap between two steps of a chain.")
    store_arguments(parser)
    parser.add_argument("--length", type=positive, default=200, metavar="N", help="tasks, at least 2 (default: 200)")
    options = parser.parse_args()
    result = measure(chain(max(2, options.length)), options)
    is_budgeted = options.store == "sqlite" and options.length == 200
    lines = [
        Line("step gap, p50, ms", "step_latency_ms_p50"),
        Line("step gap, p99, ms", "step_latency_ms_p99"),
        Line("wall time, s", "wall_s"),
        Line("CPU per 1,000 tasks, s", "cpu_s_per_1k_tasks"),
        Line("objects written per task", "store_writes_per_task"),
        Line("commits of the run", "commits"),
    ]
    if options.store == "sqlite":
        for percent, budget in (("p50", "<= 0.6"), ("p99", "<= 2")):
            sync_ms = result[f"disk_sync_ms_{percent}"]
            for figures in (result, result["min"]):
                gap_ms = figures[f"step_latency_ms_{percent}"]
                figures[f"step_latency_above_sync_ms_{percent}"] = rounded(gap_ms - sync_ms)
            lines += [
                Line(f"disk's own sync, {percent}, ms", f"disk_sync_ms_{percent}"),
                Line(
                    f"step gap above it, {percent}, ms",
                    f"step_latency_above_sync_ms_{percent}",
                    budget if is_budgeted else "",
                ),
            ]
    tell(result, f"chain of {options.length:,} on {options.store}", lines, as_json=options.json)


if __name__ == "__main__":
    main()
