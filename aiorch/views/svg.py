"""
The SVG picture of a DAG, drawn without any other program. Pure.

A DAG is a chain whose items may hold parallel chains, so the layout needs no search. Every item has a width, and a
height above and below the line that runs through it (`_Extent`). Extents are measured from the inside out, and the
picture is drawn from the outside in. Time runs from left to right; branches are drawn below each other.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from aiorch.model.status import TaskStatus
from aiorch.views.outline import COLOURS, Chain, Folded, Item, Outline, shorten

# All in pixels.
_GAP = 34
_BRANCH_GAP = 14
_FAN = 44
_PAD = 16
_HEADER = 40
_MARGIN = 28
_LINE = 16
_BOX_WIDTH_MIN = 112
_TEXT_LEFT = 14
_ICON = 22

_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_EDGE = "#94a3b8"
_DARK, _GREY = "#0f172a", "#64748b"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Extent(NamedTuple):
    """Size of a part of the picture around the line that runs through it."""

    width: float
    up: float
    down: float


def svg(outline: Outline) -> str:
    """Draw *outline* as a complete SVG document."""
    drawing = _Drawing()
    extent = drawing.measure_chain(outline.chain)
    head = [line for line in (outline.facts, *outline.failures) if line]
    top = _MARGIN + 24 + 20 * len(head) + 12
    width = max(
        extent.width + 2 * (_MARGIN + _GAP),
        2 * _MARGIN + max(_text_width(shorten(line, 110), 13) for line in (outline.title, *head)),
        2 * _MARGIN + _legend_width(outline),
    )
    middle = top + extent.up
    height = middle + extent.down + _MARGIN + (38 if outline.counts else 0)

    drawing.text(_MARGIN, _MARGIN + 14, shorten(outline.title, 90), 18, _DARK, bold=True)
    for number, line in enumerate(head):
        colour = _GREY if number == 0 and outline.facts else COLOURS[TaskStatus.FAILED].stroke
        drawing.text(_MARGIN, _MARGIN + 36 + 20 * number, shorten(line, 110), 12.5, colour)
    left = _MARGIN + _GAP
    drawing.dot(_MARGIN + 5, middle, 5)
    drawing.line(_MARGIN + 10, left, middle)
    drawing.chain(outline.chain, left, middle)
    drawing.line(left + extent.width, left + extent.width + _GAP - 11, middle)
    drawing.end(left + extent.width + _GAP - 5, middle)
    if outline.counts:
        drawing.legend(outline, _MARGIN, height - _MARGIN)
    return _document(outline, width, height, drawing.parts)


def _document(outline: Outline, width: float, height: float, parts: Sequence[str]) -> str:
    title = " · ".join(filter(None, (outline.title, outline.facts)))
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    body = "\n".join(parts)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(_FONT)}>
<title>{_xml(title)}</title>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0.8 L7.2 4 L0 7.2 z" fill="{_EDGE}"/></marker></defs>
<rect width="100%" height="100%" fill="#ffffff"/>
{body}
</svg>
"""


