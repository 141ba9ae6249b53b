"""The layout of levels: whatever the links, boxes and links have room, and few links cross."""

import random
from collections.abc import Sequence
from itertools import combinations, pairwise, permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorch.views.layers import GAP, Extent, Layout, Link, arrange
from tests.counting import lines_run

BOX = Extent(120, 30, 30)


@st.composite
def levels(draw: st.DrawFn, boxes_max: int = 25) -> tuple[list[Extent], list[Link]]:
    """Boxes of any size, and links from earlier to later boxes, some of them with labels."""
    count = draw(st.integers(1, boxes_max))
    size = st.integers(1, 300).map(float)
    boxes = [Extent(draw(size), draw(size), draw(size)) for _ in range(count)]
    pairs = list(combinations(range(count), 2))
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=3 * count)) if pairs else []
    label = st.none() | st.just(Extent(90, 19, 4))
    return boxes, [Link(*pair, draw(label)) for pair in chosen]


def random_level(seed: int, boxes: int, links: int, reach: int = 20) -> tuple[list[Extent], list[Link]]:
    """Boxes of one size, each linked to a few of the boxes before it."""
    chance = random.Random(seed)
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < links:
        target = chance.randrange(1, boxes)
        pairs.add((chance.randrange(max(0, target - reach), target), target))
    return [BOX] * boxes, [Link(*pair) for pair in sorted(pairs)]


def crossings(layout: Layout) -> int:
    """Count the pairs of links that change sides between two columns, one by one."""
    steps = [pair for link in layout.links for pair in set(pairwise(link))]
    return sum(
        first[0].column == second[0].column
        and (first[0].y - second[0].y) * (first[1].y - second[1].y) < 0
        for first, second in combinations(steps, 2)
    )  # fmt: skip


@given(levels(), st.booleans())
@settings(deadline=None)
def test_every_link_leads_to_the_right_and_passes_each_column_between(level: Any, is_closed: Any) -> None:
    """A link joins its two boxes, one column after the other; a label has a column of its own."""
    boxes, links = level
    layout = arrange(boxes, links, is_closed=is_closed)
    assert len(layout.boxes) == len(boxes)
    for link, places in zip(links, layout.links, strict=True):
        assert places[0] == layout.boxes[link.source]
        assert places[-1] == layout.boxes[link.target]
        assert all(before.column + 1 == after.column for before, after in pairwise(places))
        assert len(places) >= (2 if link.label is None else 3)
    if is_closed and len(boxes) > 1:
        assert all(place.column < layout.boxes[-1].column for place in layout.boxes[:-1])


@given(levels())
@settings(deadline=None)
def test_boxes_of_a_column_do_not_overlap(level: Any) -> None:
    """Boxes, labels and passing links of a column stand below each other, inside of the extent of the level."""
    boxes, links = level
    layout = arrange(boxes, links)
    sizes = list(zip(layout.boxes, boxes, strict=True))
    for link, places in zip(links, layout.links, strict=True):
        passing = [link.label or Extent(0, 1, 1), *[Extent(0, 1, 1)] * (len(places) - 3)]
        sizes += zip(places[1:-1], passing, strict=False)
    for column, width in enumerate(layout.widths):
        inside = sorted((each for each in sizes if each[0].column == column), key=lambda each: each[0].y)
        assert all(size.width <= width for _, size in inside)
        for (above, upper), (below, lower) in pairwise(inside):
            assert above.y + upper.down < below.y - lower.up
    assert min(place.y - size.up for place, size in sizes) >= -layout.extent.up - 1e-6
    assert max(place.y + size.down for place, size in sizes) <= layout.extent.down + 1e-6
    lefts = layout.lefts(0)
    assert lefts[-1] + layout.widths[-1] == pytest.approx(layout.extent.width)
    assert all(
        left + width < following for left, width, following in zip(lefts, layout.widths, lefts[1:], strict=False)
    )


@given(levels())
@settings(deadline=None)
def test_the_way_of_a_link_goes_to_the_right_outside_of_boxes(level: Any) -> None:
    """Each point of a link is at the edge of a column: its height changes between columns only."""
    boxes, links = level
    layout = arrange(boxes, links)
    lefts = layout.lefts(10)
    for link, places in zip(links, layout.links, strict=True):
        points = layout.way(places, lefts, 5)
        assert points[0][0] == pytest.approx(lefts[places[0].column] + boxes[link.source].width)
        assert points[-1] == (lefts[places[-1].column], 5 + layout.boxes[link.target].y)
        assert all(x1 <= x2 + 1e-6 for (x1, _), (x2, _) in pairwise(points))
        edges = set(lefts) | {left - gap for left, gap in zip(lefts[1:], layout.gaps, strict=True)}
        assert all(x in edges for x, _ in points[1:])


@given(levels())
@settings(deadline=None)
def test_a_level_always_gets_the_same_layout(level: Any) -> None:
    """The layout depends on nothing but the level."""
    boxes, links = level
    assert arrange(boxes, links) == arrange(list(boxes), list(links))


@given(levels(12))
@settings(deadline=None)
def test_crossings_are_counted(level: Any) -> None:
    """The number that the search minimizes is the number of links that cross in the picture."""
    layout = arrange(*level)
    assert layout.crossings == crossings(layout)


