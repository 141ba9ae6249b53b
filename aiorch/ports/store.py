"""Ports of the store: `ObjectStore` holds objects, `Liveness` knows which processes are alive."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol


class StoredObject(NamedTuple):
    """Content and generation of an object, from one read."""

    data: bytes
    generation: int


class ObjectInfo(NamedTuple):
    """One entry of a listing."""

    name: str
    generation: int
    metadata: Mapping[str, str]


class ObjectStore(Protocol):
    """
    Named objects with generations: Cloud Storage, or a store that behaves the same.

    Generations are compared for equality only, and never used twice within a store. An object that does not
    exist has generation 0. Every method is safe to call from several tasks at once.

    Raises (all methods):
        StoreThrottled: The store refused the request for its rate and applied no part.

        StoreUnavailable: No usable answer came; a write may or may not have been applied.

        StoreError: The store refused the request for good (read-only, full, newer schema) and applied no part.
    """

    async def read(self, name: str) -> StoredObject | None:
        """Return content and generation of an object, `None` when the object does not exist."""
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
        Replace the object if its generation is still *if_generation_match*; 0: the object must not exist yet.

        The objects of *create* are written at the same time, so that all writes together take the time of one.

        Args:
            name: Object name, built by `aiorch.model.names` only.

            data: The whole content, one byte at least.

            if_generation_match: Generation last seen, or 0.

            metadata: Custom metadata, shown by `list`; replaces the earlier metadata.

            create: Names and contents of objects to create if they do not exist yet, as `create_all` does.

        Returns:
            Generation of the written object. The object and all of *create* are durable when this returns.

        Raises:
            GenerationConflict: The object is at a different generation. Any part of *create* may have been created.
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
        """Return all objects whose name begins with *prefix*, in order of name."""
        ...

    async def delete(self, name: str, *, if_generation_match: int) -> None:
        """
        Delete the object if its generation is still *if_generation_match*. An object that is gone is no error.

        Raises:
            GenerationConflict: The object is at a different generation.
        """
        ...

    async def version(self) -> Hashable | None:
        """
        Return a value that equals an earlier one only if no process has written or deleted any object in between.

        `None` when the store has no value that is much cheaper than a listing.
        """
        ...

    async def aclose(self) -> None:
        """Finish the accepted requests, and release files, threads and connections."""
        ...


class Liveness(Protocol):
    """Which of the processes that share a store are alive. A process has a random id per start."""

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:
        """
        Let *process* count as alive from now until `leave` or the death of the process.

        Args:
            process: Id of the process.

            is_working: Whether the process owns any work of a run at present; `None`: always. An idle process may go
                without a heartbeat where heartbeats cost requests: see `announce`.
        """
        ...

    async def leave(self, process: str) -> None:
        """Announce that *process* does no more work: replicas may take its work over at once."""
        ...

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """
        Return those of *processes* that will never act again, or that count as dead after a long silence.

        An unknown process counts as dead. Wrong answers cost double work, never correctness.
        """
        ...

    def is_silent(self, process: str) -> bool:
        """Whether the last heartbeat of *process*, which joined here, is so old that replicas may take it for dead."""
        ...

    def heard_since(self, process: str) -> float:
        """
        Return the event loop time since which *process*, which joined here, was never silent.

        The process must not trust its copies of runs from before that time: replicas may have taken its work over.
        Minus infinity where a silent process never counts as dead.
        """
        ...

    async def announce(self, process: str) -> None:
        """
        Write a heartbeat now if *process* is silent. Called before the process commits to any work.

        Raises:
            StoreError: No heartbeat can be written at present: the process must not commit to any work.
        """
        ...


class Pace(NamedTuple):
    """Pauses between the reads and writes of a store that no event asks for; the price of a read decides."""

    sweep_interval_s: float
    """Pause between two sweeps of the open runs, for starts, cancels and deaths that no event tells."""

    relook_s: float
    """Pause between two reads of an open run: a message may be lost, and the owner dead."""

    refresh_s: float
    """Pause between two reads of a run with executions of this process: a cancel may not have reached the process."""

    running_after_s: float
    """Age at which an execution under way is recorded as ``Running``: the record is an extra write."""

    commit_interval_s: float
    """Least time between two commits of one run: the store would refuse an earlier one. Events gather meanwhile."""


LOCAL_PACE = Pace(sweep_interval_s=1.0, relook_s=600.0, refresh_s=30.0, running_after_s=0.5, commit_interval_s=0.0)
"""The pace of a store in which a read is almost free."""


class Store(ObjectStore, Liveness, Protocol):
    """The store of an orchestrator: all objects, and the liveness of processes."""

    @property
    def pace(self) -> Pace:
        """The pauses that suit the price of a read."""
        ...
