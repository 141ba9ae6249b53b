"""The whole engine in one process: what a run does with real callables, over the memory store and SQLite."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiorch import (
    Client,
    DefinitionError,
    InvalidIdError,
    InvalidInputError,
    Orchestrator,
    RunConflictError,
    RunHandle,
    RunNotFoundError,
    RunStateError,
    RunStatus,
    Settings,
    StoreUrlError,
    TaskContext,
    TaskStatus,
    UnresolvedFunctionError,
)
from aiorch.settings import LaunchSettings
from aiorch.stores.memory import MemoryStore
from tests import definitions
from tests.definitions import parallel

FAST = Settings(sweep_interval_s=0.05, drain_s=0.2, launches=LaunchSettings(running_after_s=0.01))
Steps = dict[str, dict[str, Any]]


def task(name: str, **keys: Any) -> dict[str, Any]:
    return definitions.task(target_name=name, **keys)


def chain(*names: str, **keys: Any) -> dict[str, Any]:
    """A definition whose nodes run the callables of the same names, one after the other."""
    return {"name": "chain", **definitions.chain(**{name: task(name, **keys) for name in names})}


@asynccontextmanager
async def engine(
    functions: dict[str, Callable[..., Any]] | None = None, *, store: Any = None, **options: Any
) -> AsyncIterator[Orchestrator]:
    registered = {f"t:{name}": function for name, function in (functions or {}).items()}
    async with Orchestrator(
        store or MemoryStore(), functions=registered, **{"settings": FAST, **options}
    ) as orchestrator:
        yield orchestrator


def named(definition: Any) -> Any:
    """Turn bare callable names of the definitions here into the registered ones."""
    if isinstance(definition, dict):
        return {
            key: f"t:{value}" if key in ("target_name", "function") and isinstance(value, str) else named(value)
            for key, value in definition.items()
        }
    return [named(each) for each in definition] if isinstance(definition, list) else definition


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryStore() if request.param == "memory" else f"sqlite:///{tmp_path}/state.db"


async def test_a_chain_passes_results_on(store_url: Any) -> None:
    """Each task sees the run's input, its own parameters, and the results of the tasks before it."""
    seen: dict[str, Any] = {}

    async def first(context: TaskContext) -> dict[str, int]:
        seen["first"] = (context.run_id, context.node, context.attempt, context.parameters, context.input)
        return {"n": 1}

    def second(context: TaskContext) -> int:
        seen["second"] = dict(context.results)
        seen["thread"] = threading.current_thread() is not threading.main_thread()
        return context.results["first"]["n"] + context.input["add"]

    definition = chain("first", "second")
    definition["steps"]["first"]["parameters"] = {"p": [1, 2]}
    async with engine({"first": first, "second": second}, store=store_url) as orchestrator:
        run = await orchestrator.start(named(definition), input={"add": 5}, run_id="r1")
        result = await run.wait()
    assert result.status is RunStatus.COMPLETED
    assert dict(result.results) == {"first": {"n": 1}, "second": 6}
    assert seen["first"] == ("r1", "first", 1, {"p": [1, 2]}, {"add": 5})
    assert seen["second"] == {"first": {"n": 1}}
    assert seen["thread"], "a synchronous callable must not run on the event loop"


async def test_branches_run_at_the_same_time(store_url: Any) -> None:
    """Every branch of a Parallel is under way before any of them ends, nested ones too, and the join fires once."""
    everybody = asyncio.Barrier(4)
    joined = []

    async def meet(context: TaskContext) -> str:
        async with asyncio.timeout(5):
            await everybody.wait()
        return context.node

    async def join(context: TaskContext) -> list[str]:
        joined.append(context.node)
        return sorted(context.results)

    a, b, c, d = ({"start": name, "steps": {name: task("meet")}} for name in "ABCD")
    q = {"start": "Q", "steps": {"Q": parallel(c, d)}}
    definition = definitions.chain(P=parallel(a, b, q), End=task("join"))
    async with engine({"meet": meet, "join": join}, store=store_url) as orchestrator:
        result = await (await orchestrator.start(named(definition))).wait()
    assert result.status is RunStatus.COMPLETED
    assert result.results["End"] == ["A", "B", "C", "D"]
    assert joined == ["End"]


