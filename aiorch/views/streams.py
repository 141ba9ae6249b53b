"""Writing lines to a terminal, a file or a pipe whose reader may have gone."""

import os
from typing import TextIO

from aiorch.views.escaping import escaped


def write_line(stream: TextIO, text: str) -> None:
    """
    Write *text*, escaped for a terminal, and a line end, at once.

    When nobody reads the stream any more (``aiorch run … | head``), this and all that follows vanishes: a run does not
    fail because nobody watches it.
    """
    try:
        stream.write(f"{escaped(text)}\n")
        stream.flush()
    except BrokenPipeError:
        # What is left in the buffer would fail again when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
