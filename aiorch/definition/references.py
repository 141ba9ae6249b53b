"""
The expressions of a definition: their syntax, and the names that they read.

A step reads the results of steps that have certainly ended before: steps of its own level with a way to it, steps
inside them, and all that the step around it may read. A result that does not exist on every way is read with `default`.
So a mistake in a name shows before a run starts, and the values of names depend neither on the process nor on the
moment.
"""

import ast
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from aiorch.definition.level import Level
from aiorch.definition.ways import Ways
from aiorch.expressions.errors import ExpressionError, UnknownFunctionError
from aiorch.expressions.syntax import Expression, Read, Template, parse, parse_template
from aiorch.expressions.values import texts_of
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.steps import ExpressionPlace

EVERYWHERE = frozenset({"errors", "input", "results", "run"})
PLACES = {
    "result": "`result` is the answer of the step's own target, and can be read in the `result` of a step only",
    "secrets": "`secrets` can be read in the `parameters` of a task only",
    "task": "`task` can be read in the `parameters` of a task only",
}
"""Names that a few keys may read, with the rule."""

CONDITION = "a condition is true or false, for example `input.n == 1`"
_OF_RUN = frozenset({"id", "dag", "started_at", "resumed_from"})
_OF_RUN_IN_FINALLY = frozenset({"outcome", "error"})
_OF_TASK = frozenset({"execution_id", "attempt"})
_NEVER_TRUE_OR_FALSE = (ast.Constant, ast.List, ast.ListComp, ast.Dict, ast.BinOp)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KNOWN_SHOWN_MAX = 8


class Scope(NamedTuple):
    """The names that may be read at one place of a definition."""

    root: Level

    homes: Mapping[str, Level]
    """The level of each step, by the name of the step."""

    inputs: frozenset[str] | None
    """The declared inputs, `None` if any input may be given."""

    secrets: frozenset[str]


