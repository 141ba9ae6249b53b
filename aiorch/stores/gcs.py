"""
Objects in a bucket of Cloud Storage.

Repeatable requests are sent again, a few times, when their outcome is unknown: reads, listings, deletes, and creations
of objects that may exist already. A conditional write is sent exactly once. Only the caller can tell from the document
whether a write was its own, so an unknown outcome is passed on.

Every write is one multipart POST: emulators check no precondition on other uploads, and resumable ones are slow.

A read is compared with the checksum and the length in its headers. Truncated or replaced content counts as no answer.

Source: Cloud Storage documentation, "Retry strategy", "Data validation and change detection", "HTTP headers for Cloud
Storage" (X-Goog-Hash, X-Goog-Stored-Content-Length, X-Goog-Stored-Content-Encoding), "Transcoding of gzip-compressed
files".
"""

import asyncio
import logging
import re
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from multidict import CIMultiDictProxy

from aiorch.errors import GenerationConflict, StoreError, StoreThrottled, StoreUnavailable, StoreUrlError
from aiorch.google.access_token import AccessToken
from aiorch.google.extras import gcp_imports
from aiorch.model import names
from aiorch.ports.store import ObjectInfo, Pace, StoredObject
from aiorch.ports.world import Entropy
from aiorch.stores.gcs_api import BucketApi, MissingError
from aiorch.stores.heartbeats import Heartbeats
from aiorch.stores.url_hints import hint
from aiorch.system.chance import SystemEntropy

with gcp_imports():
    from gcloud.aio.storage import Storage
    from google_crc32c import value as crc32c

logger = logging.getLogger(__name__)

OBJECT_BYTES_MAX = 5 * 1024 * 1024 - 1
"""Limit of a plain upload. Above it the client library makes several requests (a resumable upload) and repeats them."""

CREATIONS_AT_ONCE = 64
"""Concurrent creations of one call, so that commits do not wait behind ten thousand records: 640/s at 100 ms each."""

TRIES_MAX = 4
RETRY_S = 30.0
"""No further try begins after this."""

BUCKET_PACE = Pace(sweep_interval_s=30.0, relook_s=3600.0, refresh_s=3600.0, running_after_s=5.0, commit_interval_s=1.0)
"""2,880 listings a day ($0.0144) for each process, and 24 reads for each open run."""

_URL = re.compile(r"gs://([a-z0-9][a-z0-9._\-]{1,220}[a-z0-9])((?:/[A-Za-z0-9_\-=][A-Za-z0-9_.\-=]*)*)/?", re.ASCII)
_T = TypeVar("_T")
_Page = tuple[list[ObjectInfo], str]

_Generation = Annotated[int, msgspec.Meta(gt=0)]
"""A generation in an answer: a text of digits, like all 64-bit numbers in JSON of Google's APIs."""


class _Written(msgspec.Struct, gc=False):
    """The answer to a write."""

    generation: _Generation


class _Item(msgspec.Struct, gc=False):
    """An object in the answer to a listing."""

    name: str
    generation: _Generation
    metadata: dict[str, str] = {}


class _Listing(msgspec.Struct, rename="camel", gc=False):
    """The answer to a listing, without ``items`` if there are no objects."""

    items: list[_Item] = []
    next_page_token: str = ""


