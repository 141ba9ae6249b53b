"""
From a DAG definition to a DAG: `DAGBuilder`, and `NodeFactory` for one step.

A definition is read (`definition.source`), converted to plain data (`definition.plain`), checked as a whole
(`definition.check`), and only then built. A DAG holds its stored definition, from which it can be built again with the
same id.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from graphlib import TopologicalSorter
from hashlib import sha256
from typing import Any, cast

import msgspec

from aiorch.definition.check import Check
from aiorch.definition.level import Level, in_order_of_end
from aiorch.definition.models import FINAL_TIMEOUT_S, Definition, FinalLevel
from aiorch.definition.plain import PlainDefinition
from aiorch.definition.source import LoadedDefinition, format_path, load_definition
from aiorch.definition.version import LanguageVersion
from aiorch.errors import DefinitionError, NewerSchemaError
from aiorch.expressions.values import value_of
from aiorch.model.dag import DAG, Inputs, Node
from aiorch.model.enums import OnFailure
from aiorch.model.findings import Finding
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
            key, part = check.newer
            raise NewerSchemaError(
                f"{loaded.source} has {part} at {format_path(key)}, which this aiorch does not know, so the runs of "
                f"this definition were left alone. A newer aiorch stored it: upgrade this process."
            )
        findings = [*loaded.text_findings(), *plain.findings, *check.findings]
        if findings:
            raise loaded.error(findings)
        dag = _build(root, plain, _dag_name(root, loaded.stem), check.language)
        dag.execution_status, dag.orchestration_status = self._execution_status, self._orchestration_status
        if not is_stored and not isinstance(self._definition, Mapping):
            dag.source = self._definition
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
        step.add_rules(node)
        return node


def error_in_steps(dag: DAG, findings: Iterable[tuple[str, Finding]]) -> DefinitionError:
    """
    Return the error for mistakes in the steps of a DAG that was built, with their places in its file.

    Args:
        dag: The DAG. If its file has changed since, or if it has no file, the problems have paths alone.

        findings: Findings, each with the name of a step; their keys are relative to the step.
    """
    loaded = _read_again(dag)
    check = Check(is_stored=True)
    check.definition(PlainDefinition(loaded).data)
    return loaded.error(finding.inside(check.places[name]) for name, finding in findings)


def _read_again(dag: DAG) -> LoadedDefinition:
    source = cast("str | LoadedDefinition | None", dag.source)
    if source is not None:
        with suppress(DefinitionError):
            loaded = source if isinstance(source, LoadedDefinition) else load_definition(source)
            if DAGBuilder(loaded).build_dag().definition_id == dag.definition_id:
                return loaded
    return LoadedDefinition(msgspec.json.decode(dag.definition), source=f"DAG {dag.name!r}")


def _checked(data: Mapping[str, Any], name: str) -> Step:
    loaded = LoadedDefinition(data, source=f"step {name!r}")
    plain = PlainDefinition(loaded)
    check = Check(finding.key for finding in plain.findings)
    step = check.single_step(plain.data)
    if step is None or plain.findings or check.findings:
        raise loaded.error([*plain.findings, *check.findings])
    return step


def _dag_name(root: Level, stem: str | None) -> str:
    assert isinstance(root.model, Definition)
    return root.model.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", stem or "").lstrip(".")[:128] or DEFAULT_NAME


def _build(root: Level, plain: PlainDefinition, name: str, language: LanguageVersion) -> DAG:
    # Sorted keys: the order of keys has no meaning, and the same definition must get the same id. The stored definition
    # includes the name, also if the name came from the file, so that it is complete.
    model = root.model
    assert isinstance(model, Definition)
    versioned = {"schema_version": language.number} if language.number > 1 else {}
    stored = msgspec.json.encode({**plain.data, "name": name, **versioned}, order="sorted")
    dag = DAG(
        model.start,
        on_failure=model.on_failure or OnFailure.FAIL_FAST,
        name=name,
        definition=stored,
        definition_id=f"sha256:{sha256(stored).hexdigest()}",
        timeout=model.timeout,
        functions=plain.functions,
        inputs=None if model.inputs is None else _inputs(name, model.inputs),
        labels=model.labels,
    )
    dag.language_version = language.number
    if "output" in model.model_fields_set:
        dag.output = value_of(model.output, "output")
    waiting = [(dag, root)]
    if root.final is not None:
        assert isinstance(root.final.model, FinalLevel)
        dag.final = _level_dag(root.final, dag)
        dag.final.main, dag.final.timeout = dag, root.final.model.timeout or FINAL_TIMEOUT_S
        waiting.append((dag.final, root.final))
    while waiting:
        waiting += _build_level(*waiting.pop())
    return dag


def _level_dag(level: Level, root: DAG, parent_node: Node | None = None) -> DAG:
    model = level.model
    assert model is not None
    on_failure = model.on_failure or OnFailure.FAIL_FAST
    dag = DAG(model.start, on_failure=on_failure, parent_node=parent_node, name=root.name)
    dag.language_version = root.language_version
    return dag


def _inputs(dag: str, declared: Mapping[str, Any]) -> Inputs:
    from aiorch.definition.inputs import DeclaredInputs  # noqa: PLC0415  most definitions declare none

    return DeclaredInputs(dag, declared)


def _build_level(dag: DAG, level: Level) -> list[tuple[DAG, Level]]:
    """Fill *dag* with the nodes of its level, a node before those that may follow; return the levels inside them."""
    made: dict[str, Node] = {}
    for name, step in level.steps.items():
        assert step is not None
        made[name] = NodeFactory.create_node(step, dag, name=name)
    scopes: list[tuple[DAG, Level]] = []
    for name in _in_order(dag, made):
        node = dag.nodes[name] = made[name]
        inner = [(_level_dag(scope, dag, node), scope) for scope in level.scopes.get(name, ())]
        if inner:
            node.scopes = tuple(child for child, _ in inner)
            scopes += inner
    dag.init()
    return scopes


def _in_order(dag: DAG, nodes: Mapping[str, Node]) -> list[str]:
    """Return the names of the nodes in an order in which a node comes before those that may follow."""
    if dag.start_node is None:
        ordered: list[str] = []
        left = TopologicalSorter({name: node.needs for name, node in nodes.items()})
        left.prepare()
        while left:
            ready = sorted(left.get_ready())
            ordered += ready
            left.done(*ready)
        return ordered
    following = {name: [*reversed([*node.next_names])] for name, node in nodes.items()}
    return in_order_of_end([dag.start_node], following)[::-1]
