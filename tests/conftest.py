"""How the tests are shared out."""

import os


def pytest_xdist_auto_num_workers() -> int:
    """Return three workers for two cores: about half of the time the tests wait, for processes and for time to pass."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return cores + cores // 2
