"""The way out of a process, which nothing blocks."""

import os
import signal
import sys
import threading
from typing import NoReturn


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
        except (OSError, ValueError):  # nobody reads it any more, or it is closed: nothing is left to be said
            continue
    os._exit(code)


def leave_on_signal(code: int, *numbers: signal.Signals) -> None:
    """
    Let each of these signals end the process at once with *code*, until something else handles the signal.

    This is for the time in which a program imports its modules and callables: nothing has to be wound up, and an
    exception in the middle of an import could be caught there.
    """
    for number in numbers:
        signal.signal(number, lambda *_: leave(code, at_once=True))