async def test_a_sibling_branch_is_not_seen() -> None:
    """A task sees results of what ended before it could start, never of branches that run beside it."""
    a_ended = asyncio.Event()

    async def a(context: TaskContext) -> str:
        a_ended.set()
        return "a"

    async def b(context: TaskContext) -> list[str]:
        await a_ended.wait()
        await asyncio.sleep(0.02)
        assert "A" not in context.results
        return list(context.results)

    definition = {
        "start": "P",
        "steps": {
            "P": parallel({"start": "A", "steps": {"A": task("a")}}, {"start": "B", "steps": {"B": task("b")}}),
        },
    }
    async with engine({"a": a, "b": b}) as orchestrator:
        result = await (await orchestrator.start(named(definition))).wait()
    assert dict(result.results) == {"A": "a", "B": []}


async def test_a_retry_follows_a_failure_and_keeps_its_story() -> None:
    """A failed attempt is followed by another after its delay; the document keeps type, message and cause of each."""

    async def flaky(context: TaskContext) -> int:
        if context.attempt < 3:
            try:
                raise KeyError("deep")
            except KeyError as error:
                raise ValueError(f"attempt {context.attempt} fails") from error
        return context.attempt

    definition = chain("flaky", retry={"max_attempts": 3, "initial_delay": 0.01, "jitter": 0})
    async with engine({"flaky": flaky}) as orchestrator:
        run = await orchestrator.start(named(definition))
        result = await run.wait()
        state = run.run.nodes["flaky"]
    assert (result.status, result.results["flaky"], state.attempt) == (RunStatus.COMPLETED, 3, 3)
    assert [(f.attempt, f.type, f.message, f.cause) for f in state.failures] == [
        (1, "ValueError", "attempt 1 fails", "KeyError: 'deep'"),
        (2, "ValueError", "attempt 2 fails", "KeyError: 'deep'"),
    ]


async def test_retry_on_names_what_is_retried() -> None:
    """`retry.on` lets only the named failures be retried."""

    async def bad(context: TaskContext) -> None:
        raise ValueError("no use")

    definition = chain("bad", retry={"max_attempts": 5, "initial_delay": 0, "on": ["Timeout"]})
    async with engine({"bad": bad}) as orchestrator:
        run = await orchestrator.start(named(definition))
        result = await run.wait()
    assert result.status is RunStatus.FAILED
    assert run.run.nodes["bad"].attempt == 1


