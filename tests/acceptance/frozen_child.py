"""The child of the freeze test: six runs at once, each of one call of a function with a short timeout."""

import asyncio
import sys

from aiorch import Orchestrator, Settings

TIMEOUT_S = 2.0
RUNS = 6


async def main(url: str) -> None:
    call = {"type": "Task", "target_type": "CloudFunction", "target_name": "f", "url": url, "timeout": TIMEOUT_S}
    definition = {"name": "frozen", "start": "Call", "steps": {"Call": {**call, "end": True}}}
    async with Orchestrator("memory:", settings=Settings(function_anonymous=True)) as orchestrator:
        runs = [await orchestrator.start(definition) for _ in range(RUNS)]
        results = await asyncio.gather(*(run.wait() for run in runs))
    print(*(f"{result.status}:{result.error.type if result.error else ''}" for result in results))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
