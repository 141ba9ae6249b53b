"""The functions of `sample.yaml`: each gets the context of its task and returns the result of the task."""

import asyncio
import math
import time
from typing import Any

from aiorch import TaskContext

WORK_S = 0.5


async def init(context: TaskContext) -> dict[str, int]:
    first = (context.input or {}).get("first", 1)
    return {"first": first, "count": context.parameters["count"]}


def make_numbers(context: TaskContext) -> list[int]:
    if context.attempt == 1:
        raise OSError("the disk is busy")
    begin = context.results["Init"]
    return list(range(begin["first"], begin["first"] + begin["count"]))


async def add(context: TaskContext) -> dict[str, Any]:
    """An async function runs on the event loop, so it awaits and never blocks."""
    began_at = time.time()
    await asyncio.sleep(WORK_S)
    return {"sum": sum(context.results["Step1"]), "began_at": began_at, "ended_at": time.time()}


def multiply(context: TaskContext) -> dict[str, Any]:
    """A sync function runs in a thread, so it may block."""
    began_at = time.time()
    time.sleep(WORK_S)
    return {"product": math.prod(context.results["Step1"]), "began_at": began_at, "ended_at": time.time()}


async def report(context: TaskContext) -> str:
    branches = context.results["Branch1"], context.results["Branch2"]
    both_s = min(branch["ended_at"] for branch in branches) - max(branch["began_at"] for branch in branches)
    return f"sum {branches[0]['sum']}, product {branches[1]['product']}, worked out at the same time for {both_s:.1f} s"
