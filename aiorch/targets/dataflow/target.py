"""
The target `Dataflow`: one job per execution, launched from a template, and polled until its end.

**One job per execution.** The name of a job ends in the execution's key, and the API keeps two *active* jobs from
having one name. A job that has ended gives its name back, so the name alone would not keep a repeated launch from
starting a second job. Hence the rule: **no launch is sent but after a complete listing of that name, in all states,
that shows no job of ours**. The rule costs one read per launch; no other check tells whether a launch was sent before,
since the process that sent it may have died. An old listing is no proof: a process may have stood still after its
listing and have counted as dead, while a second process launched a job that has ended since. Outcomes of a launch:

    2xx                                           Accepted    the job's id
    no connection, no access token                NotStarted  the launch was not sent
    the listing is old by now                     NotStarted  the launch was not sent
    429, 403 for rate, quota of jobs              NotStarted  refused for now: a quota refusal is no launch
    409, 5xx, 408, reset, timeout, no JSON        list the name: ours is Accepted; none there: NotStarted, again
    a job of the name bears a foreign label       Failed      ``JobNameTaken``
    other 4xx                                     Failed      ``HTTP <status>``
    parameters that are not JSON                  Failed      ``ConfigurationError``

After ``NotStarted`` the caller launches again, and each launch begins with the listing. A job that appears between
listing and launch is active, so the API answers the launch with 409, and the target finds the job.
"""

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Self

from aiorch.google.extras import why_no_tokens
from aiorch.model.dag import Task
from aiorch.model.failure import Failure
from aiorch.ports.context import TaskContext
from aiorch.ports.target import Accepted, Answer, Failed, NotStarted, Unknown
from aiorch.settings import Settings
from aiorch.targets.dataflow import api
from aiorch.targets.dataflow.client import (
    ANSWER_S,
    DataflowApiError,
    DataflowClient,
    DataflowNoAnswer,
    DataflowRefused,
    DataflowUnreachable,
)
from aiorch.targets.dataflow.jobs import DataflowJobs, JobKey
from aiorch.targets.dataflow.launch import LaunchRequest, Place, job_name, launch_request
from aiorch.targets.dataflow.node import DataflowJob
from aiorch.targets.dataflow.settings import Dataflow

if TYPE_CHECKING:
    from aiorch.google.access_token import AccessToken

logger = logging.getLogger(__name__)

APPEARS_S = 30.0
"""Seconds for which `stop` looks for a missing job: the request that launches the job may still be on its way."""

LOOK_AGAIN_S = 2.0

LISTING_S = 40.0
"""Seconds for which a listing proves that there is no job: less than the time until a process counts as dead."""

MISSING_S = 600.0
"""Seconds until we give up an accepted job that the API does not know. New jobs appear late, but never so late."""


