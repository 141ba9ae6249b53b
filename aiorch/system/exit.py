"""The way out of a process, which nothing blocks."""

import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process: Ctrl-C, a supervisor, a terminal that is closed."""

IGNORABLE = (signal.SIGINT, signal.SIGHUP)
"""Signals of a terminal: a process that was started to ignore one of them goes on ignoring it."""


def leave(code: int, *, at_once: bool = False) -> NoReturn:
    """
    End the process.

    A function that hangs hangs in a thread, and the interpreter would wait for it for ever: with such a thread, and
    when it must be *at_once*, the process ends without a further step once what was printed is out.
    """
    threads = [
        thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
    ]
    if not threads and not at_once:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112  it is closed or full, or a signal came while it was written to
            continue
    os._exit(code)


def leave_on_signal(code: int, *numbers: signal.Signals) -> None:
    """
    Let each of these signals end the process at once with *code*, until something else handles the signal.

    This is for the time in which a program imports its modules and callables, and for its last steps: nothing has to be
    wound up, and an exception in the middle of an import could be caught there. The signals are those that `heeded`
    returns.
    """
    for number in heeded(numbers):
        signal.signal(number, lambda *_: leave(code, at_once=True))


def heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """
    Return *numbers* without those of `IGNORABLE` that this process was started to ignore.

    Under nohup that is SIGHUP, in a job that a shell script has put into the background SIGINT.
    """
    return [each for each in numbers if each not in IGNORABLE or signal.getsignal(each) is not signal.SIG_IGN]