def open_gcs(url: str, **options: Any) -> "GCSStore":
    """
    Return the store that ``gs://bucket`` or ``gs://bucket/prefix`` names.

    Args:
        url: The URL of the store.

        options: See `GCSStore`.

    Raises:
        StoreUrlError: The URL has a different form.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise StoreUrlError(url, hint(url))
    return GCSStore(match[1], match[2], **options)


class GCSStore:
    """
    `ObjectStore` and `Liveness` in a bucket, for any number of processes on any number of machines.

    The first call opens the connections. With ``STORAGE_EMULATOR_HOST`` (``host:port`` or a URL) the store uses an
    emulator, without credentials. To be used from one event loop, and to be closed.

    Args:
        bucket: Name of the bucket.

        prefix: Beginning of all object names, without slashes around it.

        api_url: Endpoint of the JSON API, if not the public one.

        token: Access token shared with other adapters, which its creator closes; `None`: a new one.

        request_s: Deadline of one request in seconds. The wait for a free place does not count.

        retry_base_s: The pause before the second try is a random part of this, and doubles with each further try.

        heartbeat_s, dead_after_s: See `aiorch.stores.heartbeats.Heartbeats`.

        entropy: Source of randomness for the pauses.

    Attributes:
        operations: Requests sent so far by class: ``A`` (writes and listings), ``B`` (reads), ``free`` (deletes).

        heartbeats: The heartbeats of processes that joined here, and the observations of other processes.
    """

    pace: Pace = BUCKET_PACE

    def __init__(  # noqa: PLR0913  all optional but the bucket
        self,
        bucket: str,
        prefix: str = "",
        *,
        api_url: str | None = None,
        token: AccessToken | None = None,
        request_s: float = 10.0,
        retry_base_s: float = 0.5,
        heartbeat_s: float = 20.0,
        dead_after_s: float = 60.0,
        entropy: Entropy | None = None,
    ) -> None:
        prefix = prefix.strip("/")
        self._api = BucketApi(bucket, api_url=api_url, token=token, request_s=request_s)
        self._prefix = f"{prefix}/" if prefix else ""
        self._retry_base_s = retry_base_s
        self._jitter = (entropy or SystemEntropy()).jitter
        self.operations: Counter[str] = self._api.operations
        self.heartbeats: Heartbeats = Heartbeats(self, interval_s=heartbeat_s, dead_after_s=dead_after_s)

    def __str__(self) -> str:
        return f"gs://{self._api.bucket}/{self._prefix}".rstrip("/")

    async def read(self, name: str) -> StoredObject | None:
        """See `ObjectStore.read`. One request."""

        async def get(storage: Storage) -> StoredObject:
            stream = await storage.download_stream(self._api.bucket, self._prefix + name)
            async with stream as response:
                data = await response.read()
                _verify(data, response.headers)
                generation = response.headers["X-Goog-Generation"]
                return StoredObject(data, msgspec.convert(generation, _Generation, strict=False))

        try:
            return await self._repeated(partial(self._ask, "B", "read", name, get))
        except MissingError:
            return None

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
        See `ObjectStore.write`. The document is one request, sent once, and each object to create is one more.

        The requests are independent. If the document was refused, the objects to create may still have been created. If
        only a creation failed, the call raises `StoreUnavailable`, because the document was written.
        """
        self._check_sizes([(name, data), *create])
        document = self._insert(name, data, if_generation_match, metadata)
        if not create:
            return await document
        written, created = await asyncio.gather(document, self._create_all(create), return_exceptions=True)
        if isinstance(written, BaseException):
            raise written
        if isinstance(created, BaseException):
            raise StoreUnavailable(
                f"{self}/{name} was written, but one or more of the {len(create)} objects to create with it were not "
                f"({created}). Read the document again and create them."
            ) from created
        return written

    async def create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `ObjectStore.create_all`. One request for each object."""
        self._check_sizes(objects)
        await self._create_all(objects)

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """See `ObjectStore.list`. One request for every 1,000 objects."""
        found: list[ObjectInfo] = []
        page_token = ""
        while True:
            page = partial(self._list_page, self._prefix + prefix, page_token)
            infos, page_token = await self._repeated(partial(self._ask, "A", "listed", prefix, page))
            found += infos
            if not page_token:
                return found

    async def version(self) -> Hashable | None:
        """See `ObjectStore.version`. A bucket cannot tell."""
        return None

    async def delete(self, name: str, *, if_generation_match: int) -> None:
        """See `ObjectStore.delete`. The HTTP client may repeat the request: a 404 then means that a try succeeded."""

        async def delete(storage: Storage) -> None:
            condition = {"ifGenerationMatch": str(if_generation_match)}
            await storage.delete(self._api.bucket, self._prefix + name, params=condition)

        try:
            await self._repeated(partial(self._ask, "free", "deleted", name, delete))
        except MissingError:
            return

    async def aclose(self) -> None:
        """Leave on behalf of every process that joined here, finish what was accepted, and close the connections."""
        try:
            await self.heartbeats.aclose()
        except StoreError as error:
            logger.warning("heartbeat not withdrawn; other replicas will time it out", extra={"error": str(error)})
        await self._api.aclose()

    async def join(self, process: str, is_working: Callable[[], bool] | None = None) -> None:
        """See `Liveness.join`."""
        await self.heartbeats.join(process, is_working)

    async def leave(self, process: str) -> None:
        """See `Liveness.leave`."""
        await self.heartbeats.leave(process)

    async def dead_among(self, processes: frozenset[str]) -> frozenset[str]:
        """See `Liveness.dead_among`."""
        return await self.heartbeats.dead_among(processes)

    def is_silent(self, process: str) -> bool:
        """See `Liveness.is_silent`."""
        return self.heartbeats.is_silent(process)

    def heard_since(self, process: str) -> float:
        """See `Liveness.heard_since`."""
        return self.heartbeats.heard_since(process)

    async def announce(self, process: str) -> None:
        """See `Liveness.announce`."""
        await self.heartbeats.announce(process)

    async def _create_all(self, objects: Sequence[tuple[str, bytes]]) -> None:
        waiting = deque(objects)

        async def work() -> None:
            while waiting:
                name, data = waiting.popleft()
                try:
                    await self._repeated(partial(self._insert, name, data, 0))
                except GenerationConflict:
                    continue  # it exists already, which counts as success
                except BaseException:
                    waiting.clear()
                    raise

        workers = (work() for _ in range(min(len(objects), CREATIONS_AT_ONCE)))
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _insert(
        self, name: str, data: bytes, if_generation_match: int, metadata: Mapping[str, str] | None = None
    ) -> int:
        async def post(storage: Storage) -> int:
            # The library sends this as `cacheControl`. Caches would serve old generations.
            resource: dict[str, Any] = {"cache-control": "no-store"}
            if metadata:
                resource["metadata"] = dict(metadata)
            reply = await storage.upload(
                self._api.bucket,
                self._prefix + name,
                data,
                content_type="application/json",
                parameters={"ifGenerationMatch": str(if_generation_match), "fields": "generation"},
                metadata=resource,
            )
            return msgspec.convert(reply, _Written, strict=False).generation

        return await self._ask("A", "written", name, post)

    async def _ask(self, kind: str, done: str, name: str, request: Callable[[Storage], Awaitable[_T]]) -> _T:
        """Send a request. Heartbeats are urgent: behind thousands of requests, a heartbeat would come too late."""
        is_urgent = name.startswith(names.ALIVE)
        return await self._api.ask(kind, done, self._prefix + name, request, is_urgent=is_urgent)

    async def _list_page(self, prefix: str, page_token: str, storage: Storage) -> _Page:
        params = {"prefix": prefix, "fields": "nextPageToken,items(name,generation,metadata)"}
        if page_token:
            params["pageToken"] = page_token
        reply = await storage.list_objects(self._api.bucket, params=params)
        page = msgspec.convert(reply, _Listing, strict=False)
        infos = [
            ObjectInfo(each.name.removeprefix(self._prefix), each.generation, each.metadata) for each in page.items
        ]
        return infos, page.next_page_token

    async def _repeated(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Send a repeatable request, with pauses with full jitter between tries."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + RETRY_S
        for tries in range(1, TRIES_MAX):
            try:
                return await operation()
            except (StoreThrottled, StoreUnavailable):
                pause_s = self._retry_base_s * 2 ** (tries - 1) * self._jitter()
                if loop.time() + pause_s > give_up_at:
                    raise
            await asyncio.sleep(pause_s)
        return await operation()

    def _check_sizes(self, objects: Sequence[tuple[str, bytes]]) -> None:
        for name, data in objects:
            if not data:
                raise StoreError(
                    f"{self}/{name} would be empty, so it was not written: empty answers to reads count as damaged. "
                    f"Write at least one byte."
                )
            if len(data) > OBJECT_BYTES_MAX:
                raise StoreError(
                    f"{self}/{name} would have {len(data)} bytes, more than the limit of {OBJECT_BYTES_MAX}, so it was "
                    f"not written. Split the data, or keep large data in your own objects and pass their names."
                )


def _verify(data: bytes, headers: "CIMultiDictProxy[str]") -> None:
    """
    Compare content with the headers of its answer.

    An endpoint may leave headers out, as emulators do. If a different program stored an object compressed, the content
    is decompressed on the way, and the headers describe the compressed bytes.

    Raises:
        ValueError: The content differs from the stored object.
    """
    if not data:
        raise ValueError("the content is empty, but no stored object is empty")
    if headers.get("X-Goog-Stored-Content-Encoding", "identity") != "identity":
        return
    lengths = headers.getall("X-Goog-Stored-Content-Length", [])
    if "Content-Encoding" not in headers:
        lengths += headers.getall("Content-Length", [])
    for length in lengths:
        if int(length) != len(data):
            raise ValueError(f"the content has {len(data)} bytes, but {length} were announced")
    hashes = dict(each.strip().split("=", 1) for line in headers.getall("X-Goog-Hash", []) for each in line.split(","))
    announced = hashes.get("crc32c")
    actual = b64encode(crc32c(data).to_bytes(4, "big")).decode()
    if announced is not None and announced != actual:
        raise ValueError(f"the content has the checksum {actual}, but {announced} was announced")
