"""The targets of a process: one of each kind, made when a task first needs it, since its imports take long."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiorch.ports.target import PolledTarget
from aiorch.settings import Settings, TargetSettings
from aiorch.targets.kind import BUILT_IN, TargetKind, load, part_of, target_kind

if TYPE_CHECKING:
    from aiorch.model.dag import Task
    from aiorch.ports.context import TaskContext
    from aiorch.ports.target import Answer, Target


class Targets(dict[str, "Target"]):
    """
    Targets by target type: the targets of the built-in types, and the targets that a task has needed.

    Args:
        settings: The settings of the process.

        given: Targets that the process uses instead of making its own.

        own: Settings of kinds of targets, at most one for each kind.
    """

    def __init__(
        self, settings: Settings, given: Mapping[str, "Target"] | None = None, own: Iterable[TargetSettings] = ()
    ) -> None:
        self._settings = settings
        self._own = {each.target_type: each for each in own}
        super().__init__(given or {})
        for name in BUILT_IN:
            self[name]

    def __missing__(self, name: str) -> "Target":
        """Take in the target of a kind. Raises: KeyError."""
        kind = target_kind(name)
        if kind is None or (name not in BUILT_IN and None in (part_of(kind, "settings"), part_of(kind, "target"))):
            raise KeyError(name)
        lazy = _LazyPolled if kind.execution.is_polled else _Lazy
        self[name] = found = lazy(kind, self._settings, self._own.get(name))
        return found


class _Lazy:
    """A target that is made when a task first needs it."""

    def __init__(self, kind: TargetKind, settings: Settings, own: TargetSettings | None) -> None:
        self._kind = kind
        self._settings = settings
        self._own = own
        self._made: Any = None
        self._begins_itself = False
        self.limit = kind.limit if own is None or own.limit is None else own.limit

    def _target(self) -> Any:
        if self._made is None:
            own = self._own or load(self._kind.settings).of(self._settings)
            self._made = load(self._kind.target)(own, self._settings)
            self._begins_itself = getattr(self._made, "begins_itself", False)
            for method in ("resolve", "launch", "stop", "poll", "find_problems"):  # from now on called without a detour
                if hasattr(self._made, method):
                    setattr(self, method, getattr(self._made, method))
        return self._made

    @property
    def begins_itself(self) -> bool:
        if self._made is None:
            self._target()
        return self._begins_itself

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
