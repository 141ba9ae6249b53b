"""Results of nodes, as a launched task or a user sees them; large ones are fetched from the executions' records."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec

from aiorch.documents.executions import Execution, ExecutionStatus
from aiorch.errors import (
    DocumentError,
    NoResultError,
    ResultPendingError,
    ResultUnreadableError,
    StoreUnavailable,
    TaskNotFoundError,
)
from aiorch.model.dag import DAG, Node, Task
from aiorch.model.names import VALUES, is_content_of
from aiorch.model.place import At, place_of, seen_from
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.scopes import ScopeNames, scopes_of
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

    Args:
        run: The run.

        nodes: The nodes whose results are seen.

        large: The results that are not in the run document, encoded, by the names of their entries.
    """

    def __init__(self, run: Run, nodes: "EarlierNodes | AllNodes", large: Mapping[str, bytes]) -> None:
        self._run = run
        self._nodes = nodes
        self._large = large

    def __getitem__(self, name: str) -> Any:
        state = self._completed(self._nodes.find(name, self._run))
        if state is None:
            raise self._nodes.why_none(name, self._run)
        return msgspec.json.decode(self._large[state.node_name] if state.result_in is not None else state.result)

    def __contains__(self, name: object) -> bool:
        return self._completed(self._nodes.find(cast("str", name), self._run)) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the result of *name*, or *default* where there is none."""
        return self[name] if name in self else default  # noqa: SIM401  this is what `get` is made of

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._nodes.names(self._run) if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Results of {', '.join(self) or 'no node'}>"

    def _completed(self, at: At[Node] | None) -> NodeState | None:
        """Return the entry of a node that has completed with a result."""
        state = self._run.nodes.get(at.name) if at is not None else None
        return state if at is not None and state is not None and has_result(at.node, state) else None


class EarlierNodes:
    """The nodes whose results a task may see; found when first asked for, since most tasks never ask."""

    def __init__(self, at: At[Task]) -> None:
        self._at = at

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name, the nearest first."""
        return {node.name: node for node in self._at.node.earlier_nodes()}

    @cached_property
    def _dag(self) -> DAG:
        return self._at.node.parent_dag.root

    def find(self, name: str, run: Run) -> At[Node] | None:
        """Return the place of the entry whose result the task sees under a name, `None` for a name it does not see."""
        node = self.by_name.get(name)
        if node is None or not self._dag.has_repeated_scopes:
            return None if node is None else At(node, name)
        return seen_from(self._at, node, lambda entry: run.nodes[entry].attempt)

    def names(self, run: Run) -> Iterable[str]:  # noqa: ARG002
        """Return the names of the nodes, the nearest first."""
        return self.by_name

    def entries(self, run: Run) -> Container[str]:
        """Return the names of the entries whose results the task sees."""
        return entries_of(self, self.by_name, run) if self._dag.has_repeated_scopes else self.by_name

    def why_none(self, name: str, run: Run) -> NoResultError:
        """Return the error for a result that the task does not see."""
        task, known = self._at.node, Results(run, self, {})
        sees = f"{self._at.name!r} sees the results of {_listed(list(known))}."
        node = self._dag.all_nodes.get(name) if name not in self.by_name else None
        if node is None:
            return _why_none(name, self.find(name, run), run, self.by_name, sees)
        if node is task:
            reason = "this task itself"
        elif node in task.around():
            reason = f"a {node.node_type} around {task.name!r}, which ends only after this task"
        elif any(node is later for later in task.later_nodes()):
            reason = f"a node that begins only after {task.name!r}"
        elif repeated := [each for each in _indexed(node) if each not in task.around()]:
            reason = f"a node in {repeated[0].name!r}, which has an entry for each of its repeated scopes"
        else:
            reason = f"a node of a branch beside {task.name!r}, and may run at the same time or later"
        return NoResultError(f"the result of {name!r} is not seen here: {name!r} is {reason}. {sees}")


