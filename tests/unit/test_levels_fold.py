"""The fold over levels: ways through a chain, graphs, handlers of failures, waits, `finally`, tries of a `Parallel`."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from aiorch.core.begin import new_header, new_run
from aiorch.core.draft import Process
from aiorch.core.fold import fold
from aiorch.core.run_events import (
    CancelRequested,
    ProcessesDied,
    RunEvent,
    RunStarted,
    RunTimeoutDue,
    TaskFailed,
    TaskLost,
    TaskStopped,
    TaskSucceeded,
    TimerDue,
)
from aiorch.errors import RunTooLargeError
from aiorch.model.dag import DAG
from aiorch.model.failure import FAILURES_BYTES_MAX, Failure
from aiorch.model.run import Changes, Run, blank_entries, run_from_document
from aiorch.model.run_document import NodeState, StartCommand, decode_document
from tests.definitions import chain, parallel, task
from tests.unit.test_fold import dag_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ME = Process("me", lambda _: True)
BAD = Failure.of("ValueError", "no luck", classes=("ArithmeticError",))


class Driven:
    """
    A run that is driven by folds, and read again from its document after every fold.

    What is derived from the document must equal what was counted along the way, and the same events change nothing.
    """

    def __init__(self, definition: Mapping[str, Any], input: Any = None) -> None:
        self.dag: DAG = dag_of(dict(definition))
        self.now = BEGIN
        self.values: dict[str, bytes] = {}
        self.changes: Changes
        self.asked: list[Mapping[str, str]] = []
        command = StartCommand(
            schema_version=2,
            run_id="r",
            nonce="n",
            dag="d",
            definition=self.dag.definition_id,
            input=msgspec.Raw(msgspec.json.encode(input or {})),
            created_at=BEGIN,
        )
        timeout_at = BEGIN + timedelta(seconds=self.dag.timeout) if self.dag.timeout else None
        self.run: Run = new_run(self.dag, new_header(command, self.dag, timeout_at))

    def fold(self, *events: RunEvent, after_s: float = 0) -> "Driven":
        self.now += timedelta(seconds=after_s)
        self.changes = changes = self._fold(*events)
        assert self._fold(*reversed(events)) == changes, "the order of events within a batch decides"
        document, encoded = self.run.encode(changes.header, changes.nodes, changes.gone)
        for name, value in changes.values.items():
            self.values[name] = value
        self.run.apply(changes, encoded, len(document))
        header, entries = decode_document(document, "d")
        fresh = run_from_document(self.dag, header, entries, "d")
        assert (fresh.header, fresh.nodes, fresh.live, fresh.due) == (
            self.run.header,
            self.run.nodes,
            self.run.live,
            self.run.due,
        )
        waiting = {name for name, state in self.run.nodes.items() if not state.status.is_terminal}
        assert {name: fresh.pending[name] for name in fresh.pending} == {
            name: count for name, count in self.run.pending.items() if name in waiting
        }
        if changes.header.status == "Running":  # else the counts have no meaning any more
            # The end of a graph is not counted further when a failure has ended the graph.
            left = {name: count for name, count in fresh.joins.items() if count and "$" not in name}
            assert {name: self.run.joins[name] for name in left} == left
        assert self._fold(*events).is_empty, "folding again changed the run"
        self.stored = fresh
        return self

    def read_again(self) -> "Driven":
        """Go on with the run as its document tells it, as a different process does."""
        self.run = self.stored
        return self

    def _fold(self, *events: RunEvent) -> Changes:
        loaded: dict[str, msgspec.Raw] = {}
        while True:
            changes = fold(self.dag, self.run, events, now=self.now, process=ME, results=loaded)
            if not changes.needs:
                return changes
            self.asked.append(changes.needs)
            loaded |= {name: msgspec.Raw(self.values[place]) for name, place in changes.needs.items()}

    def start(self) -> "Driven":
        return self.fold(RunStarted())

    def succeed(self, name: str, result: Any = None, **keys: Any) -> "Driven":
        raw = msgspec.Raw(msgspec.json.encode(result))
        return self.fold(TaskSucceeded(name, self[name].attempt, raw), **keys)

    def fail(self, name: str, failure: Failure = BAD) -> "Driven":
        return self.fold(TaskFailed(name, self[name].attempt, failure))

    def stop(self, *names: str) -> "Driven":
        return self.fold(*(TaskStopped(name, self[name].attempt) for name in names))

    def __getitem__(self, name: str) -> NodeState:
        return self.run.nodes[name]

    def result(self, name: str) -> Any:
        state = self[name]
        return msgspec.json.decode(self.values[state.result_in] if state.result_in else state.result)

    @property
    def statuses(self) -> str:
        """Initials of the statuses: N(ew), S(tarting), R(unning), C(ompleted), F(ailed), K (skipped), X (cancelled)."""
        letters = {"Skipped": "K", "Cancelled": "X", "Retrying": "T"}
        return " ".join(
            f"{name}:{letters.get(state.status, state.status[0])}" for name, state in self.run.nodes.items()
        )

    @property
    def status(self) -> str:
        return str(self.run.status)


def choice(*options: tuple[str, str], default: str | None = None) -> dict[str, Any]:
    step: dict[str, Any] = {"type": "Choice", "choices": [{"when": when, "next": name} for when, name in options]}
    return step | ({"default": default} if default else {})


ORDER = {
    "start": "Load",
    "steps": {
        "Load": task("Size"),
        "Size": choice(("results.Load.rows == 0", "Nothing"), ("results.Load.rows > 5", "Big"), default="Small"),
        "Nothing": {"type": "Pass", "result": {"sent": 0}, "end": True},
        "Big": task("Ship"),
        "Small": task("Ship"),
        "Ship": task(),
    },
}


@pytest.mark.parametrize(
    ("rows", "statuses"),
    [
        (0, "Load:C Size:C Nothing:C Big:K Small:K Ship:K"),
        (9, "Load:C Size:C Nothing:K Big:S Small:K Ship:N"),
        (3, "Load:C Size:C Nothing:K Big:K Small:S Ship:N"),
    ],
)
def test_one_branch_of_a_choice_runs(rows: int, statuses: str) -> None:
    """The first true option is taken, the default if none is; the steps that no way leads to are skipped at once."""
    run = Driven(ORDER).start().succeed("Load", {"rows": rows})
    assert dict(part.split(":") for part in run.statuses.split()) == dict(part.split(":") for part in statuses.split())
    assert run["Size"].went_to == {0: "Nothing", 9: "Big", 3: "Small"}[rows]
    assert run.status == ("Completed" if rows == 0 else "Running")


def test_a_run_that_is_started_twice_begins_once() -> None:
    """Two starts in one batch count each way once."""
    steps = {"A": choice(("true", "P"), default="J"), "P": task("J"), "J": task()}
    run = Driven({"start": "A", "steps": steps}).fold(RunStarted(), RunStarted())
    assert run.statuses == "A:C P:S J:N"


def test_a_shared_next_joins_without_counting() -> None:
    """The step after both ways runs once, whichever way was taken, and the run completes."""
    run = Driven(ORDER).start().succeed("Load", {"rows": 9}).succeed("Big").succeed("Ship", 1)
    assert run.status == "Completed"
    assert "Small:K" in run.statuses


def test_a_choice_without_a_true_condition_and_default_fails() -> None:
    """No condition is true and there is no default: the type of the failure says so, and the run fails."""
    level = {"start": "A", "steps": {"A": choice(("input.x > 1", "B")), "B": task()}}
    run = Driven(level, {"x": 0}).start()
    assert run["A"].error is not None
    assert (run.status, run["A"].error.type, run["B"].status) == ("Failed", "NoChoiceMatched", "Skipped")


def test_an_error_in_a_condition_fails_the_step_without_an_attempt() -> None:
    """The failure is an `ExpressionError` of attempt 0, and names the key, the column and the parts there are."""
    level = {"start": "A", "steps": {"A": choice(("input.y > 1", "B")), "B": task()}}
    run = Driven(level, {"x": 0}).start()
    error = run["A"].error
    assert error is not None
    assert (error.type, error.attempt, run["A"].execution_id) == ("ExpressionError", 0, None)
    assert "`when`" in error.message
    assert "column" in error.message
    assert "it has x" in error.message


def test_when_skips_a_step_and_the_token_goes_on() -> None:
    """The result of a step that its own condition skipped is null, and the step after it runs."""
    steps = {
        "A": task("B", when="input.on"),
        "B": {"type": "Pass", "result": {"a": "${ results.A }"}, "end": True},
    }
    run = Driven({"start": "A", "steps": steps}, {"on": False}).start()
    assert (run["A"].status, run["A"].skipped, run["A"].attempt) == ("Skipped", "when", 0)
    assert run.status == "Completed"
    assert run.result("B") == {"a": None}


def test_when_skips_a_parallel_with_all_of_its_steps() -> None:
    """Entries inside a container that its condition skipped are skipped, too."""
    fan = parallel(chain("X"), chain("Y"), next="B", when="false")
    run = Driven({"start": "A", "steps": {"A": fan, "B": task()}}).start()
    assert run.statuses == "A:K X:K Y:K B:S"


def test_an_error_in_the_condition_of_a_parallel_skips_its_steps() -> None:
    """No entry inside stays open around which the container has failed."""
    fan = parallel(chain("X"), chain("Y"), next="B", when="input.y")
    run = Driven({"start": "A", "steps": {"A": fan, "B": task()}}).start()
    assert (run.statuses, run.status) == ("A:F X:K Y:K B:K", "Failed")


def test_a_handler_of_an_error_in_the_condition_of_a_parallel_leaves_none_of_its_steps_open() -> None:
    """The steps inside are skipped in the same fold, since none of them will ever begin."""
    fan = {
        "type": "Parallel",
        "branches": [chain(B=task())],
        "when": "input.nothing",
        "catch": [{"result": 1}],
        "end": True,
    }
    run = Driven({"start": "A", "steps": {"A": fan}}, {}).start()
    assert (run.statuses, run.status) == ("A:F B:K", "Completed")


def test_a_choice_and_a_pass_cost_no_commit_of_their_own() -> None:
    """From the end of one task to the start of the next, past two decisions, there is one fold."""
    steps = {
        "A": task("P"),
        "P": {"type": "Pass", "result": "${ results.A + 1 }", "next": "Q"},
        "Q": choice(("results.P == 2", "B"), default="C"),
        "B": task(),
        "C": task(),
    }
    run = Driven({"start": "A", "steps": steps}).start().succeed("A", 1)
    assert (run["B"].status, run["C"].status) == ("Starting", "Skipped")


def test_a_caught_failure_goes_to_the_handler() -> None:
    """The failed entry stays failed, caught; the handler reads the error; the other way is skipped."""
    steps = {
        "A": task("B", catch=[{"on": ["KeyError"], "next": "C"}, {"on": ["ArithmeticError"], "next": "H"}]),
        "B": task(),
        "C": task(),
        "H": {"type": "Pass", "result": "${ errors.A.type + ': ' + errors.A.message }", "end": True},
    }
    run = Driven({"start": "A", "steps": steps}).start().fail("A")
    assert run.status == "Completed"
    assert (run["A"].status, run["A"].caught, run["A"].went_to) == ("Failed", True, "H")
    assert run.statuses == "A:F B:K C:K H:C"
    assert run.result("H") == "ValueError: no luck"


def test_a_caught_failure_may_give_a_result() -> None:
    """The value stands for the result of the step, and the run goes on as after a success."""
    steps = {
        "A": task("B", catch=[{"result": {"rows": 0, "why": "${ errors.A.type }"}}]),
        "B": {"type": "Pass", "result": "${ results.A }", "end": True},
    }
    run = Driven({"start": "A", "steps": steps}).start().fail("A")
    assert (run["A"].status, run["A"].caught, run["A"].went_to) == ("Failed", True, None)
    assert run.result("B") == {"rows": 0, "why": "ValueError"}


def test_a_run_that_ends_catches_no_failure() -> None:
    """A failure of a task that is being stopped fails the task, and no handler follows."""
    steps = {"A": task("B", catch=[{"next": "H"}]), "B": task(), "H": task()}
    run = Driven({"start": "A", "steps": steps}).start().fold(CancelRequested()).fail("A")
    assert (run["A"].caught, run["H"].status, run.status) == (False, "Skipped", "Cancelled")


def test_the_first_covering_retry_policy_counts_its_own_attempts() -> None:
    """Each failure is retried by the first policy that covers it, and each policy has attempts of its own."""
    policies = [
        {"on": ["ValueError"], "max_attempts": 2, "initial_delay": 0},
        {"on": ["OSError"], "max_attempts": 3, "initial_delay": 0},
    ]
    run = Driven(chain(A=task(retry=policies))).start()
    broken = Failure.of("ConnectionResetError", "", classes=("ConnectionError", "OSError"))
    run.fail("A").fail("A", broken).fail("A", broken)
    assert (run["A"].attempt, run["A"].retried, run["A"].status) == (4, (1, 2), "Starting")
    run.fail("A")
    assert (run.status, run["A"].retried) == ("Failed", (1, 2))


RESET = Failure.of("ConnectionResetError", "reset by the peer " * 20, classes=("ConnectionError", "OSError"))
LONG = Failure.of("Error" * 20, "no luck " * 40)


def test_a_full_document_retries_the_same_failures_as_an_empty_one() -> None:
    """Of many tasks that fail alike, each is tried again, though the document keeps less of the later failures."""
    names = [f"T{number}" for number in range(2000)]
    retry = {"max_attempts": 2, "initial_delay": 60, "on": ["OSError"]}
    steps = [chain(**{name: task(retry=retry)}) for name in names]
    run = Driven(chain(P=parallel(*steps, on_failure="wait"))).start().fold(*(TaskFailed(n, 1, RESET) for n in names))
    kept = [error for name in names if (error := run[name].error) is not None]
    assert len({error.message for error in kept}) == 2, "the document was not full"
    assert {run[name].status for name in names} == {"Retrying"}


@pytest.mark.parametrize(("failure", "on"), [(RESET, "OSError"), (LONG, LONG.type)], ids=["classes", "long type"])
def test_a_full_document_keeps_the_names_by_which_a_parallel_catches(failure: Failure, on: str) -> None:
    """A handler covers the first failure in a Parallel that waits, and of this one the document keeps the least."""
    names = [f"T{number}" for number in range(2000)]
    handled = parallel(chain(First=task()), chain(Last=task()), on_failure="wait")
    handled["catch"] = [{"on": [on], "result": "caught"}]
    many = parallel(*[chain(**{name: task()}) for name in names], on_failure="wait")
    run = Driven(chain(P=parallel(chain(Many=many), chain(Handled=handled), on_failure="wait"))).start()
    run.fold(*(TaskFailed(name, 1, RESET) for name in names))
    run.fail("First", failure).read_again().succeed("Last")
    first = run["First"].error
    assert first is not None
    assert len(first.message.encode()) <= 60, "the document was not full"
    assert (run["Handled"].caught, run.result("Handled")) == (True, "caught")


def test_failures_of_expressions_share_the_room_of_all_failures() -> None:
    """Many steps whose expression reads a missing part leave a document with the shortest failures only."""
    steps = {f"S{i}": {"type": "Pass", "result": "${ input.missing }", "end": True} for i in range(4000)}
    branches = [{"start": name, "steps": {name: step}} for name, step in steps.items()]
    run = Driven(chain(P=parallel(*branches, on_failure="wait")), {f"{i}{'é' * 1000}": i for i in range(8)}).start()
    errors = [error for name in steps if (error := run[name].error) is not None]
    whole = sum(error.size for error in errors if len(error.message.encode()) > 60)
    assert (run.status, len(errors)) == ("Failed", 4000)
    assert whole <= FAILURES_BYTES_MAX
    assert run.run.failure_bytes < 3 * FAILURES_BYTES_MAX


def test_a_wait_completes_at_its_time_and_not_before() -> None:
    """The entry tells the due time and has no owner; a timer that is early changes nothing."""
    run = Driven({"start": "A", "steps": {"A": {"type": "Wait", "seconds": 60, "next": "B"}, "B": task()}}).start()
    assert (run["A"].status, run["A"].by, run["A"].due_at) == ("Running", None, BEGIN + timedelta(seconds=60))
    run.fold(TimerDue("A"), after_s=59)
    assert (run.changes.is_empty, run["A"].status) == (True, "Running")
    run.fold(TimerDue("A"), after_s=1)
    assert (run["A"].status, run["A"].due_at, run["B"].status) == ("Completed", None, "Starting")


def test_a_wait_until_a_past_time_completes_at_once() -> None:
    """An expression may give the time."""
    steps = {"A": {"type": "Wait", "until": "${ input.due }", "next": "B"}, "B": task()}
    run = Driven({"start": "A", "steps": steps}, {"due": "2025-12-31T23:00:00+01:00"}).start()
    assert run.statuses == "A:C B:S"


def test_a_cancel_ends_a_wait_at_once() -> None:
    """A run that only waits has nothing to stop."""
    run = Driven({"start": "A", "steps": {"A": {"type": "Wait", "seconds": 60, "end": True}}}).start()
    assert run.fold(CancelRequested()).statuses == "A:X"
    assert run.status == "Cancelled"


GRAPH = {
    "steps": {
        "A": {**task(), "end": False},
        "B": {**task(), "end": False},
        "C": {**task(), "needs": ["A"], "end": False},
        "D": {**task(), "needs": ["A", "B"], "end": False},
        "E": {**task(), "needs": ["C", "D"], "end": False},
    }
}
for _step in GRAPH["steps"].values():
    del _step["end"]


def test_a_step_of_a_graph_begins_when_all_that_it_needs_has_ended() -> None:
    """Steps without needs begin at once; a join begins with the last of the steps that it needs."""
    run = Driven(GRAPH).start()
    assert run.statuses == "A:S B:S C:N D:N E:N"
    assert run.succeed("A").statuses == "A:C B:S C:S D:N E:N"
    assert run.succeed("B").statuses == "A:C B:C C:S D:S E:N"
    assert run.fold(TaskSucceeded("C", 1), TaskSucceeded("D", 1)).statuses == "A:C B:C C:C D:C E:S"
    assert run.succeed("E").status == "Completed"


def test_a_failure_in_a_graph_stops_the_steps_beside_it() -> None:
    """The default is `fail_fast`: live steps are stopped, new ones are skipped."""
    run = Driven(GRAPH).start().fail("A")
    assert run.statuses == "A:F B:S C:K D:K E:K"
    assert (run["B"].stop, run.status) == (True, "Failing")
    assert run.stop("B").status == "Failed"


def test_a_success_of_a_stopped_step_ends_its_branch_no_second_time() -> None:
    """The branch has ended with the failure beside the step, and the `Parallel` still waits for its other branch."""
    beside = {"steps": {"A": task(), "B": task()}}
    for step in beside["steps"].values():
        del step["end"]
    fan = {"type": "Parallel", "branches": [beside, chain(C=task())], "on_failure": "wait", "end": True}
    run = Driven({"start": "P", "steps": {"P": fan}}).start().fail("A").read_again()
    assert run["B"].stop
    run.succeed("B")
    assert (run["B"].status, run["P"].status, run.status) == ("Completed", "Running", "Running")
    run.succeed("C")
    assert (run["P"].status, run.status) == ("Failed", "Failed")


def test_a_graph_may_wait_for_the_steps_that_do_not_need_the_failed_one() -> None:
    """With `wait`, the level goes on, and fails with the first failure when all steps have ended."""
    run = Driven({**GRAPH, "on_failure": "wait"}).start().fail("A")
    assert (run.statuses, run.status) == ("A:F B:S C:K D:K E:K", "Running")
    assert run.succeed("B").status == "Failed"
    assert run.run.header.error is not None
    assert run.run.header.error.message == "node 'A' failed: no luck"


def test_a_need_that_its_condition_skipped_or_a_value_replaced_is_met() -> None:
    """In a graph, `skipped: when` and `catch … result` count as ended well."""
    steps = {name: dict(step) for name, step in GRAPH["steps"].items()}
    steps["A"]["when"] = "false"
    steps["B"]["catch"] = [{"result": 1}]
    run = Driven({"steps": steps}).start()
    assert run.statuses == "A:K B:S C:S D:N E:N"
    assert run.fail("B").statuses == "A:K B:F C:S D:S E:N"


def test_a_cancel_in_the_fold_that_begins_a_parallel_keeps_a_decision_inside() -> None:
    """A step that its condition skipped stays so, and the container around it is cancelled."""
    fan = parallel(chain(X=task(when="false")), chain("Y"))
    run = Driven({"start": "Fan", "steps": {"Fan": fan}}).fold(RunStarted(), CancelRequested())
    assert (run.statuses, run["X"].skipped) == ("Fan:X X:K Y:K", "when")


def test_the_result_of_a_parallel_is_the_list_of_its_branches() -> None:
    """A branch that is a graph gives a mapping of the steps that nothing needs."""
    pair = {"steps": {"X": {"type": "Pass", "result": 1}, "Y": {"type": "Pass", "result": 2}}}
    fan = parallel(chain("L"), pair, next="End")
    steps = {"Fan": fan, "End": {"type": "Pass", "result": "${ results.Fan }", "end": True}}
    run = Driven({"start": "Fan", "steps": steps}).start().succeed("L", "l")
    assert run.status == "Completed"
    assert run.result("End") == ["l", {"X": 1, "Y": 2}]


def test_the_result_of_a_parallel_may_be_computed() -> None:
    """`result` in `result:` of a container is the list of the results of its branches."""
    steps = {"Fan": parallel(chain("L"), chain("M"), result="${ sum(result) }")}
    run = Driven({"start": "Fan", "steps": steps, "output": "${ results.Fan }"}).start().succeed("L", 2).succeed("M", 3)
    assert run.result("Fan") == 5
    assert msgspec.json.decode(run.run.header.output) == 5


def test_a_large_value_leaves_the_document() -> None:
    """A value above 1 KiB is kept in an object with a name made of its content, and read when it is needed."""
    steps = {
        "A": {"type": "Pass", "result": "${ [x + input.text for x in ['a', 'b']] }", "next": "B"},
        "B": task("C"),
        "C": {"type": "Pass", "result": "${ len(results.A) }", "end": True},
    }
    run = Driven({"start": "A", "steps": steps}, {"text": "x" * 2000}).start()
    assert run["A"].result_in is not None
    assert list(run.values) == [run["A"].result_in]
    run.succeed("B")
    assert run.asked[0] == {"A": run["A"].result_in}
    assert run.result("C") == 2


def test_a_large_value_is_read_in_the_fold_that_computes_it() -> None:
    """No object holds the value yet, and none is asked for."""
    steps = {
        "A": {"type": "Pass", "result": "${ [input.text, input.text] }", "next": "B"},
        "B": {"type": "Pass", "result": "${ len(results.A) }", "end": True},
    }
    run = Driven({"start": "A", "steps": steps}, {"text": "x" * 2000}).start()
    assert (run.result("B"), run.asked) == (2, [])


def test_a_value_that_is_too_large_to_keep_fails_its_step() -> None:
    """A chain of doublings ends with an error of the step that passes 1 MiB, and writes no object for it."""
    steps = {"S0": {"type": "Pass", "result": "${ [input.text] }", "next": "S1"}}
    for number in range(1, 12):
        following = {"end": True} if number == 11 else {"next": f"S{number + 1}"}
        twice = f"${{ results.S{number - 1} + results.S{number - 1} }}"
        steps[f"S{number}"] = {"type": "Pass", "result": twice, **following}
    run = Driven({"start": "S0", "steps": steps}, {"text": "x" * 2000}).start()
    assert (run.status, run["S9"].status, run["S10"].status) == ("Failed", "Completed", "Failed")
    assert run["S10"].error is not None
    assert "the value has 2,051,073 bytes as JSON, and at most 1,048,576 are kept" in run["S10"].error.message
    assert max(map(len, run.values.values())) <= 1024 * 1024


def test_each_process_works_out_the_same_texts() -> None:
    """The order of keys in a file decides nothing: a process that reads the stored definition writes the same bytes."""
    graph = {"steps": {"Y": {"type": "Pass", "result": 1}, "X": {"type": "Pass", "result": {"d": 1, "c": 2}}}}
    steps = {
        "A": {"type": "Parallel", "branches": [graph], "result": {"text": "${ json.encode(result) }"}, "next": "B"},
        "B": {
            "type": "Pass",
            "result": {"of": {"f": "${ input.n }", "e": 0}, "all": "${ json.encode(results.A) }"},
            "end": True,
        },
    }
    run = Driven({"start": "A", "steps": steps}, {"n": 1})
    stored = Driven(msgspec.json.decode(run.dag.definition), {"n": 1})
    assert [bytes(each.start()["B"].result) for each in (run, stored)] == [bytes(run["B"].result)] * 2
    assert run.result("A") == {"text": '[{"X":{"c":2,"d":1},"Y":1}]'}


def finally_of(**steps: dict[str, Any]) -> dict[str, Any]:
    return {**chain(A=task()), "finally": chain(**steps)}


def test_finally_runs_after_a_completed_run() -> None:
    """The run stays running until the level has ended."""
    run = Driven(finally_of(Z=task())).start().succeed("A")
    assert (run.statuses, run.status) == ("A:C Z:S", "Running")
    assert run.succeed("Z").status == "Completed"
    assert run.run.header.final is not None
    assert (run.run.header.final.outcome, run.run.header.final.error) == ("Completed", None)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda run: run.fail("A"), "Failed"),
        (lambda run: run.fold(CancelRequested()).stop("A"), "Cancelled"),
        (lambda run: run.fold(RunTimeoutDue(), after_s=20).stop("A"), "Failed"),
    ],
)
def test_finally_runs_however_the_run_has_ended(end: Callable[[Driven], Any], status: str) -> None:
    """The level begins when no other entry is live, and reads the outcome of the run."""
    run = Driven({**finally_of(Z={"type": "Pass", "result": "${ run.outcome }"}, Y=task()), "timeout": 10}).start()
    end(run)
    assert run.status == {"Failed": "Failing", "Cancelled": "Cancelling"}[status]
    assert run.result("Z") == status
    run.fold(CancelRequested()).fold(RunTimeoutDue(), after_s=100)
    assert run["Y"].status == "Starting", "neither a further cancel nor the timeout of the run stops the level"
    assert run.succeed("Y").status == status


def test_a_failure_of_finally_fails_a_completing_run() -> None:
    """The error of the run is that of the level."""
    run = Driven(finally_of(Z=task())).start().succeed("A").fail("Z")
    assert run.status == "Failed"
    assert run.run.header.error is not None
    assert "node 'Z' failed" in run.run.header.error.message


def test_a_forced_cancel_stops_finally() -> None:
    """A completing run then ends as cancelled."""
    run = Driven(finally_of(Z=task())).start().succeed("A").fold(CancelRequested(force=True))
    assert (run["Z"].stop, run.status) == (True, "Cancelling")
    assert run.stop("Z").status == "Cancelled"


def test_a_forced_cancel_lets_finally_never_begin() -> None:
    """Before the level has begun, a forced cancel keeps it from beginning."""
    run = Driven(finally_of(Z=task())).start().fold(CancelRequested(force=True)).stop("A")
    assert (run["Z"].status, run.status) == ("Skipped", "Cancelled")


def test_finally_has_a_timeout_of_its_own() -> None:
    """By default an hour; then the level is stopped, and a completing run fails."""
    run = Driven(finally_of(Z=task())).start().succeed("A")
    run.fold(RunTimeoutDue(), after_s=3600)
    assert (run["Z"].stop, run.status) == (True, "Failing")
    assert run.stop("Z").status == "Failed"


def retried(**keys: Any) -> dict[str, Any]:
    fan = parallel(chain("X", "Y"), chain("Z"), next="End", **keys)
    return {"start": "Fan", "steps": {"Fan": fan, "End": task()}}


AGAIN = {"max_attempts": 2, "initial_delay": 5, "jitter": 0}


def test_a_parallel_is_tried_again_with_new_entries() -> None:
    """The entries of the first try stay as they ended; the second one has entries of its own, and every step again."""
    run = Driven(retried(retry=AGAIN)).start().succeed("X").fail("Y")
    assert run["Fan"].stop
    assert (run["Fan"].status, run["Z"].stop) == ("Running", True)
    run.stop("Z")
    assert (run["Fan"].status, run["Fan"].due_at) == ("Retrying", BEGIN + timedelta(seconds=5))
    run.fold(TimerDue("Fan"), after_s=5)
    assert run.statuses == "Fan:R X:C Y:F Z:X End:N Fan#2.X:S Fan#2.Y:N Fan#2.Z:S"
    run.succeed("Fan#2.X").succeed("Fan#2.Y").succeed("Fan#2.Z")
    assert (run["Fan"].status, run["End"].status) == ("Completed", "Starting")


def test_the_size_check_of_a_start_counts_all_tries() -> None:
    """A run whose Parallels take all of their tries has the entries that the check counted, and no more bytes."""
    bad = {"start": "Bad", "steps": {"Bad": {"type": "Fail", "error": "Bad"}}}
    inner = chain(In=parallel(bad, retry={"max_attempts": 4, "initial_delay": 0}))
    definition = chain(Fan=parallel(inner, retry={"max_attempts": 30, "initial_delay": 0}))
    run, most = Driven(definition).start(), blank_entries(dag_of(definition))
    assert (run.status, len(run.run.nodes)) == ("Failed", most.entries_max)
    assert run.run.size <= most.size_max


def test_the_size_check_of_a_start_counts_the_tries_of_each_policy() -> None:
    """Each of several policies lets its own tries follow the first one."""
    policies = [{"on": ["ValueError"], "max_attempts": 3, "initial_delay": 0}, {"max_attempts": 2, "initial_delay": 0}]
    definition = chain(Fan=parallel(chain(A=task()), retry=policies))
    run = Driven(definition).start().fail("A").fail("Fan#2.A").fail("Fan#3.A", RESET).fail("Fan#4.A", RESET)
    assert (run.status, len(run.run.nodes)) == ("Failed", blank_entries(dag_of(definition)).entries_max)


def test_a_parallel_whose_tries_could_fill_the_document_is_refused() -> None:
    """The message tells that the tries are the cause, and the key to change; the deepest nesting is refused as well."""

    def tried(depth: int) -> dict[str, Any]:
        inside = chain(Step=task()) if depth == 1 else tried(depth - 1)
        return chain(**{f"P{depth}": parallel(inside, retry={"max_attempts": 100})})

    Driven(tried(1))
    with pytest.raises(RunTooLargeError, match=r"4 nodes, which all tries .* 1,010,101 entries.* lower `max_attempts`"):
        Driven(tried(3))
    with pytest.raises(RunTooLargeError, match="could grow to"):
        Driven(tried(20))


def test_the_ways_to_a_step_are_counted_anew_in_a_further_try() -> None:
    """A join and a graph inside a further try count in the fold that begins the try, as in every later one."""
    ways = {
        "start": "C",
        "steps": {"C": choice(("true", "P"), default="Q"), "P": task("J"), "Q": task("J"), "J": task()},
    }
    graph = {"steps": {"V": {"type": "Pass"}, "W": {key: value for key, value in task().items() if key != "end"}}}
    fan = parallel(ways, graph, retry={**AGAIN, "initial_delay": 0})
    run = Driven({"start": "Fan", "steps": {"Fan": fan}}).start().fail("P").stop("W")
    assert "Fan#2.C:C Fan#2.P:S Fan#2.Q:K Fan#2.J:N Fan#2.V:C Fan#2.W:S" in run.statuses
    run.succeed("Fan#2.P").succeed("Fan#2.J").succeed("Fan#2.W")
    assert run.status == "Completed"


def test_a_parallel_fails_after_its_last_try() -> None:
    """Each try counts; the failure of the last one is that of the node."""
    run = Driven(retried(retry=AGAIN)).start().fail("X").stop("Z").fold(TimerDue("Fan"), after_s=5)
    run.fail("Fan#2.Z").stop("Fan#2.X")
    assert run["Fan"].error is not None
    assert (run.status, run["Fan"].attempt, run["Fan"].error.cause) == ("Failed", 2, "Fan#2.Z")


def test_a_handler_of_a_parallel_begins_when_no_execution_inside_is_live() -> None:
    """The types of the failure at the root are among those that `on` covers."""
    level = retried(catch=[{"on": ["ArithmeticError"], "next": "End"}])
    run = Driven(level).start().fail("X")
    assert (run["Fan"].status, run["Fan"].stop, run["End"].status) == ("Running", True, "New")
    run.stop("Z")
    assert (run["Fan"].status, run["Fan"].caught, run["End"].status) == ("Failed", True, "Starting")


def test_a_parallel_has_a_timeout() -> None:
    """The branches are stopped, and the node fails with `Timeout`, which may be caught."""
    run = Driven(retried(timeout=30, catch=[{"on": ["Timeout"], "result": 7}])).start()
    run.fold(TimerDue("Fan"), after_s=29)
    assert run.changes.is_empty
    run.fold(TimerDue("Fan"), after_s=1).stop("X").stop("Z")
    assert (run["Fan"].caught, run["End"].status, run.result("Fan")) == (True, "Starting", 7)


def test_a_cancel_of_a_run_ends_a_parallel_that_would_be_tried_again() -> None:
    """Neither a try nor a handler follows a cancel."""
    run = Driven(retried(retry=AGAIN)).start().fail("X").fold(CancelRequested())
    assert run["Fan"].status == "Cancelled"
    assert run.stop("Z").status == "Cancelled"


def test_a_lost_task_may_be_caught() -> None:
    """`Lost` is a type like any other."""
    steps = {"A": task("B", on_lost="fail", catch=[{"on": ["Lost"], "next": "H"}]), "B": task(), "H": task()}
    run = Driven({"start": "A", "steps": steps}).start()
    run.fold(TaskLost("A", 1, "gone"))
    assert run.statuses == "A:F B:K H:S"


def test_a_fold_puts_off_the_turns_of_nodes_after_very_many_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes that are left stay new with a due time, and begin with the timer; a cancel skips them."""
    monkeypatch.setattr("aiorch.core.draft.EVALUATIONS_MAX", 2)
    fan = parallel(*(chain(**{f"S{number}": task(when="true")}) for number in range(4)))
    run = Driven({"start": "Fan", "steps": {"Fan": fan}}).start()
    assert run.statuses == "Fan:R S0:S S1:S S2:N S3:N"
    assert (run["S2"].due_at, run["S3"].due_at) == (BEGIN, BEGIN)
    assert run.fold(TimerDue("S2")).statuses == "Fan:R S0:S S1:S S2:S S3:N"
    assert run.fold(CancelRequested()).statuses == "Fan:X S0:S S1:S S2:S S3:K"
    assert run["S3"].due_at is None


