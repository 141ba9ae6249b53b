"""The DAG: what a definition becomes when it is built. Immutable, and shared by all runs of that definition."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from aiorch.nodes import Node, Parallel, Task
from aiorch.plurals import counted

_NO_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType({})


class DAG:
    """
    A chain of nodes from `start_node` to the one that is the end; the branches of a `Parallel` are DAGs again.

    Attributes:
        start_node: Name of the first node.

        parent_node: The `Parallel` whose branch this is, `None` for the whole definition.

        nodes: Nodes of this level by name.

        name: Name of the definition (``dag`` when it has none).

        definition: The definition as it is stored: plain JSON types only, callables by name.

        definition_id: ``sha256:`` and the hash of the stored definition.

        timeout: Seconds that a run may take, `None` for no limit.

        functions: Callables that the definition held as objects, by the name that stands for them in it.
    """

    def __init__(  # noqa: PLR0913
        self,
        start_node: str,
        *,
        parent_node: Parallel | None = None,
        name: str = "dag",
        definition: bytes = b"",
        definition_id: str = "",
        timeout: float | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.start_node = start_node
        self.parent_node = parent_node
        self.nodes: dict[str, Node] = {}
        self.name = name
        self.definition = definition
        self.definition_id = definition_id
        self.timeout = timeout
        self.functions: Mapping[str, Callable[..., Any]] = functions or _NO_FUNCTIONS

    def __repr__(self) -> str:
        return f"<DAG {self.name!r} of {counted(len(self.all_nodes), 'node')}>"

    def init(self) -> None:
        """Link the nodes of this level with those before them. Called once, when all nodes are there."""
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
        """Nodes of this level and of all child DAGs, by name; a `Parallel` before what is in it."""
        return dict(self.walk())

    @cached_property
    def all_tasks(self) -> dict[str, Task]:
        """Tasks of this level and of all child DAGs, by node name."""
        return {name: node for name, node in self.all_nodes.items() if isinstance(node, Task)}

    @cached_property
    def end_node(self) -> Node:
        """The node of this level that no other follows."""
        return next(node for node in self.nodes.values() if node.is_end)

    def get_node_with_task(self, task_name: str) -> Task:
        """
        Return the one node that runs the target *task_name*.

        Raises:
            LookupError: No node runs it, or several do: then only an execution's record tells which is meant.
        """
        found = [task for task in self.all_tasks.values() if task.target_name == task_name]
        if len(found) != 1:
            names = ", ".join(repr(task.name) for task in found) or "none"
            raise LookupError(
                f"{counted(len(found), 'node')} of DAG {self.name!r} run the target {task_name!r} ({names}), so the "
                f"name alone does not say which is meant; use the node name, or the execution's record."
            )
        return found[0]

    def chain_from(self, node: Node | None) -> Iterator[Node]:
        """Yield *node* and those that follow it on its level."""
        while node is not None:
            yield node
            node = node.next_node

    def all_from(self, node: Node | None) -> Iterator[Node]:
        """Yield *node*, those that follow it on its level, and everything inside them."""
        for following in self.chain_from(node):
            yield following
            if isinstance(following, Parallel):
                yield from following.all_nodes.values()

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield every node of this level and of all child DAGs with its name; a `Parallel` before what is in it."""
        # An explicit stack: definitions may nest deeper than the interpreter's recursion limit allows.
        stack: list[Iterator[Node]] = [iter(self.nodes.values())]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            yield node.name, node
            if isinstance(node, Parallel):
                stack.extend(iter(branch.nodes.values()) for branch in reversed(node.branches))
