"""
What tasks launch: Python functions in the process itself, Cloud Functions on a platform of their own.

What an execution comes to is drawn once per attempt, so that whoever starts it meets the same; the oracle is told of
every start and of every end.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aiorch.errors import AiorchError
from aiorch.model.dag import Task
from aiorch.model.failure import Failure
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Answer, Failed, NotStarted, Succeeded, Unknown
from tests.simulation.storage import Fault

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedProcess
    from tests.simulation.world import World

REGION = "europe-west1"
PROJECT = "acme"
DURATIONS_S = (0.1, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0, 9.8)
ANSWER_TURNS = 3
"""Turns of the event loop from the socket through the parser and the client to the engine."""

FAILURES = ("HTTP 500", "HTTP 503", "HTTP 400")


class Execution(NamedTuple):
    """One execution, as a target sees it."""

    run_id: str
    node: str
    attempt: int
    key: str

    @property
    def label(self) -> str:
        """For the tape and the trace."""
        return f"{self.run_id} {self.node} {self.attempt}"

    @classmethod
    def of(cls, context: TaskContext) -> "Execution":
        """Return the one that a context is of."""
        return cls(context.run_id, context.node, context.attempt, context.execution_id)


@dataclass(frozen=True)
class Script:
    """What one execution comes to."""

    succeeds: bool
    takes_s: float
    failure: str = ""
    hangs: bool = False
    """It never answers. Its platform ends it long after anybody waits for it."""
    is_large: bool = False


def result_of(node: str, attempt: int, *, is_large: bool) -> dict[str, Any]:
    """What an execution returns when it succeeds."""
    result: dict[str, Any] = {"node": node, "attempt": attempt}
    if is_large:
        result["text"] = "x" * 1200
    return result


class Scripts:
    """What executions come to, by key."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._scripts: dict[str, Script] = {}

    def of(self, execution: Execution) -> Script:
        """Return what an execution comes to."""
        script = self._scripts.get(execution.key)
        if script is None:
            script = self._scripts[execution.key] = self.another(execution.label)
        return script

    def another(self, label: str) -> Script:
        """Draw one."""
        tape, swarm = self._world.tape, self._world.swarm
        takes_s = tape.pick(f"takes {label}", DURATIONS_S)
        if tape.chance(f"hangs {label}", swarm.hangs / 3):
            return Script(succeeds=tape.draw(f"ends well {label}", 2) == 1, takes_s=takes_s, hangs=True)
        if tape.chance(f"fails {label}", swarm.fails):
            return Script(succeeds=False, takes_s=takes_s, failure=tape.pick(f"failure {label}", FAILURES))
        return Script(succeeds=True, takes_s=takes_s, is_large=tape.chance(f"large {label}", swarm.large))


def python_function(world: "World", process: "SimulatedProcess") -> Callable[[TaskContext], Coroutine[Any, Any, Any]]:
    """Return the callable behind all ``Function`` tasks of a process."""

    async def work(context: TaskContext) -> Any:
        execution = Execution.of(context)
        world.oracle.sends(process, execution)
        world.cluster.may_pause(process, "launches", 0.3, 3.0)
        dict(context.results)
        world.oracle.started("Function", process, execution)
        world.oracle.given(execution, context.parameters)
        script = world.scripts.of(execution)
        call = (process, execution)
        world.oracle.calls.add(call)
        try:
            await asyncio.sleep(script.takes_s)
            if script.hangs:
                await asyncio.get_running_loop().create_future()
        finally:
            world.oracle.calls.discard(call)
        world.oracle.ended(execution, succeeded=script.succeeds)
        if not script.succeeds:
            raise FunctionError(script.failure)
        return result_of(execution.node, execution.attempt, is_large=script.is_large)

    return work


