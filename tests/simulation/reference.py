"""
A reference interpreter: what the end of a run must look like. It shares no code with the engine.

Which of several things happened first is for the run to say: what failed, what was lost, what a failure or a cancel
halted. Everything that follows from that is not: it is worked out here from the definition, and compared.
"""

from collections.abc import Iterator, Mapping
from typing import Any

ENDS = ("Completed", "Failed", "Cancelled", "Skipped")

UNTOLD = ("Lost", "Timeout", "NotStarted", "Interrupted", "NoResult")
"""Failures of attempts whose targets did not fail, or not so that anybody heard."""


class Facts:
    """What really happened: the ends of executions by (node, attempt), as their targets know them."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], set[bool]] = {}
        self.planned: dict[tuple[str, int], bool | None] = {}
        """Whether an execution succeeds, `None` where time decides."""
        self.starts: dict[tuple[str, int], tuple[str, str]] = {}
        """Of each attempt its execution id, and when it was started."""


class Interpreter:
    """
    Compares one run that has ended with what it must have come to.

    Args:
        definition: The DAG definition.

        document: The run document.

        facts: What really happened.

        kept: Nodes that a resumed run has taken over.

        was_cancelled: Somebody asked for its end.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        document: Mapping[str, Any],
        facts: Facts,
        *,
        kept: frozenset[str] = frozenset(),
        was_cancelled: bool = False,
    ) -> None:
        self._definition = definition
        self._document = document
        self._facts = facts
        self._kept = kept
        self._was_cancelled = was_cancelled
        self._kinds = {"Task": self._task, "Pass": self._pass, "Fail": self._fail}

    def differences(self) -> Iterator[str]:
        """Yield what is not as it must be."""
        header = self._document["$run"]
        was_cancelled = header["status"] == "Cancelled"
        timed_out = header["status"] == "Failed" and header.get("error", {}).get("message", "").startswith("the run ")
        if was_cancelled and not self._was_cancelled:
            yield "it was cancelled, and nobody wanted that"
        if timed_out and "timeout" not in self._definition:
            yield "it has timed out, and has no timeout"
        is_halted = was_cancelled or timed_out
        yield from self._chain(self._definition, is_reached=True, is_halted=is_halted)
        expected = "Completed" if self._ended_well(self._definition) else "Failed"
        if header["status"] != expected and not is_halted:
            yield f"the run is {header['status']} and must be {expected}"

    def _chain(self, dag: Mapping[str, Any], *, is_reached: bool, is_halted: bool) -> Iterator[str]:
        name = dag["start"]
        while name is not None:
            step = dag["steps"][name]
            yield from self._node(name, step, is_reached=is_reached, is_halted=is_halted)
            is_reached = is_reached and self._status(name) == "Completed"
            name = step.get("next")

    def _node(self, name: str, step: Mapping[str, Any], *, is_reached: bool, is_halted: bool) -> Iterator[str]:
        status = self._status(name)
        if not is_reached:
            if name not in self._kept and status != "Skipped":
                yield f"{name} is {status}, was never reached, and must be Skipped"
        elif status not in ENDS:
            yield f"{name} is {status}, which is no end"
        elif status in ("Cancelled", "Skipped") and not is_halted:
            yield f"{name} is {status}, and nothing has halted it"
        elif name not in self._kept and (of_kind := self._kinds.get(step["type"])) is not None:
            yield from of_kind(name, step, status, is_halted=is_halted)
        if step["type"] == "Parallel":
            yield from self._parallel(name, step, status, is_reached=is_reached, is_halted=is_halted)

    def _parallel(
        self, name: str, step: Mapping[str, Any], status: str, *, is_reached: bool, is_halted: bool
    ) -> Iterator[str]:
        is_reached = is_reached and status != "Skipped"
        halts = is_halted or (status == "Failed" and step.get("on_failure", "fail_fast") == "fail_fast")
        for branch in step["branches"]:
            yield from self._chain(branch, is_reached=is_reached, is_halted=halts)
        if not is_reached or name in self._kept:
            return
        all_well = all(self._ended_well(branch) for branch in step["branches"])
        any_failed = any(self._has_failed(branch) for branch in step["branches"])
        if status == "Completed" and not all_well:
            yield f"{name} is Completed, and not all of its branches are"
        if status == "Failed" and not any_failed:
            yield f"{name} is Failed, and none of its branches is"
        if status in ("Failed", "Cancelled") and all_well and not is_halted:
            yield f"{name} is {status}, and all of its branches are Completed"

    def _task(self, name: str, step: Mapping[str, Any], status: str, *, is_halted: bool) -> Iterator[str]:
        entry = self._document[name]
        attempt = entry.get("attempt", 0)
        attempts_max = step.get("retry", {}).get("max_attempts", 1)
        uncounted = entry.get("lost", 0) + entry.get("interrupted", 0)
        ends = self._facts.ends.get((name, attempt), set())
        if status == "Completed" and True not in ends:
            yield f"{name} is Completed by attempt {attempt}, which never succeeded"
        if attempt - uncounted > attempts_max:
            yield f"{name} had {attempt} attempts, {uncounted} of them lost, and may have {attempts_max}"
        if entry.get("lost", 0) > 3:
            yield f"{name} was lost {entry['lost']} times, and called again"
        for failure in (*entry.get("failures", ()), *filter(None, [entry.get("error")])):
            said = failure.get("execution_id"), failure.get("started_at")
            if said != self._facts.starts[name, failure["attempt"]]:
                yield f"{name} has a failure of attempt {failure['attempt']} with execution and start {said}"
        kind = entry.get("error", {}).get("type")
        is_worn_out = attempt - uncounted == attempts_max
        is_final = kind in ("Lost", "NoResult") or (kind == "Interrupted" and step.get("on_lost") == "fail")
        if status == "Failed" and not (is_halted or is_worn_out or is_final or "on" in step.get("retry", {})):
            yield f"{name} has failed ({kind}) after {attempt - uncounted} of {attempts_max} attempts that count"
        if is_halted or uncounted or status not in ("Completed", "Failed"):
            return
        if status == "Failed" and kind not in UNTOLD and False not in ends:
            yield f"{name} is Failed ({kind}) by attempt {attempt}, which never failed"
        plan = [self._facts.planned.get((name, number)) for number in range(1, attempt + 1)]
        kinds = {kind, *(failure["type"] for failure in entry.get("failures", ()))}
        if None in plan or "on" in step.get("retry", {}) or not kinds.isdisjoint(UNTOLD):
            return
        if True in plan[:-1]:
            yield f"{name} had attempt {attempt}, and attempt {plan.index(True) + 1} had succeeded"
        if plan[-1] is not (status == "Completed"):
            yield f"{name} is {status}, and its attempt {attempt} has come to {plan[-1]}"

    def _pass(self, name: str, step: Mapping[str, Any], status: str, *, is_halted: bool) -> Iterator[str]:
        if status in ("Failed", "Cancelled"):
            yield f"{name} is {status}, and a Pass completes as soon as it is reached"
        if status == "Completed" and self._document[name].get("result") != step.get("result"):
            yield f"{name} has the result {self._document[name].get('result')}, and its step gives {step.get('result')}"

    def _fail(self, name: str, step: Mapping[str, Any], status: str, *, is_halted: bool) -> Iterator[str]:
        if status in ("Completed", "Cancelled"):
            yield f"{name} is {status}, and a Fail fails as soon as it is reached"
        if status == "Failed" and self._document[name]["error"]["type"] != step["error"]:
            yield f"{name} failed with {self._document[name]['error']['type']}, and its step says {step['error']}"

    def _status(self, name: str) -> str:
        return str(self._document[name]["status"])

    def _ended_well(self, dag: Mapping[str, Any]) -> bool:
        return all(self._status(name) == "Completed" for name in dag["steps"])

    def _has_failed(self, dag: Mapping[str, Any]) -> bool:
        return any(self._status(name) == "Failed" for name in dag["steps"])
