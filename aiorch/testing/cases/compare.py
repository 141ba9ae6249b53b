"""The outcome of a case against its expectation: every difference, with its path and both values. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from aiorch.errors import Problem, counted
from aiorch.model.failure import Failure
from aiorch.testing.cases.records import (
    Expectation,
    ExpectedCall,
    ExpectedFailure,
    ExpectedStep,
    Outcome,
    StatusOrStep,
    TargetCall,
    TypeOrFailure,
)

VALUE_CHARS_MAX = 200
"""Characters of a value in a message."""

ABSENT = object()
"""Stands for a key that one of two mappings does not have."""

DIFFERENCES_MAX = 20
"""Differences of one value that are listed; more say no more."""


def differences(expect: Expectation, outcome: Outcome) -> Iterator[Problem]:
    """Yield the differences between what a case expects and its outcome."""
    if outcome.status != expect.status_of_run:
        yield Problem("status", f"expected {expect.status_of_run}, got {outcome.status}{_because(outcome.error)}")
    if "output" in expect.model_fields_set:
        yield from _values("output", expect.output, outcome.output)
    if expect.error is not None:
        yield from _failures("error", expect.error, outcome.error)
    for name, step in expect.steps.items():
        yield from _steps(f"steps.{name}", step, name, outcome)
    if expect.way is not None and tuple(expect.way) != outcome.way:
        yield _ways(expect.way, outcome.way)
    for name, calls in expect.calls.items():
        yield from _calls(f"calls.{name}", calls, _calls_of(name, outcome.calls))


def _steps(path: str, expect: StatusOrStep, name: str, outcome: Outcome) -> Iterator[Problem]:
    expected = expect if isinstance(expect, ExpectedStep) else ExpectedStep(status=expect)
    state = outcome.steps.get(name)
    if state is None:
        inside = [entry for entry in outcome.steps if entry.endswith(f"].{name}")]
        hint = f"; the run has {', '.join(inside[:5])}" if inside else ""
        yield Problem(path, f"expected {expected.status or 'this step'}, and the step did not begin{hint}")
        return
    if expected.status is not None and state.status != expected.status:
        yield Problem(path, f"expected {expected.status}, got {state.status}{_because(state.error)}")
    if "result" in expected.model_fields_set:
        if name in outcome.results:
            yield from _values(f"{path}.result", expected.result, outcome.results[name])
        else:
            yield Problem(
                f"{path}.result", f"expected {_shown(expected.result)}, and there is none: the step is {state.status}"
            )
    if expected.error is not None:
        yield from _failures(f"{path}.error", expected.error, state.error)


def _failures(path: str, expect: TypeOrFailure, failure: Failure | None) -> Iterator[Problem]:
    expected = expect if isinstance(expect, ExpectedFailure) else ExpectedFailure(type=expect)
    if failure is None:
        yield Problem(path, f"expected {expected.type or 'a failure'}, got no failure")
        return
    if expected.type is not None and failure.type != expected.type:
        yield Problem(path, f"expected {expected.type}, got {failure.text}")
    if expected.message is not None and expected.message not in failure.message:
        yield Problem(f"{path}.message", f"expected a message with {expected.message!r}, got {failure.message!r}")


def _ways(expected: Sequence[str], taken: Sequence[str]) -> Problem:
    pairs = enumerate(zip(expected, taken, strict=False))
    same = next((index for index, (one, other) in pairs if one != other), min(len(expected), len(taken)))
    if same == len(taken):
        first = f"{expected[same]} did not begin"
    elif same == len(expected):
        first = f"{taken[same]} began, too"
    else:
        first = f"number {same + 1} is {taken[same]}, not {expected[same]}"
    return Problem("way", f"expected {_way(expected)}; got {_way(taken)}; {first}")


def _way(way: Sequence[str]) -> str:
    return " → ".join(way) or "no step"


def _calls_of(name: str, calls: Mapping[str, Sequence[TargetCall]]) -> Sequence[TargetCall]:
    """Return the calls of a step, or those of one entry of a step in a repeated level."""
    found = calls.get(name)
    return found if found is not None else [call for each in calls.values() for call in each if call.entry == name]


def _calls(path: str, expect: int | Sequence[ExpectedCall], made: Sequence[TargetCall]) -> Iterator[Problem]:
    count = expect if isinstance(expect, int) else len(expect)
    if count != len(made):
        yield Problem(path, f"expected {counted(count, 'call')}, got {len(made)}")
    if isinstance(expect, int):
        return
    for index, (expected, call) in enumerate(zip(expect, made, strict=False)):
        if "parameters" in expected.model_fields_set:
            yield from _values(f"{path}[{index}].parameters", expected.parameters, call.parameters)


def _values(path: str, expected: Any, actual: Any) -> Iterator[Problem]:
    """Yield the differences between two JSON values, each at the innermost place."""
    waiting, found = [(path, msgspec.json.decode(msgspec.json.encode(expected)), actual)], 0
    while waiting and found < DIFFERENCES_MAX:
        place, one, other = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            keys = {**one, **other}
            waiting += [(f"{place}.{key}", one.get(key, ABSENT), other.get(key, ABSENT)) for key in keys][::-1]
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            waiting += [(f"{place}[{index}]", *pair) for index, pair in enumerate(zip(one, other, strict=True))][::-1]
        elif not _are_equal(one, other):
            found += 1
            yield Problem(place, f"expected {_shown(one)}, got {_shown(other)}")


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON, in which `true` is no number; containers differ here in any case."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "no such key"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[: VALUE_CHARS_MAX - 1]}…"


def _because(failure: Failure | None) -> str:
    return f" ({failure.text})" if failure is not None else ""
