"""Callables that an orchestrator comes to know of after it has looked at the open runs."""

import sys
from pathlib import Path

from aiorch import Orchestrator, RunStatus, Settings
from aiorch.settings import LaunchSettings
from aiorch.stores.memory import MemoryStore

FAST = Settings(sweep_interval_s=0.05, drain_s=0, launches=LaunchSettings(running_after_s=0.01))

MODULE = """
import asyncio

async def first_time_for_ever(context):
    if context.attempt == 1:
        await asyncio.Event().wait()
    return context.attempt
"""
DEFINITION = """
start: A
steps:
  A: {type: Task, target_type: Function, target_name: "late_callables:first_time_for_ever", end: true}
"""


async def test_a_run_goes_on_with_callables_found_beside_its_definition(tmp_path: Path) -> None:
    """A process that took over a run before it knew where its callables are launches it when it is told."""
    (tmp_path / "late_callables.py").write_text(MODULE)
    definition = tmp_path / "late.yaml"
    definition.write_text(DEFINITION)
    store = MemoryStore()
    async with Orchestrator(store, settings=FAST) as first:
        await first.start(definition, run_id="a")
    del sys.modules["late_callables"]  # as in another process
    async with Orchestrator(store, settings=FAST) as second:
        result = await (await second.start(definition, run_id="a")).wait()
    assert result.status is RunStatus.COMPLETED
    assert result.results["A"] == 2
