"""
The program of ``make demo``: runs ``stdlib.yaml`` with the command line and shows the outcome.

After an interrupt or a kill, a new start continues the run that was under way.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

HERE = Path(__file__).parent
DEFINITION = os.path.relpath(HERE / "stdlib.yaml")
OUTPUT = Path(".aiorch/demo")
AIORCH = (sys.executable, "-m", "aiorch")
AGAIN = "make demo" if "MAKELEVEL" in os.environ else shlex.join([sys.executable, *sys.argv])


def main() -> int:
    run_id = open_run()
    if run_id is not None:
        print(f"Run {run_id} was broken off: it continues where it stopped.")
    else:
        run_id = f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    os.environ["AIORCH_RUN_CONTINUE_WITH"] = (
        AGAIN  # `aiorch run` alone would not find the function, which ends with this process
    )
    with naming_styles() as url:
        # On Ctrl-C the command does not wait: the next start launches the running tasks again.
        code = call("run", DEFINITION, "--run-id", run_id, "--function-url", f"{url}/{{name}}", "--drain", "0")
    if code > 128:  # ended by a signal
        print(f"Run {run_id} was broken off. Start the demo again to continue it.", flush=True)
    if code != 0:
        return code
    call("show", run_id)
    call("graph", run_id, "--output", f"{OUTPUT}/graph.svg")
    print(f"\nThe report: {OUTPUT}/report.md\nThe graph:  {OUTPUT}/graph.svg")
    return 0


def open_run() -> str | None:
    """Return the id of the newest run that has not ended."""
    # At the first start there is no store yet, so the list is empty.
    listing = subprocess.run([*AIORCH, "runs", "--json", "--status", "Running"], check=False, capture_output=True)
    runs = json.loads(listing.stdout) if listing.returncode == 0 else []
    return next((run["run_id"] for run in runs if run["dag"] == "stdlib"), None)


@contextmanager
def naming_styles() -> Iterator[str]:
    """Serve the function of ``naming_styles.py``, and yield its address."""
    command = [sys.executable, str(HERE / "naming_styles.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    # Leaving the context of Popen has closed the stdin of the function and waited for its end.


def call(*arguments: str) -> int:
    """Show a command of aiorch, run it, and return its exit code as a shell would."""
    print(f"\n$ {shlex.join(['aiorch', *arguments])}", flush=True)
    with subprocess.Popen([*AIORCH, *arguments]) as process:

        def pass_on(number: int, _: FrameType | None) -> None:
            if number != signal.SIGINT:  # a terminal sends SIGINT to both processes
                process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        code = process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
