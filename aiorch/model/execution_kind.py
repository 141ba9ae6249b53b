"""
Kinds of executions: the facts about an execution that matter when the process of an execution or the answer is lost.

The definition gives them, by the target type of the task. A process that has no target for the task knows them too.
"""

from enum import StrEnum

import msgspec


class EndTold(StrEnum):
    """The way in which a process learns the end of an execution that a different process has launched."""

    NEVER = "never"

    BY_EVENT = "by an event"
    """The platform publishes an event, which arrives only where a source of messages is configured."""

    ON_POLLING = "on polling"
    """The target answers every poll. The answer to the launch only says that the target has taken the execution."""


class ExecutionKind(msgspec.Struct, frozen=True):
    """Four facts about an execution. The kinds of the built-in targets are `CALLABLE`, `CALL` and `JOB`."""

    outlives_process: bool
    """The execution may go on, or begin, after the process that launched it is gone."""

    end_told: EndTold

    can_be_stopped: bool
    """The target stops the execution on request of any process."""

    is_found_again: bool
    """A second launch under the same execution id finds the first execution, and starts no second one."""

    @property
    def is_polled(self) -> bool:
        """The target is asked for the end of the execution."""
        return self.end_told is EndTold.ON_POLLING


CALLABLE = ExecutionKind(False, EndTold.NEVER, can_be_stopped=False, is_found_again=False)
"""A callable that runs within the process."""

CALL = ExecutionKind(True, EndTold.BY_EVENT, can_be_stopped=False, is_found_again=False)
"""A request whose answer is the end of the execution."""

JOB = ExecutionKind(True, EndTold.ON_POLLING, can_be_stopped=True, is_found_again=True)
"""Work that the target carries out under a name that aiorch gives."""
