"""Callables that behave badly, and ends of processes that come at the wrong moment: no other run may suffer."""

import asyncio
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aiorch import Client, RunConflictError, RunStatus, Settings, TaskContext, TaskStatus, UnresolvedFunctionError
from aiorch.errors import StoreUnavailable
from aiorch.ports.store import StoredObject
from aiorch.ports.target import Failed
from aiorch.stores.memory import MemoryStore
from aiorch.targets.function.node import Function
from aiorch.targets.function.target import FunctionTarget
from tests.contexts import a_context
from tests.definitions import parallel
from tests.integration.test_orchestrator import FAST, chain, engine, named, task


def wide(callable_name: str, width: int, **keys: Any) -> dict[str, Any]:
    """A definition with one Parallel of *width* one-task branches."""
    branches = [{"start": f"B{i}", "steps": {f"B{i}": task(callable_name, **keys)}} for i in range(width)]
    return named({"start": "P", "steps": {"P": parallel(*branches, on_failure="wait")}})


async def cancels_itself(context: TaskContext) -> None:
    helper = asyncio.ensure_future(asyncio.Event().wait())
    helper.cancel()
    await helper


def raises_cancelled(context: TaskContext) -> None:
    raise asyncio.CancelledError


async def exits(context: TaskContext) -> None:
    sys.exit(3)


def exits_in_thread(context: TaskContext) -> None:
    sys.exit("bad arguments")


def interrupts(context: TaskContext) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (cancels_itself, "CancelledError"),
        (raises_cancelled, "CancelledError"),
        (exits, "SystemExit"),
        (exits_in_thread, "SystemExit"),
        (interrupts, "RuntimeError"),
    ],
)
async def test_a_callable_that_ends_like_a_process_fails_its_task_alone(function: Any, kind: str) -> None:
    """`sys.exit`, a cancellation from within and a KeyboardInterrupt fail the attempt, and nothing else."""

    async def good(context: TaskContext) -> str:
        return "fine"

    async with engine({"bad": function, "good": good}) as orchestrator:
        run = await orchestrator.start(named(chain("bad")))
        async with asyncio.timeout(5):
            assert (await run.wait()).status is RunStatus.FAILED
            assert (await (await orchestrator.start(named(chain("good")))).wait()).status is RunStatus.COMPLETED
    error = run.run.nodes["bad"].error
    assert error is not None
    assert error.type == kind


async def test_a_failure_names_the_line_that_raised_it() -> None:
    """The document says in which file, line and function the user's code raised; the file is that of its package."""

    def deep(context: TaskContext) -> None:
        raise ValueError("here")

    async with engine({"deep": deep}) as orchestrator:
        run = await orchestrator.start(named(chain("deep")))
        await run.wait()
    error = run.run.nodes["deep"].error
    assert error is not None
    assert error.where is not None
    assert re.fullmatch(r"tests/integration/test_hard_functions\.py:\d+ in deep", error.where)


