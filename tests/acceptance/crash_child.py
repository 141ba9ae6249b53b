"""The child of the crash tests: runs, or goes on with, one run of a nested DAG over SQLite."""

import asyncio
import os
import sys
from typing import Any

from aiorch import Orchestrator, Settings, TaskContext

ROUNDS = 20
"""So many that a run lasts longer than twenty short lives of its process, however slow the machine is."""

LEAF = {"type": "Task", "target_type": "Function", "target_name": "work"}


def definition() -> dict[str, Any]:
    """Twenty rounds of a Parallel of three branches, one of which holds a Parallel of four: 202 tasks."""
    steps: dict[str, Any] = {"Init": {**LEAF, "next": "P1"}}
    for round_ in range(1, ROUNDS + 1):
        inner = [_branch(f"r{round_}i{i}") for i in range(4)]
        nested = {"type": "Parallel", "branches": inner, "next": f"r{round_}n"}
        branches = [
            _branch(f"r{round_}a", f"r{round_}b", f"r{round_}c"),
            _branch(f"r{round_}d", f"r{round_}e"),
            {"start": f"N{round_}", "steps": {f"N{round_}": nested, f"r{round_}n": {**LEAF, "end": True}}},
        ]
        following = f"P{round_ + 1}" if round_ < ROUNDS else "End"
        steps[f"P{round_}"] = {"type": "Parallel", "branches": branches, "next": following}
    steps["End"] = {**LEAF, "end": True}
    return {"name": "crash", "start": "Init", "steps": steps}


def _branch(*names: str) -> dict[str, Any]:
    links = zip(names, [*names[1:], None], strict=True)
    return {
        "start": names[0],
        "steps": {name: {**LEAF, **({"next": after} if after else {"end": True})} for name, after in links},
    }


async def main(state: str, calls: str) -> None:
    log = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def work(context: TaskContext) -> str:
        os.write(log, f"{context.node} {context.attempt}\n".encode())
        print(context.node, flush=True)  # the parent counts these lines
        await asyncio.sleep(0.01)
        print(context.node, flush=True)
        return context.execution_id

    settings = Settings(sweep_interval_s=0.1, drain_s=0)
    async with Orchestrator(f"sqlite:///{state}", functions={"tests:work": work}, settings=settings) as orchestrator:
        run = await orchestrator.start(_named(definition()), run_id="crash")
        result = await run.wait()
    print("ended", result.status, flush=True)


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "tests:work" if each == "work" else _named(each) for key, each in value.items()}
    return [_named(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
