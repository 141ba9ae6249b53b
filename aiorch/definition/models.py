"""
The language of DAG definitions: a definition and its branches, the kinds of steps, and the JSON Schema.

``python -m aiorch.definition`` prints the schema, which is shipped as ``aiorch/definition/schema.json``. The models of
the steps belong to the kinds of nodes and of targets. A model covers one step: the levels inside a step are checked
step by step (`aiorch.definition.check`), so that neither depth nor one mistake hides further mistakes.
"""

from functools import cache
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from aiorch.model.enums import NodeTypes
from aiorch.nodes.steps import STEPS
from aiorch.steps import Given, Model, Seconds, Step, TaskStep
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


class Branch(Model):
    """One branch of a `Parallel`."""

    start: str = Field(description="Name of the first step.")
    steps: Steps = Field(description="The steps by name. Names are unique in the whole definition.")
    comment: Given[str] = Field(None, description="A note for readers.")


class Definition(Branch):
    """A DAG definition of aiorch: steps, one after the other, some with branches that run at the same time."""

    name: Given[Annotated[str, Field(pattern=DAG_NAME_PATTERN)]] = Field(
        None, description="Name of the DAG; by default the name of its file.", examples=["nightly-etl"]
    )
    timeout: Given[Seconds] = Field(None, description="Longest duration of a run in seconds.", examples=[3600])
    json_schema: Given[str] = Field(None, alias="$schema", description="Path of this schema, for editors.")


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


class _GenerateSchema(GenerateJsonSchema):
    """Remove null from the schema: a key that may be left out may still not be null."""

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
    models: list[type[Model]] = [Definition, Branch, Step, *steps]
    places, schema = models_json_schema([(model, "validation") for model in models], schema_generator=_GenerateSchema)
    # A class of a package may have the name of a class here: then both have long names, and we give ours the short one.
    parts = schema["$defs"]
    definition, _ = (parts.pop(places[model, "validation"]["$ref"].rpartition("/")[2]) for model in (Definition, Step))
    parts.setdefault("Branch", places[Branch, "validation"])
    parts["Step"] = {"description": Step.__doc__, "oneOf": [places[step, "validation"] for step in steps]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **definition,
        "title": "aiorch DAG definition",
        "$defs": dict(sorted(parts.items())),
    }
