"""The shape that keeps the fold open: kinds of nodes that these tests bring along, and that no module of ours knows."""

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace

from aiorch.core.draft import At, Draft
from aiorch.core.fold import fold
from aiorch.core.kind import NodeKind
from aiorch.core.run_events import RunEvent, RunStarted, TaskFailed, TaskRunning, TaskSucceeded
from aiorch.errors import DocumentError
from aiorch.model.dag import DAG, Node
from aiorch.model.failure import Failure
from aiorch.model.run import Run, run_from_document
from aiorch.model.run_document import decode_document
from aiorch.model.status import RunStatus
from tests.definitions import chain, parallel, task
from tests.unit.test_fold import ME, Scene, dag_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 2


class Rounds(NodeKind[Node]):
    """Its one scope is repeated, and the entries of a round go when the round has ended."""

    name = "Rounds"

    def enter(self, draft: Draft, at: At[Node]) -> None:
        draft.running(at)
        self._begin(draft, at, 1)

    def _begin(self, draft: Draft, at: At[Node], number: int) -> None:
        scope = at.node.scopes[0]
        for node in scope.nodes.values():
            name = f"{at.name}[{number}].{node.name}"
            draft.set(name, replace(node.kind.blank(node), node_name=name))
        draft.enter(draft.at(f"{at.name}[{number}].{scope.start_node}"))

    def scope_ended(self, draft: Draft, at: At[Node], scope: DAG, failure: Failure | None) -> None:
        if failure is not None:
            draft.fail(at, failure)
            return
        inside = [name for name in (*draft.base.nodes, *draft.nodes) if name.startswith(f"{at.name}[")]
        number = int(inside[0].removeprefix(f"{at.name}[").partition("]")[0])
        for name in dict.fromkeys(inside):
            draft.drop(name)
        if number < ROUNDS:
            self._begin(draft, at, number + 1)
        else:
            draft.complete(at)


class Copy(NodeKind[Node]):
    """Completes with the result of ``A``."""

    name = "Copy"
    has_result = True

    def enter(self, draft: Draft, at: At[Node]) -> None:
        draft.complete(at, draft.result("A"))


class Driven:
    """A run that is written and read again after every fold."""

    def __init__(self, dag: DAG) -> None:
        self.dag = dag
        self.run: Run = Scene(dag).run

    def fold(self, *events: RunEvent) -> "Driven":
        changes = fold(self.dag, self.run, events, now=NOW, process=ME)
        document, encoded = self.run.encode(changes.header, changes.nodes, changes.gone)
        self.run.apply(changes.header, changes.nodes, encoded, changes.pending, len(document), changes.gone)
        header, entries = decode_document(document, "d")
        fresh = run_from_document(self.dag, header, entries, "d")
        assert (fresh.header, fresh.nodes, fresh.live) == (self.run.header, self.run.nodes, self.run.live)
        assert (set(fresh.active), fresh.failure_bytes) == (set(self.run.active), self.run.failure_bytes)
        assert fresh.encode(header, {})[0] == document
        return self

    @property
    def statuses(self) -> dict[str, str]:
        return {name: str(state.status) for name, state in self.run.nodes.items()}


def polling() -> DAG:
    dag = dag_of(chain(Poll=parallel(chain(Check=task(), Note=task())), End=task()))
    dag.nodes["Poll"].kind, dag.nodes["Poll"].repeats = Rounds(), True
    return dag


def copying() -> DAG:
    dag = dag_of(chain(A=task(), C=task(), End=task()))
    dag.nodes["C"].kind = Copy()
    return dag


def test_entries_of_a_repeated_scope_come_and_go() -> None:
    """Each round has entries and executions of its own, and leaves none of them behind."""
    run = Driven(polling())
    assert run.statuses == {"Poll": "New", "End": "New"}
    run.fold(RunStarted())
    assert run.statuses == {
        "Poll": "Running", "End": "New", "Poll[1].Check": "Starting", "Poll[1].Note": "New",
    }  # fmt: skip
    first = run.run.nodes["Poll[1].Check"].execution_id
    run.fold(TaskSucceeded("Poll[1].Check", 1)).fold(TaskSucceeded("Poll[1].Note", 1))
    assert run.statuses == {
        "Poll": "Running", "End": "New", "Poll[2].Check": "Starting", "Poll[2].Note": "New",
    }  # fmt: skip
    assert run.run.nodes["Poll[2].Check"].execution_id != first
    run.fold(TaskSucceeded("Poll[2].Check", 1)).fold(TaskSucceeded("Poll[2].Note", 1))
    assert run.statuses == {"Poll": "Completed", "End": "Starting"}


