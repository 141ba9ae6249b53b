"""The way out of a process, which nothing blocks."""

import os
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
