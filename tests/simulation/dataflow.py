"""
The Dataflow API behind the real target: jobs of their own life, listings, launches whose answers get lost.

As the real one: one *active* job per name (409 otherwise, after one's own success too), a name that is free again after
the end, answers that lag behind. Only what carries requests is replaced; what is launched, found again, adopted and
cancelled is decided by `aiorch.targets.dataflow.target`.

Source: Dataflow REST reference v1b3, "projects.locations.jobs".
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiorch.model.dag import Task
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Answer
from aiorch.targets.dataflow.api import Refusal
from aiorch.targets.dataflow.client import DataflowNoAnswer, DataflowRefused, DataflowUnreachable
from aiorch.targets.dataflow.jobs import DataflowJobs
from aiorch.targets.dataflow.target import DataflowTarget
from tests.simulation.storage import Fault
from tests.simulation.targets import PROJECT, REGION, DefectError, Execution

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedProcess
    from tests.simulation.world import World

ENDS = ("JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")
LAG_S = (0.0, 5.0, 30.0)
DURATIONS_S = (5.0, 1.0, 20.0, 60.0)


_NOT_APPLIED, _NO_ANSWER, _LATE = 1, 2, 3


class Job:
    """One job."""

    def __init__(self, job_id: str, name: str, labels: Mapping[str, str], created_at: float) -> None:
        self.id = job_id
        self.name = name
        self.labels = labels
        self.created_at = created_at
        self.state = "JOB_STATE_RUNNING"
        self.shown = self.state
        """What the API says, some time later."""

    def describe(self) -> dict[str, Any]:
        """The API's own words."""
        return {
            "id": self.id,
            "name": self.name,
            "labels": dict(self.labels),
            "currentState": self.shown,
            "createTime": f"2026-01-01T{int(self.created_at):08d}Z",
        }


