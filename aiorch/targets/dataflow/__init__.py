"""Dataflow jobs, launched from templates."""

from aiorch.model.execution_kind import JOB
from aiorch.targets.kind import TargetKind

KIND = TargetKind(
    name="Dataflow",
    execution=JOB,
    step="aiorch.targets.dataflow.step:DataflowStep",
    schema_version=1,
)
