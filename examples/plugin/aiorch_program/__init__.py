"""A kind of target for aiorch: programs of this machine."""

from aiorch.model.execution_kind import CALLABLE
from aiorch.targets import TargetKind

KIND = TargetKind(
    name="Program",
    execution=CALLABLE,  # like a Python callable, a program ends with the process that started it
    step="aiorch_program.step:ProgramStep",
    target="aiorch_program.target:ProgramTarget",
    settings="aiorch_program.settings:Programs",
    limit=4,
    default_timeout_s=600,
)
