"""Random DAG definitions that use the whole language, for property tests and for the simulation."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Seen(NamedTuple):
    """A step whose result an expression may read."""

    name: str
    is_certain: bool
    """The step has a result whenever the expression is evaluated."""

    is_task: bool


FAILURES = {
    "Function": ("Timeout", "FunctionError", "ValueError", "Lost", "ExpressionError"),
    "CloudFunction": ("5xx", "HTTP 400", "Timeout", "Lost", "ExpressionError"),
    "Dataflow": ("Timeout", "Lost", "ExpressionError"),
    None: ("Timeout", "BranchFailed", "ExpressionError"),
}
"""Types that handlers and policies name, by the target of the task; under `None` those of a node with levels."""

NEVER_RETRIED = ("ExpressionError", "Lost")
DEPTH_MAX = 3


class Writer:
    """
    Writes one random definition that uses the whole language.

    The input of its runs is `example_input`, or one like it.

    Args:
        chance: Decides.

        nodes: Steps that the definition may have, and a few more.

        task: Returns a task without links, given its name.

        on_failure: The policy of all levels, `None` to draw each.
    """

    def __init__(
        self,
        chance: random.Random,
        nodes: int,
        task: Callable[[str], dict[str, Any]],
        *,
        on_failure: str | None = None,
    ) -> None:
        self._chance = chance
        self._left = nodes
        self._task = task
        self._on_failure = on_failure
        self._names = 0

    def definition(self, name: str) -> dict[str, Any]:
        """Return the definition."""
        seen: list[Seen] = []
        made = {"name": name, **self._level(seen, 0)}
        seen = [each._replace(is_certain=False) for each in seen]
        if self._one_in(2):
            made["output"] = self._value(seen)
        if self._one_in(2):
            self._left = max(2, self._left)
            made["finally"] = self._level(seen, DEPTH_MAX - 1)
            if self._one_in(3):
                made["finally"]["timeout"] = self._pick(300, 30)
        if self._one_in(8):
            made["timeout"] = self._pick(40, 120)
        return made

    def _pick(self, *choices: T) -> T:
        return choices[self._chance.randrange(len(choices))]

    def _one_in(self, number: int) -> bool:
        return self._chance.randrange(number) == 0

    def _name(self) -> str:
        self._left -= 1
        self._names += 1
        return f"n{self._names}"

    # -- levels --------------------------------------------------------------------------------------------------

    def _level(self, seen: list[Seen], depth: int) -> dict[str, Any]:
        """Write a level; the steps of the level join those that are *seen*."""
        return self._graph(seen, depth) if self._one_in(4) else self._chain(seen, depth)

    def _policy(self) -> str:
        return self._on_failure or self._pick("fail_fast", "wait")

    def _chain(self, seen: list[Seen], depth: int) -> dict[str, Any]:
        names = [self._name()]
        length = self._pick(1, 2, 3) if depth else self._pick(2, 3, 4)
        while len(names) < length and self._left > 0:
            names.append(self._name())
        steps: dict[str, Any] = {}
        for name, following in zip(names, [*names[1:], None], strict=True):
            if self._left > 0 and self._one_in(4):
                self._choice(steps, name, following, seen, depth)
            else:
                self._linked(steps, name, following, seen, depth)
        return {"start": names[0], "steps": steps}

    def _linked(self, steps: dict[str, Any], name: str, following: str | None, seen: list[Seen], depth: int) -> None:
        """Write one step, and perhaps a handler of its failure, both before the step *following*."""
        links = {"next": following} if following else {"end": True}
        step, inside = self._step(name, seen, depth)
        steps[name] = {**step, **links}
        is_certain = True
        if step["type"] not in ("Pass", "Wait") and self._one_in(3):
            catch, handler = [], None
            if self._one_in(2):
                catch.append({"on": self._types(step), "result": self._value(seen)})
            if self._one_in(2) or not catch:
                handler = self._name()
                catch.append({**({"on": self._types(step)} if self._one_in(2) else {}), "next": handler})
            steps[name]["catch"] = catch
            is_certain = handler is None
            inside = [each._replace(is_certain=False) for each in inside]
            if handler is not None:
                end = {"end": True} if self._one_in(3) else links
                told = {"type": f"${{ errors.{name}.type }}", "message": f"it said ${{ errors.{name}.message }}"}
                step = self._task(handler) if self._one_in(2) else {"type": "Pass"}
                key = "result" if step["type"] == "Pass" else "parameters"
                steps[handler] = {**step, key: told, **end}
                if end == links:  # no way leads from an end to the steps that follow
                    inside.append(Seen(handler, is_certain=False, is_task=step["type"] == "Task"))
        if "when" in step:
            inside = [each._replace(is_certain=False) for each in inside]
        seen += [Seen(name, is_certain, step["type"] == "Task" and "result" not in step), *inside]

    def _choice(self, steps: dict[str, Any], name: str, following: str | None, seen: list[Seen], depth: int) -> None:
        """Write a choice whose ways lead to the step *following*, or end the chain."""
        ways: list[str] = []
        after: list[Seen] = []
        for _ in range(self._pick(1, 2, 3)):
            if following is not None and (not ways or self._one_in(4)):
                ways.append(following)
                continue
            way = self._name()
            ways.append(way)
            if self._one_in(6):
                steps[way] = {"type": "Fail", "error": "Decided", "message": f"by {way}, ${{ input.n }}"}
                continue
            own = list(seen)
            end = following if not self._one_in(3) else None
            if self._one_in(3) and self._left > 0:
                middle = self._name()
                self._linked(steps, way, middle, own, depth)
                self._linked(steps, middle, end, own, depth)
            else:
                self._linked(steps, way, end, own, depth)
            if end == following:  # no way leads from an end to the steps that follow
                after += own[len(seen) :]
        self._chance.shuffle(ways)
        has_default = not self._one_in(5)
        default = ways.pop() if has_default and (len(ways) > 1 or self._one_in(4)) else None
        options = [{"when": self._condition(seen), "next": way} for way in ways]
        if not options:
            options = [{"when": self._condition(seen), "next": default}]
        steps[name] = {"type": "Choice", "choices": options, **({"default": default} if default else {})}
        seen += [each._replace(is_certain=False) for each in after]

    def _graph(self, seen: list[Seen], depth: int) -> dict[str, Any]:
        names = [self._name()]
        length = self._pick(2, 3, 4)
        while len(names) < length and self._left > 0:
            names.append(self._name())
        steps: dict[str, Any] = {}
        reads: dict[str, list[Seen]] = {}
        for number, name in enumerate(names):
            needs = [each for each in names[:number] if self._one_in(2)]
            visible = list(dict.fromkeys([*seen, *(read for need in needs for read in reads[need])]))
            step, inside = self._step(name, visible, depth)
            if step["type"] not in ("Pass", "Wait") and self._one_in(4):
                types = {"on": self._types(step)} if self._one_in(2) else {}
                step["catch"] = [{**types, "result": self._value(visible)}]
            if "when" in step or "catch" in step:
                inside = [each._replace(is_certain=False) for each in inside]
            is_task = step["type"] == "Task" and "result" not in step
            reads[name] = [*visible, Seen(name, is_certain=True, is_task=is_task), *inside]
            steps[name] = {**step, **({"needs": needs} if needs else {})}
        seen += [each for each in dict.fromkeys(read for name in names for read in reads[name]) if each not in seen]
        return {"steps": steps, "on_failure": self._policy()}

    # -- steps ---------------------------------------------------------------------------------------------------

    def _step(self, name: str, seen: list[Seen], depth: int) -> tuple[dict[str, Any], list[Seen]]:
        """Return a step without links, and the steps inside that later steps may read."""
        inside: list[Seen] = []
        kind = self._chance.randrange(10)
        if kind < 3 and depth < DEPTH_MAX and self._left > 0:
            step = self._parallel(seen, depth, inside)
        elif kind < 5:
            step = {"type": "Wait", **self._pick(*self._waits())}
        elif kind < 6:
            step = {"type": "Pass", "result": self._value(seen)}
        else:
            step = self._task(name)
            self._extend(step, seen)
        if self._one_in(5):
            step["when"] = self._condition(seen)
        return step, inside

    def _waits(self) -> list[dict[str, Any]]:
        seconds = [{"seconds": each} for each in (5, 0, 40, 100, "${ input.n * 5 }")]
        return [*seconds, {"until": "${ input.until }"}, {"until": "2026-01-01T00:00:40+00:00"}]

    def _parallel(self, seen: list[Seen], depth: int, inside: list[Seen]) -> dict[str, Any]:
        branches = []
        for _ in range(self._pick(1, 2, 2, 3)):
            own = list(seen)
            branch = self._level(own, depth + 1)
            branches.append(branch)
            has_one_end = sum("end" in each for each in branch["steps"].values()) <= 1
            inside += [each._replace(is_certain=each.is_certain and has_one_end) for each in own[len(seen) :]]
        step: dict[str, Any] = {"type": "Parallel", "branches": branches, "on_failure": self._policy()}
        if self._one_in(3):
            step["retry"] = self._policies(step)
        if self._one_in(4):
            step["timeout"] = self._pick(60, 20)
        if self._one_in(4):
            step["result"] = self._pick("${ len(result) }", "${ result }", {"of": "${ json.encode(result) }"})
        return step

    def _extend(self, step: dict[str, Any], seen: list[Seen]) -> None:
        """Give a task keys whose values have expressions."""
        if self._one_in(2):
            step["parameters"] = {"key": "${ task.execution_id }", "n": "n = ${ input.n }", "saw": self._value(seen)}
        if step["target_type"] != "Dataflow" and self._one_in(4):
            step["result"] = self._pick("${ result }", {"of": "${ result }"}, "${ result.attempt }")
        if self._one_in(4):
            step["retry"] = self._policies(step)

    def _policies(self, step: dict[str, Any]) -> Any:
        """Return retry policies: one, or a list of them."""
        policies = [
            {"max_attempts": self._pick(2, 2, 3), "initial_delay": self._pick(0, 1, 15)}
            for _ in range(self._pick(1, 1, 2))
        ]
        for policy in policies[: None if self._one_in(2) else -1]:
            policy["on"] = [each for each in self._types(step) if each not in NEVER_RETRIED] or ["Timeout"]
        return policies if len(policies) > 1 or self._one_in(4) else policies[0]

    def _types(self, step: dict[str, Any]) -> list[str]:
        return sorted({self._pick(*FAILURES[step.get("target_type")]) for _ in range(self._pick(1, 2, 3))})

    # -- expressions ---------------------------------------------------------------------------------------------

    def _value(self, seen: list[Seen]) -> Any:
        """Return a value with expressions."""
        match self._chance.randrange(6):
            case 0:
                return "${ [input.text, input.text] }"  # more than a document keeps
            case 1:
                return {"n": "${ input.n + 1 }", "of": "${ run.id }"}
            case 2 if seen and self._one_in(4):
                return {"bad": f"${{ {self._read(seen)}.nothing }}"}
            case _ if seen:
                return {"saw": f"${{ {self._read(seen)} }}", "and": [f"${{ get_type({self._read(seen)}) }}"]}
        return {"n": "${ input.n }"}

    def _read(self, seen: list[Seen]) -> str:
        each = self._pick(*seen[-6:])
        return f"results.{each.name}" if each.is_certain else f"default(results.{each.name}, null)"

    def _condition(self, seen: list[Seen]) -> str:
        tasks = [each for each in seen[-6:] if each.is_task]
        kind = self._chance.randrange(6)
        if tasks and kind < 2:
            return f"default(results.{self._pick(*tasks).name}.attempt, 0) {self._pick('==', '>', '<')} 1"
        if tasks and kind == 2 and (certain := [each for each in tasks if each.is_certain]):
            return f"results.{self._pick(*certain).name}.attempt == 1"
        if seen and kind == 3:
            return f"len(json.encode({self._read(seen)})) > 1000"
        return self._pick("input.n > 1", "input.flag", "not input.flag", "10 % input.n == 0", "true", "false")


def example_input(chance: random.Random) -> dict[str, Any]:
    """Return an input for the runs of what a `Writer` writes."""
    return {
        "n": chance.randrange(4),
        "flag": chance.random() < 0.5,
        "text": "x" * 700,
        "until": f"2026-01-01T00:0{chance.randrange(3)}:{chance.randrange(10, 60)}Z",
    }
