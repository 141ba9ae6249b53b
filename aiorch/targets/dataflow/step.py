"""The step of a `DataflowJob`."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from aiorch.model.dag import Task
from aiorch.model.enums import DataflowTemplateType
from aiorch.model.findings import Finding, Hints
from aiorch.steps import GcsPath, Given, JsonObject, ProjectId, Region, TaskStep, needs_one_of
from aiorch.targets.dataflow.node import DataflowJob

_TEMPLATE_TYPES = {"container_gcs_path": DataflowTemplateType.FLEX, "template_path": DataflowTemplateType.CLASSIC}


class DataflowStep(TaskStep):
    """Launches a Dataflow job from a template."""

    task_class: ClassVar[type[Task]] = DataflowJob
    target_failures: ClassVar[frozenset[str]] = frozenset(
        {"3xx", "4xx", "5xx", "ConfigurationError", "JobCancelled", "JobFailed", "JobNameTaken"}
    )
    schema_rules: ClassVar[JsonDict] = {"allOf": [{"oneOf": needs_one_of("container_gcs_path", "template_path")}]}

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

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:
        """Yield the problems of the template and of the environment, too."""
        yield from super().find_problems(data, hints)
        given = [key for key in _TEMPLATE_TYPES if key in data]
        if len(given) != 1:
            what = "both" if given else "neither"
            message = (
                f"this step has {what} of `container_gcs_path` (of a Flex template) and `template_path` (of a "
                f"Classic one), and needs one of them"
            )
            yield Finding((), message)
        elif isinstance(data.get("environment"), dict):
            from aiorch.targets.dataflow.environment import check_environment  # noqa: PLC0415  few steps have one

            yield from check_environment(("environment",), data["environment"], _TEMPLATE_TYPES[given[0]], hints)
