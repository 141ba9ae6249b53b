"""
Log records as JSON objects, one per line, with the special fields of Cloud Logging.

A record has a constant message and the facts of the case. Payloads and secrets are never logged as facts.

Source: Cloud Logging documentation, "Structured logging", special fields in JSON payloads; Error Reporting
documentation, "Format errors in logs".
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from aiorch.engine.execution_context import ExecutionFilter

CHARS_MAX = 16 * 1024
"""Longest text of a field. An entry may have 256 KiB, and Cloud Logging cuts a longer one into unreadable pieces."""

_NO_FACTS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "failure_message"}
"""Fields that are not written. The message of a failure may quote an input: it stays in the run document."""
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_REPORTED = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
_TALKATIVE = ("asyncio", "gcloud", "aiohttp", "google", "urllib3")
"""Libraries whose detailed logs were not checked for secrets: only their warnings are logged."""


class CloudFormatter(logging.Formatter):
    """
    One JSON object per record.

    Args:
        project_id: Project of the traces: the execution id is the trace id of the request. `None`: no trace is written.
    """

    def __init__(self, project_id: str | None = None) -> None:
        super().__init__()
        self._project_id = project_id

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end."""
        facts = {key: _bounded(value) for key, value in vars(record).items() if key not in _NO_FACTS}
        entry: dict[str, Any] = {
            "severity": _severity(record.levelno),
            "message": _bounded(record.getMessage()),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "logger": record.name,
        }
        execution_id = facts.get("execution_id")
        if self._project_id and isinstance(execution_id, str) and _TRACE_ID.fullmatch(execution_id):
            entry["logging.googleapis.com/trace"] = f"projects/{self._project_id}/traces/{execution_id}"
        stack = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        if stack:
            entry["stack_trace"] = _bounded(stack)
        elif record.levelno >= logging.ERROR:
            entry["@type"] = _REPORTED  # without a stack, Error Reporting needs this type to see an error
        return json.dumps(entry | {key: value for key, value in facts.items() if key not in entry}, default=repr)


def log_for_cloud(level: str, project_id: str | None = None) -> None:
    """Write all records of at least this level, and warnings of Python, to stderr as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(CloudFormatter(project_id))
    handler.addFilter(ExecutionFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def _severity(level: int) -> str:
    known = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    return next((logging.getLevelName(each) for each in known if level >= each), "DEFAULT")


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > CHARS_MAX:
        return value[:CHARS_MAX] + "…"
    return value
