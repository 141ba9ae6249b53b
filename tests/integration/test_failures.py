"""What a failure keeps of the exception that a callable raised, and how much of all failures one document keeps."""

import asyncio
from typing import Any

import msgspec
import pytest

from aiorch import Failure, RunStatus, TaskContext
from aiorch.model.failure import FAILURES_BYTES_MAX, PARTS_KEPT, TRACEBACK_CHARS_MAX, TRACED_BYTES_MAX
from aiorch.stores.gcs import OBJECT_BYTES_MAX
from aiorch.targets.function.exceptions import failure_of as of_error
from tests.definitions import parallel
from tests.integration.test_orchestrator import chain, engine, named, task


async def failure_of(function: Any) -> Failure:
    """The failure that the run document keeps of *function*, read back from its JSON."""
    async with engine({"fails": function}) as orchestrator:
        run = await orchestrator.start(named(chain("fails")))
        assert (await run.wait()).status is RunStatus.FAILED
    entry = msgspec.json.decode(run.document())["fails"]
    return msgspec.convert(entry["error"], Failure)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_failure_keeps_the_whole_traceback(is_async: bool) -> None:  # noqa: FBT001
    """Every frame of the user's code and every exception behind the failure is in it, and no frame of the engine."""

    def parse() -> int:
        return int("n/a")

    def load(context: TaskContext) -> None:
        try:
            parse()
        except ValueError as error:
            raise RuntimeError("row 17") from error

    async def load_async(context: TaskContext) -> None:
        load(context)

    traceback = (await failure_of(load_async if is_async else load)).traceback
    assert traceback is not None
    for line in ("in parse", "in load", 'return int("n/a")', "ValueError: invalid literal", "RuntimeError: row 17"):
        assert line in traceback
    assert "direct cause of the following exception" in traceback
    assert all(word not in traceback for word in ("aiorch/targets", "anyio", "concurrent", "asyncio/"))


async def test_a_deep_traceback_loses_its_middle() -> None:
    """Of the frames of a deep recursion the first and the last are kept, and the others are counted."""

    def deeper(level: int) -> None:
        if level == 0:
            raise KeyError("at the bottom")
        shallower(level)

    def shallower(level: int) -> None:
        deeper(level - 1)

    async def fails(context: TaskContext) -> None:
        deeper(200)

    traceback = (await failure_of(fails)).traceback
    assert traceback is not None
    lines = traceback.splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "KeyError: 'at the bottom'")
    assert lines[1].endswith("in fails")
    assert lines[-3].endswith("in deeper")
    assert "  … 362 frames left out" in lines


async def test_a_long_traceback_loses_its_middle() -> None:
    """Of a traceback above the limit the beginning and the end are kept, in whole lines."""

    async def fails(context: TaskContext) -> None:
        raise KeyError("the end") from ValueError("line\n" * 2000)

    traceback = (await failure_of(fails)).traceback
    assert traceback is not None
    assert len(traceback) <= TRACEBACK_CHARS_MAX
    lines = traceback.splitlines()
    assert lines[0].startswith("ValueError: line")
    assert lines[-1] == "KeyError: 'the end'"
    assert "…" in lines
    assert set(lines[1 : lines.index("…")]) == {"line"}


async def test_a_failure_keeps_the_parts_of_an_exception_group() -> None:
    """Each exception of a group has its type, message and line, those of nested groups too; the rest are counted."""

    async def load(number: int) -> None:
        raise ConnectionError(f"host {number}")

    async def nested() -> None:
        raise ExceptionGroup("two", [TypeError("a"), TypeError("b")])

    async def fails(context: TaskContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(nested())
            for number in range(PARTS_KEPT + 3):
                group.create_task(load(number))

    failure = await failure_of(fails)
    assert failure.type == "ExceptionGroup"
    said = [(part.type, part.message) for part in failure.parts]
    assert said[:3] == [("TypeError", "a"), ("TypeError", "b"), ("ConnectionError", "host 0")]
    assert (len(said), failure.parts_left_out) == (PARTS_KEPT, 5)
    assert failure.parts[2].where is not None
    assert failure.parts[2].where.endswith("in load")


async def test_all_exceptions_of_a_wide_group_are_counted() -> None:
    """Of 20,000 exceptions the first few are told and all others counted, in the parts and in the traceback."""
    width = 20_000

    async def fails(context: TaskContext) -> None:
        wide = ExceptionGroup("wide", [OSError(f"host {number}") for number in range(width)])
        raise ExceptionGroup("loads", [ValueError("first"), wide])

    failure = await failure_of(fails)
    assert [part.message for part in failure.parts[:3]] == ["first", "host 0", "host 1"]
    assert len(failure.parts) + failure.parts_left_out == width + 1
    assert failure.traceback is not None
    assert f"host {PARTS_KEPT - 2}" in failure.traceback
    assert f"host {PARTS_KEPT - 1}" not in failure.traceback
    assert f"… {width + 1 - PARTS_KEPT:,} more exceptions left out" in failure.traceback


def test_a_wide_group_holds_the_event_loop_for_a_moment_only() -> None:
    """Exceptions that are left out are never put into words: of 20,000 as many are as of eleven."""
    asked = []

    class CountedError(Exception):
        def __str__(self) -> str:
            asked.append(self)
            return "busy"

    def words_asked(width: int) -> int:
        asked.clear()
        failure = of_error(ExceptionGroup("wide", [CountedError() for _ in range(width)]))
        assert len(failure.parts) + failure.parts_left_out == width
        return len(asked)

    assert 0 < words_asked(20_000) == words_asked(PARTS_KEPT + 1)


async def test_an_exception_that_cannot_be_shown_is_a_failure_all_the_same() -> None:
    """When the text of an exception raises, the failure says so, with the type and the line of the exception."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    async def fails(context: TaskContext) -> None:
        raise BrokenError

    failure = await failure_of(fails)
    assert (failure.type, failure.message) == (
        "BrokenError",
        "its message cannot be shown, because __str__ raised ZeroDivisionError",
    )
    assert failure.where is not None


@pytest.mark.parametrize(
    ("width", "attempts"),
    [pytest.param(9_800, 2, id="wide"), pytest.param(900, 5, id="many attempts")],
)
async def test_all_failures_of_a_document_share_its_room(width: int, attempts: int) -> None:
    """A run all of whose tasks fail in every attempt, with long messages and tracebacks, fits one upload at its end."""

    async def fails(context: TaskContext) -> None:
        try:
            raise OSError("y" * 2000)
        except OSError as error:
            raise ValueError("x" * 2000) from error

    retry = {"max_attempts": attempts, "initial_delay": 0}
    branches = [{"start": f"B{i}", "steps": {f"B{i}": task("fails", retry=retry)}} for i in range(width)]
    definition = named({"start": "P", "steps": {"P": parallel(*branches, on_failure="wait")}})
    async with engine({"fails": fails}) as orchestrator:
        run = await orchestrator.start(definition)
        assert (await run.wait()).status is RunStatus.FAILED
    errors = [error for state in run.run.nodes.values() if (error := state.error) is not None]
    assert len(errors) == width + 1
    assert len(run.document()) < OBJECT_BYTES_MAX
    traced = [error for error in errors if error.traceback is not None]
    assert TRACED_BYTES_MAX / 4 < sum(error.size for error in traced) <= TRACED_BYTES_MAX
    told = [error for error in errors if error.cause is not None]
    assert sum(error.size for error in told) <= FAILURES_BYTES_MAX
    assert {(error.type, error.message[:20]) for error in errors[1:]} == {("ValueError", "x" * 20)}
