"""The JSON Schema of definitions: generated from the models, shipped, and true."""

import json
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
from pydantic import Field, create_model

from aiorch.definition import models
from aiorch.definition.build import DAGBuilder
from aiorch.definition.models import Branch, Definition, all_steps, definition_schema
from aiorch.model.enums import OnFailure, OnLost
from aiorch.model.retry import RetryPolicy
from aiorch.steps import Retry, TaskStep

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
    text = json.dumps(definition_schema())
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
