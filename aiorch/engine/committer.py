"""
One committer per run: an inbox, the fold, and the conditional write that makes the decision of the fold true.

The order, and the cure for a crash in each gap:

1. events gather in the inbox (a crash: they were not acknowledged, or come again as the outcome of a second launch);
2. the committer takes all of them, folds, writes the records of the executions that are to start and the run document
   on condition of its generation (a crash in between: a record without a launch, which does no harm);
3. only then are the events settled, that is acknowledged, and launches follow from the committed state (a crash: the
   task is ``Starting`` with a dead owner, and the process that takes the task over sends the same attempt again).

While a write is under way new events gather, so the next write carries them all.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from aiorch.core.attempts import kept_reason
from aiorch.core.fold import FoldError, fold
from aiorch.core.owed import Obligation, obligation
from aiorch.core.run_events import ProcessesDied, RunEvent, RunStarted, TaskFailed, TaskLost, TaskSucceeded, TaskWaits
from aiorch.documents.runs import StoredRun
from aiorch.engine.in_flight import InFlight
from aiorch.errors import (
    AiorchError,
    GenerationConflict,
    OrchestratorLeftError,
    RunNotFoundError,
    StoreThrottled,
    StoreUnavailable,
    in_words,
)
from aiorch.model import names
from aiorch.model.dag import DAG
from aiorch.model.failure import Failure
from aiorch.model.run import Changes, Run
from aiorch.model.run_document import NodeState

if TYPE_CHECKING:
    from aiorch.engine.executor import DAGExecutor

logger = logging.getLogger(__name__)

BACKOFF_MAX_S = 10.0
"""Longest pause between two tries of one commit: an outage of the store must not cost a minute after its end."""

THROTTLED_QUIETLY = 3
"""Refusals of one commit for its rate before a warning: one or two are the normal course of a wide run."""

NOTE_S = 5.0
"""Seconds for which a note waits for a commit to go with."""

Settle = Callable[[Exception | None], None]
"""Called once about an event: with `None` when the run contains its fact, else with the error that refused it."""

_Batch = list[tuple[RunEvent | None, Settle | None]]


class Committer:
    """
    Owns one run's document in this process.

    The state of a committer needs no lock: every method but `_work` is synchronous, and there is one `_work` at a time.

    Attributes:
        run_id: The run.

        dag, run, generation: The copy of the last document known to be committed, `None` before the first document.

        in_flight: Executions that this process has launched, by the name of the entry.

        starting: Number of starts of this run that are writing its marker in this process.

        marker: Generation of the run's open marker, when this process has written it.

        notice: The generation of the last notice to other processes, and the asyncio task that tells whether the
            notice arrived.

        known_at: When the copy was last known to equal the stored document, in the event loop's time: the beginning
            of the read or write that told so.

        error: The reason why this process cannot commit the run at present, `None` when it can.

        is_announced: The marker was written since this process began to owe an action to the run. The other processes
            then read the owners of the run: should this process die, they know that it was one of them.

        is_current: The copy is good enough to fold onto: if a different process has written since, the next write
            tells. After a failed commit the copy is not good enough, until the committer reads the document again.

        visitors: Number of callers that need this copy, and have no execution under way here that would keep it.
    """

    __slots__ = (
        "_are_notes_due",
        "_executor",
        "_inbox",
        "_is_pursued",
        "_is_unsure",
        "_new",
        "_note_timer",
        "_notes",
        "_offers",
        "_watchers",
        "_working",
        "_writable_at",
        "dag",
        "error",
        "generation",
        "in_flight",
        "is_announced",
        "is_current",
        "known_at",
        "marker",
        "notice",
        "run",
        "run_id",
        "starting",
        "visitors",
    )

    def __init__(self, executor: "DAGExecutor", run_id: names.RunId) -> None:
        self._executor = executor
        self._inbox: _Batch = []
        self._notes: dict[str, TaskWaits] = {}
        """Reasons that wait for a commit to go with, by the name of the entry."""

        self._note_timer: asyncio.TimerHandle | None = None
        self._are_notes_due = False
        self._working: asyncio.Task[None] | None = None
        self._watchers: list[tuple[asyncio.Future[None], int | None]] = []
        self._is_unsure = False
        """A write was sent, and this process has not yet found out whether the write was committed."""

        self._new: StoredRun | None = None
        self._is_pursued = False
        """The obligations of the copy are met, except for the entries that a commit has changed since."""

        self._writable_at = float("-inf")
        """When the store is likely to take the next commit."""

        self._offers = False
        """A commit that may have been applied leaves work to other processes, or makes this process owe an action to
        the run, and the other processes do not know so yet."""

        self.run_id: names.RunId = run_id
        self.dag: DAG | None = None
        self.run: Run | None = None
        self.generation: int = 0
        self.in_flight: dict[str, InFlight] = {}
        self.starting: int = 0
        self.marker: int | None = None
        self.notice: tuple[int, asyncio.Task[bool]] | None = None
        self.known_at: float = 0.0
        self.is_announced: bool = False
        self.is_current: bool = False
        self.visitors: int = 0
        self.error: Exception | None = None

    # -- for all callers -----------------------------------------------------------------------------------------

    def begin(self, new: StoredRun) -> None:
        """Let *new* be the run, unless the store holds the run already."""
        if self.run is None and self._new is None:
            self._new = new
            if self._working is None:  # no document was read yet: the write on condition of generation 0 will tell
                self._take(new, asyncio.get_running_loop().time())
                self._is_pursued = True

    def post(self, event: RunEvent | None, settle: Settle | None = None) -> None:
        """
        Put an event into the inbox; `None` only asks for a look at the stored document.

        There is one working committer per run and process. A committer that was forgotten meanwhile comes back by this
        call, or hands the event on to the committer that has taken its place: two would launch each execution twice.

        Args:
            event: The new fact about the run.

            settle: Called once, when the commit that contains the event is durable or the event was refused.
        """
        registered = self._executor.committers.setdefault(self.run_id, self)
        if registered is not self:
            registered.post(event, settle)
            return
        self._inbox.append((event, settle))
        self._start_work()

    def _start_work(self) -> None:
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    def note(self, event: TaskWaits) -> None:
        """Let a reason go with the next commit, within `NOTE_S`; a later one of the same entry replaces the first."""
        if self._is_noted(event):
            self._notes.pop(event.node, None)
            return
        self._notes[event.node] = event
        if self._note_timer is None:
            self._note_timer = asyncio.get_running_loop().call_later(NOTE_S, self._post_notes)

    def _is_noted(self, event: TaskWaits) -> bool:
        """Whether the entry holds the reason already, or is gone."""
        if self.run is None:
            return False
        state, reason = self.run.nodes.get(event.node), kept_reason(event.reason, len(self.run.nodes))
        return state is None or (state.attempt == event.attempt and state.waits_because == reason)

    def _drop_note_timer(self) -> None:
        if self._note_timer is not None:
            self._note_timer.cancel()

    def _post_notes(self) -> None:
        self._note_timer = None
        if self._notes:
            self._are_notes_due = True
            self._start_work()

    async def apply(self, *events: RunEvent | None) -> None:
        """Post events and wait until they are committed. Raises the error that refused them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        for event in events[:-1]:
            self.post(event)
        self.post(events[-1], settle)
        await done

    def refresh(self) -> None:
        """Read the stored document again, and meet its obligations."""
        self.post(None)

    async def changed(self, since: int | None) -> None:
        """
        Wait until the document has a different generation than *since*; `None`: until the run has ended.

        Raises:
            AiorchError: This process cannot commit the run at present, see `error`.
        """
        if self.run is not None and since not in (None, self.generation):
            return
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append((watcher, since))
        await watcher

    @property
    def is_watched(self) -> bool:
        """Whether a caller waits for a commit."""
        return bool(self._watchers)

    @property
    def is_idle(self) -> bool:
        """Whether no work is under way here: the committer can be forgotten, a later event reads the run again."""
        is_used = self.in_flight or self._watchers or self.visitors or self.starting or self._notes
        return self._working is None and not is_used

    async def close(self) -> None:
        """Wait until the events in the inbox are committed, and let the timer post no notes any more."""
        self._drop_note_timer()
        if self._working is not None:
            await asyncio.wait([self._working])

    async def abandon(self) -> None:
        """Give up the work under way: refuse the events that no commit holds, and wake all callers that wait."""
        self._drop_note_timer()
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        self._wake(OrchestratorLeftError(self.run_id))

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        batch: _Batch = []
        try:
            while self._inbox or self._are_notes_due:
                if self._executor.commit_interval_s:
                    await self._until_writable()
                batch = self._gather()
                await self._commit(batch)
                batch = []
        finally:
            self._working = None
            # Only a cancellation leaves events here: their source sends these events again.
            self._settle([*batch, *self._gather()], OrchestratorLeftError(self.run_id))
            self._executor.release(self)

    async def _until_writable(self) -> None:
        """Let events gather as long as the store would refuse a commit anyway. A mere look costs only a read."""
        pause_s = self._writable_at - asyncio.get_running_loop().time()
        if pause_s > 0 and (self._are_notes_due or any(event is not None for event, _ in self._inbox)):
            await asyncio.sleep(pause_s)

    def _gather(self) -> _Batch:
        batch, self._inbox = self._inbox, []
        return batch

    async def _commit(self, batch: _Batch) -> None:
        """Bring *batch* into the document, in as many tries as needed; events that arrive meanwhile join the batch."""
        tries = 0
        while True:
            if any(event is None for event, _ in batch):
                self.is_current = False
            try:
                await self._try_commit(batch)
            except StoreThrottled as error:
                pause_s = 1.0  # the store applied no write: the copy is as good as before
                self._executor.observer.throttled()
                if tries >= THROTTLED_QUIETLY:
                    extra = {"run_id": self.run_id, "tries": tries + 1, "error": str(error)}
                    logger.warning("commit refused for its rate, trying again", extra=extra)
            except RunNotFoundError as error:
                self._is_unsure = False
                self._drop_notes(list(self._notes.values()))
                self._settle(batch, error)
                self._wake(error)
                return
            except Exception as error:  # noqa: BLE001  a bug must not hang waiting callers, nor lose outcomes
                # A different process wrote, or our own earlier try did, or no answer tells: read and decide again.
                self._distrust()
                pause_s = self._report(error, batch)
            else:
                self._settle(batch, None)
                return
            if not (batch or self._are_notes_due):  # no event and no note waits for a commit
                self.error = None
                return
            tries += 1
            await self._pause(tries, pause_s)
            batch.extend(self._gather())

    async def _try_commit(self, batch: _Batch) -> None:
        was_read = not self.is_current
        if was_read:
            await self._read()
        await self._ask_again_about_the_dead(batch)
        notes = self._gather_notes(batch)
        changes = await self._fold(batch, notes)
        if changes.is_stale and not was_read:
            await self._read()
            await self._ask_again_about_the_dead(batch)
            changes = await self._fold(batch, notes)
        with self._executor.slots.claiming(changes):
            written = () if changes.is_empty else await self._write(changes, len(batch))
            if not self._is_pursued:
                await self._ensure_records(written)
            self._drop_notes(notes)
            self._committed(changes, self._drop_unheard(batch))

    def _gather_notes(self, batch: _Batch) -> list[TaskWaits]:
        """Return the notes to commit with *batch*: all notes, or none if *batch* only reads before they are due."""
        if not self._notes:
            return []
        has_events = any(event is not None for event, _ in batch)
        return [*self._notes.values()] if has_events or self._are_notes_due else []

    def _drop_notes(self, notes: Iterable[TaskWaits]) -> None:
        """Forget notes, except those that a later note has replaced meanwhile."""
        for event in notes:
            if self._notes.get(event.node) is event:
                del self._notes[event.node]
        self._are_notes_due = self._are_notes_due and bool(self._notes)

    async def _ask_again_about_the_dead(self, batch: _Batch) -> None:
        """
        Ask again about processes that were called dead before the committer read this copy.

        Such a process may have come back since, and have committed to more launches, which it sends without a new look.
        """
        for index, (event, settle) in enumerate(batch):
            if isinstance(event, ProcessesDied) and event.asked_at < self.known_at:
                asked_at = asyncio.get_running_loop().time()
                dead = await self._executor.dead_among(event.processes)
                batch[index] = ProcessesDied(dead, asked_at), settle

    def _distrust(self) -> None:
        """Read again before the next fold."""
        self.is_current = False
        if self._new is not None:
            self.run = None  # the run was not stored yet, only about to be

    def _report(self, error: Exception, batch: _Batch) -> float:
        """
        Report an error to the callers that it concerns, and return the seconds until the next try.

        An error that a further try may not mend settles the events that callers brought: these events leave the batch,
        and their callers decide on the next step. Outcomes of executions stay, and are committed as soon as possible.
        """
        if isinstance(error, GenerationConflict):
            self._executor.observer.conflicted()
            return 0.01
        if isinstance(error, StoreUnavailable):
            self._executor.on_store_away()
            logger.warning("store unavailable, trying again", extra={"run_id": self.run_id, "error": str(error)})
            return 0.2
        told = [entry for entry in batch if entry[1] is not None]
        batch[:] = [(event, settle) for event, settle in batch if event is not None and settle is None]
        if self._is_unsure:
            batch.append((None, None))  # perhaps the write was applied: look, and meet its obligations
        if not any(isinstance(event, RunStarted) for event, _ in self._inbox):
            self._new = None  # the caller that wanted to start the run gets the error
        self._settle(told, error)
        self.refuse(error)
        return 1.0

    async def _pause(self, tries: int, base_s: float) -> None:
        delay = min(BACKOFF_MAX_S, base_s * 2 ** min(tries - 1, 7))
        await asyncio.sleep(delay * (0.5 + 0.5 * self._executor.entropy.jitter()))

    async def _read(self) -> None:
        begun_at = asyncio.get_running_loop().time()
        stored = await self._executor.runs.get_run(self.run_id)
        if stored is None and self._new is None:
            raise RunNotFoundError(self.run_id, str(self._executor.runs.store))
        self._new = self._new if stored is None else None
        stored = stored or self._new
        assert stored is not None
        self._take(stored, begun_at)

    def _take(self, stored: StoredRun, known_at: float) -> None:
        """Let *stored* be the copy."""
        self.dag, self.run, self.generation = stored
        self.known_at = known_at
        self.is_current = True
        self._is_pursued = False
        self.is_announced = self.is_announced and (stored is self._new or self._executor.owns(self))

    async def _fold(self, batch: _Batch, notes: list[TaskWaits]) -> Changes:
        """Fold with all results that the decisions need."""
        results: dict[str, msgspec.Raw] = {}
        while (changes := self._fold_with(results, batch, notes)).needs:
            results |= await self._executor.results_of(changes.needs)
        return changes

    def _fold_with(self, results: Mapping[str, msgspec.Raw], batch: _Batch, notes: list[TaskWaits]) -> Changes:
        assert self.dag is not None
        assert self.run is not None
        clock, process = self._executor.clock, self._executor.process
        while True:
            events = [*(event for event, _ in batch if event is not None), *notes]
            try:
                return fold(self.dag, self.run, events, now=clock.now(), process=process, results=results)
            except FoldError as error:
                # One event must not stop the rest, nor the run: park it, and fold the rest without it.
                facts = {"run_id": self.run_id, "node": error.event.node}
                logger.exception("event cannot be folded, leaving it out", extra=facts)
                failed = self._failed_instead(error)
                bad = [entry for entry in batch if entry[0] is error.event]
                batch[:] = [entry for entry in batch if entry[0] is not error.event]
                self._drop_notes([event for event in notes if event is error.event])
                notes[:] = [event for event in notes if event is not error.event]
                self._settle(bad, error)
                batch += [(event, None) for event in failed]

    def _failed_instead(self, error: FoldError) -> list[TaskFailed]:
        """Return the failure in place of a success that cannot be folded: else the run waited for it for ever."""
        event = error.event
        sent = self.in_flight.get(event.node)
        if not isinstance(event, TaskSucceeded) or sent is None or sent.attempt != event.attempt:
            return []
        failure = Failure.of("InternalError", f"its success cannot be folded: {in_words(error.__cause__ or error)}")
        return [TaskFailed(event.node, event.attempt, failure)]

    async def _write(self, changes: Changes, events: int) -> Collection[str]:
        """Write the run and the records of all launches that begin; return the entries of these launches."""
        assert self.dag is not None
        assert self.run is not None
        document, encoded = self.run.encode(changes.header, changes.nodes, changes.gone)
        me, known, is_owner, launches = self._executor.process.id, self.run.nodes, False, {}
        for name, state in changes.nodes.items():
            before = known.get(name)
            if state.by == me:
                is_owner = True
                if obligation(state, me) is Obligation.LAUNCH and _is_new_launch(state, before):
                    launches[name] = self._executor.record_of(self.dag.task_of(name), state, changes.header)
            elif state.by is None and state.is_active:
                self._offers = True
            was_anothers = before is not None and before.by is not None and before.by != me
            if was_anothers or (state.unanswered is not None and state.is_undecided):
                self._offers = True
        if is_owner:
            await self._executor.announce()
            self._offers |= not self.is_announced
            self.is_announced = True
        if changes.values:
            await self._executor.runs.save_values(changes.values)
        self._is_unsure = True
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        self.generation = await self._executor.runs.save_run(
            changes.header, document, [*launches.values()], if_generation_match=self.generation
        )
        self.known_at = begun_at
        self._writable_at = loop.time() + self._executor.commit_interval_s
        self._executor.observer.committed(events, loop.time() - begun_at)
        self.run.apply(changes, encoded, len(document))
        self._new = None
        self._executor.on_commit(self, changes)
        self.is_announced = self.is_announced and self._executor.owns(self)
        if self.run.status.is_terminal:
            self._executor.run_ended(self)
        return launches

    async def _ensure_records(self, written: Collection[str]) -> None:
        """
        Make sure that each execution whose launch this process owes has its record.

        A process may have written the document and died before it wrote the records, or this process wrote both and
        only the document arrived. The launches of the entries in *written* have their records: these were written with
        the document just now, and a second write of them would come too soon for the store.
        """
        assert self.dag is not None
        assert self.run is not None
        owed = [
            self._executor.record_of(self.dag.task_of(name), state, self.run.header)
            for name in self.run.active
            if obligation(state := self.run.nodes[name], self._executor.process.id) is Obligation.LAUNCH
            and name not in written
            and not self._is_sent(name, state)
        ]
        if owed:
            await self._executor.executions.create_executions(owed)

    def _is_sent(self, name: str, state: NodeState) -> bool:
        sent = self.in_flight.get(name)
        return sent is not None and sent.attempt == state.attempt

    def _drop_unheard(self, batch: _Batch) -> list[str]:
        """
        Forget the executions that have ended here and go on for the run, and return their entries.

        The run took no notice of their outcomes, since a different process had taken the executions over. They may be
        ours again.
        """
        assert self.run is not None
        dropped = []
        for event, _ in batch:
            if isinstance(event, TaskFailed | TaskLost):
                sent, state = self.in_flight.get(event.node), self.run.nodes.get(event.node)
                is_live = state is not None and state.is_live and state.attempt == event.attempt
                is_its_own = sent is not None and sent.attempt == event.attempt and event.launch in (0, sent.launch)
                if is_live and sent is not None and sent.has_ended and is_its_own:
                    del self.in_flight[event.node]
                    dropped.append(event.node)
        return dropped

    def _committed(self, changes: Changes, dropped: Collection[str]) -> None:
        assert self.run is not None
        self.error = None
        self._is_unsure = False
        if self._offers:
            self._offers = False
            self._executor.notify_replicas(self)
        touched: Iterable[str] = changes.nodes
        if dropped or changes.gone:
            touched = dict.fromkeys((*changes.nodes, *changes.gone, *dropped))
        was_read = not self._is_pursued
        if was_read:
            # A different process, or a write of ours whose answer was lost, may have changed any entry.
            touched = dict.fromkeys((*self.in_flight, *changes.nodes, *self.run.active, *self.run.due))
            self._is_pursued = True
        self._executor.pursue(self, touched, changes.nodes)
        if self._watchers and (was_read or not changes.is_empty):
            self._wake(None)

    def refuse(self, error: Exception) -> None:
        """Tell the callers that wait for the run that it cannot go on at present; the committed run stays as it is."""
        is_bug = not isinstance(error, AiorchError)
        logger.error(
            "run cannot be committed",
            extra={"run_id": self.run_id, "error": str(error)},
            exc_info=error if is_bug else None,
        )
        self.error = error
        self._wake(error)

    def _wake(self, error: Exception | None) -> None:
        watchers, self._watchers = self._watchers, []
        has_ended = self.run is not None and self.run.status.is_terminal
        for watcher, since in watchers:
            if watcher.done():
                continue
            if error is not None:
                watcher.set_exception(error)
            elif has_ended or since not in (None, self.generation):
                watcher.set_result(None)
            else:
                self._watchers.append((watcher, since))

    @staticmethod
    def _settle(batch: _Batch, error: Exception | None) -> None:
        for _, settle in batch:
            if settle is not None:
                settle(error)


def _is_new_launch(state: NodeState, before: NodeState | None) -> bool:
    """Whether the entry begins the launch that it owes. A second call of an attempt uses the record of the first."""
    if state.calls_again:
        return False
    launch = state.attempt, state.launches, state.by
    return before is None or launch != (before.attempt, before.launches, before.by)
