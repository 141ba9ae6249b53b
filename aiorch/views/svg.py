"""
The SVG picture of a DAG, drawn without any other program. Pure.

Every part has a width, and a height above and below the line that runs through it (`Extent`). Extents are measured from
the inside out: `aiorch.views.layers` arranges the items of a level, and branches are drawn below each other. Then the
picture is drawn from the outside in. Time runs from left to right. The ends of a chain meet in one point, and a graph
has a frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from aiorch.model.status import TaskStatus
from aiorch.views.entries import Look
from aiorch.views.layers import GAP, Extent, Layout, Link, arrange
from aiorch.views.outline import COLOURS, FINAL_DETAIL, Edge, Folded, Item, Level, Outline, count_text, shorten
from aiorch.views.pen import DARK, GREY, INKS, Pen, text_width, xml

# All in pixels.
_BRANCH_GAP = 14
_FAN = 44
_PAD = 16
_HEADER = 40
_MARGIN = 28
_LINE = 16
_BOX_WIDTH_MIN = 112
_TEXT_LEFT = 14
_ICON = 22

_LABEL_COLOURS = {None: GREY, True: DARK, False: COLOURS[TaskStatus.SKIPPED].stroke}
_LAYERS = {False: 0, None: 1, True: 2}
"""By `Edge.taken`: the lines that the run went stand above all others."""

_POINT = Extent(0, 4, 4)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A level and the places of its items, relative to the line with which the level begins."""

    extent: Extent
    layout: Layout
    shift: float = 0.0
    """Height of the first item."""

    end: float | None = 0.0
    """Height of the end of the level; `None` if the level has no end."""


def svg(outline: Outline) -> str:
    """Draw *outline* as a complete SVG document."""
    drawing = _Drawing()
    extent = drawing.measure(outline.level).extent
    final = None if outline.final is None else drawing.measure_final(outline.final)
    head = [line for line in (outline.facts, *outline.failures) if line]
    top = _MARGIN + 24 + 20 * len(head) + 12
    width = max(
        extent.width + 2 * (_MARGIN + GAP),
        2 * _MARGIN + (0 if final is None else final.width),
        2 * _MARGIN + max(text_width(shorten(line, 110), 13) for line in (outline.title, *head)),
        2 * _MARGIN + _legend_width(outline),
    )
    middle = top + extent.up
    bottom = middle + extent.down + (0 if final is None else _MARGIN + final.up + final.down)
    height = bottom + _MARGIN + (38 if outline.counts else 0)

    drawing.text(_MARGIN, _MARGIN + 14, shorten(outline.title, 90), 18, DARK, bold=True)
    for number, line in enumerate(head):
        colour = GREY if number == 0 and outline.facts else COLOURS[TaskStatus.FAILED].stroke
        drawing.text(_MARGIN, _MARGIN + 36 + 20 * number, shorten(line, 110), 12.5, colour)
    drawing.whole(outline.level, _MARGIN, middle)
    if outline.final is not None and final is not None:
        drawing.final(outline, final, _MARGIN, bottom - final.down)
    if outline.counts:
        drawing.legend(outline, _MARGIN, height - _MARGIN)
    return drawing.document(" · ".join(filter(None, (outline.title, outline.facts))), width, height)


def _legend(outline: Outline) -> list[tuple[Look, str]]:
    counts = outline.counts
    return [(look, count_text(counts, look)) for look in COLOURS if look is not None and counts[look]]


def _legend_width(outline: Outline) -> float:
    return sum(text_width(text, 12) + 40 for _, text in _legend(outline))


def _label_width(lines: Sequence[str]) -> float:
    return max(text_width(lines[0], 13, bold=True) + _ICON, *(text_width(line, 11) for line in lines[1:]))


