"""Kinds of targets, one package each, and the targets themselves: adapters of `aiorch.ports.Target`."""

from importlib import import_module

TYPE_CHECKING = False  # see `aiorch`
if TYPE_CHECKING:
    from aiorch.targets.cloud_function.node import CloudFunction as CloudFunction
    from aiorch.targets.cloud_function.settings import CloudFunctions as CloudFunctions
    from aiorch.targets.dataflow.node import DataflowJob as DataflowJob
    from aiorch.targets.dataflow.settings import Dataflow as Dataflow
    from aiorch.targets.function.node import Function as Function
    from aiorch.targets.function.settings import Functions as Functions
    from aiorch.targets.kind import TargetKind as TargetKind
else:
    _HOMES = {
        "cloud_function.node": ("CloudFunction",),
        "cloud_function.settings": ("CloudFunctions",),
        "dataflow.node": ("DataflowJob",),
        "dataflow.settings": ("Dataflow",),
        "function.node": ("Function",),
        "function.settings": ("Functions",),
        "kind": ("TargetKind",),
    }
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return value
