"""The JSON Schema of definitions: generated from the models, shipped, and true."""

import json
import random
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import Field, create_model

from aiorch.definition import models
from aiorch.definition.build import DAGBuilder
from aiorch.definition.models import Branch, Definition, all_steps, definition_schema
from aiorch.model.enums import OnFailure, OnLost
from aiorch.model.retry import RetryPolicy
from aiorch.steps import Retry, TaskStep
from tests.definitions import problems_if_any, problems_of
from tests.language import Writer
from tests.unit.test_build import JSON_VALUES, places
from tests.unit.test_levels import some_levels

MODELS = {model.__name__: model for model in (Branch, Retry, *all_steps().values())}


def shipped() -> str:
    return files("aiorch.definition").joinpath("schema.json").read_text(encoding="utf-8")


def test_the_shipped_schema_is_what_the_models_say():
    """`python -m aiorch.definition > aiorch/definition/schema.json` was run after the last change of the models."""
    made = subprocess.run([sys.executable, "-m", "aiorch.definition"], check=True, capture_output=True, text=True)
    # As data: versions of pydantic write 0 or 0.0, which are the same.
    assert json.loads(made.stdout) == json.loads(shipped())
    assert made.stderr == ""


def test_the_schema_says_which_draft_it_is():
    """Editors choose their validator by `$schema`."""
    assert definition_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_of_the_language_is_in_the_schema_with_a_description():
    """Whoever hovers over a key reads what it is; no key is missing, and none is there that is refused."""
    schema = definition_schema()
    for name, model in {**MODELS, "Definition": Definition}.items():
        part = schema if name == "Definition" else schema["$defs"][name]
        assert part["additionalProperties"] is False
        assert part["description"] == model.__doc__
        assert set(part["properties"]) == {field.alias or key for key, field in model.model_fields.items()}
        for key, value in part["properties"].items():
            assert value["description"].endswith("."), key


def test_the_schema_nests_to_any_depth():
    """Steps hold branches, and branches hold steps, by reference."""
    parts = definition_schema()["$defs"]
    assert parts["ParallelStep"]["properties"]["branches"]["items"] == {"$ref": "#/$defs/Branch"}
    assert parts["Branch"]["properties"]["steps"]["additionalProperties"] == {"$ref": "#/$defs/Step"}
    kinds = [kind["$ref"].rpartition("/")[2] for kind in parts["Step"]["oneOf"]]
    assert kinds == [model.__name__ for model in all_steps().values()]
    assert set(references(definition_schema())) <= {f"#/$defs/{name}" for name in parts}


def model_of_a_package(name: str, key: str, **fields: Any) -> Any:
    """A model with the name of a different class, and a key of its own."""
    fields[key] = (str, Field("", description="Its own key."))
    return create_model(name, __base__=TaskStep, __module__=f"package_with_{key}", **fields)


def test_classes_of_packages_may_have_names_that_are_taken(monkeypatch: pytest.MonkeyPatch):
    """Names of aiorch, and names of a different package: each reference leads to the class that is meant."""
    inner = {name: (model_of_a_package(name, "inner"), ...) for name in ("Step", "Branch", "Definition")}
    taken = {
        "One": model_of_a_package("FunctionStep", "one", **inner),
        "Two": model_of_a_package("Twice", "two"),
        "Three": model_of_a_package("Twice", "three"),
    }
    steps = all_steps() | taken
    monkeypatch.setattr(models, "all_steps", lambda: steps)
    schema, own = definition_schema(), json.loads(shipped())
    parts = schema["$defs"]
    assert set(references(schema)) <= {f"#/$defs/{name}" for name in parts}

    def part(reference: dict[str, str]) -> Any:
        found = parts[reference["$ref"].rpartition("/")[2]]
        return part(found) if found.keys() == {"$ref"} else found

    assert {**schema, "$defs": None} == {**own, "$defs": None}
    assert part({"$ref": "#/$defs/Branch"}) == own["$defs"]["Branch"]
    for reference, model in zip(parts["Step"]["oneOf"], steps.values(), strict=True):
        assert set(part(reference)["properties"]) == {field.alias or key for key, field in model.model_fields.items()}
    for name in inner:
        assert "inner" in part(part(parts["Step"]["oneOf"][list(steps).index("One")])["properties"][name])["properties"]


