"""
`TargetKind`: all parts of a kind of target, under one name. The built-in kinds, and the kinds of installed packages.

A kind is cheap to import: its parts are texts, ``module:attribute``, and a process imports a part at first use. A
package that brings a kind names the kind in the entry-point group ``aiorch.targets``, by the name of the kind. A
process looks through the installed packages only for a name that no built-in kind has, so that a process without
plugins does not pay for them; hence a package cannot replace a built-in kind.

A package may be damaged, or lack a library. A kind of an installed package that cannot be loaded, or one of whose parts
cannot be loaded, is logged once, and from then on counts as not installed: see `part_of` and `why_unusable`.
"""

import logging
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import msgspec

from aiorch.errors import MalformedEventError, in_words
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

    settings: str = "aiorch.settings:TargetSettings"
    """The class of its settings, an `aiorch.settings.TargetSettings`; by default a kind has no settings of its own."""

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
    """
    The oldest version of run documents whose readers know this kind. Only the kinds of aiorch 0.1 have 1.

    A kind with a version that this aiorch does not read counts as not installed: no process could read its runs.
    """


BUILT_IN: Mapping[str, str] = {
    "Function": "aiorch.targets.function:KIND",
    "CloudFunction": "aiorch.targets.cloud_function:KIND",
    "Dataflow": "aiorch.targets.dataflow:KIND",
}
"""The places of the built-in kinds, by name, in the form of entry points."""

_BASES: Mapping[str, str] = {"step": "aiorch.steps:TaskStep", "settings": "aiorch.settings:TargetSettings"}
"""The base classes of the parts that are classes, by field of `TargetKind`."""


@cache
def load(part: str) -> Any:
    """Return the part of a kind that a text ``module:attribute`` names. Raises every exception of the import."""
    module, _, path = part.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def part_of(kind: TargetKind, name: str) -> Any:
    """
    Return a part of a kind.

    Args:
        kind: A kind that `target_kind` or `target_kinds` returned.

        name: A field of the kind, or the shape of messages that the kind decodes.

    Returns:
        `None` for a part of an installed package that cannot be loaded: the kind then counts as not installed.
    """
    place = kind.events[name] if name in kind.events else getattr(kind, name)
    if kind.name in BUILT_IN:
        return load(place)
    try:
        part = load(place)
        base = load(_BASES[name]) if name in _BASES else None
        if base is not None and not (isinstance(part, type) and issubclass(part, base)):
            raise TypeError(f"it must be a subclass of {base.__name__}")
        if not callable(part):
            raise TypeError("it must be callable")
    except Exception as error:  # noqa: BLE001  code of the package
        _installed().give_up(kind.name, f"{name} {place!r}", error)
        return None
    return part


def target_kind(name: str) -> TargetKind | None:
    """Return the kind of this name, `None` when there is none."""
    part = BUILT_IN.get(name)
    if part is not None:
        found: TargetKind = load(part)
        return found
    return _installed().kinds.get(name)


def target_kinds(*, installed: bool = True) -> dict[str, TargetKind]:
    """Return all kinds by name, or only the built-in ones."""
    kinds = {name: load(part) for name, part in BUILT_IN.items()}
    return kinds | _installed().kinds if installed else kinds


def why_unusable(name: str) -> str | None:
    """Say why the kind of this name that a package brings cannot be loaded; `None` if no package brings such a kind."""
    return _installed().unusable.get(name)


def settings_classes(*, installed: bool = True) -> list[type[TargetSettings]]:
    """Return the settings classes of all kinds that have settings, or only those of the built-in ones."""
    found = (part_of(kind, "settings") for kind in target_kinds(installed=installed).values())
    return [each for each in found if each not in (None, TargetSettings)]


def decoder_of(shape: str) -> Any:
    """Return the decoder of messages of a shape, `None` when no kind has one."""
    # A shape is text from outside, so we do not remember the shapes that no kind has.
    part = _built_in_events().get(shape)
    if part is not None:
        return load(part)
    kind = next((kind for kind in _installed().kinds.values() if shape in kind.events), None)
    decode = None if kind is None else part_of(kind, shape)
    return None if kind is None or decode is None else _Decoder(decode, shape, _installed().packages[kind.name])


@cache
def _built_in_events() -> dict[str, str]:
    return {shape: part for kind in map(load, BUILT_IN.values()) for shape, part in kind.events.items()}


class _Decoder(NamedTuple):
    """A decoder of a package: any mistake in it makes a message malformed, since a repetition would not help."""

    decode: Any
    shape: str
    package: str

    def __call__(self, event_data: dict[str, Any]) -> Any:
        from aiorch.events.event import Event  # noqa: PLC0415  few processes meet a plugin

        try:
            event = self.decode(event_data)
            if not isinstance(event, Event | None):
                raise TypeError(f"it returned {type(event).__name__}, which is no event")
        except MalformedEventError:
            raise
        except Exception as error:
            reason = f"the decoder of the package {self.package} failed with {in_words(error)}"
            raise MalformedEventError(f"{self.shape} event", reason) from error
        return event


class _Installed(NamedTuple):
    """The kinds of installed packages."""

    kinds: dict[str, TargetKind]

    packages: dict[str, str]
    """The name of the package that brings a kind, by target type."""

    unusable: dict[str, str]
    """The reason why a kind cannot be loaded, by target type."""

    def give_up(self, name: str, part: str, error: Exception) -> None:
        """Log that a kind cannot be loaded. It counts as not installed from now on."""
        kind, package, reason = self.kinds.pop(name, None), self.packages[name], in_words(error)
        if kind is None and name in self.unusable:
            return  # logged already
        problem = f"the package {package} brings the target type {name!r} but cannot be loaded: {part}: {reason}"
        self.unusable[name] = f"{problem}; correct or uninstall it"
        # The settings of the service are read before its logs have a form, so the message says all.
        logger.error(
            "%s; this process does without the target type, so correct or uninstall the package",
            problem,
            extra={"action": "ignore_plugin", "target_type": name, "package": package},
            exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
        )


@cache
def _installed() -> _Installed:
    """Return the kinds of installed packages."""
    from importlib.metadata import entry_points  # noqa: PLC0415  it takes long, and few processes meet a plugin

    from aiorch.model.run_document import SCHEMA_VERSION  # noqa: PLC0415  as above

    found = _Installed({}, {}, {})
    for entry in sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value)):
        package = entry.dist.name if entry.dist else entry.module
        if entry.name in BUILT_IN or entry.name in found.packages:
            logger.error(
                "the package %s brings the target type %r, a name that is taken, so this process leaves it out; "
                "uninstall it",
                package,
                entry.name,
                extra={"action": "ignore_plugin", "target_type": entry.name, "package": package},
            )
            continue
        found.packages[entry.name] = package
        try:
            kind = entry.load()
            if not isinstance(kind, TargetKind) or kind.name != entry.name:
                raise TypeError(f"it must be a TargetKind of the name {entry.name!r}")
            if kind.schema_version > SCHEMA_VERSION:
                raise ValueError(
                    f"its schema_version is {kind.schema_version}, and this aiorch reads run documents up to "
                    f"{SCHEMA_VERSION}"
                )
        except Exception as error:  # noqa: BLE001  code of the package
            found.give_up(entry.name, f"kind {entry.value!r}", error)
        else:
            found.kinds[entry.name] = kind
    return found
