"""The targets of a process: one of each kind, made when a task first needs it, since what it imports takes long."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiorch.ports.target import PolledTarget
from aiorch.settings import Settings, TargetSettings
from aiorch.targets.kind import BUILT_IN, TargetKind, load, target_kind

if TYPE_CHECKING:
    from aiorch.model.dag import Task
    from aiorch.ports.context import TaskContext
    from aiorch.ports.target import Answer, Target


class Targets(Mapping[str, "Target"]):
    """
    Targets by target type.

    Args:
        settings: The settings of the process.

        given: Targets that take the place of those that would be made.

        own: Settings of kinds of targets, at most one for each kind.
    """

    def __init__(
        self, settings: Settings, given: Mapping[str, "Target"] | None = None, own: Iterable[TargetSettings] = ()
    ) -> None:
        self._settings = settings
        self._own = {each.target_type: each for each in own}
        self._targets: dict[str, Target] = dict(given or {})
        for name in BUILT_IN:
            self.get(name)

    def __getitem__(self, name: str) -> "Target":
        found = self._targets.get(name)
        if found is None:
            kind = target_kind(name)
            if kind is None:
                raise KeyError(name)
            made = _LazyPolled if kind.execution.is_polled else _Lazy
            found = self._targets[name] = made(kind, self._settings, self._own.get(name))
        return found

    def __iter__(self) -> Iterator[str]:
        """Iterate over the built-in types, and those that a task has needed."""
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)


class _Lazy:
    """A target that is made when a task first needs it."""

    def __init__(self, kind: TargetKind, settings: Settings, own: TargetSettings | None) -> None:
        self._kind = kind
        self._settings = settings
        self._own = own
        self._made: Any = None
        self.limit = kind.limit if own is None or own.limit is None else own.limit

    def _target(self) -> Any:
        if self._made is None:
            own = self._own or load(self._kind.settings).of(self._settings)
            self._made = load(self._kind.target)(own, self._settings)
        return self._made

    @property
    def begins_itself(self) -> bool:
        return getattr(self._target(), "begins_itself", False)

    def resolve(self, task: "Task") -> str | None:
        reason: str | None = self._target().resolve(task)
        return reason

    async def launch(self, task: "Task", context: "TaskContext") -> "Answer":
        answer: Answer = await self._target().launch(task, context)
        return answer

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