@pytest.mark.parametrize(
    ("files", "function", "where"),
    [
        ({"orders.py": "def load(context):\n    1 / 0\n"}, "orders:load", "orders.py:2 in load"),
        (
            {"shop/__init__.py": "def load(context):\n    1 / 0\n"},
            "shop:load",
            "shop/__init__.py:2 in load",
        ),
        (
            {"shop/__init__.py": "", "shop/sub/orders.py": "def load(context):\n    1 / 0\n"},
            "shop.sub.orders:load",
            "shop/sub/orders.py:2 in load",
        ),
        (
            {"orders.py": "exec(compile('def load(context):\\n    1 / 0', 'made', 'exec'))\n"},
            "orders:load",
            "made:2 in load",
        ),
        (
            {
                "orders.py": "from runpy import run_path\nload = run_path(__file__[:-9] + 'run.py')['load']\n",
                "run.py": "def load(context):\n    1 / 0\n",
            },
            "orders:load",
            "run.py:2 in load",
        ),
    ],
    ids=["beside the DAG", "package", "subpackage", "made from text", "run by its path"],
)
async def test_the_place_of_a_failure_names_no_folder_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], function: str, where: str
) -> None:
    """A file is named from the folder of the DAG, or from that of its package, and never by its absolute path."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = sys.modules.copy()
    target = FunctionTarget(search_paths=[tmp_path])
    try:
        answer = await target.launch(Function("A", None, target_name=function, function=function), a_context())
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]
    assert isinstance(answer, Failed)
    assert (answer.failure.type, answer.failure.where) == ("ZeroDivisionError", where)


async def test_waiting_for_a_thread_does_not_use_up_the_timeout() -> None:
    """The timeout of a task begins when its callable is called, however many wait for a thread before it."""

    def works(context: TaskContext) -> None:
        threading.Event().wait(0.05)

    settings = Settings(threads_max=1, drain_s=0)
    async with engine({"works": works}, settings=settings) as orchestrator:
        run = await orchestrator.start(wide("works", 8, timeout=0.3))
        result = await run.wait()
    assert result.status is RunStatus.COMPLETED, "eight times 0.05 s in one thread, and each may take 0.3 s"


async def test_drain_gives_back_executions_that_were_not_called() -> None:
    """A stop fails only those `on_lost: fail` tasks that were called; the others are called by the next process."""
    store = MemoryStore()
    called: Counter[str] = Counter()
    release = threading.Event()

    def works(context: TaskContext) -> None:
        called[context.node] += 1
        release.wait(5)

    settings = Settings(threads_max=2, drain_s=0)
    async with engine({"works": works}, store=store, settings=settings) as orchestrator:
        run = await orchestrator.start(wide("works", 10, on_lost="fail"), run_id="r")
        async with asyncio.timeout(5):
            while len(called) < 2:
                await asyncio.sleep(0.005)
    release.set()
    statuses = Counter(state.status for name, state in run.run.nodes.items() if name != "P")
    assert statuses == {TaskStatus.FAILED: 2, TaskStatus.RETRYING: 8}
    async with engine({"works": works}, store=store) as orchestrator:
        await (await orchestrator.attach("r")).wait()
    assert set(called.values()) == {1}
    assert len(called) == 10


async def test_a_callable_that_swallows_its_cancellation_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Leaving an orchestrator is bounded, whatever a callable does with its cancellation."""
    monkeypatch.setattr("aiorch.engine.launches.GIVE_UP_S", 0.05)
    begun, release = asyncio.Event(), asyncio.Event()

    async def stubborn(context: TaskContext) -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(5):
        async with engine({"stubborn": stubborn}, settings=Settings(drain_s=0)) as orchestrator:
            run = await orchestrator.start(named(chain("stubborn")))
            await begun.wait()
    assert run.run.nodes["stubborn"].status is TaskStatus.RETRYING
    release.set()


