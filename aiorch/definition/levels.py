"""
The rules that make the steps of a level a chain or a graph.

In a chain, one token walks from `start` along `next`, the options of a `Choice` and the handlers of failures; a graph
has no `start`, and its steps name the steps that they need. No way leads back, and a way leads to each step.

Consequences of a mistake are not reported again. A link to a misspelt name could lead to any step, so steps without a
way to them are reported only if there are more of them than unclear links; and a level that mixes the two forms has one
finding for the mixture.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from aiorch.definition.level import Level, in_order_of_end, is_end_by_kind
from aiorch.definition.source import format_path
from aiorch.errors import counted
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.steps import Links

_CYCLE_SHOWN_MAX = 6
_KNOWN_SHOWN_MAX = 6
_OFFENDERS_SHOWN_MAX = 3


def check_level(level: Level, homes: Mapping[str, Level], hints: Hints) -> list[Finding]:
    """
    Return every violation of the rules on one level, and tell the level whether it is sound.

    Args:
        level: The level, with a mapping of steps.

        homes: The level of each step of the whole definition, by name.

        hints: Source of the hints "did you mean".
    """
    if not _is_line(level):
        form = _Form(level, homes, hints)
        level.is_sound = not form.findings and not form.unclear
        return form.findings
    level.is_sound = True
    return []


def _is_line(level: Level) -> bool:
    """Whether the level is a chain without alternatives, as most levels are: then there is nothing to report."""
    steps, name = level.data["steps"], level.data.get("start")
    if "on_failure" in level.data:
        return False
    for count in range(1, len(steps) + 1):
        step = steps.get(name) if isinstance(name, str) else None
        if not isinstance(step, dict) or "catch" in step or "needs" in step or not level.kinds[name].names_next:
            return False
        if "next" not in step:
            return step.get("end") is True and count == len(steps)
        if step.get("end", False) is not False:
            return False
        name = step["next"]
    return False


class _Links(NamedTuple):
    """The steps that a step names, without repetitions: those that exist, and the guesses for those that do not."""

    known: dict[str, Key]
    guessed: list[str]


class _Form:
    """Finds and explains the reasons why a level is neither a chain nor a graph."""

    def __init__(self, level: Level, homes: Mapping[str, Level], hints: Hints) -> None:
        self.findings: list[Finding] = []
        self._level = level
        self._steps: dict[str, Any] = level.data["steps"]
        self._homes = homes
        self._hints = hints
        self.unclear: dict[str, int] = {}
        """By step, the number of its links that lead to an unknown step; ``""`` stands for the link from `start`."""
        in_chains = {name: key for name in self._steps if (key := self._key_of_chain(name)) is not None}
        in_graphs = {name: ("steps", name, "needs") for name in self._steps if "needs" in level.written(name)}
        has_start = "start" in level.data or self._misspelt_start() is not None
        if has_start and in_graphs and not in_chains:
            self._report(("start",), "a level whose steps have `needs` is a graph, and has no `start`: take it away")
            self._graph()
        elif has_start or (in_chains and not in_graphs):
            if in_graphs:
                self._mixed(in_graphs, "a chain, since it has a `start`, and `needs` belongs to graphs")
            self._chain(has_start=has_start, is_mixed=bool(in_graphs))
        else:
            if in_chains:
                parts = "`next`, `end`, `catch … next` and `Choice`"
                self._mixed(in_chains, f"a graph, since it has no `start`, and {parts} belong to chains")
            self._graph()

    def _key_of_chain(self, name: str) -> Key | None:
        """Return the path of the first part of a step that belongs to chains."""
        step, kind = self._level.written(name), self._level.kinds[name]
        if not issubclass(kind, Links):
            return ("steps", name, "type") if step else None
        if "next" in step or step.get("end", False) is not False:
            return ("steps", name, "next" if "next" in step else "end")
        return next((("steps", name, *link.key) for link in kind.find_links(step)), None)

    def _misspelt_start(self) -> str | None:
        return next((key for key in self._level.data if self._hints.closest(key, ("start",))), None)

    def _mixed(self, offenders: Mapping[str, Key], words: str) -> None:
        shown_ones = [shown(name) for name in list(offenders)[:_OFFENDERS_SHOWN_MAX]]
        if len(offenders) > _OFFENDERS_SHOWN_MAX:
            shown_ones.append(counted(len(offenders) - _OFFENDERS_SHOWN_MAX, "more step"))
        message = f"this level is {words}; write all its steps in one form (see {', '.join(shown_ones)})"
        self._report(next(iter(offenders.values())), message)

    # -- chains ------------------------------------------------------------------------------------------------------

    def _chain(self, *, has_start: bool, is_mixed: bool) -> None:
        if "on_failure" in self._level.data:
            message = "`on_failure` belongs to a graph and to a `Parallel`, and this level is a chain: take it away"
            self._report(("on_failure",), message)
        links: dict[str, _Links] = {}
        for name in self._steps:
            self._check_end(name)
            links[name] = self._links_of(name)
        start, first = self._level.data.get("start"), None
        if isinstance(start, str):
            first = self._resolve(("start",), start)
        if first is None or first != start:
            self.unclear[""] = 1
        if not has_start:
            led_to = {name for each in links.values() for name in (*each.known, *each.guessed)}
            firsts = [name for name in self._steps if name not in led_to]
            hint = f", it seems {shown(firsts[0])}" if len(firsts) == 1 else ""
            self._report(("start",), f"this key is missing: the name of the first step{hint}")
        for cycle in _cycles(self._steps, {name: list(each.known) for name, each in links.items()}):
            self.unclear[cycle.source] = self.unclear.get(cycle.source, 0) + 1
            message = (
                f"this leads back: {cycle.text(' -> ')}; aiorch has no loops yet, so lead on to a later step, or let "
                f"`retry` repeat a step that fails"
            )
            self._report(("steps", cycle.source, *links[cycle.source].known[cycle.target]), message)
        if first is not None and not is_mixed:
            self._check_ways(first, links)

    def _check_end(self, name: str) -> None:
        """Check that a step says how the chain goes on."""
        step, kind = self._level.written(name), self._level.kinds[name]
        if not step or not issubclass(kind, Links):
            return
        follows, ends = step.get("next"), step.get("end", False)
        if not isinstance(ends, bool) or ("next" in step and not isinstance(follows, str)):
            self.unclear[name] = 1  # these values are reported by the models
        elif is_end_by_kind(kind, step):
            if follows is not None or ends:
                message = "this step always fails, and no step follows it: take `next` and `end` away, or add a `when`"
                self._report(("steps", name, "next" if follows is not None else "end"), message)
        elif follows is None and not ends:
            self.unclear[name] = 1
            if "needs" not in step:
                message = (
                    "this step has no successor: give `next: <name of a step>`, or `end: true` if it is the last step"
                )
                self._report(("steps", name), message)
        elif follows is not None and ends:
            message = f"this step has both `next: {shown(follows)}` and `end: true`; take one of them away"
            self._report(("steps", name), message)

    def _links_of(self, name: str) -> _Links:
        links = _Links({}, [])
        step, kind = self._level.written(name), self._level.kinds[name]
        if self._level.steps.get(name) is None and (not step or "catch" in step or not issubclass(kind, Links)):
            self.unclear[name] = self.unclear.get(name, 0) + 1  # a mistake may hide a link
        for link in self._level.links(name):
            if link.key == ("next",) and is_end_by_kind(kind, step):  # reported, and perhaps a `when` is missing
                self.unclear[name] = self.unclear.get(name, 0) + 1
                if link.name in self._steps:
                    links.guessed.append(link.name)
                continue
            found = self._resolve(("steps", name, *link.key), link.name)
            if found == link.name:
                links.known.setdefault(found, link.key)
                continue
            self.unclear[name] = self.unclear.get(name, 0) + 1
            if found is not None:
                links.guessed.append(found)
        return links

    def _check_ways(self, first: str, links: Mapping[str, _Links]) -> None:
        """Report the steps to which no way leads from *first*: of several ones in a row, the first."""
        following = {name: list(each.known) for name, each in links.items()}
        reached = _reach(first, following, set())
        if len(reached) == len(self._steps):
            return
        sources = _sources([name for name in self._steps if name not in reached], following)
        unclear = sum(self.unclear.values())
        if unclear and any(self.unclear.get(name) for name in ("", *reached)):
            if len(sources) <= unclear:
                return
            guesses = {name: [*each.known, *each.guessed] for name, each in links.items()}
            reached = _reach(first, guesses, set())
            sources = _sources([name for name in self._steps if name not in reached], guesses)
        for name in sources:
            message = f"no way leads here from the start ({shown(first)}), so this step would never run"
            self._report(("steps", name), message)

    # -- graphs ------------------------------------------------------------------------------------------------------

    def _graph(self) -> None:
        needs: dict[str, dict[str, Key]] = {}
        for name in self._steps:
            needs[name] = self._needs_of(name)
        for cycle in _cycles(self._steps, {name: list(each) for name, each in needs.items()}):
            message = f"these steps need each other, so none of them would ever begin: {cycle.text(' needs ')}"
            self._report(needs[cycle.source][cycle.target], message, at_value=True)
        for needed in needs.values():
            for each, key in needed.items():
                if self._level.never_ends_well(each):
                    message = f"step {shown(each)} always fails, so this step would never run"
                    self._report(key, message, at_value=True)

    def _needs_of(self, name: str) -> dict[str, Key]:
        """Return the steps that a step needs and that exist, each with the path of its name."""
        needed: dict[str, Key] = {}
        given = self._level.written(name).get("needs")
        for index, each in enumerate(given) if isinstance(given, list) else ():
            key = ("steps", name, "needs", index)
            if not isinstance(each, str):
                continue
            if each == name:
                self._report(key, "a step cannot need itself; take its name away", at_value=True)
            elif each in needed:
                self._report(key, f"step {shown(each)} is named twice; take one of the two away", at_value=True)
            elif self._resolve(key, each) == each:
                needed[each] = key
        return needed

    # -- names -------------------------------------------------------------------------------------------------------

    def _resolve(self, key: Key, name: str) -> str | None:
        """Return the step with this name, or the step with the most similar name."""
        if name in self._steps:
            return name
        closest = None
        home = self._homes.get(name)
        if home is not None:
            rule = _IN_A_GRAPH if "needs" in key else _IN_A_CHAIN
            message = (
                f"step {shown(name)} is not on this level but at {format_path((*home.key, 'steps', name))}; {rule}"
            )
        else:
            closest = self._hints.closest(name, self._steps)
            hint = f"; did you mean {shown(closest)}?" if closest is not None else self._known()
            message = f"there is no step {shown(name)} here{hint}"
        self._report(key, message, at_value=True)
        return closest

    def _known(self) -> str:
        return f", only {', '.join(map(shown, self._steps))}" if len(self._steps) <= _KNOWN_SHOWN_MAX else ""

    def _report(self, key: Key, message: str, *, at_value: bool = False) -> None:
        self.findings.append(Finding((*self._level.key, *key), message, at_value))


_IN_A_CHAIN = "a branch ends with `end: true`, and the step after all branches is the `next` of their `Parallel`"
_IN_A_GRAPH = "a step needs steps of its own level only; the step around them can need it"


class _Cycle(NamedTuple):
    """Steps in a circle: from *target* over the steps between to *source*, which leads back to *target*."""

    source: str
    target: str
    first: list[str]
    last: list[str]
    left_out: int

    def text(self, joint: str) -> str:
        """Return the whole circle in words, cut in the middle if it is long."""
        middle = [f"({self.left_out} more)"] if self.left_out else []
        return joint.join([*map(shown, self.first), *middle, *map(shown, self.last), shown(self.target)])


def _cycles(names: Iterable[str], following: Mapping[str, list[str]]) -> Iterator[_Cycle]:
    """Yield circles, so many that no other circle is left without the links that close them."""
    done: set[str] = set()
    for begin in names:
        if begin in done:
            continue
        done.add(begin)
        path, places, waiting = [begin], {begin: 0}, [iter(following[begin])]
        while waiting:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                del places[path.pop()]
            elif name in places:
                yield _cycle(path, places[name])
            elif name not in done:
                done.add(name)
                places[name] = len(path)
                path.append(name)
                waiting.append(iter(following[name]))


def _cycle(path: list[str], begin: int) -> _Cycle:
    length = len(path) - begin
    if length < _CYCLE_SHOWN_MAX:
        return _Cycle(path[-1], path[begin], path[begin:], [], 0)
    first = path[begin : begin + _CYCLE_SHOWN_MAX // 2]
    return _Cycle(path[-1], path[begin], first, path[-1:], length - len(first) - 1)


def _reach(begin: str, following: Mapping[str, list[str]], reached: set[str]) -> set[str]:
    """Add the steps to which ways lead from *begin* to those that are reached already, and return all."""
    waiting = [begin]
    reached.add(begin)
    while waiting:
        fresh = [name for name in following[waiting.pop()] if name not in reached]
        reached.update(fresh)
        waiting += fresh
    return reached


def _sources(names: list[str], following: Mapping[str, list[str]]) -> list[str]:
    """Return steps of which ways lead to all of *names*, as few as possible; no way leads to these from outside."""
    left = set(names)
    reached: set[str] = set()
    sources = set()
    # The last one to end begins a way to all steps that it shares a circle with.
    for name in reversed(in_order_of_end(names, following)):
        if name in left and name not in reached:
            sources.add(name)
            _reach(name, following, reached)
    return [name for name in names if name in sources]
