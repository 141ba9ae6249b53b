"""
Resume: the entries that a run takes over from an earlier run.

Pure, and decided from the start command, the definitions and the run that has ended, all of which never change: every
process that begins the resumed run comes to the same entries.
"""

from collections.abc import Callable, Mapping
from functools import partial

from msgspec.structs import replace

from aiorch.errors import RunStateError, StepNotResumableError
from aiorch.model.dag import DAG, Node
from aiorch.model.findings import Hints
from aiorch.model.place import At, places_inside
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState
from aiorch.model.scopes import ScopeNames, first_try
from aiorch.model.status import RunStatus, TaskStatus


def kept_by_resume(dag: DAG, run: Run, from_step: str | None = None) -> Mapping[str, NodeState]:
    """
    Return the entries that a resumed run takes over, by the names that they have there.

    These are the entries on the road that the run took: of nodes that ended well, each with all entries inside. Of a
    node that is tried again these are the entries of the last try, under the names of the first. A resumed run begins
    `finally` anew.

    Args:
        dag: The DAG of the run.

        run: The run to resume.

        from_step: Name of the step that runs anew together with all steps that may follow, `None` for none.

    Raises:
        RunStateError: The run is open; or it has completed, and no step is named.

        StepNotResumableError: No resumed run can begin with this step.
    """
    _refuse_status(run, from_step)
    around: set[Node] = set()
    anew: set[Node] = set()
    if from_step is not None:
        step = _step_to_begin_with(dag, run, from_step)
        around.update(step.around())
        anew.update((step, *step.later_nodes()))
    kept: dict[str, NodeState] = {}
    levels: list[tuple[DAG, Callable[[Node], At[Node]]]] = [(dag, lambda node: At(node, node.name))]
    while levels:
        level, place_of = levels.pop()
        for node in level.nodes.values():
            at = place_of(node)
            state = run.nodes.get(at.name)
            if state is None or node in anew:
                continue
            if state.ended_well and node not in around:
                for place in (at, *places_inside(at, run.nodes)):
                    name = _kept_name(place)
                    kept[name] = _kept_state(name, place.node, run.nodes[place.name])
            elif node.scope_names is not ScopeNames.INDEX:  # each of those scopes runs anew as a whole
                levels += [(scope, partial(at.within, state.attempt)) for scope in node.scopes]
    return kept


def _refuse_status(run: Run, from_step: str | None) -> None:
    """Raise a RunStateError unless the status of a run lets it be resumed."""
    if run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        return
    if run.status is RunStatus.COMPLETED and from_step is not None:
        return
    move = "Wait for its end, or cancel it."
    if run.status is RunStatus.COMPLETED:
        move = "Start the DAG under a new run id, or name the step to run anew (`--from STEP`)."
    raise RunStateError(
        f"run {run.header.run_id!r} is {run.status}, and only a Failed or Cancelled run can be resumed, or from a "
        f"given step a Completed one; nothing was started. {move}"
    )


def _step_to_begin_with(dag: DAG, run: Run, name: str) -> Node:
    """Return the node with which a resumed run begins anew. Raises: StepNotResumableError."""
    node = dag.all_nodes.get(name)
    reached = [each for each in dag.all_nodes if _why_not_from(dag, run, dag.all_nodes[each]) is None]
    if node is None:
        meant = Hints().closest(name, dag.all_nodes)
        reason = f"the DAG has no step {name!r}" + (f" (did you mean {meant!r}?)" if meant else "")
    elif (why_not := _why_not_from(dag, run, node)) is not None:
        reason = f"step {name!r} {why_not}"
    else:
        return node
    raise StepNotResumableError(run.header.run_id, name, reason, reached)


def _why_not_from(dag: DAG, run: Run, node: Node) -> str | None:
    """Return the reason why no resumed run begins with a node, `None` if one may."""
    if node.name in dag.final_nodes:
        return "is part of `finally`, which each run runs as a whole"
    outer = next((each for each in node.around() if each.scope_names is not ScopeNames.PLAIN), None)
    if outer is not None:
        return f"is inside of {outer.name!r}, which repeats its steps as a whole"
    state = run.nodes[node.name]
    if state.status is TaskStatus.NEW or (state.status is TaskStatus.SKIPPED and state.skipped is None):
        return "was not reached: the run ended before it, or went a different way"
    return None


def _kept_name(at: At[Node]) -> str:
    return at.name if at.name == at.node.name else first_try(at.name)


def _kept_state(name: str, node: Node, state: NodeState) -> NodeState:
    """Return an entry as the first try of all nodes around it, and of the node, would have left it."""
    if node.scope_names is ScopeNames.TRY and state.attempt > 1:
        state = replace(state, attempt=1)
    return state if name == state.node_name else replace(state, node_name=name)
