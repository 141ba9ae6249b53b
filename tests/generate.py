"""Random DAG definitions and outcomes, for property tests."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.definitions import chain
from tests.language import Writer, example_input


@dataclass
class Budget:
    """How many nodes a definition may still get, and the names given so far."""

    nodes: int
    names: int = 0
    tasks: list[str] = field(default_factory=list)

    def name(self) -> str:
        self.nodes -= 1
        self.names += 1
        return f"n{self.names}"


@st.composite
def definitions(draw: st.DrawFn, nodes_max: int = 200, *, on_failure: str | None = None) -> dict[str, Any]:
    """A valid definition of at most *nodes_max* nodes, nested at will; *on_failure* fixes what all `Parallel`s do."""
    budget = Budget(draw(st.integers(1, nodes_max)))
    return {"name": "random", **_chain(draw, budget, on_failure, depth=0)}


def _chain(draw: st.DrawFn, budget: Budget, on_failure: str | None, depth: int) -> dict[str, Any]:
    length = draw(st.integers(1, 4))
    names = [budget.name()]
    while len(names) < length and budget.nodes > 0:
        names.append(budget.name())
    return chain(**{name: _step(draw, budget, name, on_failure, depth) for name in names})


def _step(draw: st.DrawFn, budget: Budget, name: str, on_failure: str | None, depth: int) -> dict[str, Any]:
    if budget.nodes > 0 and depth < 4 and draw(st.integers(0, 2)) == 0:
        branches = [_chain(draw, budget, on_failure, depth + 1)]
        more = draw(st.integers(0, 6))
        branches += [_chain(draw, budget, on_failure, depth + 1) for _ in range(more) if budget.nodes > 0]
        policy = on_failure or draw(st.sampled_from(["fail_fast", "wait"]))
        return {"type": "Parallel", "branches": branches, "on_failure": policy}
    if draw(st.integers(0, 9)) == 9:
        return {"type": "Pass", "result": name}
    budget.tasks.append(name)
    step = {"type": "Task", "target_type": "Function", "target_name": "tests.generate:nothing"}
    attempts = draw(st.integers(1, 3))
    if attempts > 1:
        delay = draw(st.sampled_from([0, 1, 30]))
        step["retry"] = {"max_attempts": attempts, "initial_delay": delay}
    if draw(st.integers(0, 4)) == 0:
        step["on_lost"] = "fail"
    return step


def nothing(context: Any) -> None:
    """What the tasks of a random definition name; property tests never call it."""


def idle_task(chance: random.Random) -> Callable[[str], dict[str, Any]]:
    """Return the `Writer.task` of property tests."""

    def task(_: str) -> dict[str, Any]:
        step: dict[str, Any] = {"type": "Task", "target_type": "Function", "target_name": "tests.generate:nothing"}
        if chance.random() < 0.4:
            step["retry"] = {"max_attempts": 2, "initial_delay": chance.choice((0, 1, 30))}
        if chance.random() < 0.2:
            step["on_lost"] = "fail"
        return step

    return task


@st.composite
def worded_definitions(
    draw: st.DrawFn, nodes_max: int = 30, *, on_failure: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A definition that uses the whole language, and an input for its runs."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    writer = Writer(chance, draw(st.integers(1, nodes_max)), idle_task(chance), on_failure=on_failure)
    return writer.definition("random"), example_input(chance)
