"""Results as tasks, users of the library and clients of the endpoint read them, and what they are told instead."""

import asyncio
import json
import re
from typing import Any

import pytest

from aiorch import (
    AiorchError,
    Client,
    NoResultError,
    ResultPendingError,
    RunTooLargeError,
    TaskContext,
    TaskNotFoundError,
    TaskStatus,
)
from aiorch.stores.memory import MemoryStore
from tests.definitions import parallel
from tests.integration.test_orchestrator import chain, engine, named, task

LARGE = "x" * 5000
"""Kept in the record of the execution."""


async def returns(context: TaskContext) -> str:
    return context.node


async def returns_large(context: TaskContext) -> str:
    return LARGE


async def fails(context: TaskContext) -> None:
    raise OSError("no luck")


FUNCTIONS = {"returns": returns, "large": returns_large, "fails": fails}


def nested(*names: str, function: str = "returns") -> dict[str, Any]:
    return {key: value for key, value in chain(*names).items() if key != "name"} | {
        "steps": {
            name: task(function, next=following) if following else task(function)
            for name, following in zip(names, [*names[1:], None], strict=True)
        }
    }


def diamond() -> dict[str, Any]:
    """``Load``, then ``Par`` of ``A`` and ``B`` (with ``Inner``), then ``Store``."""
    inner = {"start": "Inner", "steps": {"Inner": parallel(nested("Look", "Last"), nested("C"))}}
    return {
        "name": "diamond",
        "start": "Load",
        "steps": {
            "Load": task("returns", next="Par"),
            "Par": parallel(nested("A"), nested("B"), inner, next="Store"),
            "Store": task("returns"),
        },
    }


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("Laod", TaskNotFoundError, "no node of this name; did you mean 'Load'? 'Look' sees the results of 'Load'."),
        ("Zzz", TaskNotFoundError, "no node of this name. 'Look' sees the results of 'Load'."),
        ("Look", NoResultError, "'Look' is this task itself"),
        ("Last", NoResultError, "'Last' is a node that begins only after 'Look'"),
        ("Store", NoResultError, "'Store' is a node that begins only after 'Look'"),
        ("A", NoResultError, "'A' is a node of a branch beside 'Look'"),
        ("C", NoResultError, "'C' is a node of a branch beside 'Look'"),
        ("Par", NoResultError, "'Par' is a Parallel around 'Look'"),
    ],
)
async def test_a_result_that_a_task_does_not_see_is_explained(name: str, kind: type, said: str) -> None:
    """The error names the result, why the task does not see it, the name that was meant, and the results it sees."""
    raised: list[Exception] = []

    async def looks(context: TaskContext) -> None:
        assert name not in context.results
        assert context.results.get(name, "none") == "none"
        try:
            context.results[name]
        except KeyError as error:
            raised.append(error)

    definition = diamond()
    definition["steps"]["Par"]["branches"][2]["steps"]["Inner"]["branches"][0]["steps"]["Look"]["target_name"] = "looks"
    async with engine({**FUNCTIONS, "looks": looks}) as orchestrator:
        await (await orchestrator.start(named(definition))).wait()
    assert type(raised[0]) is kind
    assert said in str(raised[0])


async def test_a_task_is_told_that_a_parallel_has_no_result() -> None:
    """The error says that a Parallel has no result of its own, and names those that the task sees."""
    said: dict[str, str] = {}

    async def looks(context: TaskContext) -> None:
        for name in ("Par", "F"):
            try:
                context.results[name]
            except KeyError as error:
                said[name] = str(error)

    definition = {
        "name": "tolerant",
        "start": "Par",
        "steps": {"Par": parallel(nested("F"), nested("G"), next="Look"), "Look": task("looks")},
    }
    async with engine({**FUNCTIONS, "looks": looks}) as orchestrator:
        await (await orchestrator.start(named(definition))).wait()
    assert "it is a Parallel, and has no result of its own" in said["Par"]
    assert "'Look' sees the results of 'F', 'G'" in said["Par"]


async def test_a_handle_gives_results_wherever_they_are_kept() -> None:
    """The result of a task, of the run, of all tasks and the document: small ones and those in records alike."""
    definition = {
        "name": "two",
        "start": "Small",
        "steps": {"Small": task("returns", next="Big"), "Big": task("large")},
    }
    async with engine(FUNCTIONS) as orchestrator:
        run = await orchestrator.start(named(definition))
        await run.wait()
        assert run.run.nodes["Big"].result_in == "execution"
        assert (await run.result("Small"), await run.result("Big"), await run.result()) == ("Small", LARGE, LARGE)
        assert dict(await run.results()) == {"Small": "Small", "Big": LARGE}
        document = json.loads(await run.document_with_results())
        assert (document["Big"]["result"], document["Small"]["result"]) == (LARGE, "Small")
        assert "result_in" not in document["Big"]
        assert "result" not in json.loads(run.document())["Big"]
        with pytest.raises(RunTooLargeError, match="more than 5000 bytes of results"):
            await run.document_with_results(bytes_max=5000)


async def test_a_run_that_ends_with_a_parallel_comes_to_a_mapping() -> None:
    """The result of such a run is that of the last task of every branch, by its name."""
    definition = {
        "name": "fan",
        "start": "P",
        "steps": {"P": parallel(nested("A", "B"), nested("C", function="large"))},
    }
    async with engine(FUNCTIONS) as orchestrator:
        run = await orchestrator.start(named(definition))
        await run.wait()
        assert await run.result() == {"B": "B", "C": LARGE}


async def test_a_handle_says_why_there_is_no_result() -> None:
    """A run or task that has not ended, has failed or was skipped, and a name that is no task, are told apart."""
    definition = {
        "name": "bad",
        "start": "Good",
        "steps": {"Good": task("returns", next="Bad"), "Bad": task("fails", next="Rest"), "Rest": task("returns")},
    }
    async with Client(MemoryStore()) as client:
        waiting = await client.start(named(definition))
        for ask in (waiting.result(), waiting.result("Good")):
            with pytest.raises(ResultPendingError):
                await ask
    async with engine(FUNCTIONS) as orchestrator:
        run = await orchestrator.start(named(definition))
        await run.wait()
        expected: list[tuple[str | None, type[AiorchError], str]] = [
            (None, NoResultError, "is Failed, so it has no result (OSError: node 'Bad' failed: no luck)"),
            ("Bad", NoResultError, "there is no result of 'Bad': it is Failed (OSError: no luck)"),
            ("Rest", NoResultError, "there is no result of 'Rest': it is Skipped"),
            ("bda", TaskNotFoundError, "did you mean 'Bad'?"),
        ]
        for name, kind, said in expected:
            with pytest.raises(NoResultError, match=re.escape(said)) as raised:
                await run.result(name)
            assert type(raised.value) is kind
        assert await run.result("Good") == "Good"


async def test_results_stay_as_they_were_read_while_the_run_goes_on() -> None:
    """A large result that is committed after the results of a run were read is not among them."""
    go = asyncio.Event()

    async def waits(context: TaskContext) -> str:
        await go.wait()
        return LARGE

    definition = {
        "name": "two",
        "start": "A",
        "steps": {"A": task("returns", next="B"), "B": task("waits")},
    }
    async with engine({**FUNCTIONS, "waits": waits}) as orchestrator:
        run = await orchestrator.start(named(definition))
        while run.run.nodes["A"].status is not TaskStatus.COMPLETED:
            await asyncio.sleep(0)
        results = await run.results()
        go.set()
        await run.wait()
        assert dict(results) == {"A": "A"}
        assert dict(await run.results()) == {"A": "A", "B": LARGE}
