"""What each message does to the runs, and when it is settled: over the in-process source and the memory store."""

import asyncio
import base64
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aiorch import DAGBuilder, Failure, TargetTypes, TaskContext
from aiorch.core.run_events import ProcessesDied
from aiorch.documents.executions import ExecutionStatus
from aiorch.documents.runs import REJECTED_BYTES_MAX, OrchestrationStatus
from aiorch.engine.executor import DAGExecutor
from aiorch.events.decode import MESSAGE_BYTES_MAX, EventFactory
from aiorch.intake.intake import Intake
from aiorch.model.dag import Task
from aiorch.ports.target import Answer, Failed, Succeeded, Unknown
from aiorch.settings import LaunchSettings
from aiorch.sources.local import LocalSource
from aiorch.stores.memory import MemoryStore
from aiorch.targets.function.target import FunctionTarget
from aiorch.testing import CountingObserver, Fault, FaultyStore, ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import call, chain
from tests.log_samples import sample


def dag_of(name: str, **steps: dict[str, Any]) -> Any:
    return DAGBuilder({"name": name, **chain(**steps)}).build_dag()


ETL = dag_of("etl", Load=call(region="us-central1", retry={"max_attempts": 2, "initial_delay": 5}), Done=call())
OTHER = dag_of("other", Load=call())


class Silent:
    """A target whose calls are sent and never answered, so that only events tell what came of them."""

    def __init__(self) -> None:
        self.sent: list[TaskContext] = []
        self.answer: Answer = Unknown("connection reset")

    def resolve(self, task: Task) -> None:
        return None

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        self.sent.append(context)
        return self.answer

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        return None

    async def aclose(self) -> None:
        return None


class Engine:
    """An intake with all that is behind it."""

    def __init__(self, *, dags: tuple[Any, ...] = (ETL,), beside: "Engine | None" = None) -> None:
        self.memory = beside.memory if beside else MemoryStore()
        self.store = FaultyStore(self.memory)
        self.target = Silent()
        entropy, clock = SeededEntropy(1 if beside else 0), ManualClock()
        functions = FunctionTarget()
        self.executor = DAGExecutor(
            *dags,
            orchestration_status=OrchestrationStatus(self.store),
            execution_status=ExecutionStatus(self.store),
            functions=functions,
            targets={TargetTypes.CLOUD_FUNCTION: self.target, TargetTypes.FUNCTION: functions},
            liveness=self.memory,
            observer=CountingObserver(),
            clock=clock,
            entropy=entropy,
            events=EventFactory(frozenset({"orchestrator-dev-default"})),
            awaits_events=True,
            settings=LaunchSettings(running_after_s=1000),
        )
        self.source = LocalSource(clock, entropy)
        self.intake = Intake(self.executor, self.source)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.memory._objects if name.startswith(prefix))

    def document(self, run_id: str = "r") -> dict[str, Any]:
        return msgspec.json.decode(self.memory._objects[f"runs/{run_id}.json"][0])

    def status(self, node: str = "Load") -> str:
        return self.document()[node]["status"]

    async def settled(self, *messages: dict[str, Any] | bytes) -> None:
        """Publish messages and wait until each is acknowledged for good."""
        for message in messages:
            self.source.publish(message)
        await self.until(lambda: not self.source.outstanding and not self.source._messages)
        await asyncio.sleep(1000)
        assert not self.source.outstanding
        assert not self.source._messages

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(1000):
            while not condition():
                await asyncio.sleep(0.01)

    async def start(self) -> str:
        """Start the run "r" and return the key of its first call, once that was sent."""
        await self.settled(start(run_id="r"))
        await self.until(lambda: bool(self.target.sent))
        return self.target.sent[0].execution_id


@asynccontextmanager
async def engine(**options: Any) -> AsyncIterator[Engine]:
    made = Engine(**options)
    await made.memory.join(made.executor.process.id)
    receiving = asyncio.create_task(made.intake.run())
    yield made
    receiving.cancel()
    await asyncio.wait([receiving])
    await made.executor.close(0)


def start(dag: str | None = None, run_id: str | None = None, **parameters: Any) -> dict[str, Any]:
    labels = {key: value for key, value in (("dag", dag), ("run_id", run_id)) if value is not None}
    return {"resource": {"type": "start", "labels": labels}, "parameters": parameters}


