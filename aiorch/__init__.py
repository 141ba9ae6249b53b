"""
aiorch: durable DAG orchestration with nothing but a bucket and a topic.

Everything public is importable from here; modules are imported when a name of theirs is first used, so that
``import aiorch`` is quick whatever a program needs of it.
"""

from importlib import import_module

TYPE_CHECKING = False  # type checkers know better; `typing` itself takes as long to import as all of this
if TYPE_CHECKING:
    from aiorch.builder import DAGBuilder as DAGBuilder
    from aiorch.builder import NodeFactory as NodeFactory
    from aiorch.context import TaskContext as TaskContext
    from aiorch.dag import DAG as DAG
    from aiorch.enums import DataflowTemplateType as DataflowTemplateType
    from aiorch.enums import NodeTypes as NodeTypes
    from aiorch.enums import OnFailure as OnFailure
    from aiorch.enums import OnLost as OnLost
    from aiorch.enums import RunStatus as RunStatus
    from aiorch.enums import TargetTypes as TargetTypes
    from aiorch.enums import TaskStatus as TaskStatus
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
    from aiorch.execution_context import CurrentExecution as CurrentExecution
    from aiorch.execution_context import ExecutionFilter as ExecutionFilter
    from aiorch.execution_context import current_execution as current_execution
    from aiorch.executor import DAGExecutor as DAGExecutor
    from aiorch.failure import Failure as Failure
    from aiorch.nodes import CloudFunction as CloudFunction
    from aiorch.nodes import DataflowJob as DataflowJob
    from aiorch.nodes import Function as Function
    from aiorch.nodes import Node as Node
    from aiorch.nodes import Parallel as Parallel
    from aiorch.nodes import RetryPolicy as RetryPolicy
    from aiorch.nodes import Task as Task
    from aiorch.orchestrator import Orchestrator as Orchestrator
    from aiorch.orchestrator import Settings as Settings
    from aiorch.run_handle import RunHandle as RunHandle
    from aiorch.run_handle import RunResult as RunResult
    from aiorch.status import Execution as Execution
    from aiorch.status import ExecutionStatus as ExecutionStatus
    from aiorch.status import OrchestrationStatus as OrchestrationStatus

_HOMES = {
    "builder": ("DAGBuilder", "NodeFactory"),
    "context": ("TaskContext",),
    "execution_context": ("CurrentExecution", "ExecutionFilter", "current_execution"),
    "dag": ("DAG",),
    "enums": (
        "DataflowTemplateType",
        "NodeTypes",
        "OnFailure",
        "OnLost",
        "RunStatus",
        "TargetTypes",
        "TaskStatus",
    ),
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
    "executor": ("DAGExecutor",),
    "failure": ("Failure",),
    "nodes": ("CloudFunction", "DataflowJob", "Function", "Node", "Parallel", "RetryPolicy", "Task"),
    "orchestrator": ("Orchestrator", "Settings"),
    "run_handle": ("RunHandle", "RunResult"),
    "status": ("Execution", "ExecutionStatus", "OrchestrationStatus"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME_OF)  # noqa: PLE0605  the list above is the list of names


def __getattr__(name: str) -> object:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'aiorch' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"aiorch.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