class References:
    """
    Looks for mistakes in the expressions of a definition.

    Args:
        scope: The names of the definition.

        hints: Source of the hints "did you mean".

        has_templates: Whether ``${`` in texts begins an expression.

        is_stored: A process has checked and stored the definition: an unknown word is one of a newer version.

    Attributes:
        findings: The mistakes, without an order.

        newer: Path and description of a word that this version does not know, in a stored definition.
    """

    def __init__(self, scope: Scope, hints: Hints, *, has_templates: bool, is_stored: bool = False) -> None:
        self.findings: list[Finding] = []
        self.newer: tuple[Key, str] | None = None
        self._scope = scope
        self._hints = hints
        self._has_templates = has_templates
        self._is_stored = is_stored
        self._ways: dict[Level, Ways] = {}
        self._expressions: list[Expression] = []
        """All expressions, which are in use until the DAG is built from them."""

    def check_step(self, level: Level, name: str) -> None:
        """Check the expressions of a step."""
        for place in level.kinds[name].find_expressions(level.written(name)):
            self._check(place, (*level.key, "steps", name), level, name)
        self._check_literals_of_step(level, name)

    def check_syntax(self, level: Level, name: str) -> None:
        """Check the expressions of a step that belongs to no definition: any name may be known where it will stand."""
        for place in level.kinds[name].find_expressions(level.written(name)):
            for key, text in self._texts(place):
                self._expressions += self._parsed((*level.key, "steps", name, *key), text, is_bare=place.is_bare)
        self._check_literals_of_step(level, name)

    def check_literals(self, data: Mapping[str, Any], around: Key, others: Collection[Key]) -> None:
        """
        Report ``${`` in the keys of a new definition that take no expression.

        Args:
            data: The definition or a step, as written.

            around: Path of *data*.

            others: Paths within *data* that are left out: expressions, levels inside.
        """
        if self._is_stored or not self._has_templates:
            return
        for key, text in texts_of(data):
            if "comment" not in key and not any(key[: len(other)] == other for other in others):
                name = next(part for part in reversed(key) if isinstance(part, str))
                message = f"`{name}` takes no expression, and `${{` begins one: write the text itself"
                self._report((*around, *key), message, text.index("${") + 1)

    def check_output(self) -> None:
        """Check the expressions of `output`."""
        root = self._scope.root
        self._check(ExpressionPlace(("output",), root.data["output"]), (), root, None)

    def _check_literals_of_step(self, level: Level, name: str) -> None:
        data, kind = level.written(name), level.kinds[name]
        others = [place.key for place in kind.find_expressions(data)] + [key for key, _ in kind.find_scopes(data)]
        self.check_literals(data, (*level.key, "steps", name), others)

    def _check(self, place: ExpressionPlace, around: Key, level: Level, step: str | None) -> None:
        for key, text in self._texts(place):
            for expression in self._parsed((*around, *key), text, is_bare=place.is_bare):
                self._expressions.append(expression)
                for read in expression.reads:
                    problem = self._problem(read, place, level, step, (*around, *key))
                    if problem is not None:
                        self._report((*around, *key), problem, read.column)

    # -- syntax ------------------------------------------------------------------------------------------------------

    def _texts(self, place: ExpressionPlace) -> Iterator[tuple[Key, str]]:
        if not place.is_bare:
            yield from texts_of(place.value, place.key) if self._has_templates else ()
        elif isinstance(place.value, str) and place.value:
            yield place.key, place.value

    def _parsed(self, key: Key, text: str, *, is_bare: bool) -> Iterator[Expression]:
        try:
            if is_bare:
                template = text.find("${")
                if template >= 0 and text.rstrip().endswith("}"):
                    rule = f"`{key[-1]}` is always an expression: write it without `${{` and `}}`"
                    raise ExpressionError(rule, template + 1)
                expression = parse(text)
                if isinstance(expression.tree, _NEVER_TRUE_OR_FALSE) and not self._is_stored:
                    raise ExpressionError(CONDITION, 1)
                yield expression
            else:
                parsed = parse_template(text)
                parts = parsed.parts if isinstance(parsed, Template) else (parsed,)
                yield from (part for part in parts if isinstance(part, Expression))
        except ExpressionError as error:
            if self._is_stored and isinstance(error, UnknownFunctionError):
                self.newer = key, f"an expression with a new function ({error.reason.partition(';')[0]})"
            self._report(key, error.reason, error.column)

    def _report(self, key: Key, message: str, column: int) -> None:
        self.findings.append(Finding(key, message, at_value=True, column=column))

    # -- names -------------------------------------------------------------------------------------------------------

    def _problem(self, read: Read, place: ExpressionPlace, level: Level, step: str | None, key: Key) -> str | None:
        known = EVERYWHERE | place.names
        if read.root not in known:
            if self._is_stored and read.root not in PLACES:
                self.newer = key, f"an expression with the new name {read.root!r}"
            return self._unknown_root(read.root, known)
        if self._is_stored:  # the process that stored the definition has checked the rest
            return None
        if read.root in ("results", "errors"):
            return self._problem_of_step(read, place, level, step)
        return self._problem_of_part(read, level)

    def _problem_of_part(self, read: Read, level: Level) -> str | None:
        """Return the mistake in the constant name after a root that is no step."""
        scope, problem = self._scope, f"`{read.root}` has no {shown(read.name)}"
        match read.root:
            case "input" if scope.inputs is not None:
                known, problem = scope.inputs, f"the definition declares no input {shown(read.name)}"
            case "secrets":
                known = scope.secrets
                problem = f"the definition declares no secret {shown(read.name)} with the key `secrets`"
            case "task":
                known = _OF_TASK
            case "run" if read.name in _OF_RUN_IN_FINALLY and _outermost(level) is not scope.root.final:
                return f"`run.{read.name}` can be read in `finally` only: before, the outcome is not known"
            case "run":
                known = _OF_RUN | _OF_RUN_IN_FINALLY
            case _:
                return None
        return None if read.name is None or read.name in known else problem + self._meant(read.name, known, read.root)

    def _unknown_root(self, root: str, known: frozenset[str]) -> str:
        if root in PLACES:
            return PLACES[root]
        if root in self._scope.homes:
            return f"there is no name `{root}`; the result of that step is `{_path('results', root)}`"
        closest = self._hints.closest(root, known)
        hint = f"did you mean `{closest}`?" if closest else f"the names here are {', '.join(sorted(known))}"
        return f"there is no name `{root}`; {hint}"

    def _meant(self, name: str, known: frozenset[str], root: str) -> str:
        closest = self._hints.closest(name, known)
        if closest is not None:
            return f"; did you mean `{_path(root, closest)}`?"
        return f", only {', '.join(sorted(known))}" if 0 < len(known) <= _KNOWN_SHOWN_MAX else ""

    # -- results -----------------------------------------------------------------------------------------------------

    def _problem_of_step(self, read: Read, place: ExpressionPlace, level: Level, step: str | None) -> str | None:
        name = read.name
        assert name is not None
        home = self._scope.homes.get(name)
        if home is None:
            closest = self._hints.closest(name, self._scope.homes)
            hint = f"; did you mean `{_path(read.root, closest)}`?" if closest else ""
            return f"there is no step {shown(name)}{hint}"
        if read.root == "errors" and "catch" not in home.written(name):
            return f"step {shown(name)} has no `catch`, so there is never an error of it to read"
        if home is level and name == step:
            return None if read.root in place.names else _of_itself(read.root, name, place)
        sight = _Sight(level, step, home, name)
        if sight.inside and sight.branch is not None and "result" in place.names:
            return f"{sight.inside}; the value of its branch is `result[{sight.branch}]`"
        return sight.inside or (
            self._problem_of_ways(read, sight) if sight.levels_meet else self._problem_apart(read, level)
        )

    def _problem_apart(self, read: Read, level: Level) -> str | None:
        """Check a step of which no level around is one around the reading step: one of the two is in `finally`."""
        if _outermost(level) is not self._scope.root.final:
            return f"step {shown(read.name)} belongs to `finally`, which runs after all other steps"
        return None if read.has_default else _uncertain(read, "`finally` also runs after a failure and after a cancel")

    def _problem_of_ways(self, read: Read, sight: "_Sight") -> str | None:
        """Check that the step has ended before, on every way; nothing is reported of levels that are not sound."""
        level, step, other = sight.level, sight.step, sight.other
        if level.is_sound and step is not None:
            ways, name = self._ways_of(level), shown(read.name)
            if not ways.leads(other, step):
                if ways.leads(step, other):
                    return f"step {name} runs after this step, so nothing of it can be read here"
                if level.is_graph:
                    return f"this step does not need step {name}, which may still run: add {shown(other)} to `needs`"
                return f"no way leads from step {name} to this step, so nothing of it can be read here"
        reason = None if read.has_default else self._why_uncertain(read, sight)
        return None if reason is None else _uncertain(read, reason)

    def _why_uncertain(self, read: Read, sight: "_Sight") -> str | None:
        assert read.name is not None
        level, name, caught = self._scope.homes[read.name], read.name, read.root == "errors"
        for around, outer in sight.containers:
            reason = self._why_not_passed(level, name, None, caught=caught) or _why_not_inside(around, outer)
            if reason is not None:
                return reason
            level, name, caught = around, outer, False
        return self._why_not_passed(level, name, sight.step, caught=caught)

    def _why_not_passed(self, level: Level, name: str, step: str | None, *, caught: bool) -> str | None:
        if not level.is_sound or self._ways_of(level).passes(name, step, caught=caught):
            return None
        if caught:
            return f"not every way leads here over a failure of {shown(name)}"
        if self._ways_of(level).passes(name, step, caught=True):
            return f"only a failure of {shown(name)} leads here, which can be read as `{_path('errors', name)}`"
        return f"not every way leads here over {shown(name)}"

    def _ways_of(self, level: Level) -> Ways:
        ways = self._ways.get(level)
        if ways is None:
            ways = self._ways[level] = Ways(level)
        return ways


