"""
Tools for tests of aiorch and of code that uses it: a store with faults, virtual time, reproducible randomness.

::

    store = FaultyStore(MemoryStore())
    store.arm("write", "runs/", Fault.LOST_REPLY)     # the next commit is applied, and its answer is lost
    async with Orchestrator(store, clock=ManualClock(), entropy=SeededEntropy(1), ...) as orchestrator:
        ...
"""

from aiorch.testing.chance import SeededEntropy
from aiorch.testing.faulty_store import Armed, Call, Fault, FaultyStore
from aiorch.testing.observer import CountingObserver
from aiorch.testing.time import ManualClock, VirtualTimeLoop, in_virtual_time

__all__ = [
    "Armed",
    "Call",
    "CountingObserver",
    "Fault",
    "FaultyStore",
    "ManualClock",
    "SeededEntropy",
    "VirtualTimeLoop",
    "in_virtual_time",
]
