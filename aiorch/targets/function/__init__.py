"""Python callables, carried out in this process."""

from aiorch.model.execution_kind import CALLABLE
from aiorch.targets.kind import TargetKind

KIND = TargetKind(
    name="Function",
    execution=CALLABLE,
    step="aiorch.targets.function.step:FunctionStep",
    target="aiorch.targets.function.target:FunctionTarget.of",
    settings="aiorch.targets.function.settings:Functions",
    schema_version=1,
)
