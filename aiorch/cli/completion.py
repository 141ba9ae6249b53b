"""Completion of words by a shell: names of definition files, and ids of runs."""

# ruff: noqa: PLC0415  `aiorch --help` needs no store

import logging
import os
from pathlib import Path
from threading import Thread

import click

from aiorch.stores import DEFAULT_STORE

PATIENCE_S = 2.0
"""Longest wait for the list of runs. After that a shell gets no proposals: a person waits for the prompt."""


def definition_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the definition files and folders that begin with *incomplete*; a single folder is opened."""
    from aiorch.definition.files import DEFINITION_SUFFIXES

    folder, begun = os.path.split(incomplete)
    found = []
    try:
        for entry in sorted(Path(folder or ".").iterdir()):
            is_folder = entry.is_dir()
            is_shown = entry.name.startswith(begun) and (begun or not entry.name.startswith((".", "__")))
            if is_shown and (is_folder or entry.suffix in DEFINITION_SUFFIXES):
                found.append(os.path.join(folder, entry.name) + "/" * is_folder)  # noqa: PTH118  "./" stays
    except OSError:  # the folder does not exist, or this user may not read it
        return []
    return definition_files(ctx, param, found[0]) if len(found) == 1 and found[0].endswith("/") else found


def input_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return ``name=`` for each input of the definition file before the word that was not given yet."""
    from aiorch.definition.source import load_definition
    from aiorch.errors import DefinitionError

    given = {word.partition("=")[0] for word in ctx.params.get(str(param.name)) or ()}
    try:
        data = load_definition(ctx.params.get("dag") or "").data
    except DefinitionError:  # the command itself will tell
        return []
    declared = data.get("inputs") if isinstance(data, dict) else None
    names = declared if isinstance(declared, dict) else {}
    return [f"{name}=" for name in names if name.startswith(incomplete) and name not in given]


def run_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return the ids of the runs of the store that begin with *incomplete*, the newest first."""
    logging.disable()  # the line that a person is typing would be torn apart
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(_ids(ctx.params.get("store") or os.environ.get("AIORCH_STORE") or DEFAULT_STORE))
        except Exception:  # noqa: BLE001  a shell shows no reason; the command itself will
            found.clear()

    # In a daemon thread, which cannot delay the end of the process: a request to a silent store cannot be stopped.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return [run_id for run_id in found if run_id.startswith(incomplete)]


def _ids(store: str) -> list[str]:
    import asyncio

    from aiorch.cli.client import open_client

    async def listed() -> list[str]:
        async with open_client(store) as client:
            return [run.run_id for run in await client.runs()]

    return asyncio.run(listed())


def definitions_or_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the definition files and the run ids that begin with *incomplete*."""
    return [*definition_files(ctx, param, incomplete), *run_ids(ctx, param, incomplete)]
