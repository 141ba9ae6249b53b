"""
`OrchestrationStatus`: runs, their definitions and their open markers, read and written in a store.

It holds no state but the cache of built definitions, which are stored by content and never change.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from aiorch.documents.executions import Execution, named
from aiorch.errors import DefinitionError, DefinitionGoneError, DocumentError, GenerationConflict, NewerSchemaError
from aiorch.model import names
from aiorch.model.dag import DAG
from aiorch.model.labels import labels_as_text, labels_in_text
from aiorch.model.run import Run, run_from_document
from aiorch.model.run_document import RunHeader, StartCommand, decode_document, decode_start_command
from aiorch.ports.store import ObjectStore

REJECTED_BYTES_MAX = 1024 * 1024
"""The kept part of a parked message. Pub/Sub carries 10 MB, and encoded that is more than an object may hold."""

_encode = msgspec.json.Encoder().encode


class RunSummary(NamedTuple):
    """One line of a list of runs."""

    run_id: str
    dag: str
    status: str
    created_at: str
    updated_at: str
    labels: Mapping[str, str] = MappingProxyType({})


class StoredRun(NamedTuple):
    """A committed run, its DAG, and the generation that the next commit must name."""

    dag: DAG
    run: Run
    generation: int


class OpenMarker(NamedTuple):
    """An ``open/`` object."""

    run_id: str
    generation: int


class OrchestrationStatus:
    """Runs, their definitions and their open markers in a store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._dags: dict[str, DAG] = {}
        self._saving = asyncio.Lock()

    # -- runs ----------------------------------------------------------------------------------------------------

    async def get_run(self, run_id: names.RunId) -> StoredRun | None:
        """
        Read a run, `None` when there is none.

        Raises:
            DocumentError: It cannot be read by this code, or its definition is missing.
        """
        name = names.run_object(run_id)
        stored = await self.store.read(name)
        if stored is None:
            return None
        header, entries = decode_document(stored.data, name)
        dag = await self.get_dag(header.definition)
        run = run_from_document(dag, header, entries, name)
        run.size = len(stored.data)
        return StoredRun(dag, run, stored.generation)

    async def save_run(
        self, header: RunHeader, document: bytes, executions: Iterable[Execution] = (), *, if_generation_match: int
    ) -> int:
        """Commit a run's document on condition of its generation, with new records beside it; return the new one."""
        metadata = {
            "status": header.status.value,
            "dag": header.dag,
            "created_at": header.created_at.isoformat(),
            "updated_at": header.updated_at.isoformat(),
            **({"labels": labels_as_text(header.labels)} if header.labels else {}),
        }
        name = names.run_object(names.RunId(header.run_id))
        return await self.store.write(
            name,
            document,
            if_generation_match=if_generation_match,
            metadata=metadata,
            create=[named(each) for each in executions],
        )

    async def save_values(self, values: Mapping[str, bytes]) -> None:
        """Write values that are too large for a run document, by name. The document that names them comes after."""
        await self.store.create_all([*values.items()])

    async def list_runs(self, labels: Mapping[str, str] | None = None) -> list[RunSummary]:
        """All runs that have these *labels*, the newest first, from one listing: no document is read."""
        wanted = (labels or {}).items()
        runs = []
        for info in await self.store.list(names.RUNS):
            fields = info.metadata
            run_id = info.name.removeprefix(names.RUNS).removesuffix(".json")
            labels_here = labels_in_text(fields.get("labels", ""))
            if wanted <= labels_here.items():
                known = {key: fields.get(key, "") for key in ("dag", "status", "created_at", "updated_at")}
                runs.append(RunSummary(run_id, **known, labels=labels_here))
        return sorted(runs, key=lambda run: run.created_at, reverse=True)

    async def reject(self, token: str, data: bytes, reason: str) -> None:
        """Park a message that nothing can be done with; of a very large one its beginning."""
        body = {"reason": reason, "bytes": len(data), "data": data[:REJECTED_BYTES_MAX]}
        await self.store.create_all([(names.rejected_object(token), _encode(body))])

    async def ping(self) -> None:
        """Ask for what does not exist. Raises: StoreError when the store does not answer."""
        await self.store.read(names.open_object(names.run_id("ping")))

    # -- definitions ---------------------------------------------------------------------------------------------

    def known(self, dag: DAG) -> DAG:
        """Return the DAG of the same definition that is in use already, or *dag*: one for all runs of a definition."""
        return self._dags.get(dag.definition_id, dag)

    async def save_dag(self, dag: DAG) -> None:
        """Store the definition under the hash of its content, once, however many runs of it begin at the same time."""
        if dag.definition_id in self._dags:
            return
        async with self._saving:
            if dag.definition_id not in self._dags:
                await self.store.create_all([(names.definition_object(dag.definition_id), dag.definition)])
                self._dags[dag.definition_id] = dag

    async def get_dag(self, definition_id: str) -> DAG:
        """
        Return the DAG of a stored definition, built once per process.

        Raises:
            DocumentError: It is not in the store, or cannot be built by this version.
        """
        dag = self._dags.get(definition_id)
        if dag is None:
            name = names.definition_object(definition_id)
            stored = await self.store.read(name)
            if stored is None:
                raise DefinitionGoneError(
                    f"{name} does not exist, so the runs of that definition cannot go on; restore it."
                )
            from aiorch.definition.build import DAGBuilder  # noqa: PLC0415  slow to import, and not needed by most processes

            try:
                dag = DAGBuilder(msgspec.json.decode(stored.data, type=dict[str, Any]), source=name).build_stored_dag()
            except (msgspec.DecodeError, DefinitionError) as error:
                raise DocumentError(f"{name} is no definition that this aiorch can build: {error}") from error
            dag = self._dags.setdefault(definition_id, dag)
        return dag

    # -- open markers --------------------------------------------------------------------------------------------

    async def open_run(self, command: StartCommand) -> int | None:
        """Write the marker of a run that is to begin; `None` when there is one already."""
        name = names.open_object(names.RunId(command.run_id))
        try:
            return await self.store.write(name, _encode(command), if_generation_match=0)
        except GenerationConflict:
            return None

    async def get_start_command(self, run_id: names.RunId) -> StartCommand | None:
        """Read a marker's body, `None` when the run is not open."""
        name = names.open_object(run_id)
        stored = await self.store.read(name)
        if stored is None:
            return None
        return decode_start_command(stored.data, name)

    async def touch_open(self, run_id: names.RunId) -> int | None:
        """
        Give the marker a new generation, so that every other process looks at the run again.

        Raises:
            DocumentError: The object is no start command, so it was not written back.
        """
        name = names.open_object(run_id)
        stored = await self.store.read(name)
        if stored is None:
            return None
        with suppress(NewerSchemaError):  # it is only passed on
            decode_start_command(stored.data, name)
        try:
            return await self.store.write(name, stored.data, if_generation_match=stored.generation)
        except GenerationConflict:
            return None  # another process touched or removed it: the replicas look anyway

    async def close_run(self, run_id: names.RunId, generation: int | None = None) -> None:
        """
        Remove the marker of a run that has ended.

        Args:
            run_id: The run.

            generation: Of the marker, where it is known; else it is looked up.
        """
        name = names.open_object(run_id)
        while True:
            if generation is None:
                stored = await self.store.read(name)
                if stored is None:
                    return
                generation = stored.generation
            try:
                await self.store.delete(name, if_generation_match=generation)
            except GenerationConflict:
                generation = None  # touched meanwhile
            else:
                return

    async def list_open(self) -> list[OpenMarker]:
        """All open markers: the one index there is."""
        return [
            OpenMarker(info.name.removeprefix(names.OPEN), info.generation)
            for info in await self.store.list(names.OPEN)
        ]
