"""The exit of a process, which no hanging thread can block."""

import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process: Ctrl-C, a supervisor, a closed terminal."""

IGNORABLE = (signal.SIGINT, signal.SIGHUP)
"""Signals of a terminal: a process that was started to ignore one of them still ignores it."""


def leave(code: int, *, at_once: bool = False) -> NoReturn:
    """
    End the process.

    A hanging function hangs in a thread, and the interpreter would wait for the thread for ever. With such a thread,
    and with *at_once*, the process flushes its output and ends without a further step.
    """
    threads = [
        thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
    ]
    if not threads and not at_once:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112  the stream is closed or full, or a signal came during the write
            continue
    os._exit(code)


def leave_on_signal(code: int, *numbers: signal.Signals) -> None:
    """
    Let each of these signals end the process at once with *code*, until a different handler is set.

    Use this while a program imports its modules and callables, and for its last steps: there is no work to finish, and
    an import could catch an exception. The signals are those that `heeded` returns.
    """
    for number in heeded(numbers):
        signal.signal(number, lambda *_: leave(code, at_once=True))


def heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """
    Return *numbers* without the signals of `IGNORABLE` that this process was started to ignore.

    These are SIGHUP under nohup, and SIGINT in a background job of a shell script.
    """
    return [each for each in numbers if each not in IGNORABLE or signal.getsignal(each) is not signal.SIG_IGN]
