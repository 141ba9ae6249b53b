"""Calls whose answer was lost: what the platform's events say about them, and what follows from that."""

import asyncio
from typing import Any

import msgspec
import pytest

from aiorch import DAGBuilder, TaskContext
from aiorch.core.attempts import LAUNCHES_MAX
from aiorch.core.run_events import ProcessesDied, TaskLost
from aiorch.model.dag import Task
from aiorch.model.enums import OnNoResult
from aiorch.ports.target import Accepted, Answer, NotStarted, Succeeded, Unknown
from aiorch.testing import in_virtual_time
from tests.definitions import call, chain, parallel, task
from tests.integration.test_intake import Engine, dag_of, engine, gen2, start
from tests.integration.test_replicas import World

NO_INSTANCE = "The request was aborted because there was no available instance."


def entry(key: str, number: int, status: int = 200, **changes: Any) -> dict[str, Any]:
    """The platform's log entry about the request of this number."""
    return {**gen2(key, status, **changes), "insertId": f"entry-{number}"}


def one_call(**keys: Any) -> Any:
    return dag_of("calls", Load=call(region="us-central1", **keys))


async def started(made: Engine) -> str:
    """Start the run "r", and return the key of its first call once its answer is known to be lost."""
    key = await made.start()
    await made.until(lambda: made.document()["Load"].get("unanswered", {}).get("answer_lost"))
    return key


# -- what is decided ---------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_call_is_sent_again_for_its_result() -> None:
    """The same execution goes out once more, and completes with the result of the second answer."""
    async with engine(dags=(one_call(on_no_result="call_again"),)) as made:
        key = await started(made)
        made.target.answer = Succeeded(b'{"rows": 7}')
        await made.settled(entry(key, 1))
        load = made.document()["Load"]
        assert (load["status"], load["attempt"], load["launches"], load["result"]) == ("Completed", 1, 2, {"rows": 7})
        assert [context.execution_id for context in made.target.sent] == [key, key]


