"""
A Dataflow API on loopback: launches from templates, jobs whose states the test moves by hand, and faults.

As the real one: one *active* job per name, project and region (409 ``alreadyExists``, after one's own success too); the
name is free again after the end; launch answers lack fields; `jobs.get` lags behind the log line; listings are
summaries, in pages.
"""

import asyncio
import itertools
import json
import socket
import struct
from collections import Counter, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import web

from tests.fakes.serving import serving

ENDED = {"JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED", "JOB_STATE_DRAINED"}


@dataclass
class FakeJob:
    """One job; `state` is what it is in, `shown` what the API says."""

    id: str
    name: str
    project: str
    region: str
    labels: dict
    kind: str
    created_at: str
    state: str = "JOB_STATE_PENDING"
    shown: str | None = None
    replaced_by: str | None = None
    messages: list = field(default_factory=list)
    is_listed: bool = True
    hidden: bool = False

    @property
    def is_active(self):
        return self.state not in ENDED


@dataclass
class Seen:
    """One request."""

    operation: str
    path: str
    query: dict
    body: object
    authorization: str | None


class FakeDataflow:
    """
    The API, and what a test may do to it.

    Attributes:
        launches: Jobs started, by name.

        seen: All requests.
    """

    def __init__(self, *, jobs_max=25, page_size=100):
        self.jobs = {}
        self.launches = Counter()
        self.seen = []
        self.jobs_max = jobs_max
        self.page_size = page_size
        self.summaries_have_labels = True
        self.lists_new_jobs = True
        self.lists_prefixes = False
        self.bare_launch_answers = False
        self.failed_locations = []
        self.root = None
        self._faults = {}
        self._ids = itertools.count(1)
        self._held = asyncio.Event()

    # -- what a test does ----------------------------------------------------------------------------------------

    def fail(self, operation, *faults):
        """
        Let the next requests of *operation* (launch, list, get, cancel, messages) go wrong, in this order.

        A fault is a status, ``(status, body)``, or one of: ``"reset"`` (nothing is done), ``"applied, reset"`` (it is
        done, the answer is lost), ``("applied", body)`` (it is done, the answer is another one), ``"applied, silent"``
        (it is done, nothing is said), ``"applied, 503"``, ``"truncated"`` (it is done, the answer breaks off),
        ``"ok"``.
        """
        self._faults.setdefault(operation, deque()).extend(faults)

    def requests(self, operation):
        return [request for request in self.seen if request.operation == operation]

    def add(self, name, *, project="acme", region="europe-west1", labels=None, state="JOB_STATE_RUNNING", kind="batch"):
        """Put a job there that nobody launched through this API."""
        number = next(self._ids)
        job = FakeJob(
            id=f"2026-11-23_01_02_03-{number:019d}",
            name=name,
            project=project,
            region=region,
            labels=dict(labels or {}),
            kind=kind,
            created_at=(datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=number)).isoformat()[:19] + ".5Z",
            state=state,
        )
        self.jobs[job.id] = job
        return job

    def only_job(self):
        [job] = self.jobs.values()
        return job

    def advance(self, job, state, *, lags=False, messages=()):
        """
        Move a job on.

        Returns:
            The log line that a job writes at its end, whether it ended well or not.
        """
        assert job.is_active, job
        job.shown = job.state if lags else None
        job.state = f"JOB_STATE_{state}"
        job.messages += messages
        return {
            "textPayload": "Worker pool stopped.",
            "severity": "INFO",
            "logName": f"projects/{job.project}/logs/dataflow.googleapis.com%2Fjob-message",
            "timestamp": "2026-11-23T01:10:00Z",
            "resource": {
                "type": "dataflow_step",
                "labels": {"job_id": job.id, "job_name": job.name, "region": job.region, "project_id": "100000000001"},
            },
        }

    def catch_up(self, job):
        """Let the API show what the log has said already."""
        job.shown = None

    def update(self, job):
        """Replace a streaming job, as ``--update`` does. Return its successor."""
        self.advance(job, "UPDATED")
        successor = self.add(job.name, project=job.project, region=job.region, labels=job.labels)
        job.replaced_by = successor.id
        return successor

    # -- the server ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self, ssl_context=None):
        app = web.Application(client_max_size=2**25)
        base = "/v1b3/projects/{project}/locations/{region}"
        app.router.add_post(base + "/templates:launch", self._route("launch", self._launch_classic))
        app.router.add_post(base + "/flexTemplates:launch", self._route("launch", self._launch_flex))
        app.router.add_get(base + "/jobs", self._route("list", self._list))
        app.router.add_get(base + "/jobs/{id}", self._route("get", self._get))
        app.router.add_put(base + "/jobs/{id}", self._route("cancel", self._update))
        app.router.add_get(base + "/jobs/{id}/messages", self._route("messages", self._messages))
        async with serving(app, ssl_context=ssl_context) as self.root:
            yield self
            self._held.set()

    def _route(self, operation, handle):
        async def serve(request):
            body = await request.json() if request.can_read_body else None
            query = dict(request.query)
            authorization = request.headers.get("Authorization")
            self.seen.append(Seen(operation, request.raw_path.partition("?")[0], query, body, authorization))
            faults = self._faults.get(operation)
            fault = faults.popleft() if faults else "ok"
            if isinstance(fault, int):
                return error(fault, "", f"HTTP {fault} on purpose")
            if isinstance(fault, tuple) and fault[0] != "applied":
                return web.Response(status=fault[0], text=fault[1])
            if fault == "reset":
                return await self._reset(request)
            status, answer = handle(request, body)
            if isinstance(fault, tuple):
                return web.Response(status=status, text=fault[1])
            return await self._answer(request, fault, status, answer)

        return serve

    async def _answer(self, request, fault, status, answer):
        match fault:
            case "ok":
                return web.json_response(answer, status=status)
            case "applied, reset":
                return await self._reset(request)
            case "applied, 503":
                return error(503, "UNAVAILABLE", "The service is currently unavailable.")
            case "applied, silent":
                await self._held.wait()
                return web.Response()
            case "truncated":
                return web.Response(text=json.dumps(answer)[:-1], content_type="application/json")
        raise AssertionError(fault)

    async def _reset(self, request):
        request.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        request.transport.abort()
        return web.Response()

    def _launch_classic(self, request, body):
        assert request.query["gcsPath"].startswith("gs://")
        return self._launch(request, body, body["environment"])

    def _launch_flex(self, request, body):
        launch = body["launchParameter"]
        assert launch["containerSpecGcsPath"].startswith("gs://")
        return self._launch(request, launch, launch["environment"])

    def _launch(self, request, launch, environment):
        name, project, region = launch["jobName"], request.match_info["project"], request.match_info["region"]
        assert all(isinstance(value, str) for value in launch["parameters"].values())
        active = [job for job in self.jobs.values() if job.is_active and job.project == project]
        for job in active:
            if (job.name, job.region) == (name, region):
                raise as_exception(
                    409,
                    "alreadyExists",
                    f"(a1): The workflow could not be created. Causes: (a2): There is already an active job named "
                    f"{name}. If you want to submit a second job, try again by setting a different name.",
                )
        if len(active) >= self.jobs_max:
            raise as_exception(
                429,
                "RESOURCE_EXHAUSTED",
                f"(b1): The workflow could not be created. Causes: (b2): Dataflow quota error for jobs-per-project "
                f"quota. Project {project} is running {len(active)} jobs.",
            )
        job = self.add(name, project=project, region=region, labels=environment.get("additionalUserLabels"))
        job.is_listed = self.lists_new_jobs
        is_flex = "containerSpecGcsPath" in launch
        job.state = "JOB_STATE_QUEUED" if is_flex else "JOB_STATE_PENDING"
        self.launches[name] += 1
        if self.bare_launch_answers:
            return 200, {}
        answer = {"id": job.id, "projectId": project, "name": name, "location": region, "createTime": job.created_at}
        answer["currentStateTime"] = "1970-01-01T00:00:00Z"
        if not is_flex:
            answer |= {"type": "JOB_TYPE_BATCH", "currentState": job.state}
        return 200, {"job": answer}

    def _summary(self, job, *, with_labels):
        summary = {
            "id": job.id,
            "projectId": job.project,
            "name": job.name,
            "type": f"JOB_TYPE_{job.kind.upper()}",
            "currentState": job.shown or job.state,
            "createTime": job.created_at,
            "location": job.region,
        }
        if with_labels and job.labels:
            summary["labels"] = job.labels
        if job.replaced_by:
            summary["replacedByJobId"] = job.replaced_by
        return summary

    def _list(self, request, _):
        name, place = request.query.get("name"), (request.match_info["project"], request.match_info["region"])
        found = [job for job in self.jobs.values() if (job.project, job.region) == place and job.is_listed]
        if name:
            found = [job for job in found if job.name == name or (self.lists_prefixes and job.name.startswith(name))]
        if request.query.get("filter") == "ACTIVE":
            found = [job for job in found if job.is_active]
        start = int(request.query.get("pageToken") or 0)
        page = found[start : start + self.page_size]
        answer = {"jobs": [self._summary(job, with_labels=self.summaries_have_labels) for job in page]} if page else {}
        if start + self.page_size < len(found):
            answer["nextPageToken"] = str(start + self.page_size)
        if self.failed_locations:
            answer["failedLocation"] = [{"name": name} for name in self.failed_locations]
        return 200, answer

    def _job(self, request):
        job = self.jobs.get(request.match_info["id"])
        if (
            job is None
            or job.hidden
            or (job.project, job.region)
            != (
                request.match_info["project"],
                request.match_info["region"],
            )
        ):
            raise as_exception(404, "notFound", "(c1): Information about the job could not be found in our system.")
        return job

    def _get(self, request, _):
        has_all = request.query.get("view") in ("JOB_VIEW_ALL", "JOB_VIEW_DESCRIPTION")
        return 200, self._summary(self._job(request), with_labels=has_all or self.summaries_have_labels)

    def _update(self, request, body):
        job = self._job(request)
        assert body == {"requestedState": "JOB_STATE_CANCELLED"}
        if not job.is_active:
            message = (
                f"(d1): Could not set workflow metadata. Causes: (d2): Job {job.id} is already in a terminal state."
            )
            raise as_exception(400, "failedPrecondition", message)
        job.state = "JOB_STATE_CANCELLING"
        return 200, self._summary(job, with_labels=True)

    def _messages(self, request, _):
        job = self._job(request)
        assert request.query["minimumImportance"] == "JOB_MESSAGE_ERROR"
        start = int(request.query.get("pageToken") or 0)
        page = job.messages[start : start + self.page_size]
        answer = {"jobMessages": [{"messageText": text, "messageImportance": "JOB_MESSAGE_ERROR"} for text in page]}
        if start + self.page_size < len(job.messages):
            answer["nextPageToken"] = str(start + self.page_size)
        return 200, answer


def error_body(status, reason, message):
    return {
        "error": {
            "code": status,
            "message": message,
            "errors": [{"message": message, "domain": "global", "reason": reason}],
            "status": reason.upper(),
        }
    }


def error(status, reason, message):
    return web.json_response(error_body(status, reason, message), status=status)


_BY_STATUS = {400: web.HTTPBadRequest, 404: web.HTTPNotFound, 409: web.HTTPConflict, 429: web.HTTPTooManyRequests}


def as_exception(status, reason, message):
    text = json.dumps(error_body(status, reason, message))
    return _BY_STATUS[status](text=text, content_type="application/json")
