"""The fold, case by case: every event at every status of a task, takeovers, joins, retries, ends of runs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations
from typing import Any

import msgspec
import pytest

from aiorch.core.attempts import LAUNCHES_MAX, LOST_ATTEMPTS_MAX
from aiorch.core.begin import new_header, new_run
from aiorch.core.draft import Changes, Process
from aiorch.core.fold import FoldError, fold
from aiorch.core.owed import Obligation, obligation
from aiorch.core.resume import kept_by_resume
from aiorch.core.run_events import (
    CancelRequested,
    LaunchOffered,
    ProcessesDied,
    RetryDue,
    RunEvent,
    RunStarted,
    RunTimeoutDue,
    TaskFailed,
    TaskInterrupted,
    TaskLost,
    TaskRunning,
    TaskStopped,
    TaskSucceeded,
    TaskWaits,
)
from aiorch.definition.build import DAGBuilder
from aiorch.errors import DocumentError, NewerSchemaError, RunStateError, RunTooLargeError
from aiorch.model.dag import DAG
from aiorch.model.enums import TargetTypes
from aiorch.model.failure import Failure
from aiorch.model.run import Run, execution_key, run_from_document
from aiorch.model.run_document import NodeState, StartCommand, decode_document
from aiorch.model.status import RunStatus, TaskStatus
from tests.definitions import chain, parallel, task
from tests.unit.test_fold_properties import check_moves, check_run

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT_S = 1000
ME, HEIR, CLIENT = Process("me", lambda _: True), Process("heir", lambda _: True), Process("client", lambda _: False)
AWAITING = Process("heir", lambda _: True, awaits_events=True)
BAD = Failure.of("ValueError", "no luck")


class Scene:
    """A run, changed by one fold after the other."""

    def __init__(self, dag: DAG, run: Run | None = None, *, nonce: str = "n") -> None:
        self.dag = dag
        self.now = BEGIN
        self.changes: Changes
        self.run = run or new_run(dag, self.header(nonce))

    def header(self, nonce: str = "n", **keys: Any) -> Any:
        command = StartCommand(
            schema_version=1,
            run_id="r",
            nonce=nonce,
            dag=self.dag.name,
            definition=self.dag.definition_id,
            input=msgspec.Raw(b"{}"),
            created_at=BEGIN,
            **keys,
        )
        timeout_at = BEGIN + timedelta(seconds=self.dag.timeout) if self.dag.timeout else None
        return new_header(command, self.dag, timeout_at)

    def fold(self, *events: RunEvent, by: Process = ME, after_s: float = 0) -> "Scene":
        """Fold *events* in one commit, with every invariant checked on the way; again, they must change nothing."""
        self.now += timedelta(seconds=after_s)
        self.changes = changes = fold(self.dag, self.run, events, now=self.now, process=by)
        check_moves(self.run, changes)
        document, encoded = self.run.encode(changes.header, changes.nodes)
        self.run.apply(changes, encoded, len(document))
        check_run(self.dag, self.run)
        assert fold(self.dag, self.run, events, now=self.now, process=by).is_empty
        return self

    def __getitem__(self, name: str) -> NodeState:
        return self.run.nodes[name]

    @property
    def statuses(self) -> dict[str, str]:
        return {name: str(state.status) for name, state in self.run.nodes.items()}


def dag_of(definition: dict[str, Any], **keys: Any) -> DAG:
    return DAGBuilder({"name": "d", **definition, **keys}).build_dag()


def run_of(document: bytes, dag: DAG) -> Run:
    header, entries = decode_document(document, "runs/r.json")
    return run_from_document(dag, header, entries, "runs/r.json")


# -- every event at every status --------------------------------------------------------------------------------

RETRIED = {"retry": {"max_attempts": 3, "initial_delay": 10, "jitter": 0}}


def at_second_attempt(*more: tuple[Sequence[RunEvent], float]) -> Scene:
    """A of the chain A, B in its second attempt, with *more* folded after that."""
    scene = Scene(dag_of(chain(A=task(**RETRIED), B=task()), timeout=TIMEOUT_S))
    scene.fold(RunStarted()).fold(TaskFailed("A", 1, BAD)).fold(RetryDue("A", 1), after_s=10)
    for events, after_s in more:
        scene.fold(*events, after_s=after_s)
    return scene


def started_by_a_client() -> Scene:
    return Scene(dag_of(chain(A=task(**RETRIED), B=task()), timeout=TIMEOUT_S)).fold(RunStarted(), by=CLIENT)


RUNNING, CANCEL = ([TaskRunning("A", 2)], 0.0), ([CancelRequested()], 0.0)
STATUSES = {
    "ready": started_by_a_client,
    "Starting": at_second_attempt,
    "Starting, to stop": lambda: at_second_attempt(CANCEL),
    "Running": lambda: at_second_attempt(RUNNING),
    "Running, to stop": lambda: at_second_attempt(RUNNING, CANCEL),
    "Retrying": lambda: at_second_attempt(([TaskFailed("A", 2, BAD)], 0)),
    "Retrying, due": lambda: at_second_attempt(([TaskFailed("A", 2, BAD)], 0), ([], 20)),
    "Completed": lambda: at_second_attempt(([TaskSucceeded("A", 2)], 0)),
    "Failed": lambda: at_second_attempt(CANCEL, ([TaskFailed("A", 2, BAD)], 0)),
    "Cancelled": lambda: at_second_attempt(CANCEL, ([TaskStopped("A", 2)], 0)),
    "Skipped": lambda: started_by_a_client().fold(CancelRequested()),
}
EVENTS: dict[str, Any] = {
    "RunStarted": lambda attempt: RunStarted(),
    "TaskRunning": lambda attempt: TaskRunning("A", attempt),
    "TaskRunning as job": lambda attempt: TaskRunning("A", attempt, "job"),
    "TaskSucceeded": lambda attempt: TaskSucceeded("A", attempt, msgspec.Raw(b"7")),
    "TaskFailed": lambda attempt: TaskFailed("A", attempt, BAD),
    "TaskStopped": lambda attempt: TaskStopped("A", attempt),
    "CancelRequested": lambda attempt: CancelRequested(),
    "TaskLost": lambda attempt: TaskLost("A", attempt, "no answer"),
    "TaskInterrupted": lambda attempt: TaskInterrupted("A", attempt),
    "owner died": lambda attempt: ProcessesDied(frozenset({"me", "x"})),
    "stranger died": lambda attempt: ProcessesDied(frozenset({"x"})),
    "LaunchOffered": lambda attempt: LaunchOffered("A"),
    "RetryDue": lambda attempt: RetryDue("A", attempt),
    "RunTimeoutDue": lambda attempt: RunTimeoutDue(),
}
# What becomes of A, as "status attempt"; what is not here changes nothing, of A or anything else.
TABLE = {
    "ready": {"CancelRequested": "Skipped 0", "LaunchOffered": "Starting 1", "RunTimeoutDue": "Skipped 0"},
    "Starting": {
        "TaskRunning": "Running 2",
        "TaskRunning as job": "Running 2 job",
        "TaskSucceeded": "Completed 2",
        "TaskFailed": "Retrying 2",
        "CancelRequested": "Starting 2 stop",
        "TaskLost": "Starting 3",
        "TaskInterrupted": "Retrying 2",
        "owner died": "Starting 2 again",
        "RunTimeoutDue": "Starting 2 stop",
    },
    "Starting, to stop": {
        "TaskRunning": "Running 2 stop",
        "TaskRunning as job": "Running 2 job stop",
        "TaskSucceeded": "Completed 2",
        "TaskFailed": "Failed 2",
        "TaskStopped": "Cancelled 2",
        "TaskLost": "Cancelled 2",
        "TaskInterrupted": "Cancelled 2",
        "owner died": "Cancelled 2",
    },
    "Running": {
        "TaskRunning as job": "Running 2 job",
        "TaskSucceeded": "Completed 2",
        "TaskFailed": "Retrying 2",
        "CancelRequested": "Running 2 stop",
        "TaskLost": "Starting 3",
        "TaskInterrupted": "Retrying 2",
        "owner died": "Starting 3",
        "RunTimeoutDue": "Running 2 stop",
    },
    "Running, to stop": {
        "TaskRunning as job": "Running 2 job stop",
        "TaskSucceeded": "Completed 2",
        "TaskFailed": "Failed 2",
        "TaskStopped": "Cancelled 2",
        "TaskLost": "Cancelled 2",
        "TaskInterrupted": "Cancelled 2",
        "owner died": "Cancelled 2",
    },
    "Retrying": {
        "TaskSucceeded": "Completed 2",
        "CancelRequested": "Cancelled 2",
        "owner died": "Retrying 2",
        "RunTimeoutDue": "Cancelled 2",
    },
    "Retrying, due": {
        "TaskSucceeded": "Completed 2",
        "CancelRequested": "Cancelled 2",
        "owner died": "Retrying 2",
        "RetryDue": "Starting 3",
        "RunTimeoutDue": "Cancelled 2",
    },
    # What follows these is about the task after it.
    "Completed": {"CancelRequested": "Completed 2", "owner died": "Completed 2", "RunTimeoutDue": "Completed 2"},
    "Failed": {},
    "Cancelled": {},
    "Skipped": {},
}
OF_AN_ATTEMPT = [
    "TaskRunning",
    "TaskRunning as job",
    "TaskSucceeded",
    "TaskFailed",
    "TaskStopped",
    "TaskLost",
    "TaskInterrupted",
    "RetryDue",
]


def described(state: NodeState) -> str:
    words = [str(state.status), str(state.attempt), state.job_id or "", "stop" if state.stop else ""]
    return " ".join([*filter(None, words), *(["again"] if state.launches > 1 else [])])


def after_timeout(scene: Scene, event: str) -> float:
    return TIMEOUT_S if event == "RunTimeoutDue" and not scene.run.status.is_terminal else 0


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("status", STATUSES)
def test_every_event_at_every_status(status: str, event: str) -> None:
    """The whole table: what each event makes of a task in each status, and that all else changes nothing at all."""
    scene = STATUSES[status]()
    expected = TABLE[status].get(event)
    # Only its owner says that a task is running, lost, or given up.
    by = ME if event.startswith("TaskRunning") or event in ("TaskInterrupted", "TaskLost") else HEIR
    scene.fold(EVENTS[event](max(1, scene["A"].attempt)), by=by, after_s=after_timeout(scene, event))
    if expected is None:
        assert scene.changes.is_empty, f"changed {set(scene.changes.nodes)}"
        assert not scene.changes.nodes
    else:
        assert described(scene["A"]) == expected
        assert not scene.changes.is_empty
        assert not scene.changes.is_stale


@pytest.mark.parametrize("event", OF_AN_ATTEMPT)
@pytest.mark.parametrize("status", STATUSES)
def test_an_event_of_an_earlier_attempt_changes_nothing(status: str, event: str) -> None:
    """Whatever is said of an attempt that was given up comes too late."""
    scene = STATUSES[status]()
    scene.fold(EVENTS[event](scene["A"].attempt - 1), by=HEIR)
    assert scene.changes.is_empty
    assert not scene.changes.is_stale


@pytest.mark.parametrize("event", OF_AN_ATTEMPT)
@pytest.mark.parametrize("status", STATUSES)
def test_an_event_of_a_later_attempt_says_that_the_copy_is_old(status: str, event: str) -> None:
    """An attempt that the copy does not know was committed by somebody else: read again, decide nothing."""
    scene = STATUSES[status]()
    scene.fold(EVENTS[event](scene["A"].attempt + 1), by=HEIR)
    assert scene.changes.is_empty
    assert scene.changes.is_stale


@pytest.mark.parametrize("event", OF_AN_ATTEMPT)
def test_an_event_of_attempt_0_changes_nothing(event: str) -> None:
    """No execution has attempt 0, so nothing that claims to be of it ends a task that has not begun, or a Parallel."""
    scene = Scene(dag_of(chain(A=parallel(chain(X=task())), B=task()))).fold(RunStarted(), by=CLIENT)
    for name in ("A", "X", "B"):
        scene.fold(msgspec.structs.replace(EVENTS[event](0), node=name))
        assert scene.changes.is_empty


def test_an_event_that_cannot_be_folded_is_named() -> None:
    """A fold that raises says which event it was, so that the others can go on without it."""
    scene = at_second_attempt()
    good, bad = TaskSucceeded("A", 2), TaskSucceeded("nobody", 1)
    for events in permutations([good, bad, TaskRunning("A", 2)]):
        with pytest.raises(FoldError, match="TaskSucceeded of node 'nobody'") as raised:
            fold(scene.dag, scene.run, events, now=scene.now, process=ME)
        assert raised.value.event is bad
        assert isinstance(raised.value.__cause__, KeyError)
    assert scene["A"].status is TaskStatus.STARTING


def test_outcomes_come_before_commands_and_timers() -> None:
    """In one batch a success is not cancelled, lost, timed out or taken over, whatever came first."""
    everything = [
        RunTimeoutDue(),
        ProcessesDied(frozenset({"me"})),
        TaskLost("A", 2, "no answer"),
        CancelRequested(),
        TaskFailed("A", 2, BAD),
        TaskSucceeded("A", 2),
    ]
    scene = at_second_attempt().fold(*everything, by=HEIR, after_s=TIMEOUT_S)
    assert scene["A"].status is TaskStatus.COMPLETED
    assert scene.statuses["B"] == "Skipped", "what the success began in this very fold has never been"
    assert scene.run.status is RunStatus.CANCELLED


# -- what is committed with a start -----------------------------------------------------------------------------


def test_a_start_commits_the_whole_intent() -> None:
    """The entry of a task that is to be launched says which attempt, under which key, by whom, and since when."""
    scene = Scene(dag_of(chain(A=task()))).fold(RunStarted(), after_s=3)
    state = scene["A"]
    assert (state.attempt, state.by, state.launches) == (1, "me", 1)
    assert state.execution_id == execution_key("n", "A", 1)
    assert state.started_at == BEGIN + timedelta(seconds=3)
    assert obligation(state, "me") is Obligation.LAUNCH
    assert obligation(state, "heir") is None


def test_execution_keys_are_stable_and_differ() -> None:
    """A key is the same whenever and wherever it is computed, and no other run, node or attempt has it."""
    assert execution_key("n", "A", 1) == "68aa3eaec28825e8e6043dd025908a3c"
    keys = {execution_key(nonce, node, attempt) for nonce in "nm" for node in ("A", "B", "1/A") for attempt in (1, 11)}
    assert len(keys) == 12


def test_a_task_that_cannot_be_launched_here_waits() -> None:
    """It is no failure: the task stays New, says since when it is ready, and whoever can takes it."""
    scene = Scene(dag_of(chain(A=task(), B=task()))).fold(RunStarted(), by=CLIENT)
    assert (scene["A"].status, scene["A"].ready_at, scene["A"].by) == (TaskStatus.NEW, BEGIN, None)
    assert scene["B"].ready_at is None
    scene.fold(LaunchOffered("A"), by=CLIENT, after_s=5)
    assert scene.changes.is_empty, "the offer is no use to one who cannot either"
    scene.fold(LaunchOffered("A"), LaunchOffered("B"), by=HEIR, after_s=5)
    assert (scene["A"].status, scene["A"].by, scene["A"].ready_at) == (TaskStatus.STARTING, "heir", None)
    assert scene.statuses["B"] == "New", "what is not ready cannot be claimed"


def test_a_retry_that_cannot_be_launched_here_waits_for_somebody_else() -> None:
    """A process that cannot launch the next attempt leaves it to whoever can: at once, or when it is due."""
    scene = at_second_attempt().fold(TaskFailed("A", 2, BAD), by=CLIENT)
    assert (scene["A"].status, scene["A"].by) == (TaskStatus.RETRYING, None)
    scene.fold(RetryDue("A", 2), by=CLIENT, after_s=20)
    assert scene.changes.is_empty
    scene.fold(RetryDue("A", 2), by=HEIR)
    assert described(scene["A"]) == "Starting 3"


def test_a_retry_that_nobody_waits_for_finds_somebody_before_it_is_due() -> None:
    """Whoever finds it too early takes it over, so that there is one who wakes up when it is due."""
    scene = at_second_attempt().fold(TaskFailed("A", 2, BAD), by=CLIENT)
    scene.fold(RetryDue("A", 2), by=CLIENT)
    assert scene.changes.is_empty
    scene.fold(RetryDue("A", 2), by=HEIR)
    assert (described(scene["A"]), scene["A"].by) == ("Retrying 2", "heir")
    assert obligation(scene["A"], "heir") is Obligation.RETRY
    scene.fold(RetryDue("A", 2), by=ME)
    assert scene.changes.is_empty, "one is enough"


# -- joins ------------------------------------------------------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    """Parallels within each other, each with a task beside the next one."""
    inner = chain(**{f"T{depth}": task()})
    for level in range(depth, 0, -1):
        inner = chain(**{f"P{level}": parallel(inner, chain(**{f"S{level}": task()}))})
    return inner


def test_nested_joins_cascade_in_one_fold() -> None:
    """The last task of the innermost branch ends every Parallel around it, and the run, in one commit."""
    scene = Scene(dag_of(nested(50)))
    scene.fold(RunStarted())
    scene.fold(*(TaskSucceeded(f"S{level}", 1) for level in range(1, 51)))
    assert {scene.statuses[f"P{level}"] for level in range(1, 51)} == {"Running"}
    scene.fold(TaskSucceeded("T50", 1))
    assert set(scene.statuses.values()) == {"Completed"}
    assert scene.run.status is RunStatus.COMPLETED


def test_a_failure_goes_up_through_all_parallels_in_one_fold() -> None:
    """Each Parallel names the branch that failed first, and the run names the node and the reason."""
    scene = Scene(dag_of(nested(3))).fold(RunStarted())
    scene.fold(TaskFailed("T3", 1, BAD))
    assert {scene.statuses[name] for name in ("T3", "P1", "P2", "P3")} == {"Failed"}
    assert all(scene[name].stop for name in ("S1", "S2", "S3"))
    assert scene.run.status is RunStatus.FAILING
    error = scene.run.header.error
    assert error is not None
    assert (error.type, error.cause) == ("BranchFailed", "P2")
    assert "node 'T3': ValueError: no luck" in error.message
    scene.fold(*(TaskStopped(f"S{level}", 1) for level in (1, 2, 3)))
    assert scene.run.status is RunStatus.FAILED


def test_a_join_fires_once_however_its_branches_end() -> None:
    """In one commit or in many, in any order and with duplicates, the task after the join begins exactly once."""
    definition = chain(P=parallel(chain(A=task()), chain(B=task()), chain(C=task())), End=task())
    ends = [TaskSucceeded(name, 1) for name in "ABC"]
    for order in permutations(ends):
        one = Scene(dag_of(definition)).fold(RunStarted()).fold(*order, *order)
        assert described(one["End"]) == "Starting 1"
        many = Scene(dag_of(definition)).fold(RunStarted())
        for end in order:
            assert many.statuses["End"] == "New"
            many.fold(end, end)
        assert described(many["End"]) == "Starting 1"
        many.fold(*order)
        assert many.changes.is_empty


@pytest.mark.parametrize("policy", ["fail_fast", "wait"])
def test_failed_branch_follows_the_failure_policy(policy: str) -> None:
    """fail_fast stops the other branches at once; wait lets them end, and fails then."""
    branches = chain(A=task(), A2=task()), chain(B=task(), B2=task()), chain(C=task())
    scene = Scene(dag_of(chain(P=parallel(*branches, on_failure=policy), End=task()))).fold(RunStarted())
    scene.fold(TaskFailed("A", 1, BAD), TaskSucceeded("C", 1))
    assert (scene.statuses["A2"], scene.statuses["C"]) == ("Skipped", "Completed")
    if policy == "wait":
        assert scene.run.status is RunStatus.RUNNING
        assert not scene["B"].stop
        scene.fold(TaskSucceeded("B", 1)).fold(TaskFailed("B2", 1, Failure.of("KeyError", "again")))
    else:
        assert scene.run.status is RunStatus.FAILING
        assert scene["B"].stop
        assert scene.statuses["B2"] == "Skipped"
        scene.fold(TaskSucceeded("B", 1))
    assert (scene.statuses["P"], scene.statuses["End"]) == ("Failed", "Skipped")
    assert scene.run.status is RunStatus.FAILED
    error = scene["P"].error
    assert error is not None
    assert error.message.startswith("2 of 3" if policy == "wait" else "1 of 3")
    assert "node 'A': ValueError: no luck" in error.message


def test_a_failed_branch_of_an_inner_parallel_lets_the_outer_wait() -> None:
    """An inner fail_fast stops only its own branches; an outer `wait` lets its other branches end."""
    inner = parallel(chain(X=task()), chain(Y=task()))
    outer = parallel(chain(Q=inner), chain(B=task(), B2=task()), on_failure="wait")
    scene = Scene(dag_of(chain(P=outer))).fold(RunStarted())
    scene.fold(TaskFailed("X", 1, BAD))
    assert (scene.statuses["Q"], scene.statuses["P"], scene.run.status) == ("Failed", "Running", RunStatus.RUNNING)
    assert scene["Y"].stop
    scene.fold(TaskSucceeded("B", 1)).fold(TaskSucceeded("B2", 1))
    assert (scene.statuses["P"], scene.run.status) == ("Failed", RunStatus.FAILING), "Y is still to be stopped"
    scene.fold(TaskStopped("Y", 1))
    assert scene.run.status is RunStatus.FAILED


# -- retries and lost attempts ----------------------------------------------------------------------------------


def test_a_retry_waits_longer_each_time() -> None:
    """The delay grows by the backoff up to its maximum, and the due time stands in the document."""
    policy = {"max_attempts": 5, "initial_delay": 10, "backoff": 3, "max_delay": 50, "jitter": 0}
    scene = Scene(dag_of(chain(A=task(retry=policy)))).fold(RunStarted())
    for attempt, delay_s in enumerate([10, 30, 50, 50], start=1):
        scene.fold(TaskFailed("A", attempt, BAD))
        assert scene["A"].retry_at == scene.now + timedelta(seconds=delay_s)
        scene.fold(RetryDue("A", attempt), after_s=delay_s - 1)
        assert scene.changes.is_empty, "too early"
        scene.fold(RetryDue("A", attempt), after_s=1)
        assert described(scene["A"]) == f"Starting {attempt + 1}"
    scene.fold(TaskFailed("A", 5, BAD))
    assert (scene.statuses["A"], scene.run.status) == ("Failed", RunStatus.FAILED)
    assert [failure.attempt for failure in scene["A"].failures] == [1, 2, 3, 4]


def test_each_failure_names_the_execution_and_the_times_of_its_attempt() -> None:
    """The kept failures and the error of an entry tell when each attempt began and ended, and its execution id."""
    scene = Scene(dag_of(chain(A=task(retry={"max_attempts": 3, "initial_delay": 10, "jitter": 0}))))
    attempts = []
    for attempt in (1, 2, 3):
        scene.fold(RunStarted() if attempt == 1 else RetryDue("A", attempt - 1), after_s=60)
        attempts.append((attempt, execution_key("n", "A", attempt), scene.now, scene.now + timedelta(seconds=5)))
        scene.fold(TaskFailed("A", attempt, BAD), after_s=5)
    failures = [*scene["A"].failures, scene["A"].error]
    assert [(each.attempt, each.execution_id, each.started_at, each.at) for each in failures if each] == attempts


def test_a_failure_that_is_not_to_be_retried_fails_the_task() -> None:
    """`retry.on` names the failures that may be repeated, and no others are."""
    step = task(retry={"max_attempts": 9, "initial_delay": 0, "on": ["5xx", "Timeout"]})
    scene = Scene(dag_of(chain(A=step))).fold(RunStarted())
    for attempt, kind in enumerate(["HTTP 503", "Timeout", "HTTP 504"], start=1):
        scene.fold(TaskFailed("A", attempt, Failure.of(kind, "try again")))
        assert described(scene["A"]) == f"Starting {attempt + 1}", "without a delay it begins in the same commit"
    scene.fold(TaskFailed("A", 4, Failure.of("HTTP 404", "not there")))
    assert scene.statuses["A"] == "Failed"


def test_lost_attempts_do_not_use_up_the_retries() -> None:
    """An attempt whose outcome nobody knows is repeated besides those that the retry policy allows."""
    step = task(retry={"max_attempts": 2, "initial_delay": 0})
    scene = Scene(dag_of(chain(A=step))).fold(RunStarted())
    scene.fold(TaskLost("A", 1, "no answer")).fold(TaskFailed("A", 2, BAD)).fold(TaskLost("A", 3, "no answer"))
    assert (described(scene["A"]), scene["A"].lost) == ("Starting 4", 2)
    scene.fold(TaskFailed("A", 4, BAD))
    assert scene.statuses["A"] == "Failed"
    assert [failure.type for failure in scene["A"].failures] == ["Lost", "ValueError", "Lost"]


def test_a_failure_that_is_called_lost_is_a_try_like_any_other() -> None:
    """Exceptions of users may have any name: those that are named as ours are must not be retried for ever."""
    for kind in ("Lost", "Interrupted"):
        scene = Scene(dag_of(chain(A=task(retry={"max_attempts": 2, "initial_delay": 0})))).fold(RunStarted())
        scene.fold(TaskFailed("A", 1, Failure.of(kind, "my keys")))
        assert (described(scene["A"]), scene["A"].lost) == ("Starting 2", 0)
        scene.fold(TaskFailed("A", 2, Failure.of(kind, "my keys")))
        assert scene.statuses["A"] == "Failed"


def test_an_attempt_that_was_given_up_on_purpose_is_for_another_process() -> None:
    """A process that is stopped waits for nobody: any that can launches the next attempt, and no retry is used up."""
    scene = Scene(dag_of(chain(A=task()))).fold(RunStarted())
    for attempt in range(1, 6):
        scene.fold(TaskInterrupted("A", attempt), by=ME if attempt == 1 else HEIR)
        assert (described(scene["A"]), scene["A"].by, scene["A"].interrupted) == (f"Retrying {attempt}", None, attempt)
        scene.fold(RetryDue("A", attempt), by=HEIR)
        assert (described(scene["A"]), scene["A"].by) == (f"Starting {attempt + 1}", "heir")
    assert {failure.type for failure in scene["A"].failures} == {"Interrupted"}
    failed = Scene(dag_of(chain(A=task(on_lost="fail")))).fold(RunStarted()).fold(TaskInterrupted("A", 1))
    assert failed.run.status is RunStatus.FAILED


def test_attempts_are_lost_three_times_at_most() -> None:
    """A target that never answers is not called for ever: three new attempts, then the task fails as Lost."""
    scene = Scene(dag_of(chain(A=task(retry={"max_attempts": 9})))).fold(RunStarted())
    for attempt in range(1, LOST_ATTEMPTS_MAX + 1):
        scene.fold(TaskLost("A", attempt, "no answer"))
        assert described(scene["A"]) == f"Starting {attempt + 1}"
    scene.fold(TaskLost("A", LOST_ATTEMPTS_MAX + 1, "no answer"))
    error = scene["A"].error
    assert error is not None
    assert (LOST_ATTEMPTS_MAX, scene.statuses["A"], error.type, error.attempt) == (3, "Failed", "Lost", 4)


def test_on_lost_fail_takes_no_second_try() -> None:
    """Where the user chose so, an attempt without an outcome fails the task."""
    scene = Scene(dag_of(chain(A=task(on_lost="fail", retry={"max_attempts": 9})))).fold(RunStarted())
    scene.fold(TaskLost("A", 1, "no answer"))
    assert (scene.statuses["A"], scene.run.status) == ("Failed", RunStatus.FAILED)


def test_only_the_last_failures_are_kept() -> None:
    """The document does not grow with every attempt."""
    scene = Scene(dag_of(chain(A=task(retry={"max_attempts": 50, "initial_delay": 0})))).fold(RunStarted())
    for attempt in range(1, 50):
        scene.fold(TaskFailed("A", attempt, BAD))
    assert [failure.attempt for failure in scene["A"].failures] == [45, 46, 47, 48, 49]


# -- when a process dies ----------------------------------------------------------------------------------------

DIED = ProcessesDied(frozenset({"me"}))


def call(**keys: Any) -> dict[str, Any]:
    return task(target_type="CloudFunction", **{"url": "https://f.example/f", **keys})


def job(**keys: Any) -> dict[str, Any]:
    return task(target_type="Dataflow", template_path="gs://b/t", **keys)


def test_a_launch_of_the_dead_is_sent_again_as_the_same_attempt() -> None:
    """Same attempt, same key: where the target honours it, the work is done once. The tries are counted."""
    for step in (task(), call(), job(), job(on_lost="fail")):
        scene = Scene(dag_of(chain(A=step))).fold(RunStarted())
        before = scene["A"]
        scene.fold(DIED, by=HEIR, after_s=5)
        after = scene["A"]
        assert (after.by, after.launches) == ("heir", 2)
        assert msgspec.structs.replace(after, by="me", launches=1) == before
        assert obligation(after, "heir") is Obligation.LAUNCH


def test_only_the_owner_says_that_a_task_is_running() -> None:
    """What a process says that was called dead and lives does not take the launch from the one that has taken over."""
    for step in (task(), call(), job()):
        scene = Scene(dag_of(chain(A=step))).fold(RunStarted()).fold(DIED, by=HEIR)
        scene.fold(TaskRunning("A", 1, "job-1"), by=ME)
        assert scene.changes.is_empty
        assert obligation(scene["A"], "heir") is Obligation.LAUNCH
        scene.fold(TaskRunning("A", 1, "job-1"), by=HEIR)
        assert described(scene["A"]) == "Running 1 job-1 again"


def test_only_the_owner_gives_an_attempt_up() -> None:
    """A process that ends, and was called dead before, does not take the attempt from the one that has taken over."""
    for step in (task(), call(), job(), job(on_lost="fail")):
        scene = Scene(dag_of(chain(A=step))).fold(RunStarted()).fold(DIED, by=HEIR)
        for event in (
            TaskInterrupted("A", 1),
            TaskLost("A", 1, "no answer"),
            TaskFailed("A", 1, BAD, is_given_up=True),
        ):
            assert scene.fold(event, by=ME).changes.is_empty
        assert not scene.fold(TaskFailed("A", 1, BAD), by=ME).changes.is_empty, "what the target said is a fact"


def test_executions_stopped_by_a_loss_end_in_the_same_fold() -> None:
    """Whoever can launch nothing takes nothing over; yet what the dead left behind of a failed run is ended at once."""
    branches = parallel(chain(A=task()), chain(B=task(on_lost="fail")))
    scene = Scene(dag_of(chain(P=branches))).fold(RunStarted())
    scene.fold(DIED, by=Process("heir", lambda _: False))
    assert scene.statuses == {"P": "Failed", "A": "Cancelled", "B": "Failed"}
    assert scene.run.status is RunStatus.FAILED


def test_a_function_that_kills_its_process_does_not_loop_for_ever() -> None:
    """After ten launches of one attempt the task fails as Lost, and no other attempt follows."""
    scene = Scene(dag_of(chain(A=task(retry={"max_attempts": 9})))).fold(RunStarted())
    heirs = ["me", *(f"heir {number}" for number in range(LAUNCHES_MAX - 1))]
    for dead, heir in pairwise(heirs):
        scene.fold(ProcessesDied(frozenset({dead})), by=Process(heir, lambda _: True))
        assert described(scene["A"]) == "Starting 1 again"
    assert scene["A"].launches == LAUNCHES_MAX == 10
    scene.fold(ProcessesDied(frozenset(heirs)), by=HEIR)
    error = scene["A"].error
    assert error is not None
    assert (scene.statuses["A"], error.type) == ("Failed", "Lost")
    assert "died 10 times while launching the execution" in error.message


def test_a_refusal_is_of_the_launch_that_was_refused() -> None:
    """A process that takes its own execution back, after another one had it, says nothing of its earlier launch."""
    scene = Scene(dag_of(chain(A=task()))).fold(RunStarted()).fold(DIED, by=HEIR)
    died = ProcessesDied(frozenset({"heir"}))
    scene.fold(died, TaskWaits("A", 1, "no connection", 1))
    assert (scene["A"].by, scene["A"].launches, scene["A"].waits_because) == ("me", 3, None)
    scene.fold(TaskWaits("A", 1, "no connection", 3))
    assert scene["A"].waits_because == "no connection"


@pytest.mark.parametrize("heir", [HEIR, AWAITING], ids=["without events", "with events"])
def test_on_lost_fail_is_not_sent_again_by_a_takeover(heir: Process) -> None:
    """
    A plain call that may have been sent must not be sent twice.

    Where completion events arrive it is awaited as Running; a Python function, or a call nobody will tell of, is lost.
    """
    for step, expected in (
        (call(on_lost="fail"), "Running 1" if heir.awaits_events else "Failed 1"),
        (task(on_lost="fail"), "Failed 1"),
    ):
        scene = Scene(dag_of(chain(A=step))).fold(RunStarted())
        scene.fold(DIED, by=heir)
        assert described(scene["A"]) == expected
        if expected == "Running 1":
            assert scene["A"].by == "heir"
            scene.fold(TaskSucceeded("A", 1))
            assert scene.run.status is RunStatus.COMPLETED


def test_running_executions_of_a_dead_process() -> None:
    """A Python function died with it; a job goes on; a call goes on where its completion event will tell."""
    expected = {
        (TargetTypes.FUNCTION, False): "Starting 2",
        (TargetTypes.FUNCTION, True): "Starting 2",
        (TargetTypes.CLOUD_FUNCTION, False): "Starting 2",
        (TargetTypes.CLOUD_FUNCTION, True): "Running 1",
        (TargetTypes.DATAFLOW, False): "Running 1",
        (TargetTypes.DATAFLOW, True): "Running 1",
    }
    for step in (task(), call(), job()):
        for heir in (HEIR, AWAITING):
            scene = Scene(dag_of(chain(A=step))).fold(RunStarted()).fold(TaskRunning("A", 1))
            scene.fold(DIED, by=heir)
            kind = scene["A"].target_type
            assert kind is not None
            assert described(scene["A"]) == expected[kind, heir.awaits_events]
            assert scene["A"].by == "heir"


def test_a_stop_that_the_dead_owed() -> None:
    """A job is stopped by the heir; nothing of a plain call is left to stop, so it is Cancelled at once."""
    for step, expected in ((task(), "Cancelled 1"), (call(), "Cancelled 1"), (job(), "Running 1 stop")):
        scene = Scene(dag_of(chain(A=step))).fold(RunStarted()).fold(TaskRunning("A", 1)).fold(CancelRequested())
        scene.fold(DIED, by=HEIR)
        assert described(scene["A"]) == expected
        if scene["A"].status is TaskStatus.RUNNING:
            assert obligation(scene["A"], "heir") is Obligation.STOP
            scene.fold(TaskStopped("A", 1), by=HEIR)
        assert scene.run.status is RunStatus.CANCELLED


def test_a_retry_that_the_dead_waited_for() -> None:
    """The heir waits in its place, until the same moment."""
    scene = at_second_attempt().fold(TaskFailed("A", 2, BAD))
    before = scene["A"]
    scene.fold(DIED, by=HEIR, after_s=5)
    assert scene["A"] == msgspec.structs.replace(before, by="heir")
    assert obligation(scene["A"], "heir") is Obligation.RETRY


def test_a_process_that_cannot_launch_takes_nothing_over_that_is_to_be_launched() -> None:
    """It leaves launches and retries of the dead to one that can; what was lost it may record."""
    starting = at_second_attempt().fold(DIED, by=CLIENT)
    assert starting.changes.is_empty
    retrying = at_second_attempt().fold(TaskFailed("A", 2, BAD)).fold(DIED, by=CLIENT)
    assert retrying.changes.is_empty
    running = at_second_attempt(RUNNING).fold(DIED, by=CLIENT)
    assert (described(running["A"]), running["A"].by) == ("Retrying 2", None)
    running.fold(RetryDue("A", 2), by=HEIR)
    assert described(running["A"]) == "Starting 3"


def test_an_outcome_that_waits_in_the_inbox_comes_before_the_takeover() -> None:
    """Of what has ended by now nothing is sent again."""
    scene = at_second_attempt().fold(DIED, TaskSucceeded("A", 2), by=HEIR)
    assert (described(scene["A"]), described(scene["B"])) == ("Completed 2", "Starting 1")
    assert scene["B"].by == "heir"


def test_one_takeover_takes_everything() -> None:
    """All that the dead owed changes hands in one commit, and what others owe stays theirs."""
    branches = [chain(**{f"T{i}": task()}) for i in range(6)]
    scene = Scene(dag_of(chain(P=parallel(*branches)))).fold(RunStarted(), by=CLIENT)
    scene.fold(*(LaunchOffered(f"T{i}") for i in (0, 1, 2)))
    scene.fold(*(LaunchOffered(f"T{i}") for i in (3, 4)), by=Process("other", lambda _: True))
    scene.fold(DIED, by=HEIR)
    assert [scene[f"T{i}"].by for i in range(6)] == ["heir", "heir", "heir", "other", "other", None]


# -- ends of runs -----------------------------------------------------------------------------------------------


def test_a_run_that_is_cancelled_ends_when_nothing_of_it_lives() -> None:
    """Live tasks are to be stopped, waiting ones end at once, and the run ends with the last live one."""
    branches = chain(A=task()), chain(B=task(**RETRIED)), chain(C=task(), C2=task())
    scene = Scene(dag_of(chain(P=parallel(*branches), End=task()))).fold(RunStarted())
    scene.fold(TaskRunning("A", 1), TaskFailed("B", 1, BAD))
    scene.fold(CancelRequested("enough"))
    assert scene.run.status is RunStatus.CANCELLING
    assert scene.statuses == {
        "P": "Cancelled", "A": "Running", "B": "Cancelled", "C": "Starting", "C2": "Skipped", "End": "Skipped",
    }  # fmt: skip
    scene.fold(TaskStopped("A", 1))
    assert scene.run.status is RunStatus.CANCELLING
    scene.fold(TaskSucceeded("C", 1, msgspec.Raw(b"1")))
    assert (scene.run.status, scene.statuses["C"]) == (RunStatus.CANCELLED, "Completed")
    error = scene.run.header.error
    assert error is not None
    assert (error.type, error.message) == ("Cancelled", "enough")


def test_a_cancel_before_anything_began_ends_the_run() -> None:
    """A run that waits for a process that can launch it is Cancelled at once, and nothing claims it any more."""
    scene = started_by_a_client().fold(CancelRequested())
    assert (scene.run.status, scene.statuses) == (RunStatus.CANCELLED, {"A": "Skipped", "B": "Skipped"})
    scene.fold(LaunchOffered("A"), RunStarted(), by=HEIR)
    assert scene.changes.is_empty


def test_a_cancel_in_the_commit_of_the_start_launches_nothing() -> None:
    """Start and cancel that gather in one batch: no intent is committed."""
    scene = Scene(dag_of(chain(P=parallel(chain(A=task()), chain(B=task())))))
    scene.fold(CancelRequested(), RunStarted())
    assert (scene.run.status, set(scene.statuses.values())) == (RunStatus.CANCELLED, {"Skipped"})
    assert scene["A"].attempt == 0


def test_a_cancel_takes_back_a_retry_that_began_in_the_same_commit() -> None:
    """An attempt that is not committed has never been: its number and key are not in the document."""
    step = task(retry={"max_attempts": 3, "initial_delay": 0})
    scene = Scene(dag_of(chain(A=step))).fold(RunStarted())
    before = scene["A"]
    scene.fold(TaskFailed("A", 1, BAD), CancelRequested())
    after = scene["A"]
    assert (described(after), after.execution_id) == ("Cancelled 1", before.execution_id)
    assert scene.run.status is RunStatus.CANCELLED
    assert scene.changes.header.status is RunStatus.CANCELLED


def test_a_cancel_of_a_failing_run_changes_nothing() -> None:
    """The run ends as Failed: it had failed before."""
    scene = Scene(dag_of(chain(P=parallel(chain(A=task()), chain(B=task()))))).fold(RunStarted())
    scene.fold(TaskFailed("A", 1, BAD)).fold(CancelRequested())
    assert scene.changes.is_empty
    scene.fold(TaskStopped("B", 1))
    assert scene.run.status is RunStatus.FAILED


def test_a_run_that_takes_too_long_fails() -> None:
    """At its timeout the run stops what is live, skips the rest, and says how long it was allowed to take."""
    scene = at_second_attempt()
    scene.fold(RunTimeoutDue(), after_s=TIMEOUT_S - 11)
    assert scene.changes.is_empty, "one second too early"
    scene.fold(RunTimeoutDue(), after_s=1)
    assert (scene.run.status, described(scene["A"])) == (RunStatus.FAILING, "Starting 2 stop")
    scene.fold(TaskStopped("A", 2))
    error = scene.run.header.error
    assert error is not None
    assert (scene.run.status, error.type, error.message) == (
        RunStatus.FAILED, "Timeout", "the run took longer than its timeout of 1000 s",
    )  # fmt: skip


def test_a_run_whose_time_is_over_takes_nothing_over_from_the_dead() -> None:
    """What is to be stopped has ended with its process, also when one that launches nothing says so."""
    scene = Scene(dag_of(chain(A=task()), timeout=TIMEOUT_S)).fold(RunStarted())
    scene.fold(DIED, RunTimeoutDue(), by=CLIENT, after_s=TIMEOUT_S)
    assert described(scene["A"]) == "Cancelled 1"
    assert scene.run.status is RunStatus.FAILED


def test_a_run_without_a_timeout_never_takes_too_long() -> None:
    """A timer that fires for it by mistake does nothing."""
    scene = Scene(dag_of(chain(A=task()))).fold(RunStarted()).fold(RunTimeoutDue(), after_s=1e9)
    assert scene.changes.is_empty


# -- resume -----------------------------------------------------------------------------------------------------


def resumed(scene: Scene) -> Scene:
    header = scene.header("another", resumed_from="r")
    return Scene(scene.dag, new_run(scene.dag, header, kept_by_resume(scene.dag, scene.run)))


def test_a_resumed_run_goes_on_where_the_other_failed() -> None:
    """Completed tasks keep their results and keys; the failed one begins afresh under a new key."""
    scene = Scene(dag_of(chain(A=task(), B=task(**RETRIED), C=task()))).fold(RunStarted())
    scene.fold(TaskSucceeded("A", 1, msgspec.Raw(b'"kept"')))
    for attempt in (1, 2, 3):
        scene.fold(TaskFailed("B", attempt, BAD)).fold(RetryDue("B", attempt), after_s=100)
    assert scene.run.status is RunStatus.FAILED
    again = resumed(scene).fold(RunStarted())
    assert again["A"] == scene["A"]
    assert (described(again["B"]), again["B"].failures, again["B"].lost) == ("Starting 1", (), 0)
    assert again["B"].execution_id == execution_key("another", "B", 1) != execution_key("n", "B", 1)
    again.fold(TaskSucceeded("B", 1)).fold(TaskSucceeded("C", 1))
    assert again.run.status is RunStatus.COMPLETED


def test_a_resumed_run_joins_what_is_left_of_its_branches() -> None:
    """Branches that had completed are not started again, and the join waits for the others only."""
    branches = chain(A=task()), chain(B=task(), B2=task()), chain(Q=parallel(chain(X=task()), chain(Y=task())))
    scene = Scene(dag_of(chain(P=parallel(*branches, on_failure="wait"), End=task()))).fold(RunStarted())
    scene.fold(TaskSucceeded("A", 1), TaskSucceeded("B", 1), TaskSucceeded("X", 1), TaskSucceeded("Y", 1))
    scene.fold(TaskFailed("B2", 1, BAD))
    assert scene.run.status is RunStatus.FAILED
    again = resumed(scene).fold(RunStarted())
    assert {name for name in again.dag.all_tasks if again[name].status is TaskStatus.STARTING} == {"B2"}
    assert (again.statuses["P"], again.statuses["Q"], again.statuses["End"]) == ("Running", "Completed", "New")
    again.fold(TaskSucceeded("B2", 1))
    assert described(again["End"]) == "Starting 1"


def test_a_resumed_run_of_which_everything_was_done_completes_at_once() -> None:
    """A run that was cancelled while its last tasks completed has nothing left to do."""
    branches = chain(A=task()), chain(Q=parallel(chain(X=task()), chain(Y=task())))
    scene = Scene(dag_of(chain(P=parallel(*branches)))).fold(RunStarted()).fold(CancelRequested())
    scene.fold(*(TaskSucceeded(name, 1) for name in "AXY"))
    assert (scene.run.status, scene.statuses["P"]) == (RunStatus.CANCELLED, "Cancelled")
    again = resumed(scene).fold(RunStarted())
    assert (again.run.status, set(again.statuses.values())) == (RunStatus.COMPLETED, {"Completed"})


def test_only_a_run_that_failed_or_was_cancelled_can_be_resumed() -> None:
    """Others are refused, with what to do."""
    with pytest.raises(RunStateError, match=r"is Running.*Wait for its end, or cancel it"):
        resumed(at_second_attempt())
    done = at_second_attempt().fold(TaskSucceeded("A", 2)).fold(TaskSucceeded("B", 1))
    with pytest.raises(RunStateError, match=r"is Completed, and only"):
        resumed(done)


# -- documents --------------------------------------------------------------------------------------------------


def edited(scene: Scene, node: str, **fields: Any) -> bytes:
    document = msgspec.json.decode(scene.run.encode(scene.run.header, {})[0])
    document[node].update(fields)
    return msgspec.json.encode(document)


def test_a_document_comes_back_as_it_was_written() -> None:
    """Whatever a run has come to, reading its document gives the same state, and writing it gives the same bytes."""
    for make in STATUSES.values():
        scene = make()
        document = scene.run.encode(scene.run.header, {})[0]
        run = run_of(document, scene.dag)
        assert (run.header, run.nodes) == (scene.run.header, scene.run.nodes)
        assert run.encode(run.header, {})[0] == document
        assert msgspec.json.decode(document)["$run"]["schema_version"] == 1


def test_folding_goes_on_from_a_document_that_was_read() -> None:
    """After each commit another process may go on from the stored document alone, and comes to the same end."""
    branches = chain(A=task(), A2=task()), chain(Q=parallel(chain(X=task()), chain(Y=task())))
    dag = dag_of(chain(P=parallel(*branches, on_failure="wait"), End=task()))
    kept, fresh = Scene(dag), Scene(dag)
    for event in (
        RunStarted(),
        TaskSucceeded("X", 1, msgspec.Raw(b'{"deep":[1,null]}')),
        TaskSucceeded("A", 1, msgspec.Raw(b'"x"')),
        TaskLost("Y", 1, "no answer"),
        TaskSucceeded("A2", 1, result_in="execution"),
        TaskSucceeded("Y", 2),
        TaskSucceeded("End", 1),
    ):
        kept.fold(event)
        fresh.run = run_of(fresh.run.encode(fresh.run.header, {})[0], dag)
        fresh.fold(event)
        assert fresh.run.encode(fresh.run.header, {})[0] == kept.run.encode(kept.run.header, {})[0]
    assert fresh.run.status is RunStatus.COMPLETED
    assert list(fresh.run.spilled) == ["A2"]


@pytest.mark.parametrize(
    ("node", "fields", "says"),
    [
        ("A", {"status": 7}, r"runs/r\.json: entry 'A' cannot be read"),
        ("A", {"status": None}, "entry 'A'"),
        ("A", {"node_type": "Choice"}, "'Choice'"),
        ("A", {"attempt": "2"}, "entry 'A'"),
        ("$run", {"status": "Paused"}, "'Paused'"),
        ("$run", {"created_at": "yesterday"}, "no run document that this aiorch can read"),
        ("$run", {"schema_version": "1"}, "no run document"),
    ],
)
def test_unknown_values_are_refused(node: str, fields: dict[str, Any], says: str) -> None:
    """A value that this code never writes is an error that names the place, never a guess."""
    scene = at_second_attempt()
    with pytest.raises(DocumentError, match=says):
        run_of(edited(scene, node, **fields), scene.dag)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "no run document"),
        (b"[]", "no run document"),
        (b'{"A": {}}', r"no entry '\$run'"),
        (b'{"$run": []}', "no run document"),
        (b'{"$run": {}}', "no run document"),
        (b'{"$run": {"schema_version": 1}', "no run document"),
        (b"\xff\xfe", "no run document"),
    ],
)
def test_invalid_run_document_is_refused(document: bytes, says: str) -> None:
    """Broken or foreign objects under a run's name are errors that say so."""
    with pytest.raises(DocumentError, match=says):
        run_of(document, at_second_attempt().dag)


