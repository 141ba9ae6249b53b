"""
What the engine needs from the world, as small protocols that it owns. Everything else is an adapter.

`ObjectStore` and `Liveness` keep state, `EventSource` brings messages, `Target` does work, `Clock` and `Entropy`
are the only sources of time of day and of chance, `Observer` is told what happens.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from aiorch.context import TaskContext
    from aiorch.enums import RunStatus, TargetTypes
    from aiorch.failure import Failure
    from aiorch.nodes import Task


class StoredObject(NamedTuple):
    """Content of an object and the generation that it belongs to, from one read."""

    data: bytes
    generation: int


class ObjectInfo(NamedTuple):
    """One entry of a listing."""

    name: str
    generation: int
    metadata: Mapping[str, str]


class ObjectStore(Protocol):
    """
    Named objects with generations: Cloud Storage, or what behaves like it.

    Generations are compared for equality only, and never used twice within a store. An object that does not
    exist has generation 0. Every method is safe to call from several tasks at once.

    Raises (all methods):
        StoreThrottled: Refused for its rate; nothing was applied.

        StoreUnavailable: No usable answer; a write may or may not have been applied.

        StoreError: Refused for good (read-only, full, newer schema); nothing was applied.
    """

    async def read(self, name: str) -> StoredObject | None:
        """Return content and generation in one, or `None` when there is no such object."""
        ...

    async def write(
        self,
        name: str,
        data: bytes,
        *,
        if_generation_match: int,
        metadata: Mapping[str, str] | None = None,
        create: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        """
        Replace the object if its generation is still *if_generation_match*; 0: it must not exist yet.

        What is in *create* is written side by side with it, so that both together take the time of one.

        Args:
            name: Object name, built by `aiorch.names` only.

            data: The whole content, one byte at least.

            if_generation_match: Generation last seen, or 0.

            metadata: Custom metadata, shown by `list`; replaces what was there.

            create: Names and contents of objects to create if they do not exist yet, as `create_all` does.

        Returns:
            Generation of what was just written. It and all of *create* are durable when this returns.

        Raises:
            GenerationConflict: The object is at another generation. Any part of *create* may have been created.
        """
        ...

    async def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """
        Create every object that does not exist yet; those that exist stay as they are.

        All are durable when this returns. When it raises, any part of them may have been created: calling again
        is safe.
        """
        ...

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """Return all objects whose name starts with *prefix*, in order of name."""
        ...

    async def delete(self, name: str, *, if_generation_match: int) -> None:
        """
        Delete the object if it is still at this generation. One that is gone already is no error.

        Raises:
            GenerationConflict: The object is at another generation.
        """
        ...

    async def version(self) -> Hashable | None:
        """
        Return a value that is equal to an earlier one only if no process has written or deleted any object in between.

        `None` when the store cannot tell that for much less than the price of a listing.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was accepted and release everything."""
        ...


class Liveness(Protocol):
    """Who of the processes that share a store is alive. A process is known by a random id per start."""

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:
        """
        Let *process* count as alive, from now until `leave` or its death.

        Args:
            process: Its id.

            is_working: Whether it owes anything to a run just now; `None`: always. While it does not, it may be left
                unheard, if being heard costs something: see `announce`.
        """
        ...

    async def leave(self, process: str) -> None:
        """Announce that *process* does nothing any more: its work may be taken over at once."""
        ...

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """
        Return those of *processes* that will never act again (or are called dead after a long silence).

        A process that was never heard of counts as dead. Wrong answers cost double work, never correctness.
        """
        ...

    def is_silent(self, process: str) -> bool:
        """Whether *process*, which joined here, was not heard for so long that others may call it dead."""
        ...

    def heard_since(self, process: str) -> float:
        """
        Return since when *process*, which joined here, has been heard without being silent in between.

        In the event loop's time. What it knew before that may be wrong: others may have called it dead and taken over.
        Minus infinity where the dead are told from the silent.
        """
        ...

    async def announce(self, process: str) -> None:
        """
        Be heard now, if *process* is silent. Called before it commits to do something.

        Raises:
            StoreError: Nobody can hear it at present: it must not commit to anything.
        """
        ...


class Pace(NamedTuple):
    """How often a store is looked at without a reason: what a look costs decides."""

    sweep_interval_s: float
    """Pause between two looks at the open runs, for starts, cancels and deaths that no event tells."""

    relook_s: float
    """How often an open run is read without a reason: a message about it may have been lost, and its owner be dead."""

    refresh_s: float
    """How often a run with executions of this process is read: a cancel by another process may not have been told."""

    running_after_s: float
    """After how long an execution that is under way is recorded as ``Running``: that is a write of its own."""

    commit_interval_s: float
    """Least time between two commits of one run: what the store would refuse sooner. Events gather meanwhile."""


LOCAL_PACE = Pace(sweep_interval_s=1.0, relook_s=600.0, refresh_s=30.0, running_after_s=0.5, commit_interval_s=0.0)
"""A look costs next to nothing."""


class Store(ObjectStore, Liveness, Protocol):
    """Where an orchestrator keeps everything."""

    @property
    def pace(self) -> Pace:
        """How often it may be looked at."""
        ...


class Delivery(Protocol):
    """One handing-over of a message."""

    data: bytes
    message_id: str
    publish_time: datetime
    attributes: Mapping[str, str]
    delivery_attempt: int | None
    """From 1; `None` when nothing is done with a message that is given back again and again."""

    def ack(self) -> None:
        """What the message said is committed, or needs nothing: do not deliver it again."""
        ...

    def nack(self) -> None:
        """Deliver it again later."""
        ...


class EventSource(Protocol):
    """Where messages come from."""

    async def receive(self) -> Sequence[Delivery]:
        """Wait for messages and return a batch of at least one. Cancellation loses none."""
        ...

    def pause(self) -> None:
        """Bring no new messages: they could not be handled at present."""
        ...

    def resume(self) -> None:
        """Bring messages again."""
        ...

    def stop(self) -> None:
        """Bring nothing more, for good, and give back what was not handed out: the process is about to end."""
        ...

    async def aclose(self) -> None:
        """Stop, and give back what was not settled."""
        ...


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """The target did the work: `result` is its answer as encoded JSON, `None` for none."""

    result: bytes | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The target ran and failed, or can never run: the retry policy decides."""

    failure: "Failure"


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The target took the work and will end later; `job_id` is its own name for it."""

    job_id: str | None = None


class NotStarted(msgspec.Struct, frozen=True, gc=False):
    """It never ran (no connection, refused for load): the same attempt may be sent again."""

    reason: str
    may_arrive: bool = False
    """A request was sent and not answered, and may still be carried out, however late."""


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """It was sent and no answer came: it may have run, it may be running still."""

    reason: str


Answer = Succeeded | Failed | Accepted | NotStarted | Unknown


class Target(Protocol):
    """
    Does the work of one `target_type`.

    An execution counts as sent, and its timeout runs, from the call of `launch`. One that may have to wait before it
    sends has an attribute ``begins_itself = True``, and calls `context.begin` when it does.
    """

    def resolve(self, task: "Task") -> str | None:
        """
        Say why this process cannot launch *task* (e.g. a callable that it cannot import), or `None` if it can.

        Quick and without I/O beyond imports; its answer may be remembered.
        """
        ...

    async def launch(self, task: "Task", context: "TaskContext") -> Answer:
        """
        Launch one execution and return what came of it. Every outcome is a value; nothing is raised.

        The intent and the execution record are durable before this is called. It may be called again with the
        same `context.execution_id` after `NotStarted`, after a crash, or by the process that took the run over.
        A deadline is set around it by the engine; when that cancels it, or a stop does, it gives up at once.
        """
        ...

    async def stop(self, task: "Task", context: "TaskContext", job_id: str | None) -> None:
        """Stop what this execution left at the target, if anything can be stopped there."""
        ...

    async def aclose(self) -> None:
        """Release connections and threads."""
        ...


@runtime_checkable
class PolledTarget(Target, Protocol):
    """A target whose executions go on after ``Accepted``: they are asked about until they have ended."""

    async def poll(self, task: "Task", context: "TaskContext", job_id: str | None) -> Answer | None:
        """
        Ask once what came of an execution.

        Args:
            task: The task.

            context: As at its launch.

            job_id: What ``Accepted`` said; `None` when nobody remembers: it is found by its execution id.

        Returns:
            What came of it, or `None` when that is not known yet: ask again later. Nothing is raised.
        """
        ...


class Observer(Protocol):
    """Is told what the engine does, for metrics. Its methods are quick and raise nothing."""

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:
        """
        A delivery was answered for.

        Args:
            kind: ``start``, ``cancel``, ``function``, ``dataflow``; ``other``: none of ours, or it cannot be read.

            outcome: What became of it, see `aiorch.intake.Outcome`.

            seconds: Since it was received.
        """
        ...

    def committed(self, events: int, seconds: float) -> None:
        """A run document was written, with this many events in it; the write took so long."""
        ...

    def throttled(self) -> None:
        """A commit was refused for its rate."""
        ...

    def run_ended(self, status: "RunStatus") -> None:
        """The end of a run was committed here."""
        ...

    def conflicted(self) -> None:
        """A commit found somebody else's."""
        ...

    def launched(self, target_type: "TargetTypes") -> None:
        """An execution was handed to its target."""
        ...

    def ended(self, target_type: "TargetTypes", answer: Answer, seconds: float) -> None:
        """What came of an execution, and how long it was under way here."""
        ...


class Clock(Protocol):
    """Time of day. Durations are measured with the event loop's own clock."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        ...


class Entropy(Protocol):
    """Chance."""

    def token(self) -> str:
        """32 random hex digits."""
        ...

    def jitter(self) -> float:
        """A number in [0, 1)."""
        ...