async def test_a_failure_fails_its_branch_the_parallel_and_the_run() -> None:
    """With fail_fast the other branches are cancelled, what follows is skipped, and each failure names its cause."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def fails(context: TaskContext) -> None:
        await started.wait()
        raise RuntimeError("no luck")

    async def hangs(context: TaskContext) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def never(context: TaskContext) -> None:
        raise AssertionError("must not run")

    definition = {
        "start": "P",
        "steps": {
            "P": parallel(
                {"start": "Bad", "steps": {"Bad": task("fails", next="AfterBad"), "AfterBad": task("never")}},
                {"start": "Slow", "steps": {"Slow": task("hangs", next="AfterSlow"), "AfterSlow": task("never")}},
                next="End",
            ),
            "End": task("never"),
        },
    }
    async with engine({"fails": fails, "hangs": hangs, "never": never}) as orchestrator:
        run = await orchestrator.start(named(definition))
        result = await run.wait()
    assert cancelled.is_set()
    assert {name: str(state.status) for name, state in run.run.nodes.items()} == {
        "P": "Failed",
        "Bad": "Failed",
        "AfterBad": "Skipped",
        "Slow": "Cancelled",
        "AfterSlow": "Skipped",
        "End": "Skipped",
    }
    assert result.status is RunStatus.FAILED
    assert result.error is not None
    assert (result.error.type, result.error.cause) == ("BranchFailed", "Bad")
    assert "no luck" in result.error.message


async def test_wait_lets_the_other_branches_end() -> None:
    """With `on_failure: wait` the other branches run to their end before the Parallel fails."""
    ran = []

    async def fails(context: TaskContext) -> None:
        raise RuntimeError("no luck")

    async def works(context: TaskContext) -> None:
        await asyncio.sleep(0.01)
        ran.append(context.node)

    definition = {
        "start": "P",
        "steps": {
            "P": parallel(
                {"start": "Bad", "steps": {"Bad": task("fails")}},
                {"start": "B1", "steps": {"B1": task("works", next="B2"), "B2": task("works")}},
                on_failure="wait",
            )
        },
    }
    async with engine({"fails": fails, "works": works}) as orchestrator:
        run = await orchestrator.start(named(definition))
        result = await run.wait()
    assert ran == ["B1", "B2"]
    assert result.status is RunStatus.FAILED
    assert run.run.nodes["P"].status is TaskStatus.FAILED


async def test_cancel_stops_what_runs_and_launches_nothing_more() -> None:
    """A cancel ends a run at once: what runs is cancelled, what has not begun is skipped."""
    running, cleaned = asyncio.Event(), asyncio.Event()

    async def hangs(context: TaskContext) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async def never(context: TaskContext) -> None:
        raise AssertionError("must not run")

    async with engine({"hangs": hangs, "never": never}) as orchestrator:
        run = await orchestrator.start(named(chain("hangs", "never")))
        await running.wait()
        await run.cancel(reason="enough")
        result = await run.wait()
        await orchestrator.cancel(run.run_id)  # again: a run that has ended stays as it is
        assert run.status is RunStatus.CANCELLED
    assert cleaned.is_set()
    assert result.error is not None
    assert result.error.message == "enough"
    assert {name: str(state.status) for name, state in run.run.nodes.items()} == {
        "hangs": "Cancelled",
        "never": "Skipped",
    }


async def test_resume_goes_on_from_the_failed_task(store_url: Any) -> None:
    """Resume makes a new run that keeps completed results and starts the failed task afresh; twice gives the same."""
    calls: Counter[str] = Counter()
    broken = True

    async def good(context: TaskContext) -> str:
        calls["good"] += 1
        return "kept"

    async def bad(context: TaskContext) -> str:
        calls["bad"] += 1
        if broken:
            raise RuntimeError("broken")
        return context.results["good"]

    async with engine({"good": good, "bad": bad}, store=store_url) as orchestrator:
        first = await orchestrator.start(named(chain("good", "bad")), run_id="r")
        assert (await first.wait()).status is RunStatus.FAILED
        broken = False
        second = await orchestrator.resume("r")
        result = await second.wait()
        again = await orchestrator.resume("r")
        with pytest.raises(RunStateError, match="Completed"):
            await orchestrator.resume("r.2")
    assert (second.run_id, again.run_id) == ("r.2", "r.2")
    assert result.status is RunStatus.COMPLETED
    assert result.results["bad"] == "kept"
    assert calls == {"good": 1, "bad": 2}
    assert second.run.nodes["bad"].attempt == 1
    assert second.run.header.resumed_from == "r"
    assert first.status is RunStatus.FAILED, "the run that was resumed stays as it is"


async def test_a_resumed_run_can_be_resumed() -> None:
    """Runs resumed again and again are numbered on: r, r.2, r.3."""

    async def bad(context: TaskContext) -> None:
        raise RuntimeError("still broken")

    async with engine({"bad": bad}) as orchestrator:
        await (await orchestrator.start(named(chain("bad")), run_id="r")).wait()
        await (await orchestrator.resume("r")).wait()
        third = await orchestrator.resume("r.2")
        await third.wait()
    assert third.run_id == "r.3"


async def test_the_same_run_id_is_the_same_run() -> None:
    """Starting a run id twice gives one run; with another definition or input it is refused, and nothing starts."""
    calls: Counter[str] = Counter()

    async def work(context: TaskContext) -> None:
        calls["work"] += 1

    definition = named(chain("work"))
    async with engine({"work": work}) as orchestrator:
        runs = await asyncio.gather(*(orchestrator.start(definition, input=[1], run_id="same") for _ in range(20)))
        for run in runs:
            assert (await run.wait()).status is RunStatus.COMPLETED
        again = await orchestrator.start(definition, input=[1], run_id="same")
        assert (await again.wait()).status is RunStatus.COMPLETED
        with pytest.raises(RunConflictError, match="a different input"):
            await orchestrator.start(definition, input=[2], run_id="same")
        with pytest.raises(RunConflictError, match="a different definition"):
            await orchestrator.start({**definition, "comment": "changed"}, input=[1], run_id="same")
    assert calls == {"work": 1}


async def test_a_start_message_delivered_often_is_one_run() -> None:
    """However often a start message is delivered, it starts one run; its parameters are the run's input."""
    inputs = []

    async def work(context: TaskContext) -> None:
        inputs.append(context.input)

    message = {"resource": {"type": "start"}, "parameters": {"day": 1}}
    async with engine({"work": work}, dags=[named(chain("work"))]) as orchestrator:
        for _ in range(5):
            orchestrator.publish(message, message_id="m1")
        orchestrator.publish({"resource": {"type": "start", "labels": {"run_id": "mine", "dag": "chain"}}})
        orchestrator.publish({"resource": {"type": "start", "labels": {"dag": "unknown"}}})
        orchestrator.publish(b"not json")
        async with asyncio.timeout(5):
            while len([run for run in await orchestrator.runs() if run.status == "Completed"]) < 2:
                await asyncio.sleep(0.01)
        assert len(await orchestrator.store.list("rejected/")) == 2
        assert orchestrator.source.outstanding == 0
    assert sorted(inputs, key=str) == [{"day": 1}, {}]


