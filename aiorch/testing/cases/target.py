"""`ScriptedTarget`: gives the answers of a case, in place of the targets of all kinds."""

import asyncio
import builtins
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec

from aiorch.errors import Problem, counted
from aiorch.model.dag import Task
from aiorch.model.failure import Failure
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Answer as TargetAnswer
from aiorch.ports.target import Failed, Succeeded, Target, Unknown
from aiorch.targets.function.exceptions import classes_above
from aiorch.testing.cases.names import EVERY_STEP, is_function
from aiorch.testing.cases.records import Answer, TargetCall

LOST = "Lost"
"""The type of a failure that stands for an answer that never comes."""


class ScriptedTarget:
    """
    An `aiorch.ports.Target` that stands for every target of a case.

    Args:
        answers: The answers by step, see `Case.answers`.

    Attributes:
        functions: Calls the functions of steps whose answer is their function. Set before the first call.

        calls: Every call so far, with the step.

        calling: The entries whose functions run at present.

        unanswered: Gets the problem of the first call without an answer; that call never ends.
    """

    functions: Target

    def __init__(self, answers: Mapping[str, Answer | Sequence[Answer]]) -> None:
        self.calls: list[tuple[Task, TargetCall]] = []
        self.calling: set[str] = set()
        self.unanswered: asyncio.Future[Problem] = asyncio.get_running_loop().create_future()
        self._answers = answers
        self._given: Counter[tuple[str, str]] = Counter()

    def resolve(self, task: Task) -> str | None:
        """Say why the function of a task cannot be called, `None` if it can, or if it is not called."""
        given = self._answers.get(task.name, self._answers.get(EVERY_STEP, ()))
        is_called = any(each.call for each in ([given] if isinstance(given, Answer) else given))
        return self.functions.resolve(task) if is_called and is_function(task) else None

    async def launch(self, task: Task, context: TaskContext) -> TargetAnswer:
        """Give the next answer for the task."""
        loop = asyncio.get_running_loop()
        parameters = msgspec.json.decode(msgspec.json.encode(context.parameters))
        call = TargetCall(entry=context.node, attempt=context.attempt, parameters=parameters, at_s=loop.time())
        self.calls.append((task, call))
        answer = self._next_answer(task, context)
        if not isinstance(answer, Answer):
            return await self._never(Problem(context.node, answer))
        await asyncio.sleep(answer.after)
        if answer.call:
            self.calling.add(context.node)
            try:
                return await self.functions.launch(task, context)
            finally:
                self.calling.remove(context.node)
        if answer.error is None:
            return Succeeded(msgspec.json.encode(answer.result))
        message = answer.message or "as the case says"
        if answer.error == LOST:
            return Unknown(message)
        return Failed(Failure.of(answer.error, message, classes=_classes_above_built_in(answer.error)))

    async def _never(self, problem: Problem) -> NoReturn:
        if not self.unanswered.done():
            self.unanswered.set_result(problem)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def _next_answer(self, task: Task, context: TaskContext) -> Answer | str:
        """Return the answer for a call, or the reason why there is none."""
        name = next((name for name in (context.node, task.name, EVERY_STEP) if name in self._answers), None)
        if name is None:
            return (
                f"this step was called (attempt {context.attempt}), and the case has no answer for it; add one under "
                f"`answers`, e.g. `{task.name}: {{result: null}}`, or one for all other steps: `{EVERY_STEP!r}`"
            )
        answer = self._answers[name]
        if not isinstance(answer, Answer):
            count = self._given[name, task.name]
            if count == len(answer):
                return (
                    f"this step was called {counted(count + 1, 'time')}, and its list under `answers` ends after "
                    f"{count}; add an answer to the list, or give one answer without a list for all calls"
                )
            self._given[name, task.name] += 1
            answer = answer[count]
        if answer.call and not is_function(task):
            return (
                f"this step was called, and the answer {name!r} calls functions only, while the step is a "
                f"{task.target_type} task; give the step an answer of its own under `answers`"
            )
        return answer

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """Do nothing: the engine has given up the call."""

    async def aclose(self) -> None:
        """Do nothing: the target holds no resources."""


def _classes_above_built_in(name: str) -> list[str]:
    """Return the classes above a built-in exception, which a failure raised by a function has as further names."""
    named = vars(builtins).get(name)
    if not isinstance(named, type) or not issubclass(named, BaseException) or named.__name__ != name:
        return []
    return classes_above(named)
