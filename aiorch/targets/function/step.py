"""The step of a `Function`."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from aiorch.model.dag import Task
from aiorch.model.findings import Finding, Hints
from aiorch.steps import FunctionName, Given, TaskStep, Text, function_problems, needs_one_of
from aiorch.targets.function.node import Function


class FunctionStep(TaskStep):
    """Runs a Python function in the engine's own process."""

    task_class: ClassVar[type[Task]] = Function
    schema_rules: ClassVar[JsonDict] = {"anyOf": needs_one_of("function", "target_name")}

    target_type: Literal["Function"] = Field(description="A Python function in the engine's own process.")
    target_name: Given[Text] = Field(
        None, description="The function that runs, as `module:callable`; with `function` only a name to show."
    )
    function: Given[FunctionName] = Field(
        None, description="The function that runs, as `module:callable`.", examples=["my_tasks:load"]
    )

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:  # noqa: ARG003
        """Yield the problem of the function that runs: `function`, or `target_name` without it."""
        if "function" in data:
            yield from function_problems("function", data)
        elif "target_name" in data:
            yield from function_problems("target_name", data)
        else:
            message = "this key is missing; it is the function that runs, as `module:callable` (or give `function`)"
            yield Finding(("target_name",), message)

    def task_arguments(self, name: str) -> dict[str, Any]:
        """Return the arguments of the task. Either of the two keys stands for the other."""
        runs = {"target_name": self.target_name or self.function, "function": self.function or self.target_name}
        return super().task_arguments(name) | runs
