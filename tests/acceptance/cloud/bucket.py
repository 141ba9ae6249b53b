"""What is in the bucket, read past aiorch: over the plain JSON API."""

import json
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import aiohttp


class Object(NamedTuple):
    generation: str
    metadata: dict[str, str]


class Bucket:
    """Objects under a prefix of a bucket of the emulator at *url*."""

    def __init__(self, url: str, bucket: str, prefix: str) -> None:
        self._objects = f"{url}/storage/v1/b/{bucket}/o"
        self._prefix = f"{prefix}/"
        self._session: aiohttp.ClientSession | None = None
        self.url = f"gs://{bucket}/{prefix}"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def objects(self, prefix: str = "") -> dict[str, Object]:
        """Everything whose name begins so."""
        assert self._session is not None
        params = {"prefix": self._prefix + prefix, "maxResults": "10000"}
        async with self._session.get(self._objects, params=params) as reply:
            listing = await reply.json()
        return {
            item["name"].removeprefix(self._prefix): Object(item["generation"], item.get("metadata") or {})
            for item in listing.get("items", [])
        }

    async def document(self, name: str) -> Any:
        """The JSON of an object, `None` when there is none."""
        assert self._session is not None
        async with self._session.get(f"{self._objects}/{quote(self._prefix + name, safe='')}?alt=media") as reply:
            if reply.status == 404:
                return None
            reply.raise_for_status()
            return json.loads(await reply.read())
