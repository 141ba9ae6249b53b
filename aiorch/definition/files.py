"""Definition files in folders, and files of cases."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from aiorch.errors import DefinitionError

DEFINITION_SUFFIXES = (".json", ".yaml", ".yml")

CASES_SUFFIXES = tuple(f".cases{suffix}" for suffix in DEFINITION_SUFFIXES)
"""Endings of files of cases, which may stand beside their definitions: ``orders.cases.yaml``."""


def definition_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose names are those of definitions."""
    found = (each for each in folder.iterdir() if each.suffix in DEFINITION_SUFFIXES)
    return sorted(each for each in found if not each.name.endswith(CASES_SUFFIXES))


def cases_files(folder: Path) -> list[Path]:
    """Return the files of cases in a folder and in all folders below, except hidden ones."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(path, name) for name in files if name.endswith(CASES_SUFFIXES)]
    return sorted(found)


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
    if b"steps" not in text:  # a large file of data is not decoded
        return False
    try:
        return DAGBuilder(file).build_dag().name == dag
    except DefinitionError:  # not a definition
        return False
