"""
What happens next in a run: `fold`.

Pure: nothing here awaits, logs, reads a clock or draws a random number. `fold` takes the committed run and everything
that was learned since, and returns what is to change; its cost depends on the events, not on the size of the run. The
decisions are those of the kinds of nodes, see `aiorch.core.kind`.

Invariants, checked by the property tests after every fold:

- I1  ``(attempt, status)`` of a task never moves backwards; a terminal status is final; a terminal run never changes.
- I2  a run is terminal only when none of its tasks is ``Starting`` or ``Running``.
- I3  a node starts only when every node before it is ``Completed`` and every node around it is ``Running``.
- I4  a node with scopes is ``Completed`` exactly when all its scopes have ended.
- I5  folding the same events again changes nothing, and the order of events within one batch does not matter.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from aiorch.core.draft import Changes, Draft, NeedsResults, Process
from aiorch.core.run_events import CancelRequested, ProcessesDied, RunEvent, RunStarted, RunTimeoutDue
from aiorch.model.dag import DAG
from aiorch.model.failure import Failure
from aiorch.model.run import Run
from aiorch.model.status import RunStatus

_NO_RESULTS: Mapping[str, msgspec.Raw] = MappingProxyType({})


class FoldError(Exception):
    """An event could not be folded: our bug, or a document that no code of ours writes. Carries the event."""

    def __init__(self, event: RunEvent) -> None:
        self.event = event
        super().__init__(f"{type(event).__name__} of node {event.node!r} cannot be folded")


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

    Total over every (state, event) pair. Within a batch outcomes come first, then commands, then timers, whatever
    their order in *events*.

    Args:
        dag: The DAG of the run.

        run: The run as committed; it is not changed.

        events: What was learned since, in any order, duplicates included.

        now: Time of the commit that is to come.

        process: The process that folds.

        results: Results that stand in execution records, by the name of the entry, for decisions that need them.

    Returns:
        What is to be committed. Empty when the run has absorbed all events already. With `Changes.needs` nothing was
        decided: the decision needs results that were not given.

    Raises:
        FoldError: One of the events cannot be folded; nothing was decided. Leave it out and fold the others.
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
            return Changes(run.header, {}, (), {}, needs=needed.executions)
        except Exception as error:
            raise FoldError(event) from error
    return draft.changes()


def _order(event: RunEvent) -> tuple[int, str, int]:
    return event.rank, event.node, event.attempt


def _tell(draft: Draft, name: str, event: RunEvent) -> None:
    """Let the kind of a node apply an event to an entry. A kind without a handler has no use for the event."""
    at = draft.at(name)
    handler = at.node.kind.handlers.get(type(event))
    if handler is not None:
        handler(draft, at, event)


def _on_run_started(draft: Draft, _: RunStarted) -> None:
    # A run that has begun and goes on always has an active entry: this is the first fold of its life.
    if draft.header.status is RunStatus.RUNNING and not draft.base.active:
        draft.enter(draft.at(draft.dag.start_node))


def _on_cancel(draft: Draft, event: CancelRequested) -> None:
    draft.halt_run(RunStatus.CANCELLING, Failure.of("Cancelled", event.reason))


def _on_run_timeout(draft: Draft, _: RunTimeoutDue) -> None:
    due = draft.header.timeout_at
    if due is not None and due <= draft.now:
        limit = (due - draft.header.created_at).total_seconds()
        failure = Failure.of("Timeout", f"the run took longer than its timeout of {limit:g} s")
        draft.halt_run(RunStatus.FAILING, failure)


def _on_processes_died(draft: Draft, event: ProcessesDied) -> None:
    for _ in range(2):  # an attempt that the first turn finds lost may fail the run, and stop what was left to others
        for name in draft.base.active:
            _tell(draft, name, event)
            draft.work_off()


_OF_RUN: dict[type, Callable[[Draft, Any], None]] = {
    RunStarted: _on_run_started,
    CancelRequested: _on_cancel,
    RunTimeoutDue: _on_run_timeout,
    ProcessesDied: _on_processes_died,
}
"""Events of the run as a whole; all others are applied by the kind of their node."""