class _Sight:
    """
    The place of a step, as seen from the place that reads it.

    Attributes:
        level: The innermost level that holds both, or steps around them.

        step: The step of that level that reads, or that is around the reading one; `None` for `output`.

        other: The step of that level that is read, or that is around the read one.

        containers: Levels and steps around the read step, below *level* and the last one on it; the innermost first.

        levels_meet: Whether there is such a level: none holds steps of `finally` and others.

        inside: The reason why one of the two steps is inside of the other one or beside it, `None` if it is not so.

        branch: If the read step is inside of the reading one, the index of its branch.
    """

    def __init__(self, level: Level, step: str | None, home: Level, name: str) -> None:
        self.containers: list[tuple[Level, str]] = []
        reads_inside, inner, other = False, home, name
        index: str | int = ""
        while level is not inner:
            if level.around is not None and level.depth >= inner.depth:
                level, step = level.around
                reads_inside = True
            elif inner.around is not None:
                index = inner.key[-1]
                inner, other = inner.around
                self.containers.append((inner, other))
            else:
                break
        self.level, self.step, self.other = level, step, other
        self.levels_meet = level is inner
        self.inside: str | None = None
        self.branch: int | None = None
        if self.levels_meet and step == other:
            if reads_inside and self.containers:
                self.inside = f"step {shown(name)} runs beside this step, in another branch of {shown(other)}"
            elif reads_inside:
                self.inside = f"step {shown(name)} is around this step, and ends after it"
            else:
                self.inside = f"step {shown(name)} is inside of this step, and cannot be read by the step itself"
                self.branch = index if isinstance(index, int) else None


def _why_not_inside(level: Level, name: str) -> str | None:
    """Return the reason why the steps inside a step may not have ended well although the run goes on after it."""
    step = level.written(name)
    if "when" in step:
        return f"{shown(name)} around it may be skipped by its `when`"
    handlers = step.get("catch")
    if isinstance(handlers, list) and any(isinstance(each, dict) and "result" in each for each in handlers):
        return f"{shown(name)} around it may fail, with a `result` from its `catch`"
    return None


def _outermost(level: Level) -> Level:
    while level.around is not None:
        level = level.around[0]
    return level


def _of_itself(root: str, name: str, place: ExpressionPlace) -> str:
    if root == "errors":
        return f"{shown(name)} is this step, whose error its handlers and later steps can read"
    hint = "; its answer is `result`" if "result" in place.names else ""
    return f"{shown(name)} is this step, which has no result yet{hint}"


def _uncertain(read: Read, reason: str) -> str:
    path = _path(read.root, read.name or "")
    return f"`{path}` may not exist here, since {reason}; write `default({path}, …)`"


def _path(root: str, name: str) -> str:
    return f"{root}.{name}" if _WORD.fullmatch(name) else f"{root}[{json.dumps(name)}]"
