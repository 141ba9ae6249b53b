"""Where runs are kept: adapters of `aiorch.ports.Store`, and the URLs that name them."""

import os.path
from typing import TYPE_CHECKING

from aiorch.errors import StoreUrlError

if TYPE_CHECKING:
    from aiorch.ports.store import Store

DEFAULT_STORE = "sqlite:///.aiorch/state.db"


def open_store(url: str) -> "Store":
    """
    Return the store that a URL names. It is opened when it is first used.

    Raises:
        StoreUrlError: No store has such a URL.
    """
    if url == "memory:":
        from aiorch.stores.memory import MemoryStore  # noqa: PLC0415  only what is used is imported

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
