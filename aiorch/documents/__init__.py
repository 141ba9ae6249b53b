"""The stored documents: runs, records of executions, definitions, open markers; results of earlier nodes."""

from aiorch.documents.executions import Execution as Execution
from aiorch.documents.executions import ExecutionStatus as ExecutionStatus
from aiorch.documents.results import Results as Results
from aiorch.documents.runs import OrchestrationStatus as OrchestrationStatus
from aiorch.documents.runs import RunSummary as RunSummary
from aiorch.documents.runs import StoredRun as StoredRun