def _xml(text: str) -> str:
    return escape(_NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def _text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return an estimate on the wide side: the font depends on the reader."""
    ems = sum(
        0
        if unicodedata.combining(char)
        else 1.05
        if unicodedata.east_asian_width(char) in "WF"
        else 0.38
        if char in "ijlft.,:;'|!()[] "
        else 0.74
        if char.isupper() or char in "mw@%"
        else 0.62
        for char in text
    )
    return ems * size * (1.07 if bold else 1.0)


def _legend(outline: Outline) -> list[tuple[TaskStatus, str]]:
    return [
        (status, f"{outline.counts[status]:,} {status}")
        for status in COLOURS
        if status is not None and outline.counts[status]
    ]


def _legend_width(outline: Outline) -> float:
    return sum(_text_width(text, 12) + 40 for _, text in _legend(outline))


def _label_width(lines: Sequence[str]) -> float:
    return max(_text_width(lines[0], 13, bold=True) + _ICON, *(_text_width(line, 11) for line in lines[1:]))


class _Drawing:
    """The parts of one picture, in order of painting."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._extents: dict[int, _Extent] = {}
        """Measured extents by the identity of items and chains."""

    # Measuring, from the inside out.

    def measure_chain(self, chain: Chain) -> _Extent:
        extents = [self._measure_item(item) for item in chain]
        width = sum(extent.width for extent in extents) + _GAP * (len(extents) - 1)
        extent = _Extent(width, max(e.up for e in extents), max(e.down for e in extents))
        self._extents[id(chain)] = extent
        return extent

    def _measure_item(self, item: Item) -> _Extent:
        if not item.node.scopes:
            half = (12 + _LINE * len(item.lines)) / 2
            width = max(_label_width(item.lines) + _TEXT_LEFT + 12, _BOX_WIDTH_MIN)
            extent = _Extent(width, half, half)
        else:
            rows = [self.measure_chain(branch) for branch in item.branches]
            if item.folded is not None:
                rows.append(_folded_extent(item.folded))
            area = sum(row.up + row.down for row in rows) + _BRANCH_GAP * (len(rows) - 1)
            width = max(max(row.width for row in rows) + 2 * (_PAD + _FAN), _header_width(item.lines) + 2 * _PAD)
            extent = _Extent(width, _HEADER + area / 2, area / 2 + _PAD)
        self._extents[id(item)] = extent
        return extent

    # Drawing, from the outside in.

    def chain(self, chain: Chain, x: float, middle: float) -> None:
        for number, item in enumerate(chain):
            width = self._extents[id(item)].width
            if number:
                self.line(x - _GAP, x, middle, arrow=True)
            if item.node.scopes:
                self._parallel(item, x, middle)
            else:
                self._task(item, x, middle)
            x += width + _GAP

    def _task(self, item: Item, x: float, middle: float) -> None:
        extent, stroke = self._extents[id(item)], COLOURS[item.status].stroke
        top, height = middle - extent.up, extent.up + extent.down
        name, *details = item.lines
        self.parts.append(f"<g><title>{_xml(_tooltip(item))}</title>")
        self._frame(x, top, extent.width, height, item.status)
        self.parts.append(
            f'<path d="M{x + 4:.1f} {top:.1f} a4 4 0 0 0 -4 4 v{height - 8:.1f} a4 4 0 0 0 4 4 z" fill="{stroke}"/>'
        )
        self.text(x + _TEXT_LEFT, top + 20, name, 13, _GREY if item.status is TaskStatus.SKIPPED else _DARK, bold=True)
        for number, line in enumerate(details, 1):
            self.text(x + _TEXT_LEFT, top + 20 + _LINE * number, line, 11, _GREY if number == 1 else stroke)
        self._icon(item.status, x + extent.width - 15, top + 15)
        self.parts.append("</g>")

    def _parallel(self, item: Item, x: float, middle: float) -> None:
        extent, stroke = self._extents[id(item)], COLOURS[item.status].stroke
        top = middle - extent.up
        name, *details = item.lines
        self.parts.append(f"<g><title>{_xml(_tooltip(item))}</title>")
        self._frame(x, top, extent.width, extent.up + extent.down, item.status, container=True)
        self._icon(item.status, x + _PAD + 5, top + 19)
        spans = "".join(
            f'<tspan dx="10" font-size="11" font-weight="400" fill="{colour}">{_xml(line)}</tspan>'
            for line, colour in zip(details, (_GREY, stroke), strict=False)
        )
        self.parts.append(
            f'<text x="{x + _PAD + (18 if item.status else 0):.1f}" y="{top + 23:.1f}" font-size="13" '
            f'font-weight="600" fill="{_DARK}">{_xml(name)}{spans}</text></g>'
        )

        fork, join = x + _PAD, x + extent.width - _PAD
        self.line(x, fork, middle)
        self.line(join, x + extent.width, middle)
        y = middle - (extent.up - _HEADER)
        for row in (*item.branches, *((item.folded,) if item.folded else ())):
            size = _folded_extent(row) if isinstance(row, Folded) else self._extents[id(row)]
            y += size.up
            start = fork + _FAN
            self._curve(fork, middle, start, y, arrow=True)
            self.line(start + size.width, join - _FAN, y)
            self._curve(join - _FAN, y, join, middle)
            if isinstance(row, Folded):
                self._folded(row, start, y)
            else:
                self.chain(row, start, y)
            y += size.down + _BRANCH_GAP
        self.dot(fork, middle, 3.5)
        self.dot(join, middle, 3.5)

    def _folded(self, folded: Folded, x: float, middle: float) -> None:
        extent = _folded_extent(folded)
        top = middle - extent.up
        self.parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{extent.width:.1f}" height="{extent.up + extent.down:.1f}" '
            f'rx="6" fill="#ffffff" stroke="{_EDGE}" stroke-dasharray="4 3"/>'
        )
        self.text(x + _TEXT_LEFT, top + 19, folded.title, 12, _DARK, bold=True)
        self.text(x + _TEXT_LEFT, top + 35, folded.detail, 11, _GREY)
        left, room = x + _TEXT_LEFT, extent.width - 2 * _TEXT_LEFT
        for status, colours in COLOURS.items():
            share = folded.counts[status] / folded.tasks * room if status is not None and folded.counts else 0
            if share:
                self.parts.append(
                    f'<rect x="{left:.1f}" y="{top + 43:.1f}" width="{share:.1f}" height="5" fill="{colours.stroke}"/>'
                )
                left += share

    def legend(self, outline: Outline, x: float, y: float) -> None:
        """Draw the statuses that occur, with their numbers of tasks."""
        for status, text in _legend(outline):
            self._icon(status, x + 7, y - 4)
            self.text(x + 20, y, text, 12, _GREY)
            x += _text_width(text, 12) + 40

    # Strokes.

    def text(  # noqa: PLR0913  attributes of a stroke
        self, x: float, y: float, text: str, size: float, colour: str, *, bold: bool = False
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{weight}>{_xml(text)}</text>'
        )

    def line(self, x1: float, x2: float, y: float, *, arrow: bool = False) -> None:
        if x2 - x1 > 0.5:
            self._path(f"M{x1:.1f} {y:.1f} H{x2:.1f}", arrow=arrow)

    def dot(self, x: float, y: float, radius: float) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{_GREY}"/>')

    def end(self, x: float, y: float) -> None:
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="#ffffff" stroke="{_GREY}" stroke-width="1.5"/>'
        )
        self.dot(x, y, 2.5)

    def _curve(self, x1: float, y1: float, x2: float, y2: float, *, arrow: bool = False) -> None:
        bend = (x1 + x2) / 2
        self._path(f"M{x1:.1f} {y1:.1f} C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}", arrow=arrow)

    def _path(self, path: str, *, arrow: bool) -> None:
        marker = ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(f'<path d="{path}" fill="none" stroke="{_EDGE}" stroke-width="1.5"{marker}/>')

    def _frame(  # noqa: PLR0913  as above
        self, x: float, y: float, width: float, height: float, status: TaskStatus | None, *, container: bool = False
    ) -> None:
        colours = COLOURS[status]
        dash = ' stroke-dasharray="4 3"' if status is TaskStatus.SKIPPED else ""
        opacity = ' fill-opacity="0.45" stroke-opacity="0.55"' if container else ""
        fill = "#f8fafc" if status is None and container else colours.fill
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{10 if container else 4}" '
            f'fill="{fill}" stroke="{colours.stroke}"{dash}{opacity}/>'
        )

    def _icon(self, status: TaskStatus | None, x: float, y: float) -> None:
        if status is None:
            return
        colour, shape = COLOURS[status].stroke, _ICONS[status]
        if status in _HOLLOW:
            self.parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="{colour}" stroke-width="1.3"/>'
            )
        else:
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.6" fill="{colour}"/>')
        ink = colour if status in _HOLLOW else "#ffffff"
        self.parts.append(
            f'<path transform="translate({x:.1f} {y:.1f})" d="{shape}" fill="none" stroke="{ink}" stroke-width="1.5" '
            'stroke-linecap="round" stroke-linejoin="round"/>'
        )