def least_crossings(links: Sequence[Link], columns: Sequence[Sequence[int]]) -> int:
    """Return the fewest crossings of links between neighbouring columns, of all orders of the columns."""
    best = None
    for orders in product(*(permutations(column) for column in columns)):
        rank = {box: number for column in orders for number, box in enumerate(column)}
        column_of = {box: number for number, column in enumerate(orders) for box in column}
        count = sum(
            column_of[a.source] == column_of[b.source]
            and (rank[a.source] - rank[b.source]) * (rank[a.target] - rank[b.target]) < 0
            for a, b in combinations(links, 2)
        )
        best = count if best is None else min(best, count)
    assert best is not None
    return best


@pytest.mark.parametrize("seed", range(12))
def test_small_levels_have_the_fewest_crossings_of_all_orders(seed: int) -> None:
    """In three columns of four boxes, the sweeps find an order that no other order beats."""
    chance = random.Random(seed)
    columns = [range(4), range(4, 8), range(8, 12)]
    pairs = [(a, b) for left, right in pairwise(columns) for a in left for b in right if chance.random() < 0.45]
    pairs += [(box - 4, box) for box in range(4, 12) if not any(target == box for _, target in pairs)]
    links = [Link(*pair) for pair in sorted(set(pairs))]
    layout = arrange([BOX] * 12, links)
    if [place.column for place in layout.boxes] == [n // 4 for n in range(12)]:
        assert layout.crossings == least_crossings(links, columns)
    else:  # a box without a follower, or with several, may stand further to the right
        assert layout.crossings <= least_crossings(links, columns)


TREE = [Link((n - 1) // 3, n) for n in range(1, 40)]
LADDER = [Link(n, n + 2) for n in range(20)] + [Link(n, n + 3) for n in range(0, 19, 2)]


@pytest.mark.parametrize("links", [TREE, LADDER, [Link(b, a + 20) for a, b in enumerate(reversed(range(20)))]])
def test_levels_that_can_be_drawn_without_crossings_are(links: list[Link]) -> None:
    """A tree, a ladder, and pairs in the reverse order."""
    assert arrange([BOX] * 40, links).crossings == 0


def baseline(boxes: Sequence[Extent], links: Sequence[Link]) -> int:
    """Return the crossings if each column is ordered once, by the mean rank of the neighbours in the column before."""
    layout = arrange(boxes, links)
    points = {(place.column, round(place.y, 3)) for link in layout.links for place in link}
    before: dict[tuple[int, float], list[tuple[int, float]]] = {point: [] for point in points}
    steps = {((a.column, round(a.y, 3)), (b.column, round(b.y, 3))) for link in layout.links for a, b in pairwise(link)}
    for left, right in steps:
        before[right].append(left)
    chance, rank = random.Random(0), {}
    for column in range(len(layout.widths)):
        here = sorted(point for point in points if point[0] == column)
        chance.shuffle(here)
        here.sort(key=lambda point: sum(rank[each] for each in before[point]) / max(len(before[point]), 1))
        rank |= {point: number for number, point in enumerate(here)}
    return sum(
        a[0][0] == b[0][0] and (rank[a[0]] - rank[b[0]]) * (rank[a[1]] - rank[b[1]]) < 0
        for a, b in combinations(steps, 2)
    )


@pytest.mark.parametrize(("seed", "boxes", "links"), [(2, 30, 50), (3, 60, 100), (4, 100, 180)])
def test_fewer_links_cross_than_in_one_sweep(seed: int, boxes: int, links: int) -> None:
    """The search beats the simple method, which orders each column once, by a quarter and more."""
    level = random_level(seed, boxes, links)
    assert 4 * arrange(*level).crossings <= 3 * baseline(*level)


def test_a_chain_is_one_straight_line() -> None:
    """Boxes that follow each other stand at one height, with the same gap between them."""
    boxes = [Extent(100 + n, 20 + n, 40 - n) for n in range(10)]
    layout = arrange(boxes, [Link(n, n + 1) for n in range(9)])
    assert [place[:2] for place in layout.boxes] == [(n, 0.0) for n in range(10)]
    assert set(layout.gaps) == {GAP}
    assert layout.extent == Extent(sum(100 + n for n in range(10)) + 9 * GAP, 29, 40)


def test_two_ways_join_at_the_height_at_which_they_parted() -> None:
    """A choice between two equal steps is drawn with the same room above and below."""
    layout = arrange([BOX] * 4, [Link(0, 1), Link(0, 2), Link(1, 3), Link(2, 3)])
    first, above, below, last = layout.boxes
    assert (first.y, last.y) == (0.0, pytest.approx(0.0))
    assert above.y == pytest.approx(-below.y)


def test_options_keep_the_order_of_the_definition() -> None:
    """Of steps that could stand in any order, the first option stands at the top."""
    layout = arrange([BOX] * 6, [Link(0, 4), Link(0, 2), Link(0, 1), Link(0, 3), Link(0, 5)])
    heights = [place.y for place in layout.boxes]
    assert heights[4] < heights[2] < heights[1] < heights[3] < heights[5]


@pytest.mark.parametrize(("boxes", "links"), [(200, 400), (500, 1000)])
def test_large_levels_cost_little_more_a_box(boxes: int, links: int) -> None:
    """The size of a level that is still readable, and the largest one that is drawn, run few lines of Python a box."""
    level = random_level(7, boxes, links)
    assert lines_run(lambda: arrange(*level)) < 8_000 * boxes
