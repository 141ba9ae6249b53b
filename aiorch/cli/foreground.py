"""A run in the foreground of a terminal: signals, progress, result, and an exit that no thread can block."""
# ruff: noqa: PLC0415  views and reports are imported after the start of the run

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn, TextIO

import msgspec

from aiorch.cli.client import open_client
from aiorch.cli.logs import leave_failures_to_the_report
from aiorch.cli.output import INTERRUPTED, NOT_COMPLETED, OK, OUTPUT_LOST, say
from aiorch.cli.prints import Prints
from aiorch.errors import StoreError, counted
from aiorch.model.status import RunStatus
from aiorch.orchestrator import Orchestrator
from aiorch.run_handle import RunHandle, RunResult
from aiorch.system.exit import ENDING, heeded, leave, leave_on_signal
from aiorch.views.escaping import one_line
from aiorch.views.streams import OutputLostError, is_live, write_line


def run_interruptibly(work: Coroutine[Any, Any, int]) -> int:
    """
    Run *work* in a new event loop.

    The first SIGINT, SIGTERM or SIGHUP cancels *work*, so that it can finish; the second ends the process at once.

    Returns:
        The exit code of *work*, or `INTERRUPTED` when a signal ended it.
    """
    return asyncio.run(_interruptible(work))


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    is_interrupted = False

    def interrupt() -> None:
        nonlocal is_interrupted
        if is_interrupted:
            leave(INTERRUPTED, at_once=True)
        is_interrupted = True
        task.cancel()

    numbers = heeded(ENDING)
    for number in numbers:
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if is_interrupted:
            return INTERRUPTED
        raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        leave_on_signal(INTERRUPTED, *numbers)


