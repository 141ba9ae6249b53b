"""
The nodes of a DAG: `Task` with its three kinds, and `Parallel`.

Nodes are immutable once their DAG is built, and shared by all runs of it. What a node has come to in one run
stands in that run's document; `Task.bound_to` gives a view of a task together with it.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

from aiorch.enums import DataflowTemplateType, NodeTypes, OnFailure, OnLost, OnNoResult, TargetTypes, TaskStatus

if TYPE_CHECKING:
    from aiorch.dag import DAG
    from aiorch.run_state import Run

DEFAULT_TIMEOUT_GEN1_S = 540.0
DEFAULT_TIMEOUT_GEN2_S = 3600.0
TIMEOUT_SLACK_S = 60.0
"""How much longer we wait by default: the platform's own end by timeout shall be what is recorded, not ours."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed attempt is followed by another."""

    max_attempts: int = 1
    """Attempts in all, the first included."""

    initial_delay: float = 1.0
    """Seconds before the second attempt."""

    backoff: float = 2.0
    """Factor from one delay to the next."""

    max_delay: float = 300.0
    """Seconds that no delay exceeds."""

    jitter: float = 0.1
    """Share of a delay, 0 to 1, that is taken off at random (by a hash of the execution: always the same)."""

    on: tuple[str, ...] = ()
    """Failure types to retry, e.g. ``Timeout``, ``ValueError``, ``HTTP 503``, ``503``, ``5xx``; empty: all of them."""

    def covers(self, failure_type: str) -> bool:
        """
        Whether a failure of this type is to be retried at all.

        ``HTTP 503`` is also known as ``503`` and ``5xx``, and ``HTTP 504`` besides as ``Timeout``.
        """
        if not self.on:
            return True
        names = {failure_type}
        if failure_type.startswith("HTTP "):
            status = failure_type.removeprefix("HTTP ")
            names |= {status, f"{status[:1]}xx"}
            if status == "504":
                names.add("Timeout")
        return not names.isdisjoint(self.on)

    def delay_s(self, failures: int, seed: str) -> float:
        """
        Seconds to wait after the *failures*-th failure (from 1).

        Deterministic: the jitter is a hash of *seed*, so that every process computes the same due time.
        """
        # Exponent capped: 2.0 ** 2000 would overflow, and max_delay has long been reached by then.
        delay = min(self.max_delay, self.initial_delay * self.backoff ** min(failures - 1, 64))
        share = int.from_bytes(sha256(seed.encode()).digest()[:4]) / 2**32
        return delay * (1 - self.jitter * share)


_ONE_ATTEMPT = RetryPolicy()
_NOTHING: Mapping[str, Any] = MappingProxyType({})
"""Shared by all nodes that have none: a DAG may have ten thousand of them."""


class Launcher(Protocol):
    """What the executor hands to `Node.execute`, bound to one run."""

    def launch(self, task: "Task") -> None:
        """Launch *task* if the committed run owes a launch of it to this process and none is in flight."""
        ...


class Node:
    """
    A step of a DAG, built.

    Attributes:
        name: Unique over the whole definition.

        parent_dag: The `DAG` that this node is on the first level of.

        next: Name of the node that follows, `None` at the end of a DAG.

        previous_nodes: The nodes whose `next` is this one (at most one today).
    """

    node_type: NodeTypes
    previous_nodes: tuple["Node", ...] = ()

    def __init__(self, name: str, parent_dag: "DAG", *, next: str | None = None, comment: str = "") -> None:  # noqa: A002
        self.name = name
        self.parent_dag = parent_dag
        self.next = next
        self.comment = comment

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def is_end(self) -> bool:
        """No node follows within this node's DAG."""
        return self.next is None

    @property
    def next_node(self) -> "Node | None":
        """The node that follows, `None` at the end of a DAG."""
        return None if self.next is None else self.parent_dag.nodes[self.next]

    def execute(self, launcher: Launcher) -> None:
        """Do what the commit that began this node owes. Called by the executor only, and only after that commit."""
        raise NotImplementedError

    def earlier_nodes(self) -> Iterator["Node"]:
        """All nodes that have ended before this one can start, nearest first; those inside a `Parallel` included."""
        node: Node | None = self
        while node is not None:
            before = list(node.previous_nodes)
            while before:
                previous = before.pop()
                yield previous
                if isinstance(previous, Parallel):
                    yield from previous.all_nodes.values()
                before.extend(previous.previous_nodes)
            node = node.parent_dag.parent_node

    def later_nodes(self) -> Iterator["Node"]:
        """All nodes that start only after this one has ended; those inside a `Parallel` included."""
        node: Node | None = self
        while node is not None:
            yield from node.parent_dag.all_from(node.next_node)
            node = node.parent_dag.parent_node


