"""`Function`: a task that calls a Python callable."""

from aiorch.model.dag import Task
from aiorch.targets.function import KIND
from aiorch.targets.kind import TargetKind


class Function(Task):
    """A Python callable, run in the engine's own process. `function` is its name, ``module:callable``."""

    target_kind: TargetKind = KIND

    @property
    def supplement(self) -> None:
        """`None`: `function` is the target itself."""