async def test_a_run_ends_only_when_what_was_stopped_has_ended() -> None:
    """A cancelled callable may clean up: its run is Cancelled after that, not before."""
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def cleans_up(context: TaskContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    async with engine({"cleans_up": cleans_up}) as orchestrator:
        run = await orchestrator.start(named(chain("cleans_up")))
        await begun.wait()
        await run.cancel()
        assert (await run.wait()).status is RunStatus.CANCELLED
        assert cleaned.is_set()


class OneUnreadable(MemoryStore):
    """A store in which one object cannot be read."""

    async def read(self, name: str) -> StoredObject | None:
        if name == "runs/bad.json":
            raise StoreUnavailable("this object cannot be read at present")
        return await super().read(name)


async def test_one_unreadable_run_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open run that cannot be read keeps neither the orchestrator from opening nor other runs from going on."""
    monkeypatch.setattr("aiorch.engine.sweeper.LOOK_S", 0.1)
    store = OneUnreadable()

    async def works(context: TaskContext) -> str:
        return "done"

    async with Client(store, settings=FAST) as client:
        await client.start(named(chain("works")), run_id="bad")
        await client.start(named(chain("works")), run_id="good")
    async with asyncio.timeout(5):
        async with engine({"works": works}, store=store) as orchestrator:
            result = await (await orchestrator.attach("good")).wait()
    assert result.results["works"] == "done"


async def test_a_process_sweeps_on_after_an_unexpected_failure() -> None:
    """Whatever a sweep runs into, the next one comes, and picks up what others have started; so with a client."""

    class Moody(MemoryStore):
        moods = 0

        async def version(self) -> Any:
            self.moods += 1
            if self.moods in (3, 4, 5):  # of both processes
                raise RuntimeError("a bug in an adapter")
            return await super().version()

    store = Moody()

    async def works(context: TaskContext) -> str:
        return "done"

    async with engine({"works": works}, store=store), Client(store, settings=FAST) as client:
        async with asyncio.timeout(5):
            while store.moods < 6:
                await asyncio.sleep(0.01)
            run = await client.start(named(chain("works")))
            assert (await run.wait()).status is RunStatus.COMPLETED


async def test_a_resume_never_returns_a_foreign_run() -> None:
    """A run that happens to have the id of the resumed one is not taken for it."""
    broken = True

    async def works(context: TaskContext) -> None:
        if broken:
            raise ValueError("broken")

    async with engine({"works": works}) as orchestrator:
        await (await orchestrator.start(named(chain("works")), run_id="x")).wait()
        broken = False
        await (await orchestrator.start(named(chain("works")), run_id="x.2")).wait()
        with pytest.raises(RunConflictError, match="a different origin"):
            await orchestrator.resume("x")


async def test_resume_is_refused_where_its_callables_are_not_found(tmp_path: Path) -> None:
    """Like a start, a resume says at once which tasks this process cannot launch."""

    async def works(context: TaskContext) -> None:
        raise ValueError("broken")

    url = f"sqlite:///{tmp_path}/state.db"
    async with engine({"works": works}, store=url) as orchestrator:
        await (await orchestrator.start(named(chain("works")), run_id="x")).wait()
    async with engine(store=url) as orchestrator:
        with pytest.raises(UnresolvedFunctionError, match="t:works"):
            await orchestrator.resume("x")


async def test_runs_of_one_definition_share_its_dag() -> None:
    """Starting the same definition often keeps one DAG in memory."""

    async def works(context: TaskContext) -> None:
        return None

    async with engine({"works": works}) as orchestrator:
        runs = [await orchestrator.start(named(chain("works"))) for _ in range(5)]
        for run in runs:
            await run.wait()
    assert len({id(run.dag) for run in runs}) == 1


async def test_a_wide_run_in_which_everything_fails_stays_small() -> None:
    """The document of a run with many failing branches stays below what one upload may carry."""

    async def fails(context: TaskContext) -> None:
        raise ValueError("x" * 900)

    async with engine({"fails": fails}) as orchestrator:
        run = await orchestrator.start(wide("fails", 4000))
        assert (await run.wait()).status is RunStatus.FAILED
    assert len(run.document()) < 4 * 1024 * 1024


async def test_many_results_at_once_do_not_outgrow_the_document() -> None:
    """Results that end together share the room that is left in the document; the rest goes to their records."""

    async def returns(context: TaskContext) -> str:
        return "x" * 1000

    async with engine({"returns": returns}) as orchestrator:
        run = await orchestrator.start(wide("returns", 4000))
        result = await run.wait()
        assert result.status is RunStatus.COMPLETED
        assert len(run.document()) < 4 * 1024 * 1024
        assert result.results["B0"] == result.results["B3999"] == "x" * 1000


async def test_ten_thousand_branches_complete() -> None:
    """Ten thousand branches in one Parallel complete, with one record each and few commits."""
    count = 0

    async def works(context: TaskContext) -> None:
        nonlocal count
        count += 1

    class Counting(MemoryStore):
        writes = created = 0

        async def write(self, name: str, data: bytes, **options: Any) -> int:
            self.writes += name.startswith("runs/")
            self.created += len(options.get("create", ()))
            return await super().write(name, data, **options)

    store = Counting()
    async with engine({"works": works}, store=store, settings=FAST) as orchestrator:
        run = await orchestrator.start(wide("works", 10_000))
        result = await run.wait()
    assert (result.status, count) == (RunStatus.COMPLETED, 10_000)
    assert store.created == 10_000, "one execution record per task"
    assert store.writes <= 60, "a fan-out of ten thousand must end in few commits"
