"""Resume: the entries that a run takes over, and the fold of the run that begins with them."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from aiorch.core.begin import new_run
from aiorch.core.resume import kept_by_resume
from aiorch.core.run_events import CancelRequested, TimerDue
from aiorch.definition.changes import kept_by_resume_with
from aiorch.errors import DefinitionChangedError, RunStateError, StepNotResumableError
from aiorch.model.failure import Failure
from aiorch.model.run import execution_key
from aiorch.model.run_document import NodeState
from aiorch.model.scopes import first_try
from aiorch.model.status import TaskStatus
from tests.definitions import chain, parallel, task
from tests.unit.test_fold import dag_of
from tests.unit.test_levels_fold import AGAIN, BAD, GRAPH, ORDER, Driven, choice, finally_of, retried


class Resumed(Driven):
    """The run that resumes another one, begun; checked after every fold: no entry that was kept ever changes."""

    def __init__(
        self,
        old: Driven,
        from_step: str | None = None,
        *,
        definition: Mapping[str, Any] | None = None,
        input: Any = None,
    ) -> None:
        self.kept: Mapping[str, NodeState] = {}
        super().__init__(definition or msgspec.json.decode(old.dag.definition))
        if definition is None:
            self.kept = kept_by_resume(old.dag, old.run, from_step)
        else:
            self.kept = kept_by_resume_with(self.dag, old.dag, old.run, from_step)
        self.values = dict(old.values)
        encoded = old.run.header.input if input is None else msgspec.Raw(msgspec.json.encode(input))
        facts = {"run_id": "r.2", "nonce": "m", "input": encoded, "resumed_from": "r", "resumed_from_step": from_step}
        self.run = new_run(self.dag, replace(self.run.header, **facts), self.kept)
        self.start()

    def fold(self, *events: Any, **keys: Any) -> "Resumed":
        super().fold(*events, **keys)
        for name, state in self.kept.items():
            assert self[name] == state, name
        return self

    @property
    def begun(self) -> set[str]:
        """The tasks with an execution of this run."""
        return {name for name, state in self.run.nodes.items() if state.execution_id == execution_key("m", name, 1)}


def big_order() -> Driven:
    return Driven(ORDER).start().succeed("Load", {"rows": 9})


def test_a_decision_of_a_choice_is_kept() -> None:
    """The resumed run takes the way that the choice had decided for, and begins with the step that failed."""
    old = big_order().fail("Big")
    run = Resumed(old)
    assert set(run.kept) == {"Load", "Size"}
    assert run.statuses == "Load:C Size:C Nothing:K Big:S Small:K Ship:N"
    assert run.succeed("Big").succeed("Ship").status == "Completed"
    assert run.begun == {"Big", "Ship"}


def test_a_step_behind_a_join_runs_although_the_ways_to_it_are_kept_or_skipped() -> None:
    """The kept step before a join still leads to it, after the way beside it was skipped."""
    run = Resumed(big_order().succeed("Big").fail("Ship"))
    assert set(run.kept) == {"Load", "Size", "Big"}
    assert run.statuses == "Load:C Size:C Nothing:K Big:C Small:K Ship:S"
    assert run.succeed("Ship").status == "Completed"


def test_a_step_that_its_own_condition_skipped_stays_skipped() -> None:
    """The condition is not evaluated again, whatever it would say now."""
    steps = {"A": task("B", when="run.resumed_from != null"), "B": task()}
    run = Resumed(Driven({"start": "A", "steps": steps}).start().fail("B"))
    assert run.statuses == "A:K B:S"
    assert run["A"].skipped == "when"


def test_a_caught_failure_and_the_way_to_its_handler_are_kept() -> None:
    """The handler that failed runs again and still reads the error; the step that was caught does not run again."""
    steps = {
        "A": task("B", catch=[{"next": "H"}]),
        "B": task(),
        "H": task("P"),
        "P": {"type": "Pass", "result": "${ errors.A.type }", "end": True},
    }
    run = Resumed(Driven({"start": "A", "steps": steps}).start().fail("A").fail("H"))
    assert set(run.kept) == {"A"}
    assert run.statuses == "A:F B:K H:S P:N"
    assert run.succeed("H").status == "Completed"
    assert run.result("P") == "ValueError"


def test_the_value_of_a_caught_failure_is_kept() -> None:
    """In a graph, too, a step that needs the caught one begins at once, and reads the value."""
    steps = {name: dict(step) for name, step in GRAPH["steps"].items()}
    steps["A"]["catch"] = [{"result": 7}]
    steps["C"] = {"type": "Pass", "result": "${ results.A }", "needs": ["A"]}
    run = Resumed(Driven({"steps": steps}).start().fail("A").fail("B"))
    assert set(run.kept) == {"A", "C"}
    assert run.statuses == "A:F B:S C:C D:N E:N"
    assert run.result("C") == 7
    assert run.succeed("B").succeed("D").succeed("E").status == "Completed"


def test_a_partly_done_graph_goes_on() -> None:
    """Steps begin whose needs are all kept; those that were cancelled or skipped run."""
    run = Resumed(Driven(GRAPH).start().succeed("A").fail("C").stop("B"))
    assert run.statuses == "A:C B:S C:S D:N E:N"
    assert run.succeed("B").succeed("C").succeed("D").succeed("E").status == "Completed"
    assert run.begun == {"B", "C", "D", "E"}


def test_completed_branches_of_a_parallel_are_kept() -> None:
    """The other branches go on where they stood, and the value of the whole is the same as without a failure."""
    fan = parallel(chain("X", "Y"), ORDER, chain("Z"), on_failure="wait", next="End")
    steps = {"Fan": fan, "End": {"type": "Pass", "result": "${ results.Fan }", "end": True}}
    old = Driven({"start": "Fan", "steps": steps}).start()
    old.succeed("Load", {"rows": 0}).succeed("X", 1).fail("Y").succeed("Z", 3)
    run = Resumed(old)
    assert set(run.kept) == {"X", "Load", "Size", "Nothing", "Z"}
    assert (run["Fan"].status, run["Ship"].status, run["Y"].status) == ("Running", "Skipped", "Starting")
    assert run.succeed("Y", 2).status == "Completed"
    assert run.result("End") == [2, {"sent": 0}, 3]


def test_all_of_a_kept_parallel_stays_as_it_ended() -> None:
    """No step inside stays new: those beside the way that was taken stay skipped, those that were stopped cancelled."""
    fan = parallel(ORDER, chain("Z"), catch=[{"next": "H"}], next="End")
    old = Driven({"start": "Fan", "steps": {"Fan": fan, "End": task(), "H": task()}}).start()
    old.succeed("Load", {"rows": 9}).fail("Big").stop("Z").fail("H")
    run = Resumed(old)
    assert run.statuses == "Fan:F Load:C Size:C Nothing:K Big:F Small:K Ship:K Z:X End:K H:S"
    assert run.succeed("H").status == "Completed"
    assert run.begun == {"H"}


def tried_twice() -> Driven:
    run = Driven(retried(retry=AGAIN)).start().fail("X").stop("Z").fold(TimerDue("Fan"), after_s=5)
    return run.succeed("Fan#2.X", 2)


def test_the_last_try_of_a_parallel_is_kept_under_the_plain_names() -> None:
    """A branch that completed in the last try does not run again; the tries count from 1 again."""
    old = tried_twice().succeed("Fan#2.Z", "z").fail("Fan#2.Y")
    assert old.status == "Failed"
    run = Resumed(old)
    assert {name: (state.node_name, state.attempt) for name, state in run.kept.items()} == {
        "X": ("X", 1),
        "Z": ("Z", 1),
    }
    assert run.statuses == "Fan:R X:C Y:S Z:C End:N"
    run.fail("Y").fold(TimerDue("Fan"), after_s=5)
    assert run["Fan#2.X"].status == "Starting", "a further try runs every step inside again"


def test_a_completed_parallel_of_several_tries_is_kept_as_one_of_one_try() -> None:
    """The value is that of the last try, and no entry of another try is left."""
    end = {"type": "Pass", "result": "${ results.Fan + [results.X] }", "next": "Last"}
    level = retried(retry=AGAIN)
    level["steps"] |= {"End": end, "Last": task()}
    old = Driven(level).start().fail("X").stop("Z").fold(TimerDue("Fan"), after_s=5)
    old.succeed("Fan#2.X", 2).succeed("Fan#2.Y", "y").succeed("Fan#2.Z", "z").fail("Last")
    run = Resumed(old, "End")
    assert set(run.run.nodes) == {"Fan", "X", "Y", "Z", "End", "Last"}
    assert (run["Fan"].status, run["Fan"].attempt) == ("Completed", 1)
    assert run.result("End") == ["y", "z", 2]


def test_the_last_try_inside_of_the_last_try_is_kept() -> None:
    """Tries may nest: the plain names are those without any try."""
    inner = parallel(chain("X"), retry=AGAIN, next="B")
    outer = parallel({"start": "In", "steps": {"In": inner, "B": task()}}, retry=AGAIN)
    run = Driven({"start": "Out", "steps": {"Out": outer}}).start().succeed("X").fail("B")
    run.fold(TimerDue("Out"), after_s=5).fail("Out#2.X").fold(TimerDue("Out#2.In"), after_s=5)
    run.succeed("Out#2.In#2.X", "last").fail("Out#2.B")
    again = Resumed(run)
    assert {name: state.attempt for name, state in again.kept.items()} == {"In": 1, "X": 1}
    assert again.result("X") == "last"
    assert again.succeed("B").status == "Completed"


@pytest.mark.parametrize(
    ("entry", "first"),
    [
        ("A", "A"),
        ("Fan#2.A", "A"),
        ("Out#2.In#3.A", "A"),
        ("M[3].A", "M[3].A"),
        ("M[3].Fan#2.A", "M[3].A"),
        ("Out#2.M[3].A", "M[3].A"),
        ("Out#2.M[3].In[1].Fan#2.A", "M[3].In[1].A"),
    ],
)
def test_the_name_in_the_first_try(entry: str, first: str) -> None:
    """Tries leave the name, indexes stay."""
    assert first_try(entry) == first


@pytest.mark.parametrize(
    "end",
    [
        lambda run: run.fail("Z"),
        lambda run: run.fold(CancelRequested(force=True)).stop("Z"),
    ],
)
def test_a_run_whose_finally_failed_or_was_stopped_runs_only_finally_again(end: Callable[[Driven], Any]) -> None:
    """All main steps are kept, also the output is the same; no entry of `finally` is kept."""
    level = {**finally_of(Y=task(), Z=task()), "output": "${ results.A }"}
    old = Driven(level).start().succeed("A", 1).succeed("Y")
    end(old)
    assert old.status in {"Failed", "Cancelled"}
    run = Resumed(old)
    assert (run.statuses, run.status) == ("A:C Y:S Z:N", "Running")
    assert msgspec.json.decode(run.run.header.output) == 1
    assert run.succeed("Y").succeed("Z").status == "Completed"


def test_a_failed_run_that_was_cancelled_during_finally_goes_on_at_the_failed_step() -> None:
    """Then `finally` runs again, and reads the new outcome."""
    level = finally_of(Z={"type": "Pass", "result": "${ run.outcome }"}, Y=task())
    old = Driven(level).start().fail("A").fold(CancelRequested(force=True)).stop("Y")
    run = Resumed(old)
    assert (run.kept, run["A"].status) == ({}, "Starting")
    assert run.succeed("A").succeed("Y").status == "Completed"
    assert run.result("Z") == "Completed"


# -- from a step -------------------------------------------------------------------------------------------------


def test_a_completed_run_runs_anew_from_a_step() -> None:
    """The step and its followers run, decisions among them; the results before it are kept."""
    old = big_order().succeed("Big").succeed("Ship")
    run = Resumed(old, "Big")
    assert set(run.kept) == {"Load", "Size"}
    assert run.succeed("Big").succeed("Ship").status == "Completed"
    assert Resumed(old, "Ship").begun == {"Ship"}


def test_a_choice_decides_again_when_it_runs_anew() -> None:
    """With a new input, the run may take the other way."""
    level = {
        "start": "A",
        "steps": {"A": task("B"), "B": choice(("input.x > 1", "C"), default="D"), "C": task(), "D": task()},
    }
    old = Driven(level, {"x": 2}).start().succeed("A").succeed("C")
    run = Resumed(old, "B", input={"x": 1})
    assert run.statuses == "A:C B:C C:K D:S"
    assert Resumed(old, "B").statuses == "A:C B:C C:S D:K"


def test_steps_beside_the_step_are_kept() -> None:
    """The containers around the step begin anew, and their followers; finished branches beside it stay."""
    inner = parallel(chain("P", "Q"), chain("R"), next="S")
    fan = parallel({"start": "In", "steps": {"In": inner, "S": task()}}, chain("Z"), next="End")
    old = Driven({"start": "Fan", "steps": {"Fan": fan, "End": task()}}).start()
    for name in ("P", "Q", "R", "S", "Z", "End"):
        old.succeed(name)
    run = Resumed(old, "Q")
    assert set(run.kept) == {"P", "R", "Z"}
    assert run.begun == {"Q"}
    run.succeed("Q").succeed("S").succeed("End")
    assert (run.status, run.begun) == ("Completed", {"Q", "S", "End"})


def test_a_step_of_a_graph_runs_anew_with_all_that_needs_it() -> None:
    """Steps without a way from it keep their results."""
    old = Driven(GRAPH).start()
    for name in "ABCDE":
        old.succeed(name)
    run = Resumed(old, "B")
    assert set(run.kept) == {"A", "C"}
    assert run.statuses == "A:C B:S C:C D:N E:N"


def test_a_failed_run_runs_anew_from_an_earlier_step() -> None:
    """The step that was caught, and its handlers, run anew."""
    steps = {"A": task("B"), "B": task("C", catch=[{"next": "H"}]), "C": task(), "H": task()}
    run = Resumed(Driven({"start": "A", "steps": steps}).start().succeed("A").fail("B").fail("H"), "B")
    assert run.statuses == "A:C B:S C:N H:N"


def test_the_container_around_the_step_may_have_been_caught() -> None:
    """It begins anew with the step; no handler of the old failure follows."""
    fan = parallel(chain("X", "Y"), chain("Z"), catch=[{"next": "H"}], next="End")
    old = Driven({"start": "Fan", "steps": {"Fan": fan, "End": task(), "H": task()}}).start()
    old.succeed("X").fail("Y").stop("Z").succeed("H")
    run = Resumed(old, "Y")
    assert set(run.kept) == {"X"}
    assert run.statuses == "Fan:R X:C Y:S Z:S End:N H:N"


def test_a_condition_that_now_skips_the_container_leaves_kept_results_alone() -> None:
    """A step inside that was kept stays completed, and the rest is skipped."""
    fan = parallel(chain("X", "Y"), chain("Z"), when="input.on", next="End")
    old = Driven({"start": "Fan", "steps": {"Fan": fan, "End": task()}}, {"on": True}).start()
    run = Resumed(old.succeed("X").succeed("Y").succeed("Z").succeed("End"), "Y", input={"on": False})
    assert run.statuses == "Fan:K X:C Y:K Z:C End:S"


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("Sise", r"no step 'Sise' \(did you mean 'Size'\?\).*begin with: 'Load', 'Size', 'Big', 'Ship'\."),
        ("Small", "step 'Small' was not reached"),
    ],
)
def test_a_step_that_was_not_reached_is_refused(step: str, why: str) -> None:
    """The refusal says why, and which steps may be named."""
    with pytest.raises(StepNotResumableError, match=why) as refusal:
        Resumed(big_order().succeed("Big").succeed("Ship"), step)
    assert set(refusal.value.possible) == {"Load", "Size", "Big", "Ship"}


def test_a_step_of_finally_or_of_a_repeated_scope_is_refused() -> None:
    """Each run runs `finally` as a whole, and a `Parallel` that is tried again its branches."""
    level = {**retried(retry=AGAIN), "finally": chain(Z2=task())}
    old = Driven(level).start().succeed("X").succeed("Y").succeed("Z").succeed("End").succeed("Z2")
    for step, why in (("Z2", "part of `finally`"), ("X", "inside of 'Fan'")):
        with pytest.raises(StepNotResumableError, match=why) as refusal:
            Resumed(old, step)
        assert refusal.value.possible == ("Fan", "End")
    assert Resumed(old, "Fan").begun == {"X", "Z"}


def test_an_open_run_is_refused() -> None:
    """Also with a step; a completed one only without."""
    with pytest.raises(RunStateError, match="is Running"):
        Resumed(big_order(), "Load")
    with pytest.raises(RunStateError, match=r"is Completed.*--from STEP"):
        Resumed(big_order().succeed("Big").succeed("Ship"))


# -- with a new definition ---------------------------------------------------------------------------------------


def changed(definition: Mapping[str, Any], **steps: Any) -> dict[str, Any]:
    """The definition with changed or added keys of steps; `None` removes a step."""
    new = {name: dict(step) for name, step in definition["steps"].items()}
    for name, keys in steps.items():
        if keys is None:
            del new[name]
        else:
            new[name] = {key: value for key, value in (new.get(name, {}) | keys).items() if value is not ...}
    return {**definition, "steps": new}


def test_steps_that_run_anew_may_change() -> None:
    """The failed step and those after it may change, a step may come between, and comments are free everywhere."""
    new = changed(
        ORDER,
        Load={"comment": "read"},
        Big={"target_name": "t:better", "next": "Check"},
        Check=task("Ship"),
        Ship={"retry": {"max_attempts": 3}},
    )
    run = Resumed(big_order().fail("Big"), definition=new)
    assert run.succeed("Big").succeed("Check").succeed("Ship").status == "Completed"


def test_a_step_may_be_put_behind_the_last_kept_one() -> None:
    """The way of a kept step is free where the run did not go on; its entry names the new one."""
    new = changed(ORDER, Big={"next": "Check"}, Check=task("Ship"))
    run = Resumed(big_order().succeed("Big").fail("Ship"), definition=new)
    assert (run["Big"].next, run["Check"].status) == ("Check", "Starting")
    assert run.succeed("Check").succeed("Ship").status == "Completed"


@pytest.mark.parametrize(
    ("new", "differences"),
    [
        (
            changed(ORDER, Load={"target_name": "t:other", "timeout": 5}),
            {("Load", "target_name", '"t:work"', '"t:other"'), ("Load", "timeout", "none", "5")},
        ),
        (
            changed(ORDER, Size={"default": "Big"}, Small=None),
            {("Size", "default", '"Small"', '"Big"')},
        ),
        (
            {
                "start": "Read",
                "steps": {"Read": task("Nothing"), "Nothing": {"type": "Pass", "result": 1, "end": True}},
            },
            {("Load", "step"), ("Size", "step")},
        ),
        (
            changed(ORDER, Load={"next": "Between"}, Between=task("Size")),
            {("Load", "next", '"Size"', '"Between"')},
        ),
        (
            {**changed(ORDER, First=task("Load")), "start": "First"},
            {("", "start", '"Load"', '"First"')},
        ),
    ],
)
def test_every_change_of_a_kept_step_is_named(new: dict[str, Any], differences: set[tuple[str, ...]]) -> None:
    """Step, key, old and new value of each difference, and no run is begun."""
    old = big_order().fail("Big")
    with pytest.raises(DefinitionChangedError) as refusal:
        kept_by_resume_with(dag_of(new), old.dag, old.run)
    found = {each[: len(next(iter(differences)))] for each in refusal.value.differences}
    assert found == differences
    assert all(repr(each.key) in str(refusal.value) for each in refusal.value.differences)


FAN = {"start": "Fan", "steps": {"Fan": parallel(chain("X", "Y"), chain("Z"), next="End"), "End": task()}}


def fan(*branches: dict[str, Any]) -> dict[str, Any]:
    return changed(FAN, Fan={"branches": list(branches)})


@pytest.mark.parametrize(
    ("new", "difference"),
    [
        (fan(chain("Z"), chain("X", "Y")), ("Z", "place", "steps.Fan.branches[1]", "steps.Fan.branches[0]")),
        (fan(chain("X", "Y"), chain("Z", "More")), ("More", "step")),
        (fan(chain("X"), chain("Z")), ("Y", "step")),
    ],
)
def test_the_inside_of_a_kept_container_must_be_the_same(new: dict[str, Any], difference: tuple[str, ...]) -> None:
    """Steps that were moved, added or removed there are differences: an added one would never run."""
    old = Driven(FAN).start().succeed("X").succeed("Y").succeed("Z").fail("End")
    with pytest.raises(DefinitionChangedError) as refusal:
        kept_by_resume_with(dag_of(new), old.dag, old.run)
    assert difference in {each[: len(difference)] for each in refusal.value.differences}


def test_a_container_that_runs_anew_may_change() -> None:
    """Finished steps inside are kept, and a step that is put behind them runs."""
    old = Driven(FAN).start().succeed("Z").fail("X")
    new = changed(fan(chain("X", "Y"), chain("Z", "More")), Fan={"timeout": 60})
    run = Resumed(old, definition=new)
    assert set(run.kept) == {"Z"}
    assert run.begun == {"X", "More"}


def test_a_step_from_which_the_run_begins_anew_may_change() -> None:
    """Together with a step, a completed run goes on with a new definition, also one that replaces the step."""
    old = big_order().succeed("Big").succeed("Ship")
    new = changed(ORDER, Ship=None, Send=task(), Big={"next": "Send"}, Small={"next": "Send"})
    run = Resumed(old, "Ship", definition=new)
    assert (run["Big"].status, run["Send"].status) == (TaskStatus.COMPLETED, TaskStatus.STARTING)
    assert run.succeed("Send").status == "Completed"


def test_needs_of_a_kept_step_must_be_the_same() -> None:
    """In a graph, a kept step ran after those that it needs."""
    old = Driven(GRAPH).start().succeed("A").succeed("C").fail("B")
    with pytest.raises(DefinitionChangedError) as refusal:
        kept_by_resume_with(dag_of(changed(GRAPH, C={"needs": ["A", "B"]})), old.dag, old.run)
    assert refusal.value.differences == (("C", "needs", '["A"]', '["A","B"]'),)


def test_runs_of_version_1_keep_exactly_the_completed_entries() -> None:
    """The entries are the very same, so that the document is that of earlier versions."""
    old = Driven(chain(A=task(), P=parallel(chain("X"), chain("Y")), B=task())).start()
    old.succeed("A").succeed("X", "x").fold(CancelRequested()).fail("Y", Failure.of("E", ""))
    kept = kept_by_resume(old.dag, old.run)
    assert kept == {name: state for name, state in old.run.nodes.items() if state.status is TaskStatus.COMPLETED}
    assert all(kept[name] is old[name] for name in ("A", "X"))
    assert BAD.type not in str(kept)


def test_a_kept_branch_of_the_first_try_does_not_end_in_the_second() -> None:
    """The first try of a resumed run fails in the fold that begins it: its kept branch counts for no later try."""
    ways = {"Ask": choice(("false", "B"), default="A"), "A": task(), "B": task()}
    fan = parallel(
        {"start": "T", "steps": {"T": task("Bad"), "Bad": {"type": "Fail", "error": "Wrong"}}},
        {"start": "Ask", "steps": ways},
        retry={"max_attempts": 2, "initial_delay": 0},
    )
    old = Driven({"start": "Fan", "steps": {"Fan": fan}}).start().succeed("A").succeed("T")
    old.succeed("Fan#2.A").succeed("Fan#2.T")
    assert old.status == "Failed"
    run = Resumed(old)
    assert set(run.kept) == {"T", "Ask", "A"}
    assert (run["Fan"].attempt, run.run.pending["Fan"]) == (2, 2)
    run.succeed("Fan#2.A")
    assert (run["Fan"].status, run["Fan#2.T"].status) == ("Running", "Starting")
