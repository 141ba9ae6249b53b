"""
The request that launches a Dataflow job. Pure: this module opens no connection.

Source: Dataflow REST reference v1b3, "projects.locations.templates.launch" and
"projects.locations.flexTemplates.launch".
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from aiorch.events.event import EXECUTION_LABEL
from aiorch.model.enums import DataflowTemplateType
from aiorch.ports.context import TaskContext
from aiorch.targets.dataflow.node import DataflowJob

NODE_LABEL = "aiorch_node"
RUN_LABEL = "aiorch_run"

LABEL_CHARS_MAX = 63
"""Source: Dataflow REST reference v1b3, "Job", `labels`."""

READABLE_CHARS_MAX = 40
"""Characters of a job's name before the key. A worker machine's name begins with about as many of the job's."""


class Place(NamedTuple):
    """Project and region of a job: the API knows a job in its own region only."""

    project_id: str
    region: str

    @property
    def path(self) -> str:
        """Path of the region in the API, encoded."""
        return f"/v1b3/projects/{quote(self.project_id, safe='')}/locations/{quote(self.region, safe='')}"

    def job_path(self, job_id: str) -> str:
        """Path of a job, encoded."""
        return f"{self.path}/jobs/{quote(job_id, safe='')}"


class LaunchRequest(NamedTuple):
    """A POST that launches a job."""

    path: str
    params: Mapping[str, str]
    body: bytes


def job_name(target_name: str, key: str) -> str:
    """
    Return the name of the job of an execution: the letters and digits of *target_name*, then the key.

    The name fits ``[a-z]([-a-z0-9]{0,1022}[a-z0-9])?`` for every target name, and is the same at every launch.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", target_name.lower()).strip("-")
    if not readable[:1].isalpha():
        readable = f"job-{readable}"
    return f"{readable[:READABLE_CHARS_MAX].strip('-')}-{key}"


def own_labels(context: TaskContext) -> dict[str, str]:
    """Return the labels that tie a job to its execution. Users' labels may not begin with their prefix."""
    return {
        EXECUTION_LABEL: context.execution_id,
        RUN_LABEL: label_value(context.run_id),
        NODE_LABEL: label_value(context.node),
    }


def label_value(text: str) -> str:
    """Return *text* in the characters and the length that a label can hold."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:LABEL_CHARS_MAX]


def launch_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the parameters as a template takes them: all of them text.

    Text stays unchanged, and every other value becomes its JSON: ``true``, ``5``, ``{"a":1}``. A parameter that is
    null is left out, so the template's own default counts.

    Raises:
        ValueError: One of them is not JSON.
    """
    texts = {}
    for name, value in parameters.items():
        try:
            if value is not None:
                texts[name] = _parameter(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"parameter {name!a} cannot be sent as text: {error}") from error
    return texts


def _parameter(value: Any) -> str:
    encoded = msgspec.json.encode(value)
    decoded = msgspec.json.decode(encoded)
    if decoded is None:
        raise ValueError(f"{value!r} is not JSON")  # NaN and the infinities
    return decoded if isinstance(decoded, str) else encoded.decode()


def launch_request(task: DataflowJob, context: TaskContext, place: Place) -> LaunchRequest:
    """Return the request that launches an execution. Raises: ValueError when the parameters are not JSON."""
    user_labels = task.environment.get("additionalUserLabels", {})
    launch: dict[str, Any] = {
        "jobName": job_name(task.target_name, context.execution_id),
        "parameters": launch_parameters(context.parameters),
        "environment": {**task.environment, "additionalUserLabels": {**user_labels, **own_labels(context)}},
    }
    if task.template_type is DataflowTemplateType.FLEX:
        launch["containerSpecGcsPath"] = task.container_gcs_path
        body = msgspec.json.encode({"launchParameter": launch})
        return LaunchRequest(f"{place.path}/flexTemplates:launch", {}, body)
    assert task.template_path is not None
    return LaunchRequest(f"{place.path}/templates:launch", {"gcsPath": task.template_path}, msgspec.json.encode(launch))
