"""Definition files in folders."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from aiorch.errors import DefinitionError

DEFINITION_SUFFIXES = (".json", ".yaml", ".yml")


def definition_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose names are those of definitions."""
    return sorted(each for each in folder.iterdir() if each.suffix in DEFINITION_SUFFIXES)


def folder_of(dag: str, folders: Iterable[Path]) -> Path | None:
    """Return the first of *folders* that holds a definition of the DAG with this name, `None` if there is none."""
    for folder in folders:
        with suppress(OSError):  # a folder that cannot be listed
            if any(_defines(dag, file) for file in definition_files(folder)):
                return folder
    return None


def _defines(dag: str, file: Path) -> bool:
    from aiorch.definition.build import DAGBuilder  # noqa: PLC0415  slow to import

    text = file.read_bytes() if file.is_file() and os.access(file, os.R_OK) else b""
    if b"start" not in text or b"steps" not in text:  # a large file of data is not decoded
        return False
    try:
        return DAGBuilder(file).build_dag().name == dag
    except DefinitionError:  # not a definition
        return False
