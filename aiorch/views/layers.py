"""
The layout of a level: boxes in columns from left to right, and the ways of the links between the boxes. Pure.

The method is that of Sugiyama. Each box stands in a column to the right of all boxes before it. A link over several
columns has a point in each of them, and its label takes the place of one such point, so no link runs through a box. The
order in a column is improved in sweeps over the columns until few links cross. At last the sweeps move each point to
the height of its neighbours, as far as the points beside it allow. The same level always gets the same layout.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from statistics import median
from typing import NamedTuple

GAP = 34
"""Pixels between two columns with level links."""

SLOPE_GAP, SLOPE_GAP_MAX, SLOPE = 52, 130, 0.16
"""Pixels between two columns with slanting links: the gap grows with the largest difference of heights."""

ROW_GAP = 18
LINK_GAP = 10
"""Pixels between two boxes of a column, and beside a link that passes a column."""

ORDER_SWEEPS = 24
ORDER_PATIENCE = 6
"""Sweeps that order the columns, and sweeps without a better order after which the search ends."""

SWAP_ROUNDS = 8
HEIGHT_SWEEPS = 12

_PASSING = 4.0
"""Room of a link above and below it, in a column that it passes."""


class Extent(NamedTuple):
    """Size of a part of a picture around the line that runs through it, in pixels."""

    width: float
    up: float
    down: float


class Link(NamedTuple):
    """A link from a box to a later one, by their positions in the sequence of boxes."""

    source: int
    target: int
    label: Extent | None = None
    """Room for a label beside the link."""


class Place(NamedTuple):
    """The place of a box, or of a link in a column that it passes."""

    column: int
    y: float
    """Height relative to the first box; down is positive."""

    width: float
    """Of the box; a link passes the whole column."""


Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """Places for the boxes and links of a level."""

    widths: tuple[float, ...]
    """Of the columns."""

    gaps: tuple[float, ...]
    """After each column but the last."""

    boxes: tuple[Place, ...]
    links: tuple[tuple[Place, ...], ...]
    """For each link the places that it connects: a box, the columns that the link passes, a box. A label stands at the
    second place."""

    extent: Extent
    """Of the whole level, around the line through the first box."""

    crossings: int
    """Number of crossings of links."""

    def lefts(self, x: float) -> list[float]:
        """Return the left sides of the columns of a level that begins at *x*."""
        return [*accumulate((width + gap for width, gap in zip(self.widths, self.gaps, strict=False)), initial=x)]

    def way(self, link: Sequence[Place], lefts: Sequence[float], y: float) -> list[Point]:
        """Return points that a link goes through; between two of them it is level, or slants between two columns."""
        box = link[0]
        points = [(lefts[box.column] + box.width, y + box.y)] if box.width < self.widths[box.column] else []
        for before, after in pairwise(link):
            left = lefts[after.column]
            points += [(left - self.gaps[before.column], y + before.y), (left, y + after.y)]
        return points


def arrange(boxes: Sequence[Extent], links: Sequence[Link], *, is_closed: bool = False) -> Layout:
    """
    Arrange a level.

    Args:
        boxes: The sizes of the boxes, at least one; a box comes before those to which links lead from it.

        links: The links. Their order decides the order of boxes that would stand equally well.

        is_closed: The last box stands to the right of all others.
    """
    if len(links) == len(boxes) - 1 and all(link == (n, n + 1, None) for n, link in enumerate(links)):
        return _row(boxes)
    columns = _columns_of(len(boxes), links)
    if is_closed and max(columns[:-1], default=-1) >= columns[-1]:
        columns[-1] = max(columns) + 1
    grid = _Grid(boxes, links, columns)
    grid.order()
    grid.balance()
    return grid.layout()


def _row(boxes: Sequence[Extent]) -> Layout:
    """Return the layout of boxes each of which follows the one before it."""
    widths = tuple(box.width for box in boxes)
    gaps = (GAP,) * (len(boxes) - 1)
    places = tuple(Place(column, 0.0, width) for column, width in enumerate(widths))
    extent = Extent(sum(widths) + sum(gaps), max(box.up for box in boxes), max(box.down for box in boxes))
    return Layout(widths, gaps, places, tuple(pairwise(places)), extent, 0)


class _Grid:
    """
    The points of a level: first the boxes, then the passing places of links.

    Attributes:
        columns: The points of each column, from above.

        before, after: By point, its neighbours in the columns beside.
    """

    def __init__(self, boxes: Sequence[Extent], links: Sequence[Link], columns: Sequence[int]) -> None:
        self.box_count = len(boxes)
        self.sizes = list(boxes)
        self.column_of = list(columns)
        self.before: list[list[int]] = [[] for _ in boxes]
        self.after: list[list[int]] = [[] for _ in boxes]
        self.ways: list[list[int]] = []
        for link in links:
            self.ways.append(self._add(link))
        self.columns: list[list[int]] = [[] for _ in range(max(self.column_of) + 1)]
        self.y = [0.0] * len(self.sizes)
        self.crossings = 0
        self._rank = [0] * len(self.sizes)

    def _add(self, link: Link) -> list[int]:
        """Add the places at which a link passes columns, and return all points of the link."""
        first, end = self.column_of[link.source] + 1, self.column_of[link.target]
        points = list(range(len(self.sizes), len(self.sizes) + end - first))
        for column in range(first, end):
            is_label = column == first and link.label is not None
            self.sizes.append(link.label if is_label and link.label is not None else Extent(0, _PASSING, _PASSING))
            self.column_of.append(column)
            self.before.append([])
            self.after.append([])
        way = [link.source, *points, link.target]
        for left, right in pairwise(way):
            self.after[left].append(right)
            self.before[right].append(left)
        return way

    # -- the order in the columns ----------------------------------------------------------------------------------

    def order(self) -> None:
        """Order the points of each column so that few links cross."""
        self.columns = self._first_order()
        if max(map(len, self.columns)) == 1:
            return
        self._number(self.columns)
        best, fewest, patience = self._copy(), self._count(), ORDER_PATIENCE
        for sweep in range(ORDER_SWEEPS):
            if not fewest or not patience:
                break
            self._sweep(forwards=sweep % 2 == 1, reverse_ties=sweep % 4 > 1)
            if (crossings := self._count()) < fewest:
                best, fewest, patience = self._copy(), crossings, ORDER_PATIENCE
            patience -= 1
        self.columns = best
        self._number(self.columns)
        if fewest:
            self._swap_neighbours()
        self.crossings = self._count()

    def _first_order(self) -> list[list[int]]:
        """Return the points of each column in the order in which a walk along the links meets them."""
        columns: list[list[int]] = [[] for _ in self.columns]
        seen = [False] * len(self.sizes)
        for start in range(self.box_count):
            waiting = [] if self.before[start] else [start]
            while waiting:
                point = waiting.pop()
                if not seen[point]:
                    seen[point] = True
                    columns[self.column_of[point]].append(point)
                    waiting += reversed(self.after[point])
        return columns

    def _copy(self) -> list[list[int]]:
        return [list(column) for column in self.columns]

    def _number(self, columns: Iterable[list[int]]) -> None:
        for column in columns:
            for rank, point in enumerate(column):
                self._rank[point] = rank

    def _sweep(self, *, forwards: bool, reverse_ties: bool) -> None:
        """Order each column by the mean rank of the neighbours in the column before, or in the column after."""
        beside = self.before if forwards else self.after
        rank = self._rank
        for column in self.columns if forwards else reversed(self.columns):
            means = {
                point: sum(rank[each] for each in beside[point]) / len(beside[point]) if beside[point] else rank[point]
                for point in column
            }
            if reverse_ties:
                column.reverse()
            column.sort(key=means.__getitem__)
            self._number([column])

    def _count(self) -> int:
        """Return the number of crossings."""
        crossings = 0
        for column in self.columns:
            met: list[int] = []
            for point in column:
                ranks = sorted([self._rank[each] for each in self.after[point]])
                crossings += sum([len(met) - bisect_right(met, rank) for rank in ranks])
                for rank in ranks:
                    insort(met, rank)
        return crossings

    def _swap_neighbours(self) -> None:
        """Swap two neighbours wherever this makes fewer crossings."""
        for _ in range(SWAP_ROUNDS):
            is_better = False
            for column in self.columns:
                for above in range(len(column) - 1):
                    upper, lower = column[above], column[above + 1]
                    if self._crossings_of(lower, upper) < self._crossings_of(upper, lower):
                        column[above], column[above + 1] = lower, upper
                        self._rank[lower], self._rank[upper] = above, above + 1
                        is_better = True
            if not is_better:
                return

    def _crossings_of(self, upper: int, lower: int) -> int:
        """Return the number of crossings between the links of two neighbours in a column."""
        crossings = 0
        for beside in (self.before, self.after):
            ranks = sorted([self._rank[each] for each in beside[lower]])
            crossings += sum([bisect_right(ranks, self._rank[each] - 1) for each in beside[upper]])
        return crossings

    # -- the heights -----------------------------------------------------------------------------------------------

    def balance(self) -> None:
        """Give each point a height near its neighbours, in the order of the columns and with room between them."""
        if max(map(len, self.columns)) == 1:
            return
        for column in self.columns:
            self._settle(column, [0.0] * len(column))
        best, least = list(self.y), self._bend()
        for sweep in range(HEIGHT_SWEEPS):
            forwards = sweep % 2 == 0
            for column in self.columns if forwards else reversed(self.columns):
                beside = self.before if forwards else self.after
                wishes = [self._wish(point, beside[point]) for point in column]
                self._settle(column, wishes)
            if (bend := self._bend()) < least:
                best, least = list(self.y), bend
        self.y = [y - best[0] for y in best]

    def _wish(self, point: int, neighbours: Sequence[int]) -> float:
        return median([self.y[each] for each in neighbours]) if neighbours else self.y[point]

    def _weight(self, point: int) -> float:
        """Return how strongly a point insists on its height: a link over several columns should be straight."""
        return 1.0 + len(self.before[point]) + len(self.after[point]) if point < self.box_count else 8.0

    def _bend(self) -> float:
        """Return the sum of the differences of heights along all links."""
        return sum(
            abs(self.y[point] - self.y[each]) * (4 if min(point, each) >= self.box_count else 1)
            for point, following in enumerate(self.after)
            for each in following
        )

    def _settle(self, column: Sequence[int], wishes: Sequence[float]) -> None:
        """
        Set the heights of a column as near to the wishes as the order and the room between points allow.

        Points that would overlap form a block, which stands where its members wish on average (isotonic regression).
        """
        offset, offsets = 0.0, [0.0]
        for above, below in pairwise(column):
            offset += self.sizes[above].down + self._room(above, below) + self.sizes[below].up
            offsets.append(offset)
        blocks: list[tuple[float, float, int]] = []  # the sum of wishes, the sum of weights, the number of points
        for point, wish, shift in zip(column, wishes, offsets, strict=True):
            block = (wish - shift) * self._weight(point), self._weight(point), 1
            while blocks and blocks[-1][0] / blocks[-1][1] >= block[0] / block[1]:
                wished, weighed, count = blocks.pop()
                block = wished + block[0], weighed + block[1], count + block[2]
            blocks.append(block)
        heights = chain.from_iterable([wished / weight] * count for wished, weight, count in blocks)
        for point, height, shift in zip(column, heights, offsets, strict=True):
            self.y[point] = height + shift

    def _room(self, above: int, below: int) -> float:
        return ROW_GAP if max(above, below) < self.box_count else LINK_GAP

    # -- the result ------------------------------------------------------------------------------------------------

    def layout(self) -> Layout:
        """Return the layout."""
        widths = tuple(max(self.sizes[point].width for point in column) for column in self.columns)
        gaps = tuple(self._gap(column) for column in self.columns[:-1])
        up = max(self.sizes[point].up - y for point, y in enumerate(self.y))
        down = max(self.sizes[point].down + y for point, y in enumerate(self.y))
        places = [
            Place(column, y, size.width if point < self.box_count else widths[column])
            for point, (column, y, size) in enumerate(zip(self.column_of, self.y, self.sizes, strict=True))
        ]
        return Layout(
            widths,
            gaps,
            tuple(places[: self.box_count]),
            tuple(tuple(places[point] for point in points) for points in self.ways),
            Extent(sum(widths) + sum(gaps), up, down),
            self.crossings,
        )

    def _gap(self, column: Iterable[int]) -> float:
        slope = max((abs(self.y[each] - self.y[point]) for point in column for each in self.after[point]), default=0)
        return GAP if slope < 1 else min(SLOPE_GAP + SLOPE * slope, SLOPE_GAP_MAX)


def _columns_of(count: int, links: Iterable[Link]) -> list[int]:
    """Return the column of each box: as far to the left as possible, unless links get shorter further to the right."""
    into: list[list[Link]] = [[] for _ in range(count)]
    out: list[list[Link]] = [[] for _ in range(count)]
    for link in links:
        out[link.source].append(link)
        into[link.target].append(link)
    columns = [0] * count
    for box in range(count):
        columns[box] = max((columns[link.source] + _length(link) for link in into[box]), default=0)
    for box in reversed(range(count)):
        if len(out[box]) > max(len(into[box]), 1):
            columns[box] = min(columns[link.target] - _length(link) for link in out[box])
    return columns


def _length(link: Link) -> int:
    return 1 if link.label is None else 2
