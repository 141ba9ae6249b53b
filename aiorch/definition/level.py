"""`Level`: one level of a definition while it is checked and built."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiorch.definition.models import Branch
from aiorch.model.findings import Key
from aiorch.steps import Link, Step


class Level:
    """
    One level of a definition: the definition itself, a branch, or `finally`.

    Attributes:
        key: Path of the level.

        data: The level as written.

        around: The level and the name of the step whose scope this is, `None` for the definition and its `finally`.

        depth: Number of levels around.

        model: The validated level, `None` if it has a mistake.

        steps: The validated steps by name, `None` for a step with a mistake.

        kinds: The kind of each step.

        scopes: The levels inside each step that has such levels, by the name of the step.

        final: The level `finally` of a definition.

        is_sound: Whether the steps form a chain or a graph: all ways through the level are known.
    """

    __slots__ = ("around", "data", "depth", "final", "is_sound", "key", "kinds", "model", "scopes", "steps")

    def __init__(self, key: Key, data: Any, around: "tuple[Level, str] | None" = None) -> None:
        self.key: Key = key
        self.data: Any = data
        self.around: tuple[Level, str] | None = around
        self.depth: int = 0 if around is None else around[0].depth + 1
        self.model: Branch | None = None
        self.steps: dict[str, Step | None] = {}
        self.kinds: dict[str, type[Step]] = {}
        self.scopes: dict[str, list[Level]] = {}
        self.final: Level | None = None
        self.is_sound: bool = False

    @property
    def is_graph(self) -> bool:
        """Whether a sound level is a graph."""
        return "start" not in self.data

    def written(self, name: str) -> dict[str, Any]:
        """Return a step as written; a step that is no mapping is empty."""
        step = self.data["steps"][name]
        return step if isinstance(step, dict) else {}

    def links(self, name: str) -> Iterator[Link]:
        """Yield the steps that a step names as those that may follow in a chain."""
        return self.kinds[name].find_links(self.written(name))

    def needs(self, name: str) -> list[str]:
        """Return the names of the steps that a step needs in a graph, as far as they are texts."""
        given = self.written(name).get("needs")
        return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []

    def never_ends_well(self, name: str) -> bool:
        """Whether no step can follow a step: it always fails."""
        return is_end_by_kind(self.kinds[name], self.written(name)) and not any(self.links(name))


def is_end_by_kind(kind: type[Step], step: dict[str, Any]) -> bool:
    """Whether a step of a chain has neither `next` nor `end` because of its kind."""
    return not kind.names_next and "when" not in step


def in_order_of_end(begins: Iterable[str], following: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the steps to which ways lead from *begins*, each after the steps that follow it: a walk in depth."""
    ended: list[str] = []
    seen: set[str] = set()
    for begin in begins:
        if begin in seen:
            continue
        seen.add(begin)
        waiting = [(begin, iter(following[begin]))]
        while waiting:
            name, rest = waiting[-1]
            each = next((one for one in rest if one not in seen), None)
            if each is None:
                ended.append(name)
                waiting.pop()
            else:
                seen.add(each)
                waiting.append((each, iter(following[each])))
    return ended
