"""The example `orders`, over its own files, as somebody runs it in a clone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.surroundings import clean_environment

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the example and the Makefile, in which aiorch is installed already."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / "examples/orders", tmp_path / "examples/orders")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/.installed").touch()
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return tmp_path


def done(clone: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    env = clean_environment()
    ended = subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended


def orders(clone: Path, *inputs: str) -> dict[str, Any]:
    """Run the example and return the run document."""
    command = [sys.executable, "-m", "aiorch", "run", "examples/orders/orders.yaml", "--json", *inputs]
    return dict(json.loads(done(clone, *command).stdout))


def invoices(clone: Path, day: str) -> dict[str, str]:
    return {file.stem: file.read_text() for file in (clone / ".aiorch/invoices" / day).iterdir()}


def test_make_orders_shows_the_progress_the_result_and_the_way(clone: Path) -> None:
    """The wait and both caught failures are told while the run is under way, then the result, then every step."""
    shown = done(clone, "make", "orders")
    for told in ("Prices Failed (attempt 1, ", "): caught: FileNotFoundError", "Patience waits until ", "Run orders-"):
        assert told in shown.stderr
    result, end = json.JSONDecoder().raw_decode(shown.stdout)
    assert result == {
        "invoices": [f".aiorch/invoices/2026-11-28/{name}.txt" for name in ("ada", "bela")],
        "revenue": 54,
        "left_out": ["examples/orders/data/2026-11-28/004.json"],
    }
    for step in ("Prices    Failed ", "Patience  Completed ", "Again     Failed ", "finally ", "  Report  Completed "):
        assert f"\n{step}" in shown.stdout[end:]


def test_failures_are_caught_and_the_unreadable_order_is_left_out(clone: Path) -> None:
    """The list prices hold where there are no special ones, and nobody gets an invoice for a broken file."""
    document = orders(clone, "patience=0")
    assert {name: entry["error"]["type"] for name, entry in document.items() if entry.get("caught")} == {
        "Prices": "FileNotFoundError",
        "Again": "UnreadableOrderError",
    }
    assert document["Patience"]["status"] == document["$run"]["status"] == "Completed"
    assert invoices(clone, "2026-11-28") == {
        "ada": "28.11.2026 ada: 42.00\n",
        "bela": "28.11.2026 bela: 12.00\n",
    }


def test_steps_for_unreadable_files_are_skipped_on_a_day_without_any(clone: Path) -> None:
    """There is neither a wait nor a second reading, and special prices go before those of the list."""
    document = orders(clone, "day=2026-11-29")
    assert [name for name, entry in document.items() if entry["status"] == "Skipped"] == ["Patience", "Again"]
    assert not any(entry.get("caught") for entry in document.values())
    assert invoices(clone, "2026-11-29") == {
        "ada": "29.11.2026 ada: 15.00\n",
        "cleo": "29.11.2026 cleo: 7.00\n",
    }


def test_an_order_that_is_mended_during_the_wait_is_invoiced(clone: Path) -> None:
    """The files are read again after the wait, which lasts as long as the input says."""
    command = [sys.executable, "-m", "aiorch", "run", "examples/orders/orders.yaml", "patience=5"]
    with subprocess.Popen(command, cwd=clone, env=clean_environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("Patience waits until" in line for line in process.stderr)
        order = json.dumps({"customer": "cleo", "item": "plums", "count": 1})
        (clone / "examples/orders/data/2026-11-28/004.json").write_text(order)
        process.stderr.read()
    assert process.returncode == 0
    assert invoices(clone, "2026-11-28")["cleo"] == "28.11.2026 cleo: 4.00\n"
