"""Calls whose answer may be lost: every event at every state of that, for every `on_no_result`."""

from typing import Any

import pytest

from aiorch.core.draft import Process
from aiorch.core.owed import Obligation, obligation
from aiorch.core.run_events import (
    CancelRequested,
    ProcessesDied,
    RunEvent,
    RunStarted,
    TaskFailed,
    TaskLost,
    TaskRunning,
    TaskUnanswered,
)
from aiorch.model.failure import Failure
from aiorch.model.run_document import NodeState
from tests.definitions import call, chain
from tests.unit.test_fold import Scene, dag_of

ME = Process("me", lambda _: True, awaits_events=True)
HEIR = Process("heir", lambda _: True, awaits_events=True)
UNABLE = Process("heir", lambda _: False, awaits_events=True)
TIMED_OUT = Failure.of("Timeout", "too long")

LOSS = TaskRunning("A", 1, launch=1, answer_lost=True)
SUCCESS = TaskUnanswered("A", 1, "e1")

STATES: dict[str, tuple[RunEvent, ...]] = {
    "calling": (),
    "lost": (LOSS,),
    "refused before": (TaskRunning("A", 1, launch=1, answer_lost=True, was_refused=True),),
    "told": (SUCCESS,),
    "again": (LOSS, SUCCESS),
}
EVENTS: dict[str, tuple[RunEvent, Process]] = {
    "loss": (LOSS, ME),
    "success": (TaskUnanswered("A", 1, "e2"), ME),
    "success, elsewhere": (TaskUnanswered("A", 1, "e2"), HEIR),
    "success, where nothing can be launched": (TaskUnanswered("A", 1, "e2"), UNABLE),
    "same success": (SUCCESS, ME),
    "never ran": (TaskUnanswered("A", 1, "e3", ran=False), ME),
    "never ran, where nothing can be launched": (TaskUnanswered("A", 1, "e3", ran=False), UNABLE),
    "timeout": (TaskFailed("A", 1, TIMED_OUT, is_given_up=True, launch=1), ME),
    "lost": (TaskLost("A", 1, "no event", 1), ME),
    "owner died": (ProcessesDied(frozenset({"me"})), HEIR),
    "cancel": (CancelRequested(), ME),
}
AGAIN, LOST, TOLD, CALLING = "call by me, launch 2", "await by me, lost", "await by me, told", "await by me"

# What becomes of A with `call_again`; what is not here changes nothing.
TABLE: dict[str, dict[str, str]] = {
    "calling": {
        "loss": LOST,
        "success": TOLD,
        "success, elsewhere": TOLD,
        "success, where nothing can be launched": TOLD,
        "same success": TOLD,
        "timeout": "Failed Timeout",
        "lost": "call by me, attempt 2",
        "owner died": "await by heir, lost",
        "cancel": "stop by me",
    },
    "lost": {
        "success": AGAIN,
        "success, elsewhere": "call by heir, launch 2",
        "success, where nothing can be launched": "await by me, told, lost",
        "same success": AGAIN,
        "never ran": AGAIN,
        "never ran, where nothing can be launched": "await by me, never ran, lost",
        "timeout": "Failed Timeout",
        "lost": "call by me, attempt 2",
        "owner died": "await by heir, lost",
        "cancel": "stop by me, lost",
    },
    "told": {
        "loss": AGAIN,
        "timeout": AGAIN,
        "lost": AGAIN,
        "owner died": "call by heir, launch 2",
        "cancel": "stop by me, told",
    },
    "again": {
        "success": AGAIN + ", told",
        "success, elsewhere": AGAIN + ", told",
        "success, where nothing can be launched": AGAIN + ", told",
        "owner died": "call by heir, launch 3",
        "cancel": "stop by me, launch 2",
    },
}
TABLE["refused before"] = {event: then for event, then in TABLE["lost"].items() if not event.startswith("never ran")}


def scene_of(state: str, **keys: Any) -> Scene:
    """A run whose call A was launched by "me", and met what *state* says."""
    scene = Scene(dag_of(chain(A=call(**keys))))
    scene.fold(RunStarted(), by=ME).fold(TaskRunning("A", 1, launch=1), by=ME)
    for event in STATES[state]:
        scene.fold(event, by=ME)
    return scene


def words_for(state: NodeState) -> str:
    if state.status.is_terminal:
        return f"{state.status} {state.error.type}" if state.error else str(state.status)
    owes = {Obligation.LAUNCH: "call", Obligation.AWAIT: "await", Obligation.STOP: "stop"}
    words = [f"{owes[obligation(state, state.by or '') or Obligation.RETRY]} by {state.by}"]
    words += [f"launch {state.launches}"] * (state.launches > 1) + [f"attempt {state.attempt}"] * (state.attempt > 1)
    if state.unanswered is not None:
        words += ["never ran"] * state.never_ran
        words += ["told"] * state.unanswered.has_succeeded + ["lost"] * state.unanswered.answer_lost
    return ", ".join(words)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_at_every_state(state: str, event: str) -> None:
    """The table says what follows with `call_again`; all else changes nothing."""
    scene = scene_of(state, on_no_result="call_again")
    before = words_for(scene["A"])
    what, by = EVENTS[event]
    scene.fold(what, by=by)
    assert words_for(scene["A"]) == TABLE[state].get(event, before)


