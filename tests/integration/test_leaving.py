"""Leaving an orchestrator while some executions run and others wait for their turn."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiorch import AiorchError, Client, Orchestrator, Settings, TargetTypes, TaskContext, TaskStatus
from aiorch.errors import OrchestratorClosedError
from aiorch.model.dag import Task
from aiorch.ports.target import Answer, NotStarted
from tests.definitions import call, chain, parallel, task


class Refused:
    """A target that refuses every call."""

    begins_itself = True

    def __init__(self) -> None:
        self.tries = 0

    def resolve(self, task: Task) -> str | None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        context.begin()
        self.tries += 1
        return NotStarted("no connection")

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_leaving_begins_nothing_that_waits_for_its_turn() -> None:
    """Of three callables for one thread, and a refused call, the callable that runs ends, the rest is given back."""
    began: list[str] = []
    go, target = threading.Event(), Refused()

    def work(context: TaskContext) -> None:
        began.append(context.node)
        go.wait(20)

    branches = [chain(**{name: task(function="t:work")}) for name in "ABC"]
    async with Orchestrator(
        "memory:",
        functions={"t:work": work},
        targets={TargetTypes.CLOUD_FUNCTION: target},
        settings=Settings(drain_s=20, threads_max=1),
    ) as orchestrator:
        run = await orchestrator.start(chain(P=parallel(*branches, chain(Call=call()))))
        while not (began and target.tries):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(1.0, go.set)
    assert (len(began), target.tries) == (1, 1)
    ended = Counter(run.run.nodes[name].status for name in ("A", "B", "C", "Call"))
    assert ended == {TaskStatus.COMPLETED: 1, TaskStatus.RETRYING: 3}


REQUESTS: dict[str, tuple[Callable[[Any], Awaitable[Any]], str]] = {
    "start": (lambda opened: opened.start(chain(A=task(function="t:work")), run_id="b"), "no run was started"),
    "run": (lambda opened: opened.run(chain(A=task(function="t:work")), run_id="b"), "no run was started"),
    "resume": (lambda opened: opened.resume("a"), "no run was started"),
    "attach": (lambda opened: opened.attach("a"), "the run was not read"),
    "cancel": (lambda opened: opened.cancel("a"), "the run was not cancelled"),
    "runs": (lambda opened: opened.runs(), "no run was read"),
}


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
@pytest.mark.parametrize("request_name", REQUESTS)
async def test_a_closed_orchestrator_refuses_each_request(request_name: str, store: str, tmp_path: Path) -> None:
    """The error says that the request had no effect; no caller waits for a run that no process carries out."""
    url = store if store == "memory:" else f"sqlite:///{tmp_path}/state.db"
    async with Orchestrator(url, functions={"t:work": lambda _: None}) as orchestrator:
        await orchestrator.run(chain(A=task(function="t:work")), run_id="a")
    ask, undone = REQUESTS[request_name]
    async with asyncio.timeout(10):
        with pytest.raises(OrchestratorClosedError) as refused:
            await ask(orchestrator)
    assert str(refused.value) == f"this orchestrator is closed, so {undone}. Create a new Orchestrator."


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("kind", [Orchestrator, Client])
async def test_a_request_before_the_entry_is_refused(request_name: str, kind: type[Client], tmp_path: Path) -> None:
    """A process that has not joined its store looks dead to other processes, which would take its tasks over."""
    ask, undone = REQUESTS[request_name]
    with pytest.raises(
        OrchestratorClosedError, match=f"not open yet, so {undone}. Enter it: async with {kind.__name__}"
    ):
        await ask(kind(f"sqlite:///{tmp_path}/state.db"))


@pytest.mark.parametrize("kind", [Orchestrator, Client])
async def test_a_closed_orchestrator_cannot_be_entered_again(kind: type[Client], tmp_path: Path) -> None:
    """Its store and its targets are closed."""
    async with kind(f"sqlite:///{tmp_path}/state.db") as opened:
        pass
    with pytest.raises(AiorchError, match=f"is closed, so it was not opened again. Create a new {kind.__name__}."):
        await opened.__aenter__()


async def test_a_closed_orchestrator_takes_no_message() -> None:
    """A message that no process will read is refused at once."""
    async with Orchestrator("memory:") as orchestrator:
        pass
    with pytest.raises(OrchestratorClosedError, match="so no message was published"):
        orchestrator.publish({"resource": {"type": "start"}})


async def test_a_callable_starts_a_run_during_the_drain(tmp_path: Path) -> None:
    """A start is stored until the last commit, and the next process carries the run out."""
    url, is_under_way = f"sqlite:///{tmp_path}/state.db", asyncio.Event()

    async def start_another(_: TaskContext) -> str:
        is_under_way.set()
        while not orchestrator._executor._is_closing:
            await asyncio.sleep(0)
        return (await orchestrator.start(chain(A=task(function="t:work")), run_id="late")).run_id

    functions: dict[str, Callable[..., Any]] = {"t:start_another": start_another, "t:work": lambda _: 3}
    async with Orchestrator(url, functions=functions) as orchestrator:
        run = await orchestrator.start(chain(A=task(function="t:start_another")))
        await is_under_way.wait()
    assert run.status == "Completed"
    async with Orchestrator(url, functions=functions) as orchestrator:
        assert (await (await orchestrator.attach("late")).wait()).results["A"] == 3