def test_a_failure_in_a_repeated_scope_ends_the_node_around_it() -> None:
    """The rest of the round is skipped, the node fails with the failure of the round, and the run with that."""
    run = Driven(polling()).fold(RunStarted()).fold(TaskFailed("Poll[1].Check", 1, Failure.of("ValueError", "bad")))
    assert run.statuses == {
        "Poll": "Failed", "End": "Skipped", "Poll[1].Check": "Failed", "Poll[1].Note": "Skipped",
    }  # fmt: skip
    assert run.run.status is RunStatus.FAILED
    assert run.run.header.error is not None
    assert run.run.header.error.message == "node 'Poll' failed: bad"


def test_a_place_knows_its_neighbours_and_the_node_around_it() -> None:
    """Names of entries keep the scopes that they stand in: repeated ones by number, branches not at all."""
    inner = chain(P=parallel(chain(X=task(), Y=task())))
    dag = dag_of(chain(Outer=parallel(chain(Inner=parallel(inner)))))
    nodes = dag.all_nodes
    nodes["Outer"].repeats = nodes["Inner"].repeats = True
    place = At(nodes["X"], "Outer[2].Inner[5].X")
    assert dag.node_of(place.name) is nodes["X"]
    assert place.beside(nodes["Y"]) == At(nodes["Y"], "Outer[2].Inner[5].Y")
    around = [place]
    while (outer := around[-1].around()) is not None:
        around.append(outer)
    assert [at.name for at in around[1:]] == ["Outer[2].Inner[5].P", "Outer[2].Inner", "Outer"]


@pytest.mark.parametrize("entry", ["Poll[1].End", "End[1].Check", "Poll[x].Check", "Poll.Check", "Z", "Poll[1].Z"])
def test_an_entry_that_no_node_of_the_definition_has_is_refused(entry: str) -> None:
    """The name of an entry leads to a node inside of a node whose scopes are repeated, or the document is refused."""
    run = Driven(polling()).fold(RunStarted())
    document = msgspec.json.decode(run.run.encode(run.run.header, {})[0])
    document[entry] = {**document["Poll[1].Check"], "node_name": entry}
    header, entries = decode_document(msgspec.json.encode(document), "d")
    with pytest.raises(DocumentError, match="does not have"):
        run_from_document(run.dag, header, entries, "d")


def test_an_event_for_which_a_kind_has_no_handler_changes_nothing() -> None:
    """A node that waits for its scopes has no use for the events of executions."""
    run = Driven(polling()).fold(RunStarted())
    assert fold(run.dag, run.run, [TaskRunning("Poll", 1)], now=NOW, process=ME).is_empty


def test_a_decision_says_which_results_it_needs() -> None:
    """A result that stands in a record is asked for by entry and execution; nothing is decided until it is given."""
    dag = copying()
    run = Driven(dag).fold(RunStarted()).run
    execution_id = run.nodes["A"].execution_id
    events = [TaskSucceeded("A", 1, result_in="execution")]
    changes = fold(dag, run, events, now=NOW, process=ME)
    assert changes.needs == {"A": execution_id}
    assert changes.is_empty
    assert not changes.nodes
    given = {"A": msgspec.Raw(b'"large"')}
    changes = fold(dag, run, events, now=NOW, process=ME, results=given)
    assert not changes.needs
    assert bytes(changes.nodes["C"].result) == b'"large"'
    assert str(changes.nodes["End"].status) == "Starting"


def test_a_small_result_is_at_hand() -> None:
    """A result that stands in the document needs no reading."""
    dag = copying()
    run = Driven(dag).fold(RunStarted()).fold(TaskSucceeded("A", 1, msgspec.Raw(b"7"))).run
    assert bytes(run.nodes["C"].result) == b"7"


def test_a_halted_parallel_that_began_with_decided_nodes_is_cancelled() -> None:
    """The fold that enters all branches may complete a node of one before another fails: both keep their statuses."""
    inner = {"start": "In", "steps": {"In": parallel(chain(Value={"type": "Pass"}, Never=task()))}}
    failing = {"start": "No", "steps": {"No": {"type": "Fail", "error": "No"}}}
    run = Driven(dag_of(chain(P=parallel(inner, failing), End=task()))).fold(RunStarted())
    assert run.statuses == {
        "P": "Failed", "End": "Skipped", "In": "Cancelled", "Value": "Completed", "Never": "Skipped", "No": "Failed",
    }  # fmt: skip
    assert run.run.status is RunStatus.FAILED
