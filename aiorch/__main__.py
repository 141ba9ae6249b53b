"""The command line: ``aiorch``, and ``python -m aiorch``."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder: a module there would replace a module of the standard library

from typing import NoReturn

from aiorch.system.exit import ENDING, leave_on_signal


def main() -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    leave_on_signal(130, *ENDING)  # until the event loop of a command handles them
    from aiorch.cli.main import main as run  # noqa: PLC0415  a signal may come while it is imported

    run()


if __name__ == "__main__":
    main()
