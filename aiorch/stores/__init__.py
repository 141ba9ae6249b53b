"""Stores of runs: adapters of `aiorch.ports.Store`, and the URLs that name them."""

import os.path
from importlib import import_module
from typing import TYPE_CHECKING

from aiorch.errors import StoreUrlError

if TYPE_CHECKING:
    from aiorch.ports.store import Store
    from aiorch.stores.gcs import GCSStore as GCSStore
    from aiorch.stores.memory import MemoryStore as MemoryStore
    from aiorch.stores.sqlite import SQLiteStore as SQLiteStore
else:
    _HOMES = {"gcs": ("GCSStore",), "memory": ("MemoryStore",), "sqlite": ("SQLiteStore",)}
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return value


DEFAULT_STORE = "sqlite:///.aiorch/state.db"


def open_store(url: str) -> "Store":
    """
    Return the store that a URL names. The first use opens the store.

    Raises:
        StoreUrlError: No kind of store has such a URL.
    """
    if url == "memory:":
        from aiorch.stores.memory import MemoryStore  # noqa: PLC0415  imported when used

        return MemoryStore()
    if url.startswith("gs://"):
        from aiorch.stores.gcs import open_gcs  # noqa: PLC0415

        return open_gcs(url)
    path = url.removeprefix("sqlite:///")
    if path in (url, "") or os.path.isdir(path):  # noqa: PTH112  Path.is_dir may raise
        from aiorch.stores.url_hints import hint  # noqa: PLC0415

        raise StoreUrlError(url, hint(url))
    from aiorch.stores.sqlite import SQLiteStore  # noqa: PLC0415

    return SQLiteStore(path)
