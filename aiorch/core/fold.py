"""
`fold`: the next state of a run.

Pure: no function here awaits, logs, reads a clock or draws a random number. `fold` takes the committed run and the
events since then, and returns the changes; the cost depends on the events, not on the size of the run. The decisions
are those of the kinds of nodes, see `aiorch.core.kind`.

Invariants, checked by the property tests after every fold:

- I1  ``(attempt, status)`` of a task never moves backwards; a terminal status is final; a terminal run never changes.
- I2  a run is terminal only when no task of the run is ``Starting`` or ``Running``.
- I3  a node begins only inside nodes that are ``Running``, and only where a way leads: in a chain, exactly one node
      before it has ended well and went there; in a graph, all nodes that it needs have ended well. A node has ended
      well that is ``Completed``, was skipped by its own condition, or has failed with a handler.
- I4  a node with scopes is ``Completed`` exactly when all scopes have ended well; after a failure, a handler or a
      further try begins only when no execution inside is live, and the entries of an earlier try never change.
- I5  folding the same events again changes nothing, except that a `TimerDue` begins further nodes that a fold has put
      off; and neither the order of events within one batch matters, nor which results from outside the document the
      fold was given before it asked.
- I6  `finally` begins once, when all other nodes have ended.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from aiorch.core.draft import Draft, NeedsResults, Process
from aiorch.core.run_events import CancelRequested, ProcessesDied, RunEvent, RunStarted, RunTimeoutDue, TimerDue
from aiorch.model.dag import DAG
from aiorch.model.failure import Failure
from aiorch.model.place import At
from aiorch.model.run import Changes, Run
from aiorch.model.status import RunStatus, TaskStatus

_NO_RESULTS: Mapping[str, msgspec.Raw] = MappingProxyType({})


class FoldError(Exception):
    """An event could not be folded: a bug of aiorch, or a document that aiorch never writes. Carries the event."""

    def __init__(self, event: RunEvent) -> None:
        self.event = event
        of = f" of node {event.node!r}" if event.node else ""
        super().__init__(
            f"the event {type(event).__name__}{of} cannot be folded, so it was left out and the run goes on without "
            f"it. This is a fault of aiorch: report it with the log record of this process."
        )


def fold(  # noqa: PLR0913  the run, the events, and the process that folds
    dag: DAG,
    run: Run,
    events: Sequence[RunEvent],
    *,
    now: datetime,
    process: Process,
    results: Mapping[str, msgspec.Raw] = _NO_RESULTS,
) -> Changes:
    """
    Apply events to a run.

    Total over every (state, event) pair. Within a batch outcomes come first, then commands, then timers; the order of
    *events* does not matter.

    Args:
        dag: The DAG of the run.

        run: The run as committed; the fold does not change it.

        events: The events since that commit, in any order, duplicates included.

        now: Time of the commit that holds the changes.

        process: The process that folds.

        results: Results from execution records and value objects, by the name of the entry, for decisions that need
            them.

    Returns:
        The changes to commit. Empty when the run has absorbed all events already. With `Changes.needs` no decision was
        made: one needs results that were not given.

    Raises:
        FoldError: One of the events cannot be folded; no decision was made. Leave that event out and fold again.
    """
    draft = Draft(dag, run, now, process, results)
    if len(events) > 1:
        events = sorted(events, key=_order)
    for event in events:
        try:
            of_run = _OF_RUN.get(type(event))
            if of_run is None:
                _tell(draft, event.node, event)
            else:
                of_run(draft, event)
            draft.work_off()
        except NeedsResults as needed:
            return Changes(run.header, {}, (), {}, {}, run.live, run.failure_bytes, needs=needed.places)
        except Exception as error:
            raise FoldError(event) from error
    return draft.changes()


def _order(event: RunEvent) -> tuple[int, str, int]:
    return event.rank, event.node, event.attempt


def _tell(draft: Draft, name: str, event: RunEvent) -> None:
    """Let the kind of a node apply an event to an entry. A kind without a handler ignores the event."""
    at = draft.at(name)
    if (draft.gone or name not in draft.base.nodes) and not draft.has(name):
        # The event is of a repeated scope: of one that has ended, or of one that is newer than this copy of the run.
        draft.is_stale |= name not in draft.base.nodes
        return
    if type(event) is TimerDue and (state := draft.state(name)).status is TaskStatus.NEW:
        if state.due_at is not None and state.due_at <= draft.now:
            draft.enter(at)  # its turn was put off by a fold that had worked out too many values
        return
    handler = at.node.kind.handlers.get(type(event))
    if handler is not None:
        handler(draft, at, event)


def _on_run_started(draft: Draft, _: RunStarted) -> None:
    # A run that has begun and goes on always has an active entry: this is the first event of the run.
    has_begun = draft.base.active or draft.base.due or draft.nodes or draft.header.final is not None
    if draft.header.status is RunStatus.RUNNING and not has_begun:
        draft.enter_level(draft.dag, lambda node: At(node, node.name))


def _on_cancel(draft: Draft, event: CancelRequested) -> None:
    failure = Failure.of("Cancelled", event.reason)
    if event.force:
        draft.forgo_final(failure)
    elif draft.header.final is None:
        draft.halt_run(RunStatus.CANCELLING, failure)


def _on_run_timeout(draft: Draft, _: RunTimeoutDue) -> None:
    due = draft.header.timeout_at
    if due is None or due > draft.now:
        return
    if draft.header.final is not None:
        limit = (due - draft.header.final.begun_at).total_seconds()
        draft.halt_final(Failure.of("Timeout", f"`finally` took longer than its timeout of {limit:g} s"))
    else:
        limit = (due - draft.header.created_at).total_seconds()
        failure = Failure.of("Timeout", f"the run took longer than its timeout of {limit:g} s")
        draft.halt_run(RunStatus.FAILING, failure)


def _on_processes_died(draft: Draft, event: ProcessesDied) -> None:
    for _ in range(2):  # an attempt that the first turn finds lost may fail the run, and stop the rest
        for name in sorted(draft.base.active):  # the document has no order of them
            _tell(draft, name, event)
            draft.work_off()


_OF_RUN: dict[type, Callable[[Draft, Any], None]] = {
    RunStarted: _on_run_started,
    CancelRequested: _on_cancel,
    RunTimeoutDue: _on_run_timeout,
    ProcessesDied: _on_processes_died,
}
"""Events of the run as a whole. The kind of a node applies all events of the node."""
