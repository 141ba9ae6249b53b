"""The stores that every contract runs against. A new adapter is one more branch here."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from aiorch.ports.store import Store
from aiorch.stores.gcs import GCSStore
from aiorch.stores.memory import MemoryStore
from aiorch.stores.sqlite import SQLiteStore
from aiorch.testing.gcs_server import gcs_server
from aiorch.testing.modelled_bucket import ModelledBucket
from tests.fakes.gcs import BUCKET, fake_gcs
from tests.simulation.standalone import standalone_store

NEEDS_CONDITIONAL_DELETE = {
    "test_a_delete_needs_the_present_generation",
    "test_a_conflict_does_not_disturb_operations_beside_it",
    "test_of_a_concurrent_write_and_delete_one_wins",
}


@pytest.fixture(scope="session")
def gcs_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gcs_server(tmp_path_factory.mktemp("gcs")) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "gcs in process", "modelled bucket", "fake-gcs-server", "simulated"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        store: Store
        match request.param:
            case "memory":
                store = MemoryStore()
            case "simulated":
                store = standalone_store()
            case "sqlite":
                store = SQLiteStore(tmp_path / "state.db")
            case "gcs in process":
                fake = await stack.enter_async_context(fake_gcs())
                monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
                store = GCSStore(BUCKET)
            case "modelled bucket":
                store = ModelledBucket(write_s=0, read_s=0, write_interval_s=0).store()
            case _:
                if request.function.__name__ in NEEDS_CONDITIONAL_DELETE:
                    pytest.skip("fake-gcs-server deletes whatever the condition says")
                monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs_server_url"))
                store = GCSStore(BUCKET, secrets.token_hex(8))
        stack.push_async_callback(store.aclose)
        yield store
