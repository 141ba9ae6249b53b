"""
The ways through one level: which steps lead to which, and which steps are passed on every way to a step.

Of a chain, the steps that are passed on every way are its dominators. Each step has a point of its value and, where
handlers name following steps, a point of its failure; a point is placed below the closest point that all ways to it
share. Pointers that jump over many points make a search in this tree take a logarithmic number of steps, so that chains
of ten thousand steps cost little, even if every step may fail into the same handler.
"""

from collections.abc import Iterator
from graphlib import TopologicalSorter

from aiorch.definition.level import Level, in_order_of_end

_BLOCK = 4096
"""Steps whose ways are followed at once, one bit each: 5 MB for a level of 10,000 steps."""

_END = ""
"""Stands for the end of the level; no step has this name."""


class Ways:
    """
    The ways through a level.

    Args:
        level: A sound level, see `Level.is_sound`.
    """

    def __init__(self, level: Level) -> None:
        self._level = level
        self._before: dict[str, list[str]] = {name: level.needs(name) for name in level.kinds}
        """By step, the steps directly before it."""
        self._points = _Points()
        self._entry: dict[str, int] = {}
        self._value: dict[str, int] = {}
        self._failure: dict[str, int] = {}
        self._shared: dict[str, int] = {}
        """By step, the closest point that all ways to it share."""
        order = TopologicalSorter(self._before).static_order() if level.is_graph else self._placed()
        self._order = {name: number for number, name in enumerate(order)}
        self._masks: dict[int, dict[str, int]] = {}

    def leads(self, before: str, after: str) -> bool:
        """Whether a way leads from one step to another one; in a graph, whether the latter needs the former."""
        if self._order[before] >= self._order[after]:
            return False
        shared = self._shared.get(after)
        if before in self._before[after] or (shared and self._points.has_above(shared, self._entry[before])):
            return True
        block, bit = divmod(self._order[before], _BLOCK)
        masks = self._masks.get(block)
        if masks is None:
            masks = self._masks[block] = self._followed(block)
        return bool(masks[after] >> bit & 1)

    def passes(self, before: str, after: str | None, *, caught: bool = False) -> bool:
        """
        Whether a step has ended well before another one begins, on every way to it.

        Args:
            before: A step.

            after: A different step, or `None` for the end of the level.

            caught: Ask whether the step has failed on every way, and a handler has named the step that followed.
        """
        if self._level.is_graph:
            return not caught and (after is None or self.leads(before, after))
        point = (self._failure if caught else self._value).get(before)
        shared = self._shared.get(after or _END)
        if shared is None:  # no way leads to an end: each one ends with a failure
            return True
        return point is not None and self._points.has_above(shared, point)

    def _followed(self, block: int) -> dict[str, int]:
        """Return for each step the steps of a block from which ways lead to it, one bit each."""
        own = {name: 1 << number - block * _BLOCK for name, number in self._order.items() if number // _BLOCK == block}
        masks: dict[str, int] = {}
        for name in self._order:
            mask = 0
            for before in self._before[name]:
                mask |= masks[before] | own.get(before, 0)
            masks[name] = mask
        return masks

    def _placed(self) -> Iterator[str]:
        """Place the points of a chain, and yield its steps in an order in which no way leads back."""
        points, start = self._points, self._level.data["start"]
        self._shared[start] = points.root
        links = {name: list(self._level.links(name)) for name in self._level.kinds}
        following = {name: [link.name for link in each] for name, each in links.items()}
        for name in reversed(in_order_of_end([start], following)):
            entry = self._entry[name] = points.add(self._shared[name])
            is_caught = any(link.is_caught for link in links[name])
            self._value[name] = points.add(entry) if is_caught else entry
            if is_caught:
                self._failure[name] = points.add(entry)
            if self._level.written(name).get("end") is True:
                self._share(_END, self._value[name])
            for link in links[name]:
                self._share(link.name, (self._failure if link.is_caught else self._value)[name])
                self._before[link.name].append(name)
            yield name

    def _share(self, name: str, point: int) -> None:
        known = self._shared.get(name)
        self._shared[name] = point if known is None else self._points.meet(known, point)


class _Points:
    """
    A tree that grows at its leaves.

    Each point has a pointer to the point above and one that jumps over many. Source: Eugene W. Myers, "An applicative
    random-access stack", Information Processing Letters 17 (1983).

    Attributes:
        root: The point above all.
    """

    def __init__(self) -> None:
        self.root = 0
        self._above = [0]
        self._jump = [0]
        self._depth = [0]

    def add(self, above: int) -> int:
        """Add a point below *above*, and return it."""
        jump = self._jump[above]
        is_even = self._depth[above] - self._depth[jump] == self._depth[jump] - self._depth[self._jump[jump]]
        self._above.append(above)
        self._jump.append(self._jump[jump] if is_even else above)
        self._depth.append(self._depth[above] + 1)
        return len(self._above) - 1

    def has_above(self, point: int, other: int) -> bool:
        """Whether *other* is *point*, or above it."""
        return self._raised(point, self._depth[other]) == other

    def meet(self, one: int, other: int) -> int:
        """Return the lowest point that is above both, or is one of the two."""
        one, other = self._raised(one, self._depth[other]), self._raised(other, self._depth[one])
        while one != other:
            jumps_apart = self._jump[one] != self._jump[other]
            pointers = self._jump if jumps_apart else self._above
            one, other = pointers[one], pointers[other]
        return one

    def _raised(self, point: int, depth: int) -> int:
        """Return the point at this depth above *point*, or *point* if it is less deep."""
        while self._depth[point] > depth:
            jump = self._jump[point]
            point = jump if self._depth[jump] >= depth else self._above[point]
        return point