def gen2(key: str, status: int = 200, **changes: Any) -> dict[str, Any]:
    """The request log of a call under *key*; *changes* by names of what matters in it."""
    entry = copy.deepcopy(sample("gen2_request_200"))
    entry["trace"] = f"projects/acme-data-dev/traces/{key}"
    entry["httpRequest"] = {**entry["httpRequest"], "status": status, "userAgent": changes.get("agent", "aiorch/0.1")}
    entry["resource"]["labels"]["location"] = changes.get("region", "us-central1")
    if name := changes.get("name"):
        entry["labels"]["goog-drz-cloudfunctions-id"] = name
        entry["resource"]["labels"]["service_name"] = name.replace("_", "-")
    if text := changes.get("text"):
        entry["textPayload"] = text
    return entry


def gen1(key: str) -> dict[str, Any]:
    entry = copy.deepcopy(sample("gen1_function_end_200_new_wording"))
    entry["trace"] = f"projects/acme-data-dev/traces/{key}"
    entry["resource"]["labels"] |= {"function_name": "load_orders", "region": "us-central1"}
    return entry


# -- starts -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_start_that_is_delivered_again_is_the_same_run() -> None:
    """However often and however much later, also when the message names no run: its own id decides."""
    async with engine() as made:
        message_id = made.source.publish(start(day=1))
        for _ in range(5):
            made.source.publish(start(day=1), message_id=message_id)
            await asyncio.sleep(0.7)
        await made.settled()
        (run,) = made.names("runs/")
        assert msgspec.json.decode(made.memory._objects[run][0])["$run"]["input"] == {"day": 1}
        assert len(made.target.sent) == 1
        await made.settled(start(day=1))
        assert len(made.names("runs/")) == 2, "another message is another run"


@in_virtual_time
async def test_a_start_with_a_run_id_is_that_run() -> None:
    """The same run id is the same run; with another input it is parked, since repeating it would change nothing."""
    async with engine() as made:
        await made.settled(start(run_id="r", day=1), start(run_id="r", day=1), start("etl", "r", day=1))
        assert made.names("runs/") == ["runs/r.json"]
        await made.settled(start(run_id="r", day=2), start(run_id="r"))
        assert made.document()["$run"]["input"] == {"day": 1}
        assert len(made.target.sent) == 1
        assert len(made.names("rejected/")) == 2


@in_virtual_time
async def test_a_start_of_an_unknown_dag_is_parked() -> None:
    """No run begins, and nothing is lost: also of one that must name a DAG and does not."""
    async with engine(dags=(ETL, OTHER)) as made:
        await made.settled(start("etl2", "a"), start(run_id="b"))
        assert [name.split("/")[0] for name in made.memory._objects] == ["rejected"] * 2
        await made.settled(start("other", "c"))
        assert made.document("c")["$run"]["dag"] == "other"


