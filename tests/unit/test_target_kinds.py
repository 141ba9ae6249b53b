"""Kinds of targets: the table of them, packages that bring more, and stored definitions that name unknown ones."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import date
from importlib.metadata import EntryPoint
from typing import Any, Literal, Self

import pytest
from pydantic import ConfigDict, Field, field_validator, model_validator
from typing_extensions import TypedDict

from aiorch import DefinitionError, Settings, Task
from aiorch.definition.build import DAGBuilder
from aiorch.definition.models import all_steps, definition_schema
from aiorch.documents.executions import new_execution
from aiorch.errors import MalformedEventError, NewerSchemaError
from aiorch.events import EventFactory, Hint
from aiorch.model.enums import TargetTypes
from aiorch.model.execution_kind import CALL, CALLABLE, JOB
from aiorch.model.run_document import SCHEMA_VERSION
from aiorch.settings import TargetSettings
from aiorch.steps import Model, TaskStep
from aiorch.system.environment import service_variables
from aiorch.targets import kind as kinds
from aiorch.targets.cloud_function.settings import CloudFunctions
from aiorch.targets.kind import BUILT_IN, TargetKind, decoder_of, load, settings_classes, target_kind, target_kinds
from aiorch.targets.lazy import Targets
from aiorch.targets.unknown import UnknownTask
from tests.unit.test_fold import Scene

OTHER = TargetKind(
    name="Other",
    execution=JOB,
    step="aiorch.targets.function.step:FunctionStep",
    target="x:y",
    settings="x:z",
    events={"resource:other": f"{__name__}:ended", "resource:dataflow_step": f"{__name__}:ended"},
)
WRONG_NAME = TargetKind(name="Different", execution=JOB, step="", target="")
NEWER = TargetKind(name="Other", execution=JOB, step="", target="", schema_version=SCHEMA_VERSION + 1)
PLAIN = TargetKind(
    name="Other", execution=CALL, step=f"{__name__}:OtherStep", target=f"{__name__}:OtherTarget", limit=7
)
MISSING = "no_such_module:Part"
PARTS = {"step": f"{__name__}:OtherStep", "target": f"{__name__}:ended", "settings": f"{__name__}:OtherSettings"}
WITHOUT_STEP, WITHOUT_TARGET, WITHOUT_SETTINGS = (
    TargetKind(name="Other", execution=JOB, **(PARTS | {part: MISSING})) for part in PARTS
)
WITHOUT_DECODER = TargetKind(name="Other", execution=JOB, **PARTS, events={"resource:other": MISSING})
STEP_IS_NO_STEP = TargetKind(name="Other", execution=JOB, **(PARTS | {"step": f"{__name__}:ended"}))


class OtherTask(Task):
    target_kind = WITHOUT_TARGET


class OtherTarget:
    def __init__(self, own: TargetSettings, settings: Settings) -> None:
        self.given = own, settings

    def resolve(self, task: Task) -> str:
        return f"{self.given}"


class OtherStep(TaskStep):
    task_class = OtherTask
    target_type: Literal["Other"]


class NamedStep(OtherStep):
    """Its keys have the names of arguments in aiorch."""

    name: str
    parent_dag: str
    self: int


NAMED = TargetKind(name="Other", execution=JOB, **(PARTS | {"step": f"{__name__}:NamedStep"}))


class Item(Model):
    x: int = Field(description="A number.")
    y: date | None = Field(None, examples=[date(2026, 1, 2)], strict=False)


class Mark(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")
    text: str


class RichStep(OtherStep):
    """It uses what pydantic has."""

    items: list[Item] = Field(default_factory=list)
    named: dict[str, list[Item]] | None = None
    either: int | Item = 0
    marks: list[Mark] = Field(default_factory=list)
    low: int = 0
    high: int = 1
    even: int = 0

    @field_validator("even")
    @classmethod
    def is_even(cls, even: int) -> int:
        if even % 2:
            raise ValueError("only even numbers are allowed")
        return even

    @model_validator(mode="after")
    def is_in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


RICH = TargetKind(name="Other", execution=JOB, **(PARTS | {"step": f"{__name__}:RichStep"}))


class OtherSettings(TargetSettings):
    target_type = "Other"


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
        ("Other", f"{__name__}:NEWER", "cannot be loaded"),
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
    assert (caplog.records[0].action, caplog.records[0].target_type) == ("ignore_plugin", name)
    assert caplog.records[0].package == value.partition(":")[0]


def ask_for_target() -> None:
    with pytest.raises(KeyError):
        Targets(Settings())["Other"]


BROKEN: dict[str, tuple[str, Callable[[], object]]] = {
    "step": ("WITHOUT_STEP", all_steps),
    "settings": ("WITHOUT_SETTINGS", settings_classes),
    "target": ("WITHOUT_TARGET", ask_for_target),
    "resource:other": ("WITHOUT_DECODER", lambda: decoder_of("resource:other")),
}
"""By part: a kind whose package lacks it, and a function that needs it."""


@pytest.mark.parametrize("part", BROKEN)
def test_a_kind_without_one_of_its_parts_counts_as_not_installed(
    part: str, entry_points: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The first function that needs the part logs the package, the part and the reason once, and all others go on."""
    kind, needs = BROKEN[part]
    entry_points["Other"] = f"{__name__}:{kind}"
    assert target_kind("Other") is globals()[kind]
    for use in (needs, *(use for _, use in BROKEN.values()), definition_schema, service_variables):
        use()
    assert list(target_kinds()) == list(BUILT_IN)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"the package {__name__} brings the target type 'Other' but cannot be loaded: {part} {MISSING!r}: "
        "ModuleNotFoundError: No module named 'no_such_module'; this process does without the target type, so correct "
        "or uninstall the package"
    )
    assert (record.action, record.target_type, record.package) == ("ignore_plugin", "Other", __name__)