async def test_a_task_that_hangs_past_its_timeout_fails() -> None:
    """A timeout gives up an async callable and a thread alike, and the failure is of type Timeout."""
    release = threading.Event()

    async def hangs(context: TaskContext) -> None:
        await asyncio.Event().wait()

    def blocks(context: TaskContext) -> None:
        release.wait(10)

    async with engine({"hangs": hangs, "blocks": blocks}) as orchestrator:
        for name in ("hangs", "blocks"):
            run = await orchestrator.start(named(chain(name, timeout=0.05)))
            result = await run.wait()
            assert result.status is RunStatus.FAILED
            error = run.run.nodes[name].error
            assert error is not None
            assert (error.type, "0.05 s" in error.message) == ("Timeout", True)
    release.set()


async def test_a_run_that_takes_too_long_fails() -> None:
    """The definition's own timeout ends the run, and stops what is under way."""

    async def hangs(context: TaskContext) -> None:
        await asyncio.Event().wait()

    async with engine({"hangs": hangs}) as orchestrator:
        run = await orchestrator.start(
            {**named(chain("hangs", "hangs2")), "timeout": 0.05} | {"steps": named(chain("hangs"))["steps"]}
        )
        result = await run.wait()
    assert result.status is RunStatus.FAILED
    assert result.error is not None
    assert result.error.type == "Timeout"
    assert run.run.nodes["hangs"].status is TaskStatus.CANCELLED


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        (Opaque(), "ResultNotJSON", "Opaque"),
        ({"deep": {1, 2, Opaque}}, "ResultNotJSON", "type"),
        ("\ud800", "ResultNotJSON", "surrogates"),
        ("x" * (1024 * 1024), "ResultTooLarge", "1048578 bytes"),
    ],
)
async def test_a_result_that_cannot_be_kept_fails_the_task(value: Any, kind: str, says: str) -> None:
    """A result that is not JSON, or is too large, fails the task with a message that says so."""

    async def returns(context: TaskContext) -> Any:
        return value

    async with engine({"returns": returns}) as orchestrator:
        run = await orchestrator.start(named(chain("returns")))
        result = await run.wait()
    assert result.status is RunStatus.FAILED
    error = run.run.nodes["returns"].error
    assert error is not None
    assert error.type == kind
    assert says in error.message


async def test_a_result_that_is_nested_too_deeply_fails_the_task() -> None:
    """What could be written into a document and never be read again is refused when it is returned."""

    async def returns(context: TaskContext) -> Any:
        value: Any = []
        for _ in range(960):
            value = [value]
        return value

    async with engine({"returns": returns}) as orchestrator:
        run = await orchestrator.start(named(chain("returns")))
        assert (await run.wait()).status is RunStatus.FAILED
        with pytest.raises(InvalidInputError):
            await orchestrator.start(named(chain("returns")), input=await returns(None))


async def test_large_results_go_to_the_execution_record(store_url: Any) -> None:
    """A result above 1 KiB is kept in the execution's record, and later tasks see it like any other."""
    big = {"data": "ü" * 5000}

    async def makes(context: TaskContext) -> Any:
        return big

    async def takes(context: TaskContext) -> bool:
        return context.results["makes"] == big

    def takes_in_thread(context: TaskContext) -> bool:
        return context.results["makes"] == big

    functions = {"makes": makes, "takes": takes, "takes_in_thread": takes_in_thread}
    async with engine(functions, store=store_url) as orchestrator:
        run = await orchestrator.start(named(chain("makes", "takes", "takes_in_thread")))
        result = await run.wait()
        state = run.run.nodes["makes"]
        record = await orchestrator.executions.get_execution(state.execution_id or "")
    assert (result.results["takes"], result.results["takes_in_thread"], result.results["makes"]) == (True, True, big)
    assert state.result_in == "execution"
    assert len(run.document()) < 5000
    assert record is not None
    assert record.succeeded is True
    assert msgspec.json.decode(record.response) == big


