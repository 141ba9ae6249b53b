"""
The failures of a run as lines of plain text. Pure.

Tasks with similar failures form a group: the failures have one type, and their messages differ only in numbers and in
quoted text.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiorch.errors import counted
from aiorch.model.dag import DAG
from aiorch.model.failure import Failure
from aiorch.model.run import Run
from aiorch.views.entries import Entries
from aiorch.views.escaping import escaped, one_line

GROUPS_SHOWN = 10
NAMES_SHOWN = 5
PARTS_SHOWN = 5

COMPARED_CHARS = 40
"""Length of the compared beginning of a message: in a run with very many failures, messages are cut short."""

_VARIES = re.compile(r"""(?<!\w)'[^']*(?:'|$)|(?<!\w)"[^"]*(?:"|$)|\d[\d.,:]*""")
_FRAME = re.compile(r'(?P<margin>[ |]*)  File "(?P<file>[^"]*)", line \d+')
_LIBRARY = re.compile(r"/(site-packages|dist-packages|lib/python3\.\d+)/")


class Group(NamedTuple):
    """Tasks with similar failures."""

    names: list[str]
    failure: Failure
    """The failure of the first task."""

    is_equal: bool
    """Whether all messages are the same."""


def groups_of(dag: DAG, run: Run) -> list[Group]:
    """Return the failed tasks of *run* in groups, the largest first. Caught failures are none of them."""
    found: dict[tuple[str, str], Group] = {}
    for at, state in Entries(dag, run).failed():
        if state.error is None:
            continue
        key = state.error.type, _VARIES.sub("…", state.error.message)[:COMPARED_CHARS]
        group = found.get(key, Group([], state.error, is_equal=True))
        group.names.append(at.name)
        is_equal = group.is_equal and state.error.message == group.failure.message
        found[key] = group._replace(is_equal=is_equal)
    return sorted(found.values(), key=lambda group: -len(group.names))


def failure_lines(dag: DAG, run: Run, *, show_all: bool = False, tracebacks: bool = False) -> Iterator[str]:
    """
    Yield every failed task with its failure; without a failed task, the failure of the run.

    Args:
        dag: The DAG of the run.

        run: The run.

        show_all: Show every group, and name every task in a group.

        tracebacks: Show the traceback of an exception instead of its cause and parts.
    """
    groups = groups_of(dag, run)
    shown = groups if show_all else groups[:GROUPS_SHOWN]
    for names, failure, is_equal in shown:
        if len(names) == 1:
            attempt = f" (attempt {failure.attempt})" if failure.attempt else ""
            yield f"  {one_line(names[0])}{attempt}: {_said(failure)}"
        else:
            such_as = "" if is_equal else ", such as"
            noun = "task" if failure.attempt else "node"
            yield f"  {counted(len(names), noun)} failed with {_said(failure, such_as)}"
            listed = names if show_all else names[:NAMES_SHOWN]
            more = f" and {len(names) - len(listed):,} more" if len(names) > len(listed) else ""
            yield f"    {', '.join(one_line(name) for name in listed)}{more}"
        yield from _details(failure, tracebacks=tracebacks)
    if left := sum(len(group.names) for group in groups[len(shown) :]):
        yield f"  … and {counted(left, 'more failed task')}"
    if not groups and run.header.error is not None:
        yield f"  {one_line(dag.name)}: {_said(run.header.error)}"
        yield from _details(run.header.error, tracebacks=tracebacks)


def _said(failure: Failure, such_as: str = "") -> str:
    return one_line(f"{failure.type}{such_as}: {failure.message}")


def _details(failure: Failure, *, tracebacks: bool) -> Iterator[str]:
    if failure.where:
        yield f"    at {one_line(failure.where)}"
    if tracebacks and failure.traceback is not None:
        for line in _without_library_frames(failure.traceback.split("\n")):
            yield f"    {escaped(line)}"
        return
    if failure.cause:
        yield f"    caused by: {one_line(failure.cause)}"
    for part in failure.parts[:PARTS_SHOWN]:
        where = f" (at {part.where})" if part.where else ""
        yield f"    - {one_line(f'{part.type}: {part.message}{where}')}"
    left = len(failure.parts[PARTS_SHOWN:]) + failure.parts_left_out
    if left:
        yield f"    … and {counted(left, 'more exception')}"


def _without_library_frames(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a traceback, with one line for consecutive frames of libraries."""
    count, margin, is_inside = 0, "", False
    for line in lines:
        frame = _FRAME.match(line)
        if frame:
            margin, is_inside = frame["margin"], _LIBRARY.search(frame["file"]) is not None
            count += is_inside
        else:  # the source line of the frame, or the note that the frame is repeated
            is_inside = is_inside and line.startswith((f"{margin}    ", f"{margin}  ["))
        if is_inside:
            continue
        if count:
            yield f"{margin}  … {counted(count, 'frame')} of libraries"
            count = 0
        yield line
