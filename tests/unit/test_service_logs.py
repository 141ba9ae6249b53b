"""Log records as Cloud Logging reads them."""

import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from aiorch.service.ending import end_after_s
from aiorch.service.logs import CHARS_MAX, CloudFormatter

KEY = "0123456789abcdef0123456789abcdef"


def entry(message="message settled", level=logging.INFO, *, project=None, exc_info=None, args=(), **facts):
    """The record as it is written, read again. It is one line, whatever is in it."""
    record = logging.LogRecord("aiorch.intake.intake", level, "intake.py", 1, message, args, exc_info)
    vars(record).update(facts)
    line = CloudFormatter(project).format(record)
    assert "\n" not in line
    return json.loads(line)


def test_a_record_is_its_message_and_its_facts():
    """Severity, message, time and logger are there, the time in RFC 3339, and the facts beside them."""
    found = entry("%s settled", args=("message",), run_id="r1", attempt=2, duration_ms=1.5)
    assert datetime.fromisoformat(found.pop("time")).tzinfo is UTC
    assert found == {
        "severity": "INFO", "message": "message settled", "logger": "aiorch.intake.intake",
        "run_id": "r1", "attempt": 2, "duration_ms": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "severity"),
    [(10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "CRITICAL"), (5, "DEFAULT")],
)
def test_every_level_has_a_severity(level, severity):
    """A level of one's own is the known one below it."""
    assert entry(level=level)["severity"] == severity


def test_an_execution_is_in_its_trace():
    """The execution id is the trace of its request, where the project is known and the id is one of ours."""
    field = "logging.googleapis.com/trace"
    assert entry(project="acme", execution_id=KEY)[field] == f"projects/acme/traces/{KEY}"
    for found in (entry(execution_id=KEY), entry(project="acme", execution_id="job-1"), entry(project="acme")):
        assert field not in found


def test_a_fault_has_its_stack():
    """An exception is a stack for Error Reporting; an error without one says that it is an error."""
    try:
        raise ValueError("no good")
    except ValueError:
        found = entry("it failed", logging.ERROR, exc_info=sys.exc_info())
    assert found["message"] == "it failed"
    assert found["stack_trace"].startswith("Traceback")
    assert found["stack_trace"].endswith("ValueError: no good")
    assert "@type" not in found
    assert entry(level=logging.ERROR)["@type"].endswith("ReportedErrorEvent")
    assert "@type" not in entry(level=logging.WARNING)


def test_facts_do_not_replace_what_is_reserved():
    """A fact named as a field of every line does not hide it."""
    assert entry(severity="NONE", time="never")["severity"] == "INFO"


def test_anything_can_be_logged():
    """Text of any length and kind, and values that JSON does not know, make a line."""
    found = entry("x" * CHARS_MAX * 2, text="a\nb\udcff\x00", kinds={1: ValueError("x")}, when=datetime.now(UTC))
    assert len(found["message"]) == CHARS_MAX + 1
    assert found["text"] == "a\nb\udcff\x00"


@pytest.mark.parametrize(("drain_s", "end_s"), [(0, 6), (3, 8.5), (5, 8.5), (6, 9), (30, 33)])
def test_the_end_leaves_time_for_the_rest(drain_s, end_s):
    """It comes within Cloud Run's ten seconds as long as the drain leaves three for the rest."""
    assert end_after_s(drain_s) == end_s
