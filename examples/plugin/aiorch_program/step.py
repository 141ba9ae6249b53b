"""The step of a `Program`."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from aiorch.model.findings import Finding, Hints
from aiorch.steps import TaskStep
from aiorch_program.node import Program


class ProgramStep(TaskStep):
    """Runs a program of this machine."""

    task_class = Program

    target_type: Literal["Program"] = Field(description="A program of this machine.")
    arguments: list[str] = Field(default_factory=list, description="Arguments of the program.", examples=[["-l"]])
    output: Literal["json", "text"] = Field("json", description="Form of the output of the program.")

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:
        """Yield the problem of a name that holds arguments, too."""
        yield from super().find_problems(data, hints)
        name = data.get("target_name")
        if isinstance(name, str) and " -" in name:
            yield Finding(
                ("target_name",), "this holds arguments: they belong into the list `arguments`", at_value=True
            )
