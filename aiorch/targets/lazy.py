"""Targets that are made when a task first needs them: what they import takes long."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiorch.model.enums import TargetTypes
from aiorch.ports.target import PolledTarget

if TYPE_CHECKING:
    from aiorch.model.dag import Task
    from aiorch.ports.context import TaskContext
    from aiorch.ports.target import Answer, Target
    from aiorch.settings import Settings
    from aiorch.targets.cloud_function.target import CloudFunctionTarget


def http_targets(settings: "Settings") -> dict[str, "Target"]:
    """Return the targets for Cloud Functions and Dataflow jobs. What they import takes long, so it is imported late."""
    return {
        TargetTypes.CLOUD_FUNCTION: _Lazy(lambda: _cloud_function_target(settings), begins_itself=True),
        TargetTypes.DATAFLOW: _LazyPolled(lambda: _dataflow_target(settings), begins_itself=False),
    }


def _cloud_function_target(settings: "Settings") -> "CloudFunctionTarget":
    from aiorch.google.id_tokens import IdTokens  # noqa: PLC0415
    from aiorch.targets.cloud_function.target import CloudFunctionTarget  # noqa: PLC0415

    return CloudFunctionTarget(
        tokens=IdTokens(impersonate=settings.function_impersonate),
        anonymous=settings.function_anonymous,
        url_pattern=settings.function_url,
        project_id=settings.project_id,
        region=settings.region,
        connections_max=settings.function_connections_max,
    )


def _dataflow_target(settings: "Settings") -> "PolledTarget":
    from aiorch.targets.dataflow.target import DataflowTarget  # noqa: PLC0415

    return DataflowTarget(api_root=settings.dataflow_api, project_id=settings.project_id, region=settings.region)


class _Lazy:
    """A target that is made when a task first needs it."""

    def __init__(self, make: "Callable[[], Target]", *, begins_itself: bool) -> None:
        self.begins_itself = begins_itself
        self._make = make
        self._made: Target | None = None

    def _target(self) -> "Target":
        if self._made is None:
            self._made = self._make()
        return self._made

    def resolve(self, task: "Task") -> str | None:
        return self._target().resolve(task)

    async def launch(self, task: "Task", context: "TaskContext") -> "Answer":
        return await self._target().launch(task, context)

    async def stop(self, task: "Task", context: "TaskContext", job_id: str | None) -> None:
        await self._target().stop(task, context, job_id)

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()


class _LazyPolled(_Lazy):
    async def poll(self, task: "Task", context: "TaskContext", job_id: str | None) -> "Answer | None":
        target = self._target()
        assert isinstance(target, PolledTarget)
        return await target.poll(task, context, job_id)
