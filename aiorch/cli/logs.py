"""Log records as lines for people: a constant message, followed by the facts of the case as ``key=value``."""

import logging
import sys

from aiorch.engine.execution_context import ExecutionFilter
from aiorch.views.escaping import escaped
from aiorch.views.streams import write_line

_NO_FACTS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "execution_id"}
"""Fields of a record that are not printed. Run, node and attempt identify an execution for people."""


class FactsFormatter(logging.Formatter):
    """One line per record, with the `extra` fields at the end; a traceback, if any, follows."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line and the traceback, with all control characters escaped."""
        return escaped(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is the base's
        """Return the line."""
        facts = (f" {key}={value!r}" for key, value in vars(record).items() if key not in _NO_FACTS)
        return super().formatMessage(record) + "".join(facts)


class StderrHandler(logging.Handler):
    """Writes to the current `sys.stderr`: above the live view while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or drop it if stderr accepts no more output."""
        try:
            write_line(sys.stderr, self.format(record))
        except Exception:  # noqa: BLE001  as every handler does
            self.handleError(record)


def log_to_stderr(level: str) -> None:
    """Write all records of at least this level to stderr; records of a task name the task."""
    handler = StderrHandler()
    handler.setFormatter(FactsFormatter())
    handler.addFilter(ExecutionFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def leave_failures_to_the_report() -> None:
    """Log no warning that a run has failed: the report of a command that carries out no other run shows the failure."""

    def is_wanted(record: logging.LogRecord) -> bool:
        facts = vars(record)
        return not (facts.get("action") == "run_ended" and facts["status"] == "Failed")

    for handler in logging.getLogger().handlers:
        handler.addFilter(is_wanted)