@in_virtual_time
async def test_the_log_line_of_a_bad_message_tells_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Its text alone names the message, what became of it, the reason and the next move."""
    async with engine(dags=(ETL, OTHER)) as made:
        made.source.publish(start("etl2", "a"), message_id="m-1")
        made.source.publish(start("etl", "b"), message_id="m-2")
        await made.settled()
    texts = {each.message_id: each.getMessage() for each in caplog.records if hasattr(each, "message_id")}
    assert texts["m-1"].startswith(
        "message m-1 was applied to no run and is kept under rejected/: this process does not"
    )
    assert "DAG 'etl2'" in texts["m-1"]
    assert texts["m-1"].endswith(". Correct it and publish it again.")
    assert texts.get("m-2", "message settled") == "message settled"


@pytest.mark.parametrize("run_id", ["../x", "a/b", ".hidden", "", "x" * 129, "nä", "a\n"])
@in_virtual_time
async def test_a_start_with_a_hostile_run_id_is_parked(run_id: str) -> None:
    """It names no object, whatever is in it."""
    async with engine() as made:
        await made.settled(start(run_id=run_id))
        assert [name.split("/")[0] for name in made.memory._objects] == ["rejected"]


@in_virtual_time
async def test_a_start_is_acknowledged_only_when_it_is_committed() -> None:
    """Not when the marker is there, and not when the records are: when the document is."""
    async with engine() as made:
        slow = made.store.arm("write", "runs/", hold=True)
        made.source.publish(start(run_id="r"))
        await slow.reached.wait()
        await asyncio.sleep(100)
        assert (made.names("open/"), made.names("runs/"), made.source.outstanding) == (["open/r"], [], 1)
        slow.release()
        await made.until(lambda: not made.source.outstanding)
        assert made.names("runs/") == ["runs/r.json"]


@in_virtual_time
async def test_a_cancel_ends_its_run_and_waits_for_its_start() -> None:
    """It is given back while there is no such run, since its start may still come; after the end it changes nothing."""
    cancel = {"resource": {"type": "cancel", "labels": {"run_id": "r"}}, "reason": "wrong day"}
    async with engine() as made:
        made.source.publish(cancel)
        await asyncio.sleep(300)
        assert made.source.outstanding + len(made.source._messages) <= 1
        assert not made.memory._objects
        made.source.publish(start(run_id="r"))
        await made.until(lambda: bool(made.names("runs/")) and made.document()["$run"]["status"] == "Cancelled")
        await made.settled(cancel)
        assert made.document()["$run"]["error"]["message"] == "wrong day"
        assert (made.status(), made.status("Done")) == ("Cancelled", "Skipped")


@in_virtual_time
async def test_a_cancel_does_not_wait_for_ever() -> None:
    """Without a dead-letter topic nobody else would end its rounds: after an hour without a run it is dropped."""
    async with engine() as made:
        made.source.publish({"resource": {"type": "cancel", "labels": {"run_id": "r"}}})
        made.executor.clock.advance(3000)
        await asyncio.sleep(300)
        assert set(made.executor.observer.settled) == {("cancel", "returned")}
        made.executor.clock.advance(400)
        await asyncio.sleep(1000)
        assert made.executor.observer.settled["cancel", "dropped"] == 1
        assert not made.memory._objects


# -- completions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("completion", [gen1, gen2], ids=["first generation", "second generation"])
@in_virtual_time
async def test_a_completion_that_is_ours_ends_the_task(completion: Callable[[str], dict[str, Any]]) -> None:
    """Whoever sent the call: the key in the log finds the execution, and the next task begins."""
    async with engine() as made:
        key = await made.start()
        await made.settled(completion(key))
        assert (made.status(), made.status("Done")) == ("Completed", "Running")
        await made.settled(completion(made.target.sent[1].execution_id))
        assert made.document()["$run"]["status"] == "Completed"


@in_virtual_time
async def test_a_failure_is_retried_and_keeps_its_reason() -> None:
    """The platform's log says how it failed; the retry policy decides as for an answer."""
    async with engine() as made:
        key = await made.start()
        await made.settled(gen2(key, 500))
        entry = made.document()["Load"]
        assert (entry["attempt"], entry["failures"][0]["type"]) == (2, "HTTP 500")
        assert [context.attempt for context in made.target.sent] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"region": "europe-west1"}, "another region"),
        ({"name": "load_items"}, "another function, to which ours handed its trace on"),
        ({"agent": "curl/8"}, "a request of somebody else under our trace"),
        ({"agent": ""}, "a request of nobody named"),
    ],
)
@in_virtual_time
async def test_a_completion_that_is_not_ours_changes_nothing(changes: dict[str, Any], why: str) -> None:
    """It is acknowledged, and nothing is written for it."""
    async with engine() as made:
        key = await made.start()
        before = dict(made.memory._objects)
        await made.settled(gen2(key, **changes))
        assert made.memory._objects == before, why


@in_virtual_time
async def test_an_event_without_a_record_is_not_ours() -> None:
    """Unknown keys, logs without a trace, started functions, jobs, no events: one read for each possible name."""
    no_trace = sample("gen2_request_200")
    del no_trace["trace"]
    others = [
        gen2("f" * 32),
        gen1("0" * 32),
        no_trace,
        sample("gen1_function_started"),
        sample("dataflow_worker_pool_stopped"),
        sample("cloud_scheduler_attempt_finished_error"),
        {},
    ]
    async with engine() as made:
        await made.start()
        before, reads = dict(made.memory._objects), made.store.count("read", "")
        await made.settled(*others)
        assert made.memory._objects == before
        assert made.store.count("read", "") == reads + 3, "two keys, and the id of a job"


@in_virtual_time
async def test_our_own_end_is_acknowledged_unread() -> None:
    """The orchestrator does not feed on its own log."""
    async with engine() as made:
        await made.settled(sample("gen1_orchestrator_own_end_must_be_ignored"))
        assert not made.store.calls