def test_an_entry_that_the_definition_does_not_have_is_refused() -> None:
    """A document belongs to its definition; an entry that does not is not silently dropped."""
    scene = at_second_attempt()
    document = msgspec.json.decode(scene.run.encode(scene.run.header, {})[0])
    document["Z"] = {**document["B"], "node_name": "Z"}
    with pytest.raises(DocumentError, match=r"'Z'.*does not have"):
        run_of(msgspec.json.encode(document), scene.dag)


def test_a_document_of_a_newer_version_is_left_alone() -> None:
    """It is told apart from a broken one, whatever else is in it: another replica may read it."""
    scene = at_second_attempt()
    with pytest.raises(NewerSchemaError, match="schema version 99, and this aiorch knows up to 2"):
        run_of(edited(scene, "$run", schema_version=99, status="Paused", created_at=7), scene.dag)


@pytest.mark.parametrize("entry", ["$run", "A"])
def test_a_status_of_a_newer_version_is_left_alone(entry: str) -> None:
    """A status that is not known here was not invented by chance: the messages of the run are for a newer replica."""
    scene = at_second_attempt()
    with pytest.raises(NewerSchemaError, match="the status 'Paused', which this aiorch does not know"):
        run_of(edited(scene, entry, status="Paused"), scene.dag)