class DataflowTarget:
    """
    Launches Dataflow jobs from Classic and Flex templates, in the region of each step.

    Args:
        api_root: Root URL of the API; `None`: Google's own. Plain ``http`` to this machine carries no access token.

        project_id: Project of steps that name none.

        region: Region of steps that name none.

        token: The source of access tokens, shared and not closed here; `None`: this process's own credentials.

        answer_s: Seconds for an answer of the API.

        appears_s: Seconds for which `stop` looks for a missing job.

    Raises:
        ValueError: *api_root* is no URL that requests may be sent to.
    """

    def __init__(  # noqa: PLR0913  settings, all named
        self,
        *,
        api_root: str | None = None,
        project_id: str | None = None,
        region: str | None = None,
        token: "AccessToken | None" = None,
        answer_s: float = ANSWER_S,
        appears_s: float = APPEARS_S,
    ) -> None:
        self._client = DataflowClient(api_root, token=token, answer_s=answer_s)
        self._jobs = DataflowJobs(self._client)
        self._project_id = project_id
        self._region = region
        self._appears_s = appears_s
        # All by execution key, and touched by the event loop's thread alone.
        self._sending: dict[str, asyncio.Task[Answer]] = {}
        self._missing_since: dict[str, float] = {}

    @classmethod
    def of(cls, own: Dataflow, settings: Settings) -> Self:
        """Return the target that the settings describe."""
        return cls(api_root=own.api, project_id=settings.project_id, region=settings.region)

    def resolve(self, task: Task) -> str | None:
        """Say which facts this process lacks for a launch of *task*'s job, `None` when it lacks none."""
        assert isinstance(task, DataflowJob)
        given = {"project_id": task.project_id or self._project_id, "region": task.region or self._region}
        missing = [name for name, value in given.items() if not value]
        if not missing:
            return why_no_tokens() if self._client.needs_credentials else None
        return (
            f"Dataflow job {task.target_name!r} needs {' and '.join(missing)}, and neither the step nor the settings "
            f"of this process give it; set it there, or in the step"
        )

    async def launch(self, task: Task, context: TaskContext) -> Answer:
        """
        Launch the job, or find the job of an earlier launch.

        When the caller gives up a launch whose request is under way, the request goes on to its end: `stop` waits for
        the answer, and so never misses the job.
        """
        assert isinstance(task, DataflowJob)
        key = self._key(task, context)
        try:
            request = launch_request(task, context, key.place)
        except ValueError as error:
            return Failed(Failure.of("ConfigurationError", f"nothing was launched: {error}"))
        return await self._launch(key, request)

    async def poll(self, task: Task, context: TaskContext, job_id: str | None) -> Answer | None:
        """
        Ask once how the job ended.

        Args:
            task: The task.

            context: The context of the launch.

            job_id: The id that ``Accepted`` gave; `None`: find the job by its name.

        Returns:
            The outcome of the job, or `None` while the outcome is not known, also after an error of the API: ask again
            later. ``Unknown`` when the API has not known the job for ten minutes.
        """
        key = self._key(task, context)
        try:
            answer = await self._poll(key, job_id)
        except DataflowApiError as error:
            logger.warning(
                "job cannot be asked about, trying again later",
                extra={
                    "run_id": context.run_id,
                    "node": context.node,
                    "attempt": context.attempt,
                    "job_id": job_id,
                    "error": str(error),
                },
            )
            return None
        if answer is not None:
            self._missing_since.pop(key.execution_id, None)
        return answer

    async def stop(self, task: Task, context: TaskContext, job_id: str | None) -> None:
        """
        Cancel the job for good: the API has accepted it, or the job has ended, or there is none.

        A cancelled job takes minutes to end; until then `poll` returns `None`. For `APPEARS_S`, `stop` looks for a
        missing job, since a launch that its caller gave up may still be on its way.

        Raises:
            DataflowApiError: The job may go on. Try again.
        """
        key = self._key(task, context)
        sending = self._sending.get(key.execution_id)
        if sending is not None:
            answer = await asyncio.shield(sending)
            job_id = answer.job_id if isinstance(answer, Accepted) else job_id
        job = await self._jobs.current(key, job_id)
        for _ in range(round(self._appears_s / LOOK_AGAIN_S)):
            if job is not None:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
            job = await self._jobs.current(key, job_id)
        if job is not None and not job.has_ended:
            await self._jobs.cancel(key, job)
        self._missing_since.pop(key.execution_id, None)

    async def aclose(self) -> None:
        """Give up the launches that are under way, and close the connections."""
        sending = list(self._sending.values())
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await self._client.aclose()

    # -- launching -----------------------------------------------------------------------------------------------

    async def _launch(self, key: JobKey, request: LaunchRequest) -> Answer:
        listed_at = asyncio.get_running_loop().time()
        try:
            found = await self._jobs.find(key)
        except DataflowRefused as error:
            if error.refusal.says_busy or error.refusal.says_nothing:
                return NotStarted(str(error))
            return api.refused(error.refusal, key.name, key.place)
        except DataflowApiError as error:
            return NotStarted(str(error))
        if found is not None:
            return found
        sending = self._sending.get(key.execution_id)
        if sending is None:
            sending = asyncio.create_task(self._send(key, request, listed_at))
            self._sending[key.execution_id] = sending
            sending.add_done_callback(partial(self._sent, key.execution_id))
        return await asyncio.shield(sending)

    def _sent(self, execution_id: str, sending: asyncio.Task[Answer]) -> None:
        del self._sending[execution_id]
        if not sending.cancelled():
            sending.exception()  # marks the exception as seen: the caller may have given up the launch

    async def _send(self, key: JobKey, request: LaunchRequest, listed_at: float) -> Answer:
        if asyncio.get_running_loop().time() - listed_at > LISTING_S:
            return NotStarted(f"the listing of jobs named {key.name!r} is too old to prove that there is none")
        return await self._post(key, request)

    async def _post(self, key: JobKey, request: LaunchRequest) -> Answer:
        try:
            data = await self._client.post(request.path, request.params, request.body)
            job = api.read_job(data.get("job"))
            if job is None and data.get("job") is not None:
                raise DataflowNoAnswer(f"POST {request.path} for name {key.name!r} was answered without a job")
        except DataflowUnreachable as error:
            return NotStarted(str(error))
        except DataflowNoAnswer as error:
            return await self._find_sent(key, NotStarted(str(error), may_arrive=True))
        except DataflowRefused as error:
            if error.refusal.says_busy:
                return NotStarted(str(error))
            if error.refusal.says_exists or error.refusal.says_nothing:
                return await self._find_sent(key, NotStarted(str(error), may_arrive=True))
            return api.refused(error.refusal, key.name, key.place)
        return Accepted(job.id) if job is not None else await self._find_sent(key, Accepted())

    async def _find_sent(self, key: JobKey, otherwise: Answer) -> Answer:
        """Look for the job of the launch that was just sent; return *otherwise* when the API shows no such job."""
        try:
            return await self._jobs.find(key) or otherwise
        except DataflowApiError:
            return otherwise

    # -- afterwards ----------------------------------------------------------------------------------------------

    async def _poll(self, key: JobKey, job_id: str | None) -> Answer | None:
        job = await self._jobs.current(key, job_id)
        if job is None or job.state == "JOB_STATE_UPDATED":  # replaced by a job that the API does not show
            return self._missing(key, job_id)
        self._missing_since.pop(key.execution_id, None)
        messages = await self._jobs.error_messages(key, job) if job.state == "JOB_STATE_FAILED" else []
        return api.outcome(job, key.place, messages)

    def _missing(self, key: JobKey, job_id: str | None) -> Answer | None:
        now = asyncio.get_running_loop().time()
        if now - self._missing_since.setdefault(key.execution_id, now) < MISSING_S:
            return None
        which = f"job {key.name!r} ({job_id or 'id not known'})"
        return Unknown(f"the API has not known {which} in {key.place.region} for {MISSING_S:g} s")

    def _key(self, task: Task, context: TaskContext) -> JobKey:
        assert isinstance(task, DataflowJob)
        place = Place(task.project_id or self._project_id or "", task.region or self._region or "")
        return JobKey(context.execution_id, job_name(task.target_name, context.execution_id), place)