_HOLLOW = frozenset({TaskStatus.NEW, TaskStatus.SKIPPED})
_ICONS = {
    TaskStatus.NEW: "M0 0 h0",
    TaskStatus.STARTING: "M-1.6 -2.6 L2.4 0 L-1.6 2.6 z",
    TaskStatus.RUNNING: "M-1.6 -2.6 L2.4 0 L-1.6 2.6 z",
    TaskStatus.RETRYING: "M2.8 -1.2 A3 3 0 1 0 2.8 1.4 M3 -3 V-1 H1",
    TaskStatus.COMPLETED: "M-2.8 0.2 L-0.8 2.2 L3 -2",
    TaskStatus.FAILED: "M-2.1 -2.1 L2.1 2.1 M2.1 -2.1 L-2.1 2.1",
    TaskStatus.CANCELLED: "M-2.6 0 H2.6",
    TaskStatus.SKIPPED: "M-2.4 -2.4 L0 0 L-2.4 2.4 M0.2 -2.4 L2.6 0 L0.2 2.4",
}


def _header_width(lines: Sequence[str]) -> float:
    return 26 + _text_width(lines[0], 13, bold=True) + sum(_text_width(line, 11) + 10 for line in lines[1:])


def _folded_extent(folded: Folded) -> _Extent:
    width = max(_text_width(folded.title, 12, bold=True), _text_width(folded.detail, 11))
    half = 29 if folded.counts else 23
    return _Extent(width + 2 * _TEXT_LEFT, half, half)


def _tooltip(item: Item) -> str:
    """Return the texts that do not fit into the box."""
    lines = [item.node.name, item.subtitle, item.progress, item.node.comment]
    if item.state is not None and item.state.error is not None:
        lines.append(item.state.error.text)
    return "\n".join(line for line in lines if line)
