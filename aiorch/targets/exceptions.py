"""From what a callable raised to the failure of its attempt."""

import logging
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import StackSummary, TracebackException, walk_tb
from types import CodeType
from typing import Any

from aiorch.errors import in_words, words_of
from aiorch.failure import Failure, Part

FRAMES_MAX = 40
"""Frames of one exception in its traceback, the last ones: an endless recursion has a thousand."""

EXCEPTIONS_MAX = 1000
"""Exceptions of a group that are looked at and counted."""

logger = logging.getLogger(__name__)

_ENGINE = str(Path(__file__).parents[1])
_OTHERS = (
    _ENGINE,
    "<frozen",
    *(path for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def failure_of(error: BaseException) -> Failure:
    """Return the failure of an attempt whose callable raised *error*."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return Failure.of(
        type(error).__name__,
        words_of(error) or "no message",
        None if behind is None else in_words(behind),
        raised_at(error),
        traceback=_traceback(error),
        parts=[Part.of(type(part).__name__, words_of(part), raised_at(part)) for part in _parts(error)],
    )


def raised_at(error: BaseException) -> str | None:
    """Return the line that raised *error*, the last one in code that is neither ours nor a library's."""
    last = None
    for frame, number in walk_tb(error.__traceback__):
        if not _is_others(frame.f_code.co_filename):
            last = frame, number
    if last is None:
        return None
    frame, number = last
    return f"{_file(frame.f_code, frame.f_globals.get('__name__'))}:{number} in {frame.f_code.co_name}"


def _parts(error: BaseException) -> list[BaseException]:
    """Return the exceptions in *error* that are no groups, if it is a group."""
    if not isinstance(error, BaseExceptionGroup):
        return []
    found: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting and len(found) < EXCEPTIONS_MAX:
        next_one = waiting.pop()
        if isinstance(next_one, BaseExceptionGroup):
            waiting.extend(reversed(next_one.exceptions))
        else:
            found.append(next_one)
    return found


def _traceback(error: BaseException) -> str | None:
    """Return the traceback of *error* as Python prints it, with what is behind *error* and inside it."""
    try:
        return _told(error)
    except Exception:  # an attribute of the user's exception may be anybody's code
        logger.debug("a traceback could not be told", exc_info=True)
        return None


def _told(error: BaseException) -> str:
    told = TracebackException.from_exception(error, limit=-FRAMES_MAX)
    for each in _chained(told):
        each.stack = _from_users_code(each.stack)
    return "".join(told.format()).rstrip()


def _chained(told: TracebackException) -> Iterator[TracebackException]:
    waiting: list[TracebackException | None] = [told]
    while waiting:
        each = waiting.pop()
        if each is not None:
            yield each
            waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]


def _from_users_code(stack: StackSummary) -> StackSummary:
    """Return *stack* without the frames in front: those of the engine, and of libraries that it has called with."""
    frames = list(stack)
    first = next((n for n, frame in enumerate(frames) if not _is_others(frame.filename)), None)
    if first is None:  # the callable is of a library
        last_of_engine = max((n for n, frame in enumerate(frames) if frame.filename.startswith(_ENGINE)), default=-1)
        first = last_of_engine + 1
    # Without columns: to find the part of a line that Python underlines takes longer than all the rest.
    return StackSummary.from_list([(each.filename, each.lineno or 0, each.name, each.line) for each in frames[first:]])


def _is_others(filename: str) -> bool:
    return filename.startswith(_OTHERS)


def _file(code: CodeType, module: Any) -> str:
    """Return the file of *code* from the folder of its package; the folder of a server is of no use to a reader."""
    path = Path(code.co_filename)
    depth = str(module).count(".") + (2 if path.name == "__init__.py" else 1)
    return "/".join(path.parts[-depth:]) if path.is_absolute() else code.co_filename
