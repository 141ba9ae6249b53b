"""
A bucket of Cloud Storage in virtual time: latencies, the limit of writes of one object, strict generations.

The real `GCSStore` runs on top of the model, which replaces only the network. So the store sends, repeats and counts
the same requests as with a real bucket. Properties of the model:

- A write or delete takes 100 ms, a read or one page of a listing 30 ms, each up to a fifth more or less.
- One object is changed at most once a second. An earlier change is answered with 429 and not applied, also if the
  precondition holds.
- A failed precondition is answered with 412, a missing object with 404.

Not in the model: limits of the bucket as a whole (about 1,000 writes and 5,000 reads a second at first), bursts that a
real bucket may allow, slow answers, outages.

Source: Cloud Storage documentation, "Quotas and limits" (one write per second to the same object name), "HTTP status
and error codes for JSON". Measured on real buckets in January 2026: 0.8 to 1.4 conditional writes a second on one
object (cdouglas.github.io/posts/2026/01/conditional).
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, NoReturn, cast

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from aiorch.google.extras import gcp_imports
from aiorch.stores.gcs import GCSStore
from aiorch.stores.gcs_api import BucketApi
from aiorch.testing.chance import SeededEntropy

with gcp_imports():
    from gcloud.aio.storage import Storage

WRITE_S = 0.1
READ_S = 0.03
SPREAD = 0.2
"""Largest deviation of the duration of a request, as a fraction of the mean."""

WRITE_INTERVAL_S = 1.0
"""Shortest time between two changes of one object."""

PAGE_OBJECTS = 1000

_NAME = "modelled"
_REASONS = {404: "Not Found", 412: "Precondition Failed", 429: "Too Many Requests"}


class Request(NamedTuple):
    """The counted properties of a request."""

    kind: str
    """``write``, ``list``, ``read`` or ``delete``."""

    prefix: str
    """Beginning of the name of its object, including the first slash."""

    status: int
    """HTTP status of the answer."""


class _Object(NamedTuple):
    data: bytes
    generation: int
    metadata: Mapping[str, str]


class ModelledBucket:
    """
    One bucket, for any number of stores in one `VirtualTimeLoop`.

    Args:
        seed: Seed of the latencies, and of the pauses of the stores.

        write_s, read_s: Mean seconds of a write or delete, and of a read or listing.

        write_interval_s: Shortest time between two changes of one object.

    Attributes:
        objects: The stored objects by name: content, generation, metadata.

        requests: All answered requests, including refused ones.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        write_s: float = WRITE_S,
        read_s: float = READ_S,
        write_interval_s: float = WRITE_INTERVAL_S,
    ) -> None:
        self.objects: dict[str, _Object] = {}
        self.requests: Counter[Request] = Counter()
        self._write_s = write_s
        self._read_s = read_s
        self._write_interval_s = write_interval_s
        self._changed_at: dict[str, float] = {}
        self._generation = 0
        self._seed = seed
        self._stores = 0
        self._random = random.Random(seed)  # noqa: S311  reproducible numbers are the purpose

    def store(self, **options: Any) -> GCSStore:
        """Return a new store for one more process. Options are those of `GCSStore`."""
        self._stores += 1
        return _ModelledStore(self, entropy=SeededEntropy(self._seed * 1000 + self._stores), **options)

    def count(self, *kinds: str, prefix: str = "", status: int | None = None) -> int:
        """Return the number of requests of these kinds, by prefix of the name and by answer."""
        return sum(
            count
            for request, count in self.requests.items()
            if request.kind in kinds and request.prefix.startswith(prefix) and status in (None, request.status)
        )

    async def write(self, name: str, data: bytes, if_generation_match: int, metadata: Mapping[str, str]) -> int:
        """Write an object, or raise the error that the API would have answered."""
        latency_s = self._latency(self._write_s)
        await asyncio.sleep(latency_s / 2)
        status = self._change(name, if_generation_match)
        if status == 200:
            self._generation += 1
            self.objects[name] = _Object(data, self._generation, metadata)
        generation = self._generation
        await self._answer(latency_s / 2, "write", name, status)
        return generation

    async def delete(self, name: str, if_generation_match: int) -> None:
        """Delete an object, or raise the error that the API would have answered."""
        latency_s = self._latency(self._write_s)
        await asyncio.sleep(latency_s / 2)
        status = self._change(name, if_generation_match) if name in self.objects else 404
        if status == 200:
            del self.objects[name]
        await self._answer(latency_s / 2, "delete", name, status)

    async def read(self, name: str) -> _Object:
        """Read an object, or raise the error that the API would have answered."""
        latency_s = self._latency(self._read_s)
        await asyncio.sleep(latency_s / 2)
        found = self.objects.get(name)
        await self._answer(latency_s / 2, "read", name, 200 if found else 404)
        assert found is not None
        return found

    async def list_page(self, prefix: str, after: str) -> tuple[list[str], bool]:
        """Return up to 1,000 names after *after*, and whether there are more."""
        await asyncio.sleep(self._latency(self._read_s))
        self.requests[Request("list", prefix, 200)] += 1
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)
        return names[:PAGE_OBJECTS], len(names) > PAGE_OBJECTS

    def _latency(self, mean_s: float) -> float:
        return mean_s * self._random.uniform(1 - SPREAD, 1 + SPREAD)

    def _change(self, name: str, if_generation_match: int) -> int:
        """Return the status that answers a change, and record the change if it is allowed."""
        now = asyncio.get_running_loop().time()
        changed_at = self._changed_at.get(name)
        if changed_at is not None and now - changed_at < self._write_interval_s:
            return 429
        found = self.objects.get(name)
        if if_generation_match != (found.generation if found else 0):
            return 412
        self._changed_at[name] = now
        return 200

    async def _answer(self, latency_s: float, kind: str, name: str, status: int) -> None:
        self.requests[Request(kind, name[: name.find("/") + 1], status)] += 1
        await asyncio.sleep(latency_s)
        if status != 200:
            _refuse(kind, name, status)


