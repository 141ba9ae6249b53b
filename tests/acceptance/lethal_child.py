"""The child of the tests of lethal functions: goes on with a run whose only task kills the process."""

import asyncio
import os
import sys

from aiorch import Orchestrator, RunHandle, Settings, TaskContext, TaskStatus
from aiorch.settings import LaunchSettings

SETTINGS = Settings(sweep_interval_s=0.05, drain_s=0, launches=LaunchSettings(running_after_s=0))


async def main(state: str, calls: str, on_lost: str, when: str) -> None:
    log = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    handle: asyncio.Future[RunHandle] = asyncio.get_running_loop().create_future()

    async def kills(context: TaskContext) -> None:
        os.write(log, f"{context.attempt} {context.execution_id}\n".encode())
        if when == "running":
            run = await handle
            async for _ in run.changes():
                if run.run.nodes["A"].status is TaskStatus.RUNNING:
                    break
        os._exit(9)

    step = {"type": "Task", "target_type": "Function", "target_name": "t:kills", "on_lost": on_lost, "end": True}
    definition = {"start": "A", "steps": {"A": {**step, "retry": {"max_attempts": 9, "initial_delay": 0}}}}
    async with Orchestrator(f"sqlite:///{state}", functions={"t:kills": kills}, settings=SETTINGS) as orchestrator:
        run = await orchestrator.start(definition, run_id="r")
        handle.set_result(run)
        result = await run.wait()
        node = run.run.nodes["A"]
        assert node.error is not None
        print(result.status, node.error.type, node.attempt, node.launches, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
