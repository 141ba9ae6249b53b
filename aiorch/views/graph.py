"""
A DAG as a picture: Mermaid, Graphviz or SVG, optionally with the statuses of a run. Pure.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Literal

from aiorch.model.dag import DAG
from aiorch.model.run import Run
from aiorch.model.status import TaskStatus
from aiorch.views.escaping import one_line
from aiorch.views.outline import BRANCHES_MAX, COLOURS, Chain, Item, Outline, outline_of
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
    writer.chain(outline.chain, "  ")
    lines += [
        f"  classDef {status} fill:{colours.fill},stroke:{colours.stroke},color:{colours.stroke}"
        for status, colours in COLOURS.items()
        if status is not None and status in writer.used
    ]
    lines += [
        "  classDef branch fill:none,stroke:#cbd5e1,stroke-dasharray:3 3",
        "  classDef joint fill:#64748b,stroke:none",
    ]
    return "\n".join(lines) + "\n"


class _MermaidWriter:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.used: set[TaskStatus] = set()
        self._count = 0

    def chain(self, chain: Chain, indent: str) -> tuple[str, str]:
        """Write the nodes of *chain*, and return the ids of the two ends."""
        ends = [self._item(item, indent) for item in chain]
        self.lines += [f"{indent}{before[1]} --> {after[0]}" for before, after in pairwise(ends)]
        return ends[0][0], ends[-1][1]

    def _id(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def _item(self, item: Item, indent: str) -> tuple[str, str]:
        name = self._id()
        if item.status is not None:
            self.used.add(item.status)
        if not item.node.scopes:
            self.lines.append(
                f'{indent}{name}["{_mermaid_label(*item.lines)}"]' + (f":::{item.status}" if item.status else "")
            )
            return name, name
        fork, join, inner = f"{name}_fork", f"{name}_join", indent + "  "
        self.lines.append(f'{indent}subgraph {name}["{_mermaid_label(" · ".join(item.lines))}"]')
        self.lines += [f'{inner}{fork}((" ")):::joint', f'{inner}{join}((" ")):::joint']
        for number, branch in enumerate(item.branches, 1):
            framed = len(branch) > 1
            if framed:
                self.lines.append(f'{inner}subgraph {name}_branch{number}[" "]')
            first, last = self.chain(branch, inner + "  " * framed)
            if framed:
                self.lines += [f"{inner}end", f"{inner}class {name}_branch{number} branch"]
            self.lines.append(f"{inner}{fork} --> {first}")
            self.lines.append(f"{inner}{last} --> {join}")
        if item.folded is not None:
            box = self._id()
            label = _mermaid_label(item.folded.title, item.folded.detail)
            self.lines += [f'{inner}{box}[["{label}"]]', f"{inner}{fork} --> {box}", f"{inner}{box} --> {join}"]
        self.lines.append(f"{indent}end")
        if item.status is not None:
            self.lines.append(f"{indent}class {name} {item.status}")
        return fork, join


# --- Graphviz --------------------------------------------------------------------------------------------------


def _dot_label(*lines: str) -> str:
    return "\\n".join(one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)


def _dot(outline: Outline) -> str:
    title = _dot_label(*filter(None, (outline.title, outline.facts)))
    return "\n".join(
        [
            "digraph dag {",
            f'  label="{title}"; labelloc=t; rankdir=LR; fontname="Helvetica"; style=rounded;',
            '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
            '  edge [color="#64748b", arrowsize=0.7];',
            *_DotWriter().chain(outline.chain, "  ")[0],
            "}\n",
        ]
    )


class _DotWriter:
    def __init__(self) -> None:
        self._count = 0

    def chain(self, chain: Chain, indent: str) -> tuple[list[str], str, str]:
        """Return the lines of *chain*, and the ids of the two ends."""
        parts = [self._item(item, indent) for item in chain]
        lines = [line for part in parts for line in part[0]]
        lines += [f"{indent}{before[2]} -> {after[1]};" for before, after in pairwise(parts)]
        return lines, parts[0][1], parts[-1][2]

    def _item(self, item: Item, indent: str) -> tuple[list[str], str, str]:
        self._count += 1
        name, colours = f"n{self._count}", COLOURS[item.status]
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
        for first, last in self._branches(item, lines, inner):
            lines += [f"{inner}{fork} -> {first};", f"{inner}{last} -> {join};"]
        return [*lines, f"{indent}}}"], fork, join

    def _branches(self, item: Item, lines: list[str], indent: str) -> Iterator[tuple[str, str]]:
        for branch in item.branches:
            branch_lines, first, last = self.chain(branch, indent)
            lines += branch_lines
            yield first, last
        if item.folded is not None:
            self._count += 1
            label = _dot_label(item.folded.title, item.folded.detail)
            lines.append(f'{indent}n{self._count} [label="{label}", style="rounded,dashed"];')
            yield f"n{self._count}", f"n{self._count}"
