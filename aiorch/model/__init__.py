"""The records: DAGs, runs, failures, names. Pure."""

from importlib import import_module

TYPE_CHECKING = False  # see `aiorch`
if TYPE_CHECKING:
    from aiorch.model.dag import DAG as DAG
    from aiorch.model.dag import Node as Node
    from aiorch.model.dag import Task as Task
    from aiorch.model.enums import DataflowTemplateType as DataflowTemplateType
    from aiorch.model.enums import NodeTypes as NodeTypes
    from aiorch.model.enums import OnFailure as OnFailure
    from aiorch.model.enums import OnLost as OnLost
    from aiorch.model.enums import TargetTypes as TargetTypes
    from aiorch.model.failure import Failure as Failure
    from aiorch.model.retry import RetryPolicy as RetryPolicy
    from aiorch.model.run_document import NodeState as NodeState
    from aiorch.model.status import RunStatus as RunStatus
    from aiorch.model.status import TaskStatus as TaskStatus
else:
    _HOMES = {
        "dag": ("DAG", "Node", "Task"),
        "enums": ("DataflowTemplateType", "NodeTypes", "OnFailure", "OnLost", "TargetTypes"),
        "failure": ("Failure",),
        "retry": ("RetryPolicy",),
        "run_document": ("NodeState",),
        "status": ("RunStatus", "TaskStatus"),
    }
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return value
