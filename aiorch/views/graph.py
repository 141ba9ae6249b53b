"""
A DAG as a picture: Mermaid, Graphviz or SVG, optionally with the statuses of a run. Pure.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from aiorch.model.dag import DAG
from aiorch.model.run import Run
from aiorch.views.entries import Look
from aiorch.views.escaping import one_line
from aiorch.views.outline import BRANCHES_MAX, COLOURS, FINAL_DETAIL, Edge, Folded, Item, Level, Outline, outline_of
from aiorch.views.pen import INKS, Ink
from aiorch.views.svg import svg

Format = Literal["mermaid", "dot", "svg"]


def render(
    dag: DAG,
    format: Format,  # noqa: A002  the name of the command line option
    run: Run | None = None,
    *,
    now: datetime | None = None,
    branches_max: int = BRANCHES_MAX,
) -> str:
    """
    Draw *dag*.

    Args:
        dag: The DAG to draw.

        format: ``mermaid``, ``dot`` (Graphviz) or ``svg``.

        run: A run of *dag* that gives every node a status and a duration.

        now: Aware time for the durations of running nodes; `None` shows no duration for them.

        branches_max: Branches of one `Parallel` to draw, at least 1; failed and running branches take precedence.

    Returns:
        A complete document in the format, ending with a newline.
    """
    outline = outline_of(dag, run, now=now, branches_max=branches_max)
    if format == "svg":
        return svg(outline)
    return _mermaid(outline) if format == "mermaid" else _dot(outline)


# --- Mermaid ---------------------------------------------------------------------------------------------------

_MERMAID_UNSAFE = re.compile(r"[^\w ,:/.\-]|[.\-](?=\s|$)|_(?=_)")
"""Characters that are written as numbers: quotes and brackets would end a label, and labels are read as Markdown."""


def _mermaid_label(*lines: str) -> str:
    return "<br/>".join(_MERMAID_UNSAFE.sub(lambda match: f"#{ord(match[0])};", line) for line in lines)


_MERMAID_HEAD = """\
---
title: {title}
config:
  flowchart:
    wrappingWidth: 360
    subGraphTitleMargin:
      bottom: 12
