"""`Program`: a task that runs a program."""

from aiorch import Task
from aiorch_program import KIND


class Program(Task):
    """A program. `target_name` is its name or path; `options` has its arguments and the form of its output."""

    target_kind = KIND
