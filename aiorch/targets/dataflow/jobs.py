"""Jobs in the Dataflow API: found by name, read, cancelled."""

from typing import NamedTuple

from aiorch.ports.target import Accepted, Answer
from aiorch.targets.dataflow import api
from aiorch.targets.dataflow.api import Job
from aiorch.targets.dataflow.client import DataflowApiError, DataflowClient, DataflowNoAnswer, DataflowRefused
from aiorch.targets.dataflow.launch import Place

REPLACEMENTS_MAX = 100
"""Updates of one streaming job that we follow: a guard against a circle."""

PAGES_MAX = 100

_CANCEL = b'{"requestedState":"JOB_STATE_CANCELLED"}'


class JobKey(NamedTuple):
    """The facts that identify the job of one execution."""

    execution_id: str
    name: str
    place: Place


class DataflowJobs:
    """The jobs behind a client."""

    def __init__(self, client: DataflowClient) -> None:
        self._client = client

    async def find(self, key: JobKey) -> Answer | None:
        """
        Return ``Accepted`` for the job of an execution, ``Failed`` for a taken name, `None` for a free name.

        Raises:
            DataflowApiError: The listing is not complete, and so proves no absence.
        """
        jobs = []
        for job in await self._list(key):
            if job.bears(key.execution_id) is None:
                # A listing shows summaries, which may lack labels.
                jobs.append(await self._get(key.place, job.id, "JOB_VIEW_DESCRIPTION") or job)
            else:
                jobs.append(job)
        return api.adopt(jobs, key.execution_id, key.place)

    async def _list(self, key: JobKey) -> list[Job]:
        path = f"{key.place.path}/jobs"
        jobs: list[Job] = []
        params = {"name": key.name, "filter": "ALL"}
        for _ in range(PAGES_MAX):
            page = await self._client.get(path, params)
            found = api.read_jobs(page)
            if found is None:
                raise DataflowNoAnswer(f"GET {path} for name {key.name!r} was answered with no complete listing")
            jobs += [job for job in found if job.name == key.name]
            token = api.next_page(page)
            if not token:
                return jobs
            params["pageToken"] = token
        raise DataflowNoAnswer(f"GET {path} for name {key.name!r} did not end after {PAGES_MAX} pages")

    async def current(self, key: JobKey, job_id: str | None) -> Job | None:
        """
        Return the present state of a job, or of the job that replaced it; `None` when the API does not know that job.

        Raises:
            DataflowApiError: The API gives no answer at present.
        """
        if job_id is None:
            found = await self.find(key)
            job_id = found.job_id if isinstance(found, Accepted) else None
        job = None
        for _ in range(REPLACEMENTS_MAX):
            if job_id is None:
                break
            job = await self._get(key.place, job_id, "JOB_VIEW_SUMMARY")
            job_id = job.replaced_by if job is not None and job.state == "JOB_STATE_UPDATED" else None
        return job

    async def _get(self, place: Place, job_id: str, view: str) -> Job | None:
        try:
            data = await self._client.get(place.job_path(job_id), {"view": view})
        except DataflowRefused as error:
            if error.refusal.status == 404:
                return None
            raise
        job = api.read_job(data, job_id)
        if job is None:
            raise DataflowNoAnswer(f"GET {place.job_path(job_id)} was answered without a job")
        return job

    async def error_messages(self, key: JobKey, job: Job) -> list[str]:
        """Return the job's messages about its failure, as far as the API gives them: the job has failed in any case."""
        params = {"minimumImportance": "JOB_MESSAGE_ERROR"}
        texts: list[str] = []
        try:
            for _ in range(PAGES_MAX):
                page = await self._client.get(f"{key.place.job_path(job.id)}/messages", params)
                texts += api.read_messages(page)
                token = api.next_page(page)
                if not token:
                    break
                params["pageToken"] = token
        except DataflowApiError as error:
            texts.append(f"(its messages could not be read: {error})")
        return texts

    async def cancel(self, key: JobKey, job: Job) -> None:
        """Cancel a job for good. Raises: DataflowApiError when the job may go on."""
        try:
            await self._client.put(key.place.job_path(job.id), _CANCEL)
        except DataflowRefused as error:
            # A job that ended just now cannot be cancelled any more.
            now = await self.current(key, job.id)
            if now is None or now.has_ended:
                return
            raise DataflowRefused(f"cancelling Dataflow job {job.id}, which may go on,", error.refusal) from error