async def test_a_record_with_a_large_result_keeps_the_time_of_its_launch(store_url: Any) -> None:
    """A large result that is stored in the record of its execution leaves the time of the launch as it was."""
    records, may_end = [], asyncio.Event()

    async def large(context: TaskContext) -> str:
        records.append(await orchestrator.executions.get_record(context.execution_id))
        await may_end.wait()
        return "ü" * 5000

    async def quick(context: TaskContext) -> None:
        pass

    definition = {
        "name": "two",
        **definitions.chain(p=parallel(*(definitions.chain(**{name: task(name)}) for name in ("large", "quick")))),
    }
    async with engine({"large": large, "quick": quick}, store=store_url) as orchestrator:
        run = await orchestrator.start(named(definition), run_id="r")
        async for _ in run.changes():
            if run.run.nodes["quick"].status is TaskStatus.COMPLETED:
                break
        may_end.set()
        await run.wait()
        after = await orchestrator.executions.get_record(records[0].execution_id)
    assert after is not None
    assert after.succeeded is True
    assert after.launched_at == records[0].launched_at


async def test_the_record_of_an_attempt_that_failed_says_so(store_url: Any) -> None:
    """A record is read as not succeeded when its attempt failed: before the next one, after it, and after the last."""
    ids, may_fail = [], asyncio.Event()

    async def fails(context: TaskContext) -> None:
        ids.append(context.execution_id)
        if context.attempt == 2:
            await may_fail.wait()
        raise ValueError("no luck")

    async def outcomes() -> list[bool | None]:
        records = [await orchestrator.executions.get_execution(key) for key in ids]
        return [record and record.succeeded for record in records]

    async with engine({"fails": fails}, store=store_url) as orchestrator:
        run = await orchestrator.start(named(chain("fails", retry={"max_attempts": 3, "initial_delay": 0.01})))
        async for _ in run.changes():
            if run.run.nodes["fails"].attempt == 2:
                break
        assert await outcomes() == [False, None]
        may_fail.set()
        await run.wait()
        assert await outcomes() == [False, False, False]


async def test_the_record_of_a_failed_attempt_says_so_while_its_retry_waits_and_after_a_cancel(store_url: Any) -> None:
    """A record is read as not succeeded while the next attempt is waited for, and when a cancel has ended that wait."""
    ids = []

    async def fails(context: TaskContext) -> None:
        ids.append(context.execution_id)
        raise ValueError("no luck")

    async def outcome() -> bool | None:
        record = await orchestrator.executions.get_execution(ids[0])
        assert record is not None
        return record.succeeded

    async with engine({"fails": fails}, store=store_url) as orchestrator:
        run = await orchestrator.start(named(chain("fails", retry={"max_attempts": 2, "initial_delay": 1000})))
        async for _ in run.changes():
            if run.run.nodes["fails"].status is TaskStatus.RETRYING:
                break
        assert await outcome() is False
        await run.cancel()
        assert (await run.wait()).status is RunStatus.CANCELLED
        assert await outcome() is False


async def test_the_record_of_a_cancelled_execution_tells_no_outcome(store_url: Any) -> None:
    """A record is read as neither succeeded nor failed when its execution was stopped by a cancel."""
    ids, begun = [], asyncio.Event()

    async def hangs(context: TaskContext) -> None:
        ids.append(context.execution_id)
        begun.set()
        await asyncio.Event().wait()

    async with engine({"hangs": hangs}, store=store_url) as orchestrator:
        run = await orchestrator.start(named(chain("hangs")))
        await begun.wait()
        await run.cancel()
        assert (await run.wait()).status is RunStatus.CANCELLED
        record = await orchestrator.executions.get_execution(ids[0])
        assert record is not None
        assert record.succeeded is None


async def test_execution_records_exist_before_the_launch(store_url: Any) -> None:
    """When a task is called, the record of its execution is in the store; afterwards it tells the outcome."""
    found = []

    async def work(context: TaskContext) -> str:
        found.append(await orchestrator.executions.get_record(context.execution_id))
        return "done"

    async with engine({"work": work}, store=store_url) as orchestrator:
        run = await orchestrator.start(named(chain("work")), run_id="r")
        await run.wait()
        after = await orchestrator.executions.get_execution(found[0].execution_id)
    assert (found[0].run_id, found[0].node_name, found[0].attempt, found[0].task_name) == ("r", "work", 1, "t:work")
    assert after is not None
    assert (after.succeeded, after.response) == (True, msgspec.Raw(b'"done"'))


