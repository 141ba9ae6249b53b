"""Tasks of a stored definition whose kind of target this process does not know: a different process has the package."""

from typing import Any, ClassVar

from pydantic import ConfigDict

from aiorch.model.dag import DAG, Task
from aiorch.model.execution_kind import JOB, ExecutionKind
from aiorch.steps import Given, TaskStep, Text
from aiorch.targets.kind import TargetKind


class UnknownTask(Task):
    """
    A task that this process folds, cancels and shows, and never launches.

    An execution of such a task counts as a job. So this process makes no decision about the execution of a dead
    process: a process with the package finds its outcome.
    """

    def __init__(self, name: str, parent_dag: DAG, /, *, target_type: str, **task: Any) -> None:
        self.target_kind: TargetKind = TargetKind(name=target_type, execution=JOB, step="", target="", settings="")
        self.target_type: str = target_type
        self.execution: ExecutionKind = JOB
        super().__init__(name, parent_dag, **task)


class UnknownStep(TaskStep):
    """A step with any keys besides the keys of all tasks. The process that stored the step has checked it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    task_class: ClassVar[type[Task]] = UnknownTask

    target_name: Given[Text] = None

    def task_arguments(self, name: str) -> dict[str, Any]:
        """Return the arguments of the task, with all keys that only its kind of target knows."""
        return {**(self.model_extra or {}), **super().task_arguments(name), "target_type": self.target_type}
