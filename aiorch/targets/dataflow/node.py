"""`DataflowJob`: a task that is a Dataflow job."""

from collections.abc import Mapping
from typing import Any

from aiorch.model.dag import Task
from aiorch.model.enums import DataflowTemplateType
from aiorch.targets.dataflow import KIND
from aiorch.targets.kind import TargetKind


class DataflowJob(Task):
    """A Dataflow job from a Classic or Flex template."""

    target_kind: TargetKind = KIND

    @property
    def project_id(self) -> str | None:
        """Project of the job, `None`: the one of the settings."""
        return self.options.get("project_id")

    @property
    def region(self) -> str | None:
        """Region of the job, `None`: the one of the settings."""
        return self.options.get("region")

    def region_for(self, default: str | None) -> str | None:
        """Return the region of the job."""
        return self.region or default

    @property
    def container_gcs_path(self) -> str | None:
        """Container spec of a Flex template."""
        return self.options.get("container_gcs_path")

    @property
    def template_path(self) -> str | None:
        """A Classic template."""
        return self.options.get("template_path")

    @property
    def environment(self) -> Mapping[str, Any]:
        """Runtime environment, as in the Dataflow API."""
        return self.options.get("environment") or {}

    @property
    def template_type(self) -> DataflowTemplateType:
        """Flex when the step names a container spec, Classic when it names a template."""
        return DataflowTemplateType.FLEX if self.container_gcs_path else DataflowTemplateType.CLASSIC

    @property
    def reads_results(self) -> bool:
        """Only the function that is called before the launch may read results."""
        return self.function is not None
