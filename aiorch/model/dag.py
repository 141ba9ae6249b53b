"""
The DAG and its nodes: the objects that a definition is built into.

Both are immutable once they are built, and shared by all runs of the definition. The run document of a run holds the
state of each node; `Task.bound_to` gives a view of a task with the state in one run.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol, Self

import msgspec

from aiorch.errors import counted
from aiorch.model.enums import OnLost, OnNoResult
from aiorch.model.execution_kind import ExecutionKind
from aiorch.model.failure import Failure
from aiorch.model.retry import RetryPolicy
from aiorch.model.run_document import NodeState
from aiorch.model.status import TaskStatus

_ONE_ATTEMPT = RetryPolicy()
_NOTHING: Mapping[str, Any] = MappingProxyType({})
"""Shared by all nodes without a mapping of their own: a DAG may have ten thousand of them."""


class Launcher(Protocol):
    """Launches tasks of one run: the argument that the executor hands to `Node.execute`."""

    def launch(self, task: "Task") -> None:
        """Launch *task* if this process owes the launch by the committed run, and no launch is in flight."""
        ...


class _Entry(Protocol):
    @property
    def status(self) -> TaskStatus: ...


class _Run(Protocol):
    @property
    def nodes(self) -> Mapping[str, _Entry]: ...


class Kind(Protocol):
    """The decisions of one kind of node, see `aiorch.core.kind.NodeKind`."""

    @property
    def name(self) -> str: ...
    @property
    def has_result(self) -> bool: ...
    @property
    def handlers(self) -> Mapping[Any, Callable[[Any, Any, Any], None]]: ...
    def blank(self, node: Any) -> NodeState: ...
    def pending(self, node: Any, entries: Mapping[str, NodeState]) -> int | None: ...
    def enter(self, draft: Any, at: Any) -> None: ...
    def scope_ended(self, draft: Any, at: Any, scope: "DAG", failure: Failure | None) -> None: ...
    def halt(self, draft: Any, at: Any, state: NodeState, committed: NodeState | None) -> None: ...
    def caption(self, node: Any) -> tuple[str, str]: ...


class Node:
    """
    A step of a DAG, built.

    Attributes:
        name: Name, unique in the whole definition.

        parent_dag: The `DAG` whose first level holds this node.

        next: Name of the node that follows, `None` at the end of a DAG.

        previous_nodes: The nodes whose `next` is this one (at most one today).

        kind: The decisions of this kind of node.

        scopes: The DAGs inside this node.

        repeats: Whether the scopes are repeated. The names of their entries then begin with the node and a number:
            ``Resize[17].Convert``.

        schema_version: The version of run documents that brought this kind of node.

        entry_growth: Bytes that the node's entry gains at most between ``New`` and a terminal status; a result that
            the run produces is not counted.
    """

    kind: Kind
    previous_nodes: tuple["Node", ...] = ()
    scopes: tuple["DAG", ...] = ()
    repeats: bool = False
    schema_version: int = 1
    entry_growth: int = 250

    def __init__(self, name: str, parent_dag: "DAG", *, next: str | None = None, comment: str = "") -> None:  # noqa: A002
        self.name = name
        self.parent_dag = parent_dag
        self.next = next
        self.comment = comment

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def node_type(self) -> str:
        """Name of the kind: one of `aiorch.NodeTypes`."""
        return self.kind.name

    @property
    def is_end(self) -> bool:
        """Whether no node of the same DAG follows."""
        return self.next is None

    @property
    def next_node(self) -> "Node | None":
        """The node that follows, `None` at the end of a DAG."""
        return None if self.next is None else self.parent_dag.nodes[self.next]

    def execute(self, launcher: Launcher) -> None:
        """Make the launches that the beginning of this node requires. Called by the executor, after the commit."""

    @cached_property
    def inner_nodes(self) -> Mapping[str, "Node"]:
        """Every node of every scope, those of nested scopes included, by name."""
        return {name: node for scope in self.scopes for name, node in scope.walk()} if self.scopes else _NOTHING

    def earlier_nodes(self) -> Iterator["Node"]:
        """Yield all nodes that end before this one can start, nearest first, each with all nodes in its scopes."""
        node: Node | None = self
        while node is not None:
            before = list(node.previous_nodes)
            while before:
                previous = before.pop()
                yield previous
                yield from previous.inner_nodes.values()
                before.extend(previous.previous_nodes)
            node = node.parent_dag.parent_node

    def later_nodes(self) -> Iterator["Node"]:
        """Yield all nodes that start only after this one has ended, each with all nodes in its scopes."""
        node: Node | None = self
        while node is not None:
            yield from node.parent_dag.all_from(node.next_node)
            node = node.parent_dag.parent_node


class TargetFacts(Protocol):
    """The facts about a kind of target that do not depend on the process: see `aiorch.targets.kind.TargetKind`."""

    @property
    def name(self) -> str: ...
    @property
    def execution(self) -> ExecutionKind: ...
    @property
    def default_timeout_s(self) -> float | None: ...
    @property
    def schema_version(self) -> int: ...


class Task(Node):
    """
    A node that launches executions at a target. Each kind of target has its own class.

    Attributes:
        target_kind: The facts about the kind of target.

        target_type: Name of the kind of target.

        execution: The kind of the executions.

        encoded_parameters: `parameters` as JSON.

        options: The given keys of the step that only steps of this kind of target have.
    """

    target_kind: TargetFacts
    target_type: str
    execution: ExecutionKind
    _run: "_Run | None" = None

    def __init_subclass__(cls) -> None:
        """Take over the facts that are asked for with every event."""
        if "target_kind" in cls.__dict__:
            cls.target_type, cls.execution = cls.target_kind.name, cls.target_kind.execution

    def __init__(  # noqa: PLR0913  one argument per key of a step
        self,
        name: str,
        parent_dag: "DAG",
        /,  # a kind of target may have a key `name`, which is one of the options
        *,
        target_name: str,
        next: str | None = None,  # noqa: A002
        parameters: Mapping[str, Any] | None = None,
        function: str | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        on_lost: OnLost = OnLost.RETRY,
        comment: str = "",
        **options: Any,
    ) -> None:
        super().__init__(name, parent_dag, next=next, comment=comment)
        self.target_name = target_name
        self.parameters: Mapping[str, Any] = parameters or _NOTHING
        self.encoded_parameters: bytes = msgspec.json.encode(parameters) if parameters else b"{}"
        self.function = function
        self.timeout = timeout
        self.retry: RetryPolicy = retry or _ONE_ATTEMPT
        self.on_lost = on_lost
        self.options: Mapping[str, Any] = options or _NOTHING
        self.schema_version: int = self.target_kind.schema_version

    @property
    def timeout_s(self) -> float | None:
        """Timeout of one attempt in seconds, `None` for no limit."""
        return self.target_kind.default_timeout_s if self.timeout is None else self.timeout

    @property
    def supplement(self) -> str | None:
        """Name of the function that is called before the launch and adds parameters, `None` for no function."""
        return self.function

    @property
    def reads_results(self) -> bool:
        """Whether the launch may read results of earlier tasks: the engine loads them before."""
        return True

    @cached_property
    def on_no_result(self) -> OnNoResult:
        """The rule for a success without a result. Executions of the kind `CALL` need one."""
        return OnNoResult.ACCEPT

    def region_for(self, default: str | None) -> str | None:  # noqa: ARG002
        """
        Return the region that completions of this task must name, `None` for any.

        Args:
            default: Region of the settings.
        """
        return None

    def bound_to(self, run: "_Run") -> Self:
        """Return a view of this task in *run*: the same task with a `status`."""
        view = copy.copy(self)
        view._run = run  # noqa: SLF001  the same class
        return view

    @property
    def status(self) -> TaskStatus:
        """Status in the run of this view; ``New`` on a task that is bound to no run."""
        return TaskStatus.NEW if self._run is None else self._run.nodes[self.name].status

    def execute(self, launcher: Launcher) -> None:
        """Launch this task."""
        launcher.launch(self)


_NO_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType({})


class DAG:
    """
    A chain of nodes from `start_node` to its end; the scopes of a node are DAGs again.

    Attributes:
        start_node: Name of the first node.

        parent_node: The node whose scope this is, `None` for the whole definition.

        nodes: Nodes of this level by name.

        ends: Nodes of this level without a next node.

        name: Name of the definition (``dag`` when the definition has no name).

        definition: The definition in the stored form: plain JSON types only, callables by name.

        definition_id: ``sha256:`` and the hash of the stored definition.

        timeout: Timeout of a run in seconds, `None` for no limit.

        functions: Callables that the definition held as objects, by the name in the stored form.

        orchestration_status, execution_status: Keep the runs of this DAG and the records of their executions in a
            store. The builder sets both for a `DAGExecutor`; `None` if the builder got no status.
    """

    orchestration_status: object | None = None
    execution_status: object | None = None

    def __init__(  # noqa: PLR0913
        self,
        start_node: str,
        *,
        parent_node: Node | None = None,
        name: str = "dag",
        definition: bytes = b"",
        definition_id: str = "",
        timeout: float | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.start_node = start_node
        self.parent_node = parent_node
        self.nodes: dict[str, Node] = {}
        self.ends: tuple[Node, ...] = ()
        self.name = name
        self.definition = definition
        self.definition_id = definition_id
        self.timeout = timeout
        self.functions: Mapping[str, Callable[..., Any]] = functions or _NOTHING

    def __repr__(self) -> str:
        return f"<DAG {self.name!r} of {counted(len(self.all_nodes), 'node')}>"

    def init(self) -> None:
        """Link each node of this level with its previous nodes. Called once, when all nodes are there."""
        self.ends = tuple([node for node in self.nodes.values() if node.next is None])
        previous: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            if node.next is not None:
                previous[node.next].append(node)
        for name, node in self.nodes.items():
            node.previous_nodes = tuple(previous[name])

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Tasks of this level by node name."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, Task)}

    @cached_property
    def all_nodes(self) -> dict[str, Node]:
        """Nodes of this level and of all child DAGs, by name; a node comes before the nodes in its scopes."""
        return dict(self.walk())

    @cached_property
    def all_tasks(self) -> dict[str, Task]:
        """Tasks of this level and of all child DAGs, by node name."""
        return {name: node for name, node in self.all_nodes.items() if isinstance(node, Task)}

    @cached_property
    def nodes_with_scopes(self) -> tuple[Node, ...]:
        """Nodes of this level and of all child DAGs that have scopes."""
        return tuple(node for node in self.all_nodes.values() if node.scopes)

    @cached_property
    def schema_version(self) -> int:
        """The oldest version of run documents that knows all kinds of nodes in this DAG."""
        return max(node.schema_version for node in self.all_nodes.values())

    def node_of(self, entry: str) -> Node:
        """
        Return the node to which an entry of a run document belongs.

        The name of an entry is the name of the node, after the names of the surrounding repeated scopes:
        ``Resize[17].Convert``.

        Raises:
            KeyError: No node of this DAG has such an entry.
        """
        node = self.all_nodes.get(entry)
        if node is None:
            scope, dot, name = entry.rpartition("].")
            outer = scope.rpartition("[")[0] if dot and scope[-1:].isdecimal() else ""
            node, around = self.all_nodes[name], self.node_of(outer) if outer else None
            if around is None or not around.repeats or node not in around.inner_nodes.values():
                raise KeyError(entry)
        return node

    def get_node_with_task(self, task_name: str) -> Task:
        """
        Return the one node that runs the target *task_name*.

        Raises:
            LookupError: No node runs the target, or several nodes do: then an execution record tells the node.
        """
        found = [task for task in self.all_tasks.values() if task.target_name == task_name]
        if len(found) != 1:
            names = ", ".join(repr(task.name) for task in found) or "none"
            raise LookupError(
                f"{counted(len(found), 'node')} of DAG {self.name!r} run the target {task_name!r} ({names}), so the "
                f"target does not identify a node; use the node name, or the execution record."
            )
        return found[0]

    def chain_from(self, node: Node | None) -> Iterator[Node]:
        """Yield *node* and all nodes that follow on the same level."""
        while node is not None:
            yield node
            node = node.next_node

    def all_from(self, node: Node | None) -> Iterator[Node]:
        """Yield *node* and all nodes that follow on the same level, each with all nodes in its scopes."""
        for following in self.chain_from(node):
            yield following
            yield from following.inner_nodes.values()

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield name and node of all nodes of this level and of child DAGs; a node before the nodes in its scopes."""
        # An explicit stack: definitions may nest deeper than the interpreter's recursion limit allows.
        stack: list[Iterator[Node]] = [iter(self.nodes.values())]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            yield node.name, node
            stack.extend(iter(scope.nodes.values()) for scope in reversed(node.scopes))
