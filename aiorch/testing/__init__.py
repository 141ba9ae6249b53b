"""
Tools for tests of definitions, of aiorch and of code that uses it.

`run_case` tests a definition: the real engine runs it in virtual time, with scripted answers in place of its targets::

    outcome = run_case(Case("orders.yaml", answers={"Load": Answer(result=5), "*": Answer(error="Timeout")}))
    assert outcome.way == ("Load", "Ship")

Beside it: a store with faults, virtual time, reproducible randomness::

    store = FaultyStore(MemoryStore())
    store.arm("write", "runs/", Fault.LOST_REPLY)     # the next commit is applied, and its answer is lost
    async with Orchestrator(store, clock=ManualClock(), entropy=SeededEntropy(1), ...) as orchestrator:
        ...
"""

from aiorch.testing.cases.files import load_cases
from aiorch.testing.cases.records import Answer, Case, CaseFailedError, Expectation, Outcome, TargetCall
from aiorch.testing.cases.runner import run_case
from aiorch.testing.chance import SeededEntropy
from aiorch.testing.faulty_store import Armed, Call, Fault, FaultyStore
from aiorch.testing.observer import CountingObserver
from aiorch.testing.time import ManualClock, VirtualTimeLoop, in_virtual_time

__all__ = [
    "Answer",
    "Armed",
    "Call",
    "Case",
    "CaseFailedError",
    "CountingObserver",
    "Expectation",
    "Fault",
    "FaultyStore",
    "ManualClock",
    "Outcome",
    "SeededEntropy",
    "TargetCall",
    "VirtualTimeLoop",
    "in_virtual_time",
    "load_cases",
    "run_case",
]