@in_virtual_time
async def test_duplicates_late_and_reordered_events_are_acknowledged_without_a_write() -> None:
    """After the end of an attempt, and of the run, nothing that is said of them is written."""
    async with engine() as made:
        first = await made.start()
        await made.settled(gen2(first, 500))
        second = made.target.sent[1].execution_id
        before = dict(made.memory._objects)
        await made.settled(gen2(first), gen2(first, 500), gen2(first, 504))
        assert made.memory._objects == before, "of an earlier attempt"
        await made.settled(gen2(second), gen2(second), gen2(first))
        third = made.target.sent[2].execution_id
        await made.settled(gen2(third))
        assert made.document()["$run"]["status"] == "Completed"
        ended = dict(made.memory._objects)
        await made.settled(gen2(first), gen2(second, 500), gen2(third), gen2(third, 500))
        assert made.memory._objects == ended, "after the end"


@in_virtual_time
async def test_a_success_of_an_attempt_that_was_given_up_completes_while_no_other_has_begun() -> None:
    """Between two attempts the first may turn out to have succeeded: then there is no second."""
    async with engine() as made:
        key = await made.start()
        made.source.publish(gen2(key, 500))
        await made.until(lambda: made.status() == "Retrying")
        await made.settled(gen2(key))
        assert (made.status(), made.document()["Load"]["attempt"]) == ("Completed", 1)
        assert [context.node for context in made.target.sent] == ["Load", "Done"]


@in_virtual_time
async def test_a_completion_is_acknowledged_only_when_it_is_committed() -> None:
    """Whatever the store answers in between."""
    async with engine() as made:
        key = await made.start()
        made.store.arm("write", "runs/", Fault.UNAVAILABLE)
        made.store.arm("write", "runs/", Fault.THROTTLED)
        last = made.store.arm("write", "runs/", Fault.LOST_REPLY, hold=True)
        made.source.publish(gen2(key))
        await last.reached.wait()
        await asyncio.sleep(100)
        assert (made.status(), made.source.outstanding) == ("Running", 1)
        last.release()
        await made.until(lambda: not made.source.outstanding)
        assert made.status() == "Completed"
        assert not made.source._messages


@in_virtual_time
async def test_a_completion_before_its_launch_has_answered() -> None:
    """The event may be faster than the answer: the task is over, and the call is given up."""
    async with engine() as made:
        gate = asyncio.Event()

        async def slow(task: Task, context: TaskContext) -> Answer:
            made.target.sent.append(context)
            await gate.wait()
            return Failed(Failure.of("HTTP 500", "too late"))

        made.target.launch = slow  # type: ignore[method-assign]
        key = await made.start()
        await made.settled(gen2(key))
        gate.set()
        await made.settled()
        assert made.status() == "Completed"


async def answers_late(made: Engine, after_s: float, answer: Answer) -> None:
    """Let calls be answered, and only so long after they were sent."""

    async def launch(task: Task, context: TaskContext) -> Answer:
        made.target.sent.append(context)
        await asyncio.sleep(after_s)
        return answer

    made.target.launch = launch  # type: ignore[method-assign]


@in_virtual_time
async def test_an_event_that_is_faster_than_the_answer_does_not_cost_the_result() -> None:
    """The answer has the result, the event has none: the event waits for the answer, and is not acknowledged."""
    async with engine() as made:
        await answers_late(made, 5, Succeeded(b'{"rows": 7}'))
        made.source.publish(start(run_id="r"))
        await made.until(lambda: bool(made.target.sent))
        made.source.publish(gen2(made.target.sent[0].execution_id))
        await asyncio.sleep(3)
        assert (made.status(), made.source.outstanding) == ("Starting", 1)
        await made.settled()
        assert made.document()["Load"]["result"] == {"rows": 7}


@in_virtual_time
async def test_an_event_of_a_call_of_another_process_waits_for_its_answer_too() -> None:
    """The owner may be about to commit; when it is not, the event counts after ten seconds."""
    for answer_after_s, result in ((5, {"rows": 7}), (50, None)):
        async with engine() as owner, engine(beside=owner) as other:
            await answers_late(owner, answer_after_s, Succeeded(b'{"rows": 7}'))
            owner.source.publish(start(run_id="r"))
            await owner.until(lambda owner=owner: bool(owner.target.sent))
            other.source.publish(gen2(owner.target.sent[0].execution_id))
            await asyncio.sleep(3)
            assert other.source.outstanding == 1
            await asyncio.sleep(9)
            assert other.source.outstanding == 0
            load = owner.document()["Load"]
            assert (load["status"], load.get("result")) == ("Completed", result)