class AllNodes:
    """
    Every node of a run: its user sees all results.

    A node in a scope with an index is seen under the name of each of its entries. Of a node that was tried several
    times, the last try is seen.
    """

    def __init__(self, dag: DAG) -> None:
        self._dag = dag

    def find(self, name: str, run: Run) -> At[Node] | None:
        """Return the place of the entry whose result has a name, `None` for a name that there is not."""
        node = self._dag.plain_nodes.get(name)
        if node is None:
            return place_of(self._dag, name) if name in run.nodes else None
        if not self._dag.has_repeated_scopes:
            return At(node, name)
        return seen_from(None, node, lambda entry: run.nodes[entry].attempt)

    def names(self, run: Run) -> Iterable[str]:
        """Return the names of all results that there may be, each once."""
        plain = self._dag.plain_nodes
        if not self._dag.has_repeated_scopes:
            return plain
        # The nodes of a later try are there under their plain names.
        return (name for name in run.nodes if name in plain or _has_indices_only(name))

    def why_none(self, name: str, run: Run) -> NoResultError:
        """Return the error for a result that there is not."""
        more = f"Run {run.header.run_id!r} is {run.status}."
        return _why_none(name, self.find(name, run), run, self._dag.all_nodes, more)


def entries_of(nodes: EarlierNodes | AllNodes, names: Iterable[str], run: Run) -> set[str]:
    """Return the entries whose results are seen under *names*."""
    return {at.name for name in names if (at := nodes.find(name, run)) is not None}


