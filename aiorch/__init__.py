"""
aiorch: durable DAG orchestration with nothing but a bucket and a topic.

`__all__` holds the names that most programs need. All other public names belong to a package one level down, e.g.
`aiorch.events.EventFactory`; names in the table below can be imported from here, too. A module is imported on the first
use of one of its names, so that ``import aiorch`` is quick.
"""

from importlib import import_module

TYPE_CHECKING = False  # type checkers assume True; `typing` itself takes as long to import as this whole module
if TYPE_CHECKING:
    from aiorch.client import Client as Client
    from aiorch.definition import DAGBuilder as DAGBuilder
    from aiorch.definition import NodeFactory as NodeFactory
    from aiorch.documents import Execution as Execution
    from aiorch.documents import ExecutionStatus as ExecutionStatus
    from aiorch.documents import OrchestrationStatus as OrchestrationStatus
    from aiorch.engine import CurrentExecution as CurrentExecution
    from aiorch.engine import DAGExecutor as DAGExecutor
    from aiorch.engine import ExecutionFilter as ExecutionFilter
    from aiorch.engine import current_execution as current_execution
    from aiorch.errors import AiorchError as AiorchError
    from aiorch.errors import DefinitionError as DefinitionError
    from aiorch.errors import DocumentError as DocumentError
    from aiorch.errors import InvalidIdError as InvalidIdError
    from aiorch.errors import InvalidInputError as InvalidInputError
    from aiorch.errors import InvalidSettingError as InvalidSettingError
    from aiorch.errors import NoResultError as NoResultError
    from aiorch.errors import OrchestratorLeftError as OrchestratorLeftError
    from aiorch.errors import ResultPendingError as ResultPendingError
    from aiorch.errors import RunConflictError as RunConflictError
    from aiorch.errors import RunNotFoundError as RunNotFoundError
    from aiorch.errors import RunStateError as RunStateError
    from aiorch.errors import RunTooLargeError as RunTooLargeError
    from aiorch.errors import StoreError as StoreError
    from aiorch.errors import StoreUrlError as StoreUrlError
    from aiorch.errors import TaskNotFoundError as TaskNotFoundError
    from aiorch.errors import UnresolvedFunctionError as UnresolvedFunctionError
    from aiorch.events import CancelEvent as CancelEvent
    from aiorch.events import CloudFunctionEvent as CloudFunctionEvent
    from aiorch.events import DataflowEvent as DataflowEvent
    from aiorch.events import Event as Event
    from aiorch.events import EventFactory as EventFactory
    from aiorch.events import StartEvent as StartEvent
    from aiorch.model import DAG as DAG
    from aiorch.model import DataflowTemplateType as DataflowTemplateType
    from aiorch.model import Failure as Failure
    from aiorch.model import Node as Node
    from aiorch.model import NodeTypes as NodeTypes
    from aiorch.model import OnFailure as OnFailure
    from aiorch.model import OnLost as OnLost
    from aiorch.model import RetryPolicy as RetryPolicy
    from aiorch.model import RunStatus as RunStatus
    from aiorch.model import TargetTypes as TargetTypes
    from aiorch.model import Task as Task
    from aiorch.model import TaskStatus as TaskStatus
    from aiorch.nodes import Parallel as Parallel
    from aiorch.orchestrator import Orchestrator as Orchestrator
    from aiorch.ports import TaskContext as TaskContext
    from aiorch.run_handle import RunHandle as RunHandle
    from aiorch.run_handle import RunResult as RunResult
    from aiorch.settings import Settings as Settings
    from aiorch.targets import CloudFunction as CloudFunction
    from aiorch.targets import DataflowJob as DataflowJob
    from aiorch.targets import Function as Function

__version__ = "0.1.0"
__all__ = [
    "DAG",
    "AiorchError",
    "Client",
    "DAGBuilder",
    "DefinitionError",
    "Failure",
    "Node",
    "Orchestrator",
    "Parallel",
    "RunHandle",
    "RunNotFoundError",
    "RunResult",
    "RunStatus",
    "Settings",
    "StoreError",
    "Task",
    "TaskContext",
    "TaskStatus",
]

if not TYPE_CHECKING:
    _HOMES = {
        "client": ("Client",),
        "definition": ("DAGBuilder", "NodeFactory"),
        "documents": ("Execution", "ExecutionStatus", "OrchestrationStatus"),
        "engine": ("CurrentExecution", "DAGExecutor", "ExecutionFilter", "current_execution"),
        "errors": (
            "AiorchError",
            "DefinitionError",
            "DocumentError",
            "InvalidIdError",
            "InvalidInputError",
            "InvalidSettingError",
            "NoResultError",
            "OrchestratorLeftError",
            "ResultPendingError",
            "RunConflictError",
            "RunNotFoundError",
            "RunStateError",
            "RunTooLargeError",
            "StoreError",
            "StoreUrlError",
            "TaskNotFoundError",
            "UnresolvedFunctionError",
        ),
        "events": ("CancelEvent", "CloudFunctionEvent", "DataflowEvent", "Event", "EventFactory", "StartEvent"),
        "model": (
            "DAG",
            "DataflowTemplateType",
            "Failure",
            "Node",
            "NodeTypes",
            "OnFailure",
            "OnLost",
            "RetryPolicy",
            "RunStatus",
            "TargetTypes",
            "Task",
            "TaskStatus",
        ),
        "nodes": ("Parallel",),
        "orchestrator": ("Orchestrator",),
        "ports": ("TaskContext",),
        "run_handle": ("RunHandle", "RunResult"),
        "settings": ("Settings",),
        "targets": ("CloudFunction", "DataflowJob", "Function"),
    }
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
