"""
Adapters for a `DAGExecutor` whose program names none: real time, real chance, the built-in targets.

No other module of the engine knows an adapter, and this one imports them when a program asks for them.
"""

# ruff: noqa: PLC0415

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiorch.ports.target import Target
    from aiorch.ports.world import Clock, Entropy
    from aiorch.targets.function.target import FunctionTarget


def system_clock() -> "Clock":
    """Return the real time of day."""
    from aiorch.system.clock import SystemClock

    return SystemClock()


def system_entropy() -> "Entropy":
    """Return real chance."""
    from aiorch.system.chance import SystemEntropy

    return SystemEntropy()


def importing_functions() -> "FunctionTarget":
    """Return the target of ``Function`` tasks that finds callables by import."""
    from aiorch.targets.function.target import FunctionTarget

    return FunctionTarget()


def built_in_targets(functions: "Target") -> Mapping[str, "Target"]:
    """Return a target for every built-in target type, with *functions* for ``Function`` tasks."""
    from aiorch.model.enums import TargetTypes
    from aiorch.settings import Settings
    from aiorch.targets.lazy import Targets

    return Targets(Settings(), {TargetTypes.FUNCTION: functions})