def test_a_fold_costs_the_same_in_a_level_of_any_size() -> None:
    """A step that ends looks at its own followers, and at no other entry."""

    class Watched(dict[str, NodeState]):
        looked = 0

        def __getitem__(self, name: str) -> NodeState:
            Watched.looked += 1
            return super().__getitem__(name)

    counts = []
    for size in (20, 2000):
        steps = {f"S{n}": task(f"S{n + 1}" if n < size else None, catch=[{"next": "H"}]) for n in range(size + 1)}
        run = Driven({"start": "S0", "steps": {**steps, "H": task()}}).start().succeed("S0")
        run.run.nodes = Watched(run.run.nodes)
        Watched.looked = 0
        fold(run.dag, run.run, [TaskSucceeded("S1", 1)], now=run.now, process=ME)
        counts.append(Watched.looked)
    assert counts[0] == counts[1] < 20


# -- events that come late, twice or together --------------------------------------------------------------------------


def test_a_timer_of_an_entry_that_waits_for_no_time_changes_nothing() -> None:
    """A step that has not begun does not begin by a timer, whether the way to it is open or lost."""
    run = Driven(ORDER).start().fold(TimerDue("Ship"), TimerDue("Big"), after_s=60)
    assert run.changes.is_empty
    assert run.statuses == "Load:S Size:N Nothing:N Big:N Small:N Ship:N"


