"""
The language of DAG definitions: a definition and its branches, the kinds of steps, and the JSON Schema.

``python -m aiorch.definition`` prints the schema, which is shipped as ``aiorch/definition/schema.json``. The models of
the steps belong to the kinds of nodes and of targets. A model covers one step: the levels inside a step are checked
step by step (`aiorch.definition.check`), so that neither depth nor one mistake hides further mistakes.
"""

import re
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from aiorch.model.enums import NodeTypes, OnFailure
from aiorch.model.findings import shown
from aiorch.model.labels import KEY_PATTERN, LABELS_MAX, VALUE_PATTERN
from aiorch.nodes.steps import STEPS
from aiorch.schemas.vocabulary import TYPES as TYPES_OF_JSON
from aiorch.steps import Given, Links, Model, Seconds, Step, TaskStep
from aiorch.targets.kind import load, part_of, target_kind, target_kinds

NODE_NAME_PATTERN = r"^[^$\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]{0,127}$"
DAG_NAME_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$"

Steps = Annotated[
    dict[str, Any],
    Field(min_length=1),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": NODE_NAME_PATTERN},
            "additionalProperties": {"$ref": "#/$defs/Step"},
        }
    ),
]


FINAL_TIMEOUT_S = 3600
# The values of the two are checked by `aiorch.definition.inputs` and `aiorch.model.labels`.
DeclaredInputs = dict[
    Annotated[str, Field(min_length=1, max_length=128)],
    Annotated[Any, WithJsonSchema({"anyOf": [{"enum": list(TYPES_OF_JSON)}, {"type": "object"}]})],
]
Labels = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": LABELS_MAX,
            "propertyNames": {"pattern": KEY_PATTERN},
            "additionalProperties": {"type": "string", "pattern": VALUE_PATTERN},
        }
    ),
]


_FORM_OF_SECRETS = r"^[a-z][a-z0-9_]{0,62}$"


def _secret_name(name: str) -> str:
    if not re.fullmatch(_FORM_OF_SECRETS, name):
        raise ValueError(
            f"the name of a secret begins with a-z and has up to 63 of a-z 0-9 _, and this is {shown(name)}"
        )
    return name


SecretName = Annotated[
    str, AfterValidator(_secret_name), WithJsonSchema({"type": "string", "pattern": _FORM_OF_SECRETS})
]


def _unique(names: list[str]) -> list[str]:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"{shown(name)} is named twice; take one of the two away")
    return names


Final = Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/$defs/FinalLevel"}]})]


class Branch(Model):
    """One level of steps, a chain or a graph: a branch of a `Parallel`."""

    start: Given[str] = Field(None, description="Name of the first step of a chain; a graph has none.")
    steps: Steps = Field(description="The steps by name. Names are unique in the whole definition.")
    on_failure: Given[Annotated[OnFailure, Strict(False)]] = Field(
        None,
        description="In a graph, when a step fails: cancel the remaining steps, or wait for those that do not need it.",
    )
    comment: Given[str] = Field(None, description="A note for readers.")


class FinalLevel(Branch):
    """The level that runs once after all other steps have ended, however the run has ended."""

    timeout: Given[Seconds] = Field(
        None, description=f"Longest duration in seconds, by default {FINAL_TIMEOUT_S}.", examples=[600]
    )


class Definition(Branch):
    """A DAG definition of aiorch: steps, one after the other or as a graph, some with levels inside."""

    name: Given[Annotated[str, Field(pattern=DAG_NAME_PATTERN)]] = Field(
        None, description="Name of the DAG; by default the name of its file.", examples=["nightly-etl"]
    )
    timeout: Given[Seconds] = Field(None, description="Longest duration of a run in seconds.", examples=[3600])
    inputs: Given[DeclaredInputs] = Field(
        None,
        description="The inputs of a run by name, each a type or a JSON Schema; one without a `default` is required.",
        examples=[{"day": {"type": "string", "format": "date"}}],
    )
    labels: Given[Labels] = Field(
        None, description="Fixed texts by key, to find the runs by.", examples=[{"team": "data"}]
    )
    final: Final = Field(
        None, alias="finally", description="Steps that run once after all others have ended, however the run has ended."
    )
    output: Any = Field(
        None,
        description="Result of the run; by default that of the last step.",
        examples=[{"rows": "${ results.Load.rows }"}],
    )
    secrets: Given[
        Annotated[list[SecretName], AfterValidator(_unique), Field(json_schema_extra={"uniqueItems": True})]
    ] = Field(
        None,
        description="Names of the secrets that parameters read; the operator of a process says where each comes from.",
        examples=[["api_key"]],
    )
    schema_version: Given[Literal[2]] = Field(
        None, description="Version of the language in stored definitions, which aiorch fills in."
    )
    json_schema: Given[str] = Field(None, alias="$schema", description="Path of this schema, for editors.")


