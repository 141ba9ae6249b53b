"""What becomes of Python values as inputs and results: the table of the documentation, row by row."""

import datetime as dt
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from aiorch import InvalidInputError, RunStatus, TaskContext
from tests.integration.test_orchestrator import chain, engine, named

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


class Colour(Enum):
    RED = "red"


@dataclass
class Parcel:
    weight: int


class Label(BaseModel):
    day: dt.date


class Plain:
    pass


def rows() -> list[tuple[str, str]]:
    """Each Python expression of the table with the JSON that stands beside it."""
    section = PAGE.read_text().partition("## Inputs and results as JSON")[2].partition("\n## ")[0]
    return [
        (expression, stored.strip("`"))
        for values, stored in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE)
        for expression in re.findall(r"`([^`]+)`", values.partition(", of ")[0])
    ]


NAMES = {**vars(dt), "Decimal": Decimal, "UUID": UUID, "Colour": Colour, "Parcel": Parcel, "Label": Label}


@pytest.mark.parametrize(("expression", "stored"), rows())
async def test_a_value_becomes_what_the_documentation_says(expression: str, stored: str) -> None:
    """As the input of a run and as the result of a task a value becomes the same JSON, that of the table."""
    value: Any = eval(expression, dict(NAMES))
    seen = []

    async def returns(context: TaskContext) -> Any:
        seen.append(context.input)
        return value

    async with engine({"returns": returns}) as orchestrator:
        run = await orchestrator.start(named(chain("returns")), input=value)
        result = await run.wait()
    assert result.status is RunStatus.COMPLETED
    expected = value if stored == "itself" else json.loads(stored)
    assert [result.results["returns"], *seen] == [expected, expected]
    assert type(seen[0]) is type(expected)


def test_the_table_is_read() -> None:
    """The rows of the table are found: a change of its form must not leave the test above without cases."""
    assert len(rows()) > 20


@pytest.mark.parametrize("value", [Path("a"), ValueError("x"), range(3), 1 + 2j, Plain(), {(1, 2): 3}, {None: 1}])
async def test_other_values_are_refused(value: Any) -> None:
    """A value that has no JSON starts no run and fails the task that returns it."""

    async def returns(context: TaskContext) -> Any:
        return value

    async with engine({"returns": returns}) as orchestrator:
        with pytest.raises(InvalidInputError):
            await orchestrator.start(named(chain("returns")), input=value)
        run = await orchestrator.start(named(chain("returns")))
        await run.wait()
    error = run.run.nodes["returns"].error
    assert error is not None
    assert error.type == "ResultNotJSON"
