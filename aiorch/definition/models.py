"""
The language of DAG definitions: its keys, their types and limits, and its JSON Schema.

``python -m aiorch.definition`` prints the schema, which is shipped as ``aiorch/definition/schema.json``. The models
know one step each: what a step's `branches` hold is checked step by step (`aiorch.definition.check`), so that neither
depth nor one mistake hides the others.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema
from pydantic.config import JsonDict, JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import PydanticCustomError, core_schema

from aiorch.model.enums import OnFailure, OnLost, OnNoResult

SECONDS_MAX = 1e9
"""About 30 years: what can still be added to a date."""

NODE_NAME_PATTERN = r"^[^$\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]{0,127}$"
DAG_NAME_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$"
FUNCTION_PATTERN = r"^[^\s:/\\]+:[^\s:/\\]+$"


def _not_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("null", "null")
    return value


T = TypeVar("T")
Given = Annotated[T | None, BeforeValidator(_not_null)]
"""May be left out, but not be null: nothing says what the author of a null had in mind."""

Text = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=SECONDS_MAX, allow_inf_nan=False)]
GcsPath = Annotated[str, Field(max_length=1024, pattern=r"^gs://[^/\s]+/\S+$")]
FunctionName = Annotated[str, Field(max_length=300, pattern=FUNCTION_PATTERN)]
ProjectId = Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9.:-]*$")]
Region = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9-]*$")]
JsonObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]
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
Branches = Annotated[
    list[Any],
    Field(min_length=1),
    WithJsonSchema({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Branch"}}),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Retry(_Model):
    """When a failed attempt is followed by another."""

    max_attempts: int = Field(1, ge=1, le=100, description="Attempts in all, the first included.")
    initial_delay: Delay = Field(1.0, description="Seconds before the second attempt.")
    backoff: float = Field(2.0, ge=1, le=100, allow_inf_nan=False, description="Factor from one delay to the next.")
    max_delay: Delay = Field(300.0, description="Seconds that no delay exceeds.")
    jitter: float = Field(0.1, ge=0, le=1, description="Share of a delay that is taken off at random.")
    on: Given[Annotated[list[Text], Field(min_length=1)]] = Field(
        None,
        description="Types of failure to retry. All of them when left out.",
        examples=[["Timeout", "ValueError", "503", "5xx"]],
    )


def _need(*keys: str) -> JsonValue:
    return [{"required": [key]} for key in keys]


_GOES_ON: JsonDict = {"required": ["next"], "properties": {"end": {"const": False}}}
_ENDS: JsonDict = {"required": ["end"], "properties": {"end": {"const": True}}, "not": {"required": ["next"]}}
_NEXT_OR_END: JsonDict = {"oneOf": [_GOES_ON, _ENDS]}


class Step(_Model):
    """One entry of `steps`."""

    model_config = ConfigDict(json_schema_extra=_NEXT_OR_END)

    next: Given[str] = Field(None, description="Name of the step that follows. Either this or `end: true`.")
    end: bool = Field(False, description="Whether this is the last step. Either this or `next`.")
    comment: Given[str] = Field(None, description="For the reader.")


class TaskStep(Step):
    """A step that launches something."""

    type: Literal["Task"] = Field(description="`Task` launches something, `Parallel` runs branches at the same time.")
    target_type: str = Field(description="What is launched: `Function`, `CloudFunction` or `Dataflow`.")
    target_name: Given[Text] = Field(description="Name of what is launched.")
    parameters: JsonObject = Field(default_factory=dict, description="What the target is called with: any JSON.")
    function: Given[FunctionName] = Field(
        None,
        description="Python function, called just before the launch; what it returns is merged into `parameters`.",
        examples=["my_tasks:load"],
    )
    timeout: Given[Seconds] = Field(None, description="Seconds that one attempt may take.", examples=[60])
    retry: Given[Retry] = Field(
        None,
        description="When a failed attempt is followed by another: never, if left out.",
        examples=[{"max_attempts": 3}],
    )
    on_lost: Annotated[OnLost, Strict(False)] = Field(
        OnLost.RETRY, description="What to do with an attempt whose outcome will never be known."
    )


class FunctionStep(TaskStep):
    """Runs a Python function in the engine's own process."""

    model_config = ConfigDict(json_schema_extra={**_NEXT_OR_END, "anyOf": _need("function", "target_name")})

    target_type: Literal["Function"] = Field(description="A Python function in the engine's own process.")
    target_name: Given[Text] = Field(
        None, description="What runs, as `module:callable`; with `function` only a name to show."
    )
    function: Given[FunctionName] = Field(
        None, description="What runs, as `module:callable`.", examples=["my_tasks:load"]
    )