def references(value: Any) -> list[str]:
    """Every `$ref` in *value*, `properties` of that name aside."""
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for item in value.values() for found in references(item)]


def test_schema_accepts_no_null():
    """A key that may be left out is not a key that may be null: both the schema and the validation refuse null."""
    schema = definition_schema()
    types = schema["properties"]["inputs"]["additionalProperties"]["anyOf"][0]["enum"]
    types.remove("null")  # a type of inputs
    text = json.dumps(schema)
    assert '"null"' not in text
    assert '"default": null' not in text


def test_the_closed_sets_are_those_of_the_engine():
    """The values that a step may have are those that the engine knows."""
    parts = definition_schema()["$defs"]
    assert parts["OnLost"]["enum"] == [value.value for value in OnLost]
    assert parts["OnFailure"]["enum"] == [value.value for value in OnFailure]


def test_the_defaults_of_retry_are_those_of_the_engine():
    """What the schema calls a default is what a run does without the key."""
    defaults = {
        name: field["default"]
        for name, field in definition_schema()["$defs"]["Retry"]["properties"].items()
        if "default" in field
    }
    policy = RetryPolicy()
    assert defaults == {name: getattr(policy, name) for name in defaults}
    assert set(defaults) == set(RetryPolicy.__struct_fields__) - {"on"}
    assert policy.on == ()


def test_the_schema_may_be_named_in_a_definition():
    """`$schema` is accepted, and changes nothing else."""
    step = {"type": "Task", "target_type": "Function", "target_name": "m:f", "end": True}
    dag = DAGBuilder({"$schema": "./definition.schema.json", "start": "A", "steps": {"A": step}}).build_dag()
    assert list(dag.nodes) == ["A"]


# -- the schema and the checks agree ---------------------------------------------------------------------------------

TASK = {"type": "Task", "target_type": "Function", "target_name": "m:f"}
CHOICE = {"type": "Choice", "choices": [{"when": "input.x", "next": "B"}]}
FAIL = {"type": "Fail", "error": "Wrong"}


VALIDATOR = Draft202012Validator(json.loads(shipped()))


def schema_accepts(data: Any) -> bool:
    return VALIDATOR.is_valid(data)


