"""`Wait`: the run goes on later. No process is needed meanwhile, and no process writes."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from aiorch.core.draft import Draft
from aiorch.core.kind import Handler, NodeKind
from aiorch.core.run_events import RunEvent, TimerDue
from aiorch.expressions.errors import ExpressionError
from aiorch.model.dag import DAG, Node, Value
from aiorch.model.findings import shown
from aiorch.model.place import At
from aiorch.model.status import TaskStatus

SECONDS_MAX = 366 * 86_400


class Wait(Node):
    """A node that completes after a time, or at a time."""

    schema_version = 2

    def __init__(self, name: str, parent_dag: DAG, *, due: Value, is_until: bool, **node: Any) -> None:
        super().__init__(name, parent_dag, **node)
        self.due = due
        self.is_until = is_until

    def values(self) -> Iterator[Value]:
        """Yield the values of the definition, the time or duration among them."""
        yield from super().values()
        yield self.due


def as_time(text: str) -> datetime | None:
    """Return the time that a text in ISO 8601 with a time zone tells, in UTC; `None` for any other text."""
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def on_timer_due(draft: Draft, at: At[Wait], _: TimerDue) -> None:
    """Complete the node once its time has come."""
    state = draft.state(at.name)
    if state.status is TaskStatus.RUNNING and state.due_at is not None and state.due_at <= draft.now:
        draft.finish(at)


class WaitKind(NodeKind[Wait]):
    """The decisions of a `Wait`, which a timer completes."""

    name = "Wait"
    handlers: ClassVar[Mapping[type[RunEvent], Handler]] = {TimerDue: on_timer_due}

    def enter(self, draft: Draft, at: At[Wait]) -> None:
        """Complete at once if the time has come, else wait for the timer."""
        due_at = _due_at(at.node, draft.evaluate(at, at.node.due), draft.now)
        draft.running(at, due_at=due_at)
        if due_at <= draft.now:
            draft.finish(at)

    def caption(self, node: Wait) -> tuple[str, str]:
        """Return whether the node waits for a duration or for a time."""
        return self.name, "until a time" if node.is_until else "for a duration"


def _due_at(node: Wait, value: Any, now: datetime) -> datetime:
    if node.is_until:
        due_at = as_time(value) if isinstance(value, str) else None
        if due_at is None:
            raise ExpressionError(f"`until` is a time with a time zone, and this is {shown(value)}")
        return due_at
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= SECONDS_MAX:
        raise ExpressionError(f"`seconds` is a number from 0 to {SECONDS_MAX} (366 days), and this is {shown(value)}")
    return now + timedelta(seconds=value)


WAIT = WaitKind()
