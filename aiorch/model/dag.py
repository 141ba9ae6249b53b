"""
The DAG and its nodes: the objects that a definition is built into.

Both are immutable once they are built, and shared by all runs of the definition. The run document of a run holds the
state of each node; `Task.bound_to` gives a view of a task with the state in one run.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from aiorch.errors import counted
from aiorch.model.enums import OnFailure, OnLost, OnNoResult
from aiorch.model.execution_kind import ExecutionKind
from aiorch.model.failure import Failure
from aiorch.model.retry import RetryPolicy
from aiorch.model.run_document import NodeState
from aiorch.model.scopes import ScopeNames, scopes_of
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
    def pending(self, at: Any, entries: Mapping[str, NodeState]) -> int | None: ...
    def enter(self, draft: Any, at: Any) -> None: ...
    def scope_ended(self, draft: Any, at: Any, scope: "DAG", failure: Failure | None) -> None: ...
    def halt(self, draft: Any, at: Any, state: NodeState, committed: NodeState | None) -> None: ...
    def came_to_rest(self, draft: Any, at: Any) -> None: ...
    def caption(self, node: Any) -> tuple[str, str]: ...


class Read(Protocol):
    """A name that an expression reads: see `aiorch.expressions.syntax.Read`."""

    @property
    def root(self) -> str: ...
    @property
    def name(self) -> str | None: ...


class Value(Protocol):
    """A value or a condition of the definition that may hold expressions: see `aiorch.expressions.values.Value`."""

    @property
    def reads(self) -> Sequence[Read]: ...
    @property
    def text(self) -> str: ...
    def evaluate(self, names: Mapping[str, Any]) -> Any: ...


class Catch(NamedTuple):
    """One handler of `catch`: the failures that it covers, and the step or the value that follows."""

    on: tuple[str, ...] = ()
    """Types of failures as in `RetryPolicy.on`; empty: all of them."""

    next: str | None = None
    result: Value | None = None


class Way(NamedTuple):
    """A way from a node of a chain to a node that may follow."""

    next: str
    label: str = ""
    """The condition in words, for drawings; empty for the way that a node goes if nothing else is decided."""

    is_catch: bool = False
    """Whether the way follows a failure."""


class Node:
    """
    A step of a DAG, built.

    Attributes:
        name: Name, unique in the whole definition.

        parent_dag: The `DAG` whose first level holds this node.

        next: Name of the node that follows, `None` at an end of the DAG, and in a graph.

        needs: In a graph, the names of the nodes that must have ended well before this one begins.

        when: The condition under which the node runs; otherwise it is skipped. `None`: always.

        result_value: The result that the node has instead of its own; `None`: its own.

        catch: The handlers of failures, in the order in which they are tried.

        retries: The retry policies, in the order in which they are tried.

        previous_nodes: The nodes of the same DAG that this one may follow.

        following_nodes: The nodes of the same DAG that may follow this one.

        kind: The decisions of this kind of node.

        scopes: The DAGs inside this node.

        scope_names: How the entries in the scopes are named: of scopes that are repeated, each has a number.

        schema_version: The version of run documents that brought this kind of node.

        entry_growth: Bytes that the node's entry gains at most between ``New`` and a terminal status; a result that
            the run produces is not counted.
    """

    kind: Kind
    needs: tuple[str, ...] = ()
    when: Value | None = None
    result_value: Value | None = None
    catch: tuple[Catch, ...] = ()
    retries: tuple[RetryPolicy, ...] = ()
    previous_nodes: tuple["Node", ...] = ()
    following_nodes: tuple["Node", ...] = ()
    scopes: tuple["DAG", ...] = ()
    scope_names: ScopeNames = ScopeNames.PLAIN
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
        """Whether the DAG may end with this node."""
        return not self.following_nodes if self.parent_dag.is_graph else self.next is None

    @property
    def may_end_well(self) -> bool:
        """Whether the DAG may end with this node and without a failure."""
        return self.is_end

    @property
    def ways(self) -> Iterable[Way]:
        """The ways to the nodes that may follow in a chain; several may lead to one node."""
        if self.next is not None:
            yield Way(self.next)
        for handler in self.catch:
            if handler.next is not None:
                yield Way(handler.next, f"on {', '.join(handler.on) or 'any failure'}", is_catch=True)

    @property
    def next_names(self) -> Iterable[str]:
        """Names of the nodes that may follow in a chain; a name may repeat."""
        return (way.next for way in self.ways)

    def values(self) -> Iterator[Value]:
        """Yield the values of the definition that this node evaluates."""
        if self.when is not None:
            yield self.when
        if self.result_value is not None:
            yield self.result_value
        for handler in self.catch:
            if handler.result is not None:
                yield handler.result

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

    @cached_property
    def inner_tasks(self) -> Mapping[str, "Task"]:
        """Those of `inner_nodes` that are tasks, by name."""
        return {name: node for name, node in self.inner_nodes.items() if isinstance(node, Task)}

    @cached_property
    def plain_inner_nodes(self) -> Mapping[str, "Node"]:
        """Those of `inner_nodes` that have an entry in the same scope as each entry of this node."""
        inner = self.inner_nodes
        indexed = [node for node in (self, *inner.values()) if node.scope_names is ScopeNames.INDEX]
        hidden = {name for node in indexed for name in node.inner_nodes}
        return {name: node for name, node in inner.items() if name not in hidden} if hidden else inner

    @property
    def tries_max(self) -> int:
        """The tries of this node that the retry policies allow in all, the first included."""
        return 1 + sum(policy.max_attempts - 1 for policy in self.retries)

    @cached_property
    def has_tries(self) -> bool:
        """Whether the scopes of this node, or of a node inside, may be tried again."""
        return any(node.scope_names is ScopeNames.TRY for node in (self, *self.inner_nodes.values()))

    def around(self) -> Iterator["Node"]:
        """Yield the nodes in whose scopes this node stands, the innermost first."""
        outer = self.parent_dag.parent_node
        while outer is not None:
            yield outer
            outer = outer.parent_dag.parent_node

    def stands_in(self, scopes: Sequence[tuple[str, ScopeNames]]) -> bool:
        """Whether an entry of this node may stand in these repeated scopes, see `aiorch.model.scopes.scopes_of`."""
        left = list(scopes)
        for outer in self.around():
            if left and left[-1] == (outer.name, outer.scope_names):
                left.pop()
            elif outer.scope_names is ScopeNames.INDEX:
                return False
        return not left

    def earlier_nodes(self) -> Iterator["Node"]:
        """Yield all nodes that end before this one can start, nearest first, each with its `plain_inner_nodes`."""
        node: Node | None = self
        while node is not None:
            before = list(node.previous_nodes)
            seen = set(before)
            while before:
                previous = before.pop()
                yield previous
                yield from previous.plain_inner_nodes.values()
                fresh = [each for each in previous.previous_nodes if each not in seen]
                seen.update(fresh)
                before += fresh
            node = node.parent_dag.parent_node

    def later_nodes(self) -> Iterator["Node"]:
        """Yield all nodes that start only after this one has ended, each with all nodes in its scopes."""
        node: Node | None = self
        while node is not None:
            for following in node.parent_dag.after(node):
                yield following
                yield from following.inner_nodes.values()
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

        parameters_value: The parameters with their expressions, `None` where they hold none.

        secrets: Names of the secrets that the parameters read.

        options: The given keys of the step that only steps of this kind of target have.
    """

    target_kind: TargetFacts
    target_type: str
    execution: ExecutionKind
    parameters_value: Value | None = None
    secrets: frozenset[str] = frozenset()
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
        retry: RetryPolicy | Sequence[RetryPolicy] | None = None,
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
        if retry is not None:
            self.retries: tuple[RetryPolicy, ...] = (retry,) if isinstance(retry, RetryPolicy) else tuple(retry)
        self.on_lost = on_lost
        self.options: Mapping[str, Any] = options or _NOTHING
        self.schema_version: int = self.target_kind.schema_version

    def values(self) -> Iterator[Value]:
        """Yield the values of the definition, the parameters among them."""
        yield from super().values()
        if self.parameters_value is not None:
            yield self.parameters_value

    @property
    def retry(self) -> RetryPolicy:
        """The first retry policy; one attempt where there is none."""
        return self.retries[0] if self.retries else _ONE_ATTEMPT

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


