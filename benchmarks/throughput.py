"""
R runs at once of the sample of five tasks: ``Init``, ``Step1``, a `Parallel` of two branches, ``End``.

    python benchmarks/throughput.py --runs 500 --store sqlite --repeat 5
    python benchmarks/throughput.py --runs 100 --store gcs
"""

from measuring import OPERATION_LINES, Line, arguments, measure, positive, sample, store_arguments, tell


def main() -> None:
    parser = arguments("Measure many small runs at once.")
    store_arguments(parser, in_bucket=True)
    parser.add_argument("--runs", type=positive, default=500, metavar="R", help="runs at once (default: 500)")
    options = parser.parse_args()
    result = measure(sample(), options, runs=options.runs)
    is_budgeted = options.store == "sqlite" and options.runs >= 500
    lines = [
        Line("wall time, s", "wall_s"),
        Line("runs per second", "runs_per_s", ">= 2,000" if is_budgeted else ""),
        Line("tasks per second", "tasks_per_s"),
        Line("CPU per 1,000 tasks, s", "cpu_s_per_1k_tasks", "<= 0.12" if is_budgeted else ""),
        Line("objects written per task", "store_writes_per_task"),
        Line("commits of all runs", "commits"),
        Line("step latency, p50, ms", "step_latency_ms_p50"),
        Line("step latency, p99, ms", "step_latency_ms_p99"),
        Line("peak memory, MB", "peak_rss_mb"),
    ]
    if options.store == "gcs":
        lines += OPERATION_LINES
    tell(result, f"{options.runs:,} runs at once of the sample on {options.store}", lines, as_json=options.json)


if __name__ == "__main__":
    main()
