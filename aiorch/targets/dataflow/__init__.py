"""Dataflow jobs, launched from templates."""

from aiorch.model.execution_kind import JOB
from aiorch.targets.kind import TargetKind

JOBS_MAX = 25
"""Source: Dataflow documentation, "Quotas": 25 concurrent jobs per project, unless raised."""

KIND = TargetKind(
    name="Dataflow",
    execution=JOB,
    step="aiorch.targets.dataflow.step:DataflowStep",
    target="aiorch.targets.dataflow.target:DataflowTarget.of",
    settings="aiorch.targets.dataflow.settings:Dataflow",
    limit=JOBS_MAX,
    schema_version=1,
)
