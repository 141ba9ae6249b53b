"""``Function`` tasks: Python callables, run in this process. Async ones on the event loop, sync ones in threads."""

import asyncio
import inspect
import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from aiorch.errors import in_words
from aiorch.model.dag import DAG, Task
from aiorch.model.failure import Failure
from aiorch.model.findings import Finding
from aiorch.model.values import encode_value
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Answer, Failed, Succeeded
from aiorch.settings import Settings
from aiorch.targets.function.arguments import ParameterError
from aiorch.targets.function.blocking import Steps, Watch
from aiorch.targets.function.callables import Callables
from aiorch.targets.function.exceptions import failure_of, raised_at
from aiorch.targets.function.settings import Functions

if TYPE_CHECKING:
    import anyio

THREADS_MAX = 64
"""Sync callables that run at once; the rest wait."""

RESULT_BYTES_MAX = 1024 * 1024
"""Larger results belong into an object of their own, with its name as the result."""

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


def _name_of(task: Task) -> str:
    return task.function or task.target_name


def _is_literal(value: Any) -> bool:
    """Whether a value of a definition has no template, so that a launch passes this very value."""
    return b"${" not in _encode(value)


def _check_supplement(name: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise TypeError(
            f"a function beside another target is called with one argument, the TaskContext, and {name!r} does not "
            f"take that ({error})"
        ) from None
    except ValueError:
        return  # some built-in callables have no signature


class FunctionTarget:
    """
    Finds and calls Python callables.

    A callable gets the `parameters` of its step by name, the `TaskContext`, or both (see `Arguments`), and returns a
    value that has a form in JSON. A function beside another target gets the `TaskContext`. Python cannot interrupt a
    sync callable that the engine gives up (timeout, cancel): the thread goes on in the background, and the target drops
    the result.

    Args:
        functions: Callables by the name that stands for them in definitions.

        search_paths: Folders in which modules with callables are looked up; they join the import path at the end.

        find_folder: Returns the folder that holds the definition of a DAG, by its name; `None`: there is none.

        threads_max: Sync callables that run at once; with 0 they run on the event loop, for tests in virtual time.

        result_bytes_max: Size of an encoded result above which the task fails.

        limit: Executions under way at once in this process, `None` for any number.

        watch: Tells a process that stood still from an async callable that blocks; `None` where time is simulated.
    """

    begins_itself = True

    def __init__(  # noqa: PLR0913  all optional
        self,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        search_paths: Sequence[Path] = (),
        find_folder: Callable[[str], Path | None] = lambda _: None,
        threads_max: int = THREADS_MAX,
        result_bytes_max: int = RESULT_BYTES_MAX,
        limit: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.limit = limit
        self._callables = Callables(functions or {}, search_paths, find_folder)
        self._threads_max = threads_max
        self._threads: anyio.CapacityLimiter | None = None
        self._unlimited: anyio.CapacityLimiter | None = None
        self._result_bytes_max = result_bytes_max
        self._watch = watch
        self._told_of: set[str] = set()

    @classmethod
    def of(cls, own: Functions, settings: Settings) -> Self:  # noqa: ARG003  as of every kind
        """Return the target that the settings describe."""
        paths = [Path(path) for path in own.search_paths]
        return cls(own.functions, search_paths=paths, threads_max=own.threads_max, limit=own.limit)

    def learn(self, dag: DAG, folder: Path | None, search_paths: Sequence[Path] = ()) -> bool:
        """Take in the callables of a DAG and the folders of its modules; see `Callables.learn`."""
        return self._callables.learn(dag.name, dag.functions, folder, search_paths)

    def resolve(self, task: Task) -> str | None:
        """Say why the callable that *task* names cannot be called here, or `None` if it can. Imports its module."""
        name = _name_of(task)
        try:
            callee = self._callables.find(name, task.parent_dag.name)
            if task.supplement:
                _check_supplement(name, callee.function)
        except (Exception, SystemExit) as error:  # noqa: BLE001  importing a user's module may raise anything
            where = raised_at(error)
            return in_words(error) + (f" (at {where})" if where else "")
        return None

    def find_problems(self, task: Task) -> list[Finding]:
        """
        Return the mistakes in the `parameters` of *task* that the signature of its callable shows.

        Raises:
            Exception: The callable cannot be called here: see `resolve`.
        """
        callee = self._callables.find(_name_of(task), task.parent_dag.name)
        return callee.arguments.find_problems(task.parameters, _is_literal)

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        """Call the task's callable; an exception of the callable is the failure of this attempt."""
        name = _name_of(task)
        try:
            callee = self._callables.find(name, context.dag)
            result = await self._call(callee.call, name, context, is_async=callee.is_async)
        except ParameterError as error:
            return Failed(Failure.of("ParameterError", str(error)))
        except asyncio.CancelledError as error:
            task_of_engine = asyncio.current_task()
            if task_of_engine is not None and task_of_engine.cancelling():
                raise  # a stop, a timeout, or the end of this process
            return Failed(
                Failure.of("CancelledError", "the callable was cancelled from within", None, raised_at(error))
            )
        except (Exception, SystemExit) as error:
            # The message may quote the input, and so belongs into the run's document, not into the log.
            facts = {"run_id": context.run_id, "node": context.node, "attempt": context.attempt}
            logger.info(
                "function raised",
                extra={**facts, "error_type": type(error).__name__},
                exc_info=error if logger.isEnabledFor(logging.DEBUG) and not context.has_secrets else None,
            )
            return Failed(failure_of(error))
        return Succeeded() if result is None else self._answer(name, result)

    def _answer(self, name: str, result: Any) -> Answer:
        """Return the answer with the result of a callable, or the failure of a result that cannot be stored."""
        try:
            encoded = encode_value(result)
        except ValueError as error:
            message = (
                f"{name!r} returned {type(result).__name__!r}, which is not JSON, so the result was not stored: "
                f"{error}. Return numbers, strings, lists and dicts of such."
            )
            return Failed(Failure.of("ResultNotJSON", message))
        if len(encoded) > self._result_bytes_max:
            message = (
                f"{name!r} returned {len(encoded)} bytes of JSON, and the limit is {self._result_bytes_max}; "
                f"the result was not stored. Store the data yourself, and return where it is."
            )
            return Failed(Failure.of("ResultTooLarge", message))
        return Succeeded(encoded)

    async def call(self, name: str, context: TaskContext) -> Any:
        """
        Call a callable by its name with the context alone, as a function beside another target.

        Raises:
            LookupError: There is no such callable.

            Exception: Any exception of the callable, or of its import.
        """
        callee = self._callables.find(name, context.dag)
        return await self._call(callee.function, name, context, is_async=callee.is_async)

    async def _call(
        self, call: Callable[[TaskContext], Any], name: str, context: TaskContext, *, is_async: bool
    ) -> Any:
        """Let *call* call the callable: on the event loop if the callable is async, else in a thread."""
        if is_async:
            context.begin()
            return await self._measured(call(context), name, context)
        if self._threads_max:
            result = await self._in_thread(call, context)
        else:
            context.begin()
            result = call(context)
        if inspect.iscoroutine(result):
            return await self._measured(result, name, context)
        return await result if inspect.isawaitable(result) else result

    async def _in_thread(self, call: Callable[[TaskContext], Any], context: TaskContext) -> Any:
        import anyio.to_thread  # noqa: PLC0415  its import takes long, and async callables need no thread

        if self._threads is None:
            self._threads, self._unlimited = anyio.CapacityLimiter(self._threads_max), anyio.CapacityLimiter(math.inf)
        async with self._threads:
            context.begin()
            try:
                return await anyio.to_thread.run_sync(call, context, abandon_on_cancel=True, limiter=self._unlimited)
            except KeyboardInterrupt as error:  # Ctrl-C reaches no thread but the main one: the function raised it
                raise RuntimeError("KeyboardInterrupt") from error

    async def _measured(self, coroutine: Coroutine[Any, Any, Any], name: str, context: TaskContext) -> Any:
        """Await a callable's coroutine, and report each step that blocks the event loop."""
        has_blocked = False

        def blocked(seconds: float) -> None:
            nonlocal has_blocked
            has_blocked = True
            self._tell_of_block(seconds, name, context)
            context.blocked(seconds)

        if self._watch is not None:
            self._watch.attach()
        try:
            result = await Steps(coroutine, blocked, self._watch)
        finally:
            if self._watch is not None:
                self._watch.detach()
        if has_blocked:
            await asyncio.sleep(0)  # the timeout may be over: the attempt ends here
        return result

    def _tell_of_block(self, seconds: float, name: str, context: TaskContext) -> None:
        if name not in self._told_of:
            self._told_of.add(name)
            logger.warning(
                "async callable %r blocked the event loop for %.1f s, and every other task, timeout and heartbeat of "
                "this process waited: make it a plain def, which runs in a thread, or await instead",
                name,
                seconds,
                extra={
                    "run_id": context.run_id,
                    "node": context.node,
                    "attempt": context.attempt,
                },
            )

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """Do nothing: no request stops a callable, and the engine has given up the call."""

    async def aclose(self) -> None:
        """Do nothing: the target holds no resources."""