def _why_none(name: str, at: At[Node] | None, run: Run, nodes: Mapping[str, Node], more: str) -> NoResultError:
    if at is None and name in nodes:
        around = next(_indexed(nodes[name])).name
        return TaskNotFoundError(
            f"there is no result of {name!r} alone: each repeated scope of {around!r} has its own, under a name such "
            f"as {_example(nodes[name])!r}. {more}"
        )
    if at is None:
        from aiorch.model.findings import Hints  # noqa: PLC0415  only a mistake needs it

        meant = Hints().closest(str(name), islice(nodes, NAMES_COMPARED))
        hint = f"; did you mean {meant!r}?" if meant else "."
        return TaskNotFoundError(f"there is no result of {name!r}: the DAG has no node of this name{hint} {more}")
    node = at.node
    if not node.kind.has_result:
        instead = " Take those of the nodes in it." if node.scopes else ""
        return TaskNotFoundError(
            f"there is no result of {name!r}: it is a {node.node_type}, and has no result of its own.{instead} {more}"
        )
    state = run.nodes.get(at.name)
    status = TaskStatus.NEW if state is None else state.status
    if state is not None and status.is_terminal:
        why = f" ({state.error.text})" if state.error is not None else ""
        return NoResultError(f"there is no result of {name!r}: it is {status}{why}. {more}")
    return ResultPendingError(f"there is no result of {name!r} yet: it is {status}. {more}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - RESULTS_NAMED:,} more" if len(names) > RESULTS_NAMED else ""
    return ", ".join(repr(name) for name in names[:RESULTS_NAMED]) + more or "no node"


def _indexed(node: Node) -> Iterator[Node]:
    """Yield the nodes around *node* whose scopes have an index, the innermost first."""
    return (around for around in node.around() if around.scope_names is ScopeNames.INDEX)


def _has_indices_only(entry: str) -> bool:
    return all(names is ScopeNames.INDEX for _, names in scopes_of(entry)[0])


def _example(node: Node) -> str:
    """Return the name of the first entry of a node in repeated scopes."""
    way = [node, *node.around()]
    place = At(way[-1], way.pop().name)
    while way:
        place = place.within(0, way.pop())
    return place.name


def end_names(dag: DAG) -> Iterator[str]:
    """Yield the names of the nodes whose results may be that of a run: those that *dag* may end with, at any depth."""
    waiting = list(dag.ends)
    while waiting:
        node = waiting.pop()
        yield node.name
        waiting.extend(end for scope in node.scopes for end in scope.ends)


def end_results(dag: DAG, run: Run, results: Mapping[str, Any]) -> Any:
    """
    Return the result of a run whose definition gives none: that of the node with which *dag* ended.

    Of a DAG that is a graph, or that ended with a `Parallel` without a result of its own, a mapping with the results of
    the last nodes that have one. `None` when nothing was returned.

    Args:
        dag: The DAG of the run.

        run: The run, which has completed.

        results: At least the results of the nodes `end_names`.
    """
    nodes = AllNodes(dag)

    def last_of(level: DAG) -> Iterator[Node]:
        """Yield the last nodes of a level in reverse: of a chain only the one that ended it."""
        for node in reversed(level.ends):
            at = None if level.is_graph else nodes.find(node.name, run)
            if level.is_graph or (at is not None and at.name in run.nodes and run.nodes[at.name].ended_chain):
                yield node

    found: dict[str, Any] = {}
    waiting = [*last_of(dag)]
    while waiting:
        node = waiting.pop()
        if node.scopes and node.result_value is None and node.name not in results:
            waiting.extend(end for scope in reversed(node.scopes) for end in last_of(scope))
        elif (result := results.get(node.name)) is not None:
            if node.parent_dag is dag and not dag.is_graph:  # the run has ended here
                return result
            found[node.name] = result
    return found or None


class SpilledResults:
    """Fetches results that are too large for the run document, and remembers the last ones."""

    def __init__(self, executions: ExecutionStatus) -> None:
        self._executions = executions
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0

    async def fetch(self, run: Run, names: Container[str]) -> dict[str, bytes]:
        """Return those results of the entries *names* that are not in the run document, encoded, by entry."""
        return await self.of({name: run.nodes[name].result_place for name in run.spilled if name in names})

    async def of(self, wanted: Mapping[str, str]) -> dict[str, bytes]:
        """
        Return results that are outside of run documents, encoded.

        Args:
            wanted: By keys of any choice, the ids of executions and the names of objects that hold the results.

        Raises:
            StoreError: The store does not return a result.

            ResultUnreadableError: The object that the store returned, if any, holds no result. The answer may be
                damaged, and the object sound.
        """
        gate = asyncio.Semaphore(FETCHES_MAX)
        found = await asyncio.gather(*(self._get(place, gate) for place in wanted.values()))
        return dict(zip(wanted, found, strict=True))

    async def save(self, execution: Execution, result: bytes) -> None:
        """Write a large result to the execution's record; the commit that completes the task comes after."""
        record = msgspec.structs.replace(execution, succeeded=True, response=msgspec.Raw(result))
        await _as_no_answer(self._executions.save_execution(record))
        self._remember(execution.execution_id, result)

    async def _get(self, place: str, gate: asyncio.Semaphore) -> bytes:
        cached = self._cache.get(place)
        if cached is not None:
            self._cache.move_to_end(place)
            return cached
        async with gate:
            if place.startswith(VALUES):
                stored = await self._executions.store.read(place)
                data = stored.data if stored is not None else None
                if data is not None and not is_content_of(place, data):
                    raise ResultUnreadableError(
                        f"{place} was read with a content that its name does not tell, so it was not used; if the "
                        f"object is damaged, restore it."
                    )
            else:
                try:
                    data = await self._executions.get_response(place)
                except DocumentError as error:
                    raise ResultUnreadableError(str(error)) from error
        if data is None:
            name = place if place.startswith(VALUES) else f"executions/{place}.json"
            raise ResultUnreadableError(
                f"{name} holds no result, though its run says that it does; restore the object."
            )
        self._remember(place, data)
        return data

    def _remember(self, place: str, data: bytes) -> None:
        if place not in self._cache and len(data) <= CACHE_BYTES_MAX:
            self._cache[place] = data
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
    """Whether the node has ended with a result: of its own, of its step, or of a handler of its failure."""
    if state.status is TaskStatus.COMPLETED:
        return node.kind.has_result or node.result_value is not None
    return state.caught and state.went_to is None