def supplementary_function(
    world: "World", process: "SimulatedProcess"
) -> Callable[[TaskContext], Coroutine[Any, Any, Any]]:
    """Return the callable that some tasks of a process name beside their target."""

    async def supplement(context: TaskContext) -> Any:
        execution = Execution.of(context)
        world.oracle.begins(process, execution)
        world.cluster.may_pause(process, "is asked for parameters", 0.5, 3.0)
        await asyncio.sleep(world.tape.pick(f"supplement of {execution.label} takes", (0.0, 0.1, 2.0, 8.0)))
        if world.tape.chance(f"supplement of {execution.label} fails", world.swarm.unsupplied):
            world.count("supplementary function fails")
            world.oracle.not_sent(process, execution)
            raise FunctionError("its parameters are not to be had")
        return {"supplement": execution.key}

    return supplement


class FunctionError(Exception):
    """What functions raise."""


class DefectError(AiorchError):
    """What code of ours raises and should not."""


class Platform:
    """Where Cloud Functions run."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._loop = world.loop
        self._entries = 0

    def call(self, who: "SimulatedProcess", name: str, execution: Execution) -> "asyncio.Future[Answer]":
        """Send a request to a function, and return what will hold its answer."""
        world = self._world
        answer: asyncio.Future[Answer] = self._loop.create_future()
        if world.is_faulty and world.tape.chance(f"not started {execution.label}", world.swarm.not_started):
            world.count("not started")
            self._refuse(who, name, execution, answer)
        else:
            self._loop.later(0.01, self._start, who, name, execution, answer)
        return answer

    def _refuse(
        self, who: "SimulatedProcess", name: str, execution: Execution, answer: "asyncio.Future[Answer]"
    ) -> None:
        """Turn a request away for load. The platform logs that, and the caller may not hear of it."""
        world, label = self._world, execution.label
        told: Answer = NotStarted("no available instance")
        if world.tape.chance(f"refusal of {label} lost", world.swarm.answer_lost):
            world.count("answer of a refused call lost")
            told = Unknown("connection reset")
        self._loop.later(0.1, self._answer, who, execution, answer, told)
        is_told = not world.tape.chance(f"event of the refusal of {label} lost", world.swarm.event_lost)
        number = self._number()
        world.oracle.refused(execution, f"entry-{number}", is_told=is_told)
        if is_told:
            entry = log_entry(name, execution.key, 429, number)
            world.subscription.publish(entry, after_s=1.0, what=f"refusal of {label}")

    def _number(self) -> int:
        self._entries += 1
        return self._entries

    def _start(
        self, who: "SimulatedProcess", name: str, execution: Execution, answer: "asyncio.Future[Answer]"
    ) -> None:
        world, label = self._world, execution.label
        count = world.oracle.started("CloudFunction", who, execution)
        script = world.scripts.of(execution)
        if count > 1 and world.is_faulty and world.tape.chance(f"another end {label}", world.swarm.two_ends):
            script = world.scripts.another(f"{label} again")
            world.count("two starts with two ends")
        takes_s = script.takes_s
        if script.hangs:
            # Its caller has long given it up when the platform ends it.
            takes_s += world.tape.pick(f"hangs for {label}", (40.0, 90.0, 200.0))
        self._loop.later(takes_s, self._end, who, name, execution, script, answer)

    def _end(
        self,
        who: "SimulatedProcess",
        name: str,
        execution: Execution,
        script: Script,
        answer: "asyncio.Future[Answer]",
    ) -> None:
        world, tape, label = self._world, self._world.tape, execution.label
        world.oracle.ended(execution, succeeded=script.succeeds)
        status = 200 if script.succeeds else int(script.failure.removeprefix("HTTP ") or 504)
        # The answer.
        delay_s = 0.05
        if world.is_faulty and tape.chance(f"event first {label}", world.swarm.event_first):
            delay_s = 3.0
        if world.is_faulty and tape.chance(f"answer lost {label}", world.swarm.answer_lost):
            world.count("answer of a function lost")
            told: Answer = Unknown("connection reset")
        elif script.succeeds:
            result = result_of(execution.node, execution.attempt, is_large=script.is_large)
            told = Succeeded(json.dumps(result).encode())
        else:
            told = Failed(Failure.of(f"HTTP {status}", "it failed"))
        self._loop.later(delay_s, self._answer, who, execution, answer, told)
        # The platform's log of it.
        if world.is_faulty and tape.chance(f"event lost {label}", world.swarm.event_lost):
            world.count("event lost")
        else:
            entry = log_entry(name, execution.key, status, self._number())
            world.subscription.publish(entry, after_s=1.0, what=f"end of {label}: {status}")
        if world.is_faulty and tape.chance(f"foreign {label}", world.swarm.foreign):
            world.count("foreign event")
            entry = log_entry("somebody-else", execution.key, 500 if script.succeeds else 200, self._number())
            world.subscription.publish(entry, after_s=0.1, what=f"foreign event with the key of {label}")

    def _answer(
        self, who: "SimulatedProcess", execution: Execution, answer: "asyncio.Future[Answer]", told: Answer
    ) -> None:
        if answer.done():
            return  # given up
        answer.set_result(told)
        if isinstance(told, Succeeded | Failed):
            self._world.oracle.answered(who, execution)


class CloudFunctions:
    """The target ``CloudFunction`` of one process."""

    def __init__(self, world: "World", process: "SimulatedProcess") -> None:
        self._world = world
        self._process = process

    def resolve(self, task: Task) -> str | None:
        """See `Target.resolve`."""
        return self._process.why_not(task)

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        """See `Target.launch`."""
        world = self._world
        world.oracle.sends(self._process, Execution.of(context))
        world.cluster.may_pause(self._process, "launches", 0.3, 3.0)
        fault = world.enter(self._process, "launch", f"{context.run_id} {context.node}")
        fault = await world.before_call(self._process, fault)
        if fault in (Fault.REFUSED, Fault.THROTTLED):
            return NotStarted("no available instance")
        script = world.scripts.of(Execution.of(context))
        if script.hangs or script.takes_s + 1 > (task.timeout or 0):
            world.cluster.may_pause_before(self._process, task.timeout or 0)
        calling = self._process, context.execution_id
        world.oracle.given(Execution.of(context), context.parameters)
        world.oracle.calling.add(calling)
        try:
            answer = await world.platform.call(self._process, task.target_name, Execution.of(context))
        finally:
            world.oracle.calling.discard(calling)
        for _ in range(ANSWER_TURNS):
            await asyncio.sleep(0)
        if fault is Fault.CUT_AFTER:
            world.cut(self._process)
            await asyncio.get_running_loop().create_future()
        if world.is_faulty and world.tape.chance(f"defect at {context.run_id} {context.node}", world.swarm.defects):
            world.count("defect after a call was sent")
            world.oracle.unread(self._process, Execution.of(context))
            raise DefectError("the answer cannot be read")
        if fault in (Fault.REPLY_LOST, Fault.LATE):
            return Unknown("connection reset")
        if isinstance(answer, NotStarted):
            world.oracle.heard_of_refusal(Execution.of(context))
        return answer

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """See `Target.stop`."""

    async def aclose(self) -> None:
        """See `Target.aclose`."""


def log_entry(name: str, key: str, status: int, number: int) -> bytes:
    """The platform's log line of a call, of the generation that the function's name tells."""
    common = {
        "trace": f"projects/{PROJECT}/traces/{key}",
        "timestamp": "2026-01-01T00:00:00Z",
        "insertId": f"entry-{number}",
    }
    if name.endswith("2"):
        return json.dumps(
            {
                **common,
                "logName": f"projects/{PROJECT}/logs/run.googleapis.com%2Frequests",
                "resource": {
                    "type": "cloud_run_revision",
                    "labels": {"service_name": name, "location": REGION, "project_id": PROJECT},
                },
                "labels": {"goog-drz-cloudfunctions-id": name},
                "httpRequest": {"status": status, "userAgent": "aiorch/0.1", "latency": "0.1s"},
            }
        ).encode()
    return json.dumps(
        {
            **common,
            "logName": f"projects/{PROJECT}/logs/cloudfunctions.googleapis.com%2Fcloud-functions",
            "resource": {
                "type": "cloud_function",
                "labels": {"function_name": name, "region": REGION, "project_id": PROJECT},
            },
            "labels": {"execution_id": key[:12]},
            "textPayload": f"Function execution took 100 ms. Finished with status code: {status}",
        }
    ).encode()
