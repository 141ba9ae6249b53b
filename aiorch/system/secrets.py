"""
Secrets of this process: from environment variables, from files, and from Secret Manager.

The operator of a process says where each secret comes from; a definition names the secret alone, so that no definition
can read the variables or files of a server.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aiorch.errors import SecretError
from aiorch.model.findings import Hints
from aiorch.ports.secrets import no_secret

if TYPE_CHECKING:
    from aiorch.google.secret_manager import SecretManager


class SecretSources:
    """
    Reads secrets where the operator says.

    Args:
        sources: The source of each secret by its name: ``env:VARIABLE``, ``file:PATH`` (the content without the line
            break at its end) or ``sm:projects/PROJECT/secrets/SECRET``, with ``/versions/VERSION`` or the latest one.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = dict(sources)
        self._manager: SecretManager | None = None

    def why_not(self, name: str) -> str | None:
        """See `aiorch.ports.secrets.Secrets.why_not`."""
        source = self._sources.get(name)
        if source is None:
            meant = Hints().closest(name, self._sources)
            hint = f", which name {meant!r} instead: did you mean {name!r} there?" if meant else ""
            return f"{no_secret(name)}{hint}"
        kind, _, place = source.partition(":")
        if kind == "env" and not os.environ.get(place):
            return f"the variable {place} of the secret {name!r} is {'empty' if place in os.environ else 'not set'}"
        if kind == "file" and not os.access(place, os.R_OK):
            return f"the file {place!r} of the secret {name!r} cannot be read"
        return None

    async def values(self, names: Iterable[str]) -> Mapping[str, str]:
        """See `aiorch.ports.secrets.Secrets.values`."""
        return {name: await self._value(name) for name in names}

    async def _value(self, name: str) -> str:
        kind, _, place = self._sources[name].partition(":")
        try:
            if kind == "env":
                return os.environ[place]
            if kind == "file":
                return (await asyncio.to_thread(Path(place).read_text, encoding="utf-8")).rstrip("\r\n")
            if self._manager is None:
                from aiorch.google.secret_manager import SecretManager  # noqa: PLC0415  imported when used

                self._manager = SecretManager()
            return await self._manager.access(place)
        except (KeyError, OSError, ValueError) as error:
            raise SecretError(f"secret {name!r} cannot be read from {kind}:{place}: {error}") from error

    async def aclose(self) -> None:
        """Release the connections."""
        if self._manager is not None:
            await self._manager.aclose()