FILLED_IN = frozenset({"schema_version"})
"""Keys that aiorch writes itself, so that no message suggests them."""

LEVELS = (Branch, FinalLevel)
"""The levels inside a definition."""

TASK = NodeTypes.TASK.value

TYPES = (TASK, *STEPS)
"""Values of the key `type` of a step."""


@cache
def step_of_type(name: str) -> type[Step]:
    """Return the model for steps of one of the `TYPES`; for a task, the model of an unknown target type."""
    step: type[Step] = TaskStep if name == TASK else load(STEPS[name])
    return step


def step_of_target(name: str) -> type[TaskStep] | None:
    """Return the model for steps of a target type, `None` if no kind of target has this name."""
    kind = target_kind(name)
    step: type[TaskStep] | None = None if kind is None else part_of(kind, "step")
    return step


def all_steps() -> dict[str, type[Step]]:
    """Return the models of all steps, by target type for tasks, else by type."""
    tasks = {name: step for name in target_kinds() if (step := step_of_target(name)) is not None}
    return tasks | {name: step_of_type(name) for name in STEPS}


class WithoutNull(GenerateJsonSchema):
    """Leaves null out of a schema: a key that may be left out may still not be null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return (
            self.generate_inner(schema["schema"]) if schema.get("default") is None else super().default_schema(schema)
        )

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False


def definition_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a DAG definition."""
    steps = list(all_steps().values())
    models: list[type[Model]] = [Definition, *LEVELS, Step, *steps]
    places, schema = models_json_schema([(model, "validation") for model in models], schema_generator=WithoutNull)
    # A class of a package may have the name of a class here: then both have long names, and we give ours the short one.
    parts = schema["$defs"]
    definition, _ = (parts.pop(places[model, "validation"]["$ref"].rpartition("/")[2]) for model in (Definition, Step))
    for each in LEVELS:
        parts.setdefault(each.__name__, places[each, "validation"])
    parts["Step"] = {"description": Step.__doc__, "oneOf": [places[step, "validation"] for step in steps]}
    parts["rules-of-chains"], parts["rules-of-graphs"] = _forms()  # no class has such a name
    for level in (definition, *(parts[places[each, "validation"]["$ref"].rpartition("/")[2]] for each in LEVELS)):
        level["if"] = {"required": ["start"]}
        level |= {"then": {"$ref": "#/$defs/rules-of-chains"}, "else": {"$ref": "#/$defs/rules-of-graphs"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **definition,
        "title": "aiorch DAG definition",
        "$defs": dict(sorted(parts.items())),
    }


def _forms() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the rules for the steps of a chain and of a graph."""
    is_end = {"required": ["end"], "properties": {"end": {"const": True}}}
    is_linked = {"oneOf": [{"required": ["next"]}, is_end]}
    other_ends = [name for name in STEPS if not step_of_type(name).names_next]
    chain = {"anyOf": [{"properties": {"type": {"enum": other_ends}}}, is_linked], "not": {"required": ["needs"]}}
    graph = {
        "properties": {
            "type": {"not": {"enum": [name for name in STEPS if not issubclass(step_of_type(name), Links)]}},
            "end": {"const": False},
            "catch": {"items": {"not": {"required": ["next"]}}},
        },
        "not": {"required": ["next"]},
    }
    return (
        {
            "description": "One token walks from step to step.",
            "properties": {"steps": {"additionalProperties": chain}},
            "not": {"required": ["on_failure"]},
        },
        {
            "description": "Each step begins when the steps that it needs have ended well.",
            "properties": {"steps": {"additionalProperties": graph}},
        },
    )
