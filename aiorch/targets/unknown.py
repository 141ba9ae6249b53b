"""Tasks of a stored definition whose kind of target this process does not know: a different process has the package."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from aiorch.model.dag import DAG, Task
from aiorch.model.execution_kind import JOB, ExecutionKind
from aiorch.model.findings import Finding, Hints
from aiorch.steps import Given, Links, TaskStep, Text
from aiorch.targets.kind import TargetKind


class UnknownTask(Task):
    """
    A task that this process folds, cancels and shows, and never launches.

    An execution of such a task counts as a job. So this process makes no decision about the execution of a dead
    process: a process with the package finds its outcome.
    """

    def __init__(
        self, name: str, parent_dag: DAG, target_type: str, options: Mapping[str, Any], /, **shared: Any
    ) -> None:
        self.target_kind: TargetKind = TargetKind(name=target_type, execution=JOB, step="", target="")
        self.target_type: str = target_type
        self.execution: ExecutionKind = JOB
        super().__init__(name, parent_dag, **shared)
        self.options: Mapping[str, Any] = options


class UnknownStep(TaskStep):
    """
    A step with any keys besides the keys of all tasks. The process that stored the step has checked it.

    The kind of the step may give a key of all tasks another type. This process cannot read such a key, so it is an
    option like the keys of the kind. Only the type of the step and the following step must be readable.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    target_name: Given[Text] = None

    @model_validator(mode="wrap")
    @classmethod
    def _keep_unreadable_keys(cls, data: dict[str, Any], validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(data)
        except ValidationError as error:
            wrong = {str(detail["loc"][0]) for detail in error.errors()} - {"type", "target_type", *Links.model_fields}
            step = validate({key: value for key, value in data.items() if key not in wrong})
            assert step.model_extra is not None
            step.model_extra.update({key: data[key] for key in wrong})
            return step

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """Yield no problem: the rules between the keys belong to the kind."""
        yield from ()

    def make_node(self, name: str, parent_dag: DAG) -> Task:
        """Return the task, with all keys that only its kind of target knows as its `options`."""
        return UnknownTask(name, parent_dag, self.target_type, self.model_extra or {}, **self.task_arguments(name))
