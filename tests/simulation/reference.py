"""
A reference interpreter: what the end of a run must look like. It shares no code with the engine but the evaluation of
expressions.

Which of several things happened first is for the run to say: what failed, what was lost, what a failure or a cancel
halted. Everything that follows from that is not: which way a run took, what was skipped, caught, tried again and
computed is worked out here from the definition, and compared.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

Definition = Mapping[str, Any]
Document = Mapping[str, Mapping[str, Any]]

ENDS = ("Completed", "Failed", "Cancelled", "Skipped")

UNTOLD = ("Lost", "Timeout", "NotStarted", "Interrupted", "NoResult")
"""Failures of attempts whose targets did not fail, or not so that anybody heard."""

WELL, BAD, HALTED = "well", "bad", "halted"
"""How a level or a step ended: so that the run goes on after it, with a failure, or because something halted it."""

_TRY = re.compile(r"(.*)#(\d+)\.")


class NoValueError(Exception):
    """An expression has no value: the engine must say so, too."""


class Facts:
    """What really happened: the ends of executions by (node, attempt), as their targets know them."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], set[bool]] = {}
        self.planned: dict[tuple[str, int], bool | None] = {}
        """Whether an execution succeeds, `None` where time decides."""
        self.starts: dict[tuple[str, int], tuple[str, str]] = {}
        """Of each attempt its execution id, and when it was started."""


