"""
The long-running service: ``python -m aiorch.service``, and ``service.py``.

    python -m aiorch.service           serve until SIGTERM, SIGINT or SIGHUP
    python -m aiorch.service --check   check settings and definitions, print the settings, and open no store

Exit codes: 0 ended by a signal, 1 failed at the start for a reason outside the settings, 2 settings or definitions are
wrong (also of `--check`), 130 ended at once by a second signal.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder: a module there would replace a module of the standard library

from typing import NoReturn

from aiorch.system.exit import ENDING, leave, leave_on_signal


def main() -> NoReturn:
    """Run the service, and end the process with its exit code."""
    if len(sys.argv) == 1:
        # The imports below take a second, and the imports of callables any time. An interrupted check is no success, so
        # only the service itself ends with 0.
        leave_on_signal(0, *ENDING)
    try:
        from aiorch.service.process import main as run  # noqa: PLC0415  a signal may come while it is imported
    except ModuleNotFoundError as missing:
        from aiorch.views.streams import write_line  # noqa: PLC0415

        hint = "in a clone of aiorch, run pip install '.[service]'"
        write_line(sys.stderr, f"{missing.name} is not installed, so the service was not started: {hint}")
        leave(2)
    run()


if __name__ == "__main__":
    main()
