"""Output and exit codes of the commands: results go to stdout, all other lines to stderr."""

import sys

from aiorch.views.streams import write_line

OK, NOT_COMPLETED, USAGE_OR_DEFINITION_WRONG, STORE_FAILED, NOT_YET = 0, 1, 2, 3, 4
FAULT, OUTPUT_LOST, INTERRUPTED = 70, 74, 130


EPILOG = """\b
Exit codes:
    0  done; of run and resume: the run completed
    1  the run failed or was cancelled; of result: there is no result
    2  wrong usage, or the definition, the run id or the input is wrong
    3  the store or the topic failed, or a stored document cannot be read
    4  of result: there is no result yet
   70  a fault of aiorch itself
   74  done, but the output could not be written to stdout
  130  interrupted; the run can be continued
"""


def say(line: str) -> None:
    """Print a line that is no result, or drop the line if stderr accepts no more output."""
    write_line(sys.stderr, line)


def print_result(result: str) -> None:
    """Print a result. Raises: OutputLostError."""
    write_line(sys.stdout, result)
