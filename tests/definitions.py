"""Definitions of DAGs, as short as a test can write them down."""

from textwrap import dedent
from typing import Any

import pytest

from aiorch.definition.build import DAGBuilder
from aiorch.definition.source import Format, parse_definition
from aiorch.errors import DefinitionError, Problem


def task(next: str | None = None, **keys: Any) -> dict[str, Any]:
    """A step that calls ``t:work``, unless *keys* say otherwise."""
    step = {"type": "Task", "target_type": "Function", "target_name": "t:work", **keys}
    return {**step, **({"next": next} if next else {"end": True})}


def call(next: str | None = None, **keys: Any) -> dict[str, Any]:
    """A step that calls a Cloud Function."""
    function = {"target_type": "CloudFunction", "target_name": "load_orders", "url": "https://f.example/"}
    return task(next, **{**function, **keys})


def job(next: str | None = None, **keys: Any) -> dict[str, Any]:
    """A step that launches a Dataflow job."""
    place = {"project_id": "p", "region": "us-central1", "template_path": "gs://b/t"}
    return task(next, **{"target_type": "Dataflow", "target_name": "word-count", **place, **keys})


def parallel(*branches: dict[str, Any], next: str | None = None, **keys: Any) -> dict[str, Any]:
    """A step of these branches."""
    return {"type": "Parallel", "branches": list(branches), **keys, **({"next": next} if next else {"end": True})}


def chain(*names: str, **steps: dict[str, Any]) -> dict[str, Any]:
    """A DAG, or a branch: tasks of these names, then these steps, each followed by the next one."""
    steps = {**{name: task() for name in names}, **steps}
    linked = {}
    for name, following in zip(steps, [*list(steps)[1:], None], strict=True):
        step = {key: value for key, value in steps[name].items() if key != "end"}
        linked[name] = {**step, **({"next": following} if following else {"end": True})}
    return {"start": next(iter(steps)), "steps": linked}


def problems_of(source: Any) -> tuple[Problem, ...]:
    """Every mistake of a definition, of which there is at least one."""
    with pytest.raises(DefinitionError) as raised:
        DAGBuilder(source).build_dag()
    return raised.value.problems


def problems_if_any(source: Any) -> tuple[Problem, ...]:
    """Every mistake of a definition."""
    try:
        DAGBuilder(source).build_dag()
    except DefinitionError as error:
        return error.problems
    return ()


def only_problem(source: Any) -> Problem:
    """The one problem of *source*: it is reported once, and nothing besides it."""
    found = problems_of(source)
    assert len(found) == 1, found
    return found[0]


def in_text(text: str, language: Format = "yaml") -> list[str]:
    """Every mistake of a text, in the order of the text, with its position."""
    loaded = parse_definition(dedent(text).removeprefix("\n"), source="dag", format=language)
    return [str(problem) for problem in problems_of(loaded)]