def test_unknown_fields_survive() -> None:
    """Fields of a newer writer of the same schema version stay, in entries that change and in those that do not."""
    scene = at_second_attempt()
    for node, value in (("A", 1), ("B", [2]), ("$run", {"x": 3})):
        scene.run = run_of(edited(scene, node, later=value), scene.dag)
    scene.fold(TaskSucceeded("A", 2)).fold(CancelRequested()).fold(TaskStopped("B", 1))
    document = msgspec.json.decode(scene.run.encode(scene.run.header, {})[0])
    assert {name: entry["later"] for name, entry in document.items()} == {"A": 1, "B": [2], "$run": {"x": 3}}
    assert (document["A"]["status"], document["B"]["status"]) == ("Completed", "Cancelled")
    assert run_of(msgspec.json.encode(document), scene.dag).nodes == scene.run.nodes


def test_a_run_that_could_outgrow_its_document_is_refused() -> None:
    """The message names the run, what it consists of, how large it could become, and what to do."""
    wide = dag_of(chain(P=parallel(*(chain(**{f"T{i:05}": task()}) for i in range(12_000)))))
    with pytest.raises(RunTooLargeError, match=r"run 'r' of DAG 'd' was not started: with 12,001 nodes.*Split the DAG"):
        Scene(wide)
    small = dag_of(chain(A=task()))
    header = msgspec.structs.replace(Scene(small).header(), input=msgspec.Raw(b'"%s"' % (b"x" * 5_000_000)))
    with pytest.raises(RunTooLargeError, match="5000002 bytes of input"):
        new_run(small, header)


def test_a_call_that_is_refused_after_it_was_called_running_says_why_it_waits() -> None:
    """A request that was slow to be refused may be ``Running`` by then: its entry has the reason until it is taken."""
    scene = Scene(dag_of(chain(A=task()))).fold(RunStarted()).fold(TaskRunning("A", 1, launch=1))
    scene.fold(TaskRunning("A", 1, launch=1), TaskWaits("A", 1, "no connection", 1))
    assert (scene["A"].status, scene["A"].waits_because) == (TaskStatus.RUNNING, "no connection")
    scene.fold(TaskWaits("A", 1, None, 1))
    assert scene["A"].waits_because is None
