"""Running many schedules: one after the other here, or shared out to several Python processes."""

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COLLECT_EVERY = 40
"""Schedules between two collections of garbage, which the loop puts off while it runs."""


FAULTS = (
    "process that is not replaced", "store refused", "store reply_lost", "store late", "store repeated",
    "store throttled", "429 for its rate", "outage of the store", "damaged read",
    "given up while it is carried out", "conflict", "conflict with oneself",
    "applied and not told", "late and applied", "late and refused", "duplicate message", "redelivery after ack",
    "redelivery at the deadline", "ack lost", "nack", "poison message", "foreign event", "outage of the topic",
    "not started", "answer of a refused call lost", "defect after a call was sent", "defect after a job was launched",
    "call sent again for its result", "answer of a function lost", "event lost", "hint lost",
    "two starts with two ends",
    "api: not applied", "api: applied, no answer", "api: applied late", "409 for a job's name",
    "second start of an execution",
    "power cut", "pause", "freeze of all processes", "timeout after a pause", "drain", "jump of a clock", "called dead",
    "takeover of a launch", "attempt lost", "end before Running", "success while Retrying",
    "fields of a newer version", "document of a newer version", "resume", "cancel of no run",
    "supplementary function fails", "launch refused for good",
    "process that cannot launch everything", "task that is left to others",
)  # fmt: skip
"""C1: what must have occurred over a corpus, or it shows less than it seems to."""

RARE_FAULTS = frozenset({
    "second start of an execution", "cancel of no run", "success while Retrying", "409 for a job's name",
    "two starts with two ends",
})  # fmt: skip
"""Those that occur less often than once in twenty schedules."""

CORPUS, RARE_CORPUS = 1500, 20_000
"""Schedules after which all faults must have occurred but the rare ones, and those too."""


def missing_faults(tally: "Tally") -> list[str]:
    """Return what should have occurred by now, and has not."""
    due = {fault: RARE_CORPUS if fault in RARE_FAULTS else CORPUS for fault in FAULTS}
    return [fault for fault, schedules in due.items() if tally.schedules >= schedules and not tally.counts[fault]]


@dataclass
class Tally:
    """What came of many schedules."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Take in another one."""
        self.schedules += other.schedules
        self.steps += other.steps
        self.seconds = max(self.seconds, other.seconds)
        self.counts += other.counts
        self.failures += other.failures

    def to_json(self) -> bytes:
        """As one line."""
        return json.dumps(self.__dict__).encode()

    @classmethod
    def from_json(cls, line: bytes) -> "Tally":
        """Read what `to_json` wrote."""
        fields = json.loads(line)
        fields["counts"] = Counter(fields["counts"])
        fields["digests"] = {int(seed): digest for seed, digest in fields["digests"].items()}
        return cls(**fields)


def run_seeds(
    seeds: Iterable[int],
    *,
    seconds: float | None = None,
    failures_max: int = 1,
    keeps_digests: bool = False,
    tells: bool = False,
) -> Tally:
    """Run schedules until the seeds, the time or the patience is over; *tells* of each violation at once."""
    import gc

    from tests.simulation.world import simulate

    gc.collect()
    gc.freeze()
    tally, begun_at = Tally(), time.perf_counter()
    for seed in seeds:
        outcome = simulate(seed)
        tally.schedules += 1
        tally.steps += outcome.steps
        tally.counts += outcome.counts
        if keeps_digests:
            tally.digests[seed] = outcome.digest
        if outcome.violation is not None:
            if tells:
                print(f"seed {seed}: {outcome.violation}", file=sys.stderr, flush=True)
            tally.failures.append(
                {
                    "seed": seed,
                    "invariant": outcome.violation.invariant,
                    "message": str(outcome.violation),
                    "at_s": outcome.at_s,
                }
            )
            if len(tally.failures) >= failures_max:
                break
        if tally.schedules % COLLECT_EVERY == 0:
            gc.collect()
            gc.freeze()  # the definitions that schedules share stay, and each further collection would visit them
        if seconds is not None and time.perf_counter() - begun_at > seconds:
            break
    tally.seconds = time.perf_counter() - begun_at
    return tally


def run_shared(
    start: int,
    *,
    jobs: int,
    count: int | None = None,
    seconds: float | None = None,
    same_seeds: bool = False,
    failures_max: int = 1,
    pythons: list[str] | None = None,
) -> list[Tally]:
    """
    Run schedules in several Python processes, each with its own order of hashing.

    Args:
        start: First seed.

        jobs: Processes.

        count: Schedules in all; `None` for as many as there is time for.

        seconds: Time; `None` for no limit.

        same_seeds: All of them run the same seeds, and note the digests.

        failures_max: After how many failures each stops.

        pythons: Interpreters, one per job.
    """
    workers = []
    for job in range(jobs):
        step = 1 if same_seeds else jobs
        work = {
            "start": start if same_seeds else start + job,
            "step": step,
            "count": None if count is None else (count if same_seeds else len(range(job, count, jobs))),
            "seconds": seconds,
            "keeps_digests": same_seeds,
            "failures_max": failures_max,
        }
        workers.append(_begin("_work", json.dumps(work), hash_seed=job + 1, python=pythons[job] if pythons else None))
    return [Tally.from_json(output) for output in map(_end, workers)]


def _begin(*arguments: str, hash_seed: int = 1, python: str | None = None) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [python or sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)


def _end(worker: "subprocess.Popen[bytes]") -> bytes:
    output, _ = worker.communicate()
    if worker.returncode:
        raise SystemExit(f"a worker ended with {worker.returncode}")
    return output.splitlines()[-1]


def work(order: str) -> bytes:
    """Do what `run_shared` has ordered."""
    fields = json.loads(order)
    start, step, count = fields["start"], fields["step"], fields["count"]
    end = sys.maxsize if count is None else start + step * count
    return run_seeds(
        range(start, end, step),
        seconds=fields["seconds"],
        keeps_digests=fields["keeps_digests"],
        failures_max=fields["failures_max"],
        tells=True,
    ).to_json()


# -- mutants -----------------------------------------------------------------------------------------------------


def kill(order: tuple[str, list[int], int]) -> dict[str, Any]:
    """Return after how many seeds from each start a mutant was killed, and by what."""
    from tests.simulation.mutants import MUTANTS, DoesNotFitError, install

    name, starts, seeds_max = order
    killed: list[dict[str, Any]] = []
    try:
        install(next(mutant for mutant in MUTANTS if mutant.name == name))
        for start in starts:
            tally = run_seeds(range(start, start + seeds_max))
            failure = tally.failures[0] if tally.failures else {}
            seeds = tally.schedules if failure else None
            last = failure.get("seed")
            killed.append({"start": start, "seeds": seeds, "seed": last, "by": failure.get("invariant")})
    except DoesNotFitError as error:
        return {"name": name, "killed": [], "error": str(error)}
    return {"name": name, "killed": killed, "error": None}


def kill_all(orders: Iterable[tuple[str, list[int], int]], *, jobs: int) -> Iterable[dict[str, Any]]:
    """
    Yield what became of mutants, as they end.

    Each is run in a process of its own, forked from this one, which has imported everything but the engine.
    """
    _import_what_the_engine_imports()
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(kill, orders, chunksize=1)


def _import_what_the_engine_imports() -> None:
    for name in ("aiohttp", "anyio", "gcloud.aio.storage", "msgspec", "pydantic", "yaml", "yarl"):
        importlib.import_module(name)
