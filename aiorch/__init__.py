"""
aiorch: durable DAG orchestration with nothing but a bucket and a topic.

Everything public is importable from here; modules are imported when a name of theirs is first used, so that
``import aiorch`` is quick whatever a program needs of it.
"""

from importlib import import_module

TYPE_CHECKING = False  # type checkers know better; `typing` itself takes as long to import as all of this
if TYPE_CHECKING:
    from aiorch.definition.build import DAGBuilder as DAGBuilder
    from aiorch.definition.build import NodeFactory as NodeFactory
    from aiorch.documents.status import Execution as Execution
    from aiorch.documents.status import ExecutionStatus as ExecutionStatus
    from aiorch.documents.status import OrchestrationStatus as OrchestrationStatus
    from aiorch.engine.execution_context import CurrentExecution as CurrentExecution
    from aiorch.engine.execution_context import ExecutionFilter as ExecutionFilter
    from aiorch.engine.execution_context import current_execution as current_execution
    from aiorch.engine.executor import DAGExecutor as DAGExecutor
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
    from aiorch.events.decode import EventFactory as EventFactory
    from aiorch.events.event import CancelEvent as CancelEvent
    from aiorch.events.event import CloudFunctionEvent as CloudFunctionEvent
    from aiorch.events.event import DataflowEvent as DataflowEvent
    from aiorch.events.event import Event as Event
    from aiorch.events.event import StartEvent as StartEvent
    from aiorch.model.dag import DAG as DAG
    from aiorch.model.dag import CloudFunction as CloudFunction
    from aiorch.model.dag import DataflowJob as DataflowJob
    from aiorch.model.dag import Function as Function
    from aiorch.model.dag import Node as Node
    from aiorch.model.dag import Parallel as Parallel
    from aiorch.model.dag import Task as Task
    from aiorch.model.enums import DataflowTemplateType as DataflowTemplateType
    from aiorch.model.enums import NodeTypes as NodeTypes
    from aiorch.model.enums import OnFailure as OnFailure
    from aiorch.model.enums import OnLost as OnLost
    from aiorch.model.enums import TargetTypes as TargetTypes
    from aiorch.model.failure import Failure as Failure
    from aiorch.model.retry import RetryPolicy as RetryPolicy
    from aiorch.model.status import RunStatus as RunStatus
    from aiorch.model.status import TaskStatus as TaskStatus
    from aiorch.orchestrator import Orchestrator as Orchestrator
    from aiorch.ports.context import TaskContext as TaskContext
    from aiorch.run_handle import RunHandle as RunHandle
    from aiorch.run_handle import RunResult as RunResult
    from aiorch.settings import Settings as Settings

_HOMES = {
    "definition.build": (
        "DAGBuilder",
        "NodeFactory",
    ),
    "documents.status": (
        "Execution",
        "ExecutionStatus",
        "OrchestrationStatus",
    ),
    "engine.execution_context": (
        "CurrentExecution",
        "ExecutionFilter",
        "current_execution",
    ),
    "engine.executor": ("DAGExecutor",),
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
    "events.decode": ("EventFactory",),
    "events.event": (
        "CancelEvent",
        "CloudFunctionEvent",
        "DataflowEvent",
        "Event",
        "StartEvent",
    ),
    "model.dag": (
        "DAG",
        "CloudFunction",
        "DataflowJob",
        "Function",
        "Node",
        "Parallel",
        "Task",
    ),
    "model.enums": (
        "DataflowTemplateType",
        "NodeTypes",
        "OnFailure",
        "OnLost",
        "TargetTypes",
    ),
    "model.failure": ("Failure",),
    "model.retry": ("RetryPolicy",),
    "model.status": (
        "RunStatus",
        "TaskStatus",
    ),
    "orchestrator": ("Orchestrator",),
    "ports.context": ("TaskContext",),
    "run_handle": (
        "RunHandle",
        "RunResult",
    ),
    "settings": ("Settings",),
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
