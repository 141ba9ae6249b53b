"""Kinds of targets: the table of them, packages that bring more, and stored definitions that name unknown ones."""

import logging
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from aiorch import DefinitionError, Settings
from aiorch.definition.build import DAGBuilder
from aiorch.errors import NewerSchemaError
from aiorch.events import EventFactory, Hint
from aiorch.model.enums import TargetTypes
from aiorch.model.execution_kind import CALL, CALLABLE, JOB
from aiorch.steps import TaskStep
from aiorch.targets import kind as kinds
from aiorch.targets.cloud_function.settings import CloudFunctions
from aiorch.targets.kind import BUILT_IN, TargetKind, decoder_of, load, target_kind, target_kinds
from aiorch.targets.lazy import Targets
from aiorch.targets.unknown import UnknownTask

OTHER = TargetKind(
    name="Other",
    execution=JOB,
    step="aiorch.targets.function.step:FunctionStep",
    target="x:y",
    settings="x:z",
    events={"resource:other": f"{__name__}:ended", "resource:dataflow_step": f"{__name__}:ended"},
)
WRONG_NAME = TargetKind(name="Different", execution=JOB, step="", target="", settings="")


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Entry points of installed packages, by name; nothing is remembered of those before."""
    found: dict[str, str] = {}

    def group(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, value, group) for name, value in found.items()]

    monkeypatch.setattr("importlib.metadata.entry_points", group)
    forget()
    yield found
    forget()


def forget() -> None:
    kinds._installed.cache_clear()
    kinds._installed_events.cache_clear()


def test_the_built_in_kinds_are_those_of_the_enumeration() -> None:
    """Each has a step of its name, a node class and settings of it, and parts that can be imported."""
    assert sorted(BUILT_IN) == sorted(set(TargetTypes) - {TargetTypes.START})
    for name, kind in ((name, target_kind(name)) for name in BUILT_IN):
        assert kind is not None
        assert kind.name == name
        assert kind.schema_version == 1
        step = load(kind.step)
        assert issubclass(step, TaskStep)
        assert step.task_class.target_kind is kind
        assert load(kind.settings).target_type == name
        assert callable(load(kind.target))


@pytest.mark.parametrize(("name", "execution"), [("Function", CALLABLE), ("CloudFunction", CALL), ("Dataflow", JOB)])
def test_each_kind_says_how_its_executions_are(name: str, execution: object) -> None:
    """The facts that decide what a run does when a process dies."""
    kind = target_kind(name)
    assert kind is not None
    assert kind.execution == execution


def test_a_package_brings_a_kind(entry_points: dict[str, str]) -> None:
    """An entry point of the group is a kind of its name."""
    entry_points["Other"] = f"{__name__}:OTHER"
    assert target_kind("Other") is OTHER
    assert list(target_kinds()) == [*BUILT_IN, "Other"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("Other", "no_such_module:KIND", "cannot be loaded"),
        ("Other", f"{__name__}:NO_SUCH_NAME", "cannot be loaded"),
        ("Other", f"{__name__}:logging", "cannot be loaded"),
        ("Other", f"{__name__}:WRONG_NAME", "cannot be loaded"),
        ("Dataflow", f"{__name__}:OTHER", "name that is taken"),
    ],
)
def test_a_package_that_is_wrong_is_ignored(
    name: str, value: str, why: str, entry_points: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """An error in the log says so, and all other kinds are there: a plugin must not keep a process from working."""
    entry_points[name] = value
    with caplog.at_level(logging.ERROR):
        assert list(target_kinds()) == list(BUILT_IN)
    assert len(caplog.records) == 1
    assert why in caplog.text
    assert caplog.records[0].entry_point == value


def test_packages_are_looked_through_for_unknown_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A definition of built-in kinds does not pay for plugins."""

    def refuse(**_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("importlib.metadata.entry_points", refuse)
    forget()
    step = {"type": "Task", "target_type": "Dataflow", "target_name": "x", "template_path": "gs://a/b", "end": True}
    dag = DAGBuilder({"start": "A", "steps": {"A": step}}).build_dag()
    targets = Targets(Settings())
    assert targets[dag.all_tasks["A"].target_type].limit == 25


# -- events ----------------------------------------------------------------------------------------------------------


def ended(event_data: dict[str, Any]) -> Hint:
    return Hint(event_data=event_data, target_type="Other", execution_key=event_data["key"], hint="over")


def test_a_package_decodes_messages(entry_points: dict[str, str]) -> None:
    """Messages of its shapes are events, but for the shapes of built-in kinds; those of no kind are none."""
    entry_points["Other"] = f"{__name__}:OTHER"
    factory = EventFactory()
    event = factory.create_from_event({"resource": {"type": "other"}, "key": "k"})
    assert isinstance(event, Hint)
    assert (event.target_type, event.execution_key) == ("Other", "k")
    assert factory.create_from_event({"type": "other", "key": "k"}) is None
    assert factory.create_from_event({"resource": {"type": "dataflow_step"}, "key": "k"}) is None


def test_a_shape_from_outside_is_not_remembered(entry_points: dict[str, str]) -> None:
    """Messages of a million shapes take no memory."""
    before = load.cache_info().currsize
    for number in range(100):
        assert decoder_of(f"resource:{number}") is None
    assert load.cache_info().currsize - before <= len(BUILT_IN)


# -- stored definitions ----------------------------------------------------------------------------------------------


def stored(**step: Any) -> DAGBuilder:
    steps = {"A": {"type": "Task", "target_type": "BigQuery", "sql": "select 1", "end": True, **step}}
    return DAGBuilder({"start": "A", "steps": steps, "name": "x"}, source="definitions/x.json")


def test_a_stored_task_of_an_unknown_kind_is_built() -> None:
    """It has the keys of all tasks, and all others as options; its process decides nothing about its executions."""
    task = stored(timeout=5, retry={"max_attempts": 3}, parameters={"a": 1}).build_stored_dag().all_tasks["A"]
    assert isinstance(task, UnknownTask)
    assert (task.target_type, task.target_name, task.timeout_s) == ("BigQuery", "A", 5)
    assert task.retry.max_attempts == 3
    assert task.parameters == {"a": 1}
    assert task.options == {"sql": "select 1"}
    assert task.execution is JOB
    assert task.parent_dag.schema_version == 2


def test_a_given_task_of_an_unknown_kind_is_refused() -> None:
    """Only a stored definition was checked by a process that knows the kind. The keys of the kind are not judged."""
    with pytest.raises(DefinitionError) as refused:
        stored().build_dag()
    (problem,) = refused.value.problems
    assert problem.path == "steps.A.target_type"
    assert "a plugin may bring it" in problem.message


def test_a_misspelt_kind_is_no_plugin() -> None:
    """A name that is nearly a known one gets the hint of that one, and none at plugins."""
    with pytest.raises(DefinitionError, match="did you mean `Dataflow`") as refused:
        stored(target_type="DataFlo").build_dag()
    assert "plugin" not in str(refused.value)


def test_a_stored_step_of_an_unknown_type_is_of_a_newer_version() -> None:
    """It is not called invalid: a newer process has stored it, and carries out its runs."""
    with pytest.raises(NewerSchemaError, match=r"step of type 'Map' at steps.A.type.*upgrade"):
        stored(type="Map").build_stored_dag()
    with pytest.raises(DefinitionError, match="must be `Task`"):
        stored(type="Map").build_dag()


# -- settings --------------------------------------------------------------------------------------------------------


def test_settings_of_a_kind_come_from_those_of_the_process() -> None:
    """The names of `Settings` that are rows of the table of a kind are its settings."""
    settings = Settings(function_url="https://x/{name}", function_anonymous=True, function_connections_max=7)
    assert CloudFunctions.of(settings) == CloudFunctions(url="https://x/{name}", anonymous=True, connections_max=7)


def test_names_of_settings_are_unique() -> None:
    """No two kinds share the name of a setting, and defaults are those of `Settings`."""
    rows = [row for kind in target_kinds().values() for row in load(kind.settings).rows()]
    assert len({row.name for row in rows}) == len(rows)
    defaults = {each.name: each.default for each in fields(Settings)}
    assert {row.name: row.default for row in rows if row.name in defaults}.items() <= defaults.items()
