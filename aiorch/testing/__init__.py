"""
For tests of code that uses aiorch, and of aiorch itself: a store with faults, time and chance under control.

::

    store = FaultyStore(MemoryStore())
    store.arm("write", "runs/", Fault.LOST_REPLY)     # the next commit is applied, and nobody hears of it
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
