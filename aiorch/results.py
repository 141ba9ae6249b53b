"""Results of earlier nodes, as a launched task sees them; large ones are fetched from the executions' records."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Collection, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from aiorch.dag import DAG
from aiorch.enums import NodeTypes, TaskStatus
from aiorch.errors import DocumentError, StoreUnavailable
from aiorch.nodes import Task
from aiorch.run_document import NodeState
from aiorch.run_state import Run
from aiorch.status import Execution, ExecutionStatus

CACHE_BYTES_MAX = 64 * 1024 * 1024
"""Large results kept in memory, so that a thousand branches that read one do not fetch it a thousand times."""

FETCHES_MAX = 64
"""Records fetched at once for one launch."""

_T = TypeVar("_T")


class Results(Mapping[str, Any]):
    """
    Results by node name, decoded from JSON on each access: changing one changes nothing elsewhere.

    Only tasks that are ``Completed`` have an entry; the result of one that returned nothing is `None`.
    """

    def __init__(self, run: Run, nodes: "EarlierNodes | AllNodes", large: Mapping[str, bytes]) -> None:
        self._run = run
        self._nodes = nodes
        self._large = large

    def __getitem__(self, name: str) -> Any:
        state = self._run.nodes.get(name)
        if state is None or not _has_result(state) or name not in self._nodes.names:
            raise KeyError(name)
        if state.result_in is not None:
            return msgspec.json.decode(self._large[name])
        return msgspec.json.decode(state.result)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._nodes.names if _has_result(self._run.nodes[name]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Results of {', '.join(self) or 'no node'}>"


class EarlierNodes:
    """The nodes whose results a task may see; found when first asked for, since most tasks never ask."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @cached_property
    def names(self) -> Collection[str]:
        """Their names, the nearest first."""
        return {node.name: None for node in self._task.earlier_nodes()}


class AllNodes:
    """The nodes of a run that has ended: everything may be seen."""

    def __init__(self, dag: DAG) -> None:
        self.names: Collection[str] = dag.all_nodes


class SpilledResults:
    """Fetches results that are too large for the run document, and remembers the last ones."""

    def __init__(self, executions: ExecutionStatus) -> None:
        self._executions = executions
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0

    async def fetch(self, run: Run, nodes: EarlierNodes | AllNodes) -> Mapping[str, bytes]:
        """Return those results of *nodes* that are not in the run document, encoded, by node name."""
        wanted = {name: run.nodes[name].execution_id or "" for name in run.spilled if name in nodes.names}
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
            raise LookupError(f"executions/{execution_id}.json holds no response, though its run says that it does")
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


def _has_result(state: NodeState) -> bool:
    return state.status is TaskStatus.COMPLETED and state.node_type is NodeTypes.TASK