def chain_of(first: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A chain of a step, and of one that follows if the step does not end the chain."""
    ends = first.get("end") or (first["type"] == "Fail" and "when" not in first)
    return {"start": "A", "steps": {"A": first} | ({} if ends else {"B": {**TASK, "end": True}}), **keys}


RIGHT = [
    chain_of({**TASK, "end": True}),
    chain_of({**TASK, "next": "B", "end": False}),
    chain_of({**TASK, "next": "B", "when": "input.x", "result": None, "catch": [{"result": None}]}),
    chain_of(CHOICE),
    chain_of(FAIL),
    chain_of({**FAIL, "when": "input.x", "next": "B"}),
    chain_of({"type": "Wait", "seconds": 5, "next": "B"}),
    chain_of({"type": "Wait", "seconds": "${ input.x }", "next": "B"}),
    chain_of({"type": "Wait", "until": "2026-12-01T08:00:00Z", "end": True}),
    chain_of({**TASK, "end": True, "retry": [{"on": ["Timeout"]}, {"max_attempts": 2}]}),
    chain_of(
        {"type": "Parallel", "end": True, "branches": [{"steps": {"C": TASK}, "on_failure": "wait"}], "timeout": 5}
    ),
    {"steps": {"A": TASK, "B": {**TASK, "needs": ["A"]}, "C": {**FAIL, "end": False}}, "on_failure": "wait"},
    chain_of({**TASK, "end": True}, output={"x": "${ results.A }"}, secrets=["api_key"]),
    {**chain_of({**TASK, "end": True}), "finally": {"steps": {"F": TASK}, "timeout": 5}},
]

WRONG = [
    {"steps": {}},
    {"start": "A", "steps": {}},
    chain_of({**TASK, "next": "B", "end": True}),
    {"start": "A", "steps": {"A": TASK}},
    {"start": "A", "steps": {"A": {**TASK, "end": False}}},
    {"steps": {"A": {**TASK, "end": True}}},
    {"steps": {"A": {**TASK, "next": "B"}, "B": TASK}},
    {"steps": {"A": CHOICE, "B": TASK}},
    {"steps": {"A": {**TASK, "catch": [{"next": "B"}]}, "B": TASK}},
    {"steps": {"A": {**TASK, "needs": []}}},
    {"start": "A", "steps": {"A": {**TASK, "end": True, "needs": ["B"]}, "B": TASK}},
    chain_of({**TASK, "end": True}, on_failure="wait"),
    chain_of({**CHOICE, "next": "B"}),
    chain_of({**CHOICE, "when": "input.x"}),
    chain_of({**CHOICE, "result": 1}),
    chain_of({**CHOICE, "choices": []}),
    {"start": "A", "steps": {"A": {**FAIL, "end": True}}},
    {"start": "A", "steps": {"A": {**FAIL, "next": "B"}, "B": {**TASK, "end": True}}},
    chain_of({**TASK, "end": True, "catch": [{}]}),
    chain_of({**TASK, "end": True, "catch": [{"next": "A", "result": 1}]}),
    chain_of({**TASK, "end": True, "catch": []}),
    chain_of({**TASK, "end": True, "retry": []}),
    chain_of({**TASK, "end": True, "when": ""}),
    chain_of({"type": "Wait", "end": True}),
    chain_of({"type": "Wait", "end": True, "seconds": 5, "until": "2026-12-01T08:00:00Z"}),
    chain_of({"type": "Wait", "end": True, "seconds": "5"}),
    chain_of({"type": "Wait", "end": True, "seconds": -1}),
    chain_of({"type": "Pass", "end": True, "catch": [{"result": 1}]}),
    chain_of({**TASK, "end": True}, secrets=["a", "a"]),
    chain_of({**TASK, "end": True}, secrets=["A"]),
    {**chain_of({**TASK, "end": True}), "finally": {"steps": {"F": {**TASK, "end": True}}}},
]


@pytest.mark.parametrize("data", RIGHT, ids=str)
def test_a_right_definition_is_right_for_both(data: dict[str, Any]) -> None:
    """Editors show no mistake in a definition that can be run."""
    DAGBuilder(data).build_dag()
    assert schema_accepts(data)


@pytest.mark.parametrize("data", WRONG, ids=str)
def test_a_wrong_form_is_wrong_for_both(data: dict[str, Any]) -> None:
    """Editors show the mistakes that a schema can tell: keys, types, and the form of a level."""
    assert problems_of(data)
    assert not schema_accepts(data)


@settings(deadline=None)
@given(some_levels())
def test_the_schema_accepts_every_level_that_the_checks_accept(data: dict[str, Any]) -> None:
    """The schema knows no names of steps, so it may accept more, and never less."""
    if not problems_if_any(data):
        assert schema_accepts(data)


@st.composite
def some_definitions(draw: st.DrawFn) -> dict[str, Any]:
    """A definition that uses the whole language, with one value replaced, one key removed, or nothing changed."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    made = Writer(chance, draw(st.integers(1, 12)), lambda _: dict(TASK)).definition("d")
    keys = [key for key in places(made) if key]
    change = draw(st.sampled_from(["nothing", "replace", "remove", "rename"]))
    *around, last = draw(st.sampled_from(keys))
    place: Any = made
    for part in around:
        place = place[part]
    if change == "replace":
        place[last] = draw(JSON_VALUES)
    elif change == "remove":
        del place[last]
    elif change == "rename" and isinstance(place, dict):
        place[draw(st.sampled_from(["next", "needs", "when", "catch", "x", "result", "start", "end"]))] = place.pop(
            last
        )
    return made


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(some_definitions())
def test_any_definition_is_refused_in_words_or_right_for_both(data: dict[str, Any]) -> None:
    """No value breaks the checks, no mistake is told twice, and the schema accepts all that the checks accept."""
    found = problems_if_any(data)
    event("wrong" if found else "right")
    assert len(set(found)) == len(found)
    assert all(str(problem).isprintable() for problem in found)
    assert found or schema_accepts(data)
