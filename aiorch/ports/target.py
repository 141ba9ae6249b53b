"""`Target`: what does the work of tasks, and its answers."""

from typing import Protocol, runtime_checkable

import msgspec

from aiorch.model.dag import Task
from aiorch.model.failure import Failure
from aiorch.ports.context import TaskContext


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """The target did the work: `result` is its answer as encoded JSON, `None` for none."""

    result: bytes | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The target ran and failed, or can never run: the retry policy decides."""

    failure: Failure


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The target took the work and will end later; `job_id` is its own name for it."""

    job_id: str | None = None


class NotStarted(msgspec.Struct, frozen=True, gc=False):
    """It never ran (no connection, refused for load): the same attempt may be sent again."""

    reason: str
    may_arrive: bool = False
    """A request was sent and not answered, and may still be carried out, however late."""


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """It was sent and no answer came: it may have run, it may be running still."""

    reason: str


Answer = Succeeded | Failed | Accepted | NotStarted | Unknown


class Target(Protocol):
    """
    Does the work of one `target_type`.

    An execution counts as sent, and its timeout runs, from the call of `launch`. One that may have to wait before it
    sends has an attribute ``begins_itself = True``, and calls `context.begin` when it does.
    """

    def resolve(self, task: Task) -> str | None:
        """
        Say why this process cannot launch *task* (e.g. a callable that it cannot import), or `None` if it can.

        Quick and without I/O beyond imports; its answer may be remembered.
        """
        ...

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        """
        Launch one execution and return what came of it. Every outcome is a value; nothing is raised.

        The intent and the execution record are durable before this is called. It may be called again with the
        same `context.execution_id` after `NotStarted`, after a crash, or by the process that took the run over.
        A deadline is set around it by the engine; when that cancels it, or a stop does, it gives up at once.
        """
        ...

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """Stop what this execution left at the target, if anything can be stopped there."""
        ...

    async def aclose(self) -> None:
        """Release connections and threads."""
        ...


@runtime_checkable
class PolledTarget(Target, Protocol):
    """A target whose executions go on after ``Accepted``: they are asked about until they have ended."""

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        """
        Ask once what came of an execution.

        Args:
            task: The task.

            context: As at its launch.

            job_id: What ``Accepted`` said; `None` when nobody remembers: it is found by its execution id.

        Returns:
            What came of it, or `None` when that is not known yet: ask again later. Nothing is raised.
        """
        ...