def test_a_part_of_a_wrong_type_counts_as_missing(
    entry_points: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A function in the place of the class of steps is refused before a definition meets it."""
    entry_points["Other"] = f"{__name__}:STEP_IS_NO_STEP"
    assert "Other" not in all_steps()
    assert "TypeError: it must be a subclass of TaskStep" in caplog.text


def test_a_plugin_without_its_step_spoils_no_message_about_other_steps(entry_points: dict[str, str]) -> None:
    """A misspelt key of a `Function` is compared with the keys of all kinds, and the damaged kind is left out."""
    entry_points["Other"] = f"{__name__}:WITHOUT_STEP"
    step = {"type": "Task", "target_type": "Function", "target_name": "a:b", "tmieout": 3, "end": True}
    with pytest.raises(DefinitionError, match="did you mean `timeout`"):
        DAGBuilder({"start": "A", "steps": {"A": step}}).build_dag()


def test_a_definition_of_a_damaged_plugin_is_refused_with_the_reason(entry_points: dict[str, str]) -> None:
    """The problem names the package and the part that cannot be loaded, and the next move."""
    entry_points["BigQuery"] = f"{__name__}:KIND_THAT_IS_MISSING"
    entry_points["Other"] = f"{__name__}:WITHOUT_STEP"
    for target_type, part in (
        ("Other", f"step {MISSING!r}: ModuleNotFoundError: No module named 'no_such_module'"),
        ("BigQuery", f"kind '{__name__}:KIND_THAT_IS_MISSING': AttributeError"),
    ):
        with pytest.raises(DefinitionError) as refused:
            stored(target_type=target_type).build_dag()
        (problem,) = refused.value.problems
        message = f"the package {__name__} brings the target type '{target_type}' but cannot be loaded: {part}"
        assert message in problem.message
        assert problem.message.endswith("; correct or uninstall it")


def test_a_stored_task_of_a_damaged_plugin_is_built(entry_points: dict[str, str]) -> None:
    """The process handles its run like that of a package that is not installed."""
    entry_points["Other"] = f"{__name__}:WITHOUT_STEP"
    assert isinstance(stored(target_type="Other").build_stored_dag().all_tasks["A"], UnknownTask)


def test_a_kind_for_newer_run_documents_is_refused(entry_points: dict[str, str]) -> None:
    """A run with such a kind would be written with a version that no process reads, this one included."""
    entry_points["Other"] = f"{__name__}:NEWER"
    with pytest.raises(DefinitionError, match=f"is {SCHEMA_VERSION + 1}, and this aiorch .* up to {SCHEMA_VERSION};"):
        stored(target_type="Other").build_dag()


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


def ended(event_data: dict[str, Any]) -> Any:
    key = event_data["key"]
    return key and Hint(event_data=event_data, target_type="Other", execution_key=key, hint="over")


def test_a_package_decodes_messages(entry_points: dict[str, str]) -> None:
    """Messages of its shapes are events, but for the shapes of built-in kinds; those of no kind are none."""
    entry_points["Other"] = f"{__name__}:OTHER"
    factory = EventFactory()
    event = factory.create_from_event({"resource": {"type": "other"}, "key": "k"})
    assert isinstance(event, Hint)
    assert (event.target_type, event.execution_key) == ("Other", "k")
    assert factory.create_from_event({"type": "other", "key": "k"}) is None
    assert factory.create_from_event({"resource": {"type": "dataflow_step"}, "key": "k"}) is None


@pytest.mark.parametrize(
    ("message", "reason"), [({}, "KeyError: 'key'"), ({"key": []}, "TypeError: it returned list, which is no event")]
)
def test_a_mistake_in_a_decoder_of_a_package_makes_the_message_malformed(
    message: dict[str, Any], reason: str, entry_points: dict[str, str]
) -> None:
    """The message is parked and names the package: given back, it would be delivered without end."""
    entry_points["Other"] = f"{__name__}:OTHER"
    with pytest.raises(MalformedEventError) as refused:
        EventFactory().create_from_event({"resource": {"type": "other"}, **message})
    assert refused.value.reason == f"the decoder of the package {__name__} failed with {reason}"


def test_a_message_for_a_missing_decoder_is_foreign(entry_points: dict[str, str]) -> None:
    """It is acknowledged, as in a process without the package."""
    entry_points["Other"] = f"{__name__}:WITHOUT_DECODER"
    assert EventFactory().create_from_event({"resource": {"type": "other"}}) is None


def test_a_shape_from_outside_is_not_remembered(entry_points: dict[str, str]) -> None:
    """Messages of a million shapes take no memory."""
    before = load.cache_info().currsize
    for number in range(100):
        assert decoder_of(f"resource:{number}") is None
    assert load.cache_info().currsize - before <= len(BUILT_IN)


# -- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_installed", [True, False])
def test_keys_of_a_kind_may_have_the_names_of_arguments(*, is_installed: bool, entry_points: dict[str, str]) -> None:
    """The task has them as options, in a process with the package and in one without."""
    if is_installed:
        entry_points["Other"] = f"{__name__}:NAMED"
    keys = {"name": "n", "parent_dag": "p", "self": 1}
    step = {"type": "Task", "target_type": "Other", "target_name": "x", "end": True, **keys}
    builder = DAGBuilder({"start": "A", "steps": {"A": step}})
    task = (builder.build_dag() if is_installed else builder.build_stored_dag()).all_tasks["A"]
    assert type(task) is (OtherTask if is_installed else UnknownTask)
    assert (task.name, task.options) == ("A", keys)


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        ({"items": [{"x": 1}, {}]}, {"items[1].x": "this key is missing. A number."}),
        ({"items": [{"x": "1"}]}, {"items[0].x": "must be a whole number, not '1'"}),
        ({"items": [1]}, {"items[0]": "must be a mapping, not the number 1"}),
        ({"items": [{"x": 1, "Y": 1}]}, {"items[0].Y": "unknown key; did you mean `y`?"}),
        ({"items": [{"x": 1, "low": 1}]}, {"items[0].low": "unknown key; known here: x, y"}),
        ({"items": [{"x": 1, "y": "?"}]}, {"items[0].y": ", not '?', e.g. \"2026-01-02\""}),
        ({"named": {"a": [{"x": 1}, {"x": None}]}}, {"named.a[1].x": "must be a whole number, not null"}),
        ({"named": {"a": []}, "either": {"x": 2}}, {}),
        (
            {"either": {"x": "2"}},
            {"either": "must be a whole number, not a mapping", "either.x": "must be a whole number, not '2'"},
        ),
        ({"marks": [{"text": "a", "low": 1}]}, {"marks[0].low": "unknown key"}),
        ({"marks": [{}]}, {"marks[0].text": "this key is missing"}),
        ({"low": 2}, {"": "low is above high"}),
        ({"even": 3}, {"even": "only even numbers are allowed"}),
        ({"lo": 2}, {"lo": "unknown key; did you mean `low`?"}),
        ({"url": "x"}, {"url": "`url` is a key of CloudFunction steps, and this is a Other step"}),
    ],
)
def test_mistakes_in_the_keys_of_a_kind_are_explained(
    keys: dict[str, Any], problems: dict[str, str], entry_points: dict[str, str]
) -> None:
    """Items of lists and mappings, unions, and validators for fields and for whole steps: each mistake at its path."""
    entry_points["Other"] = f"{__name__}:RICH"
    step = {"type": "Task", "target_type": "Other", "target_name": "x", "end": True, **keys}
    found = {}
    try:
        DAGBuilder({"start": "A", "steps": {"A": step}}).build_dag()
    except DefinitionError as refused:
        found = {each.path.removeprefix("steps.A").removeprefix("."): each.message for each in refused.problems}
    assert found.keys() == problems.keys()
    assert all(found[path].endswith(message) for path, message in problems.items()), found


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


def test_only_kinds_with_a_place_expect_the_region_of_the_settings() -> None:
    """The record of an execution names the region from which its completion must come; most kinds have none."""
    call = {"type": "Task", "target_type": "CloudFunction", "target_name": "load", "end": True}
    job = {"type": "Task", "target_type": "Dataflow", "target_name": "etl", "template_path": "gs://b/t", "end": True}
    other = {"type": "Task", "target_type": "BigQuery", "sql": "select 1", "region": "asia-east1", "end": True}
    function = {"type": "Task", "target_type": "Function", "target_name": "m:f", "end": True}
    steps = {
        "call": call,
        "call elsewhere": call | {"region": "us-central1"},
        "call of a URL": call | {"url": "https://x.example"},
        "job": job,
        "other": other,
        "function": function,
    }
    regions = {}
    for name, step in steps.items():
        dag = DAGBuilder({"start": "A", "steps": {"A": step}}).build_stored_dag()
        task, header = dag.all_tasks["A"], Scene(dag).header()
        regions[name] = new_execution(task, task.kind.blank(task), header, default_region="europe-west1").region
    assert regions == {
        "call": "europe-west1",
        "call elsewhere": "us-central1",
        "call of a URL": None,
        "job": "europe-west1",
        "other": None,
        "function": None,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("timeout", "1h"), ("retry", 3), ("parameters", ["x"]), ("function", "a function.py"), ("on_lost", "ask")),
        *(("target_name", ["a", "b"]), ("comment", {"en": "x"})),
    ],
)
def test_a_stored_task_of_an_unknown_kind_may_use_shared_keys_in_its_own_way(key: str, value: object) -> None:
    """A package may give a key of all tasks another type: the key is an option, and the task has its default."""
    task = stored(**{key: value}).build_stored_dag().all_tasks["A"]
    default = stored().build_stored_dag().all_tasks["A"]
    assert task.options == {"sql": "select 1", key: value}
    assert getattr(task, key) == getattr(default, key)


@pytest.mark.parametrize("links", [{"end": "yes"}, {"end": False, "next": 1}, {"end": False, "next": "B"}])
def test_a_stored_task_of_an_unknown_kind_has_the_links_of_all_steps(links: dict[str, Any]) -> None:
    """Without the following step the run could not be folded, so a wrong link is refused."""
    with pytest.raises(DefinitionError, match=r"steps\.A\.(end|next)"):
        stored(**links).build_stored_dag()


def test_a_given_task_of_an_unknown_kind_is_refused() -> None:
    """Only a stored definition was checked by a process that knows the kind. The keys of the kind are not judged."""
    with pytest.raises(DefinitionError) as refused:
        stored().build_dag()
    (problem,) = refused.value.problems
    assert problem.path == "steps.A.target_type"
    assert problem.message == (
        "must be `Function`, `CloudFunction` or `Dataflow`, not 'BigQuery'; no installed package brings the target "
        "type 'BigQuery': install the package that does, or correct the name"
    )


def test_a_misspelt_kind_is_no_plugin() -> None:
    """A name that is nearly a known one gets the hint of that one, and none at plugins."""
    with pytest.raises(DefinitionError, match="did you mean `Dataflow`") as refused:
        stored(target_type="DataFlo").build_dag()
    assert "package" not in str(refused.value)


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


def test_a_kind_needs_no_settings_of_its_own(entry_points: dict[str, str]) -> None:
    """Its target gets the settings that all kinds have; it brings no option and no variable."""
    entry_points["Other"] = f"{__name__}:PLAIN"
    before = service_variables(installed=False)
    assert service_variables() == before
    step = {"type": "Task", "target_type": "Other", "target_name": "x", "end": True}
    task = DAGBuilder({"start": "A", "steps": {"A": step}}).build_dag().all_tasks["A"]
    settings = Settings(region="r")
    target = Targets(settings)["Other"]
    assert target.limit == 7
    assert target.resolve(task) == f"{(TargetSettings(), settings)}"
