"""
The view of a run on a terminal: a tree of all nodes with status, duration and attempt, redrawn in place.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Self, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment
from rich.table import Table
from rich.text import Text

from aiorch.errors import counted
from aiorch.model.dag import DAG
from aiorch.model.run import Run
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.views.entries import CAUGHT, Entries, Look, is_over
from aiorch.views.escaping import one_line
from aiorch.views.outline import count_text, duration_text
from aiorch.views.progress import Row, Rows, until_text

BAR_CHARS = 16

ICONS: dict[Look, str] = {
    TaskStatus.NEW: "·",
    TaskStatus.STARTING: "▶",
    TaskStatus.RUNNING: "▶",
    TaskStatus.RETRYING: "↻",
    TaskStatus.COMPLETED: "✔",
    TaskStatus.FAILED: "✘",
    CAUGHT: "✘",
    TaskStatus.CANCELLED: "■",
    TaskStatus.SKIPPED: "»",
}
STYLES: dict[Look, str] = {
    TaskStatus.NEW: "bright_black",
    TaskStatus.STARTING: "cyan",
    TaskStatus.RUNNING: "cyan",
    TaskStatus.RETRYING: "yellow",
    TaskStatus.COMPLETED: "green",
    TaskStatus.FAILED: "bold red",
    CAUGHT: "yellow",
    TaskStatus.CANCELLED: "magenta",
    TaskStatus.SKIPPED: "bright_black",
}
_RUN_STYLES = {
    RunStatus.RUNNING: "cyan",
    RunStatus.FAILING: "bold red",
    RunStatus.CANCELLING: "magenta",
    RunStatus.COMPLETED: "bold green",
    RunStatus.FAILED: "bold red",
    RunStatus.CANCELLED: "magenta",
}
_FAINT = frozenset({TaskStatus.NEW, TaskStatus.SKIPPED})


class _Live(Live):
    """
    A `Live` that erases its last picture correctly after the terminal was resized.

    A terminal that becomes narrower breaks each long line into several rows, but Rich goes back only as many rows as
    the picture had lines. On the few terminals that cut long lines instead, some rows above the picture are erased,
    too.
    """

    widths: Sequence[int] = ()
    """Widths of the lines of the last picture, in columns."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        rows = sum(max(1, ceil(width / self.console.width)) for width in self.widths)
        back = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)) * (rows - len(self.widths))
        return [Control(*back), *super().process_renderables(renderables)]


class _Measured:
    """A picture without trailing spaces, which records the widths of the drawn lines."""

    def __init__(self, picture: RenderableType, live: _Live) -> None:
        self._picture = picture
        self._live = live

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_without_end(line) for line in console.render_lines(self._picture, options, pad=False)]
        self._live.widths = [Segment.get_line_length(line) for line in lines]
        for line in lines:
            yield from line
            yield Segment.line()


def _without_end(line: list[Segment]) -> list[Segment]:
    """Return *line* without trailing spaces."""
    while line and not line[-1].text.rstrip(" "):
        line.pop()
    if line:
        line[-1] = Segment(line[-1].text.rstrip(" "), line[-1].style)
    return line


class LiveView:
    """Redraws the rows of a run; prints of functions appear above them."""

    def __init__(self, stream: TextIO, dag: DAG) -> None:
        self._console = Console(file=stream, highlight=False)
        self._dag = dag
        self._rows = Rows(dag)
        # Output to `sys.stderr` appears above the rows: log records, and prints of functions (`aiorch.cli.prints`).
        self._live = _Live(console=self._console, auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, run: Run) -> None:
        """Redraw."""
        self._live.update(_Measured(self.picture(run, datetime.now(UTC)), self._live), refresh=True)

    def picture(self, run: Run, now: datetime) -> RenderableType:
        """Return the picture of *run* at the time *now*, no higher than the terminal."""
        # The headline takes one line, and one line stays free, or the terminal scrolls with every redraw.
        cells = [_cells(row) for row in self._rows.of(run, now=now, rows_max=max(self._console.height - 2, 3))]
        width = self._console.width
        names = min(max(cell_len(name.plain) for name, *_ in cells), max(width * 2 // 5, width - 80))
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", width=names)
        table.add_column(no_wrap=True, overflow="ellipsis", width=13)
        table.add_column(no_wrap=True, overflow="ellipsis", width=10, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in cells:
            table.add_row(*row)
        return Group(self._headline(run, now), table)

    def _headline(self, run: Run, now: datetime) -> Text:
        header = run.header
        entries = Entries(self._dag, run)
        counts = entries.counts()
        over = sum(number for look, number in counts.items() if is_over(look))
        caught = f", {count_text(counts, CAUGHT)}" if counts[CAUGHT] else ""
        wait = entries.next_wait()
        waits = f", waits {until_text(wait[1], now)}" if wait else ""
        return Text.assemble(
            (one_line(header.dag), "bold"),
            (f"  {one_line(header.run_id)}  ", "dim"),
            (str(header.status), _RUN_STYLES[header.status]),
            f"  {duration_text(((header.ended_at or now) - header.created_at).total_seconds())}",
            (f"  {over:,} of {counted(counts.total(), 'task')}{caught}{waits}", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )


def _cells(row: Row) -> tuple[Text, Text, Text, Text]:
    if row.state is None or row.look is None:
        return Text(row.name, "dim"), Text(), Text(), Text(row.detail, "dim")
    status, style, faint = row.state.status, STYLES[row.look], "dim" if row.look in _FAINT else ""
    name = Text.assemble((row.guides, "dim"), (f"{ICONS[row.look]} ", style), (one_line(row.name), faint))
    status_text = Text.assemble(
        (str(status), style), (f" #{row.state.attempt}" if row.state.attempt > 1 else "", "dim")
    )
    duration = Text("" if row.duration_s is None else duration_text(row.duration_s), faint)
    detail = Text(row.detail, "dim" if row.state.error is None else "yellow" if row.look == CAUGHT else "red")
    return name, status_text, duration, _bar(row.counts) if row.counts else detail


def _bar(counts: Counter[Look]) -> Text:
    """Return the counts of a folded `Parallel` as a bar and in words, the most urgent looks first."""
    over = sum(count for look, count in counts.items() if is_over(look))
    total, passed, drawn = counts.total(), 0, 0
    text = Text(f"{over:,}/{total:,} ")
    for look in _BAR_ORDER:
        passed += counts[look]
        upto = round(BAR_CHARS * passed / total)
        text.append("━" * (upto - drawn), STYLES[look])
        drawn = upto
    for look in _WORTH_SAYING:
        if counts[look]:
            text.append(f" {count_text(counts, look)}", STYLES[look])
    return text


_BAR_ORDER: tuple[Look, ...] = (
    TaskStatus.COMPLETED,
    CAUGHT,
    TaskStatus.FAILED,
    TaskStatus.CANCELLED,
    TaskStatus.SKIPPED,
    TaskStatus.RUNNING,
    TaskStatus.STARTING,
    TaskStatus.RETRYING,
    TaskStatus.NEW,
)
_WORTH_SAYING: tuple[Look, ...] = (
    TaskStatus.FAILED,
    CAUGHT,
    TaskStatus.RETRYING,
    TaskStatus.RUNNING,
    TaskStatus.CANCELLED,
)
