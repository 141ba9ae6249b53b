"""Leaving an orchestrator while some executions run and others wait for their turn."""

import asyncio
import threading
from collections import Counter

from aiorch import Orchestrator, Settings, TargetTypes, TaskContext, TaskStatus
from aiorch.model.dag import Task
from aiorch.ports.target import Answer, NotStarted
from tests.definitions import call, chain, parallel, task


class Refused:
    """A target that refuses every call."""

    begins_itself = True

    def __init__(self) -> None:
        self.tries = 0

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        context.begin()
        self.tries += 1
        return NotStarted("no connection")

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_leaving_begins_nothing_that_waits_for_its_turn() -> None:
    """Of three callables for one thread, and a refused call, the callable that runs ends, the rest is given back."""
    began: list[str] = []
    go, target = threading.Event(), Refused()

    def work(context: TaskContext) -> None:
        began.append(context.node)
        go.wait(20)

    branches = [chain(**{name: task(function="t:work")}) for name in "ABC"]
    async with Orchestrator(
        "memory:",
        functions={"t:work": work},
        targets={TargetTypes.CLOUD_FUNCTION: target},
        settings=Settings(drain_s=20, threads_max=1),
    ) as orchestrator:
        run = await orchestrator.start(chain(P=parallel(*branches, chain(Call=call()))))
        while not (began and target.tries):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(1.0, go.set)
    assert (len(began), target.tries) == (1, 1)
    ended = Counter(run.run.nodes[name].status for name in ("A", "B", "C", "Call"))
    assert ended == {TaskStatus.COMPLETED: 1, TaskStatus.RETRYING: 3}