@in_virtual_time
async def test_an_event_is_not_held_longer_than_its_answer_takes() -> None:
    """An answer that another process commits within a second lets the event go: held ones take up room."""
    async with engine() as owner, engine(beside=owner) as other:
        await answers_late(owner, 0.5, Succeeded(b'{"rows": 7}'))
        owner.source.publish(start(run_id="r"))
        await owner.until(lambda: bool(owner.target.sent))
        reads = other.store.count("read", "runs/")
        other.source.publish(gen2(owner.target.sent[0].execution_id))
        await asyncio.sleep(0.4)
        assert other.source.outstanding == 1
        await asyncio.sleep(1)
        assert other.source.outstanding == 0
        assert other.store.count("read", "runs/") - reads <= 3


@in_virtual_time
async def test_a_success_whose_answer_was_refused_is_no_success_by_its_event() -> None:
    """An answer that is too large fails the attempt: the platform's "200" of the same call must not complete it."""
    async with engine() as made:
        refused = Failed(Failure.of("ResultTooLarge", "more than the limit"))
        await answers_late(made, 0.1, refused)
        made.source.publish(start(run_id="r"))
        await made.until(lambda: bool(made.names("runs/")) and made.status() == "Retrying")
        await made.settled(gen2(made.target.sent[0].execution_id))
        assert (made.status(), made.document()["Load"]["attempt"]) == ("Failed", 2)


@in_virtual_time
async def test_a_call_that_was_taken_over_keeps_its_deadline() -> None:
    """Its process died while it waited for the event: whoever takes over waits until the same timeout, no longer."""
    dag = dag_of("short", Load=call(region="us-central1", timeout=100, on_lost="fail"))
    async with engine(dags=(dag,)) as made, engine(dags=(dag,), beside=made) as heir:
        made.source.publish(start(run_id="r"))
        await made.until(lambda: bool(made.names("runs/")) and made.status() == "Running")
        await asyncio.sleep(50)
        await made.executor.close(0)
        await heir.executor.committer("r").apply(ProcessesDied(frozenset({made.executor.process.id})))
        await asyncio.sleep(40)
        assert made.status() == "Running"
        await asyncio.sleep(20)
        assert (made.status(), made.document()["Load"]["error"]["type"]) == ("Failed", "Lost")


# -- what cannot be handled -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"not json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}", "malformed"),
        (b"{" + b" " * MESSAGE_BYTES_MAX + b"}", "above the limit"),
        (json.dumps({"resource": {"type": "start", "labels": {"run_id": 7}}}).encode(), "start event is malformed"),
        (json.dumps({**gen2("0" * 32), "trace": 7}).encode(), "malformed"),
    ],
)
@in_virtual_time
async def test_malformed_message_is_parked(message: bytes, says: str) -> None:
    """It is put away whole, with the reason, and acknowledged; others in the same batch go on."""
    async with engine() as made:
        await made.settled(message, start(run_id="r"))
        (name,) = made.names("rejected/")
        parked = msgspec.json.decode(made.memory._objects[name][0])
        assert says in parked["reason"]
        assert parked["bytes"] == len(message)
        assert base64.b64decode(parked["data"]) == message[:REJECTED_BYTES_MAX]
        assert made.status() == "Running"


@in_virtual_time
async def test_message_that_cannot_be_parked_is_redelivered() -> None:
    """Nothing is lost while the store does not take it."""
    async with engine() as made:
        outage = made.store.arm("create_all", "rejected/", Fault.UNAVAILABLE, times=5)
        await made.settled(b"not json")
        assert (outage.count, len(made.names("rejected/"))) == (5, 1)


