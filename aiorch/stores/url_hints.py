"""Hints for a text that names no store: the most similar URL, or the kinds of stores."""

import os.path
import re
from pathlib import Path

_FILE_NAME = "state.db"


def hint(url: str) -> str:
    """Return the hint in words, ``""`` without one."""
    meant = _meant(url)
    if meant is not None:
        return f"did you mean {meant!r}?"
    if url.partition(":")[0].lower() in ("gs", "gcs"):
        return (
            "gs://BUCKET names a bucket, and a bucket has 3 to 222 of a-z 0-9 . _ -, "
            "a prefix A-Z a-z 0-9 . _ - = between its slashes"
        )
    scheme, separator, _ = url.partition(":")
    return f"there is no store of the kind {scheme!r}" if separator else ""


def _meant(url: str) -> str | None:
    scheme, separator, rest = url.partition(":")
    match scheme.lower():
        case "memory" | "":
            return "memory:" if url else None
        case "gs" | "gcs":
            meant = f"gs://{rest.lstrip('/')}"
            return meant if meant != url and re.fullmatch(r"gs://[a-z0-9][\w.\-=/]+", meant, re.ASCII) else None
        case "sqlite" | "sqlite3" | "file":
            # sqlite:///x is the relative path x. With one slash, and in a file URL, the path is absolute.
            is_url = rest.startswith("///") and scheme.lower() != "file"
            path = rest[3:] if is_url else re.sub("^//", "", rest)
        case _ if not separator:
            path = url
        case _:
            return None
    if not path or os.path.isdir(path):  # noqa: PTH112  Path.is_dir may raise
        path = str(Path(path) / _FILE_NAME)
    return f"sqlite:///{path}"
