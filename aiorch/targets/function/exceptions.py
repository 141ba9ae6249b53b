"""The failure of an attempt, made of the exception that the callable raised."""

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException, walk_tb
from types import CodeType
from typing import Any

from aiorch.errors import counted, in_words, words_of
from aiorch.model.failure import PARTS_KEPT, Failure, Part

FIRST_FRAMES, LAST_FRAMES = 10, 30
"""Frames of one exception in its traceback: an endless recursion has a thousand."""

logger = logging.getLogger(__name__)

_ENGINE = str(Path(__file__).parents[2])


def failure_of(error: BaseException) -> Failure:
    """Return the failure of an attempt whose callable raised *error*."""
    parts = list(_parts(error))
    left_out = len(parts[PARTS_KEPT:])
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return Failure.of(
        type(error).__name__,
        words_of(error) or "no message",
        None if behind is None else in_words(behind),
        raised_at(error),
        traceback=_traceback(error, left_out),
        parts=[Part.of(type(part).__name__, words_of(part), raised_at(part)) for part in parts[:PARTS_KEPT]],
        parts_left_out=left_out,
        classes=classes_above(type(error)),
    )


def classes_above(kind: type[BaseException]) -> list[str]:
    """Return the names of the classes above an exception, the further names of its failure, without the base of all."""
    return [each.__name__ for each in kind.__mro__[1:-2]]


def raised_at(error: BaseException) -> str | None:
    """Return the line that raised *error*, the last line in code that is neither ours nor a library's."""
    last = None
    for frame, number in walk_tb(error.__traceback__):
        if not _is_others(frame.f_code.co_filename):
            last = frame, number
    if last is None:
        return None
    frame, number = last
    return f"{_file(frame.f_code, frame.f_globals.get('__name__'))}:{number} in {frame.f_code.co_name}"


def _parts(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions inside a group that are no groups themselves; of an *error* that is no group, none."""
    waiting = [error] if isinstance(error, BaseExceptionGroup) else []
    while waiting:
        next_one = waiting.pop()
        if isinstance(next_one, BaseExceptionGroup):
            waiting.extend(reversed(next_one.exceptions))
        else:
            yield next_one


def _traceback(error: BaseException, left_out: int) -> str | None:
    """Return the traceback of *error* in Python's form, with the tracebacks of its causes and of its first parts."""
    try:
        return _told(_first_parts(error, left_out) if left_out else error)
    except Exception:  # an attribute of an exception may run code of the user
        logger.debug("a traceback could not be told", exc_info=True)
        return None


def _first_parts(group: BaseException, left_out: int) -> BaseException:
    """Return *group* with its first exceptions alone, and a note about the rest, which are never formatted."""
    assert isinstance(group, BaseExceptionGroup)
    room = iter(range(PARTS_KEPT))
    first = group.subgroup(lambda each: not isinstance(each, BaseExceptionGroup) and next(room, None) is not None)
    assert first is not None
    first.add_note(f"… {counted(left_out, 'more exception')} left out")
    return first


def _told(error: BaseException) -> str:
    told = TracebackException.from_exception(error, lookup_lines=False)
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
    """Return *stack* without its first frames: the engine's, and those of libraries through which the engine called."""
    frames = list(stack)
    first = next((n for n, frame in enumerate(frames) if not _is_others(frame.filename)), None)
    if first is None:  # the callable belongs to a library
        last_of_engine = max((n for n, frame in enumerate(frames) if frame.filename.startswith(_ENGINE)), default=-1)
        first = last_of_engine + 1
    return _Stack(frames[first:])


class _Stack(StackSummary):
    """A stack whose text leaves out the middle frames if there are too many."""

    def format(self, **_: Any) -> list[str]:
        left_out = len(self) - FIRST_FRAMES - LAST_FRAMES
        if left_out <= 0:
            return _lines(self)
        last = _lines(self[-LAST_FRAMES:])
        return [*_lines(self[:FIRST_FRAMES]), f"  … {counted(left_out, 'frame')} left out\n", *last]


def _lines(frames: Sequence[FrameSummary]) -> list[str]:
    # Without columns: to find the part of a line that Python underlines takes longer than all the rest.
    plain = [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in frames]
    return StackSummary.from_list(plain).format()


def _is_others(filename: str) -> bool:
    return filename.startswith(_others())


def _file(code: CodeType, module: Any) -> str:
    """Return the file of *code* from the folder of its package; the folder of a server is of no use to a reader."""
    path = Path(code.co_filename)
    depth = str(module).count(".") + (2 if path.name == "__init__.py" else 1)
    return "/".join(path.parts[-depth:]) if path.is_absolute() else code.co_filename


@cache
def _others() -> tuple[str, ...]:
    """Return the beginnings of names of files that are not the user's."""
    import sysconfig  # noqa: PLC0415  its tables take long, and only a failure needs them

    paths = sysconfig.get_paths()
    return _ENGINE, "<frozen", *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
