"""
Resume with a new definition: the steps whose results are kept must be those that gave the results.

The keys of a step are compared as stored, all but `comment` and those that lead to the next step. The way that the run
took from one kept step to the next must be the same; steps after it, and those that run anew, may change in any way.
"""

from collections.abc import Container, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from aiorch.core.resume import kept_by_resume
from aiorch.definition.models import step_of_type
from aiorch.definition.source import format_path
from aiorch.errors import DefinitionChangedError, Difference
from aiorch.model.dag import DAG, Node
from aiorch.model.findings import Key
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState

_WAYS = frozenset({"comment", "next", "end"})
"""Keys of a step that do not influence its result."""

NONE = "none"
FIRST_LEVEL = "the first level"
TEXT_CHARS_MAX = 200


def kept_by_resume_with(new: DAG, old: DAG, run: Run, from_step: str | None = None) -> Mapping[str, NodeState]:
    """
    Return the entries that a resumed run of a new definition takes over.

    Args:
        new: The DAG of the resumed run.

        old: The DAG of the run to resume.

        run: The run to resume.

        from_step: See `aiorch.core.resume.kept_by_resume`.

    Raises:
        RunStateError, StepNotResumableError: See `aiorch.core.resume.kept_by_resume`.

        DefinitionChangedError: The definitions differ in steps whose results would be kept.
    """
    kept = kept_by_resume(old, run, from_step)
    if differences := list(dict.fromkeys(_differences(old, new, kept))):
        raise DefinitionChangedError(run.header.run_id, new.name, differences)
    return {name: _as_in(new.node_of(name), state) for name, state in kept.items()}


def _as_in(node: Node, state: NodeState) -> NodeState:
    """Return a kept entry with the facts about the way that stand in a new definition."""
    blank = node.kind.blank(node)
    return replace(state, next=blank.next, branches=blank.branches)


class _Written(NamedTuple):
    """A step as written in a definition."""

    place: str
    """Path of the level in which the step stands; empty for the first level."""

    keys: Mapping[str, Any]
    """The keys that influence the result."""


def _steps(dag: DAG) -> dict[str, _Written]:
    """Return the steps of a definition by name, without those of `finally`."""
    found: dict[str, _Written] = {}
    waiting: list[tuple[Key, Any]] = [((), msgspec.json.decode(dag.definition))]
    while waiting:
        place, level = waiting.pop()
        for name, step in level["steps"].items():
            scopes = list(step_of_type(step["type"]).find_scopes(step))
            left_out = _WAYS.union(str(path[0]) for path, _ in scopes)
            found[name] = _Written(format_path(place), {key: step[key] for key in step if key not in left_out})
            waiting += [((*place, "steps", name, *path), scope) for path, scope in scopes]
    return found


def _differences(old: DAG, new: DAG, kept: Mapping[str, NodeState]) -> Iterator[Difference]:
    ended = {old.node_of(name).name: state for name, state in kept.items()}
    road = _with_nodes_around(old, ended)
    before, after = _steps(old), _steps(new)
    unchanged: list[Node] = []
    for name, node in road.items():
        if name not in after:
            yield Difference(name, "step", _text(before[name].keys), NONE)
        elif before[name].place != after[name].place:
            yield Difference(name, "place", before[name].place or FIRST_LEVEL, after[name].place or FIRST_LEVEL)
        else:
            unchanged.append(node)
            if name in ended:
                yield from _different_keys(name, before[name].keys, after[name].keys)
                for added in new.all_nodes[name].inner_nodes.keys() - node.inner_nodes.keys():
                    yield Difference(added, "step", NONE, _text(after[added].keys))
    for node in unchanged:
        yield from _different_ways(node, new.all_nodes[node.name], ended, road)


def _with_nodes_around(dag: DAG, names: Mapping[str, NodeState]) -> dict[str, Node]:
    """Return nodes of these names and the nodes around them, in the order of the definition."""
    found = set(names)
    for name in names:
        outer = dag.all_nodes[name].parent_dag.parent_node
        while outer is not None and outer.name not in found:
            found.add(outer.name)
            outer = outer.parent_dag.parent_node
    return {name: node for name, node in dag.all_nodes.items() if name in found}


def _different_keys(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for key in sorted(before.keys() | after.keys()):
        old, new = ({key: keys[key]} if key in keys else {} for keys in (before, after))
        if _json(old) != _json(new):
            yield Difference(name, key, *(_text(each[key]) if each else NONE for each in (old, new)))


def _different_ways(
    node: Node, now: Node, ended: Mapping[str, NodeState], road: Container[str]
) -> Iterator[Difference]:
    """Yield the difference of the start of a level, and of the way from a node to the next one of the road."""
    old, new = node.parent_dag, now.parent_dag
    if old.start_node != new.start_node:
        around = "" if old.parent_node is None else old.parent_node.name
        yield Difference(around, "start", _name(old.start_node), _name(new.start_node))
    state = ended.get(node.name)
    if state is None or not state.ended_well or state.went_to is not None:
        return  # the decision of a node that went to another one is among the other keys
    if node.next != now.next and node.next in road:
        yield Difference(node.name, "next", _name(node.next), _name(now.next))


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _text(value: Any) -> str:
    """Return a value in the form for messages: as JSON, cut to its limit."""
    text = _json(value).decode()
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"


def _name(step: str | None) -> str:
    return NONE if step is None else _text(step)
