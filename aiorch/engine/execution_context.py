"""
The execution that the running code belongs to: a context variable, set while a target works on an execution.

Asyncio tasks copy the variable when they are made, and so do the threads of sync callables and of `asyncio.to_thread`.
A `threading.Thread` that a callable starts by itself does so from Python 3.14 on.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import NamedTuple

from aiorch.engine.redaction import redact
from aiorch.ports.context import TaskContext


class CurrentExecution(NamedTuple):
    """The execution that runs, with the names of `TaskContext`."""

    run_id: str
    dag: str
    node: str
    attempt: int
    execution_id: str


_CURRENT: ContextVar[tuple[CurrentExecution | None, Sequence[str]]] = ContextVar("aiorch_execution", default=(None, ()))
"""The execution, and the secrets that it was given."""


def current_execution() -> CurrentExecution | None:
    """Return the execution that the calling code belongs to, `None` outside of any."""
    return _CURRENT.get()[0]


class executing:  # noqa: N801  a context manager, named as the ones of contextlib are
    """Let everything that is called in this block belong to the execution of *context*, which was given *secrets*."""

    __slots__ = ("_current", "_token")

    def __init__(self, context: TaskContext, secrets: Sequence[str] = ()) -> None:
        execution = CurrentExecution(context.run_id, context.dag, context.node, context.attempt, context.execution_id)
        self._current = execution, secrets

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self._current)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):  # an asyncio task left open is closed in a different context, without the variable
            _CURRENT.reset(self._token)


class ExecutionFilter(logging.Filter):
    """
    Adds run_id, node, attempt and execution_id to every log record of code that belongs to an execution, and replaces
    the values of the secrets that the execution was given.

    The filter drops no record, and adds no facts to a record that names a run itself. Add the filter to a handler: a
    filter of a logger does not see the records of the loggers below.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the facts, and replace the secrets. Returns: `True`."""
        execution, secrets = _CURRENT.get()
        redact(record, secrets)
        if execution is not None and "run_id" not in vars(record):
            facts = {name: getattr(execution, name) for name in ("run_id", "node", "attempt", "execution_id")}
            vars(record).update(facts | vars(record))
        return True
