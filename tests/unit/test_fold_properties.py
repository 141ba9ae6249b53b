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
    TaskFailed,
    TaskLost,
    TaskRunning,
    TaskStopped,
    TaskSucceeded,
    TaskWaits,
)
from aiorch.definition.build import DAGBuilder
from aiorch.model.dag import DAG, Task
from aiorch.model.enums import NodeTypes
from aiorch.model.failure import Failure
from aiorch.model.run import Run, run_from_document
from aiorch.model.run_document import StartCommand, decode_document
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.nodes.parallel import Parallel
from tests.generate import definitions

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


def begin(dag: DAG) -> Run:
    command = StartCommand(
        schema_version=1,
        run_id="r",
        nonce="n",
        dag=dag.name,
        definition=dag.definition_id,
        input=msgspec.Raw(b"{}"),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return new_run(dag, new_header(command, dag, None))


class World:
    """A run that is driven to its end by folding events in an order drawn from a seed."""

    def __init__(self, dag: DAG, outcomes: dict[str, list[str]], seed: int, *, process: Process = PROCESS) -> None:
        self.dag = dag
        self.run = begin(dag)
        self.outcomes = outcomes
        self.random = random.Random(seed)
        self.process = process
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.pending: list[RunEvent] = [RunStarted()]
        self.old: list[RunEvent] = []
        self.folds = 0

    def step(self, *extra: RunEvent) -> None:
        """Fold a random part of what is pending, with some of what was folded before, in random order."""
        self.now += timedelta(seconds=self.random.choice([0, 1, 40]))
        self.random.shuffle(self.pending)
        take = self.random.randint(1, len(self.pending)) if self.pending else 0
        batch, self.pending = self.pending[:take], self.pending[take:]
        batch += self.random.sample(self.old, min(len(self.old), self.random.randint(0, 3)))
        batch += extra
        self.random.shuffle(batch)
        self.old += batch
        self.fold(batch)

    def fold(self, batch: list[RunEvent]) -> None:
        changes = fold(self.dag, self.run, batch, now=self.now, process=self.process)
        shuffled = self.random.sample(batch, len(batch))
        again = fold(self.dag, self.run, shuffled, now=self.now, process=self.process)
        assert again == changes, "the order of events within a batch decides"
        check_moves(self.run, changes)
        before = dict(self.run.nodes)
        document, encoded = self.run.encode(changes.header, changes.nodes)
        self.run.apply(changes.header, changes.nodes, encoded, changes.pending, len(document))
        check_run(self.dag, self.run)
        repeated = fold(self.dag, self.run, batch, now=self.now, process=self.process)
        assert repeated.is_empty or any(isinstance(event, RetryDue) for event in batch), "folding again changed the run"
        self.folds += 1
        for name in changes.nodes:
            self.owe(name, before[name].attempt)

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
        script = self.outcomes.get(name, [])
        what = script[attempt - 1] if attempt <= len(script) else "success"
        if what == "success":
            return TaskSucceeded(name, attempt, msgspec.Raw(b'"%d"' % attempt))
        if what == "lost":
            return TaskLost(name, attempt, "no answer")
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
                assert self.pending, f"nothing is pending and the run is {self.run.status}"
            self.step()
        return self

    def facts(self) -> dict[str, Any]:
        """The final document without what depends on the time and the order of commits."""
        entries = msgspec.json.decode(self.run.encode(self.run.header, {})[0])
        timed = {"started_at", "ended_at", "updated_at", "created_at", "retry_at", "at"}
        return strip(entries, timed)


def strip(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: strip(each, keys) for key, each in value.items() if key not in keys}
    return [strip(each, keys) for each in value] if isinstance(value, list) else value


def check_moves(run: Run, changes: Changes) -> None:
    """I1: nothing moves backwards, and what is terminal stays."""
    if run.status.is_terminal:
        assert changes.is_empty, "I1: a terminal run changed"
    for name, state in changes.nodes.items():
        old = run.nodes[name]
        assert not old.status.is_terminal, f"I1: {name} left {old.status}"
        assert (old.attempt, RANK[old.status]) <= (state.attempt, RANK[state.status]), f"I1: {name} moved back"


def check_run(dag: DAG, run: Run) -> None:
    """I2 to I4, and that what is derived from the document agrees with a fresh reading of it."""
    live = [name for name in dag.all_tasks if run.nodes[name].is_live]
    if run.status.is_terminal:
        assert not live, f"I2: {live} still live in a {run.status} run"
        assert all(state.status.is_terminal for state in run.nodes.values()), "I2: unfinished nodes in an ended run"
    for name, node in dag.all_nodes.items():
        state = run.nodes[name]
        if isinstance(node, Task) and state.attempt:
            for before in node.previous_nodes:
                assert run.nodes[before.name].status is TaskStatus.COMPLETED, f"I3: {name} before {before.name}"
        if isinstance(node, Parallel):
            ended = [run.nodes[branch.ends[0].name].status for branch in node.branches]
            if state.status is TaskStatus.COMPLETED:
                assert all(status is TaskStatus.COMPLETED for status in ended), f"I4: {name} joined too early"
            if state.status is TaskStatus.RUNNING:
                assert not all(status.is_terminal for status in ended), f"I4: {name} did not join"
    header, entries = decode_document(run.encode(run.header, {})[0], "runs/r.json")
    fresh = run_from_document(dag, header, entries, "runs/r.json")
    assert (fresh.header, fresh.nodes) == (run.header, run.nodes), "the document does not survive a round trip"
    assert (set(fresh.active), fresh.live, fresh.spilled) == (set(run.active), run.live, run.spilled)
    assert fresh.failure_bytes == run.failure_bytes
    running = {name for name, state in run.nodes.items() if state.status is TaskStatus.RUNNING}
    for name in running & fresh.pending.keys():
        assert fresh.pending[name] == run.pending[name], f"I4: open branches of {name} miscounted"


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
    from aiorch.core.begin import kept_by_resume

    dag = DAGBuilder(definition).build_dag()
    outcomes = outcomes_of(dag, data, ["failure"])
    outcomes = {name: ["failure"] * 4 for name in outcomes}
    world = World(dag, outcomes, seed).to_end()
    if world.run.status is RunStatus.COMPLETED:
        return
    kept = kept_by_resume(world.run)
    resumed = World(dag, {}, seed)
    header = msgspec.structs.replace(resumed.run.header, resumed_from="r", nonce="other")
    resumed.run = new_run(dag, header, kept)
    resumed.to_end()
    assert resumed.run.status is RunStatus.COMPLETED
    for name, state in kept.items():
        if state.node_type == NodeTypes.TASK:
            assert resumed.run.nodes[name] == state
