"""
One `Parallel` of N branches, each a task that does nothing: ``Init``, N branches, ``End``.

    python benchmarks/fanout.py --width 10000 --store sqlite --repeat 5
    python benchmarks/fanout.py --width 1000 --store gcs
"""

from measuring import OPERATION_LINES, Line, arguments, fan_out, measure, positive, store_arguments, tell


def main() -> None:
    parser = arguments("Measure one run that fans out to N tasks and joins once.")
    store_arguments(parser, in_bucket=True)
    parser.add_argument("--width", type=positive, default=1000, metavar="N", help="branches (default: 1000)")
    options = parser.parse_args()
    result = measure(fan_out(options.width), options)
    is_budgeted = options.store == "sqlite" and options.width >= 1000
    is_widest = options.store == "sqlite" and options.width == 10_000
    lines = [
        Line("wall time, s", "wall_s", "<= 0.6" if is_widest else ""),
        Line("tasks per second", "tasks_per_s"),
        Line("CPU per 1,000 tasks, s", "cpu_s_per_1k_tasks", "<= 0.06" if is_budgeted else ""),
        Line("objects written per task", "store_writes_per_task"),
        Line("commits of the run", "commits", "<= 60" if is_widest else ""),
        Line("step latency, p50, ms", "step_latency_ms_p50"),
        Line("step latency, p99, ms", "step_latency_ms_p99"),
        Line("last branch to End, ms", "join_latency_ms_p50"),
        Line("peak memory, MB", "peak_rss_mb", "<= 140" if is_widest else ""),
        Line("building the DAG (not in the times above), s", "build_s"),
    ]
    if options.store == "gcs":
        class_a, *others = OPERATION_LINES
        lines += [class_a._replace(budget="<= 1.1" if options.width >= 1000 else ""), *others]
    tell(result, f"fan-out of {options.width:,} on {options.store}", lines, as_json=options.json)


if __name__ == "__main__":
    main()
