"""
`TargetKind`: all that a kind of target brings, under one name.

A kind is cheap to import: its parts are texts, ``module:attribute``, and are imported when they are needed.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import msgspec

from aiorch.model.execution_kind import ExecutionKind


class TargetKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of target."""

    name: str
    """The `target_type` of its steps."""

    execution: ExecutionKind

    step: str
    """The class of its steps, an `aiorch.steps.TaskStep`."""

    default_timeout_s: float | None = None
    """Seconds that an attempt may take whose step has no `timeout`, `None` for no limit."""

    schema_version: int = 2
    """The oldest version of run documents whose readers know this kind. Only the kinds of aiorch 0.1 have 1."""


def load(part: str) -> Any:
    """Return the part of a kind that a text ``module:attribute`` names. Raises what its import raises."""
    module, _, path = part.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


BUILT_IN: Mapping[str, str] = {
    "Function": "aiorch.targets.function:KIND",
    "CloudFunction": "aiorch.targets.cloud_function:KIND",
    "Dataflow": "aiorch.targets.dataflow:KIND",
}
"""Where the built-in kinds are, by name."""


def target_kind(name: str) -> TargetKind | None:
    """Return the kind of this name, `None` when there is none."""
    part = BUILT_IN.get(name)
    return None if part is None else load(part)


def target_kinds() -> dict[str, TargetKind]:
    """Return all kinds by name."""
    return {name: load(part) for name, part in BUILT_IN.items()}
