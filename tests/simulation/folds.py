"""S7: what must be true of every single fold, and documents of versions to come."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

import aiorch.engine.committer
from aiorch.core.fold import FoldError
from aiorch.core.run_events import CancelRequested, ProcessesDied, RunEvent, RunTimeoutDue, TaskInterrupted
from aiorch.errors import StoreThrottled
from aiorch.model.run import Run, run_from_document
from aiorch.model.run_document import decode_document

if TYPE_CHECKING:
    from tests.simulation.world import World

Fail = Callable[[str, str], None]


RARE = (CancelRequested, ProcessesDied, RunTimeoutDue, TaskInterrupted)
"""Events whose folds are always checked."""


@contextmanager
def checked(fail: Fail, *, all_of_them: bool) -> Iterator[None]:
    """Check the folds of the engine that hold something rare, or every one, which takes time."""
    real = aiorch.engine.committer.fold

    def fold(dag: Any, run: Run, events: Sequence[RunEvent], **keys: Any) -> Any:
        changes = real(dag, run, events, **keys)
        if changes.needs or (not all_of_them and not any(isinstance(event, RARE) for event in events)):
            return changes
        try:
            for problem in _problems(partial(real, dag), run, events, changes, keys):
                fail("S7", problem)
        except FoldError as error:
            fail("S7", f"events that were folded cannot be folded again: {error}")
        return changes

    aiorch.engine.committer.fold = fold
    try:
        yield
    finally:
        aiorch.engine.committer.fold = real


def _problems(fold: Callable[..., Any], run: Run, events: Sequence[RunEvent], changes: Any, keys: Any) -> Iterator[str]:
    dag = fold.args[0]  # type: ignore[attr-defined]
    kinds = [type(event).__name__ for event in events]
    document, encoded = run.encode(changes.header, changes.nodes, changes.gone)
    keys_of = [(event.rank, event.node, event.attempt) for event in events]
    if len(set(keys_of)) == len(keys_of) > 1:
        other = fold(run, list(reversed(events)), **keys)
        # One that ends early for an order may ask for results that the other one did not need.
        if not other.needs and run.encode(other.header, other.nodes, other.gone)[0] != document:
            yield f"the order of events changes what is folded: {kinds}"
    if changes.is_empty or changes.is_stale:  # what is stale is read again and never written
        return
    again = run_from_document(dag, *decode_document(document, "document"), "document")
    if again.encode(again.header, {})[0] != document:
        yield "a document that is read and written is another one"
    kept = run_from_document(dag, *decode_document(run.encode(run.header, {})[0], "document"), "document")
    kept.pending, kept.joins = dict(run.pending), dict(run.joins)
    kept.apply(changes, encoded, len(document))
    derived = [(each.due, each.live, each.spilled, each.failure_bytes) for each in (kept, again)]
    if derived[0] != derived[1]:
        yield f"the timers, live tasks, results or bytes of failures of a read document: {derived[1]}, not {derived[0]}"
    # Slots are no state of the run: a task that found none the first time may find one the second time.
    full = msgspec.structs.replace(keys["process"], slots=dict.fromkeys(keys["process"].slots, _no_slots))
    if not fold(again, events, **{**keys, "process": full}).is_empty:
        yield f"events fold a second time: {kinds}"


def _no_slots() -> int:
    return 0


def add_future_fields(world: "World") -> None:
    """Commit to every open run, as a newer version might: fields that nobody here knows."""
    for name, stored in list(world.bucket.objects.items()):
        if not name.startswith("runs/") or name[5:-5] in world.oracle.held:
            continue
        document = msgspec.json.decode(stored.data)
        if document["$run"]["status"] in ("Completed", "Failed", "Cancelled"):
            continue
        value = f"since {world.loop.time()}"
        for entry in document.values():
            if entry["status"] not in ("Completed", "Failed", "Cancelled", "Skipped"):
                entry["x_future"] = value
        document["$run"]["x_future"] = value
        world.count("fields of a newer version")
        world.note("newer", f"adds fields to {name}")
        try:
            world.bucket.write(name, msgspec.json.encode(document), stored.generation, stored.metadata)
        except StoreThrottled:
            continue
        world.oracle.note_future(name[5:-5], value)


HELD_S = (5.0, 30.0, 90.0)
"""For how long a newer version writes documents that nobody here can read."""


def write_as_newer(world: "World") -> None:
    """Commit to every open run, as a newer version might, what nobody here can read; and take it back later."""
    for name, stored in list(world.bucket.objects.items()):
        if not name.startswith("runs/"):
            continue
        document = msgspec.json.decode(stored.data)
        waiting = [key for key, entry in document.items() if entry["status"] == "New"]
        if document["$run"]["status"] in ("Completed", "Failed", "Cancelled"):
            continue
        if waiting and world.tape.draw(f"newer status in {name}", 2):
            document[waiting[0]]["status"] = "Paused"
        else:
            document["$run"]["schema_version"] = 99
        run_id = name[5:-5]
        world.oracle.held[run_id] = stored.data
        try:
            generation = world.bucket.write(name, msgspec.json.encode(document), stored.generation, stored.metadata)
        except StoreThrottled:
            del world.oracle.held[run_id]
            continue
        world.count("document of a newer version")
        world.note("newer", f"writes {name} as only it can read it")
        world.loop.later(world.tape.pick("newer version goes after", HELD_S), _give_back, world, run_id, generation)


def _give_back(world: "World", run_id: str, generation: int) -> None:
    """The newer version leaves the run as the others can read it, and tells them."""
    run, marker = f"runs/{run_id}.json", f"open/{run_id}"
    try:
        if run_id in world.oracle.held:
            stored = world.bucket.objects[run]
            world.bucket.write(run, world.oracle.held[run_id], generation, stored.metadata)
            del world.oracle.held[run_id]
        found = world.bucket.objects[marker]
        world.bucket.write(marker, found.data, found.generation, found.metadata)
    except StoreThrottled:
        world.loop.later(1.0, _give_back, world, run_id, generation)
        return
    world.note("newer", f"leaves {run} to the others")