@pytest.mark.parametrize("state", ["calling", "lost", "told"])
@pytest.mark.parametrize("event", ["loss", "success", "timeout", "lost", "owner died"])
def test_fail_decides_where_call_again_would_call(state: str, event: str) -> None:
    """With `fail` the task fails with NoResult exactly where `call_again` would owe one more launch."""
    what, by = EVENTS[event]
    scene = scene_of(state, on_no_result="fail").fold(what, by=by)
    calls_again = "launch" in TABLE[state].get(event, "")
    assert (words_for(scene["A"]) == "Failed NoResult") == calls_again


@pytest.mark.parametrize("state", ["calling", "lost"])
def test_accept_completes_at_once(state: str) -> None:
    """With `accept` the event of success completes the task, whatever else comes in the same batch."""
    scene = scene_of(state, on_no_result="accept")
    scene.fold(TaskFailed("A", 1, TIMED_OUT, is_given_up=True, launch=1), SUCCESS, by=ME)
    assert words_for(scene["A"]) == "Completed"
    assert "result" not in str(scene["A"].unanswered)


@pytest.mark.parametrize("rule", ["accept", "fail", "call_again"])
@pytest.mark.parametrize("event", ["decide", "lost", "timeout", "owner died"])
def test_a_call_that_never_ran_is_sent_by_the_first_process_that_can(rule: str, event: str) -> None:
    """A process that cannot launch keeps the fact that the call never ran; no rule and no loss makes it an end."""
    scene = scene_of("lost", on_no_result=rule)
    scene.fold(TaskUnanswered("A", 1, "e3", ran=False), by=UNABLE)
    what, by = EVENTS[event] if event != "decide" else (TaskUnanswered("A", 1), ME)
    scene.fold(what, by=by)
    assert words_for(scene["A"]) == f"call by {by.id}, launch 2"


def test_a_decision_about_an_earlier_attempt_changes_nothing() -> None:
    """The turn to decide is for one attempt: a late one leaves the next attempt to its own."""
    scene = scene_of("lost", on_no_result="call_again").fold(TaskLost("A", 1, "no event", 1), by=ME)
    scene.fold(TaskRunning("A", 2, launch=1, answer_lost=True), by=ME).fold(TaskUnanswered("A", 2, "e9"), by=UNABLE)
    told = words_for(scene["A"])
    assert words_for(scene.fold(TaskUnanswered("A", 1), by=ME)["A"]) == told
    assert words_for(scene.fold(TaskUnanswered("A", 2), by=ME)["A"]) == "call by me, launch 2, attempt 2"


def test_events_of_an_earlier_launch_do_not_end_a_later_one() -> None:
    """A timeout and a loss of the first launch, which were on their way, change nothing of the second."""
    scene = scene_of("again", on_no_result="call_again")
    scene.fold(TaskFailed("A", 1, TIMED_OUT, is_given_up=True, launch=1), by=ME)
    scene.fold(TaskLost("A", 1, "no event", 1), by=ME)
    scene.fold(TaskRunning("A", 1, launch=1), by=ME)
    assert words_for(scene["A"]) == AGAIN
    scene.fold(TaskRunning("A", 1, launch=2), by=ME)
    assert words_for(scene["A"]) == "await by me, launch 2"


def test_a_stop_decides_before_a_missing_result() -> None:
    """A call that is to be stopped is neither called again nor failed for its missing result."""
    for policy in ("call_again", "fail"):
        scene = scene_of("told", on_no_result=policy)
        scene.fold(CancelRequested(), by=ME)
        scene.fold(LOSS, by=ME)
        assert words_for(scene["A"]) == "stop by me, told, lost"


@pytest.mark.parametrize(
    "event", [TaskFailed("A", 1, TIMED_OUT, is_given_up=True, launch=1), TaskLost("A", 1, "no event", 1)]
)
def test_a_process_at_its_end_leaves_a_missing_result_to_the_next_one(event: RunEvent) -> None:
    """A process that launches nothing more gives up a call that succeeded: the same again does not fail the call."""
    ending = Process("me", lambda _: False, awaits_events=True)
    scene = scene_of("told", on_no_result="call_again").fold(event, by=ending)
    assert words_for(scene["A"]) == "await by me, told, lost"
    scene.fold(ProcessesDied(frozenset({"me"})), by=HEIR)
    assert words_for(scene["A"]) == "call by heir, launch 2"
