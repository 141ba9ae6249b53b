"""The names and statuses in a case, checked against the DAG: steps, their kinds, and the ends of runs and steps."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from aiorch.model.dag import DAG, Node, Task
from aiorch.model.enums import TargetTypes
from aiorch.model.findings import Finding, Hints, Key, shown
from aiorch.testing.cases.records import ENDS_OF_RUNS, ENDS_OF_STEPS

EVERY_STEP = "*"
"""Stands for all steps without answers of their own."""

NAMES_COMPARED = 2000
"""Names that a misspelt one is compared with: each takes some 50 microseconds."""


class Names:
    """Looks for names in cases that the DAG does not have."""

    def __init__(self, dag: DAG) -> None:
        self._dag = dag
        self._hints = Hints()

    def in_answers(self, key: Key, answers: Any) -> Iterator[Finding]:
        """Yield the mistakes in the answers at *key*, as they are written: values of wrong types are passed over."""
        for name, given in _items(answers):
            if name == EVERY_STEP:
                continue
            task, found = self._task((*key, name), name, "so it takes no answer")
            yield from found
            if given == []:
                yield Finding((*key, name), "this list is empty; give an answer for each call of the step")
            if task is None or is_function(task):
                continue
            for place, answer in enumerate(given) if isinstance(given, list) else [(None, given)]:
                if isinstance(answer, dict) and answer.get("call") is True:
                    path = (*key, name, "call") if place is None else (*key, name, place, "call")
                    what = f"{name!r} is a {task.target_type} task"
                    yield Finding(path, f"{what}, and `call` calls Python functions only; give a `result`")

    def in_secrets(self, key: Key, secrets: Any) -> Iterator[Finding]:
        """Yield the names in the secrets at *key* that the definition does not declare."""
        declared: list[str] = msgspec.json.decode(self._dag.definition).get("secrets") or []
        for name, _ in _items(secrets):
            if name not in declared:
                meant = self._hints.closest(name, declared)
                hint = f"did you mean `{meant}`?" if meant else f"its secrets are {_listed(declared) or 'none'}"
                yield Finding((*key, name), f"the definition declares no secret {shown(name)}; {hint}")

    def in_expectation(self, key: Key, expect: Any) -> Iterator[Finding]:
        """Yield the mistakes in the expectation at *key*, as it is written: values of wrong types are passed over."""
        parts = dict(_items(expect))
        yield from self._status((*key, "status"), parts.get("status"), ENDS_OF_RUNS)
        for name, step in _items(parts.get("steps")):
            place = (*key, "steps", name)
            yield from self._node(place, name)[1]
            is_mapping = isinstance(step, dict)
            status = step.get("status") if is_mapping else step
            yield from self._status((*place, "status") if is_mapping else place, status, ENDS_OF_STEPS)
        way = parts.get("way")
        for index, name in enumerate(way if isinstance(way, list) else ()):
            if isinstance(name, str):
                yield from self._node((*key, "way", index), name)[1]
        for name, _ in _items(parts.get("calls")):
            yield from self._task((*key, "calls", name), name, "so it makes no call")[1]

    def _status(self, key: Key, status: Any, known: Sequence[str]) -> Iterator[Finding]:
        if isinstance(status, str) and status not in known:
            *others, last = (f"`{each}`" for each in known)
            meant = self._hints.closest(status, known)
            hint = f"; did you mean `{meant}`?" if meant else ""
            message = f"must be {', '.join(others)} or {last}, not {shown(status)}{hint}"
            yield Finding(key, message, at_value=True)

    def _node(self, key: Key, name: str) -> tuple[Node | None, list[Finding]]:
        try:
            return self._dag.node_of(name), []
        except KeyError:
            meant = self._hints.closest(name, islice(self._dag.all_nodes, NAMES_COMPARED))
            hint = f"did you mean `{meant}`?" if meant else f"the steps are {_listed([*self._dag.all_nodes])}"
            message = f"the definition has no step {shown(name)}; {hint}"
            return None, [Finding(key, message)]

    def _task(self, key: Key, name: str, consequence: str) -> tuple[Task | None, list[Finding]]:
        node, found = self._node(key, name)
        if node is None or isinstance(node, Task):
            return node, found
        message = f"{name!r} is a {node.node_type} step, which calls no target, {consequence}: remove the key"
        return None, [Finding(key, message)]


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def is_function(task: Task) -> bool:
    """Whether the target of a task is a Python function."""
    return task.target_type == TargetTypes.FUNCTION


def _listed(names: Sequence[Any], shown_max: int = 10) -> str:
    more = f" and {len(names) - shown_max:,} more" if len(names) > shown_max else ""
    return ", ".join(f"`{name}`" for name in names[:shown_max]) + more