@in_virtual_time
async def test_an_event_that_makes_the_fold_raise_is_parked_alone() -> None:
    """A record that does not fit its run parks its event; the run goes on with the others."""
    async with engine() as made:
        key = await made.start()
        name = f"executions/{key}.json"
        record = msgspec.json.decode(made.memory._objects[name][0])
        bad = "e" * 32
        data = msgspec.json.encode({**record, "execution_id": bad, "node_name": "Nobody"})
        await made.memory.create_all([(f"executions/{bad}.json", data)])
        await made.settled(gen2(bad), gen2(key))
        assert made.status() == "Completed"
        (parked,) = made.names("rejected/")
        assert "'Nobody'" in msgspec.json.decode(made.memory._objects[parked][0])["reason"]


@in_virtual_time
async def test_a_message_for_a_newer_aiorch_is_given_back() -> None:
    """It comes again, with growing pauses, until somebody can read the document."""
    async with engine() as made:
        key = await made.start()
        data, generation, _ = made.memory._objects["runs/r.json"]
        newer = msgspec.json.decode(data)
        newer["$run"]["schema_version"] = 99
        await made.memory.write("runs/r.json", msgspec.json.encode(newer), if_generation_match=generation)
        made.executor.committer("r").refresh()
        await asyncio.sleep(1)
        reads = made.store.count("read", "runs/")
        made.source.publish(gen2(key))
        await asyncio.sleep(600)
        assert 5 < made.store.count("read", "runs/") - reads < 300, "asked again, and not in a hurry"
        assert msgspec.json.decode(made.memory._objects["runs/r.json"][0]) == newer
        assert not made.names("rejected/")
        newer["$run"]["schema_version"] = 1
        generation = made.memory._objects["runs/r.json"][1]
        await made.memory.write("runs/r.json", msgspec.json.encode(newer), if_generation_match=generation)
        await made.until(lambda: made.status() == "Completed")


@in_virtual_time
async def test_a_marker_of_a_newer_aiorch_is_left_alone() -> None:
    """A start command that this version does not know is not applied by guess."""
    from aiorch.errors import NewerSchemaError
    from aiorch.model.names import run_id

    async with engine() as made:
        await made.start()
        command = msgspec.json.decode(made.memory._objects["open/r"][0])
        newer = msgspec.json.encode({**command, "run_id": "n", "schema_version": 99})
        await made.memory.create_all([("open/n", newer)])
        with pytest.raises(NewerSchemaError, match="open/n has schema version 99"):
            await made.executor.runs.get_start_command(run_id("n"))


@in_virtual_time
async def test_an_event_of_a_run_that_is_gone_is_acknowledged() -> None:
    """A document that was removed is not made anew by what is said of it."""
    async with engine() as made:
        key = await made.start()
        await made.executor.close(0)
        made.executor.committers.clear()
        await made.memory.delete("runs/r.json", if_generation_match=made.memory._objects["runs/r.json"][1])
        await made.settled(gen2(key))
        assert not made.names("runs/")


@in_virtual_time
async def test_an_outage_gives_messages_back_and_loses_none() -> None:
    """What cannot even be looked up comes again later, without a hurry, and each start is one run."""
    async with engine() as made:
        outage = made.store.arm("*", "", Fault.UNAVAILABLE, times=None)
        for number in range(10):
            made.source.publish(start(run_id=f"r{number}"))
        await asyncio.sleep(3600)
        assert outage.count < 10 * 80 + 3600 / 5, "and the store is asked now and then whether it is back"
        outage.disarm()
        await made.settled()
        assert made.names("runs/") == [f"runs/r{number}.json" for number in range(10)]
        assert len(made.target.sent) == 10


@in_virtual_time
async def test_a_bug_gives_the_message_back() -> None:
    """An error that nobody expected neither loses the message nor stops the intake."""
    async with engine() as made:
        made.store.arm("create_all", "definitions/", Fault.BROKEN, times=3)
        await made.settled(start(run_id="r"), start(run_id="s"))
        assert made.names("runs/") == ["runs/r.json", "runs/s.json"]


@in_virtual_time
async def test_uncommitted_messages_are_nacked_when_the_engine_closes() -> None:
    """A message whose commit is under way is not acknowledged by the end of the process."""
    async with engine() as made:
        await made.start()
        made.store.arm("write", "runs/", Fault.UNAVAILABLE, times=None)
        made.source.publish(gen2(made.target.sent[0].execution_id))
        await asyncio.sleep(10)
        assert made.source.outstanding == 1
        await made.executor.close(0)
        assert made.source.outstanding == 0
        await asyncio.sleep(100)
        assert made.source.outstanding + len(made.source._messages) == 1