async def until_interrupted() -> NoReturn:
    """Wait for ever; a signal cancels the wait."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def run_to_end(  # noqa: PLR0913  its one caller names them
    orchestrator: Orchestrator,
    begin: Callable[[Orchestrator], Awaitable[RunHandle]],
    *,
    results: TextIO,
    prints: Prints,
    as_json: bool,
    continue_command: Callable[[str], str | None],
    command: Callable[..., str] | None,
    resume_options: Sequence[str],
) -> int:
    """
    Start or resume a run, show its progress, print its outcome.

    Args:
        orchestrator: Not opened yet.

        begin: Starts or resumes the run.

        results: The stream for the result, of `prints_to_stderr`.

        prints: The prints of functions, also of `prints_to_stderr`.

        as_json: Print the run document instead of the result.

        continue_command: Returns the command that continues the run with this id after an interrupt, `None` if the
            run cannot be continued.

        command: Returns a command line for the same store, from the name and arguments of a command; `None` if the
            store ends with this process.

        resume_options: Options with which `aiorch resume` finds the callables and the secrets of this run.

    Returns:
        Exit code: 0 completed, 1 failed or cancelled, 74 completed and the result could not be written.
    """
    report = partial(_report, results=results, as_json=as_json, command=command, resume_options=resume_options)
    handle: RunHandle | None = None
    try:
        async with orchestrator:
            handle = await _begun(orchestrator, begin, prints=prints, command=command)
            try:
                if command is not None:
                    await _say_interrupted_runs(orchestrator, command)
                await _follow(handle)
                result = await handle.wait()
            except asyncio.CancelledError:
                _say_interrupted(handle, orchestrator.settings.drain_s)
                raise
            is_written = report(handle, result)
    except asyncio.CancelledError:
        if handle is None:
            raise
        ended = await _ended_while_leaving(orchestrator, handle)
        if ended is None:
            _say_how_to_continue(continue_command(handle.run_id))
            if command is not None:
                _say_wait(handle, command)
            raise
        result = ended
        is_written = report(handle, result)
    if result.status is not RunStatus.COMPLETED:
        return NOT_COMPLETED
    return OK if is_written else OUTPUT_LOST


async def _begun(
    orchestrator: Orchestrator,
    begin: Callable[[Orchestrator], Awaitable[RunHandle]],
    *,
    prints: Prints,
    command: Callable[..., str] | None,
) -> RunHandle:
    """Start or resume the run, and print its id."""
    began_at = datetime.now(UTC)
    leave_failures_to_the_report()
    prints.hold()  # the first task may print before the first line is written
    try:
        handle = await begin(orchestrator)
    except asyncio.CancelledError:
        look = f" If the store has the run, this lists it: {command('runs')}" if command else ""
        say(f"Interrupted while the run was being stored.{look}")
        raise
    if not is_live(sys.stderr):
        say(_first_line(handle))
    prints.release()
    if (ended_at := handle.run.header.ended_at) is not None and ended_at < began_at:
        say(f"Run {handle.run_id} had ended before, so no task was started. To run the DAG again, give a new run id.")
    elif await orchestrator.is_carried_out_elsewhere(handle):
        say("Another process carries out this run. This command shows the run, and continues it if that process ends.")
    return handle


async def _ended_while_leaving(orchestrator: Orchestrator, handle: RunHandle) -> RunResult | None:
    """Return the outcome of a run that ended during the drain, `None` if the run has not ended."""
    if not handle.status.is_terminal:
        return None
    if not handle.run.spilled or str(orchestrator.store) == "memory:":
        return await handle.wait()
    async with open_client(str(orchestrator.store)) as client:  # large results are in the store, which is closed by now
        return await (await client.attach(handle.run_id)).wait()


def _first_line(handle: RunHandle) -> str:
    tasks = counted(len(handle.dag.all_tasks), "task")
    return f"Run {one_line(handle.run_id)} of DAG {one_line(handle.dag.name)}: {tasks}"


async def _follow(handle: RunHandle) -> None:
    def make_view() -> tuple[Callable[..., Awaitable[None]], object]:
        from aiorch.views.follow import follow, view_for

        return follow, view_for(sys.stderr, handle.dag)

    # Imported in a thread, after the start of the run: the first task does not wait for these modules.
    follow, view = await asyncio.to_thread(make_view)
    await follow(handle, view)


def _report(  # noqa: PLR0913  as above
    handle: RunHandle,
    result: RunResult,
    results: TextIO,
    *,
    as_json: bool,
    command: Callable[..., str] | None,
    resume_options: Sequence[str],
) -> bool:
    """Print the outcome of the run and its result. Returns: whether the result could be written."""
    from aiorch.views.failures import failure_lines
    from aiorch.views.report import headline, next_moves

    say(headline(handle.dag, handle.run, datetime.now(UTC)))
    moves = (*_warnings(handle), *next_moves(handle.run, command, resume_options)) if command else ()
    for line in (*failure_lines(handle.dag, handle.run), *moves):
        say(line)
    try:
        if as_json:
            write_line(results, handle.document().decode())
        elif (value := result.output) is not None:
            write_line(results, msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
    except OutputLostError as error:
        reading = ("show", handle.run_id, "--json") if as_json else ("result", handle.run_id)
        kept = f" Read it with: {command(*reading)}" if command else ""
        say(f"Error: {error} The run has ended as shown above, and its results are stored.{kept}")
        return False
    return True


def _warnings(handle: RunHandle) -> Iterator[str]:
    """Warn of a resume without changes if a step of the run would fail again in the same way."""
    from aiorch.model.failure import NEVER_RETRIED
    from aiorch.views.failures import groups_of

    for names, failure, _ in groups_of(handle.dag, handle.run):
        if failure.type in NEVER_RETRIED or handle.dag.node_of(names[0]).kind.name == "Fail":
            yield f"{one_line(names[0])} would fail in the same way again, unless definition, input or code change."
            return


def _say_interrupted(handle: RunHandle, drain_s: float) -> None:
    has_live = drain_s > 0 and handle.run.live > 0
    grace = f" Running tasks have up to {drain_s:g} s to end; a second signal stops them at once." if has_live else ""
    say(f"Interrupted run {one_line(handle.run_id)}.{grace}")


def _say_how_to_continue(command: str | None) -> None:
    say("The run was in memory only and is lost." if command is None else f"Continue it with: {command}")


def _say_wait(handle: RunHandle, command: Callable[..., str]) -> None:
    """Say until when an interrupted run waits, and how any process goes on then."""
    from datetime import UTC, datetime

    from aiorch.views.entries import Entries
    from aiorch.views.progress import until_text

    if (wait := Entries(handle.dag, handle.run).next_wait()) is not None:
        at, until = wait
        say(f"It waits {until_text(until, datetime.now(UTC))}, at {one_line(at.name)}.")
        say(f"A process that serves the store goes on, too: {command('serve')}")


async def _say_interrupted_runs(orchestrator: Orchestrator, command: Callable[..., str]) -> None:
    """Name the other open runs that no process works on: this command does not continue them."""
    from aiorch.views.report import interrupted_runs_line

    with suppress(StoreError):  # the run itself will report it
        if interrupted := await orchestrator.interrupted_runs():
            say(interrupted_runs_line(interrupted, command))
