"""
Run the simulation.

    python -m tests.simulation run [--seeds N] [--start SEED]     random schedules
    python -m tests.simulation soak --seconds S [--jobs J]        as many as there is time for
    python -m tests.simulation replay SEED                        one schedule, with its trace
    python -m tests.simulation replay --notes FILE                one that was shrunk
    python -m tests.simulation shrink SEED [--notes FILE]         the fewest unusual choices that still fail
    python -m tests.simulation calls                              everything that can go wrong at the k-th call
    python -m tests.simulation mutants [--quick] [--only NAME]    prove that it can fail
    python -m tests.simulation ci                                 what CI runs: all of it, mutants from seeds that kill
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

STARTS = (100_000, 0, 200_000, 300_000, 400_000)
"""Where the seeds begin from which a mutant must be killed; CI uses the first."""


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0 when nothing was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Run the simulation.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "soak"):
        command = commands.add_parser(name, help="random schedules")
        command.add_argument("--start", type=int, default=0, help="first seed")
        command.add_argument("--seeds", type=int, default=1000 if name == "run" else None)
        command.add_argument("--seconds", type=float, default=None)
        command.add_argument("--jobs", type=int, default=2, help="Python processes")
        command.add_argument("--failures", type=int, default=1, help="stop after so many, in each process")
    for name in ("replay", "shrink"):
        command = commands.add_parser(name, help="one schedule")
        command.add_argument("seed", type=int, nargs="?")
        command.add_argument("--notes", type=Path, help="file of a shrunk schedule")
    commands.add_parser("calls", help="fail the k-th call")
    command = commands.add_parser("mutants", help="kill the mutants")
    command.add_argument("--quick", action="store_true", help="from seeds that are known to kill")
    command.add_argument("--only", action="append", help="name of a mutant")
    command.add_argument("--jobs", type=int, default=2)
    command.add_argument("--starts", type=int, default=len(STARTS))
    command = commands.add_parser("ci", help="what CI runs")
    command.add_argument("--seconds", type=float, default=60.0, help="of random schedules")
    command.add_argument("--start", type=int, default=0, help="first seed: the same for all, so that a gate is one")
    commands.add_parser("_work").add_argument("order")
    options = parser.parse_args(arguments)
    return int(globals()["_" + options.command.removeprefix("_")](options))


def _run(options: argparse.Namespace) -> int:
    from tests.simulation.runner import Tally, run_shared

    total = Tally()
    for tally in run_shared(
        options.start,
        jobs=options.jobs,
        count=options.seeds,
        seconds=options.seconds,
        failures_max=options.failures,
    ):
        total.add(tally)
    _print_tally(total, options.start)
    return _report(total)


_soak = _run


def _print_tally(tally: Any, start: int) -> None:
    rate = tally.schedules / tally.seconds if tally.seconds else 0
    print(f"{tally.schedules} schedules from seed {start} in {tally.seconds:.1f} s: {rate:.0f} a second")
    for what, count in sorted(tally.counts.items(), key=lambda each: -each[1]):
        print(f"  {count:>9}  {what}")


def _report(tally: Any) -> int:
    for failure in tally.failures[:10]:
        print(_line(failure), flush=True)
    if tally.failures:
        _explain(min(tally.failures, key=lambda failure: failure["at_s"])["seed"])
    return 1 if tally.failures else 0


def _line(failure: dict[str, Any]) -> str:
    """One line: what, when, where, and the command that replays it."""
    return (
        f"{failure['message']} | at {failure['at_s']:.3f} s of seed {failure['seed']}, commit {_commit()} | "
        f"python -m tests.simulation replay {failure['seed']}"
    )


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def _explain(seed: int) -> None:
    notes, outcome = _shrunk(seed)
    print(f"\nshrunk to {len(notes)} unusual choices: {outcome.violation}")
    _print_notes(notes)
    path = Path(f"simulation-{seed}.txt")
    path.write_text("\n".join(outcome.trace or []) + "\n")
    print(f"its trace is in {path}")


def _shrunk(seed: int) -> tuple[Any, Any]:
    from tests.simulation.shrink import shrink
    from tests.simulation.world import simulate

    first = simulate(seed)
    if first.violation is None:
        raise SystemExit(f"seed {seed} violates nothing here")
    invariant = first.violation.invariant

    def fails(notes: Any) -> bool:
        violation = simulate(notes=notes).violation
        return violation is not None and violation.invariant == invariant

    notes = shrink(first.notes, fails)
    return notes, simulate(notes=notes, traces=True)


def _print_notes(notes: Any) -> None:
    for (label, number), value in notes.items():
        print(f"  {label} [{number}] = {value}")


def _replay(options: argparse.Namespace) -> int:
    from tests.simulation.world import simulate

    notes = None
    if options.notes is not None:
        notes = {(label, number): value for label, number, value in json.loads(options.notes.read_text())}
    outcome = simulate(options.seed, notes=notes, traces=True)
    print("\n".join(outcome.trace or []))
    print(f"{outcome.violation or 'nothing was violated'} | digest {outcome.digest}")
    return 1 if outcome.violation else 0


def _shrink(options: argparse.Namespace) -> int:
    notes, outcome = _shrunk(options.seed)
    print("\n".join(outcome.trace or []))
    _print_notes(notes)
    if options.notes is not None:
        options.notes.write_text(json.dumps([[label, number, value] for (label, number), value in notes.items()]))
    print(outcome.violation)
    return 1


def _ci(options: argparse.Namespace) -> int:
    """Every mutant; random schedules, each in two processes that must agree; every call."""
    # First, while nothing has imported the engine here.
    failed = _mutants(argparse.Namespace(quick=True, only=None, jobs=2, starts=0))
    from tests.simulation.runner import Tally, missing_faults, run_shared

    start = options.start
    one, other = run_shared(start, jobs=2, seconds=options.seconds, same_seeds=True)
    total = Tally()
    total.add(one)
    _print_tally(total, start)
    failed |= _report(total)
    for seed in sorted(one.digests.keys() & other.digests.keys()):
        if one.digests[seed] != other.digests[seed]:
            print(f"seed {seed} is not the same in two processes: {one.digests[seed]} and {other.digests[seed]}")
            failed = 1
            break
    if missing := missing_faults(total):
        print(f"C1: this never occurred: {', '.join(missing)}")
        failed = 1
    return failed | _calls(options)


def _calls(_: argparse.Namespace) -> int:
    from tests.simulation.calls import sweep

    schedules, failures = 0, []
    for case in sweep():
        schedules += 1
        if case.violation is not None:
            failures.append(case)
            print(f"{case.violation} | {case.fault.name} at call {case.call} of DAG {case.dag!r}")
    print(f"{schedules} schedules: everything that can go wrong at every call of three small DAGs")
    return 1 if failures else 0


def _mutants(options: argparse.Namespace) -> int:
    from tests.simulation.mutants import MUTANTS, SEEDS_MAX
    from tests.simulation.runner import kill_all

    chosen = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    fixed = list(STARTS[: options.starts])
    starts = {mutant.name: [mutant.seed] if options.quick or mutant.is_rare else fixed for mutant in chosen}
    orders = [(mutant.name, starts[mutant.name], SEEDS_MAX) for mutant in chosen]
    survivors = 0
    print(f"{'mutant':<58} {'median':>6} {'worst':>6}  killed by")
    for found in kill_all(orders, jobs=options.jobs):
        seeds = [each["seeds"] for each in found["killed"]]
        killers = Counter(each["by"] for each in found["killed"] if each["by"])
        if found["error"] or None in seeds:
            survivors += 1
            print(f"{found['name']:<58} {found['error'] or f'SURVIVED {seeds}'}")
        else:
            names = ", ".join(f"{name} {count}" for name, count in killers.most_common())
            first = "" if options.quick else f", first with seed {found['killed'][0]['seed']}"
            print(f"{found['name']:<58} {statistics.median(seeds):>6g} {max(seeds):>6}  {names}{first}")
        sys.stdout.flush()
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


def _work(options: argparse.Namespace) -> int:
    from tests.simulation.runner import work

    print(work(options.order).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
