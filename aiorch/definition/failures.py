"""
The handlers of failures, `retry` and `catch`: their order, and the types of failures that they name.

A type that no failure of the step can have is a mistake. The types of a step that runs no Python are known, those of a
container are the types of its steps. A step that runs Python may fail with an exception of any class. There only the
near misses of known types are mistakes: the same letters in a different case, or one letter too many, missing, wrong,
or swapped with the next one. Names such as `OssError`, which share no more than a short beginning and `Error` with a
known type, are left alone.
"""

import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from aiorch.definition.level import Level
from aiorch.model.failure import NEVER_RETRIED
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.steps import FAILURES_OF_TASKS, FailureTypes

_STATUS = re.compile(r"(?:HTTP )?([1-5])[0-9][0-9]|([1-5])xx")
_CLASS = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_ENDING = re.compile(r"error|exception|timeout|warning")
_TOO_MANY_REQUESTS = frozenset({"429", "HTTP 429"})
_NOT_RETRIED = NEVER_RETRIED | {"Lost", "Interrupted"}
_OF_PYTHON = frozenset({"CancelledError", "ParameterError", "ResultNotJSON", "ResultTooLarge"})
_RARE = frozenset({"Error", "InternalError", "CancelledError"})
_EVERY_FAILURE = frozenset({"*", "all", "any", "states.all", "states.taskfailed"})
"""Names of every failure in other workflow languages, in small letters."""

_STEP_FUNCTIONS = "States."
_SHORT = 4


def check_handlers(level: Level, name: str, hints: Hints) -> Iterator[Finding]:
    """
    Yield the mistakes in `retry` and `catch` of a step that the types of their values do not show.

    Args:
        level: A level whose steps, and the steps inside them, have been looked at.

        name: A step of the level.

        hints: Source of the hints "did you mean".
    """
    step, kind = level.written(name), level.kinds[name]
    key = (*level.key, "steps", name)
    types: FailureTypes | None = None
    for place, handlers in (("retry", _policies(step)), ("catch", _list_of(step.get("catch")))):
        if place not in kind.model_fields:
            continue
        covers_all: int | None = None
        for at, handler in handlers:
            if place == "catch":
                yield from (each.inside((*key, "catch", *at)) for each in _follow_up_problems(handler))
            if covers_all is not None:
                message = f"{place}[{covers_all}] has no `on` and covers every failure, so this one is never used"
                yield Finding((*key, place, *at), message, at_value=True)
            elif "on" not in handler:
                covers_all = int(at[0]) if at else 0
            names = handler.get("on")
            if isinstance(names, list) and names:
                types = types or types_of(level, name)
                check = _Names(types, hints, of_retry=place == "retry", of_steps=name in level.scopes)
                for finding in check.problems(names):
                    yield finding.inside((*key, place, *at, "on"))


def types_of(level: Level, name: str) -> FailureTypes:
    """Return the types of the failures of a step, those of the steps inside included."""
    known: set[str] = set()
    are_all = True
    waiting = [(level, name)]
    while waiting:
        around, step = waiting.pop()
        types = around.kinds[step].failure_types(around.written(step))
        scopes = around.scopes.get(step, ())
        known |= types.known
        are_all = are_all and types.are_all and all(scope.kinds for scope in scopes)  # else its steps are not known
        waiting += [(scope, inner) for scope in scopes for inner in scope.kinds]
    return FailureTypes(frozenset(known), are_all)


def _policies(step: Mapping[str, Any]) -> list[tuple[Key, dict[str, Any]]]:
    retry = step.get("retry")
    return [((), retry)] if isinstance(retry, dict) else _list_of(retry)


def _list_of(given: Any) -> list[tuple[Key, dict[str, Any]]]:
    """Return the mappings in a list, each with its place."""
    if not isinstance(given, list):
        return []
    return [((index,), each) for index, each in enumerate(given) if isinstance(each, dict)]


def _follow_up_problems(handler: Mapping[str, Any]) -> Iterator[Finding]:
    given = [key for key in ("next", "result") if key in handler]
    if len(given) != 1:
        both = "both `next` and `result`" if given else "neither `next` nor `result`"
        message = f"this handler has {both}: it gives either the `next` step of the chain or a `result`"
        yield Finding((), message, at_value=True)


