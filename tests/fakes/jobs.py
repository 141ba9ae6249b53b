"""A polled target in this process."""

from aiorch.model.dag import Task
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Accepted, Answer, Succeeded


class Jobs:
    """
    A polled target whose jobs end at the first question.

    Attributes:
        launched: Its jobs in the order of their launch, as ``<run id>/<node>``.
    """

    def __init__(self) -> None:
        self.launched: list[str] = []

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        self.launched.append(f"{context.run_id}/{context.node}")
        return Accepted(f"job-{context.node}")

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        return Succeeded()

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        pass

    async def aclose(self) -> None:
        pass
