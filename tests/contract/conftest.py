"""The stores that every contract runs against. A new adapter is one more branch here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiorch.stores.memory import MemoryStore
from aiorch.stores.sqlite import SQLiteStore


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryStore | SQLiteStore]:
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "state.db")
    yield store
    await store.aclose()
