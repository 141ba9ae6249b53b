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
    events={
        "resource:dataflow_step": "aiorch.targets.dataflow.events:job_line",
        "type:google.cloud.dataflow.job.v1beta3.statusChanged": "aiorch.targets.dataflow.events:job_status",
    },
    schema_version=1,
)
