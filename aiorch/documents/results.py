"""Results of nodes, as a launched task or a user sees them; large ones are fetched from the executions' records."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Container, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec

from aiorch.documents.executions import Execution, ExecutionStatus
from aiorch.errors import DocumentError, NoResultError, ResultPendingError, StoreUnavailable, TaskNotFoundError
from aiorch.model.dag import DAG, Node, Task
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus

CACHE_BYTES_MAX = 64 * 1024 * 1024
"""Large results kept in memory, so that a thousand branches that read one do not fetch it a thousand times."""

FETCHES_MAX = 64
"""Records fetched at once for one launch."""

_T = TypeVar("_T")


RESULTS_NAMED = 10
"""Names of results in a message; more are counted."""

NAMES_COMPARED = 2000
"""Names that a misspelt one is compared with: each takes some 50 microseconds."""


class Results(Mapping[str, Any]):
    """
    Results by node name, decoded from JSON on each access: changing one changes nothing elsewhere.

    Only nodes that are ``Completed`` and whose kind has a result have an entry; the result of a task that returned
    nothing is `None`. For any other name `NoResultError`, a `KeyError`, says why there is none.
    """

    def __init__(self, run: Run, nodes: "EarlierNodes | AllNodes", large: Mapping[str, bytes]) -> None:
        self._run = run
        self._nodes = nodes
        self._large = large

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise self._nodes.why_none(name, self._run)
        state = self._run.nodes[name]
        return msgspec.json.decode(self._large[name] if state.result_in is not None else state.result)

    def __contains__(self, name: object) -> bool:
        state = self._run.nodes.get(cast("str", name))
        node = self._nodes.by_name.get(cast("str", name))
        return state is not None and node is not None and has_result(node, state)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the result of *name*, or *default* where there is none."""
        return self[name] if name in self else default  # noqa: SIM401  this is what `get` is made of

    def __iter__(self) -> Iterator[str]:
        return (name for name, node in self._nodes.by_name.items() if has_result(node, self._run.nodes[name]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Results of {', '.join(self) or 'no node'}>"


class EarlierNodes:
    """The nodes whose results a task may see; found when first asked for, since most tasks never ask."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name, the nearest first."""
        return {node.name: node for node in self._task.earlier_nodes()}

    def why_none(self, name: str, run: Run) -> NoResultError:
        """Return the error for a result that the task does not see."""
        seen = [each for each, node in self.by_name.items() if has_result(node, run.nodes[each])]
        sees = f"{self._task.name!r} sees the results of {_listed(seen)}."
        if name not in self.by_name and name in run.nodes:
            if name == self._task.name:
                reason = "this task itself"
            elif any(name == node.name for node in self._task.later_nodes()):
                reason = f"a node that begins only after {self._task.name!r}"
            elif around := [node for node in _around(self._task) if node.name == name]:
                reason = f"a {around[0].node_type} around {self._task.name!r}, which ends only after this task"
            else:
                reason = f"a node of a branch beside {self._task.name!r}, and may run at the same time or later"
            return NoResultError(f"the result of {name!r} is not seen here: {name!r} is {reason}. {sees}")
        return _why_none(name, run, self.by_name, sees)


class AllNodes:
    """Every node of a run: its user sees all results."""

    def __init__(self, dag: DAG) -> None:
        self.by_name: Mapping[str, Node] = dag.all_nodes

    def why_none(self, name: str, run: Run) -> NoResultError:
        """Return the error for a result that there is not."""
        return _why_none(name, run, self.by_name, f"Run {run.header.run_id!r} is {run.status}.")


def _why_none(name: str, run: Run, nodes: Mapping[str, Node], more: str) -> NoResultError:
    state = run.nodes.get(name)
    if state is None:
        from aiorch.model.findings import Hints  # noqa: PLC0415  only a mistake needs it

        meant = Hints().closest(str(name), islice(nodes, NAMES_COMPARED))
        hint = f"; did you mean {meant!r}?" if meant else "."
        return TaskNotFoundError(f"there is no result of {name!r}: the DAG has no node of this name{hint} {more}")
    if not nodes[name].kind.has_result:
        instead = " Take those of the nodes in it." if nodes[name].scopes else ""
        return TaskNotFoundError(
            f"there is no result of {name!r}: it is a {state.node_type}, and has no result of its own.{instead} {more}"
        )
    if state.status.is_terminal:
        why = f" ({state.error.text})" if state.error is not None else ""
        return NoResultError(f"there is no result of {name!r}: it is {state.status}{why}. {more}")
    return ResultPendingError(f"there is no result of {name!r} yet: it is {state.status}. {more}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - RESULTS_NAMED:,} more" if len(names) > RESULTS_NAMED else ""
    return ", ".join(repr(name) for name in names[:RESULTS_NAMED]) + more or "no node"


def _around(task: Task) -> Iterator[Node]:
    node = task.parent_dag.parent_node
    while node is not None:
        yield node
        node = node.parent_dag.parent_node


def last_nodes(dag: DAG) -> Iterator[Node]:
    """Yield the nodes that *dag* ends with: its last one, or the last one of every scope of that."""
    waiting = [*reversed(dag.ends)]
    while waiting:
        node = waiting.pop()
        if node.scopes:
            waiting.extend(end for scope in reversed(node.scopes) for end in reversed(scope.ends))
        else:
            yield node


def end_results(dag: DAG, results: Mapping[str, Any]) -> Any:
    """
    Return the result of the run: that of the last node of *dag*.

    Of a DAG that ends with a `Parallel`, a mapping with the result of the last node of every branch that has one.
    `None` when nothing was returned.
    """
    ends = {node.name: results.get(node.name) for node in last_nodes(dag)}
    if ends.keys() == {node.name for node in dag.ends} and len(ends) == 1:
        return next(iter(ends.values()))
    return {name: result for name, result in ends.items() if result is not None} or None


class SpilledResults:
    """Fetches results that are too large for the run document, and remembers the last ones."""

    def __init__(self, executions: ExecutionStatus) -> None:
        self._executions = executions
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0

    async def fetch(self, run: Run, names: Container[str]) -> dict[str, bytes]:
        """Return those results of the nodes *names* that are not in the run document, encoded, by node name."""
        return await self.of({name: run.nodes[name].execution_id or "" for name in run.spilled if name in names})

    async def of(self, wanted: Mapping[str, str]) -> dict[str, bytes]:
        """Return the results in the records of executions, encoded: *wanted* has their ids, by keys of any choice."""
        gate = asyncio.Semaphore(FETCHES_MAX)
        found = await asyncio.gather(*(self._get(execution_id, gate) for execution_id in wanted.values()))
        return dict(zip(wanted, found, strict=True))

    async def save(self, execution: Execution, result: bytes) -> None:
        """Write a large result to the execution's record; the commit that completes the task comes after."""
        record = msgspec.structs.replace(execution, succeeded=True, response=msgspec.Raw(result))
        await _as_no_answer(self._executions.save_execution(record))
        self._remember(execution.execution_id, result)

    async def _get(self, execution_id: str, gate: asyncio.Semaphore) -> bytes:
        cached = self._cache.get(execution_id)
        if cached is not None:
            self._cache.move_to_end(execution_id)
            return cached
        async with gate:
            data = await _as_no_answer(self._executions.get_response(execution_id))
        if data is None:
            raise DocumentError(f"executions/{execution_id}.json holds no response, though its run says that it does")
        self._remember(execution_id, data)
        return data

    def _remember(self, execution_id: str, data: bytes) -> None:
        if execution_id not in self._cache and len(data) <= CACHE_BYTES_MAX:
            self._cache[execution_id] = data
            self._cached_bytes += len(data)
            while self._cached_bytes > CACHE_BYTES_MAX:
                _, dropped = self._cache.popitem(last=False)
                self._cached_bytes -= len(dropped)


async def _as_no_answer(reading: Awaitable[_T]) -> _T:
    """Wait for *reading*. A record that cannot be read may be a damaged answer: reading it again may mend that."""
    try:
        return await reading
    except DocumentError as error:
        raise StoreUnavailable(str(error)) from error


def has_result(node: Node, state: NodeState) -> bool:
    """Whether the node has completed with a result."""
    return state.status is TaskStatus.COMPLETED and node.kind.has_result
