"""Writing to whoever may stop reading."""

import os
from typing import TextIO


def write_line(stream: TextIO, text: str) -> None:
    """
    Write *text* and a line end, at once.

    When nobody reads the stream any more (``aiorch run … | head``), this and all that follows vanishes: a run does not
    fail because nobody watches it.
    """
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        # What is left in the buffer would fail again when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
