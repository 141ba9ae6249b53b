"""
What must never happen, and what must have happened in the end.

The oracle sees what the bucket accepts, what targets start and end, what processes acknowledge and what clients are
told. It knows nothing of the engine: documents are plain JSON to it.

    S1   statuses never move back, what is terminal never changes, a run ends only when nothing of it is live
    S2   what a target starts is a committed intent, and has its record
    S3   no execution is started more often than commits say, with ``on_lost: fail`` once at most; whoever was silent
         looks before it sends; no job is given up that may have been launched
    S4   a task starts only where a way leads, inside what is running, and no wait is over before its time
    S5   what was acknowledged, or told to a client, is committed; no message is put away but those that nobody should
         have sent
    S6   the end is the one that a reference interpreter works out
    S7   folds are idempotent and do not depend on order, documents survive being read and written, and what only newer
         versions can read is left alone
    S8   without faults, operations stay within their budget; commits are a second apart, and never two at once
    S9   an open run has its marker, and the others know who owns something in it
    S10  nothing begins after a cancel, nothing goes on after the end, nobody decides about what is another's
    S11  nobody who is heard is called dead; nothing is taken over that its owner has committed since it was called dead
    S12  time in which a process stood still does not count against its tasks, and answers that wait are read
    S13  a process that gave requests up has fewer under way afterwards, until others are answered
    S14  an entry says why its task waits only until the attempt has ended
    S15  a process that carries out only its own runs changes no other run
    S16  `finally` begins once, when everything else has ended; a handler or a further try begins when nothing inside is
         live, and what is of an earlier try never changes
    S17  values outside of a document are stored before the document that names them, and no commit changes nothing
    L1   when faults have stopped, every run ends in time
    L2   where nothing is lost and nobody dies, also without a sweeper
    L3   no deadlock, no livelock (the loop sees to it)
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.reference import ENDS, Facts, Interpreter, NoValueError, Reading, Structure
from tests.simulation.targets import Execution, result_of

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedProcess
    from tests.simulation.world import World

RANKS = {"New": 0, "Starting": 1, "Running": 2, "Retrying": 3, **dict.fromkeys(ENDS, 4)}
RUN_ENDS = ("Completed", "Failed", "Cancelled")
LIVE = ("Starting", "Running")

LAUNCHES_MAX = 10
"""After how many processes that died while launching a job nobody looks for it any more."""

ANNOUNCED_S = 3.0
"""How long a new owner of something in a run may stay unknown, when nothing is wrong with the bucket."""

DEAD_AFTER_S = 60.0
UNNOTICED_S = 25.0
"""Silence after which a process is called dead, and the longest pause that its observer may not notice."""

TICK_S = 1.5
"""How much of one pause may count against a timeout."""

CALLED_AGAIN_S = 20.0
"""How long a launch that was committed to may take to go out, its supplementary function included."""

SKEW_S = 60.0
"""The most that the clocks of two processes may differ by."""

AWAKE_S = 5.0
"""How long an owner that stood still has, once it goes on, to let the others know of it."""

_decode = msgspec.json.Decoder().decode


def cancel_of(run_id: str) -> bytes:
    """Return the message that asks for the end of a run."""
    return msgspec.json.encode({"resource": {"type": "cancel", "labels": {"run_id": run_id}}})


def _owners(document: Mapping[str, Any]) -> set[str]:
    return {entry["by"] for entry in document.values() if entry.get("by") is not None}


def _unclaimed(document: Mapping[str, Any]) -> set[tuple[str, int]]:
    """The attempts that could begin, or wait for their retry, and nobody has claimed."""
    return {
        (name, entry.get("attempt", 0))
        for name, entry in document.items()
        if entry.get("by") is None
        and (
            (entry["status"] == "Retrying" and "due_at" not in entry)
            or (entry["status"] == "New" and entry.get("ready_at") is not None)
        )
    }


def _counted_s(process: "SimulatedProcess", since: float) -> float:
    """Return the most seconds since a point in time that a process may count against a timeout."""
    return process.lived_s(since) + TICK_S * len(process.pauses_since(since))


def _is_awake(process: "SimulatedProcess", now: float) -> bool:
    """Whether a process does not stand still, and has not just now."""
    return process.parked is None and now - process.went_on_at >= AWAKE_S


class Violation(AssertionError):  # noqa: N818  what it is called
    """An invariant does not hold."""

    def __init__(self, invariant: str, message: str) -> None:
        self.invariant = invariant
        super().__init__(f"{invariant}: {message}")


class Oracle:
    """
    Watches one world.

    Attributes:
        violation: The first one; the world ends with it.

        definitions: Of the runs that anybody asked for.

        held: Of runs that a newer version has written as nobody else can read them, what they were before.

        cancels: Runs whose end somebody asked for.

        calls: Calls of Python functions that are under way.

        calling: Calls of Cloud Functions whose answer a process waits for, by execution key.
        poison: Messages that nobody should have sent.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._bucket = world.bucket
        self._documents: dict[str, dict[str, Any]] = {}
        self._structures: dict[str, Structure] = {}
        self._resumed_from: dict[str, str] = {}
        self._kept: dict[str, frozenset[str]] = {}
        self._executions: dict[str, Execution] = {}
        self._live_jobs: dict[str, None] = {}
        self._late: set[str] = set()
        self._twice: set[str] = set()
        self._first_start: dict[str, tuple[str, float]] = {}
        self._listed_at: dict[tuple[str, str], float] = {}
        self._taken_at: dict[str, tuple[float, str | None]] = {}
        self._taken_by: dict[str, set[str | None]] = {}
        self._launches: dict[str, int] = {}
        self._starts: Counter[str] = Counter()
        self._facts: dict[str, Facts] = {}
        self._confirmed: set[str] = set()
        self._future: dict[str, str] = {}
        self._announced: dict[str, set[str]] = {}
        self._owned_since: dict[str, dict[str, float]] = {}
        self._touched_at: dict[str, float] = {}
        self._unsent: set[str] = set()
        self._sent: set[str] = set()
        self._requested: set[str] = set()
        self._stopping: set[tuple[str, str]] = set()
        self._changes: dict[str, tuple[SimulatedProcess | None, float]] = {}
        self._begun_at: dict[tuple[str, str], float] = {}
        self._answered: dict[tuple[str, str], float] = {}
        self._heard_at: dict[str, float] = {}
        self._calls_again: Counter[str] = Counter()
        self._reasons = 0
        self._timers = 0
        self._records_by: Counter[tuple[str, str]] = Counter()
        self._lost_races: set[str] = set()
        self._ends: Counter[str] = Counter()
        self._sends: Counter[tuple[str, str]] = Counter()
        self._refusals: dict[str, str] = {}
        self._told: set[str] = set()
        self._heard_of: set[str] = set()
        self._called_dead_at: dict[tuple[str, str], float] = {}
        self._written_at: dict[tuple[str, str], float] = {}
        self.held: dict[str, bytes] = {}
        self.violation: Violation | None = None
        self.definitions: dict[str, dict[str, Any]] = {}
        self.cancels: set[str] = set()
        self.called_dead: set[str] = set()
        self.calls: set[tuple[SimulatedProcess, Execution]] = set()
        self.calling: set[tuple[SimulatedProcess, str]] = set()
        self.poison: set[bytes] = set()

    def fail(self, invariant: str, message: str) -> None:
        """An invariant does not hold."""
        if self.violation is None:
            self.violation = Violation(invariant, message)
            self._world.note("oracle", str(self.violation))
            self._world.stop()

    # -- what clients want ---------------------------------------------------------------------------------------

    def expect(self, run_id: str, definition: dict[str, Any], resumed_from: str | None = None) -> None:
        """Somebody means to start a run."""
        if run_id not in self.definitions:
            self.definitions[run_id] = definition
            self._structures[run_id] = Structure(definition)
            self._facts[run_id] = Facts()
            if resumed_from is not None:
                self._resumed_from[run_id] = resumed_from

    def confirmed(self, run_id: str) -> None:
        """A client was told that its run has started."""
        self._confirmed.add(run_id)
        if run_id not in self._documents:
            self.fail("S5", f"a client was told that run {run_id} has started, and there is no document")

    def cancelled(self, run_id: str) -> None:
        """A client was told that its cancel is taken."""
        if not self._may_be_cancelled(run_id):
            self.fail("S5", f"a client was told that {run_id} is cancelled, and it is {self.status(run_id)}")

    def _may_be_cancelled(self, run_id: str) -> bool:
        """Whether a cancel is taken: the run ends, or it had come to its end and only `finally` goes on."""
        has_ended = "finally" in self._documents.get(run_id, {}).get("$run", {})
        return has_ended or self.status(run_id) in (*RUN_ENDS, "Cancelling", "Failing")

    def status(self, run_id: str) -> str | None:
        """Status of a run, as it is stored."""
        document = self._documents.get(run_id)
        return None if document is None else document["$run"]["status"]

    @property
    def open_runs(self) -> list[str]:
        """Runs that have not ended, or whose marker is still there."""
        running = [run_id for run_id in self._documents if self.status(run_id) not in RUN_ENDS]
        markers = [name[5:] for name in self._bucket.objects if name.startswith("open/")]
        return sorted({*running, *(markers if self._world.swarm.sweeps else [])})

    # -- what the bucket accepts ---------------------------------------------------------------------------------

    def changed(self, name: str, before: bytes | None, after: bytes | None) -> None:
        """See `storage.Watcher`."""
        kind, _, rest = name.partition("/")
        if kind == "runs" and self._world.swarm.is_store_good and not self._world.is_directed:
            self._check_pace(rest.removesuffix(".json"))
        if kind == "runs" and (run_id := rest.removesuffix(".json")) in self.held:
            if (writer := self._bucket.writer) is not None:
                self.fail("S7", f"{writer.name} changed run {run_id}, which a newer version had written")
        elif kind == "runs":
            if after is None:
                self.fail("S1", f"the document of {run_id} was deleted")
            else:
                self._document_changed(run_id, self._documents.get(run_id), _decode(after))
        elif kind == "alive":
            self._heartbeat_changed(rest, is_gone=after is None)
        elif kind == "open" and after is not None:
            if before is not None and before != after:
                self.fail("S9", f"the marker of {rest} was touched, and holds another start command: {after[:100]!r}")
            self._marker_touched(rest)
        elif kind == "open" and self.status(rest) not in RUN_ENDS:
            self.fail("S9", f"the marker of {rest} was deleted, and the run is {self.status(rest)}")
        elif kind == "rejected" and after is not None:
            if (message := b64decode(_decode(after)["data"])) not in self.poison:
                self.fail("S5", f"a good message was put away ({_decode(after)['reason']}): {message[:100]!r}")
        elif kind == "executions" and before is not None and after is not None:
            old = _decode(before)
            if old.get("succeeded") is not None and old != _decode(after):
                self.fail("S1", f"record {rest} knew its outcome, and was changed")

    def record_written(self, name: str, process: "SimulatedProcess") -> None:
        """See that a process writes a record, which may be there already."""
        self._records_by[name.removeprefix("executions/").removesuffix(".json"), process.id] += 1

    def race_lost(self, process: "SimulatedProcess") -> None:
        """See that a process has to decide about a run once more, since a different process was faster."""
        self._lost_races.add(process.id)

    def _heartbeat_changed(self, process_id: str, *, is_gone: bool) -> None:
        """An observer that removes a heartbeat has lived for a minute without one; a short pause may go unnoticed."""
        writer = self._bucket.writer
        if not is_gone:
            self._heard_at[process_id] = self._world.loop.time()
        elif writer is not None and writer.id != process_id:
            heard_at = self._heard_at.get(process_id, 0.0)
            unnoticed_s = UNNOTICED_S * len(writer.pauses_since(heard_at))
            if writer.lived_s(heard_at) < DEAD_AFTER_S - unnoticed_s - 1:
                self.fail("S12", f"{writer.name} removes the heartbeat of {process_id[:8]}, and stood still meanwhile")

    def _check_pace(self, run_id: str) -> None:
        """A bucket takes one change a second of an object: whoever owns something in a run leaves that much between."""
        writer, now = self._bucket.writer, self._world.loop.time()
        known_writer, changed_at = self._changes.get(run_id, (None, 0.0))
        is_too_soon = writer is known_writer and now - changed_at < 1
        if writer is not None and is_too_soon and writer.id in _owners(self._documents[run_id]):
            self.fail("S8", f"{writer.name} changed run {run_id} twice within {now - changed_at:g} s")
        self._changes[run_id] = writer, now

    def _document_changed(self, run_id: str, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
        self._documents[run_id] = new
        if (writer := self._bucket.writer) is not None:
            self._written_at[run_id, writer.id] = self._world.loop.time()
        header = new["$run"]
        if run_id not in self.definitions:
            self.fail("S5", f"nobody wanted a run {run_id}")
            return
        if old is None:
            old = self._first_document(run_id, new)
        elif old["$run"]["status"] in RUN_ENDS:
            self.fail("S1", f"run {run_id} was {old['$run']['status']} and was changed")
        if header["status"] in RUN_ENDS:
            self._check_end_of_run(run_id, new)
        elif f"open/{run_id}" not in self._bucket.objects:
            self.fail("S9", f"run {run_id} is {header['status']} and has no marker")
        future = self._future.get(run_id)
        if future is not None and (header.get("x_future") != future):
            self.fail("S7", f"run {run_id} has lost a field of a newer version")
        old = {**{name: {"status": "New"} for name in new if name not in old}, **old}
        if missing := old.keys() - new.keys():
            self.fail("S1", f"run {run_id} has lost {missing}")
        has_changed = {**header, "updated_at": ""} != {**old["$run"], "updated_at": ""}
        for name, entry in new.items():
            if name != "$run" and entry is not old[name] and entry != old[name]:
                has_changed = True
                self._entry_changed(run_id, name, old, new)
            if name != "$run" and "result_in" in entry:
                self._check_stored(run_id, name, entry)
        if "output_in" in header:
            self._check_stored(run_id, "its output", {"result_in": header["output_in"]})
        if not has_changed and self._bucket.writer is not None:
            self.fail("S17", f"{self._bucket.writer.name} has committed to run {run_id}, and nothing has changed")
        self._check_finally(run_id, old, new)
        if self._world.swarm.is_store_good:
            self._owners_changed(run_id, _owners(new))
            self._left_to_others(run_id, _unclaimed(new) - _unclaimed(old))

    def _first_document(self, run_id: str, new: dict[str, Any]) -> dict[str, Any]:
        """Return the document before the first one: everything is new, but what a resumed run takes over."""
        source = self._resumed_from.get(run_id)
        kept: dict[str, Any] = {}
        if source is not None:
            resumed = self._documents[source]
            kept = {name: entry for name, entry in resumed.items() if entry.get("status") == "Completed"}
            kept.pop("$run", None)
        self._kept[run_id] = frozenset(kept)
        blank = {name: kept.get(name, {"status": "New"}) for name in new if name != "$run"}
        if missing := self._structures[run_id].steps.keys() ^ {name for name in blank if "#" not in name}:
            self.fail("S6", f"the document of {run_id} has other nodes than its definition: {missing}")
        return {"$run": {"status": "Running"}, **blank}

    def _entry_changed(self, run_id: str, name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        before, after = old[name], new[name]
        then = before.get("attempt", 0), RANKS[before["status"]]
        now = after.get("attempt", 0), RANKS[after["status"]]
        if now < then:
            self.fail("S1", f"{run_id} {name} moved back from {before['status']} {then[0]} to {after['status']}")
        if then[1] == 4 and before["status"] in ENDS:
            self.fail("S1", f"{run_id} {name} was {before['status']}, and was changed")
        if after.get("launches", 0) > before.get("launches", 0) > 0 and then[0] == now[0]:
            self._world.count("takeover of a launch")
        if after.get("unanswered", {}).get("calls_again") and not before.get("unanswered", {}).get("calls_again"):
            self._called_again(run_id, name, before, after)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        self._reasons += changed == {"waits_because"}
        self._timers += "due_at" in after and "due_at" in changed
        if after.get("lost", 0) > before.get("lost", 0):
            self._world.count("attempt lost")
        if now[1] == 4 and before["status"] == "Starting":
            self._world.count("end before Running")
        if before["status"] == "Retrying" and after["status"] == "Completed":
            self._world.count("success while Retrying")
        if before.get("by") is not None and before.get("by") != after.get("by"):
            key = before.get("execution_id", "")
            self._taken_at[key] = self._world.loop.time(), after.get("by")
            self._taken_by.setdefault(key, set()).add(after.get("by"))
            self._world.cluster.taken_over(before["by"], self._bucket.writer)
        if after.get("waits_because") and not (after["status"] in LIVE or after.get("ready_at")):
            self.fail("S14", f"{name} of {run_id} is {after['status']}, and says that it waits")
        if (writer := self._bucket.writer) is not None:
            if writer.is_command and run_id not in writer.asked_about:
                self.fail("S15", f"{writer.name} changes {name} of {run_id}, which it was not asked about")
            self._check_writer(writer, f"{run_id} {name}", before, after)
        if after["status"] == "Starting" and then[0] < now[0]:
            self._intent(run_id, name, old, new)
        elif now[0] > then[0] and after["status"] != "Starting" and "branches" not in after:
            self.fail("S1", f"{run_id} {name} has attempt {now[0]}, which was never Starting")
        self._check_scopes(run_id, name, old, new)
        if after.get("node_type") == "Wait":
            self._check_wait(run_id, name, before, after)
        key = after.get("execution_id")
        if key is not None:
            self._launches[key] = max(self._launches.get(key, 0), after.get("launches", 0))

    def _check_stored(self, run_id: str, name: str, entry: Mapping[str, Any]) -> None:
        """A result outside of the document is there before the document names it."""
        try:
            self._stored(entry)
        except KeyError as error:
            self.fail("S17", f"{run_id}: the result of {name} is in {error}, and that was not written")

    def _stored(self, entry: Mapping[str, Any]) -> Any:
        """Return the result that an entry names. Raises: KeyError if it is not stored."""
        place = entry["result_in"]
        if place == "execution":
            place = f"executions/{entry['execution_id']}.json"
        data = self._bucket.data(place)
        if data is None:
            raise KeyError(place)
        return _decode(data)["response"] if entry["result_in"] == "execution" else _decode(data)

    def _reading(self, run_id: str) -> Reading:
        return Reading(self._structures[run_id], self._documents[run_id], self._stored)

    def _check_finally(self, run_id: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        before, after = old["$run"].get("finally"), new["$run"].get("finally")
        if before is not None and (after is None or after["begun_at"] != before["begun_at"]):
            self.fail("S16", f"`finally` of {run_id} began at {before['begun_at']}, and then {after}")
        final = self._structures[run_id].final
        has_begun = any(old[name]["status"] == "New" != new[name]["status"] for name in final)
        if after is None and has_begun and new["$run"]["status"] not in RUN_ENDS:
            self.fail("S16", f"a step of `finally` of {run_id} has begun, and that is not committed")
        if after is not None and before is None:
            self._world.count("finally")
            for name, entry in new.items():
                is_main = name != "$run" and self._structures[run_id].name_of(name) not in final
                if is_main and entry["status"] not in ENDS:
                    self.fail("S16", f"`finally` of {run_id} begins, and {name} is {entry['status']}")

    def _check_scopes(self, run_id: str, name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        structure, before, after = self._structures[run_id], old[name], new[name]
        outer, number = structure.outer(name)
        if outer is not None and number < old[outer].get("attempt", 0):
            self.fail("S16", f"{run_id} {name} changes, and {outer} is in its try {old[outer]['attempt']}")
        if "branches" not in after:
            return
        self._check_due(run_id, name, before, after)
        goes_on = after.get("caught") or after["status"] == "Retrying"
        is_again = after.get("attempt", 0) > max(1, before.get("attempt", 0))
        if is_again:
            self._world.count("try of a Parallel")
        if goes_on or is_again:
            tried = max(1, after.get("attempt", 0) - is_again)
            for each, entry in new.items():
                is_live = entry["status"] in LIVE and "execution_id" in entry
                if is_live and structure.is_inside(each, name, tried):
                    self.fail("S16", f"{run_id} {name} is handled, and {each} inside is {entry['status']}")

    def _check_due(self, run_id: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A further try begins at its time, and a try is ended for its time no earlier."""
        is_again = before["status"] == "Retrying" and after["status"] == "Running"
        error = after.get("error", {})
        is_late = error != before.get("error", {}) and error.get("type") == "Timeout" and "due_at" in before
        if is_again or is_late:
            left_s = (datetime.fromisoformat(before["due_at"]) - self._world.time_of_day()).total_seconds()
            if left_s > (SKEW_S if self._world.swarm.skewed else 0.001):
                self.fail("S4", f"{run_id} {name} is tried again or over, and is due in {left_s:g} s")

    def _check_wait(self, run_id: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A wait begins with the time of its step, and is over no earlier."""
        world, step = self._world, self._structures[run_id].step(name)
        if after["status"] == "Running" and "due_at" in after:
            world.count("wait")
            due_at = datetime.fromisoformat(after["due_at"])
            reading = self._reading(run_id)
            if "until" in step:
                expected = datetime.fromisoformat(reading.evaluate(step["until"], name))
            else:
                seconds = reading.evaluate(step["seconds"], name)
                expected = datetime.fromisoformat(after["started_at"]) + timedelta(seconds=seconds)
            if due_at != expected:
                self.fail("S4", f"{run_id} {name} waits until {due_at}, and its step says {expected}")
        if before["status"] == "Running" and after["status"] == "Completed":
            left_s = (datetime.fromisoformat(before["due_at"]) - world.time_of_day()).total_seconds()
            if left_s > (SKEW_S if world.swarm.skewed else 0.001):
                self.fail("S4", f"{run_id} {name} is over, and is due in {left_s:g} s")

    def given(self, execution: Execution, parameters: Mapping[str, Any]) -> None:
        """A target is given parameters: those of the step, with the values of its expressions."""
        structure, name = self._structures[execution.run_id], execution.node
        step = structure.step(name)
        facts = {"execution_id": execution.key, "attempt": execution.attempt}
        try:
            expected = self._reading(execution.run_id).evaluate(step.get("parameters", {}), name, task=facts)
        except NoValueError as error:
            self.fail("S6", f"{execution.label} is launched, and its parameters have no value: {error}")
            return
        if "function" in step:
            expected = {**expected, "supplement": execution.key}
        if parameters != expected:
            self.fail("S6", f"{execution.label} is given {parameters!r:.200}, and not {expected!r:.200}")

    def _called_again(self, run_id: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A call is sent again only after its end, while no process waits for its answer, and then it is sent."""
        world, key, writer = self._world, after["execution_id"], self._bucket.writer
        world.count("call sent again for its result")
        self._calls_again[key] += 1
        if self._calls_again[key] > self._ends[key]:
            self.fail("S3", f"{run_id} {name} is called again, and ended {self._ends[key]} times so far")
        for process, called in self.calling:
            if called == key and process.id == before.get("by") and process.id not in self.called_dead:
                self.fail("S10", f"{run_id} {name} is called again, and {process.name} waits for its answer")
        if writer is not None and world.swarm.is_store_good and not world.swarm.narrow:
            sends = self._sends[writer.id, key]
            world.loop.later(CALLED_AGAIN_S, self._check_called_again, run_id, name, after, writer, sends)

    def _check_called_again(
        self, run_id: str, name: str, after: Mapping[str, Any], writer: "SimulatedProcess", sends: int
    ) -> None:
        is_open = (
            self._documents[run_id][name] == after
            and writer.is_running
            and not writer.pauses_since(self._world.loop.time() - CALLED_AGAIN_S)
        )
        if is_open and writer.parked is None and self._sends[writer.id, after["execution_id"]] == sends:
            self.fail("S10", f"{run_id} {name} is to be called again by {writer.name}, which does not do it")

    def _marker_touched(self, run_id: str) -> None:
        """The others look at the run, see who owns it now, and forget about anybody else."""
        known = _owners(self._documents.get(run_id, {}))
        if self._bucket.writer is not None:
            known.add(self._bucket.writer.id)
        self._announced[run_id] = known
        self._touched_at[run_id] = self._world.loop.time()

    def _owners_changed(self, run_id: str, owners: set[str]) -> None:
        self._announced[run_id] = self._announced.get(run_id, set()) & owners  # others who look now forget the rest
        known, now = self._owned_since.get(run_id, {}), self._world.loop.time()
        self._owned_since[run_id] = {owner: known.get(owner, now) for owner in owners}
        for process in self._world.cluster.processes.values():
            if process.id in owners - known.keys():
                self._world.loop.later(ANNOUNCED_S, self._check_announced, run_id, process, now)

    def _left_to_others(self, run_id: str, left: set[tuple[str, int]]) -> None:
        writer = self._bucket.writer
        if left and writer is not None:
            self._world.count("task that is left to others")
            self._world.loop.later(ANNOUNCED_S, self._check_left, run_id, writer, left, self._world.loop.time())

    def _check_left(self, run_id: str, writer: "SimulatedProcess", left: set[tuple[str, int]], since: float) -> None:
        """Whoever leaves a task to the others has told them, or nobody would begin it for an hour."""
        is_told = self._touched_at.get(run_id, 0.0) >= since
        if is_told or not writer.is_running or not left & _unclaimed(self._documents[run_id]):
            return
        if not _is_awake(writer, self._world.loop.time()):
            self._world.loop.later(AWAKE_S, self._check_left, run_id, writer, left, since)
        else:
            self.fail("S9", f"{writer.name} leaves {sorted(left)} of {run_id} to others, and they do not know of it")

    def _check_announced(self, run_id: str, process: "SimulatedProcess", since: float) -> None:
        """Whoever owns something in a run has let the others know, or nobody would miss it for an hour."""
        is_known = process.id in self._announced.get(run_id, ())
        if is_known or not process.is_running or self._owned_since[run_id].get(process.id) != since:
            return
        if not _is_awake(process, self._world.loop.time()):
            self._world.loop.later(AWAKE_S, self._check_announced, run_id, process, since)  # it stood still meanwhile
        else:
            self.fail("S9", f"{process.name} owns something in {run_id}, and the others do not know of it")

    def _check_writer(
        self, writer: "SimulatedProcess", what: str, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """What only the owner of an entry knows, only the owner says; and it owns it until somebody calls it dead."""
        owner = before.get("by")
        is_live = before["status"] in LIVE and after["status"] in LIVE
        goes_on = is_live and before.get("attempt") == after.get("attempt")
        if (
            after["status"] == "Running" != before["status"]
            and after.get("node_type") == "Task"
            and after.get("by") != writer.id
        ):
            self.fail("S10", f"{what} was called Running by {writer.name}, which does not own it")
        is_call_of_writer = (
            after.get("target_type") == "CloudFunction" and after.get("launches") == 1 and owner == writer.id
        )
        is_sent = after.get("execution_id") in self._sent
        if is_call_of_writer and after["status"] == "Running" != before["status"] and not is_sent:
            self.fail("S10", f"{what} was called Running by {writer.name}, which has not sent it")
        if after.get("interrupted", 0) > before.get("interrupted", 0) and owner != writer.id:
            self.fail("S10", f"{what} was given up by {writer.name}, which does not own it")
        if after.get("interrupted", 0) > before.get("interrupted", 0) and before.get("execution_id") in self._requested:
            self.fail("S3", f"{what} was given up, and its job may have been launched")
        error = after.get("error", {})
        if error != before.get("error") and "branches" not in after and owner != writer.id:
            if error.get("type") in ("Timeout", "NotStarted") and " within its timeout" in error["message"]:
                self.fail("S10", f"{what} was timed out by {writer.name}, which does not own it")
            if error.get("type") == "HTTP 403" or "before the launch" in error.get("message", ""):
                self.fail("S10", f"{what} was given up before its launch by {writer.name}, which does not own it")
        if after.get("lost", 0) > before.get("lost", 0) and owner not in (writer.id, *self.called_dead):
            self.fail("S10", f"{what} was called lost by {writer.name}, which does not own it")
        if error != before.get("error") and owner == writer.id:
            self._check_lived(writer, what, before.get("execution_id", ""), error)
        if before.get("by") != writer.id == after.get("by"):
            self._world.cluster.may_die(writer)
        is_waited_for = not before.get("unanswered", {}).get("answer_lost")
        if goes_on and is_waited_for and after.get("by") != owner and owner not in self.called_dead:
            self.fail("S10", f"{what} was taken over by {writer.name}, and nobody has called its owner dead")
        if goes_on and is_waited_for and owner is not None and after.get("by") not in (None, owner):
            called_at = self._called_dead_at.get((writer.id, owner), 0.0)
            if self._written_at.get((what.split(maxsplit=1)[0], owner), 0.0) > called_at:
                self.fail(
                    "S11", f"{what} was taken over by {writer.name}, and its owner has come back since it was asked"
                )

    def _check_lived(self, writer: "SimulatedProcess", what: str, key: str, error: Mapping[str, Any]) -> None:
        """A process that gives an execution up has lived its whole timeout, and has no answer to it."""
        begun_at = self._begun_at.get((writer.id, key))
        words = error.get("message", "")
        if begun_at is None or writer.id in self._taken_by.get(key, ()):
            return
        if "did not end within" not in words and "no event within" not in words:
            return
        run_id, node = what.split()
        timeout_s = self._structures[run_id].step(node)["timeout"]
        if writer.pauses_since(begun_at):
            self._world.count("timeout after a pause")
        if _counted_s(writer, begun_at) < timeout_s - 0.1:
            lived_s = writer.lived_s(begun_at)
            self.fail("S12", f"{what} was given up by {writer.name} after {lived_s:g} s of its {timeout_s:g} s")
        if "no event within" in words and self._is_known_to_be_refused(key):
            self.fail("S5", f"{what} is lost, and an event that was acknowledged says that it never ran")
        longest_s = max((end - start for start, end in writer.pauses_since(begun_at)), default=0.0)
        is_noticed = longest_s > timeout_s / 10 + TICK_S  # a shorter pause may count, see `aiorch.engine.standstill`
        if is_noticed and self._answered.get((writer.id, key), timeout_s) < timeout_s - 0.1:
            self.fail("S12", f"{what} was given up by {writer.name}, which had its answer")

    def _is_known_to_be_refused(self, key: str) -> bool:
        """Whether an execution had one request, which was refused unheard, and whose event came while all was well."""
        swarm = self._world.swarm
        is_disturbed = swarm.pauses or swarm.freezes or swarm.power_cuts or swarm.drains or swarm.is_draining_all
        is_seen = swarm.processes == 1 or swarm.is_store_good
        entries = [entry_id for entry_id, of_key in self._refusals.items() if of_key == key]
        is_told = len(entries) == 1 and entries[0] in self._told and key not in self._heard_of
        return is_told and is_seen and self._ends[key] == 1 and not (is_disturbed or self._starts[key])

    def _intent(self, run_id: str, name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        entry = new[name]
        attempt = entry["attempt"]
        self._executions[entry["execution_id"]] = Execution(run_id, name, attempt, entry["execution_id"])
        self._facts[run_id].starts[name, attempt] = entry["execution_id"], entry["started_at"]
        structure = self._structures[run_id]
        due = old[name].get("retry_at")
        if old[name]["status"] == "Retrying" and due is not None and not self._world.swarm.skewed:
            left_s = (datetime.fromisoformat(due) - self._world.time_of_day()).total_seconds()
            if left_s > 0.001:
                self.fail("S4", f"{run_id} {name} is to start again, and that is due in {left_s:g} s")
        if attempt != old[name].get("attempt", 0) + 1:
            self.fail("S1", f"{run_id} {name} skipped from attempt {old[name].get('attempt', 0)} to {attempt}")
        step = structure.step(name)
        if attempt > 1 and step.get("on_lost") == "fail" and step["target_type"] != "Dataflow":
            key = old[name].get("execution_id", "")
            if self._starts[key] and not self._facts[run_id].ends.get((name, attempt - 1)):
                self.fail("S3", f"{run_id} {name} is to start again, and its attempt {attempt - 1} may go on")
        is_final = structure.name_of(name) in structure.final
        for header in (old["$run"], new["$run"]):
            if header["status"] != "Running" and not is_final:
                self.fail("S10", f"{run_id} {name} is to start, and the run is {header['status']}")
        final = new["$run"].get("finally")
        if is_final and (final is None or "ended_at" in final):
            self.fail("S16", f"{run_id} {name} is to start, and `finally` is {final}")
        place: str | None = name
        while place is not None:
            if not structure.is_reached(place, new):
                self.fail("S4", f"{run_id} {name} is to start, and no way leads to {place}")
            place, number = structure.outer(place)
            if place is None:
                break
            around = new[place]
            if around["status"] != "Running" or around.get("stop") or max(1, around.get("attempt", 0)) != number:
                self.fail("S4", f"{run_id} {name} is to start, and {place} around it is {around['status']}")

    def _check_end_of_run(self, run_id: str, document: dict[str, Any]) -> None:
        for name, entry in document.items():
            if name != "$run" and (entry["status"] not in ENDS or entry.get("stop")):
                self.fail("S1", f"run {run_id} has ended, and {name} is {entry['status']}")
        for key in self._live_jobs:
            execution = self._executions[key]
            is_given_up = self._launches.get(key, 0) >= LAUNCHES_MAX
            if execution.run_id == run_id and key not in self._twice and not is_given_up:
                self.fail("S10", f"run {run_id} has ended, and the job of {execution.label} goes on")
        for process, execution in self.calls:
            was_taken_over = self._starts[execution.key] > 1
            if execution.run_id == run_id and process.is_running and not (process.was_paused or was_taken_over):
                self.fail("S10", f"run {run_id} has ended, and {execution.label} goes on in {process.name}")

    # -- what targets see ----------------------------------------------------------------------------------------

    def started(self, kind: str, process: "SimulatedProcess", execution: Execution, *, is_late: bool = False) -> int:
        """
        A target starts an execution. Return how often it did.

        A launch of a job that is carried out long after its sender has given it up and looked for it may have ended
        when that one launches again, or begin when the other one has ended: its name is free, and nothing can be done.
        """
        run_id, node, attempt, key = execution
        self._world.note(process.name, f"starts {execution.label} ({kind})")
        self._starts[key] += 1
        self._first_start.setdefault(key, (process.id, self._world.loop.time()))
        count = self._starts[key]
        if is_late:
            self._late.add(key)
        what = f"attempt {attempt} of {run_id} {node}"
        if self._executions.get(key) != execution:
            self.fail("S2", f"{what} was started by {process.name}, and that was never committed")
            return count
        if f"executions/{key}.json" not in self._bucket.objects:
            self.fail("S2", f"{what} was started by {process.name}, and has no record")
        if kind == "Dataflow":
            self._live_jobs[key] = None
        if count > 1:
            self._world.count("second start of an execution")
            self._check_another_start(kind, process, execution, count)
        if not is_late:
            self._check_still_wanted(process, execution)
        self._plan(execution)
        return count

    def begins(self, process: "SimulatedProcess", execution: Execution) -> None:
        """The timeout of an execution begins in a process."""
        self._begun_at.setdefault((process.id, execution.key), self._world.loop.time())

    def answered(self, process: "SimulatedProcess", execution: Execution) -> None:
        """The answer to a call has arrived at a process, which may stand still, before or after its time was over."""
        which = process.id, execution.key
        self._answered[which] = _counted_s(process, self._begun_at[which])

    def unread(self, process: "SimulatedProcess", execution: Execution) -> None:
        """An answer has arrived, and the process cannot read it."""
        self._answered.pop((process.id, execution.key), None)

    def sends(self, process: "SimulatedProcess", execution: Execution) -> None:
        """A process is about to launch something: if it may have been called dead, it has looked at the run since."""
        self.begins(process, execution)
        self._sent.add(execution.key)
        self._sends[process.id, execution.key] += 1
        known_at = process.client.known_at.get(f"runs/{execution.run_id}.json", 0.0)
        if known_at < process.woke_at:
            self.fail("S3", f"{execution.label} is launched by {process.name}, which was silent and has not looked")

    def launches(self, process: "SimulatedProcess", job: str, key: str, listed_at: float) -> None:
        """A process is about to launch a job: there is none, as far as could be known when it last went on."""
        self._requested.add(key)
        self._listed_at[process.id, key] = listed_at
        if listed_at < process.woke_at:
            self.fail("S3", f"job {job} is launched by {process.name}, which was silent and has not looked for it")

    def _check_another_start(self, kind: str, process: "SimulatedProcess", execution: Execution, count: int) -> None:
        what = f"attempt {execution.attempt} of {execution.run_id} {execution.node}"
        if execution.key in self._late:
            self._world.count("second job of a late launch")
            self._twice.add(execution.key)
            return
        taken_at, by = self._taken_at.get(execution.key, (0.0, process.id))
        is_under_way = by != process.id and taken_at >= process.client.heard_since(process.id)
        first_by, first_at = self._first_start[execution.key]
        # The process that was called dead launched after the process that took over from it had looked.
        is_unseen = first_by in self.called_dead and first_at >= self._listed_at.get((process.id, execution.key), 0.0)
        if kind == "Dataflow" and (is_unseen or (process.id in self.called_dead and is_under_way)):
            # One of the two stood still between its look and its launch, and the job of the other has ended since.
            self._world.count("second job of a takeover under way")
            self._twice.add(execution.key)
        elif kind == "Dataflow":
            self.fail("S3", f"{what} was started {count} times, though it could be found")
        elif self._must_not_repeat(execution):
            self.fail("S3", f"{what} was started {count} times, and must not be started twice")
        elif count > self._launches.get(execution.key, 0):
            self.fail("S3", f"{what} was started {count} times, and committed {self._launches[execution.key]} times")

    def _must_not_repeat(self, execution: Execution) -> bool:
        """Whether a second start is forbidden: not if the first one succeeded, and its result was to be called for."""
        structure = self._structures[execution.run_id]
        is_for_result = structure.no_result.get(structure.name_of(execution.node)) == "call_again"
        return structure.step(execution.node).get("on_lost") == "fail" and not is_for_result

    def _check_still_wanted(self, process: "SimulatedProcess", execution: Execution) -> None:
        """
        Only a process that was called dead may start what is not its own any more, and only before it knows better.

        Whoever was silent for as long as it takes to be called dead reads the run again before it sends. A takeover
        that was committed before it was heard again is known to it. One that comes later comes of another's pause.
        """
        taken_at, by = self._taken_at.get(execution.key, (0.0, process.id))
        if by == process.id or execution.key in self._late:
            return
        if process.id in self._taken_by.get(execution.key, ()):
            return  # it has taken over from one that lives, and that has told the end meanwhile
        self._world.count("start by a process that has lost it")
        what = f"{execution.label} was started by {process.name}"
        if process.id not in self.called_dead:
            self.fail("S10", f"{what}, which lives and has lost it {self._world.loop.time() - taken_at:g} s ago")
        elif taken_at < process.client.heard_since(process.id):
            self.fail("S3", f"{what}, which was called dead, was heard again since, and has not looked")

    def _plan(self, execution: Execution) -> None:
        script = self._world.scripts.of(execution)
        step = self._structures[execution.run_id].step(execution.node)
        timeout = step.get("timeout", 3600) - (60 if step["target_type"] == "Dataflow" else 0)
        may_end_otherwise = self._world.swarm.two_ends or execution.key in self._unsent
        is_certain = not (script.hangs or script.takes_s + 6 >= timeout or may_end_otherwise)
        planned = self._facts[execution.run_id].planned
        planned[execution.node, execution.attempt] = script.succeeds if is_certain else None

    def not_sent(self, process: "SimulatedProcess", execution: Execution) -> None:
        """An execution has failed in a process, and was not sent by it: another one may send it, or have sent it."""
        entry = self._documents[execution.run_id][execution.node]
        if (entry.get("by"), entry.get("attempt")) != (process.id, execution.attempt):
            return  # it is of no weight what becomes of it there
        facts, which = self._facts[execution.run_id], (execution.node, execution.attempt)
        facts.ends.setdefault(which, set()).add(False)
        facts.planned[which] = None
        self._unsent.add(execution.key)

    def ended(self, execution: Execution, *, succeeded: bool, cancelled: bool = False) -> None:
        """An execution has ended at its target."""
        self._ends[execution.key] += 1
        facts, which = self._facts[execution.run_id], (execution.node, execution.attempt)
        facts.ends.setdefault(which, set()).add(succeeded)
        if cancelled:
            facts.planned[which] = None
        self._live_jobs.pop(execution.key, None)

    def refused(self, execution: Execution, entry_id: str, *, is_told: bool) -> None:
        """A call was refused for load. Its caller may not hear of it, and its log entry may get lost."""
        self._ends[execution.key] += 1
        if is_told:
            self._refusals[entry_id] = execution.key

    def heard_of_refusal(self, execution: Execution) -> None:
        """The caller of a refused call has heard of that, and goes on by itself."""
        self._ends[execution.key] -= 1
        self._heard_of.add(execution.key)

    def execution_of(self, key: str) -> Execution:
        """Return the execution of a committed intent."""
        found = self._executions.get(key)
        if found is None:
            self.fail("S2", f"execution {key} was started, and that was never committed")
            return Execution("", "", 0, key)
        return found

    def stops(self, process: "SimulatedProcess", execution: Execution) -> None:
        """A process is about to stop a job: as far as it has read the run, that is its own."""
        taken_at, by = self._taken_at.get(execution.key, (0.0, process.id))
        is_again = (process.id, execution.key) in self._stopping
        self._stopping.add((process.id, execution.key))
        if is_again or self._documents[execution.run_id][execution.node].get("stop"):
            return  # whoever does it
        if by not in (None, process.id) and taken_at < process.client.known_at.get(
            f"runs/{execution.run_id}.json", 0.0
        ):
            self.fail(
                "S10", f"the job of {execution.label} is stopped by {process.name}, which knows it is not its own"
            )

    def stop_requested(self, key: str) -> None:
        """A job is told to end."""
        self._live_jobs.pop(key, None)

    def dead(self, observer: "SimulatedProcess | None", processes: frozenset[str]) -> None:
        """These were called dead."""
        self.called_dead |= processes
        if observer is not None:
            self._called_dead_at |= dict.fromkeys(((observer.id, each) for each in processes), self._world.loop.time())
        if observer is None or observer.was_paused:
            return  # what it says may be old
        for process in self._world.cluster.processes.values():
            if process.id in processes and process.is_running and process.parked is None:
                age_s = process.client.heartbeats.own_age_s(process.id)
                # A look may have begun before it was heard again.
                is_heard = self._world.loop.time() - process.client.heard_since(process.id) > 30
                if age_s < 40 and is_heard:
                    self.fail("S11", f"{process.name} was called dead, {age_s:g} s after its last heartbeat")

    # -- what is acknowledged ------------------------------------------------------------------------------------

    def acknowledged(self, data: bytes) -> None:
        """A message was."""
        try:
            message = json.loads(data)
            resource = message["resource"]
            kind = resource["type"]
        except (ValueError, KeyError, RecursionError, TypeError):
            return
        if kind == "start":
            run_id = resource.get("labels", {}).get("run_id")
            if run_id in self.definitions and run_id not in self._documents:
                self.fail("S5", f"the start of {run_id} was acknowledged, and there is no document")
        elif kind == "cancel":
            run_id = resource["labels"]["run_id"]
            if self.status(run_id) is not None and not self._may_be_cancelled(run_id):
                self.fail("S5", f"the cancel of {run_id} was acknowledged, and it is Running")
        elif kind != "dataflow_step" and "trace" in message:
            name = resource["labels"].get("function_name") or resource["labels"].get("service_name")
            is_success = (
                "code: 200" in message.get("textPayload", "") or message.get("httpRequest", {}).get("status") == 200
            )
            is_refusal = (
                "code: 429" in message.get("textPayload", "") or message.get("httpRequest", {}).get("status") == 429
            )
            self._told |= {message.get("insertId", "")} & self._refusals.keys()
            if not is_refusal:
                self._completion_acknowledged(message["trace"].rpartition("/")[2], name, is_success=is_success)

    def is_of_nothing(self, data: bytes) -> bool:
        """Whether a message wants the end of a run that does not exist: nobody can ever do that."""
        return any(data == cancel_of(run_id) for run_id in self.definitions.keys() - self._documents.keys())

    def _completion_acknowledged(self, key: str, function: str, *, is_success: bool) -> None:
        record = self._bucket.data(f"executions/{key}.json")
        if record is None:
            self.fail("S2", f"execution {key} has ended, and has no record")
            return
        execution = _decode(record)
        if execution["task_name"] != function:
            return
        entry = self._documents[execution["run_id"]][execution["node_name"]]
        open_statuses = (*LIVE, "New", "Retrying") if is_success else (*LIVE, "New")
        is_known = entry.get("attempt", 0) > execution["attempt"] or entry["status"] not in open_statuses
        structure = self._structures[execution["run_id"]]
        if is_success and structure.no_result[structure.name_of(execution["node_name"])] != "accept":
            # It is noted, or the next attempt brings a result.
            is_noted = entry["status"] == "Retrying" or entry.get("stop") or entry.get("unanswered", {}).get("events")
            is_known = is_known or bool(is_noted)
        if not is_known:
            what = f"attempt {execution['attempt']} of {execution['run_id']} {execution['node_name']}"
            self.fail("S5", f"the end of {what} was acknowledged, and it is {entry['status']}")

    # -- versions to come ----------------------------------------------------------------------------------------

    def note_future(self, run_id: str, value: str) -> None:
        """A newer version has added a field to a document."""
        self._future[run_id] = value

    # -- the end -------------------------------------------------------------------------------------------------

    def check_end(self) -> None:
        """Everything has come to its end: is it the right one?"""
        for run_id in sorted(self._confirmed):
            if run_id not in self._documents:
                self.fail("S5", f"run {run_id} was confirmed to a client, and does not exist")
        for run_id, document in self._documents.items():
            self._check_results(run_id, document)
            interpreter = Interpreter(
                self._structures[run_id],
                document,
                self._facts[run_id],
                self._reading(run_id),
                kept=self._kept[run_id],
                was_cancelled=run_id in self.cancels,
            )
            for difference in interpreter.differences():
                self.fail("S6", f"{run_id}: {difference}")
        if self._world.swarm.is_faultless:
            self._check_budget()
        if self._world.swarm.is_store_good and not self._world.is_directed:
            self._check_records()

    def _check_results(self, run_id: str, document: dict[str, Any]) -> None:
        structure = self._structures[run_id]
        for name, entry in document.items():
            if name == "$run" or entry["status"] != "Completed" or entry.get("node_type") != "Task":
                continue
            result = self._stored(entry) if "result_in" in entry else entry.get("result")
            if result is None:
                policy = structure.no_result.get(structure.name_of(name), "accept")
                if policy != "accept" and document["$run"]["status"] == "Completed":
                    self.fail("S6", f"{run_id} {name} is Completed without a result, and on_no_result is {policy}")
                continue  # told by an event, which has none
            if entry["target_type"] == "Dataflow":
                if result.get("state") != "JOB_STATE_DONE":
                    self.fail("S6", f"{run_id} {name} has the result {result}")
                continue
            own = [result_of(name, entry["attempt"], is_large=large) for large in (False, True)]
            step = structure.step(name)
            if "result" in step:
                own = [self._reading(run_id).evaluate(step["result"], name, result=each) for each in own]
            if result not in own:
                self.fail("S6", f"{run_id} {name} has the result {result!r:.200}")

    def _check_records(self) -> None:
        """A process writes the record of a launch once, unless it loses the race for a commit and decides again."""
        for (key, process), times in self._records_by.items():
            if times > self._launches.get(key, times) and process not in self._lost_races:
                self.fail("S8", f"{process[:8]} wrote the record {key} {times} times: {self._launches[key]} launches")

    def _check_budget(self) -> None:
        attempts = len(self._executions)
        runs = len(self._documents)
        # Other processes look, and try to commit the same. A call that is sent again has its loss, its intent and its
        # event; another process that sends it folds onto an old copy first, and announces itself.
        again, processes = sum(self._calls_again.values()), self._world.swarm.processes
        budget = runs * 8 + attempts * (4 + 2 * processes) + again * (4 if processes == 1 else 6) + self._reasons
        budget += 2 * self._timers  # that a timer is due is told by each process, and committed once
        writes = self._world.writes["runs"] + self._world.writes["open"] + self._world.writes["executions"]
        if writes > budget:
            self.fail("S8", f"{writes} writes for {runs} runs with {attempts} attempts, and {budget} were to be enough")