async def test_the_document_is_the_documented_one(store_url: Any) -> None:
    """The stored run document has the documented shape, and no marker is left when the run has ended."""

    async def work(context: TaskContext) -> int:
        return 7

    async with engine({"work": work}, store=store_url) as orchestrator:
        run = await orchestrator.start(named(chain("work")), run_id="r", input={"x": 1})
        await run.wait()
        async with asyncio.timeout(5):
            while await orchestrator.store.list("open/"):
                await asyncio.sleep(0.01)
        stored = await orchestrator.store.read("runs/r.json")
    assert stored is not None
    document = msgspec.json.decode(stored.data)
    header = document.pop("$run")
    assert set(header) >= {"schema_version", "run_id", "nonce", "dag", "definition", "status", "input", "created_at"}
    assert (header["schema_version"], header["status"], header["input"]) == (1, "Completed", {"x": 1})
    entry = document.pop("work")
    assert not document
    assert {key: entry[key] for key in ("node_name", "node_type", "target_type", "target_name", "status")} == {
        "node_name": "work",
        "node_type": "Task",
        "target_type": "Function",
        "target_name": "t:work",
        "status": "Completed",
    }
    assert (entry["attempt"], entry["result"], len(entry["execution_id"])) == (1, 7, 32)
    assert entry["started_at"] <= entry["ended_at"]


async def test_invalid_starts_are_refused_before_any_write() -> None:
    """Bad definitions, ids, inputs, callables and stores raise clear errors, and the store stays empty."""
    async with engine({"work": lambda context: None}) as orchestrator:
        with pytest.raises(DefinitionError, match="start"):
            await orchestrator.start({"steps": {}})
        for bad in ("../x", ".hidden", "a/b", "a\x00b", "x" * 10_000, "", "näme"):
            with pytest.raises(InvalidIdError):
                await orchestrator.start(named(chain("work")), run_id=bad)
        with pytest.raises(InvalidInputError, match="Opaque"):
            await orchestrator.start(named(chain("work")), input=Opaque())
        for missing, says in (
            ("no_such_module_x:f", "no module 'no_such_module_x' was found"),
            ("asyncio:nothing", "has no 'nothing'"),
            ("asyncio:__name__", "not a callable"),
        ):
            definition = chain("x")
            definition["steps"]["x"]["target_name"] = missing
            with pytest.raises(UnresolvedFunctionError, match=says):
                await orchestrator.start(definition)
        with pytest.raises(RunNotFoundError, match="'gone'"):
            await orchestrator.attach("gone")
        with pytest.raises(RunNotFoundError):
            await orchestrator.cancel("gone")
        assert not await orchestrator.store.list("")
    with pytest.raises(StoreUrlError, match="postgres"):
        Orchestrator("postgres://x")


async def test_a_process_runs_only_callables_that_it_can_resolve() -> None:
    """A task that one process cannot launch waits as New, and another process claims it: no failure."""
    store = MemoryStore()

    async def here(context: TaskContext) -> str:
        return "here"

    async def there(context: TaskContext) -> str:
        return f"there after {context.results['here']}"

    definition = named(chain("here", "there", "here2")) | {}
    definition["steps"]["here2"]["target_name"] = "t:here"
    async with engine({"here": here}, store=store) as one:
        one.check = lambda dag: None  # type: ignore[method-assign]  # as when a definition came from elsewhere
        run = await one.start(definition)
        async with asyncio.timeout(5):
            async for _ in run.changes():
                if run.run.nodes["there"].ready_at is not None:
                    break
        assert run.run.nodes["there"].status is TaskStatus.NEW
        async with engine({"there": there}, store=store):
            async with asyncio.timeout(5):
                result = await run.wait()
    assert result.results["there"] == "there after here"
    assert result.results["here2"] == "here"