class Inputs(Protocol):
    """The declared inputs of a DAG, see `aiorch.definition.inputs.DeclaredInputs`."""

    def complete(self, value: Any) -> dict[str, Any]: ...
    def read(self, texts: Mapping[str, str]) -> dict[str, Any]: ...


class DAG:
    """
    One level of steps, a chain or a graph; the scopes of a node are DAGs again.

    One token walks through a chain, from `start_node` along one of the ways. In a graph, each node begins when the
    nodes that it needs have ended.

    Attributes:
        start_node: Name of the first node, `None` for a graph.

        is_graph: Whether this level is a graph: its nodes name the nodes that they need.

        on_failure: Of a graph: whether a failure stops the nodes beside the failed one.

        parent_node: The node whose scope this is, `None` for the whole definition and for its `final`.

        nodes: Nodes of this level by name; a node comes before the nodes that may follow.

        starts: Nodes of this level that begin at once.

        ends: Nodes of this level with which the level may end; those of a graph in the order of their names.

        joins: Nodes of this level that several nodes precede.

        final: The level that runs once after all other nodes have ended, `None` for none. Only of a whole definition.

        main: Of the `final` of a definition, the whole definition.

        output: The result of a run, `None` for that of the last node. Only of a whole definition.

        language_version: The version of run documents that brought the newest key of the definition.

        name: Name of the definition (``dag`` when the definition has no name).

        definition: The definition in the stored form: plain JSON types only, callables by name.

        definition_id: ``sha256:`` and the hash of the stored definition.

        timeout: Timeout of a run in seconds, `None` for no limit.

        functions: Callables that the definition held as objects, by the name in the stored form.

        source: The definition as the builder got it, a file or a text: it has the places of mistakes. `None` for a
            mapping, and for a definition from the store.

        inputs: The declared inputs, `None` if the definition declares none: then any JSON is an input.

        labels: The labels of every run, by their keys.

        orchestration_status, execution_status: Keep the runs of this DAG and the records of their executions in a
            store. The builder sets both for a `DAGExecutor`; `None` if the builder got no status.
    """

    source: object | None = None
    orchestration_status: object | None = None
    execution_status: object | None = None
    final: "DAG | None" = None
    main: "DAG | None" = None
    output: Value | None = None
    language_version: int = 1
    joins: tuple[Node, ...] = ()

    def __init__(  # noqa: PLR0913
        self,
        start_node: str | None,
        *,
        on_failure: OnFailure = OnFailure.FAIL_FAST,
        parent_node: Node | None = None,
        name: str = "dag",
        definition: bytes = b"",
        definition_id: str = "",
        timeout: float | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        inputs: Inputs | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.start_node = start_node
        self.is_graph: bool = start_node is None
        self.on_failure = on_failure
        self.parent_node = parent_node
        self.nodes: dict[str, Node] = {}
        self.starts: tuple[Node, ...] = ()
        self.ends: tuple[Node, ...] = ()
        self.name = name
        self.definition = definition
        self.definition_id = definition_id
        self.timeout = timeout
        self.functions: Mapping[str, Callable[..., Any]] = functions or _NOTHING
        self.inputs = inputs
        self.labels: Mapping[str, str] = labels or _NOTHING

    def __repr__(self) -> str:
        return f"<DAG {self.name!r} of {counted(len(self.all_nodes), 'node')}>"

    def init(self) -> None:
        """Link each node of this level with the nodes before and after it. Called once, when all nodes are there."""
        following = {name: dict.fromkeys(node.next_names) for name, node in self.nodes.items()}
        previous: dict[str, list[Node]] = {name: [] for name in self.nodes}
        if self.is_graph:
            for name, node in self.nodes.items():
                for needed in node.needs:
                    following[needed][name] = None
        for name, node in self.nodes.items():
            node.following_nodes = tuple([self.nodes[each] for each in following[name]])
            for each in following[name]:
                previous[each].append(node)
        for name, node in self.nodes.items():
            node.previous_nodes = tuple(previous[name])
        ends = [node for node in self.nodes.values() if node.is_end]
        self.ends = tuple(sorted(ends, key=lambda node: node.name) if self.is_graph else ends)
        if self.start_node is None:
            self.starts = tuple([node for node in self.nodes.values() if not node.previous_nodes])
        else:
            self.starts = (self.nodes[self.start_node],)
        self.joins = tuple([node for node in self.nodes.values() if len(node.previous_nodes) > 1])

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Tasks of this level by node name."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, Task)}

    @property
    def root(self) -> "DAG":
        """The whole definition that this level is a part of."""
        level = self
        while level.parent_node is not None:
            level = level.parent_node.parent_dag
        return level if level.main is None else level.main

    @cached_property
    def all_nodes(self) -> dict[str, Node]:
        """Nodes of this level and of all child DAGs, by name; a node comes before the nodes in its scopes."""
        return dict(self.walk())

    @cached_property
    def all_tasks(self) -> dict[str, Task]:
        """Tasks of this level and of all child DAGs, by node name."""
        return {name: node for name, node in self.all_nodes.items() if isinstance(node, Task)}

    @cached_property
    def final_nodes(self) -> frozenset[str]:
        """Names of the nodes of `final` and of its child DAGs."""
        return frozenset(name for name, _ in self.final.walk()) if self.final is not None else frozenset()

    @cached_property
    def catches(self) -> bool:
        """Whether a node with scopes handles failures of the nodes inside, by `catch` or by `retry`."""
        return any(node.catch or node.retries for node in self.nodes_with_scopes)

    @cached_property
    def types_caught(self) -> frozenset[str]:
        """The types of failures that `catch` and `retry` of nodes with scopes name."""
        caught = (each.on for node in self.nodes_with_scopes for each in node.catch)
        retried = (each.on for node in self.nodes_with_scopes for each in node.retries)
        return frozenset(name for on in (*caught, *retried) for name in on)

    @cached_property
    def nodes_read(self) -> frozenset[str]:
        """Names of the nodes whose results an expression of the whole definition reads, with the nodes inside these."""
        values = [value for node in self.all_nodes.values() for value in node.values()]
        values += [self.output] if self.output is not None else []
        read = {each.name for value in values for each in value.reads if each.root == "results"}
        names = {name for name in read if name in self.all_nodes}
        return frozenset(names.union(*(self.all_nodes[name].inner_nodes for name in names)))

    @property
    def end_name(self) -> str:
        """The name that stands for the end of a graph in `Run.joins`; no node has such a name."""
        return f"${self.starts[0].name}"

    @cached_property
    def has_joins(self) -> bool:
        """Whether a node of the whole definition follows several nodes, or a level is a graph."""
        return any(node.parent_dag.is_graph or len(node.previous_nodes) > 1 for node in self.all_nodes.values())

    @cached_property
    def nodes_with_scopes(self) -> tuple[Node, ...]:
        """Nodes of this level and of all child DAGs that have scopes."""
        return tuple(node for node in self.all_nodes.values() if node.scopes)

    @cached_property
    def plain_nodes(self) -> dict[str, Node]:
        """Those of `all_nodes` whose entry has their own name in every run: they stand in no scope with an index."""
        indexed = [node for node in self.nodes_with_scopes if node.scope_names is ScopeNames.INDEX]
        inside = {name for node in indexed for name in node.inner_nodes}
        return {name: node for name, node in self.all_nodes.items() if name not in inside} if inside else self.all_nodes

    @cached_property
    def has_repeated_scopes(self) -> bool:
        """Whether the scopes of any node may be repeated."""
        return any(node.scope_names is not ScopeNames.PLAIN for node in self.nodes_with_scopes)

    @cached_property
    def has_indexed_scopes(self) -> bool:
        """Whether the scopes of any node have an index."""
        return any(node.scope_names is ScopeNames.INDEX for node in self.nodes_with_scopes)

    @cached_property
    def schema_version(self) -> int:
        """The oldest version of run documents that knows the whole definition."""
        return max(self.language_version, *(node.schema_version for node in self.all_nodes.values()))

    def complete_input(self, encoded: bytes) -> bytes:
        """
        Return the input of a run of this DAG, as JSON. Without declared inputs this is *encoded* as it stands.

        Raises:
            InvalidInputError: With every mistake in the input.
        """
        if self.inputs is None:
            return encoded
        return msgspec.json.encode(self.inputs.complete(msgspec.json.decode(encoded)))

    def node_of(self, entry: str) -> Node:
        """
        Return the node to which an entry of a run document belongs: see `aiorch.model.scopes`.

        Raises:
            KeyError: No node of this DAG has such an entry.
        """
        node = self.plain_nodes.get(entry)
        if node is None:
            scopes, name = scopes_of(entry)
            node = self.all_nodes.get(name)
            if node is None or not node.stands_in(scopes):
                raise KeyError(entry)
        return node

    def task_of(self, entry: str) -> Task:
        """Return the task to which an entry of a run document belongs. Raises: KeyError."""
        node = self.all_nodes.get(entry) or self.node_of(entry)
        if not isinstance(node, Task):
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

    def after(self, node: Node) -> Iterator[Node]:
        """Yield the nodes of this level that may follow *node*, directly or later, each once."""
        waiting = list(node.following_nodes)
        seen = set(waiting)
        while waiting:
            following = waiting.pop()
            yield following
            fresh = [each for each in following.following_nodes if each not in seen]
            seen.update(fresh)
            waiting += fresh

    def walk(self) -> Iterator[tuple[str, Node]]:
        """
        Yield name and node of all nodes of this level, of child DAGs and of `final`.

        A node comes before the nodes in its scopes.
        """
        # An explicit stack: definitions may nest deeper than the interpreter's recursion limit allows.
        stack: list[Iterator[Node]] = [iter(self.nodes.values())]
        if self.final is not None:
            stack.insert(0, iter(self.final.nodes.values()))
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            yield node.name, node
            stack.extend(iter(scope.nodes.values()) for scope in reversed(node.scopes))
