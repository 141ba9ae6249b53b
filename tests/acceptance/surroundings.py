"""What a program finds around it that is tested as a black box."""

import os
from pathlib import Path

import aiorch


def clean_environment() -> dict[str, str]:
    """A checkout that is not installed is found, and nothing of the outside changes what a command does."""
    # A size of the screen goes before that of the terminal, and a make started by make says in which folder it is.
    foreign = ("AIORCH_", "COLUMNS", "LINES", "MAKE", "MFLAGS")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    folder = Path(aiorch.__file__).parents[1]
    return {**env, "PYTHONPATH": str(folder), "PYTHONWARNINGS": "error", "LC_ALL": "C.UTF-8"}