class Task(Node):
    """A node that launches something."""

    node_type = NodeTypes.TASK
    target_type: TargetTypes
    _run: "Run | None" = None

    def __init__(  # noqa: PLR0913  one argument per key of a step
        self,
        name: str,
        parent_dag: "DAG",
        *,
        target_name: str,
        next: str | None = None,  # noqa: A002
        parameters: Mapping[str, Any] | None = None,
        function: str | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        on_lost: OnLost = OnLost.RETRY,
        comment: str = "",
    ) -> None:
        super().__init__(name, parent_dag, next=next, comment=comment)
        self.target_name = target_name
        self.parameters: Mapping[str, Any] = parameters or _NOTHING
        self.function = function
        self.timeout = timeout
        self.retry = retry or _ONE_ATTEMPT
        self.on_lost = on_lost

    @property
    def timeout_s(self) -> float | None:
        """Seconds that one attempt may take, `None` for no limit."""
        return self.timeout

    @cached_property
    def on_no_result(self) -> OnNoResult:
        """What becomes of a success without its result. Only calls know that: see `CloudFunction`."""
        return OnNoResult.ACCEPT

    @cached_property
    def encoded_parameters(self) -> bytes:
        """`parameters` as JSON."""
        return msgspec.json.encode(dict(self.parameters))

    def bound_to(self, run: "Run") -> Self:
        """Return a view of this task in *run*: the same task with a `status`."""
        view = copy.copy(self)
        view._run = run  # noqa: SLF001  our own class
        return view

    @property
    def status(self) -> TaskStatus:
        """Status in the run that this view is bound to; ``New`` on a task that is bound to none."""
        return TaskStatus.NEW if self._run is None else self._run.nodes[self.name].status

    def execute(self, launcher: Launcher) -> None:
        """Launch this task."""
        launcher.launch(self)


class Function(Task):
    """A Python callable, run in the engine's own process. `function` is its name, ``module:callable``."""

    target_type = TargetTypes.FUNCTION


class CloudFunction(Task):
    """An HTTP call of a Cloud Function of either generation, or of any URL."""

    target_type = TargetTypes.CLOUD_FUNCTION

    def __init__(  # noqa: PLR0913  one argument per key of a step
        self,
        name: str,
        parent_dag: "DAG",
        *,
        project_id: str | None = None,
        region: str | None = None,
        url: str | None = None,
        on_no_result: OnNoResult | None = None,
        **task: Any,
    ) -> None:
        super().__init__(name, parent_dag, **task)
        self.project_id = project_id
        self.region = region
        self.url = url
        self._on_no_result = on_no_result

    @cached_property
    def on_no_result(self) -> OnNoResult:
        """What becomes of a success without its result; by default that depends on what a second call may do."""
        if self._on_no_result is not None:
            return self._on_no_result
        if self.on_lost is OnLost.FAIL:
            return OnNoResult.FAIL
        is_read = any(
            isinstance(node, Task) and (node.function is not None or node.target_type is TargetTypes.FUNCTION)
            for node in self.later_nodes()
        )
        return OnNoResult.CALL_AGAIN if is_read else OnNoResult.ACCEPT

    @property
    def timeout_s(self) -> float:
        """
        Seconds that one attempt may take: the platform's own limit when the step sets none.

        Source: GCP documentation, "Configure function timeout": 540 s (gen1), 3,600 s (gen2, HTTP). Which generation
        a function is cannot be told from its name, so the longer one stands, and a minute more.
        """
        return self.timeout if self.timeout is not None else DEFAULT_TIMEOUT_GEN2_S + TIMEOUT_SLACK_S


class DataflowJob(Task):
    """A Dataflow job from a Classic or Flex template."""

    target_type = TargetTypes.DATAFLOW

    def __init__(  # noqa: PLR0913
        self,
        name: str,
        parent_dag: "DAG",
        *,
        project_id: str | None = None,
        region: str | None = None,
        container_gcs_path: str | None = None,
        template_path: str | None = None,
        environment: Mapping[str, Any] | None = None,
        **task: Any,
    ) -> None:
        super().__init__(name, parent_dag, **task)
        self.project_id = project_id
        self.region = region
        self.container_gcs_path = container_gcs_path
        self.template_path = template_path
        self.environment: Mapping[str, Any] = environment or _NOTHING

    @property
    def template_type(self) -> DataflowTemplateType:
        """Flex when the step names a container spec, Classic when it names a template."""
        return DataflowTemplateType.FLEX if self.container_gcs_path else DataflowTemplateType.CLASSIC


class Parallel(Node):
    """Branches that run at the same time, each a `DAG` of its own, joined once when all have ended."""

    node_type = NodeTypes.PARALLEL

    def __init__(
        self,
        name: str,
        parent_dag: "DAG",
        *,
        next: str | None = None,  # noqa: A002
        on_failure: OnFailure = OnFailure.FAIL_FAST,
        comment: str = "",
    ) -> None:
        super().__init__(name, parent_dag, next=next, comment=comment)
        self.on_failure = on_failure
        self.branches: tuple[DAG, ...] = ()

    def execute(self, launcher: Launcher) -> None:
        """Start the start node of every branch at once."""
        for branch in self.branches:
            branch.nodes[branch.start_node].execute(launcher)

    @cached_property
    def all_nodes(self) -> dict[str, Node]:
        """Every node of every branch, nested ones included, by name."""
        return {name: node for branch in self.branches for name, node in branch.walk()}
