"""A kind of node that the engine has never heard of, in runs that it carries out."""

from aiorch import RunStatus
from tests.integration.test_orchestrator import chain, engine, named, task
from tests.unit.test_kinds import Copy


async def test_a_result_that_decides_is_read_from_its_record() -> None:
    """The engine reads a large result that the fold asks for, and the run goes on with it."""
    calls: list[str] = []

    async def large(context: object) -> str:
        return "x" * 5000

    async def after(context: object) -> None:
        calls.append("after")

    async with engine({"large": large, "after": after}) as orchestrator:
        definition = chain("A", "C", "End")
        definition["steps"] |= {"A": task("large", next="C"), "C": task("after", next="End"), "End": task("after")}
        dag = orchestrator.dag(named(definition))
        dag.nodes["C"].kind = Copy()
        result = await (await orchestrator.start(dag)).wait()
    assert result.status is RunStatus.COMPLETED
    assert result.results["C"] == "x" * 5000
    assert calls == ["after"]
