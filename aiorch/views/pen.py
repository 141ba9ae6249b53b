"""
The strokes of an SVG picture: texts, lines, boxes and marks of statuses, all in pixels. Pure.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from aiorch.model.status import TaskStatus
from aiorch.views.entries import CAUGHT, Look
from aiorch.views.layers import Extent
from aiorch.views.outline import COLOURS

DARK, GREY = "#0f172a", "#64748b"

_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_EDGE = "#94a3b8"
_LEVEL = 0.05
"""A smaller difference of heights cannot be seen."""

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Ink(NamedTuple):
    """The look of a line with an arrow."""

    marker: str
    colour: str
    width: float


OPEN = Ink("arrow", _EDGE, 1.5)
TAKEN = Ink("taken", "#334155", 2.2)
NOT_TAKEN = Ink("not-taken", "#d3dae3", 1.3)
INKS = {None: OPEN, True: TAKEN, False: NOT_TAKEN}
"""By `aiorch.views.outline.Edge.taken`."""


class Pen:
    """
    Draws the parts of one picture.

    Attributes:
        parts: The elements so far, in order of painting.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._inks: dict[Ink, None] = {OPEN: None}

    def document(self, title: str, width: float, height: float) -> str:
        """Return the complete SVG document."""
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        body = "\n".join(self.parts)
        return f"""\
<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family={quoteattr(_FONT)}>
<title>{xml(title)}</title>
<defs>{"".join(map(_marker, self._inks))}</defs>
<rect width="100%" height="100%" fill="#ffffff"/>
{body}
</svg>
"""

    def text(  # noqa: PLR0913  attributes of a stroke
        self, x: float, y: float, text: str, size: float, colour: str, *, bold: bool = False
    ) -> None:
        """Draw a text that begins at *x*, with its base line at *y*."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{weight}>{xml(text)}</text>'
        )

    def heading(self, x: float, y: float, name: str, details: Sequence[tuple[str, str]]) -> str:
        """Return a text of a bold name and of details, each with its colour."""
        spans = "".join(
            f'<tspan dx="10" font-size="11" font-weight="400" fill="{colour}">{xml(line)}</tspan>'
            for line, colour in details
        )
        return f'<text x="{x:.1f}" y="{y:.1f}" font-size="13" font-weight="600" fill="{DARK}">{xml(name)}{spans}</text>'

    def line(self, x1: float, x2: float, y: float, *, arrow: bool = False) -> None:
        """Draw a level line, unless it has no length."""
        if x2 - x1 > 0.5:
            self.way([(x1, y), (x2, y)], arrow=arrow)

    def curve(self, x1: float, y1: float, x2: float, y2: float, *, arrow: bool = False) -> None:
        """Draw a line that is level at both ends."""
        bend = (x1 + x2) / 2
        self._path(f"M{x1:.1f} {y1:.1f} C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}", OPEN, arrow=arrow)

    def way(
        self, points: Sequence[tuple[float, float]], ink: Ink = OPEN, *, arrow: bool = False, dashed: bool = False
    ) -> None:
        """Draw a line through points from left to right; the line is level at each of them."""
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
        for (x1, y1), (x2, y2), following in zip(points, points[1:], (*points[2:], None), strict=False):
            bend = (x1 + x2) / 2
            if abs(y2 - y1) >= _LEVEL:
                path += f" C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
            elif following is None or abs(following[1] - y2) >= _LEVEL:
                path += f" H{x2:.1f}"
        self._path(path, ink, arrow=arrow, dashed=dashed)

    def _path(self, path: str, ink: Ink, *, arrow: bool, dashed: bool = False) -> None:
        self._inks[ink] = None
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        marker = f' marker-end="url(#{ink.marker})"' if arrow else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{ink.colour}" stroke-width="{ink.width}"{dash}{marker}/>'
        )

    def label(self, x: float, y: float, text: str, full_text: str, colour: str) -> None:
        """Draw a text on a line. A reader sees the full text under the pointer."""
        title = f"<title>{xml(full_text)}</title>" if full_text != text else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="{colour}" paint-order="stroke" stroke="#ffffff" '
            f'stroke-width="3">{title}{xml(text)}</text>'
        )

    def dot(self, x: float, y: float, radius: float) -> None:
        """Draw a dot."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{GREY}"/>')

    def end(self, x: float, y: float) -> None:
        """Draw the mark of an end."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="#ffffff" stroke="{GREY}" stroke-width="1.5"/>'
        )
        self.dot(x, y, 2.5)

    def frame(  # noqa: PLR0913  as above
        self, x: float, y: float, width: float, height: float, look: Look | None, *, container: bool = False
    ) -> None:
        """Draw the box of a node."""
        colours = COLOURS[look]
        dash = ' stroke-dasharray="4 3"' if look is TaskStatus.SKIPPED else ""
        opacity = ' fill-opacity="0.45" stroke-opacity="0.55"' if container else ""
        fill = "#f8fafc" if look is None and container else colours.fill
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{10 if container else 4}" '
            f'fill="{fill}" stroke="{colours.stroke}"{dash}{opacity}/>'
        )

    def panel(self, x: float, middle: float, extent: Extent, *, dashed: bool = False) -> None:
        """Draw a frame around a part of the picture."""
        dash = f' stroke="{_EDGE}" stroke-dasharray="4 3"' if dashed else ' stroke="#cbd5e1"'
        self.parts.append(
            f'<rect x="{x:.1f}" y="{middle - extent.up:.1f}" width="{extent.width:.1f}" '
            f'height="{extent.up + extent.down:.1f}" rx="{6 if dashed else 10}" fill="#ffffff"{dash}/>'
        )

    def icon(self, look: Look | None, x: float, y: float) -> None:
        """Draw the mark of a look; nothing without one."""
        if look is None:
            return
        colour, shape = COLOURS[look].stroke, _ICONS[look]
        if look in _HOLLOW:
            self.parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="{colour}" stroke-width="1.3"/>'
            )
        else:
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.6" fill="{colour}"/>')
        ink = colour if look in _HOLLOW else "#ffffff"
        self.parts.append(
            f'<path transform="translate({x:.1f} {y:.1f})" d="{shape}" fill="none" stroke="{ink}" stroke-width="1.5" '
            'stroke-linecap="round" stroke-linejoin="round"/>'
        )


_HOLLOW = frozenset({TaskStatus.NEW, TaskStatus.SKIPPED, CAUGHT})
_CROSS = "M-2.1 -2.1 L2.1 2.1 M2.1 -2.1 L-2.1 2.1"
_ICONS: dict[Look, str] = {
    TaskStatus.NEW: "M0 0 h0",
    TaskStatus.STARTING: "M-1.6 -2.6 L2.4 0 L-1.6 2.6 z",
    TaskStatus.RUNNING: "M-1.6 -2.6 L2.4 0 L-1.6 2.6 z",
    TaskStatus.RETRYING: "M2.8 -1.2 A3 3 0 1 0 2.8 1.4 M3 -3 V-1 H1",
    TaskStatus.COMPLETED: "M-2.8 0.2 L-0.8 2.2 L3 -2",
    TaskStatus.FAILED: _CROSS,
    CAUGHT: _CROSS,
    TaskStatus.CANCELLED: "M-2.6 0 H2.6",
    TaskStatus.SKIPPED: "M-2.4 -2.4 L0 0 L-2.4 2.4 M0.2 -2.4 L2.6 0 L0.2 2.4",
}


def _marker(ink: Ink) -> str:
    size = f"{7 * OPEN.width / ink.width:.3g}"  # in widths of the line
    return (
        f'<marker id="{ink.marker}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" markerHeight="{size}" '
        f'orient="auto"><path d="M0 0.8 L7.2 4 L0 7.2 z" fill="{ink.colour}"/></marker>'
    )


def xml(text: str) -> str:
    """Return *text* as the content of an XML element."""
    return escape(_NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def text_width(text: str, size: float, *, bold: bool = False) -> float:
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