class DataflowService:
    """
    All jobs.

    Attributes:
        jobs: By id.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._loop = world.loop
        self.jobs: dict[str, Job] = {}

    def answer(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: bytes | None,
        who: "SimulatedProcess",
        *,
        is_late: bool,
    ) -> Any:
        """Carry out a request. Return its answer. Raises: DataflowRefused."""
        tail = unquote(path).rpartition(f"/locations/{REGION}/")[2]
        if method == "POST":
            assert body is not None
            return {"job": self._launch(json.loads(body), who, is_late=is_late).describe()}
        if tail == "jobs":
            return {"jobs": [job.describe() for job in self.jobs.values() if job.name == params.get("name")]}
        if tail.endswith("/messages"):
            return {"jobMessages": [{"messageText": "Workflow failed. Causes: it was to fail"}]}
        job = self.jobs.get(tail.removeprefix("jobs/"))
        if job is None:
            raise DataflowRefused(f"{method} {path}", Refusal(404, "notFound", "no such job"))
        if method == "PUT":
            self._cancel(job)
        return job.describe()

    def _launch(self, request: dict[str, Any], who: "SimulatedProcess", *, is_late: bool) -> Job:
        world = self._world
        name, labels = request["jobName"], request["environment"]["additionalUserLabels"]
        if any(job.name == name and job.state not in ENDS for job in self.jobs.values()):
            world.count("409 for a job's name")
            raise DataflowRefused("POST", Refusal(409, "alreadyExists", "there is an active job of that name"))
        execution = world.oracle.execution_of(labels["aiorch_execution"])
        if world.is_faulty and world.tape.chance(f"{execution.label} is denied", world.swarm.denied):
            world.count("launch refused for good")
            world.oracle.not_sent(who, execution)
            raise DataflowRefused("POST", Refusal(403, "forbidden", "no permission"))
        world.oracle.started("Dataflow", who, execution, is_late=is_late)
        job = Job(f"job-{len(self.jobs) + 1}", name, labels, self._loop.time())
        self.jobs[job.id] = job
        script = world.scripts.of(execution)
        if not script.hangs:
            takes_s = world.tape.pick(f"job takes {execution.label}", DURATIONS_S)
            self._loop.later(takes_s, self._end, job, "JOB_STATE_DONE" if script.succeeds else "JOB_STATE_FAILED")
        return job

    def _cancel(self, job: Job) -> None:
        if job.state in ENDS:
            raise DataflowRefused("PUT", Refusal(400, "failedPrecondition", "the job has ended"))
        self._loop.later(1.0, self._end, job, "JOB_STATE_CANCELLED")
        self._world.oracle.stop_requested(job.labels["aiorch_execution"])

    def _end(self, job: Job, state: str) -> None:
        if job.state in ENDS:
            return
        world, tape = self._world, self._world.tape
        job.state = state
        execution = world.oracle.execution_of(job.labels["aiorch_execution"])
        label = execution.label
        world.note("dataflow", f"{job.id} of {label} is {state}")
        world.oracle.ended(execution, succeeded=state == "JOB_STATE_DONE", cancelled=state == ENDS[2])
        lag_s = tape.pick(f"api lags {label}", LAG_S) if world.is_faulty and world.swarm.sweeps else 0.0
        self._loop.later(lag_s, self._show, job)
        if world.is_faulty and tape.chance(f"event lost {label}", world.swarm.event_lost):
            world.count("hint lost")
        else:
            world.subscription.publish(log_line(job), after_s=0.5, what=f"hint about {job.id} of {label}")

    @staticmethod
    def _show(job: Job) -> None:
        job.shown = job.state


class SimulatedClient:
    """Takes the place of `aiorch.targets.dataflow.client.DataflowClient` in one process."""

    def __init__(self, world: "World", process: "SimulatedProcess") -> None:
        self._world = world
        self._loop = world.loop
        self._process = process
        self._listed_at: dict[str, float] = {}

    async def get(self, path: str, params: Mapping[str, str]) -> Any:
        """Read something."""
        begun_at, world = self._loop.time(), self._world
        if "name" in params:
            world.cluster.may_pause(self._process, "lists", 0.1, 0.0)
        told = await self._ask("GET", path, params, None)
        if "name" in params:
            self._listed_at[params["name"]] = begun_at
        return told

    async def post(self, path: str, params: Mapping[str, str], body: bytes) -> Any:
        """Launch something."""
        request = json.loads(body)
        name, key = request["jobName"], request["environment"]["additionalUserLabels"]["aiorch_execution"]
        self._world.oracle.launches(self._process, name, key, self._listed_at.get(name, -1.0))
        return await self._ask("POST", path, params, body)

    async def put(self, path: str, body: bytes) -> Any:
        """Cancel something."""
        return await self._ask("PUT", path, {}, body)

    async def aclose(self) -> None:
        """Nothing to close."""

    async def _ask(self, method: str, path: str, params: Mapping[str, str], body: bytes | None) -> Any:
        world, tape = self._world, self._world.tape
        directed = world.enter(self._process, method, path.rpartition("/")[2])
        if directed is Fault.PAUSE_BEFORE and method == "POST":
            directed = Fault.PAUSE_AFTER  # between its last look and its request a process can do nothing about that
        directed = await world.before_call(self._process, directed)
        # What cannot be stopped is tried again for as long as it takes: trouble enough for worlds with a sweeper.
        is_faulty = world.is_faulty and world.swarm.sweeps
        label = f"{method} by {self._process.name}"
        if directed in (Fault.REFUSED, Fault.THROTTLED) or (
            is_faulty and tape.chance(f"unreachable {label}", world.swarm.not_started)
        ):
            await asyncio.sleep(0.1)
            raise DataflowUnreachable(f"{method} {path} was not sent")
        fault = _NO_ANSWER if directed in (Fault.REPLY_LOST, Fault.LATE, Fault.REPEATED) else 0
        if is_faulty and tape.chance(f"no answer {label}", world.swarm.answer_lost / 2):
            fault = _NOT_APPLIED + tape.draw(f"no answer {label}: applied", 3)
            world.count(("", "api: not applied", "api: applied, no answer", "api: applied late")[fault])
        answer: asyncio.Future[Any] = self._loop.create_future()
        if fault in (_NOT_APPLIED, _LATE):
            self._loop.later(2.0, _answer, answer, DataflowNoAnswer(f"{method} {path} got no answer"))
        if fault != _NOT_APPLIED:
            delay = tape.pick(f"late {label}", (5.0, 20.0)) if fault == _LATE else 0.05
            carry_out = partial(
                world.dataflow.answer, method, path, params, body, self._process, is_late=fault == _LATE
            )
            self._loop.later(delay, self._carry_out, f"{method} {path}", carry_out, answer, fault)
        told = await answer
        if directed is Fault.CUT_AFTER:
            world.cut(self._process)
            await self._loop.create_future()
        return told

    def _carry_out(self, what: str, carry_out: Callable[[], Any], answer: "asyncio.Future[Any]", fault: int) -> None:
        told: Any
        try:
            told = carry_out()
        except DataflowRefused as error:
            told = error
        if fault:
            told = DataflowNoAnswer(f"{what} got no answer")
        method, _, path = what.partition(" ")
        self._world.note(self._process.name, f"{method} {path.rpartition('/')[2]} {told if fault else ''}".rstrip())
        self._loop.later(0.05, _answer, answer, told)


def _answer(answer: "asyncio.Future[Any]", told: Any) -> None:
    if answer.done():
        return
    if isinstance(told, Exception):
        answer.set_exception(told)
    else:
        answer.set_result(told)


def dataflow_target(world: "World", process: "SimulatedProcess") -> DataflowTarget:
    """Return the real target, whose requests go nowhere but here."""
    target = DataflowTarget(api_root="http://127.0.0.1", project_id=PROJECT, region=REGION)
    client: Any = SimulatedClient(world, process)
    stop = target.stop

    async def watched_stop(task: Task, context: TaskContext, job_id: str | None) -> None:
        world.oracle.stops(process, Execution.of(context))
        await stop(task, context, job_id)

    launch = target.launch

    async def broken_launch(task: Task, context: TaskContext) -> Answer:
        answer = await launch(task, context)
        if world.is_faulty and world.tape.chance(f"defect at {context.run_id} {context.node}", world.swarm.defects):
            world.count("defect after a job was launched")
            raise DefectError("the answer cannot be read")
        return answer

    target.stop = watched_stop  # type: ignore[method-assign]
    target.launch = broken_launch  # type: ignore[method-assign]
    target.resolve = process.why_not  # type: ignore[method-assign]
    target._client = client
    target._jobs = DataflowJobs(client)
    return target


def log_line(job: Job) -> bytes:
    """What the platform writes when the workers of a job are gone, however it has ended."""
    return json.dumps(
        {
            "logName": f"projects/{PROJECT}/logs/dataflow.googleapis.com%2Fjob-message",
            "resource": {
                "type": "dataflow_step",
                "labels": {"job_name": job.name, "job_id": job.id, "region": REGION, "project_id": "123456789"},
            },
            "textPayload": "Worker pool stopped.",
            "timestamp": "2026-01-01T00:00:00Z",
        }
    ).encode()