def test_the_timer_of_a_wait_after_a_cancel_changes_nothing() -> None:
    """A task keeps the cancelled run open, and the time of the cancelled wait comes meanwhile."""
    fan = parallel(chain(Pause={"type": "Wait", "seconds": 60}), chain("X"), next="End")
    run = Driven({"start": "Fan", "steps": {"Fan": fan, "End": task()}}).start().fold(CancelRequested())
    run.fold(TimerDue("Pause"), after_s=60)
    assert (run.changes.is_empty, run.statuses) == (True, "Fan:X Pause:X X:S End:K")
    assert run.stop("X").status == "Cancelled"


def test_events_of_an_earlier_try_change_nothing() -> None:
    """A late success, a repeated failure, a repeated stop and the timer of the pause come once the second try runs."""
    run = Driven(retried(retry=AGAIN)).start().succeed("X").fail("Y").stop("Z").fold(TimerDue("Fan"), after_s=5)
    before = run.statuses
    late = [TaskSucceeded("Z", 1), TaskFailed("Y", 1, BAD), TaskStopped("Z", 1), TaskSucceeded("X", 1), TimerDue("Fan")]
    run.fold(*late)
    assert (run.changes.is_empty, run.statuses) == (True, before)


def test_the_end_of_a_time_counts_in_no_pause_between_tries() -> None:
    """The timeout of the failed try fires in the pause: the next try begins when it is due, with its own timeout."""
    again = {**AGAIN, "initial_delay": 60}
    run = Driven(retried(retry=again, timeout=30)).start().fail("X").stop("Z")
    run.fold(TimerDue("Fan"), after_s=30)
    assert (run.changes.is_empty, run["Fan"].status) == (True, "Retrying")
    run.fold(TimerDue("Fan"), after_s=30)
    assert (run["Fan"].attempt, run["Fan"].due_at) == (2, BEGIN + timedelta(seconds=90))