def _refuse(kind: str, name: str, status: int) -> NoReturn:
    url = URL.build(scheme="https", host="storage.invalid", path=f"/{name}")
    about = aiohttp.RequestInfo(url, kind, CIMultiDictProxy(CIMultiDict()), url)
    body = json.dumps({"error": {"code": status, "message": f"the {kind} of {name} was refused"}})
    raise aiohttp.ClientResponseError(about, (), status=status, message=f"{_REASONS[status]}: {body}")


class _Client:
    """The part of the client library that `GCSStore` uses, for a `ModelledBucket`."""

    def __init__(self, bucket: ModelledBucket) -> None:
        self._bucket = bucket

    async def upload(
        self,
        _: str,
        name: str,
        data: bytes,
        *,
        content_type: str,
        parameters: Mapping[str, str],
        metadata: Mapping[str, Any],
    ) -> dict[str, str]:
        assert content_type == "application/json"
        expected = int(parameters["ifGenerationMatch"])
        return {"generation": str(await self._bucket.write(name, data, expected, metadata.get("metadata", {})))}

    async def download_stream(self, _: str, name: str) -> Any:
        return _streamed(await self._bucket.read(name))

    async def delete(self, _: str, name: str, *, params: Mapping[str, str]) -> None:
        await self._bucket.delete(name, int(params["ifGenerationMatch"]))

    async def list_objects(self, _: str, *, params: Mapping[str, str]) -> dict[str, Any]:
        names, has_more = await self._bucket.list_page(params["prefix"], params.get("pageToken", ""))
        found = ((name, self._bucket.objects[name]) for name in names)
        items = [
            {"name": name, "generation": str(each.generation), "metadata": dict(each.metadata)} for name, each in found
        ]
        return {"items": items, **({"nextPageToken": names[-1]} if has_more else {})}


class _Response:
    def __init__(self, found: _Object) -> None:
        self._data = found.data
        self.headers = CIMultiDict({"X-Goog-Generation": str(found.generation)})

    async def read(self) -> bytes:
        return self._data


@asynccontextmanager
async def _streamed(found: _Object) -> AsyncIterator[_Response]:
    yield _Response(found)


class _ModelledApi(BucketApi):
    """Requests to a `ModelledBucket`, with the deadlines, the limit and the meaning of answers of real requests."""

    def __init__(self, bucket: ModelledBucket, *, request_s: float) -> None:
        super().__init__(_NAME, api_url=None, token=None, request_s=request_s)
        self._client = cast("Storage", _Client(bucket))

    def _open(self, about: str) -> Storage:  # noqa: ARG002
        return self._client


class _ModelledStore(GCSStore):
    def __init__(self, bucket: ModelledBucket, *, request_s: float = 10.0, **options: Any) -> None:
        super().__init__(_NAME, **options)
        self._api = _ModelledApi(bucket, request_s=request_s)
        self.operations = self._api.operations