class Structure:
    """
    Where each step of a definition stands.

    Attributes:
        steps: By name.

        levels: By the name of a step, the level that it is in.

        around: By the name of a step, the step whose branch it is in.

        final: Names of the steps of `finally`, and inside of these.

        no_result: What becomes of each call of a Cloud Function without its result.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.steps: dict[str, Definition] = {}
        self.levels: dict[str, Definition] = {}
        self.around: dict[str, str | None] = {}
        self._add(definition, None)
        main = set(self.steps)
        if "finally" in definition:
            self._add(definition["finally"], None)
        self.final: frozenset[str] = frozenset(self.steps.keys() - main)
        read = {*_results_read(definition)}
        read |= {inner for name in read if name in self.steps for inner in self.inside(name)}
        self.no_result: dict[str, str] = {
            name: self._without_result(name, read)
            for name, step in self.steps.items()
            if step.get("target_type") == "CloudFunction"
        }

    def _add(self, level: Definition, around: str | None) -> None:
        for name, step in level["steps"].items():
            self.steps[name], self.levels[name], self.around[name] = step, level, around
            for branch in step.get("branches", ()):
                self._add(branch, name)

    def _without_result(self, name: str, read: set[str]) -> str:
        step = self.steps[name]
        later = [self.steps[each] for each in self._later(name)]
        is_read = name in read or any(each.get("target_type") == "Function" or "function" in each for each in later)
        default = "call_again" if is_read else "accept"
        return str(step.get("on_no_result", "fail" if step.get("on_lost") == "fail" else default))

    def _later(self, name: str | None) -> Iterator[str]:
        """Yield the steps that may begin only after a step, on its level and on those around it."""
        while name is not None:
            level, seen = self.levels[name], {name}
            waiting = [name]
            while waiting:
                for each in following(level, waiting.pop()):
                    if each not in seen:
                        seen.add(each)
                        waiting.append(each)
                        yield each
                        yield from self.inside(each)
            name = self.around[name]

    def inside(self, name: str) -> Iterator[str]:
        """Yield the steps in the branches of a step, at any depth."""
        for branch in self.steps[name].get("branches", ()):
            for inner in branch["steps"]:
                yield inner
                yield from self.inside(inner)

    # -- entries -------------------------------------------------------------------------------------------------

    @staticmethod
    def name_of(entry: str) -> str:
        """Return the step of an entry."""
        return entry.rpartition(".")[2]

    def step(self, entry: str) -> Definition:
        """Return the step of an entry, as written."""
        return self.steps[self.name_of(entry)]

    def outer(self, entry: str) -> tuple[str | None, int]:
        """Return the entry around an entry, and in which of its tries that one stands."""
        name = self.name_of(entry)
        around, scope = self.around[name], entry.removesuffix(name)
        if around is None:
            return None, 1
        found = _TRY.fullmatch(scope)
        if found is not None and self.name_of(found[1]) == around:
            return found[1], int(found[2])
        return scope + around, 1

    def is_inside(self, entry: str, container: str, number: int) -> bool:
        """Whether an entry stands in one try of a container, at any depth."""
        outer, tried = self.outer(entry)
        while outer is not None and outer != container:
            outer, tried = self.outer(outer)
        return (outer, tried) == (container, number)

    def scope(self, entry: str, number: int) -> str:
        """Return how the names of the entries in one try of an entry begin."""
        return f"{entry}#{number}." if number > 1 else entry.removesuffix(self.name_of(entry))

    def seen_from(self, entry: str, name: str, document: Document) -> str:
        """Return the entry of a step as an expression at an entry sees it: in its own try, or in the last one."""
        scopes: dict[str | None, str] = {None: ""}
        place: str | None = entry or None
        while place is not None:
            step = self.name_of(place)
            scopes[self.around[step]] = place.removesuffix(step)
            place = self.outer(place)[0]
        way = [name]
        while self.around[way[-1]] not in scopes:
            way.append(str(self.around[way[-1]]))
        found = scopes[self.around[way[-1]]] + way.pop()
        while way:
            found = self.scope(found, document[found].get("attempt", 0)) + way.pop()
        return found

    def is_reached(self, entry: str, document: Document) -> bool:
        """Whether the steps before an entry have ended so that it may begin, as committed."""
        name = self.name_of(entry)
        level, scope = self.levels[name], entry.removesuffix(name)
        if "start" not in level:
            return all(ended_well(document[scope + need]) for need in level["steps"][name].get("needs", ()))
        if name == level["start"]:
            return True
        return any(
            ended_well(document[scope + each]) and went_to(step, document[scope + each]) == name
            for each, step in level["steps"].items()
        )


def following(level: Definition, name: str) -> list[str]:
    """Return the steps of a level that may follow a step directly."""
    step = level["steps"][name]
    if "start" not in level:
        return [each for each, other in level["steps"].items() if name in other.get("needs", ())]
    names = [step.get("next"), step.get("default"), *(option["next"] for option in step.get("choices", ()))]
    names += [handler.get("next") for handler in step.get("catch", ())]
    return [each for each in dict.fromkeys(names) if each is not None]


def ended_well(entry: Mapping[str, Any]) -> bool:
    """Whether a run goes on after a step."""
    return entry["status"] == "Completed" or entry.get("skipped") == "when" or bool(entry.get("caught"))


def went_to(step: Definition, entry: Mapping[str, Any]) -> str | None:
    """Return the step that follows in a chain."""
    found: str | None = entry.get("went_to") or step.get("next")
    return found


def policies_of(step: Definition) -> list[Definition]:
    """Return the retry policies of a step."""
    retry = step.get("retry", [])
    return retry if isinstance(retry, list) else [retry]


def _results_read(value: Any) -> Iterator[str]:
    """Yield the steps whose results any text of a definition reads."""
    if isinstance(value, str):
        yield from re.findall(r"results\.(\w+)", value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _results_read(item)
    elif isinstance(value, list):
        for item in value:
            yield from _results_read(item)


class Reading:
    """
    What expressions read of one run, as committed.

    Args:
        structure: The definition.

        document: The run document.

        stored: Returns what is stored outside of the document, by the entry whose result it is.
    """

    def __init__(self, structure: Structure, document: Document, stored: Callable[[Mapping[str, Any]], Any]) -> None:
        self._structure = structure
        self._document = document
        self._stored = stored

    def evaluate(self, value: Any, entry: str, *, is_bare: bool = False, **more: Any) -> Any:
        """Return a value of the definition at an entry; "" for the whole definition. Raises: NoValueError."""
        from aiorch.expressions.errors import ExpressionError  # the engine is imported after mutants are installed
        from aiorch.expressions.values import condition_of, value_of

        expression = condition_of(value) if is_bare else value_of(value, "value")
        header = self._document["$run"]
        names: dict[str, Any] = {"input": header["input"], "results": {}, "errors": {}, **more}
        names["run"] = {"id": header["run_id"], "outcome": header.get("finally", {}).get("outcome")}
        for read in expression.reads:
            if read.root in ("results", "errors"):
                place = self._structure.seen_from(entry, read.name, self._document)
                found = self._value(place) if read.root == "results" else self._error(place)
                if found:
                    names[read.root][read.name] = found[0]
        try:
            return expression.evaluate(names)
        except ExpressionError as error:
            raise NoValueError(str(error)) from error

    def _value(self, name: str) -> list[Any]:
        """Return the result of an entry, or nothing if there is none."""
        entry, step = self._document[name], self._structure.step(name)
        if entry.get("skipped") == "when":
            return [None]
        if entry["status"] == "Completed" and "branches" in step and "result" not in step:
            return [self.branches(name)]
        if entry["status"] == "Completed" or (entry.get("caught") and "went_to" not in entry):
            return [self.result(entry)]
        return []

    def result(self, entry: Mapping[str, Any]) -> Any:
        """Return what an entry keeps as its result."""
        return self._stored(entry) if "result_in" in entry else entry.get("result")

    def _error(self, name: str) -> list[Any]:
        entry = self._document[name]
        error = entry.get("error", {})
        is_told = entry.get("caught")
        return [{key: error.get(key) for key in ("type", "message", "cause")}] if is_told else []

    def branches(self, name: str) -> list[Any]:
        """Return the values of the branches of an entry, in its last try."""
        scope = self._structure.scope(name, self._document[name].get("attempt", 0))
        return [self._level(branch, scope) for branch in self._structure.step(name)["branches"]]

    def _level(self, level: Definition, scope: str) -> Any:
        if "start" not in level:
            needed = {need for step in level["steps"].values() for need in step.get("needs", ())}
            last = sorted(level["steps"].keys() - needed)
            return {name: next(iter(self._value(scope + name)), None) for name in last}
        for name, step in level["steps"].items():
            entry = self._document[scope + name]
            if ended_well(entry) and went_to(step, entry) is None:
                return next(iter(self._value(scope + name)), None)
        return None


class Interpreter:
    """
    Compares one run that has ended with what it must have come to.

    Args:
        structure: The definition.

        document: The run document.

        facts: What really happened.

        reading: What its expressions read.

        kept: Nodes that a resumed run has taken over.

        was_cancelled: Somebody asked for its end.
    """

    def __init__(
        self,
        structure: Structure,
        document: Document,
        facts: Facts,
        reading: Reading,
        *,
        kept: frozenset[str] = frozenset(),
        was_cancelled: bool = False,
    ) -> None:
        self._structure = structure
        self._definition = structure.definition
        self._document = document
        self._facts = facts
        self._reading = reading
        self._kept = kept
        self._was_cancelled = was_cancelled
        self._kinds = {
            "Task": self._task,
            "Pass": self._pass,
            "Fail": self._fail,
            "Choice": self._choice,
            "Wait": self._wait,
        }

    def differences(self) -> Iterator[str]:
        """Yield what is not as it must be."""
        header = self._document["$run"]
        final = header.get("finally")
        outcome = final["outcome"] if final is not None else header["status"]
        error = (final if final is not None else header).get("error", {})
        was_cancelled = outcome == "Cancelled"
        timed_out = outcome == "Failed" and error.get("message", "").startswith("the run ")
        if was_cancelled and not self._was_cancelled:
            yield "it was cancelled, and nobody wanted that"
        if timed_out and "timeout" not in self._definition:
            yield "it has timed out, and has no timeout"
        is_halted = was_cancelled or timed_out
        end = yield from self._level(self._definition, "", is_reached=True, is_halted=is_halted)
        expected = "Completed" if end == WELL else "Failed"
        if not is_halted and expected == "Completed" and "output" in self._definition:
            expected = yield from self._output(header)
        if outcome != expected and not is_halted:
            yield f"the run is {outcome} and must be {expected}"
        if "finally" in self._definition:
            yield from self._finally(header, outcome)
        elif final is not None:
            yield "there is no `finally`, and it began"

    def _output(self, header: Mapping[str, Any]) -> "Generator[str, None, str]":
        try:
            output = self._reading.evaluate(self._definition["output"], "")
        except NoValueError:
            return "Failed"
        kept = {"result_in": header["output_in"]} if "output_in" in header else {"result": header.get("output")}
        if (found := self._reading.result(kept)) != output:
            yield f"its output is {found!r:.100}, and must be {output!r:.100}"
        return "Completed"

    def _finally(self, header: Mapping[str, Any], outcome: str) -> Iterator[str]:
        final, level = header.get("finally"), self._definition["finally"]
        if final is None or "ended_at" not in final:
            yield f"the run has ended, and `finally` has not: {final}"
            return
        took_s = (datetime.fromisoformat(final["ended_at"]) - datetime.fromisoformat(final["begun_at"])).total_seconds()
        has_timed_out = took_s >= level.get("timeout", 3600)
        end = yield from self._level(level, "", is_reached=True, is_halted=has_timed_out)
        if header.get("error", {}).get("message", "").startswith("`finally` took longer"):
            if not has_timed_out:
                yield f"`finally` has timed out after {took_s:g} s"
            end = HALTED  # what still ran at its timeout may have ended well
        expected = "Failed" if outcome == "Completed" and end != WELL else outcome
        if header["status"] != expected:
            yield f"the run is {header['status']}: it came to {outcome}, and its `finally` ended {end}"

    # -- levels --------------------------------------------------------------------------------------------------

    def _level(
        self, level: Definition, scope: str, *, is_reached: bool, is_halted: bool
    ) -> "Generator[str, None, str]":
        """Compare a level in one scope, and return how it ended."""
        if not is_reached:
            for name in level["steps"]:
                yield from self._unreached(scope + name)
            return HALTED
        if "start" in level:
            return (yield from self._chain(level, scope, is_halted=is_halted))
        return (yield from self._graph(level, scope, is_halted=is_halted))

    def _chain(self, level: Definition, scope: str, *, is_halted: bool) -> "Generator[str, None, str]":
        name: str | None = level["start"]
        way, end = [], WELL
        while name is not None and end == WELL:
            way.append(name)
            end = yield from self._node(scope + name, is_halted=is_halted)
            name = went_to(level["steps"][name], self._document[scope + name])
        for other in level["steps"]:
            if other not in way:
                yield from self._unreached(scope + other)
        return end

    def _graph(self, level: Definition, scope: str, *, is_halted: bool) -> "Generator[str, None, str]":
        entries = [self._document[scope + name] for name in level["steps"]]
        has_failed = any(entry["status"] == "Failed" and not entry.get("caught") for entry in entries)
        is_halted = is_halted or (has_failed and level.get("on_failure", "fail_fast") == "fail_fast")
        ends: dict[str, str] = {}
        while len(ends) < len(level["steps"]):
            for name, step in level["steps"].items():
                if name in ends or any(need not in ends for need in step.get("needs", ())):
                    continue
                if all(ends[need] == WELL for need in step.get("needs", ())):
                    ends[name] = yield from self._node(scope + name, is_halted=is_halted)
                else:
                    ends[name] = HALTED
                    yield from self._unreached(scope + name)
        return BAD if has_failed else WELL if {*ends.values()} == {WELL} else HALTED

    def _unreached(self, name: str) -> Iterator[str]:
        """Compare a step to which no way led, and what is inside."""
        entry = self._document[name]
        if name not in self._kept and (entry["status"] != "Skipped" or "skipped" in entry):
            yield f"{name} is {entry['status']}, was never reached, and must be Skipped"
        yield from self._inside(name, is_reached=False, is_halted=False)

    def _inside(self, name: str, *, is_reached: bool, is_halted: bool) -> Iterator[str]:
        for branch in self._structure.step(name).get("branches", ()):
            scope = self._structure.scope(name, 1)
            yield from self._level(branch, scope, is_reached=is_reached, is_halted=is_halted)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _node(self, name: str, *, is_halted: bool) -> "Generator[str, None, str]":
        """Compare a step that was reached, and return how it ended."""
        step, entry = self._structure.step(name), self._document[name]
        status = entry["status"]
        if name in self._kept:
            return WELL
        if status not in ENDS:
            yield f"{name} is {status}, which is no end"
            return HALTED
        if status in ("Cancelled", "Skipped") and "skipped" not in entry:
            if not is_halted:
                yield f"{name} is {status}, and nothing has halted it"
            if "branches" in step and status == "Cancelled":
                yield from self._parallel(name, step, is_halted=True)
            else:
                yield from self._inside(name, is_reached=False, is_halted=True)
            return HALTED
        try:
            is_on = "when" not in step or self._reading.evaluate(step["when"], name, is_bare=True)
        except NoValueError:
            yield from self._without_value(name, "its condition")
            yield from self._inside(name, is_reached=False, is_halted=False)
        else:
            if is_on is not (status != "Skipped"):
                yield f"{name} is {status}, and its condition is {is_on}"
            if not is_on:
                yield from self._inside(name, is_reached=False, is_halted=False)
                return WELL
            if "branches" in step:
                yield from self._parallel(name, step, is_halted=is_halted)
            else:
                yield from self._kinds[step["type"]](name, step, status, is_halted=is_halted)
        if status == "Failed":
            return (yield from self._failed(name, step, entry, is_halted=is_halted))
        return WELL

    def _without_value(self, name: str, what: str) -> Iterator[str]:
        entry = self._document[name]
        error = entry.get("error", {}).get("type")
        if entry["status"] != "Failed" or error != "ExpressionError":
            yield f"{name} is {entry['status']} ({error}), and {what} has no value"

    def _failed(
        self, name: str, step: Definition, entry: Mapping[str, Any], *, is_halted: bool
    ) -> "Generator[str, None, str]":
        """Compare what became of a failure, and return whether the run went on."""
        names = self._names_of(name)
        handler = next((each for each in step.get("catch", ()) if _covers(each.get("on"), names)), None)
        may_be_of_handler = names == {"ExpressionError"} and self._has_bad_handler(name, step)
        if not entry.get("caught") and (is_halted or may_be_of_handler):
            return BAD
        if handler is None:
            if entry.get("caught"):
                yield f"{name} was caught, and no handler covers {sorted(names)}"
            return BAD
        if "next" in handler:
            if not entry.get("caught") or entry.get("went_to") != handler["next"]:
                yield f"{name} went to {entry.get('went_to')}, and {handler['next']} handles {sorted(names)}"
            return WELL if entry.get("caught") else BAD
        try:
            value = self._reading.evaluate(handler["result"], name)
        except NoValueError:
            if entry.get("caught"):
                yield f"{name} was caught, and the value of its handler does not exist"
            return BAD
        if not entry.get("caught") or "went_to" in entry:
            yield f"{name} was not caught, and a value handles {sorted(names)}"
            return BAD
        if (found := self._reading.result(entry)) != value:
            yield f"{name} has the result {found!r:.100}, and its handler gives {value!r:.100}"
        return WELL

    def _has_bad_handler(self, name: str, step: Definition) -> bool:
        """Whether the value of a handler does not exist: then that is the failure of the step."""
        for handler in step.get("catch", ()):
            try:
                self._reading.evaluate(handler.get("result"), name)
            except NoValueError:
                return True
        return False

    def _names_of(self, name: str) -> set[str]:
        """Return the names under which the failure of an entry may be handled."""
        error = self._document[name].get("error", {})
        return self._names_of_error(error)

    def _names_of_error(self, error: Mapping[str, Any]) -> set[str]:
        names = {error.get("type", "")}
        if error.get("type") == "BranchFailed":
            names |= self._names_of(error["cause"])
        return {alias for each in names for alias in _aliases(each)}

    # -- containers ----------------------------------------------------------------------------------------------

    def _parallel(self, name: str, step: Definition, *, is_halted: bool) -> Iterator[str]:
        entry = self._document[name]
        status, policy = entry["status"], step.get("on_failure", "fail_fast")
        tries = max(1, entry.get("attempt", 0))
        failures = [*entry.get("failures", ())]
        errors = [*failures, entry.get("error", {})][:tries]
        ends: list[str] = []
        for number in range(1, tries + 1):
            error = errors[number - 1] if number <= len(errors) else {}
            gave_up = number < tries or status == "Failed"
            # A `catch` whose result has no value hides the failure that it was to replace: perhaps a timeout.
            stops = error.get("type") == "Timeout" or error.get("message", "").startswith("`catch`: ")
            halts = is_halted or (gave_up and (policy == "fail_fast" or stops))
            scope = self._structure.scope(name, number)
            ends = []
            for branch in step["branches"]:
                ends.append((yield from self._level(branch, scope, is_reached=True, is_halted=halts)))
            if number < tries and set(ends) == {WELL} and error.get("type") != "Timeout":
                yield f"{name} was tried again, and all branches of try {number} had ended well"
            if gave_up:
                yield from self._gave_up(name, step, error, ends, scope)
        if any(each.startswith(f"{name}#{tries + 1}.") for each in self._document):
            yield f"{name} ended in its try {tries}, and there is another"
        if status == "Completed":
            if set(ends) != {WELL}:
                yield f"{name} is Completed, and its branches ended {ends}"
            yield from self._own_result(name, step, entry, [self._reading.branches(name)])
        if status == "Cancelled" and set(ends) == {WELL} and not is_halted:
            yield f"{name} is {status}, and all of its branches are Completed"
        if status == "Failed" and entry["error"]["type"] != "ExpressionError" and not is_halted:
            yield from self._worn_out(name, step, errors, tries)

    def _gave_up(
        self, name: str, step: Definition, error: Mapping[str, Any], ends: list[str], scope: str
    ) -> Iterator[str]:
        match error.get("type"):
            case "BranchFailed":
                cause = error["cause"]
                if not cause.startswith(scope) or cause.removeprefix(scope) not in {
                    each for branch in step["branches"] for each in branch["steps"]
                }:
                    yield f"{name} failed because of {cause}, which is not in its branches"
                elif self._document[cause]["status"] != "Failed" or self._document[cause].get("caught"):
                    yield f"{name} failed because of {cause}, which is {self._document[cause]['status']}"
            case "Timeout":
                if "timeout" not in step:
                    yield f"{name} has timed out, and has no timeout"
            case "ExpressionError":
                if set(ends) != {WELL} and self._has_bad_handler(name, step):
                    return  # the failure before is not kept
                if set(ends) != {WELL}:
                    yield f"{name} failed with its result, and its branches ended {ends}"
                yield from self._own_result(name, step, self._document[name], [self._reading.branches(name)])
            case other:
                yield f"{name} failed with {other}"

    def _worn_out(self, name: str, step: Definition, errors: list[Mapping[str, Any]], tries: int) -> Iterator[str]:
        """See that one more try or attempt followed exactly those failures that a policy covers."""
        if len(errors) < tries:
            return  # it does not keep them all
        policies = policies_of(step)
        counts = [1] * len(policies)
        for number, error in enumerate(errors, 1):
            names = self._names_of_error(error)
            covering = next((at for at, each in enumerate(policies) if _covers(each.get("on"), names)), None)
            is_last = covering is None or error["type"] == "ExpressionError"
            if covering is not None:
                is_last = is_last or counts[covering] >= policies[covering].get("max_attempts", 1)
                counts[covering] += 1
            if is_last is not (number == tries):
                yield f"{name} ended after {tries} attempts, and that after its failure {number} ({error['type']}) " + (
                    "was the last" if is_last else "was not the last"
                )
                return

    def _own_result(self, name: str, step: Definition, entry: Mapping[str, Any], own: Iterable[Any]) -> Iterator[str]:
        """Compare the result that a step gives instead of its own, which is one of *own*."""
        if "result" not in step:
            return
        possible = []
        for each in own:
            try:
                possible.append(self._reading.evaluate(step["result"], name, result=each))
            except NoValueError:
                if entry["status"] == "Failed":
                    return
        found = self._reading.result(entry)
        if entry["status"] == "Failed" or found not in possible:
            yield f"{name} is {entry['status']} with the result {found!r:.100}, not {possible!r:.100}"

    # -- kinds ---------------------------------------------------------------------------------------------------

    def _task(self, name: str, step: Definition, status: str, *, is_halted: bool) -> Iterator[str]:
        entry = self._document[name]
        attempt = entry.get("attempt", 0)
        policies = policies_of(step)
        attempts_max = 1 + sum(policy.get("max_attempts", 1) - 1 for policy in policies)
        is_conditional = len(policies) > 1 or any("on" in policy for policy in policies)
        uncounted = entry.get("lost", 0) + entry.get("interrupted", 0)
        ends = self._facts.ends.get((name, attempt), set())
        if status == "Completed" and True not in ends:
            yield f"{name} is Completed by attempt {attempt}, which never succeeded"
        if attempt - uncounted > attempts_max:
            yield f"{name} had {attempt} attempts, {uncounted} of them lost, and may have {attempts_max}"
        if entry.get("lost", 0) > 3:
            yield f"{name} was lost {entry['lost']} times, and called again"
        errors = [*entry.get("failures", ()), *filter(None, [entry.get("error")])]
        for failure in errors:
            if "attempt" not in failure:
                continue  # of an expression, not of an attempt
            said = failure.get("execution_id"), failure.get("started_at")
            if said != self._facts.starts[name, failure["attempt"]]:
                yield f"{name} has a failure of attempt {failure['attempt']} with execution and start {said}"
        kind = entry.get("error", {}).get("type")
        is_worn_out = attempt - uncounted == attempts_max
        is_final = kind in ("Lost", "NoResult", "ExpressionError") or (
            kind == "Interrupted" and step.get("on_lost") == "fail"
        )
        if status == "Failed" and not (is_halted or is_worn_out or is_final or is_conditional):
            yield f"{name} has failed ({kind}) after {attempt - uncounted} of {attempts_max} attempts that count"
        if status == "Failed" and kind == "ExpressionError" and not (_has_expressions(step)):
            yield f"{name} has failed with {kind}, and has no expressions"
        if is_halted or uncounted or status not in ("Completed", "Failed") or kind == "ExpressionError":
            return
        if status == "Failed" and kind not in UNTOLD and False not in ends:
            yield f"{name} is Failed ({kind}) by attempt {attempt}, which never failed"
        if status == "Failed" and kind not in ("Lost", "NoResult", "Interrupted"):
            yield from self._worn_out(name, step, errors, attempt)
        plan = [self._facts.planned.get((name, number)) for number in range(1, attempt + 1)]
        kinds = {kind, *(failure["type"] for failure in entry.get("failures", ()))}
        if None in plan or is_conditional or not kinds.isdisjoint(UNTOLD):
            return
        if True in plan[:-1]:
            yield f"{name} had attempt {attempt}, and attempt {plan.index(True) + 1} had succeeded"
        if plan[-1] is not (status == "Completed"):
            yield f"{name} is {status}, and its attempt {attempt} has come to {plan[-1]}"

    def _pass(self, name: str, step: Definition, status: str, *, is_halted: bool) -> Iterator[str]:
        try:
            result = self._reading.evaluate(step.get("result"), name)
        except NoValueError:
            yield from self._without_value(name, "its result")
            return
        if status == "Failed":
            yield f"{name} is {status}, and its result is {result!r:.100}"
        elif (found := self._reading.result(self._document[name])) != result:
            yield f"{name} has the result {found!r:.100}, and its step gives {result!r:.100}"

    def _fail(self, name: str, step: Definition, status: str, *, is_halted: bool) -> Iterator[str]:
        if status != "Failed":
            yield f"{name} is {status}, and a Fail fails as soon as it is reached"
            return
        error = self._document[name]["error"]
        told = error["type"], error["message"]
        expected = step["error"], self._reading.evaluate(step.get("message", ""), name)
        if told != expected:
            yield f"{name} failed with {': '.join(told)}, and its step says {': '.join(expected)}"

    def _choice(self, name: str, step: Definition, status: str, *, is_halted: bool) -> Iterator[str]:
        way = step.get("default")
        try:
            for option in step["choices"]:
                if self._reading.evaluate(option["when"], name, is_bare=True):
                    way = option["next"]
                    break
        except NoValueError:
            yield from self._without_value(name, "a condition")
            return
        entry = self._document[name]
        if entry.get("went_to") != way:
            yield f"{name} went to {entry.get('went_to')}, and its conditions lead to {way}"
        kind = entry.get("error", {}).get("type")
        if (status, kind) != (("Completed", None) if way else ("Failed", "NoChoiceMatched")):
            yield f"{name} is {status} ({kind}), and its conditions lead to {way}"

    def _wait(self, name: str, step: Definition, status: str, *, is_halted: bool) -> Iterator[str]:
        try:
            self._reading.evaluate(step.get("until", step.get("seconds")), name)
        except NoValueError:
            yield from self._without_value(name, "its time")
            return
        if status != "Completed":
            yield f"{name} is {status}, and a wait completes at its time"


def _has_expressions(step: Definition) -> bool:
    return any("${" in repr(step.get(key)) for key in ("parameters", "result", "catch"))


def _aliases(name: str) -> Iterator[str]:
    """Yield the names by which a failure can be meant."""
    yield name
    if name.startswith("HTTP "):
        code = name.removeprefix("HTTP ")
        yield code
        yield f"{code[0]}xx"
        if code == "504":
            yield "Timeout"


def _covers(types: list[str] | None, names: set[str]) -> bool:
    return types is None or not names.isdisjoint(types)