def test_a_run_that_completes_as_its_time_ends_runs_finally_as_completed() -> None:
    """The last task ends in the batch of the timeout: the outcome counts, and the time is that of `finally` now."""
    run = Driven({**finally_of(Z=task()), "timeout": 60}).start()
    run.fold(RunTimeoutDue(), TaskSucceeded("A", 1), after_s=60)
    assert (run.statuses, run.status) == ("A:C Z:S", "Running")
    assert run.succeed("Z").status == "Completed"


def test_a_forced_cancel_of_a_failing_run_lets_finally_never_begin() -> None:
    """The run fails, as decided before the cancel, when the task beside the failed one has stopped."""
    steps = {"A": task(), "B": task()}
    level = {"steps": {name: {key: step[key] for key in step if key != "end"} for name, step in steps.items()}}
    run = Driven({**level, "finally": chain("Z")}).start().fail("A").fold(CancelRequested(force=True))
    assert (run["B"].stop, run.status) == (True, "Failing")
    assert (run.stop("B").status, run["Z"].status, run["Z"].attempt) == ("Failed", "Skipped", 0)


def test_a_parallel_that_is_stopped_in_the_fold_of_its_first_failure_is_cancelled() -> None:
    """Its step has failed, so the node has begun: it is not skipped around a failure."""
    inner = parallel({"start": "Bad", "steps": {"Bad": {"type": "Fail", "error": "Wrong"}}}, retry=AGAIN)
    outer = parallel(chain(In=inner), {"start": "Worse", "steps": {"Worse": {"type": "Fail", "error": "Worse"}}})
    run = Driven({"start": "Out", "steps": {"Out": outer}}).start()
    assert (run.statuses, run.status) == ("Out:F In:X Bad:F Worse:F", "Failed")