async def test_a_target_that_cannot_be_made_loses_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task before it completes, and its own task waits and says why: a cancel ends the run."""

    async def first(context: TaskContext) -> int:
        return 1

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr("aiorch.targets.cloud_function.target.CloudFunctionTarget.__init__", refuse)
    definition = named(chain("first", "second"))
    definition["steps"]["second"] |= {"target_type": "CloudFunction", "target_name": "load"}
    async with engine({"first": first}, dags=[definition]) as one:
        one.publish({"resource": {"type": "start", "labels": {"run_id": "r"}}})
        async with asyncio.timeout(5):
            while (run := await _attached(one, "r")) is None or run.run.nodes["second"].waits_because is None:
                await asyncio.sleep(0)
            assert run.run.nodes["first"].status is TaskStatus.COMPLETED
            assert "no credentials" in run.run.nodes["second"].waits_because
            assert (await (await one.cancel("r")).wait()).status is RunStatus.CANCELLED


async def _attached(orchestrator: Orchestrator, run_id: str) -> RunHandle | None:
    try:
        return await orchestrator.attach(run_id)
    except RunNotFoundError:
        return None


async def test_a_client_leaves_the_work_to_others() -> None:
    """A start, a cancel and a resume of a `Client` are recorded, and another process carries them out."""
    store = MemoryStore()
    running = asyncio.Event()

    async def hangs(context: TaskContext) -> None:
        running.set()
        if context.input is None:
            await asyncio.Event().wait()

    async with engine({"hangs": hangs}, store=store), Client(store, settings=FAST) as client:
        run = await client.start(named(chain("hangs")), run_id="r")
        assert run.run.nodes["hangs"].status is TaskStatus.NEW
        async with asyncio.timeout(5):
            await running.wait()
            await client.cancel("r")
            assert (await run.wait()).status is RunStatus.CANCELLED
            assert (await client.resume("r")).run_id == "r.2"


async def test_work_of_a_dead_process_goes_on(tmp_path: Path) -> None:
    """What a process left behind is taken over: what was completed is not called again, what was started is."""
    calls: Counter[str] = Counter()
    hang = True

    async def first(context: TaskContext) -> str:
        calls["first"] += 1
        return "kept"

    async def second(context: TaskContext) -> str:
        calls["second"] += 1
        if hang:
            await asyncio.Event().wait()
        return context.results["first"]

    url = f"sqlite:///{tmp_path}/state.db"
    async with engine({"first": first, "second": second}, store=url) as orchestrator:
        run = await orchestrator.start(named(chain("first", "second")), run_id="r")
        async with asyncio.timeout(5):
            while not calls["second"]:
                await asyncio.sleep(0.01)
    assert run.status is RunStatus.RUNNING, "leaving the orchestrator must not end the run"
    hang = False
    async with engine({"first": first, "second": second}, store=url) as orchestrator:
        async with asyncio.timeout(5):
            result = await (await orchestrator.attach("r")).wait()
    assert result.results["second"] == "kept"
    assert calls == {"first": 1, "second": 2}


async def test_a_marker_without_a_document_begins_the_run() -> None:
    """A process that died between the marker and the run document loses no start."""
    store = MemoryStore()

    async def work(context: TaskContext) -> str:
        return "done"

    async with Client(store, settings=FAST) as client:
        dag = client.dag(named(chain("work")))
        await client.runs_status.save_dag(dag)
        command = client._executor.start_command(dag, "r", b"null")
        assert await client.runs_status.open_run(command) is not None
    async with engine({"work": work}, store=store) as orchestrator:
        result = await (await orchestrator.attach("r")).wait()
    assert result.results["work"] == "done"


async def test_a_supplementary_function_changes_the_parameters() -> None:
    """`function` on a task of another target is awaited before the launch, and its mapping is merged in."""
    from aiorch import CloudFunction, TargetTypes
    from aiorch.ports.target import Succeeded

    seen = []

    class Target:
        def resolve(self, task: Any) -> None:
            return None

        async def launch(self, task: CloudFunction, context: TaskContext) -> Succeeded:
            seen.append(context.parameters)
            return Succeeded(b"1")

        async def stop(self, task: Any, context: TaskContext, job_id: str | None) -> None:
            return None

        async def aclose(self) -> None:
            return None

    def more(context: TaskContext) -> dict[str, int]:
        return {"b": context.parameters["a"] + 1}

    definition = {
        "start": "Call",
        "steps": {
            "Call": {
                "type": "Task",
                "target_type": "CloudFunction",
                "target_name": "f",
                "parameters": {"a": 1},
                "function": "t:more",
                "end": True,
            }
        },
    }
    async with engine({"more": more}, targets={TargetTypes.CLOUD_FUNCTION: Target()}) as orchestrator:
        assert (await (await orchestrator.start(definition)).wait()).status is RunStatus.COMPLETED
    assert seen == [{"a": 1, "b": 2}]


async def test_several_orchestrators_share_a_process(tmp_path: Path) -> None:
    """Orchestrators have no global state: several live side by side, each with its own callables."""

    async def one(context: TaskContext) -> int:
        return 1

    async def two(context: TaskContext) -> int:
        return 2

    async with engine({"f": one}) as a, engine({"f": two}, store=f"sqlite:///{tmp_path}/b.db") as b:
        results = [await (await each.start(named(chain("f")))).wait() for each in (a, b)]
    assert [result.results["f"] for result in results] == [1, 2]


async def test_a_process_that_is_stopped_gives_its_work_back(tmp_path: Path) -> None:
    """However often a process is stopped while a task runs, the task is tried again, and no retry is used up."""
    url = f"sqlite:///{tmp_path}/state.db"
    patience = 5
    started = asyncio.Event()

    async def slow(context: TaskContext) -> int:
        started.set()
        if context.attempt <= patience:
            await asyncio.Event().wait()
        return context.attempt

    for _ in range(patience):
        started.clear()
        async with engine({"slow": slow}, store=url, settings=Settings(drain_s=0)) as orchestrator:
            run = await orchestrator.start(named(chain("slow")), run_id="r")
            await started.wait()
        assert run.run.nodes["slow"].status is TaskStatus.RETRYING
        assert run.run.nodes["slow"].by is None
    async with engine({"slow": slow}, store=url) as orchestrator:
        result = await (await orchestrator.attach("r")).wait()
    assert result.results["slow"] == patience + 1


async def test_a_task_that_must_not_run_twice_is_not_given_back() -> None:
    """With `on_lost: fail` a call that a stopped process gave up fails, since it may have done something."""
    started = asyncio.Event()

    async def slow(context: TaskContext) -> None:
        started.set()
        await asyncio.Event().wait()

    async with engine({"slow": slow}, settings=Settings(drain_s=0)) as orchestrator:
        run = await orchestrator.start(named(chain("slow", on_lost="fail")))
        await started.wait()
    error = run.run.nodes["slow"].error
    assert error is not None
    assert (run.status, error.type) == (RunStatus.FAILED, "Interrupted")


async def test_run_starts_and_waits() -> None:
    """`run` returns the result of a run that has ended, and of one that exists already, of a client as well."""
    store = MemoryStore()

    async def works(context: TaskContext) -> int:
        return context.input + 1

    async with asyncio.timeout(5), engine({"works": works}, store=store) as orchestrator:
        first = await orchestrator.run(named(chain("works")), input=1, run_id="r")
        assert (first.run_id, first.status, dict(first.results)) == ("r", RunStatus.COMPLETED, {"works": 2})
        async with Client(store, settings=FAST) as client:
            again = await client.run(named(chain("works")), input=1, run_id="r")
            other = await client.run(named(chain("works")), input=2)
        assert (again.results["works"], other.results["works"]) == (2, 3)


async def test_a_view_stays_as_it_is() -> None:
    """`changes` yields views: the first one has no outcome yet when the last one has, and none can be written to."""

    async def works(context: TaskContext) -> None: ...

    async def fails(context: TaskContext) -> None:
        raise ValueError("no")

    async with asyncio.timeout(5), engine({"works": works, "fails": fails}) as orchestrator:
        run = await orchestrator.start(named(chain("works", "fails")), input={"n": 1}, run_id="r")
        views = [view async for view in run.changes()]
    first, last = views[0], views[-1]
    assert (first.status, last.status) == (RunStatus.RUNNING, RunStatus.FAILED)
    assert first.nodes["works"].status is not TaskStatus.COMPLETED
    assert last.counts == {TaskStatus.COMPLETED: 1, TaskStatus.FAILED: 1}
    assert sum(first.counts.values()) == 2
    assert (last.run_id, last.dag, last.input, last.resumed_from) == ("r", "chain", {"n": 1}, None)
    assert last.error is not None
    assert last.ended_at is not None
    assert first.ended_at is None
    assert first.created_at == last.created_at <= last.updated_at == last.ended_at
    with pytest.raises(TypeError):
        last.nodes["works"] = last.nodes["fails"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        last.nodes["works"].status = TaskStatus.FAILED  # type: ignore[misc]