---
flowchart LR"""


def _mermaid(outline: Outline) -> str:
    title = " · ".join(filter(None, (outline.title, outline.facts)))
    # JSON is valid YAML, and the escapes of JSON keep any title on one line.
    lines = [_MERMAID_HEAD.format(title=json.dumps(title))]
    writer = _MermaidWriter(lines)
    writer.level(outline.level, "  ")
    if outline.final is not None:
        lines.append(f'  subgraph final["{_mermaid_label(_final_title(outline))}"]')
        writer.level(outline.final, "    ")
        lines += ["  end", "  class final branch"]
    lines += [
        f"  classDef {look} fill:{colours.fill},stroke:{colours.stroke},color:{colours.stroke}"
        for look, colours in COLOURS.items()
        if look is not None and look in writer.used
    ]
    lines += [
        "  classDef branch fill:none,stroke:#cbd5e1,stroke-dasharray:3 3",
        "  classDef joint fill:#64748b,stroke:none",
        *writer.link_styles(),
    ]
    return "\n".join(lines) + "\n"


class _MermaidWriter:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.used: set[Look] = set()
        self._count = 0
        self._inks: list[Ink] = []
        """The looks of the links, in the order of the links."""

    def level(self, level: Level, indent: str) -> tuple[list[str], list[str]]:
        """Write a level, and return the ids with which it begins and with which it may end."""
        ends = [self._item(item, indent) for item in level.items]
        for edge in level.edges:
            self._link(indent, ends[edge.source][1], ends[edge.target][0], edge)
        folded = [] if level.folded is None else [self._folded(level.folded, indent)]
        starts = [ends[number][0] for number in level.starts]
        return starts + folded, [ends[edge.source][1] for edge in level.ends] + folded

    def link_styles(self) -> Iterator[str]:
        """Yield the looks of links that differ from others, by the numbers of the links."""
        for taken, ink in INKS.items():
            numbers = ",".join(str(number) for number, each in enumerate(self._inks) if each is ink)
            if taken is not None and numbers:
                yield f"  linkStyle {numbers} stroke:{ink.colour},stroke-width:{ink.width * 1.5:.3g}px"

    def _link(self, indent: str, before: str, after: str, edge: Edge | None = None) -> None:
        self._inks.append(INKS[edge.taken if edge else None])
        arrow = "-.->" if edge and edge.is_catch else "-->"
        label = f'|"{_mermaid_label(edge.label)}"|' if edge and edge.text else ""
        self.lines.append(f"{indent}{before} {arrow}{label} {after}")

    def _id(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def _item(self, item: Item, indent: str) -> tuple[str, str]:
        name = self._id()
        if item.look is not None:
            self.used.add(item.look)
        if not item.node.scopes:
            self.lines.append(
                f'{indent}{name}["{_mermaid_label(*item.lines)}"]' + (f":::{item.look}" if item.look else "")
            )
            return name, name
        fork, join, inner = f"{name}_fork", f"{name}_join", indent + "  "
        self.lines.append(f'{indent}subgraph {name}["{_mermaid_label(" · ".join(item.lines))}"]')
        self.lines += [f'{inner}{fork}((" ")):::joint', f'{inner}{join}((" ")):::joint']
        for number, branch in enumerate(item.branches, 1):
            framed = len(branch.items) > 1
            if framed:
                self.lines.append(f'{inner}subgraph {name}_branch{number}[" "]')
            starts, ends = self.level(branch, inner + "  " * framed)
            if framed:
                self.lines += [f"{inner}end", f"{inner}class {name}_branch{number} branch"]
            for start in starts:
                self._link(inner, fork, start)
            for end in ends:
                self._link(inner, end, join)
        if item.folded is not None:
            box = self._folded(item.folded, inner)
            self._link(inner, fork, box)
            self._link(inner, box, join)
        self.lines.append(f"{indent}end")
        if item.look is not None:
            self.lines.append(f"{indent}class {name} {item.look}")
        return fork, join

    def _folded(self, folded: Folded, indent: str) -> str:
        box = self._id()
        self.lines.append(f'{indent}{box}[["{_mermaid_label(folded.title, folded.detail)}"]]')
        return box


# --- Graphviz --------------------------------------------------------------------------------------------------


def _dot_label(*lines: str) -> str:
    return "\\n".join(one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)


def _dot(outline: Outline) -> str:
    title = _dot_label(*filter(None, (outline.title, outline.facts)))
    writer = _DotWriter()
    lines = []
    if outline.final is not None:  # Graphviz draws the first part below the others
        lines += [
            "  subgraph cluster_final {",
            f'    label="{_dot_label(_final_title(outline))}"; fontsize=11; color="#cbd5e1"; style="rounded,dashed";',
            *writer.level(outline.final, "    ")[0],
            "  }",
        ]
    lines += writer.level(outline.level, "  ")[0]
    return "\n".join(
        [
            "digraph dag {",
            f'  label="{title}"; labelloc=t; rankdir=LR; fontname="Helvetica"; style=rounded;',
            '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
            '  edge [color="#64748b", arrowsize=0.7];',
            *lines,
            "}\n",
        ]
    )


class _DotWriter:
    def __init__(self) -> None:
        self._count = 0

    def level(self, level: Level, indent: str) -> tuple[list[str], list[str], list[str]]:
        """Return the lines of a level, and the ids with which it begins and with which it may end."""
        parts = [self._item(item, indent) for item in level.items]
        lines = [line for part in parts for line in part[0]]
        lines += [
            f"{indent}{parts[edge.source][2]} -> {parts[edge.target][1]}{_dot_look(edge)};" for edge in level.edges
        ]
        folded = [] if level.folded is None else [self._folded(level.folded, lines, indent)]
        starts = [parts[number][1] for number in level.starts]
        return lines, starts + folded, [parts[edge.source][2] for edge in level.ends] + folded

    def _item(self, item: Item, indent: str) -> tuple[list[str], str, str]:
        self._count += 1
        name, colours = f"n{self._count}", COLOURS[item.look]
        look = f'color="{colours.stroke}", fontcolor="{colours.stroke}"'
        label = _dot_label(*item.lines)
        if not item.node.scopes:
            return [f'{indent}{name} [label="{label}", fillcolor="{colours.fill}", {look}];'], name, name
        fork, join, inner = f"{name}_fork", f"{name}_join", indent + "  "
        lines = [
            f"{indent}subgraph cluster_{name} {{",
            f'{inner}label="{label}"; fontsize=11; {look.replace(", ", "; ")};',
            f"{inner}{fork} [shape=point]; {join} [shape=point];",
        ]
        for branch in item.branches:
            branch_lines, starts, ends = self.level(branch, inner)
            lines += branch_lines
            lines += [f"{inner}{fork} -> {start};" for start in starts]
            lines += [f"{inner}{end} -> {join};" for end in ends]
        if item.folded is not None:
            box = self._folded(item.folded, lines, inner)
            lines += [f"{inner}{fork} -> {box};", f"{inner}{box} -> {join};"]
        return [*lines, f"{indent}}}"], fork, join

    def _folded(self, folded: Folded, lines: list[str], indent: str) -> str:
        self._count += 1
        label = _dot_label(folded.title, folded.detail)
        lines.append(f'{indent}n{self._count} [label="{label}", style="rounded,dashed"];')
        return f"n{self._count}"


def _dot_look(edge: Edge) -> str:
    """Return the attributes of an edge."""
    attributes = []
    if edge.text:
        attributes.append(f'label="{_dot_label(edge.label)}", fontname="Helvetica", fontsize=10')
    if edge.is_catch:
        attributes.append("style=dashed")
    if edge.taken is not None:
        ink = INKS[edge.taken]
        attributes.append(f'color="{ink.colour}", penwidth={ink.width}')
    return f" [{', '.join(attributes)}]" if attributes else ""


# --- both ------------------------------------------------------------------------------------------------------


def _final_title(outline: Outline) -> str:
    return f"finally · {outline.final_facts or FINAL_DETAIL}"
