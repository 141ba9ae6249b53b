"""
The rules that make the steps of one level a chain: from the start through each step once to the only end.

A step has at most one `next`, so a level is a chain exactly when every step can be reached from the start and no step
leads back. Consequences of a mistake are not reported again: a misspelt `next` is followed to the most similar step,
and if there is none, the steps that could follow are not reported as unreachable.
"""

from collections.abc import Container, Mapping
from typing import Any

from aiorch.definition.source import format_path
from aiorch.model.findings import Finding, Hints, Key, shown

_CYCLE_SHOWN_MAX = 6
_KNOWN_SHOWN_MAX = 6


def check_chain(
    key: Key, level: dict[str, Any], ends: Container[str], names: Mapping[str, Key], hints: Hints
) -> list[Finding]:
    """
    Return every violation of the rules on one level.

    Args:
        key: Path of the level: a definition or a branch.

        level: The level as written, with a mapping of `steps`.

        ends: Names of steps whose kind allows no following step.

        names: Path of each step of the whole definition, by name.

        hints: Source of the hints "did you mean".
    """
    if _is_chain(level.get("start"), level["steps"], ends):
        return []
    return _Chain(key, level, ends, names, hints).findings


def _is_chain(start: Any, steps: dict[str, Any], ends: Container[str]) -> bool:
    name = start
    for count in range(1, len(steps) + 1):
        step = steps.get(name) if isinstance(name, str) else None
        if not isinstance(step, dict):
            return False
        if name in ends:
            return count == len(steps)
        if "next" not in step:
            return step.get("end") is True and count == len(steps)
        if step.get("end", False) is not False:
            return False
        name = step["next"]
    return False


class _Chain:
    """Finds and explains the reasons why a level is not a chain."""

    def __init__(
        self, key: Key, level: dict[str, Any], ends: Container[str], names: Mapping[str, Key], hints: Hints
    ) -> None:
        self.findings: list[Finding] = []
        self._key = key
        self._steps = level["steps"]
        self._names = names
        self._hints = hints
        self._following: dict[str, str | None] = {}
        """The step after each step, `None` for an end. Steps without a clear successor are missing."""
        for name, step in self._steps.items():
            if name in ends:
                self._following[name] = None
            else:
                self._follow(name, step)
        start = level.get("start")
        first = self._resolve(("start",), start) if isinstance(start, str) else None
        if len(self._following) == len(self._steps) and None not in self._following.values():
            level_noun = "branch" if key else "definition"
            self._report(("steps",), f"no step ends this {level_noun}; the last one has `end: true`", at_value=False)
        self._walk(first)

    def _follow(self, name: str, step: Any) -> None:
        if not isinstance(step, dict):
            return
        follows, ends = step.get("next"), step.get("end", False)
        if not isinstance(ends, bool) or ("next" in step and not isinstance(follows, str)):
            return  # these values are reported by the models
        if follows is None and not ends:
            message = "this step has no successor: give `next: <name of a step>`, or `end: true` if it is the last step"
            self._report(("steps", name), message, at_value=False)
        elif follows is None:
            self._following[name] = None
        else:
            if ends:
                message = f"this step has both `next: {shown(follows)}` and `end: true`; take one of them away"
                self._report(("steps", name), message, at_value=False)
            found = self._resolve(("steps", name, "next"), follows)
            if found is not None:
                self._following[name] = found

    def _resolve(self, key: Key, name: str) -> str | None:
        """Return the step with this name, or the step with the most similar name."""
        if name in self._steps:
            return name
        closest = None
        if name in self._names:
            message = (
                f"step {shown(name)} is not on this level but at {format_path(self._names[name])}; a branch ends with "
                f"`end: true`, and the step after all branches is the `next` of their `Parallel`"
            )
        else:
            closest = self._hints.closest(name, self._steps)
            hint = f"; did you mean {shown(closest)}?" if closest is not None else self._known()
            message = f"there is no step {shown(name)} here{hint}"
        self._report(key, message, at_value=True)
        return closest

    def _known(self) -> str:
        return f", only {', '.join(map(shown, self._steps))}" if len(self._steps) <= _KNOWN_SHOWN_MAX else ""

    def _walk(self, first: str | None) -> None:
        """Report the cycles, and the steps that cannot be reached from *first*."""
        walks: dict[str, int] = {}
        for number, begin in enumerate([first, *self._steps]):
            path = []
            name = begin
            while name is not None and name not in walks:
                walks[name] = number
                path.append(name)
                name = self._following.get(name)
            if name is not None and walks[name] == number:
                self._report_cycle(path[path.index(name) :])
            if number == 0 and (not path or path[-1] not in self._following):
                first = None  # the chain has no clear continuation
        if first is not None:
            for name, number in walks.items():
                if number > 0:
                    message = f"no step leads here from the start ({shown(first)}), so this one would never run"
                    self._report(("steps", name), message, at_value=False)

    def _report_cycle(self, cycle: list[str]) -> None:
        around = [shown(name) for name in (*cycle, cycle[0])]
        if len(around) > _CYCLE_SHOWN_MAX:
            around[_CYCLE_SHOWN_MAX // 2 : -2] = [f"({len(cycle) - _CYCLE_SHOWN_MAX // 2 - 1} more)"]
        message = f"this step leads back, so the run would never end: {' -> '.join(around)}"
        self._report(("steps", cycle[-1], "next"), message, at_value=True)

    def _report(self, key: Key, message: str, *, at_value: bool) -> None:
        self.findings.append(Finding((*self._key, *key), message, at_value))
