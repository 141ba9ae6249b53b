"""What the tasks of `sample.yaml` run: each gets its task's context, and returns what is stored as its result."""

from aiorch import TaskContext


async def init(context: TaskContext) -> dict[str, int]:
    first = (context.input or {}).get("first", 1)
    return {"first": first, "count": context.parameters["count"]}


def make_numbers(context: TaskContext) -> list[int]:
    """Sync functions run in a thread, so they may block."""
    begin = context.results["Init"]
    return list(range(begin["first"], begin["first"] + begin["count"]))


async def add(context: TaskContext) -> int:
    return sum(context.results["Step1"])


def multiply(context: TaskContext) -> int:
    product = 1
    for number in context.results["Step1"]:
        product *= number
    return product


async def report(context: TaskContext) -> str:
    return f"sum {context.results['Branch1']}, product {context.results['Branch2']}"
