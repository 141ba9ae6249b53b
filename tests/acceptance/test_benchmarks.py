"""The benchmarks, at tiny sizes: what they print is read by machines, so its shape is tested; its numbers are not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aiorch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STORES = ("sqlite", "memory")
DEMANDED = {
    "tasks",
    "wall_s",
    "tasks_per_s",
    "cpu_s_per_1k_tasks",
    "store_writes_per_task",
    "step_latency_ms_p50",
    "step_latency_ms_p99",
}
VERSIONS = {"python", "aiorch", "sqlite", "msgspec"}
MACHINE = {"machine", "cores", "reference_loop_ms", "load_before", "load_after"}


def start(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a benchmark to its end."""
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(aiorch.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(script: str, *arguments: str) -> str:
    """Run a benchmark and return its output. It must succeed, and have nothing to complain about."""
    done = start(script, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def result_of(script: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark and return the one JSON object that it prints, and nothing besides."""
    output = run(script, *arguments, "--json")
    assert output.endswith("}\n")
    result = json.loads(output)
    assert isinstance(result, dict)
    assert result.keys() >= VERSIONS | MACHINE
    assert result["aiorch"] == aiorch.__version__
    return result


def figures_of(script: str, *size: str, tasks: int, store: str, folder: Path) -> dict[str, Any]:
    """Run a benchmark of a store twice, and return its result, in which is what they all tell."""
    result = result_of(script, *size, "--store", store, "--repeat", "2", "--directory", str(folder))
    assert result.keys() >= DEMANDED | {"store", "repeat", "build_s", "commits", "min"}
    assert (result["tasks"], result["store"], result["repeat"]) == (tasks, store, 2)
    assert result["tasks_per_s"] > 0
    assert 0 < result["min"]["wall_s"] <= result["wall_s"]
    assert 0 < result["min"]["cpu_s_per_1k_tasks"] <= result["cpu_s_per_1k_tasks"]
    assert 0 < result["step_latency_ms_p50"] <= result["step_latency_ms_p99"] <= result["wall_s"] * 1000
    assert ("disk_sync_ms_p50" in result) == (store == "sqlite")
    return result


@pytest.mark.parametrize("store", STORES)
def test_fanout(store: str, tmp_path: Path) -> None:
    """A fan-out tells the demanded figures; there is one record a task, and few documents for all of them."""
    result = figures_of("fanout.py", "--width", "20", tasks=22, store=store, folder=tmp_path)
    assert result["width"] == 20
    # 22 records, the marker, the definition, and the document as often as it was committed.
    assert result["store_writes_per_task"] == pytest.approx((22 + 2 + result["commits"]) / 22, rel=1e-3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", STORES)
def test_throughput(store: str, tmp_path: Path) -> None:
    """Many runs of the sample tell the demanded figures, over all runs."""
    result = figures_of("throughput.py", "--runs", "10", tasks=50, store=store, folder=tmp_path)
    assert result["runs"] == 10
    assert result["runs_per_s"] == pytest.approx(result["tasks_per_s"] / 5, rel=1e-3)


@pytest.mark.parametrize("store", STORES)
def test_chain(store: str, tmp_path: Path) -> None:
    """A chain tells its step gap; beside that of a disk, what is left of it without the disk."""
    result = figures_of("chain.py", "--length", "8", tasks=8, store=store, folder=tmp_path)
    assert result["commits"] == 9
    if store == "sqlite":
        above = result["step_latency_ms_p50"] - result["disk_sync_ms_p50"]
        assert result["step_latency_above_sync_ms_p50"] == pytest.approx(above, abs=1e-3)


@pytest.mark.parametrize(("script", "size", "tasks"), [("fanout.py", "--width", 22), ("throughput.py", "--runs", 100)])
def test_operations_of_a_bucket(script: str, size: str, tasks: int, tmp_path: Path) -> None:
    """On a bucket, of a server that is started for it, operations per task are told by class, and what they cost."""
    result = figures_of(script, size, "20", tasks=tasks, store="gcs", folder=tmp_path)
    assert result["class_a_per_task"] == pytest.approx(result["store_writes_per_task"])  # no listing was due meanwhile
    assert result["free_per_task"] > 0
    price = 5 * result["class_a_per_task"] + 0.4 * result["class_b_per_task"]
    assert result["usd_per_million_tasks"] == pytest.approx(price, rel=1e-3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", STORES)
def test_limits(store: str, tmp_path: Path) -> None:
    """Tasks that wait for a slot tell what each costs at every number of tasks, and the last beside the first."""
    sizes = "--tasks", "10", "30", "--limit", "2", "--run-tasks", "10"
    result = result_of("limits.py", *sizes, "--repeat", "1", "--store", store, "--directory", str(tmp_path))
    first, last = result["cpu_s_per_1k_of_10"], result["cpu_s_per_1k_of_30"]
    assert min(first, last) > 0
    assert result["ratio"] == pytest.approx(last / first, rel=1e-2)
    assert list(tmp_path.iterdir()) == []


def test_gcs_model() -> None:
    """Over the modelled bucket each shape tells, on so many replicas, its latency, its operations and its budgets."""
    options = "--width", "10", "--length", "3", "--replicas", "1", "2", "--repeat", "1"
    rows = result_of("gcs_model.py", *options)["rows"]
    assert [(row["shape"], row["tasks"], row["replicas"]) for row in rows] == [
        ("chain of 3", 3, 1),
        ("chain of 3", 3, 2),
        ("fan-out of 10", 12, 1),
        ("fan-out of 10", 12, 2),
    ]
    for row in rows:
        assert 0 < row["latency_s_p50"] <= row["latency_s_p99"] < row["run_s"]
        assert 2 <= row["class_a_of_run_per_task"] <= row["class_a_per_task"]
        assert row["usd_per_million_tasks"] == pytest.approx(
            5 * row["class_a_per_task"] + 0.4 * row["class_b_per_task"], rel=1e-3
        )
        assert ("budget" in row) == (row["replicas"] == 1)
    again = result_of("gcs_model.py", *options)["rows"]
    assert [{**row, "cpu_s": 0} for row in again] == [{**row, "cpu_s": 0} for row in rows], (
        "chance is that of the seeds"
    )


def test_idle() -> None:
    """Without runs, and with runs that wait for each kind of thing, requests a day and their price are told."""
    rows = result_of("idle.py", "--runs", "2", "--replicas", "1", "2", "--hours", "2")["rows"]
    kinds = ("no runs", "call", "job", "retry", "nobody")
    assert [(row["waits_for"], row["replicas"]) for row in rows] == [(kind, n) for kind in kinds for n in (1, 2)]
    for row in rows:
        assert row["lists"] == pytest.approx(2880, rel=0.1)
        assert (row["heartbeats"] > 0) == (row["waits_for"] in ("call", "job", "retry"))
        assert (row["reads_per_run"] > 0) == (row["waits_for"] != "no runs")
        price = (row["class_a_per_hour"] * 0.005 + row["class_b_per_hour"] * 0.0004) * 24 / 1000
        assert row["usd_per_day"] == pytest.approx(price, rel=1e-3)


def test_table_of_rows() -> None:
    """Without --json each row has its figures, with the budget beside those that have one."""
    lines = run("gcs_model.py", "--width", "10", "--length", "3", "--replicas", "1", "--repeat", "1").splitlines()
    assert "latency p50, s" in lines[1]
    assert lines[2].strip().startswith("chain of 3")
    assert "(<= 1.5)" in lines[3]
    assert "aiorch" in lines[-1]


def test_fold() -> None:
    """The core's benchmark tells what an event costs in runs of three sizes, for both shapes."""
    result = result_of("fold.py", "--folds", "10", "--repeat", "2")
    for shape in ("fan_out", "chain"):
        for nodes in (10, 1_000, 10_000):
            assert result[f"{shape}_{nodes}_fold_us"] > 0
            assert result[f"{shape}_{nodes}_encode_us"] > 0
        assert result[f"{shape}_fold_ratio"] > 0


def test_expressions() -> None:
    """The benchmark of expressions tells the time of a condition, and of an item in lists of two lengths."""
    result = result_of("expressions.py", "--calls", "100", "--repeat", "2")
    assert min(result["condition_us"], result["template_us"], result["parse_us"]) > 0
    assert min(result["filter_1000_item_us"], result["filter_100000_item_us"], result["filter_ratio"]) > 0


@pytest.mark.parametrize(("store", "wait_for"), [("sqlite", "call"), ("memory", "retry"), ("sqlite", "nobody")])
def test_open_runs(store: str, wait_for: str, tmp_path: Path) -> None:
    """Open runs tell what memory and CPU time they take, and those that can end do so when that is known."""
    size = "--runs", "10", "--rest", "1", "--wait-for", wait_for
    result = result_of("open_runs.py", *size, "--store", store, "--directory", str(tmp_path))
    assert 0 < result["cpu_percent_at_rest"] < 100
    assert min(result["rss_before_mb"], result["rss_mb"], result["peak_rss_mb"]) > 0
    assert result["runs"] == 10


def test_startup(tmp_path: Path) -> None:
    """Start-up figures come from processes of their own, memory figures from the other benchmarks."""
    options = "--repeat", "1", "--width", "10", "--open-runs", "10", "--directory", str(tmp_path)
    result = result_of("startup.py", *options)
    assert 0 < result["import_s"] < result["first_task_s"]
    assert result["fan_out_peak_rss_mb"] > 0
    assert result["open_runs_rss_mb"] > 0


def test_table() -> None:
    """Without --json a table is told, with the budget beside what was measured where there is one."""
    lines = run("throughput.py", "--runs", "500", "--repeat", "1", "--store", "sqlite").splitlines()
    assert lines[0] == "500 runs at once of the sample on sqlite"
    assert any("CPU per 1,000 tasks" in line and "<= 0.12" in line for line in lines)
    assert "aiorch" in lines[-1]


@pytest.mark.parametrize("arguments", [["--width", "0"], ["--store", "paper"], ["--repeat", "-1"]])
def test_wrong_usage(arguments: list[str]) -> None:
    """A size below 1 or an unknown store is refused with exit code 2 before anything is measured."""
    done = start("fanout.py", *arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
