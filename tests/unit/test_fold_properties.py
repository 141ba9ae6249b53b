"""Properties of the fold over random DAGs, random outcomes and random orders of events."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorch.core.begin import new_header, new_run
from aiorch.core.draft import Changes, Process
from aiorch.core.fold import fold
from aiorch.core.owed import Obligation, obligation
from aiorch.core.run_events import (
    CancelRequested,
    ProcessesDied,
    RetryDue,
    RunEvent,
    RunStarted,
    RunTimeoutDue,
    TaskFailed,
    TaskLost,
    TaskRunning,
    TaskStopped,
    TaskSucceeded,
    TaskWaits,
    TimerDue,
)
from aiorch.definition.build import DAGBuilder
from aiorch.model.dag import DAG, Node, Task
from aiorch.model.enums import NodeTypes
from aiorch.model.failure import Failure
from aiorch.model.place import At, place_of
from aiorch.model.run import Run, run_from_document
from aiorch.model.run_document import IN_RECORD, NodeState, StartCommand, decode_document
from aiorch.model.status import RunStatus, TaskStatus
from tests.generate import definitions, worded_definitions

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PROCESS = Process("p1", lambda _: True)
RANK = {
    TaskStatus.NEW: 0,
    TaskStatus.STARTING: 1,
    TaskStatus.RUNNING: 2,
    TaskStatus.RETRYING: 3,
    TaskStatus.COMPLETED: 4,
    TaskStatus.FAILED: 4,
    TaskStatus.CANCELLED: 4,
    TaskStatus.SKIPPED: 4,
}
slow_is_fine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def begin(dag: DAG, input: Any = None) -> Run:
    command = StartCommand(
        schema_version=1,
        run_id="r",
        nonce="n",
        dag=dag.name,
        definition=dag.definition_id,
        input=msgspec.Raw(msgspec.json.encode(input or {})),
        created_at=BEGIN,
    )
    timeout_at = BEGIN + timedelta(seconds=dag.timeout) if dag.timeout else None
    return new_run(dag, new_header(command, dag, timeout_at))


class World:
    """
    A run that is driven to its end by folding events in an order drawn from a seed.

    Large results are outside the document: a fold that needs one asks, and is folded again with the result.
    """

    def __init__(
        self,
        dag: DAG,
        outcomes: dict[str, list[str]],
        seed: int,
        *,
        process: Process = PROCESS,
        input: Any = None,
    ) -> None:
        self.dag = dag
        self.run = begin(dag, input)
        self.outcomes = outcomes
        self.random = random.Random(seed)
        self.process = process
        self.now = BEGIN
        self.pending: list[RunEvent] = [RunStarted(), RunStarted()]
        self.old: list[RunEvent] = []
        self.outside: dict[str, msgspec.Raw] = {}
        self.folds = 0

    def step(self, *extra: RunEvent) -> None:
        """Fold a random part of what is pending, with some of what was folded before, in random order."""
        self.now += timedelta(seconds=self.random.choice([0, 1, 40]))
        self.random.shuffle(self.pending)
        take = self.random.randint(1, len(self.pending)) if self.pending else 0
        batch, self.pending = self.pending[:take], self.pending[take:]
        batch += self.random.sample(self.old, min(len(self.old), self.random.randint(0, 3)))
        batch += self.random.sample(self.timers(), min(len(self.run.due), self.random.randint(0, 2)))
        batch += extra
        self.random.shuffle(batch)
        self.old += batch
        self.fold(batch)

    def timers(self) -> list[RunEvent]:
        """Return the timers of all entries, due or not."""
        return [TimerDue(name) for name in self.run.due]

    def decide(self, run: Run, batch: list[RunEvent], *, is_all_loaded: bool = False) -> Changes:
        """Fold, with all results that are asked for, or with all results from the beginning."""
        places = {name: state.result_place for name, state in run.nodes.items() if state.result_in is not None}
        loaded = {name: self.outside[place] for name, place in places.items()} if is_all_loaded else {}
        while True:
            changes = fold(self.dag, run, batch, now=self.now, process=self.process, results=loaded)
            if not changes.needs:
                return changes
            assert not changes.needs.keys() & loaded.keys(), "a fold asks for results that it has"
            loaded |= {name: self.outside[place] for name, place in changes.needs.items()}

    def fold(self, batch: list[RunEvent]) -> None:
        changes = self.decide(self.run, batch)
        shuffled = self.random.sample(batch, len(batch))
        again = self.decide(self.run, shuffled, is_all_loaded=True)
        assert again == changes, "the order of events within a batch decides, or the results that were loaded"
        check_moves(self.run, changes)
        before = dict(self.run.nodes)
        document, encoded = self.run.encode(changes.header, changes.nodes, changes.gone)
        for name, value in changes.values.items():
            known = self.outside.setdefault(name, msgspec.Raw(value))
            assert bytes(known) == value, "two values of one name"
        self.run.apply(changes, encoded, len(document))
        fresh = check_run(self.dag, self.run)
        for run in (self.run, fresh):
            repeated = self.decide(run, batch)
            assert repeated.is_empty or any(isinstance(event, RetryDue) for event in batch), "folding again changed it"
        self.run = self.random.choice([self.run, fresh])
        self.folds += 1
        for name in changes.nodes:
            self.owe(name, before[name].attempt if name in before else 0)

    def owe(self, name: str, attempt_before: int) -> None:
        state = self.run.nodes[name]
        match obligation(state, self.process.id):
            case Obligation.LAUNCH if state.attempt > attempt_before:
                self.pending.append(self.outcome(name, state.attempt))
                if self.random.random() < 0.3:
                    self.pending.append(TaskRunning(name, state.attempt))
                if self.random.random() < 0.3:
                    self.pending.append(TaskWaits(name, state.attempt, "no connection", state.launches))
            case Obligation.STOP:
                self.pending.append(TaskStopped(name, state.attempt))
            case Obligation.RETRY:
                self.pending.append(RetryDue(name, state.attempt))

    def outcome(self, name: str, attempt: int) -> RunEvent:
        script = self.outcomes.get(self.dag.node_of(name).name, [])
        what = script[attempt - 1] if attempt <= len(script) else "success"
        if what == "success":
            return TaskSucceeded(name, attempt, msgspec.Raw(b'"%d"' % attempt))
        if what == "lost":
            return TaskLost(name, attempt, "no answer")
        if what == "large":
            self.outside[self.run.nodes[name].execution_id or ""] = msgspec.Raw(
                b'{"attempt":%d,"x":"%01200d"}' % (attempt, 0)
            )
            return TaskSucceeded(name, attempt, result_in=IN_RECORD)
        if what == "mapping":
            return TaskSucceeded(name, attempt, msgspec.Raw(b'{"attempt":%d}' % attempt))
        return TaskFailed(name, attempt, Failure.of("ValueError", "scripted"))

    def to_end(self) -> "World":
        while not self.run.status.is_terminal:
            assert self.folds < 20_000, "the run does not end"
            if not self.pending:
                self.now += timedelta(hours=1)
                self.pending += [
                    RetryDue(name, state.attempt)
                    for name in self.run.active
                    if (state := self.run.nodes[name]).status is TaskStatus.RETRYING
                ]
                self.pending += self.timers()
                assert self.pending, f"nothing is pending and the run is {self.run.status}"
            self.step()
        return self

    def facts(self) -> dict[str, Any]:
        """The final document without what depends on the time and the order of commits."""
        entries = msgspec.json.decode(self.run.encode(self.run.header, {})[0])
        timed = {"started_at", "ended_at", "updated_at", "created_at", "retry_at", "at", "begun_at"}
        return strip(entries, timed)


def strip(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: strip(each, keys) for key, each in value.items() if key not in keys}
    return [strip(each, keys) for each in value] if isinstance(value, list) else value


def check_moves(run: Run, changes: Changes) -> None:
    """I1: nothing moves backwards, and what is terminal stays."""
    if run.status.is_terminal:
        assert changes.is_empty, "I1: a terminal run changed"
    assert not changes.gone, "I1: an entry was removed"
    for name, state in changes.nodes.items():
        old = run.nodes.get(name)
        if old is not None:
            assert not old.status.is_terminal, f"I1: {name} left {old.status}"
            assert (old.attempt, RANK[old.status]) <= (state.attempt, RANK[state.status]), f"I1: {name} moved back"
    if run.header.final is not None:
        final = changes.header.final
        assert final is not None, "I6: `finally` is forgotten"
        assert final.begun_at == run.header.final.begun_at, "I6: `finally` began twice"


def check_run(dag: DAG, run: Run) -> Run:
    """I2 to I4 and I6, and that what is derived from the document agrees with a fresh reading of it, the result."""
    live = [name for name, state in run.nodes.items() if state.is_live]
    if run.status.is_terminal:
        assert not live, f"I2: {live} still live in a {run.status} run"
        assert all(state.status.is_terminal for state in run.nodes.values()), "I2: unfinished nodes in an ended run"
    for name, state in run.nodes.items():
        at = place_of(dag, name)
        if state.attempt and isinstance(at.node, Task):
            check_before(run, at)
        if at.node.scopes:
            check_scopes(run, at, state)
        if state.status is TaskStatus.COMPLETED and at.node.node_type == "Choice":
            taken = [each for each in at.node.following_nodes if at.entry_of(each) in run.nodes]
            assert state.went_to in {each.name for each in taken}, f"I3: {name} went to {state.went_to}"
    if run.header.final is not None:
        main = [name for name in run.nodes if dag.node_of(name).name not in dag.final_nodes]
        have_ended = all(run.nodes[name].status.is_terminal for name in main)
        never_begins = all(run.nodes[name].status is TaskStatus.SKIPPED for name in dag.final_nodes)
        assert have_ended or never_begins, "I6: `finally` began before the others ended"
    header, entries = decode_document(run.encode(run.header, {})[0], "runs/r.json")
    fresh = run_from_document(dag, header, entries, "runs/r.json")
    assert (fresh.header, fresh.nodes) == (run.header, run.nodes), "the document does not survive a round trip"
    assert (set(fresh.active), fresh.live, fresh.spilled) == (set(run.active), run.live, run.spilled)
    assert (fresh.failure_bytes, fresh.due) == (run.failure_bytes, run.due)
    running = {name for name, state in run.nodes.items() if state.status is TaskStatus.RUNNING}
    for name in running & fresh.pending.keys():
        assert fresh.pending[name] == run.pending[name], f"I4: open scopes of {name} miscounted"
    for name, left in fresh.joins.items():
        assert not goes_on(dag, run, name) or run.joins[name] == left, f"I3: the ways to {name} miscounted"
    return fresh


def goes_on(dag: DAG, run: Run, join: str) -> bool:
    """Whether the level goes on in which several nodes precede an entry, or the end: else the count has no meaning."""
    place: At[Node] | None = place_of(dag, join.replace("$", ""))
    assert place is not None
    is_final = place.node.name in dag.final_nodes
    level = [run.nodes[place.entry_of(node)] for node in place.node.parent_dag.nodes.values()]
    if any(state.status is TaskStatus.FAILED and not state.caught for state in level):
        return False
    is_open = any(not state.status.is_terminal for state in level)
    while (place := place.around()) is not None:
        state = run.nodes[place.name]
        is_open = is_open and state.status is TaskStatus.RUNNING and not state.stop
    final = run.header.final
    final_goes_on = final is not None and final.ended_at is None
    return is_open and (final_goes_on if is_final else run.status is RunStatus.RUNNING)


def ended_well(state: NodeState) -> bool:
    return state.status is TaskStatus.COMPLETED or state.skipped == "when" or state.caught


def check_before(run: Run, at: At[Any]) -> None:
    """I3: a way leads to a node that has begun, and to all nodes around it, none of which has ended well already."""
    place: At[Node] | None = at
    while place is not None:
        node = place.node
        before = [(each, run.nodes[place.entry_of(each)]) for each in node.previous_nodes]
        if node.parent_dag.is_graph:
            missing = [each.name for each, state in before if not ended_well(state)]
            assert not missing, f"I3: {place.name} before {missing}"
        elif before:
            ways = [
                each.name for each, state in before if ended_well(state) and (state.went_to or each.next) == node.name
            ]
            assert len(ways) == 1, f"I3: {len(ways)} ways lead to {place.name}"
        place = place.around()
        if place is not None:
            assert run.nodes[place.name].status is not TaskStatus.NEW, f"I3: {at.name} before {place.name} around it"


def check_scopes(run: Run, at: At[Any], state: NodeState) -> None:
    """I4: a node with scopes is completed exactly when all scopes have ended well."""
    inside = [
        [run.nodes[at.within(state.attempt, node).name] for node in scope.nodes.values()] for scope in at.node.scopes
    ]
    live = [each for scope in inside for each in scope if each.is_live]
    if state.caught or state.status is TaskStatus.RETRYING:
        assert not live, f"I4: {at.name} goes on, and entries inside are live"
    if state.status is TaskStatus.COMPLETED:
        failed = [each for scope in inside for each in scope if each.status is TaskStatus.FAILED and not each.caught]
        assert not failed, f"I4: {at.name} is completed around failures"
        assert all(each.status.is_terminal for scope in inside for each in scope), f"I4: {at.name} joined too early"
    if state.status is TaskStatus.RUNNING and not state.stop:
        assert not all(each.status.is_terminal for scope in inside for each in scope), f"I4: {at.name} did not join"
    if state.stop:
        assert state.status is TaskStatus.RUNNING, f"I4: {at.name} is {state.status} and waits for stops"


def outcomes_of(dag: DAG, data: st.DataObject, kinds: list[str]) -> dict[str, list[str]]:
    names = list(dag.all_tasks)
    if not names:
        return {}
    chosen = data.draw(st.lists(st.sampled_from(names), max_size=8, unique=True))
    return {name: data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)) for name in chosen}


@slow_is_fine
@given(definitions(on_failure="wait"), st.data(), st.integers(0, 2**32))
def test_any_order_ends_in_the_same_document(definition: dict[str, Any], data: st.DataObject, seed: int) -> None:
    """However events are duplicated, reordered and batched, a run in which no branch is given up ends the same."""
    dag = DAGBuilder(definition).build_dag()
    outcomes = outcomes_of(dag, data, ["success", "failure", "lost"])
    first = World(dag, outcomes, seed).to_end()
    second = World(dag, outcomes, seed + 1).to_end()
    assert first.facts() == second.facts()


@slow_is_fine
@given(definitions(), st.data(), st.integers(0, 2**32))
def test_every_run_ends(definition: dict[str, Any], data: st.DataObject, seed: int) -> None:
    """With both failure policies, failures, losses and retries, every run ends, and the invariants hold on the way."""
    dag = DAGBuilder(definition).build_dag()
    outcomes = outcomes_of(dag, data, ["success", "failure", "failure", "lost"])
    world = World(dag, outcomes, seed).to_end()
    failed = any(state.status is TaskStatus.FAILED for state in world.run.nodes.values())
    assert world.run.status is (RunStatus.FAILED if failed else RunStatus.COMPLETED)


def at_any_moment(definition: dict[str, Any], data: st.DataObject, seed: int) -> World:
    """Return a run that may have got anywhere."""
    dag = DAGBuilder(definition).build_dag()
    world = World(dag, outcomes_of(dag, data, ["success", "failure"]), seed)
    for _ in range(data.draw(st.integers(0, 12))):
        if not world.run.status.is_terminal:
            world.step()
    return world


@slow_is_fine
@given(definitions(nodes_max=60), st.data(), st.integers(0, 2**32))
def test_a_cancel_at_any_moment_ends_the_run(definition: dict[str, Any], data: st.DataObject, seed: int) -> None:
    """A cancel at a random moment ends the run, and nothing is launched whose intent was not committed before."""
    world = at_any_moment(definition, data, seed)
    attempts = {name: state.attempt for name, state in world.run.nodes.items()}
    was_running = world.run.status is RunStatus.RUNNING
    world.step(CancelRequested())
    if was_running:
        assert world.run.status in (
            RunStatus.CANCELLING,
            RunStatus.CANCELLED,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.FAILING,
        )
    world.to_end()
    if world.run.status is RunStatus.CANCELLED:
        assert {name: state.attempt for name, state in world.run.nodes.items()} == attempts


@slow_is_fine
@given(definitions(nodes_max=60), st.data(), st.integers(0, 2**32))
def test_a_takeover_at_any_moment_ends_the_run(definition: dict[str, Any], data: st.DataObject, seed: int) -> None:
    """A process that dies at a random moment is replaced by another, which brings the run to its end."""
    world = at_any_moment(definition, data, seed)
    heir = Process("p2", lambda _: True)
    launched = [event for event in world.pending if isinstance(event, (TaskSucceeded, TaskFailed, TaskRunning))]
    world.process, world.pending = heir, [event for event in launched if world.random.random() < 0.5]
    if not world.run.status.is_terminal:
        world.fold([RunStarted(), ProcessesDied(frozenset({"p1"}))])
        for name in world.run.active:
            state = world.run.nodes[name]
            if state.by == "p2" and state.status is TaskStatus.STARTING:
                world.pending.append(world.outcome(name, state.attempt))
            elif state.by == "p1":
                raise AssertionError(f"{name} was left to the dead")
    world.to_end()


@slow_is_fine
@given(definitions(nodes_max=60), st.data(), st.integers(0, 2**32))
def test_a_resumed_run_keeps_what_was_completed(definition: dict[str, Any], data: st.DataObject, seed: int) -> None:
    """A resumed run takes over every completed result, launches only the rest, and completes."""
    from aiorch.core.resume import kept_by_resume

    dag = DAGBuilder(definition).build_dag()
    outcomes = outcomes_of(dag, data, ["failure"])
    outcomes = {name: ["failure"] * 4 for name in outcomes}
    world = World(dag, outcomes, seed).to_end()
    if world.run.status is RunStatus.COMPLETED:
        return
    kept = kept_by_resume(dag, world.run)
    resumed = World(dag, {}, seed)
    header = msgspec.structs.replace(resumed.run.header, resumed_from="r", nonce="other")
    resumed.run = new_run(dag, header, kept)
    resumed.to_end()
    assert resumed.run.status is RunStatus.COMPLETED
    for name, state in kept.items():
        if state.node_type == NodeTypes.TASK:
            assert resumed.run.nodes[name] == state


# -- the whole language ------------------------------------------------------------------------------------------

OUTCOMES = ["success", "mapping", "mapping", "large", "failure", "lost"]


def worded(
    definition: dict[str, Any], input: Any, data: st.DataObject, seed: int, *, kind: type[World] = World
) -> World:
    """Return a run, not begun, of a definition that uses the whole language."""
    dag = DAGBuilder(definition).build_dag()
    outcomes = {name: data.draw(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4)) for name in dag.all_tasks}
    return kind(dag, outcomes, seed, input=input)


@slow_is_fine
@given(worded_definitions(), st.data(), st.integers(0, 2**32))
def test_every_run_of_the_whole_language_ends(
    worded_definition: tuple[dict[str, Any], Any], data: st.DataObject, seed: int
) -> None:
    """Choices, conditions, waits, handlers, graphs, tries and `finally`: the invariants hold, and every run ends."""
    world = worded(*worded_definition, data, seed).to_end()
    final = world.run.header.final
    assert (final is not None) is (world.dag.final is not None)
    if final is not None:
        assert final.ended_at is not None


@slow_is_fine
@given(worded_definitions(), st.data(), st.integers(0, 2**32), st.booleans())
def test_a_cancel_at_any_moment_ends_a_run_of_the_whole_language(
    worded_definition: tuple[dict[str, Any], Any],
    data: st.DataObject,
    seed: int,
    force: bool,  # noqa: FBT001  drawn
) -> None:
    """No main step begins after a cancel; a forced one stops `finally`, too."""
    world = worded(*worded_definition, data, seed)
    for _ in range(data.draw(st.integers(0, 12))):
        if not world.run.status.is_terminal:
            world.step()
    before = {name: state.attempt for name, state in world.run.nodes.items()}
    was_open = not world.run.status.is_terminal
    world.fold([CancelRequested(force=force)])
    world.to_end()
    final_nodes = world.dag.final_nodes
    launched = {
        name
        for name, state in world.run.nodes.items()
        if state.target_type is not None
        and state.attempt > before.get(name, 0)
        and (force or world.dag.node_of(name).name not in final_nodes)
    }
    if was_open:
        assert not launched
    if was_open and force:
        assert world.run.status in (RunStatus.CANCELLED, RunStatus.FAILED)


@slow_is_fine
@given(worded_definitions(), st.data(), st.integers(0, 2**32))
def test_timeouts_at_any_moment_end_a_run_of_the_whole_language(
    worded_definition: tuple[dict[str, Any], Any], data: st.DataObject, seed: int
) -> None:
    """The timeout of a run, and that of `finally`, end what goes on."""
    definition, given_input = worded_definition
    world = worded({**definition, "timeout": 30}, given_input, data, seed)
    while not world.run.status.is_terminal:
        assert world.folds < 2000, "the run does not end"
        if not world.pending:
            world.now += timedelta(hours=1)
            world.pending += world.timers()
        world.step(RunTimeoutDue())


class Reread(World):
    """A run in memory. Every fold is decided a second time, by the run as read from its document."""

    def fold(self, batch: list[RunEvent]) -> None:
        run, fresh = self.run, check_run(self.dag, self.run)
        in_memory, read = self.decide(run, batch), self.decide(fresh, batch)
        for part in ("header", "nodes", "gone", "values", "is_stale"):
            assert getattr(in_memory, part) == getattr(read, part), f"the document decides differently: {part}"
        super().fold(batch)
        self.run = run


@slow_is_fine
@given(worded_definitions(), st.data(), st.integers(0, 2**32))
def test_a_run_in_memory_decides_as_its_document_does(
    worded_definition: tuple[dict[str, Any], Any], data: st.DataObject, seed: int
) -> None:
    """Counts kept along the way and counts made from the document lead to the same decisions, up to the end."""
    world = worded(*worded_definition, data, seed, kind=Reread)
    for _ in range(data.draw(st.integers(0, 12))):
        if not world.run.status.is_terminal:
            world.step()
    end = data.draw(st.sampled_from(["none", "cancel", "force", "takeover"]))
    if end in ("cancel", "force"):
        world.fold([CancelRequested(force=end == "force")])
    if end == "takeover":
        world.process = Process("p2", lambda _: True)
        world.fold([ProcessesDied(frozenset({"p1"}))])
        world.pending += [
            TaskStopped(name, state.attempt) if state.stop else world.outcome(name, state.attempt)
            for name in world.run.active
            if (state := world.run.nodes[name]).is_live
        ]
    world.to_end()
