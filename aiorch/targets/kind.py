"""
`TargetKind`: all parts of a kind of target, under one name. The built-in kinds, and the kinds of installed packages.

A kind is cheap to import: its parts are texts, ``module:attribute``, and a process imports a part at first use. A
package that brings a kind names the kind in the entry-point group ``aiorch.targets``, by the name of the kind. A
process looks through the installed packages only for a name that no built-in kind has, so that a process without
plugins does not pay for them; hence a package cannot replace a built-in kind.
"""

import logging
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import msgspec

from aiorch.model.execution_kind import ExecutionKind
from aiorch.settings import TargetSettings

logger = logging.getLogger(__name__)

GROUP = "aiorch.targets"


class TargetKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of target."""

    name: str
    """The `target_type` of its steps."""

    execution: ExecutionKind

    step: str
    """The class of its steps, an `aiorch.steps.TaskStep`."""

    target: str
    """Makes the target, an `aiorch.ports.Target`: called with the settings of the kind and of the process."""

    settings: str
    """The class of its settings, an `aiorch.settings.TargetSettings`."""

    events: Mapping[str, str] = {}
    """
    Decoders of messages about executions, by the shape that a message gives itself.

    ``resource:cloud_function`` is the shape of ``{"resource": {"type": "cloud_function"}}``, and ``type:x`` that of
    ``{"type": "x"}``. A decoder returns an `aiorch.events.Completion` (the end of the execution), an
    `aiorch.events.Hint` (the execution may have ended: the target is asked), or `None`.
    """

    limit: int | None = None
    """Executions under way at once in one process, unless the settings say otherwise; `None`: any number."""

    default_timeout_s: float | None = None
    """Seconds that an attempt may take whose step has no `timeout`, `None` for no limit."""

    schema_version: int = 2
    """The oldest version of run documents whose readers know this kind. Only the kinds of aiorch 0.1 have 1."""


@cache
def load(part: str) -> Any:
    """Return the part of a kind that a text ``module:attribute`` names. Raises every exception of the import."""
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
"""The places of the built-in kinds, by name, in the form of entry points."""


def target_kind(name: str) -> TargetKind | None:
    """Return the kind of this name, `None` when there is none."""
    part = BUILT_IN.get(name)
    if part is not None:
        found: TargetKind = load(part)
        return found
    return _installed().get(name)


def target_kinds(*, installed: bool = True) -> dict[str, TargetKind]:
    """Return all kinds by name, or only the built-in ones."""
    kinds = {name: load(part) for name, part in BUILT_IN.items()}
    return kinds | _installed() if installed else kinds


def settings_classes(*, installed: bool = True) -> list[type[TargetSettings]]:
    """Return the settings classes of all kinds, or only those of the built-in ones."""
    return [load(kind.settings) for kind in target_kinds(installed=installed).values()]


def decoder_of(shape: str) -> Any:
    """Return the decoder of messages of a shape, `None` when no kind has one."""
    # A shape is text from outside, so we do not remember the shapes that no kind has.
    part = _built_in_events().get(shape) or _installed_events().get(shape)
    return None if part is None else load(part)


@cache
def _built_in_events() -> dict[str, str]:
    return {shape: part for kind in map(load, BUILT_IN.values()) for shape, part in kind.events.items()}


@cache
def _installed_events() -> dict[str, str]:
    return {shape: part for kind in _installed().values() for shape, part in kind.events.items()}


@cache
def _installed() -> dict[str, TargetKind]:
    """Return the kinds of installed packages. A kind that cannot be loaded is logged, and counts as not installed."""
    from importlib.metadata import entry_points  # noqa: PLC0415  it takes long, and few processes meet a plugin

    kinds: dict[str, TargetKind] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value)):
        facts = {"action": "ignore_plugin", "target_type": entry.name, "entry_point": entry.value}
        if entry.name in BUILT_IN or entry.name in kinds:
            logger.error("a plugin brings a kind of target of a name that is taken, and is ignored", extra=facts)
            continue
        try:
            kind = entry.load()
            if not isinstance(kind, TargetKind) or kind.name != entry.name:
                raise TypeError(f"it must be a TargetKind of the name {entry.name!r}")
        except Exception:
            logger.exception("a plugin cannot be loaded, and is ignored", extra=facts)
        else:
            kinds[entry.name] = kind
    return kinds