class _Names:
    """
    Looks for mistakes in the names of an `on`.

    Args:
        types: The types of the failures of the step.

        hints: Source of the hints "did you mean".

        of_retry: Whether it is the `on` of a `retry`, not of a `catch`.

        of_steps: Whether the failures are those of steps inside.
    """

    def __init__(self, types: FailureTypes, hints: Hints, *, of_retry: bool, of_steps: bool) -> None:
        self._types = types
        self._hints = hints
        self._of_retry = of_retry
        self._of_steps = of_steps

    def problems(self, names: list[Any]) -> Iterator[Finding]:
        """Yield the mistakes, each with the place in the list."""
        if _TOO_MANY_REQUESTS.issuperset(filter(_is_text, names)) and "4xx" in self._types.known:
            message = (
                "a call that is turned away with 429 did not run and is sent again as the same attempt, so no failure "
                "has this status; take this away"
            )
            yield Finding((), message, at_value=True)
            return
        for index, name in enumerate(names):
            problem = self._problem(name) if isinstance(name, str) and name else None
            if problem is not None:
                yield Finding((index,), problem, at_value=True)

    def _problem(self, name: str) -> str | None:
        if name == "Cancelled" or (self._of_retry and name in _NOT_RETRIED):
            return self._why_never(name)
        known = self._types.known
        if name in known:
            return None
        if name.lower() in _EVERY_FAILURE:
            return f"{shown(name)} is no type of failures; leave `on` out to cover every failure"
        status = _STATUS.fullmatch(name)
        if status is not None:
            status_class = f"{status[1] or status[2]}xx"
            if status_class in known or (not self._types.are_all and "4xx" not in known and status_class > "2xx"):
                return None
        elif not self._types.are_all and _CLASS.fullmatch(name) and not name.startswith(_STEP_FUNCTIONS):
            return _near_miss_in_words(name, known)
        return self._impossible(name)

    def _why_never(self, name: str) -> str | None:
        if name == "Cancelled":
            return "no handler and no further attempt follow a cancel; take this name away"
        if name in NEVER_RETRIED:
            return (
                f"a failure of type {name} is never retried, because the next attempt would fail in the same way; take "
                f"this name away"
            )
        return None if self._of_steps else f"`retry` does not apply to {name} attempts; `on_lost` decides about them"

    def _impossible(self, name: str) -> str:
        known = self._types.known if self._types.are_all else self._types.known | _OF_PYTHON
        not_retried = NEVER_RETRIED if self._of_steps else _NOT_RETRIED
        usual = _suggested(known - not_retried if self._of_retry else known)
        message = f"no failure of this step has the type {shown(name)}"
        if name in _exceptions() and self._types.are_all:
            return f"{message}, an exception of Python, since it runs no Python; its failures are {', '.join(usual)}"
        last = name.removeprefix(_STEP_FUNCTIONS)
        closest = self._hints.closest(last, usual if self._types.are_all else [*usual, "4xx", "5xx"])
        if closest:
            return f"{message}; did you mean {shown(closest)}?"
        rule = "its failures are" if self._types.are_all else "give the name of a class of exceptions, or one of"
        return f"{message}; {rule} {', '.join(usual)}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _suggested(known: Iterable[str]) -> list[str]:
    """Return the types for messages, without those that few people meet: faults of aiorch, words of the platform."""
    types = (each for each in known if not each.islower() and each not in _RARE)
    return sorted(types, key=lambda each: (each[:1].isdigit(), each))


@cache
def _exceptions() -> dict[str, str]:
    """Return the names of Python's exceptions, by name and by old name."""
    found = {name: value for name, value in vars(builtins).items() if isinstance(value, type)}
    return {name: value.__name__ for name, value in found.items() if issubclass(value, BaseException)}


@lru_cache(256)
def _near_miss_in_words(name: str, known: frozenset[str]) -> str | None:
    last = name.rpartition(".")[2]
    exceptions = _exceptions()
    if last in exceptions:
        new = exceptions[last]
        return None if new == last else f"{shown(last)} is an old name of {new}, and failures have the new name"
    candidates = sorted({*known, *exceptions, *_OF_PYTHON, *FAILURES_OF_TASKS})
    if last in candidates:
        return None
    meant = next((each for each in candidates if _is_near(last, each)), None)
    return None if meant is None else f"{shown(name)} is no known type of failures; did you mean {shown(meant)}?"


def _is_near(name: str, known: str) -> bool:
    """Whether two names differ in the case of letters only, or in one letter."""
    one, other = name.lower().replace("_", ""), known.lower().replace("_", "")
    if one == other:
        return True
    ending = _ENDING.search(one)
    if ending and other.endswith(ending[0]) and one.endswith(ending[0]) and ending.start() < _SHORT:
        return False
    if len(one) < _SHORT + 2 or abs(len(one) - len(other)) > 1:
        return False
    least = min(len(one), len(other))
    at = next((index for index in range(least) if one[index] != other[index]), least)
    if len(one) != len(other):
        longer, shorter = (one, other) if len(one) > len(other) else (other, one)
        return longer[at + 1 :] == shorter[at:]
    is_swap = one[at : at + 2] == other[at : at + 2][::-1]
    return one[at + 1 :] == other[at + 1 :] or (is_swap and one[at + 2 :] == other[at + 2 :])
