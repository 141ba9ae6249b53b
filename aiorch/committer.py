"""
One committer per run: an inbox, the fold, and the conditional write that makes its decision true.

The order, and what heals a crash in each gap:

1. events gather in the inbox (a crash: they were not acknowledged, or come again as the outcome of a second launch);
2. the committer takes all of them, folds, writes the records of the executions that are to start and the run document
   on condition of its generation (a crash in between: a record without a launch, which nobody misses);
3. only then are the events settled, that is acknowledged, and launches follow from the committed state (a crash: the
   run is ``Starting`` with a dead owner, and whoever takes it over sends the same attempt again).

While a write is under way new events gather, so the next one carries them all.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiorch import names
from aiorch.dag import DAG
from aiorch.errors import (
    AiorchError,
    GenerationConflict,
    RunNotFoundError,
    StoreError,
    StoreThrottled,
    StoreUnavailable,
)
from aiorch.run_state import Run
from aiorch.status import StoredRun, new_execution
from aiorch.transitions import Changes, FoldError, Obligation, RunEvent, fold, obligation

if TYPE_CHECKING:
    from aiorch.executor import DAGExecutor

logger = logging.getLogger(__name__)

BACKOFF_MAX_S = 10.0
"""Longest pause between two tries of one commit: an outage of the store must not cost a minute after its end."""

Settle = Callable[[BaseException | None], None]
"""Told once what became of an event: `None` when what it says is committed, else why it was not applied."""

_Batch = list[tuple[RunEvent | None, Settle | None]]


class InFlight:
    """An execution that counts as sent, from before the request goes out until its outcome is committed."""

    __slots__ = ("attempt", "awaits_event", "handle", "has_ended", "is_stopping")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.handle: asyncio.Task[None] | None = None
        self.awaits_event = False
        self.is_stopping = False
        self.has_ended = False


class Committer:
    """
    Owns one run's document in this process.

    Its state needs no lock: everything but `_work` is synchronous, and there is one `_work` at a time.

    Attributes:
        run_id: The run.

        dag, run, generation: Committed copy, `None` when it has to be read first.

        in_flight: Executions that this process has launched, by node name.

        is_starting: The marker is being written by this process.

        marker: Generation of the run's open marker, when this process has written it.

        known_at: When the copy was last known to be what is stored, in the event loop's time.

        error: Why the run cannot be committed at present, `None` when it can.

    """

    __slots__ = (
        "_executor",
        "_inbox",
        "_new",
        "_watchers",
        "_working",
        "dag",
        "error",
        "generation",
        "in_flight",
        "is_starting",
        "known_at",
        "marker",
        "run",
        "run_id",
    )

    def __init__(self, executor: "DAGExecutor", run_id: names.RunId) -> None:
        self._executor = executor
        self._inbox: _Batch = []
        self._working: asyncio.Task[None] | None = None
        self._watchers: list[tuple[asyncio.Future[None], bool]] = []
        self._new: StoredRun | None = None
        self.run_id = run_id
        self.dag: DAG | None = None
        self.run: Run | None = None
        self.generation = 0
        self.in_flight: dict[str, InFlight] = {}
        self.is_starting = False
        self.marker: int | None = None
        self.known_at = 0.0
        self.error: AiorchError | None = None

    # -- for everybody -------------------------------------------------------------------------------------------

    def begin(self, new: StoredRun) -> None:
        """Let *new* be the run, unless there is one already in the store."""
        if self.run is None and self._new is None:
            self._new = new
            if self._working is None:  # nothing was read yet: the write on condition of generation 0 will tell
                self.dag, self.run, self.generation = new
                self.known_at = asyncio.get_running_loop().time()

    def post(self, event: RunEvent | None, settle: Settle | None = None) -> None:
        """
        Put an event into the inbox; `None` only asks for a look at the stored document.

        There is one working committer per run and process. One that was forgotten meanwhile comes back by this, or
        hands the event on to the one that has taken its place: two would launch everything twice.

        Args:
            event: What was learned.

            settle: Called once, when the commit that contains the event is durable or the event was refused.
        """
        registered = self._executor.committers.setdefault(self.run_id, self)
        if registered is not self:
            registered.post(event, settle)
            return
        self._inbox.append((event, settle))
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def apply(self, *events: RunEvent | None) -> None:
        """Post events and wait until they are committed. Raises what refused them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        for event in events[:-1]:
            self.post(event)
        self.post(events[-1], settle)
        await done

    def refresh(self) -> None:
        """Read the stored document again, and do what it owes."""
        self.post(None)

    async def changed(self, *, until_end: bool = False) -> None:
        """
        Wait for the next commit, or for the one that ends the run.

        Raises:
            AiorchError: The run cannot be committed at present, see `error`.
        """
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append((watcher, until_end))
        await watcher

    @property
    def is_watched(self) -> bool:
        """Somebody waits for a commit."""
        return bool(self._watchers)

    @property
    def is_idle(self) -> bool:
        """Nothing is under way here: the committer can be forgotten, a later event reads the run again."""
        return self._working is None and not self.in_flight and not self._watchers

    async def close(self) -> None:
        """Wait until what is in the inbox is committed."""
        if self._working is not None:
            await asyncio.wait([self._working])

    def abort(self) -> None:
        """Give up what is under way: events that are not committed are refused."""
        if self._working is not None:
            self._working.cancel()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while self._inbox:
                await self._commit(self._take())
        finally:
            self._working = None
            if self._inbox:  # only when cancelled: the events were not settled, their source sends them again
                self._settle(self._take(), asyncio.CancelledError())
        self._executor.release(self)

    def _take(self) -> _Batch:
        batch, self._inbox = self._inbox, []
        return batch

    async def _commit(self, batch: _Batch) -> None:
        """Bring *batch* into the document, however often it takes; what arrives meanwhile goes with it."""
        if any(event is None for event, _ in batch):
            self.run = None
        tries = 0
        while True:
            try:
                await self._try_commit(batch)
            except StoreThrottled:
                pause_s = 1.0  # nothing was applied: the copy is as good as before
            except StoreError as error:
                # Somebody else wrote, or our own earlier try did, or nobody knows: read again, decide again.
                self.run = None
                pause_s = self._report(error)
            except RunNotFoundError as error:
                self._settle(batch, error)
                self._wake(error)
                return
            except AiorchError as error:
                self._settle(batch, error)
                self._refuse(error)
                return
            else:
                self._settle(batch, None)
                return
            tries += 1
            await self._pause(tries, pause_s)
            batch.extend(self._take())

    async def _try_commit(self, batch: _Batch) -> None:
        was_read = self.run is None
        if was_read:
            await self._read()
        changes = self._fold(batch)
        if changes.is_stale and not was_read:
            await self._read()
            was_read = True
            changes = self._fold(batch)
        if not changes.is_empty:
            await self._write(changes)
        if was_read:
            await self._ensure_records()
        self._committed(changes, was_read=was_read)

    def _report(self, error: StoreError) -> float:
        """Say what the store answered to those who should know, and return after how many seconds to try again."""
        if isinstance(error, GenerationConflict):
            self._executor.conflicts += 1
            return 0.01
        if isinstance(error, StoreUnavailable):
            logger.warning("store unavailable, trying again", extra={"run_id": self.run_id, "error": str(error)})
            return 0.2
        self._refuse(error)
        return 1.0

    async def _pause(self, tries: int, base_s: float) -> None:
        delay = min(BACKOFF_MAX_S, base_s * 2 ** min(tries - 1, 10))
        await asyncio.sleep(delay * (0.5 + 0.5 * self._executor.entropy.jitter()))

    async def _read(self) -> None:
        stored = await self._executor.runs.get_run(self.run_id)
        if stored is None and self._new is None:
            raise RunNotFoundError(self.run_id, "the store")
        self._new = self._new if stored is None else None
        stored = stored or self._new
        assert stored is not None
        self.dag, self.run, self.generation = stored
        self.known_at = asyncio.get_running_loop().time()

    def _fold(self, batch: _Batch) -> Changes:
        assert self.dag is not None
        assert self.run is not None
        while True:
            events = [event for event, _ in batch if event is not None]
            try:
                return fold(self.dag, self.run, events, now=self._executor.clock.now(), process=self._executor.process)
            except FoldError as error:
                # One event must not stop the others, nor the run: it is parked, and they are folded without it.
                logger.exception("event cannot be folded, leaving it out", extra={"run_id": self.run_id})
                bad = [entry for entry in batch if entry[0] is error.event]
                batch[:] = [entry for entry in batch if entry[0] is not error.event]
                self._settle(bad, error)

    async def _write(self, changes: Changes) -> None:
        assert self.dag is not None
        assert self.run is not None
        document, encoded = self.run.encode(changes.header, changes.nodes)
        records = [
            new_execution(self.dag.all_tasks[name], state, changes.header, changes.header.updated_at)
            for name, state in changes.nodes.items()
            if obligation(state, self._executor.process.id) is Obligation.LAUNCH
        ]
        self.generation = await self._executor.runs.save_run(
            changes.header, document, records, if_generation_match=self.generation
        )
        self.known_at = asyncio.get_running_loop().time()
        self.run.apply(changes.header, changes.nodes, encoded, changes.open_branches, len(document))
        self._new = None

    async def _ensure_records(self) -> None:
        """
        Make sure that what is owed a launch has its record.

        The document may have been written by a process that died before it wrote the records, or by ourselves when
        only that write succeeded.
        """
        assert self.dag is not None
        assert self.run is not None
        owed = [
            new_execution(self.dag.all_tasks[name], self.run.nodes[name], self.run.header, self.run.header.updated_at)
            for name in self.run.active
            if obligation(self.run.nodes[name], self._executor.process.id) is Obligation.LAUNCH
            and name not in self.in_flight
        ]
        if owed:
            await self._executor.executions.create_executions(owed)

    def _committed(self, changes: Changes, *, was_read: bool) -> None:
        assert self.run is not None
        self.error = None
        if any(state.by is None and state.is_active for state in changes.nodes.values()):
            self._executor.offer(self)
        touched: Iterable[str] = changes.nodes
        if was_read:
            # Somebody else, or a write of ours whose answer was lost, may have changed anything.
            touched = dict.fromkeys((*self.in_flight, *changes.nodes, *self.run.active))
        self._executor.pursue(self, touched)
        if self._watchers and (was_read or not changes.is_empty):
            self._wake(None)

    def _refuse(self, error: AiorchError) -> None:
        """Tell those who wait; the run itself stays as it is committed."""
        logger.error("run cannot be committed", extra={"run_id": self.run_id, "error": str(error)})
        self.error = error
        self._wake(error)

    def _wake(self, error: AiorchError | None) -> None:
        watchers, self._watchers = self._watchers, []
        has_ended = self.run is not None and self.run.status.is_terminal
        for watcher, until_end in watchers:
            if watcher.done():
                continue
            if error is not None:
                watcher.set_exception(error)
            elif until_end and not has_ended:
                self._watchers.append((watcher, until_end))
            else:
                watcher.set_result(None)

    @staticmethod
    def _settle(batch: _Batch, error: BaseException | None) -> None:
        for _, settle in batch:
            if settle is not None:
                settle(error)