class CloudFunctionStep(TaskStep):
    """Calls a Cloud Function of either generation, or any URL."""

    target_type: Literal["CloudFunction"] = Field(description="A Cloud Function, called over HTTP.")
    project_id: Given[ProjectId] = Field(
        None, description="Project of the function; a setting when left out.", examples=["my-project-1"]
    )
    region: Given[Region] = Field(
        None, description="Region of the function; a setting when left out.", examples=["europe-west1"]
    )
    url: Given[Annotated[str, Field(max_length=2048, json_schema_extra={"pattern": "^https?://"})]] = Field(
        None,
        description="Where to call it, if not at the URL made of name, project and region.",
        examples=["https://example.com/my-function"],
    )
    on_no_result: Given[Annotated[OnNoResult, Strict(False)]] = Field(
        None,
        description="What to do when the call succeeded and its answer was lost. When left out: `fail` with "
        "`on_lost: fail`, `call_again` where a later Python function may read the result, else `accept`.",
    )


class DataflowStep(TaskStep):
    """Launches a Dataflow job from a template."""

    model_config = ConfigDict(
        json_schema_extra={**_NEXT_OR_END, "allOf": [{"oneOf": _need("container_gcs_path", "template_path")}]}
    )

    target_type: Literal["Dataflow"] = Field(description="A Dataflow job.")
    project_id: Given[ProjectId] = Field(
        None, description="Project of the job; a setting when left out.", examples=["my-project-1"]
    )
    region: Given[Region] = Field(
        None, description="Region of the job; a setting when left out.", examples=["europe-west1"]
    )
    container_gcs_path: Given[GcsPath] = Field(
        None,
        description="Container spec of a Flex template. Either this or `template_path`.",
        examples=["gs://my-bucket/templates/etl.json"],
    )
    template_path: Given[GcsPath] = Field(
        None,
        description="A Classic template. Either this or `container_gcs_path`.",
        examples=["gs://my-bucket/templates/etl"],
    )
    environment: JsonObject = Field(default_factory=dict, description="Runtime environment, as in the Dataflow API.")


class ParallelStep(Step):
    """Runs branches at the same time and goes on once all of them have ended."""

    type: Literal["Parallel"] = Field(description="Branches at the same time.")
    branches: Branches = Field(description="What runs at the same time, each with a `start` and `steps` of its own.")
    on_failure: Annotated[OnFailure, Strict(False)] = Field(
        OnFailure.FAIL_FAST, description="When a branch fails: cancel the others, or wait for them."
    )


class Branch(_Model):
    """One branch of a `Parallel`."""

    start: str = Field(description="Name of the step that comes first.")
    steps: Steps = Field(description="The steps by name. Names are unique over the whole definition.")
    comment: Given[str] = Field(None, description="For the reader.")


class Definition(Branch):
    """A DAG definition of aiorch: steps, one after the other, some with branches that run at the same time."""

    name: Given[Annotated[str, Field(pattern=DAG_NAME_PATTERN)]] = Field(
        None, description="Name of the DAG; that of its file when left out.", examples=["nightly-etl"]
    )
    timeout: Given[Seconds] = Field(None, description="Seconds that a run may take.", examples=[3600])
    json_schema: Given[str] = Field(None, alias="$schema", description="Where an editor finds this schema.")


TASK_STEPS: dict[str, type[TaskStep]] = {
    "Function": FunctionStep,
    "CloudFunction": CloudFunctionStep,
    "Dataflow": DataflowStep,
}
"""By `target_type`."""


class _GenerateSchema(GenerateJsonSchema):
    """Leave out what says nothing: that a key may be left out is not the same as that it may be null."""

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
    steps: tuple[type[Step], ...] = (*TASK_STEPS.values(), ParallelStep)
    models: list[type[_Model]] = [Definition, Branch, *steps]
    _, schema = models_json_schema([(model, "validation") for model in models], schema_generator=_GenerateSchema)
    parts = schema["$defs"]
    parts["Step"] = {
        "description": Step.__doc__,
        "oneOf": [{"$ref": f"#/$defs/{step.__name__}"} for step in steps],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **parts.pop("Definition"),
        "title": "aiorch DAG definition",
        "$defs": dict(sorted(parts.items())),
    }
