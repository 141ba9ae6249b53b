"""Libraries that only an extra of this package installs, and the error for a missing library."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

from aiorch.errors import MissingExtraError


@contextmanager
def gcp_imports() -> Iterator[None]:
    """
    Import libraries of the extra ``gcp`` in this context.

    Raises:
        MissingExtraError: One of the libraries is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError("gcp", str(error.name)) from error


@cache
def why_no_tokens() -> str | None:
    """Return the error for a missing library for tokens of Google, `None` if all are installed. Imports no library."""
    for library in ("gcloud.aio.auth", "jwt"):
        try:
            found = find_spec(library)
        except ModuleNotFoundError:  # the parent package of the library is missing
            found = None
        if found is None:
            return str(MissingExtraError("gcp", library))
    return None
