"""`Target`: does the work of tasks. `Answer`: the possible outcomes of a launch."""

from typing import Protocol, runtime_checkable

import msgspec

from aiorch.model.dag import Task
from aiorch.model.failure import Failure
from aiorch.ports.context import TaskContext


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """The target did the work: `result` is the answer as encoded JSON, `None` for no answer."""

    result: bytes | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The target ran and failed, or can never run: the retry policy decides."""

    failure: Failure


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The target took the work and will end later; `job_id` is the target's name for the execution."""

    job_id: str | None = None


class NotStarted(msgspec.Struct, frozen=True, gc=False):
    """The execution never ran (no connection, refused for load): the same attempt may be sent again."""

    reason: str
    may_arrive: bool = False
    """A request was sent and not answered, and the target may still carry the request out, however late."""


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """The request was sent and no answer came: the execution may have run, or may be running still."""

    reason: str


Answer = Succeeded | Failed | Accepted | NotStarted | Unknown


class Target(Protocol):
    """
    Does the work of one `target_type`.

    An execution counts as sent, and its timeout runs, from the call of `launch`. A target that may have to wait before
    it sends has an attribute ``begins_itself = True``, and calls `context.begin` after the wait.

    A target may also have a method ``find_problems(task)``. Before a run starts, it gets each task that `resolve` has
    accepted, and returns the mistakes in the step: an `aiorch.model.findings.Finding` each, with a key relative to it.
    """

    def resolve(self, task: Task) -> str | None:
        """
        Return why this process cannot launch *task* (e.g. a callable that cannot be imported), `None` if it can.

        Quick and without I/O beyond imports; the engine may remember the answer.
        """
        ...

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        """
        Launch one execution and return the outcome. Every outcome is a value; no exception is raised.

        The intent and the execution record are durable before this call. The engine may call again with the same
        `context.execution_id` after `NotStarted`, after a crash, or in the process that took the run over. The engine
        sets a deadline around the call; when the deadline or a stop cancels the call, the target gives up at once.
        """
        ...

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """Stop the work of this execution at the target, where the target can stop work."""
        ...

    async def aclose(self) -> None:
        """Release connections and threads."""
        ...


@runtime_checkable
class PolledTarget(Target, Protocol):
    """A target whose executions go on after ``Accepted``: the engine polls until an execution has ended."""

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        """
        Ask the target once for the outcome of an execution.

        Args:
            task: The task.

            context: The same as at the launch.

            job_id: The job id from ``Accepted``; `None` when no process remembers: the execution id finds the job.

        Returns:
            The outcome, or `None` while the execution is under way: ask again later. No exception is raised.
        """
        ...