def test_the_values_of_one_fold_share_the_room_of_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that would together pass the limit of a document leave the fold as objects, each small by itself."""
    steps = {f"P{number}": {"type": "Pass", "result": "${ input.text + '.' }"} for number in range(4)}
    run = Driven({"steps": steps}, {"text": "x" * 500})
    run.run.size = len(run.run.encode(run.run.header, {})[0])
    monkeypatch.setattr("aiorch.core.draft.INLINE_DOCUMENT_BYTES_MAX", run.run.size + 1200)
    run.start()
    assert [run[f"P{number}"].result_in is None for number in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("until", ["2027-01-01T00:00:00-00:00:30", "9999-12-31T23:59:59-23:59"])
def test_a_wait_keeps_the_very_time_in_its_document(until: str) -> None:
    """The seconds of an offset count, and a time that UTC cannot tell is refused."""
    steps = {"A": {"type": "Wait", "until": "${ input.until }", "end": True}}
    run = Driven({"start": "A", "steps": steps}, {"until": until}).start()
    if until.startswith("9999"):
        assert run["A"].error is not None
        assert (run["A"].error.type, run.status) == ("ExpressionError", "Failed")
    else:
        assert run["A"].due_at == datetime(2027, 1, 1, 0, 0, 30, tzinfo=UTC)


def test_a_takeover_does_not_depend_on_the_order_in_which_tasks_began() -> None:
    """One of two tasks of a dead process is lost and fails the run: the other is decided by the document alone."""
    steps = {"A": task(on_lost="fail"), "B": task()}
    for step in steps.values():
        del step["end"]
    run = Driven({"steps": steps}).start()
    heir = Process("heir", lambda _: True)
    died = [ProcessesDied(frozenset({"me"}))]
    changes = fold(run.dag, run.run, died, now=run.now, process=heir)
    run.run.active = dict(reversed(run.run.active.items()))
    assert fold(run.dag, run.run, died, now=run.now, process=heir) == changes
    assert changes.nodes["A"].status == "Failed"
