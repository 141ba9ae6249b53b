"""Where state is kept: `ObjectStore` holds objects, `Liveness` knows which processes are alive."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol


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
            name: Object name, built by `aiorch.model.names` only.

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