@in_virtual_time
async def test_a_call_that_is_sent_again_has_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit that lets a call go out once more does not write the record of the execution again."""
    async with engine(dags=(one_call(on_no_result="call_again"),)) as made:
        key = await started(made)
        created: list[str] = []
        write = made.store.write

        async def noted(name: str, *args: Any, create: Any = (), **options: Any) -> int:
            created.extend(name for name, _ in create)
            return await write(name, *args, create=create, **options)

        monkeypatch.setattr(made.store, "write", noted)
        await made.settled(entry(key, 1))
        assert len(made.target.sent) == 2
        assert created == []


@in_virtual_time
async def test_a_success_is_decided_about_by_a_process_that_is_able_to_call_again() -> None:
    """A call that succeeded, and whose living owner is not able to launch it, is sent again by another process."""
    async with engine(dags=(one_call(on_no_result="call_again"),)) as made:
        key = await started(made)
        made.target.answer = Succeeded(b'{"rows": 7}')
        document = made.document()
        document["Load"] |= {"by": "another", "unanswered": {"answer_lost": True, "has_succeeded": True}}
        await made.memory.join("another")
        generation = made.memory._objects["runs/r.json"][1]
        await made.memory.write("runs/r.json", msgspec.json.encode(document), if_generation_match=generation)
        made.executor.committer("r").refresh()
        await made.until(lambda: made.document()["Load"]["status"] == "Completed")
        assert (made.document()["Load"]["attempt"], made.document()["Load"]["launches"]) == (1, 2)
        assert [context.execution_id for context in made.target.sent] == [key, key]


@in_virtual_time
async def test_the_event_of_a_launch_counts_once() -> None:
    """The same event again changes nothing; the event of the second launch lets a third one go out."""
    async with engine(dags=(one_call(on_no_result="call_again"),)) as made:
        key = await started(made)
        await made.settled(entry(key, 1), entry(key, 1))
        await made.settled(entry(key, 1))
        assert (made.status(), made.document()["Load"]["launches"], len(made.target.sent)) == ("Running", 2, 2)
        await made.settled(entry(key, 2))
        assert (made.status(), made.document()["Load"]["launches"], len(made.target.sent)) == ("Running", 3, 3)


@in_virtual_time
async def test_the_loss_of_an_earlier_launch_leaves_the_later_one_alone() -> None:
    """The second launch has ended, and its outcome waits for a commit: a late loss of the first starts no third."""
    async with engine(dags=(one_call(on_no_result="call_again"),)) as made:
        key = await started(made)
        await made.settled(entry(key, 1))
        await made.until(lambda: len(made.target.sent) == 2)
        committer = made.executor.committer("r")
        sent = committer.in_flight["Load"]
        sent.has_ended = True
        await committer.apply(TaskLost("Load", 1, "no event", launch=1))
        assert committer.in_flight["Load"] is sent
        assert len(made.target.sent) == 2


@in_virtual_time
async def test_a_call_that_never_answers_is_lost_in_the_end() -> None:
    """After ten launches, each of which succeeded and lost its answer, the task fails."""
    async with engine(dags=(one_call(on_no_result="call_again"),)) as made:
        key = await started(made)
        for number in range(LAUNCHES_MAX + 1):
            await made.settled(entry(key, number))
        load = made.document()["Load"]
        assert (load["status"], load["launches"], load["error"]["type"]) == ("Failed", LAUNCHES_MAX, "Lost")
        assert len(made.target.sent) == LAUNCHES_MAX


@in_virtual_time
async def test_a_call_may_fail_without_its_result() -> None:
    """With `fail` nothing is called twice, and the failure says what is missing."""
    async with engine(dags=(one_call(on_lost="fail", retry={"max_attempts": 3}),)) as made:
        key = await started(made)
        await made.settled(entry(key, 1))
        load = made.document()["Load"]
        assert (load["status"], load["attempt"], load["error"]["type"]) == ("Failed", 1, "NoResult")
        assert len(made.target.sent) == 1


@in_virtual_time
async def test_a_call_may_complete_without_its_result() -> None:
    """With `accept` the task completes, and its result is null."""
    async with engine(dags=(one_call(on_no_result="accept"),)) as made:
        key = await started(made)
        await made.settled(entry(key, 1))
        assert (made.status(), "result" in made.document()["Load"]) == ("Completed", False)


def test_the_default_depends_on_what_a_second_call_may_do() -> None:
    """`fail` with `on_lost: fail`; `call_again` where Python code comes later, inside a Parallel too; else `accept`."""
    inside = parallel(chain(In=call()), chain(Beside=task()))
    steps = {"A": call(), "B": call(on_lost="fail"), "P": inside, "C": call(function="t:prepare"), "D": call()}
    dag = DAGBuilder({"name": "defaults", **chain(**steps)}).build_dag()
    assert {name: dag.all_tasks[name].on_no_result for name in ("A", "B", "In", "C", "D")} == {
        "A": OnNoResult.CALL_AGAIN,
        "B": OnNoResult.FAIL,
        "In": OnNoResult.CALL_AGAIN,
        "C": OnNoResult.ACCEPT,
        "D": OnNoResult.ACCEPT,
    }


@in_virtual_time
async def test_a_call_is_not_sent_again_while_its_process_waits_for_the_answer() -> None:
    """Another process notes the event; the one that calls goes on waiting, and its late answer completes the task."""
    dag = one_call(on_no_result="call_again")
    async with engine(dags=(dag,)) as owner, engine(dags=(dag,), beside=owner) as other:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        async def launch(_: Task, context: TaskContext) -> Answer:
            context.begin()
            owner.target.sent.append(context)
            return await answer

        owner.target.launch = launch  # type: ignore[method-assign]
        await owner.settled(start(run_id="r"))
        key = owner.target.sent[0].execution_id
        await other.settled(entry(key, 1))
        assert other.document()["Load"]["unanswered"]["has_succeeded"]
        assert not other.target.sent
        answer.set_result(Succeeded(b"7"))
        await owner.until(lambda: owner.status() == "Completed")
        assert owner.document()["Load"]["result"] == 7


@in_virtual_time
async def test_a_call_whose_process_was_stopped_is_sent_again_by_another_one() -> None:
    """SIGTERM during a call: the process that gets the event of its success calls again, and has the result."""
    world, answered = World(), Succeeded(b'"again"')
    from tests.integration.test_replicas import Calls, publish

    first, second = Calls(answered, seconds=100_000), Calls(answered)
    definition = chain(A=call(region="us-central1"), B=task(target_name="t:read"))
    read: list[Any] = []

    async def note(context: TaskContext) -> None:  # a plain function would run in a thread, and time would not wait
        read.append(context.results["A"])

    functions = {"t:read": note}
    async with world.replica(second, functions=functions) as other:
        async with world.replica(first, functions=functions) as one:
            await one.start(definition, run_id="r")
            await world.until(lambda: bool(first.sent))
            await asyncio.sleep(10)
        assert world.status("A") == "Running"
        publish(other, {**gen2(first.sent[0].execution_id), "insertId": "one"})
        await world.until(lambda: world.status() == "Completed")
    assert (len(second.sent), read) == (1, ["again"])
    assert second.sent[0].execution_id == first.sent[0].execution_id


class HalfOpen:
    """Calls of one process that are never answered, nor told to be lost."""

    def __init__(self, made: Engine) -> None:
        self._made = made
        made.target.launch = self._launch  # type: ignore[method-assign]

    async def _launch(self, _: Task, context: TaskContext) -> Answer:
        context.begin()
        self._made.target.sent.append(context)
        return await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("keys", "ends"),
    [
        ({"on_no_result": "call_again"}, ("Failed", 1, LAUNCHES_MAX, "Lost")),
        ({"on_lost": "fail"}, ("Failed", 1, 1, "NoResult")),
        ({"on_no_result": "accept"}, ("Completed", 1, 1, None)),
    ],
)
@in_virtual_time
async def test_a_success_is_decided_about_when_its_process_stops_waiting(
    keys: dict[str, Any], ends: tuple[Any, ...]
) -> None:
    """The connection is half open: at the timeout of the call its event counts, and no attempt fails before that."""
    async with engine(dags=(one_call(timeout=100, **keys),)) as made:
        HalfOpen(made)
        made.source.publish(start(run_id="r"))
        for number in range(LAUNCHES_MAX):
            await made.until(lambda number=number: len(made.target.sent) == number + 1)
            made.source.publish(entry(made.target.sent[0].execution_id, number))
            await asyncio.sleep(50)
            if ends[0] == "Completed" or (number == 0 and keys.get("on_lost")):
                break
        await asyncio.sleep(500)
        load = made.document()["Load"]
        error = load["error"]["type"] if "error" in load else None
        assert (load["status"], load["attempt"], load["launches"], error) == ends


@in_virtual_time
async def test_a_call_that_was_sent_again_is_awaited_for_its_whole_timeout() -> None:
    """Whoever takes over a second launch does not count the time of the first one against it."""
    dag = one_call(timeout=600, on_no_result="call_again", on_lost="fail")
    async with engine(dags=(dag,)) as made, engine(dags=(dag,), beside=made) as heir:
        made.source.publish(start(run_id="r"))
        await made.until(lambda: bool(made.names("runs/")) and made.status() == "Running")
        key = made.target.sent[0].execution_id
        await asyncio.sleep(500)
        made.source.publish(entry(key, 1))
        await made.until(lambda: len(made.target.sent) == 2)
        await made.until(lambda: made.document()["Load"]["unanswered"].get("answer_lost"))
        await made.executor.close(0)
        await heir.executor.committer("r").apply(ProcessesDied(frozenset({made.executor.process.id})))
        await asyncio.sleep(500)
        assert heir.status() == "Running"
        await asyncio.sleep(200)
        assert heir.document()["Load"]["error"]["type"] == "Lost"


# -- what never ran ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_lost", ["retry", "fail"])
@pytest.mark.parametrize(("status", "text"), [(429, None), (500, NO_INSTANCE)])
@in_virtual_time
async def test_a_call_that_never_ran_is_sent_again(status: int, text: str | None, on_lost: str) -> None:
    """The answer "no available instance" was lost, and the event that says so lets the same execution go out again."""
    async with engine(dags=(one_call(on_lost=on_lost),)) as made:
        key = await started(made)
        made.target.answer = Succeeded(b"1")
        await made.settled(entry(key, 1, status, text=text))
        load = made.document()["Load"]
        assert (load["status"], load["attempt"], load["launches"]) == ("Completed", 1, 2)
        assert [context.execution_id for context in made.target.sent] == [key, key]


@in_virtual_time
async def test_a_refusal_that_may_be_of_an_earlier_request_changes_nothing() -> None:
    """A request was refused, the next one lost its answer: the event of the refusal does not tell about the second."""
    async with engine(dags=(one_call(on_lost="fail", timeout=500),)) as made:
        made.target.answer = NotStarted("429")
        made.source.publish(start(run_id="r"))
        await made.until(lambda: bool(made.target.sent))
        made.target.answer = Unknown("connection reset")
        await made.until(lambda: made.document()["Load"].get("unanswered", {}).get("answer_lost"))
        sent = len(made.target.sent)
        await made.settled(entry(made.target.sent[0].execution_id, 1, 429))
        assert len(made.target.sent) == sent
        assert (made.status(), made.document()["Load"]["error"]["type"]) == ("Failed", "Lost")


# -- defects of our own ------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_defect_after_a_call_was_sent_waits_for_its_event() -> None:
    """An exception in the adapter says nothing about the call: the attempt goes on, and the event ends it."""
    async with engine(dags=(one_call(),)) as made:
        sent: list[TaskContext] = []

        async def launch(_: Task, context: TaskContext) -> Answer:
            sent.append(context)
            raise TypeError("the answer has another form")

        made.target.launch = launch  # type: ignore[method-assign]
        await made.settled(start(run_id="r"))
        assert made.status() == "Running"
        await made.settled(entry(sent[0].execution_id, 1))
        assert (made.status(), len(sent)) == ("Completed", 1)


class BrokenJobs:
    """Jobs whose launch or first question meets a defect of ours."""

    def __init__(self, breaks: str) -> None:
        self._breaks = breaks
        self.launches = 0
        self.stops = 0

    def resolve(self, task: Task) -> None:
        return None

    def _break(self, where: str) -> None:
        if self._breaks == where:
            self._breaks = ""
            raise TypeError(f"{where}: the answer has another form")

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        self.launches += 1
        self._break("launch")
        return Accepted("job-1")

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        self._break("poll")
        return Succeeded(b"1")

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        self.stops += 1

    async def aclose(self) -> None:
        return None


@pytest.mark.parametrize("breaks", ["launch", "poll", "record"])
@in_virtual_time
async def test_a_defect_after_a_job_was_launched_neither_stops_nor_fails_it(breaks: str) -> None:
    """The launch is looked for again, the question is asked again, the record is written again: the job completes."""
    from aiorch import Orchestrator, TargetTypes
    from aiorch.testing import ManualClock, SeededEntropy
    from tests.definitions import job

    jobs = BrokenJobs(breaks)
    options: dict[str, Any] = {"clock": ManualClock(), "entropy": SeededEntropy(1)}
    async with Orchestrator("memory:", targets={TargetTypes.DATAFLOW: jobs}, **options) as orchestrator:
        name_also = orchestrator.executions.name_also
        failures = [TypeError("the record has another form")] if breaks == "record" else []

        async def broken(job_id: str, record: Any) -> None:
            if failures:
                raise failures.pop()
            await name_also(job_id, record)

        orchestrator.executions.name_also = broken  # type: ignore[method-assign]
        run = await orchestrator.start(chain(Job=job()), run_id="r")
        result = await run.wait()
    assert (result.status, jobs.stops) == ("Completed", 0)
    assert jobs.launches == (2 if breaks == "launch" else 1)


@in_virtual_time
async def test_rare_defects_never_add_up_to_the_end_of_a_long_job() -> None:
    """A job that runs for a month meets a defect now and then: each good answer in between counts anew."""
    from aiorch import Orchestrator, TargetTypes
    from aiorch.testing import ManualClock, SeededEntropy
    from tests.definitions import job

    class Rarely(BrokenJobs):
        asked = 0

        async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
            self.asked += 1
            if self.asked % 10 == 0:
                raise TypeError("the answer has another form")
            return Succeeded(b"1") if self.asked > 200 else None

    jobs = Rarely("")
    options: dict[str, Any] = {"clock": ManualClock(), "entropy": SeededEntropy(1)}
    async with Orchestrator("memory:", targets={TargetTypes.DATAFLOW: jobs}, **options) as orchestrator:
        result = await (await orchestrator.start(chain(Job=job()), run_id="r")).wait()
    assert (result.status, jobs.stops) == ("Completed", 0)
