"""
From a DAG definition to a DAG: `DAGBuilder`, and `NodeFactory` for one step.

A definition is read (`definition.source`), converted to plain data (`definition.plain`), checked as a whole
(`definition.check`), and only then built. A DAG holds its stored definition, from which it can be built again with the
same id.
"""

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

import msgspec

from aiorch.definition.check import Check, Level
from aiorch.definition.models import Definition
from aiorch.definition.plain import PlainDefinition
from aiorch.definition.source import LoadedDefinition, format_path, load_definition
from aiorch.errors import NewerSchemaError
from aiorch.model.dag import DAG, Node
from aiorch.nodes import KINDS
from aiorch.steps import Step

DEFAULT_NAME = "dag"


class DAGBuilder:
    """
    Builds the DAG of one definition.

    Args:
        definition: A mapping (which may hold callables as objects), the path of a JSON or YAML file, or the result of
            `parse_definition`.

        source: Name of the definition in messages; by default the name of its file.

        execution_status, orchestration_status: The `ExecutionStatus` and `OrchestrationStatus` that a `DAGExecutor` of
            this DAG works with.
    """

    def __init__(
        self,
        definition: Mapping[str, Any] | str | os.PathLike[str] | LoadedDefinition,
        *,
        source: str | None = None,
        execution_status: object | None = None,
        orchestration_status: object | None = None,
    ) -> None:
        self._definition = definition
        self._source = source
        self._execution_status = execution_status
        self._orchestration_status = orchestration_status

    def build_dag(self) -> DAG:
        """
        Validate the definition and build its DAG.

        Raises:
            DefinitionError: With all problems, each with its path and its position in the text.
        """
        return self._build(is_stored=False)

    def build_stored_dag(self) -> DAG:
        """
        Build the DAG of a definition that a process has checked and stored, perhaps one with more packages.

        A task of a kind of target that is not installed here becomes an `aiorch.targets.unknown.UnknownTask`.

        Raises:
            NewerSchemaError: It has a step of a type that this version does not know.

            DefinitionError: As of `build_dag`.
        """
        return self._build(is_stored=True)

    def _build(self, *, is_stored: bool) -> DAG:
        loaded = self._definition
        if not isinstance(loaded, LoadedDefinition):
            loaded = load_definition(loaded)
        if self._source is not None:
            loaded.source = self._source
        plain = PlainDefinition(loaded)
        check = Check((finding.key for finding in plain.findings), is_stored=is_stored)
        root = check.definition(plain.data)
        if is_stored and check.newer is not None:
            key, kind = check.newer
            raise NewerSchemaError(
                f"{loaded.source} has a step of type {kind!r} at {format_path(key)}, and this aiorch has no such "
                f"type, so the runs of this definition were left alone. A newer aiorch stored it: upgrade this process."
            )
        findings = [*loaded.text_findings(), *plain.findings, *check.findings]
        if findings:
            raise loaded.error(findings)
        dag = _build(root, plain, _dag_name(root, loaded.stem))
        dag.execution_status, dag.orchestration_status = self._execution_status, self._orchestration_status
        return dag


class NodeFactory:
    """Creates nodes from steps."""

    @staticmethod
    def create_node(step: Step | Mapping[str, Any], parent_dag: DAG, *, name: str) -> Node:
        """
        Return the node for *step*, by its `type` and `target_type`.

        Args:
            step: A step of a definition, as a mapping or validated already.

            parent_dag: The DAG whose first level will hold the node. It is not changed.

            name: Name of the node.

        Returns:
            The node. A `Parallel` has no branches yet: they are DAGs, and building them takes more than one step.

        Raises:
            DefinitionError: *step* is not valid.
        """
        if not isinstance(step, Step):
            step = _checked(step, name)
        node = step.make_node(name, parent_dag)
        node.kind = KINDS[cast("Any", step).type]
        return node


def _checked(data: Mapping[str, Any], name: str) -> Step:
    loaded = LoadedDefinition(data, source=f"step {name!r}")
    plain = PlainDefinition(loaded)
    check = Check(finding.key for finding in plain.findings)
    _, step = check.step((), plain.data)
    if step is None or plain.findings or check.findings:
        raise loaded.error([*plain.findings, *check.findings])
    return step


def _dag_name(root: Level, stem: str | None) -> str:
    assert isinstance(root.model, Definition)
    return root.model.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", stem or "").lstrip(".")[:128] or DEFAULT_NAME


def _build(root: Level, plain: PlainDefinition, name: str) -> DAG:
    # Sorted keys: the order of keys has no meaning, and the same definition must get the same id. The stored definition
    # includes the name, also if the name came from the file, so that it is complete.
    stored = msgspec.json.encode({**plain.data, "name": name}, order="sorted")
    assert isinstance(root.model, Definition)
    dag = DAG(
        root.model.start,
        name=name,
        definition=stored,
        definition_id=f"sha256:{sha256(stored).hexdigest()}",
        timeout=root.model.timeout,
        functions=plain.functions,
    )
    waiting = [(dag, root)]
    while waiting:
        waiting += _build_level(*waiting.pop())
    return dag


def _build_level(dag: DAG, level: Level) -> list[tuple[DAG, Level]]:
    """Fill *dag* with the nodes of its level, in the order in which they run; return the levels inside these nodes."""
    scopes: list[tuple[DAG, Level]] = []
    name: str | None = dag.start_node
    while name is not None:
        step = level.steps[name]
        assert step is not None
        node = dag.nodes[name] = NodeFactory.create_node(step, dag, name=name)
        inner = [(DAG(scope.start, parent_node=node, name=dag.name), scope) for scope in level.scopes.get(name, ())]
        if inner:
            node.scopes = tuple(child for child, _ in inner)
            scopes += inner
        name = node.next
    dag.init()
    return scopes
