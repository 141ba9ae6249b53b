"""The child of the tests of several processes: launches what it can until its standard input is closed."""

import asyncio
import os
import sys

from aiorch import Orchestrator, Settings, TaskContext


async def main(state: str, calls: str, side: str) -> None:
    log = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def works(context: TaskContext) -> str:
        os.write(log, f"{context.node} {side} {os.getpid()}\n".encode())
        await asyncio.sleep(0.02)
        return f"{side} after {len(context.results)}"

    settings = Settings(sweep_interval_s=0.05, drain_s=5)
    async with Orchestrator(f"sqlite:///{state}", functions={f"t:{side}": works}, settings=settings):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
