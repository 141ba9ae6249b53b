"""The shape that keeps the fold open: kinds of nodes that these tests bring along, and that no module of ours knows."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aiorch.core.draft import At, Draft
from aiorch.core.fold import fold
from aiorch.core.kind import NodeKind
from aiorch.core.run_events import (
    CancelRequested,
    LaunchOffered,
    ProcessesDied,
    RetryDue,
    RunEvent,
    RunStarted,
    TaskFailed,
    TaskRunning,
    TaskStopped,
    TaskSucceeded,
)
from aiorch.errors import DocumentError
from aiorch.model.dag import DAG, Node
from aiorch.model.failure import Failure
from aiorch.model.place import place_of
from aiorch.model.run import Run, run_from_document
from aiorch.model.run_document import decode_document
from aiorch.model.scopes import ScopeNames
from aiorch.model.status import RunStatus
from tests.definitions import chain, parallel, task
from tests.kinds import Items, Repeating, Rounds, Tries, repeat
from tests.unit.test_fold import HEIR, ME, Scene, dag_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


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
        self.run.apply(changes, encoded, len(document))
        header, entries = decode_document(document, "d")
        fresh = run_from_document(self.dag, header, entries, "d")
        assert (fresh.header, fresh.nodes, fresh.live) == (self.run.header, self.run.nodes, self.run.live)
        assert (set(fresh.active), fresh.failure_bytes) == (set(self.run.active), self.run.failure_bytes)
        assert all(self.run.pending[name] == pending for name, pending in fresh.pending.items())
        assert fresh.encode(header, {})[0] == document
        return self

    @property
    def statuses(self) -> dict[str, str]:
        return {name: str(state.status) for name, state in self.run.nodes.items()}


def polling(level: dict[str, Any] | None = None) -> DAG:
    dag = dag_of(chain(Poll=parallel(level or chain(Check=task(), Note=task())), End=task()))
    return repeat(dag, Poll=Rounds())


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


def nested(names: ScopeNames) -> DAG:
    """``Outer`` around ``Inner`` around ``P`` around ``X`` and ``Y``; the scopes of the first two have these names."""
    inner = chain(P=parallel(chain(X=task(), Y=task())))
    dag = dag_of(chain(Outer=parallel(chain(Inner=parallel(inner))), End=task()))
    dag.all_nodes["Outer"].scope_names = dag.all_nodes["Inner"].scope_names = names
    return dag


@pytest.mark.parametrize(
    ("names", "entry", "around"),
    [
        (ScopeNames.INDEX, "Outer[2].Inner[5].X", ["Outer[2].Inner[5].P", "Outer[2].Inner", "Outer"]),
        (ScopeNames.INDEX, "Outer[0].Inner", ["Outer"]),
        (ScopeNames.TRY, "Outer#2.Inner#3.X", ["Outer#2.Inner#3.P", "Outer#2.Inner", "Outer"]),
        (ScopeNames.TRY, "Outer#2.X", ["Outer#2.P", "Outer#2.Inner", "Outer"]),
        (ScopeNames.TRY, "Inner#10.X", ["Inner#10.P", "Inner", "Outer"]),
        (ScopeNames.TRY, "X", ["P", "Inner", "Outer"]),
        (ScopeNames.PLAIN, "X", ["P", "Inner", "Outer"]),
    ],
)
def test_a_place_knows_its_neighbours_and_the_nodes_around_it(names: ScopeNames, entry: str, around: list[str]) -> None:
    """The name of an entry has the number of each repeated scope; branches and first tries add no number."""
    dag = nested(names)
    place = place_of(dag, entry)
    assert entry == place.scope + place.node.name
    if place.node.name == "X":
        assert place.beside(dag.all_nodes["Y"]) == At(dag.all_nodes["Y"], entry[:-1] + "Y")
    places = [place]
    while (outer := places[-1].around()) is not None:
        places.append(outer)
    assert [at.name for at in places[1:]] == around
    assert all(at == place_of(dag, at.name) for at in places)


@pytest.mark.parametrize(
    ("names", "scopes", "entry"),
    [
        (ScopeNames.INDEX, {"Outer": 2, "Inner": 0}, "Outer[2].Inner[0].P"),
        (ScopeNames.TRY, {"Outer": 2, "Inner": 3}, "Outer#2.Inner#3.P"),
        (ScopeNames.TRY, {"Outer": 2, "Inner": 1}, "Outer#2.P"),
        (ScopeNames.TRY, {"Outer": 1, "Inner": 2}, "Inner#2.P"),
        (ScopeNames.TRY, {"Outer": 1, "Inner": 1}, "P"),
        (ScopeNames.PLAIN, {"Outer": 1, "Inner": 1}, "P"),
    ],
)
def test_a_place_knows_the_places_within(names: ScopeNames, scopes: dict[str, int], entry: str) -> None:
    """The number of a scope joins the name of the entry as the node says, and `node_of` finds the node again."""
    dag = nested(names)
    place = place_of(dag, "Outer")
    for outer, inner in (("Outer", "Inner"), ("Inner", "P")):
        place = place.within(scopes[outer], dag.all_nodes[inner])
    assert place.name == entry
    assert dag.node_of(entry) is dag.all_nodes["P"]


def test_a_dot_in_a_name_does_not_end_the_name() -> None:
    """A repeated node ``B.A`` is not taken for the node ``A`` inside of it, which has scopes as well."""
    dag = dag_of(chain(**{"B.A": parallel(chain(A=parallel(chain(**{"3.X": task()}))))}))
    dag.all_nodes["B.A"].scope_names = dag.all_nodes["A"].scope_names = ScopeNames.TRY
    around = place_of(dag, "B.A#2.3.X").around()
    assert around is not None
    assert around.name == "B.A#2.A"


@pytest.mark.parametrize("name", ["P#2.X", "P[1].X", "P].X"])
def test_brackets_in_names_mean_nothing_where_no_scope_is_repeated(name: str) -> None:
    """Definitions without repeated scopes may have such names, also of earlier versions."""
    dag = dag_of(chain(P=parallel(chain(**{name: task()})), End=task()))
    place = place_of(dag, name)
    assert place.around() == At(dag.nodes["P"], "P")
    assert place.scope == ""


def test_entries_of_first_tries_are_there_from_the_beginning() -> None:
    """A new run has the entries with plain names, and no others: those in scopes with an index come and go."""
    assert list(Scene(nested(ScopeNames.TRY)).run.nodes) == ["Outer", "Inner", "P", "X", "Y", "End"]
    assert list(Scene(nested(ScopeNames.INDEX)).run.nodes) == ["Outer", "End"]


@pytest.mark.parametrize(
    "entry",
    ["Poll[1].End", "End[1].Check", "Poll[x].Check", "Poll[01].Check", "Poll[\u0661].Check", "Poll.Check", "Check", "Z",
     "Poll[1].Z", "Poll#2.Check", "Poll[1].Poll[1].Check"],
)  # fmt: skip
def test_an_entry_that_no_node_of_the_definition_has_is_refused(entry: str) -> None:
    """The name of an entry leads to a node inside of a node whose scopes are repeated, or the document is refused."""
    refuse(polling(), "Poll[1].Check", entry)


@pytest.mark.parametrize(
    "entry", ["Outer#1.X", "Outer#02.X", "Inner#2.Outer#2.X", "Outer#2.End", "Outer[2].X", "P#2.X"]
)
def test_an_entry_of_a_try_that_there_is_not_is_refused(entry: str) -> None:
    """Tries have numbers from 2, in the order of their nodes, and only nodes that say so are tried again."""
    refuse(nested(ScopeNames.TRY), "X", entry)


@pytest.mark.parametrize("entry", ["Outer[2].X", "Inner[2].X"])
def test_an_entry_without_an_index_that_its_node_requires_is_refused(entry: str) -> None:
    """An entry inside of two scopes with an index has both of them in its name."""
    dag = nested(ScopeNames.INDEX)
    assert dag.node_of("Outer[2].Inner[1].X") is dag.all_nodes["X"]
    with pytest.raises(KeyError):
        dag.node_of(entry)


def refuse(dag: DAG, like: str, entry: str) -> None:
    """Expect that a run with one more entry *like* another one is refused."""
    run = Driven(dag).fold(RunStarted())
    document = msgspec.json.decode(run.run.encode(run.run.header, {})[0])
    document[entry] = {**document[like], "node_name": entry}
    header, entries = decode_document(msgspec.json.encode(document), "d")
    with pytest.raises(DocumentError, match="does not have"):
        run_from_document(run.dag, header, entries, "d")


def test_a_parallel_in_a_repeated_scope_joins() -> None:
    """The branches of a `Parallel` are counted in each round anew, in memory as well as from the document."""
    both = chain(Both=parallel(chain("Left"), chain("Right")))
    run = Driven(polling(both)).fold(RunStarted())
    assert run.run.pending == {"Poll[1].Both": 2}
    run.fold(TaskSucceeded("Poll[1].Left", 1))
    assert run.run.pending["Poll[1].Both"] == 1
    run.fold(TaskSucceeded("Poll[1].Right", 1))
    assert run.run.pending == {"Poll[2].Both": 2}
    run.fold(TaskSucceeded("Poll[2].Left", 1), TaskSucceeded("Poll[2].Right", 1))
    assert run.statuses == {"Poll": "Completed", "End": "Starting"}


def beside(kind: Repeating, level: dict[str, Any]) -> DAG:
    """A node with a repeated scope in one branch, a task that may fail in the other."""
    dag = dag_of(chain(Both=parallel(chain(Many=parallel(level)), chain("Bad")), End=task()))
    return repeat(dag, Many=kind)


FAILED = Failure.of("ValueError", "bad")


def test_a_failure_before_a_repeated_scope_skips_the_node_around_it() -> None:
    """A node whose scopes have an index, and that has not begun, has no entries inside that could be halted."""
    dag = repeat(dag_of(chain(A=task(), Many=parallel(chain("In")), End=task())), Many=Rounds())
    run = Driven(dag).fold(RunStarted()).fold(TaskFailed("A", 1, FAILED))
    assert run.statuses == {"A": "Failed", "Many": "Skipped", "End": "Skipped"}
    assert run.run.status is RunStatus.FAILED


def test_a_failure_beside_a_repeated_scope_stops_the_entries_inside() -> None:
    """Every entry in every scope is halted: executions are asked to stop, and the entries that follow are skipped."""
    run = Driven(beside(Items(2), chain("In", "Next"))).fold(RunStarted()).fold(TaskFailed("Bad", 1, FAILED))
    assert run.statuses == {
        "Both": "Failed", "Many": "Cancelled", "Bad": "Failed", "End": "Skipped",
        "Many[0].In": "Starting", "Many[0].Next": "Skipped", "Many[1].In": "Starting", "Many[1].Next": "Skipped",
    }  # fmt: skip
    assert run.run.nodes["Many[1].In"].stop
    assert run.run.status is RunStatus.FAILING
    run.fold(TaskStopped("Many[0].In", 1), TaskStopped("Many[1].In", 1))
    assert run.run.status is RunStatus.FAILED


def test_a_failure_in_the_fold_that_begins_a_repeated_scope_takes_the_executions_back() -> None:
    """No commit holds the executions that the fold began, so the entries inside are skipped."""
    failing = {"start": "No", "steps": {"No": {"type": "Fail", "error": "No"}}}
    dag = repeat(dag_of(chain(Both=parallel(chain(Many=parallel(chain("In"))), failing))), Many=Items(2))
    run = Driven(dag).fold(RunStarted())
    assert run.statuses == {
        "Both": "Failed", "Many": "Skipped", "No": "Failed", "Many[0].In": "Skipped", "Many[1].In": "Skipped",
    }  # fmt: skip
    assert run.run.status is RunStatus.FAILED


def test_a_failure_beside_a_later_try_stops_the_entries_of_that_try() -> None:
    """The entries of the first try stay as they ended."""
    dag = beside(Tries(), chain(P=parallel(chain("In"), chain("Other"))))
    run = Driven(dag).fold(RunStarted())
    run.fold(TaskSucceeded("Other", 1)).fold(TaskFailed("In", 1, FAILED)).fold(TaskFailed("Bad", 1, FAILED))
    assert run.statuses == {
        "Both": "Failed", "Many": "Cancelled", "P": "Failed", "In": "Failed", "Other": "Completed", "Bad": "Failed",
        "End": "Skipped", "Many#2.P": "Cancelled", "Many#2.In": "Starting", "Many#2.Other": "Starting",
    }  # fmt: skip
    assert run.run.nodes["Many#2.In"].stop


def test_a_cancel_stops_the_entries_in_repeated_scopes() -> None:
    """A run that is cancelled halts all of its entries."""
    run = Driven(beside(Items(1), chain("In", "Next"))).fold(RunStarted()).fold(CancelRequested())
    assert run.statuses == {
        "Both": "Cancelled", "Many": "Cancelled", "Bad": "Starting", "End": "Skipped",
        "Many[0].In": "Starting", "Many[0].Next": "Skipped",
    }  # fmt: skip


def test_an_event_for_an_entry_that_there_is_not_asks_for_a_new_copy() -> None:
    """The scope has ended, or began after this copy was read: nothing changes, and the committer reads the run."""
    run = Driven(polling()).fold(RunStarted())
    for event in (TaskSucceeded("Poll[7].Check", 1), LaunchOffered("Poll[7].Check"), RetryDue("Poll[7].Check", 1)):
        changes = fold(run.dag, run.run, [event], now=NOW, process=ME)
        assert changes.is_empty
        assert changes.is_stale


def test_an_event_for_an_entry_that_goes_in_the_same_fold_changes_nothing() -> None:
    """The death of a process ends two items of a fold at once: the second one is not asked about any more."""
    dag = repeat(dag_of(chain(Many=parallel(chain(In=task(on_lost="fail"))))), Many=Rounds(1))
    run = Driven(dag).fold(RunStarted())
    events = [TaskSucceeded("Many[1].In", 1), ProcessesDied(frozenset({ME.id}))]
    changes = fold(dag, run.run, events, now=NOW, process=HEIR)
    assert (changes.gone, changes.is_stale) == (("Many[1].In",), False)
    assert "Many[1].In" not in changes.nodes


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