class _Drawing(Pen):
    """One picture."""

    def __init__(self) -> None:
        super().__init__()
        self._levels: dict[int, _Measured] = {}
        self._extents: dict[int, Extent] = {}
        """Measured levels, and extents of items, by their identity."""

    # Measuring, from the inside out.

    def measure(self, level: Level) -> _Measured:
        boxes = [self._measure_item(item) for item in level.items]
        links = [Link(edge.source, edge.target, _label_extent(edge)) for edge in level.edges]
        if level.folded is not None:
            boxes.append(_folded_extent(level.folded))
        is_closed = bool(level.ends) and not level.is_line and not _is_framed(level)
        if is_closed:
            links += [Link(end.source, end.target) for end in level.ends]
            boxes.append(_POINT)
        layout = arrange(boxes, links, is_closed=is_closed)
        if _is_framed(level):
            width, up, down = layout.extent
            half = (up + down) / 2 + _PAD
            measured = _Measured(Extent(width + 2 * _PAD, half, half), layout, (up - down) / 2)
        else:
            measured = _Measured(layout.extent, layout, end=layout.boxes[-1].y if level.ends else None)
        self._levels[id(level)] = measured
        return measured

    def measure_final(self, level: Level) -> Extent:
        """Return the size of the part of the picture with the level `finally`."""
        width, up, down = self.measure(level).extent
        text = text_width("finally", 13) + text_width(FINAL_DETAIL, 11)
        return Extent(max(width + 2 * (_PAD + GAP), text + 4 * _PAD), up + _HEADER, down + _PAD)

    def _measure_item(self, item: Item) -> Extent:
        if not item.node.scopes:
            half = (12 + _LINE * len(item.lines)) / 2
            width = max(_label_width(item.lines) + _TEXT_LEFT + 12, _BOX_WIDTH_MIN)
            extent = Extent(width, half, half)
        else:
            rows = [self.measure(branch).extent for branch in item.branches]
            if item.folded is not None:
                rows.append(_folded_extent(item.folded))
            area = sum(row.up + row.down for row in rows) + _BRANCH_GAP * (len(rows) - 1)
            width = max(max(row.width for row in rows) + 2 * (_PAD + _FAN), _header_width(item.lines) + 2 * _PAD)
            extent = Extent(width, _HEADER + area / 2, area / 2 + _PAD)
        self._extents[id(item)] = extent
        return extent

    # Drawing, from the outside in.

    def whole(self, level: Level, x: float, middle: float) -> None:
        """Draw a level that stands in no node, between the marks of its beginning and its end."""
        measured = self._levels[id(level)]
        left = x + GAP
        self.dot(x + 5, middle, 5)
        self.line(x + 10, left, middle, arrow=_is_framed(level))
        self.level(level, left, middle)
        if measured.end is not None:
            right = left + measured.extent.width
            self.line(right, right + GAP - 11, middle + measured.end)
            self.end(right + GAP - 5, middle + measured.end)

    def final(self, outline: Outline, extent: Extent, x: float, middle: float) -> None:
        """Draw the level `finally`."""
        assert outline.final is not None
        self.panel(x, middle, extent)
        detail = outline.final_facts or FINAL_DETAIL
        self.parts.append(self.heading(x + _PAD, middle - extent.up + 24, "finally", [(detail, GREY)]))
        self.whole(outline.final, x + _PAD, middle)

    def level(self, level: Level, x: float, middle: float) -> None:
        """Draw the items of a level and the edges between them."""
        measured = self._levels[id(level)]
        layout = measured.layout
        if _is_framed(level):
            self.panel(x, middle, measured.extent)
            x += _PAD
        lefts, y = layout.lefts(x), middle + measured.shift
        edges = list(zip((*level.edges, *level.ends), layout.links, strict=False))
        if level.is_line:
            for item, place in zip(level.items, layout.boxes, strict=True):
                if place.column:
                    self.way(layout.way(layout.links[place.column - 1], lefts, y), arrow=True)
                self._item(item, lefts[place.column], y)
            return
        for edge, link in sorted(edges, key=lambda pair: _LAYERS[pair[0].taken]):
            is_end = edge.target == len(level.items)
            self.way(layout.way(link, lefts, y), INKS[edge.taken], arrow=not is_end, dashed=edge.is_catch)
        for edge, link in edges:
            if edge.text:
                _, place, *_ = link
                colour = _LABEL_COLOURS[edge.taken]
                self.label(lefts[place.column] + 4, y + place.y - 5, edge.label, edge.text, colour)
        for item, place in zip(level.items, layout.boxes, strict=False):
            self._item(item, lefts[place.column], y + place.y)
        if level.folded is not None:
            self._folded(level.folded, lefts[0], y + layout.boxes[-1].y)
        elif not level.is_graph and len(level.ends) > 1:
            self.dot(lefts[-1], y + layout.boxes[-1].y, 3.5)

    def _item(self, item: Item, x: float, middle: float) -> None:
        if item.node.scopes:
            self._parallel(item, x, middle)
        else:
            self._task(item, x, middle)

    def _task(self, item: Item, x: float, middle: float) -> None:
        extent, stroke = self._extents[id(item)], COLOURS[item.look].stroke
        top, height = middle - extent.up, extent.up + extent.down
        name, *details = item.lines
        self.parts.append(f"<g><title>{xml(_tooltip(item))}</title>")
        self.frame(x, top, extent.width, height, item.look)
        self.parts.append(
            f'<path d="M{x + 4:.1f} {top:.1f} a4 4 0 0 0 -4 4 v{height - 8:.1f} a4 4 0 0 0 4 4 z" fill="{stroke}"/>'
        )
        self.text(x + _TEXT_LEFT, top + 20, name, 13, GREY if item.look is TaskStatus.SKIPPED else DARK, bold=True)
        for number, line in enumerate(details, 1):
            self.text(x + _TEXT_LEFT, top + 20 + _LINE * number, line, 11, GREY if number == 1 else stroke)
        self.icon(item.look, x + extent.width - 15, top + 15)
        self.parts.append("</g>")

    def _parallel(self, item: Item, x: float, middle: float) -> None:
        extent, stroke = self._extents[id(item)], COLOURS[item.look].stroke
        top = middle - extent.up
        name, *details = item.lines
        self.parts.append(f"<g><title>{xml(_tooltip(item))}</title>")
        self.frame(x, top, extent.width, extent.up + extent.down, item.look, container=True)
        self.icon(item.look, x + _PAD + 5, top + 19)
        colours = zip(details, (GREY, stroke), strict=False)
        left = x + _PAD + (18 if item.look else 0)
        self.parts.append(self.heading(left, top + 23, name, list(colours)) + "</g>")

        fork, join = x + _PAD, x + extent.width - _PAD
        self.line(x, fork, middle)
        self.line(join, x + extent.width, middle)
        y = middle - (extent.up - _HEADER)
        for row in (*item.branches, *((item.folded,) if item.folded else ())):
            size, end = self._size(row)
            start = fork + _FAN
            y += size.up
            self.curve(fork, middle, start, y, arrow=True)
            if end is not None:
                self.line(start + size.width, join - _FAN, y + end)
                self.curve(join - _FAN, y + end, join, middle)
            if isinstance(row, Folded):
                self._folded(row, start, y)
            else:
                self.level(row, start, y)
            y += size.down + _BRANCH_GAP
        self.dot(fork, middle, 3.5)
        self.dot(join, middle, 3.5)

    def _size(self, row: Level | Folded) -> tuple[Extent, float | None]:
        """Return the extent of a branch, and the height of its end."""
        if isinstance(row, Folded):
            return _folded_extent(row), 0.0
        measured = self._levels[id(row)]
        return measured.extent, measured.end

    def _folded(self, folded: Folded, x: float, middle: float) -> None:
        extent = _folded_extent(folded)
        top = middle - extent.up
        self.panel(x, middle, extent, dashed=True)
        self.text(x + _TEXT_LEFT, top + 19, folded.title, 12, DARK, bold=True)
        self.text(x + _TEXT_LEFT, top + 35, folded.detail, 11, GREY)
        left, room = x + _TEXT_LEFT, extent.width - 2 * _TEXT_LEFT
        for look, colours in COLOURS.items():
            share = folded.counts[look] / folded.tasks * room if look is not None and folded.counts else 0
            if share:
                self.parts.append(
                    f'<rect x="{left:.1f}" y="{top + 43:.1f}" width="{share:.1f}" height="5" fill="{colours.stroke}"/>'
                )
                left += share

    def legend(self, outline: Outline, x: float, y: float) -> None:
        """Draw the looks that occur, with their numbers of tasks."""
        for look, text in _legend(outline):
            self.icon(look, x + 7, y - 4)
            self.text(x + 20, y, text, 12, GREY)
            x += text_width(text, 12) + 40


def _is_framed(level: Level) -> bool:
    """Whether a level has a frame: its beginning and its end are no points."""
    return level.is_graph or level.folded is not None


def _header_width(lines: Sequence[str]) -> float:
    return 26 + text_width(lines[0], 13, bold=True) + sum(text_width(line, 11) + 10 for line in lines[1:])


def _folded_extent(folded: Folded) -> Extent:
    width = max(text_width(folded.title, 12, bold=True), text_width(folded.detail, 11))
    half = 29 if folded.counts else 23
    return Extent(width + 2 * _TEXT_LEFT, half, half)


def _label_extent(edge: Edge) -> Extent | None:
    return Extent(text_width(edge.label, 11) + 8, 19, 4) if edge.text else None


def _tooltip(item: Item) -> str:
    """Return the texts that do not fit into the box."""
    lines = [item.node.name, item.subtitle, item.progress, item.reason, item.node.comment]
    if item.state is not None and item.state.error is not None:
        lines.append(item.state.error.text)
    return "\n".join(line for line in lines if line)
