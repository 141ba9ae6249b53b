"""The live view on a terminal whose size changes while it is shown."""

import os
import pty
import re
import select
import struct
import termios
import time
from fcntl import ioctl

import pytest

from tests.acceptance.folder import PATIENCE_S, Folder, step
from tests.acceptance.terminal import Terminal
from tests.definitions import chain, task

NAMES = ("NorthernRegionWithAllOrders", "SouthernRegionWithAllOrders")

HELD = "\x1b[39m"
"""Default colour: a terminal shows nothing of it, and the live view never writes it alone."""

CALLABLES = f"""
import asyncio, os, time
from itertools import count
from pathlib import Path

def prints(context):
    print("printed by the function")

async def holds(context):
    for number in count():
        while not Path(f"hold{{number}}").exists():
            if Path("go").exists():
                return
            await asyncio.sleep(0.01)
        os.write(2, {HELD.encode()!r})
        while not Path(f"release{{number}}").exists():
            time.sleep(0.01)
"""
"""
`holds` stops the event loop on demand, so that nothing is drawn while the terminal changes its width. `prints` starts
no program of its own: the picture may be drawn over the prints of a program.
"""


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    yield folder
    folder.close()


def read_until(master, is_enough):
    """Return the text that was written until it is enough, or until the terminal is closed."""
    written, deadline = b"", time.monotonic() + PATIENCE_S
    while not is_enough(written.decode(errors="ignore")):
        assert time.monotonic() < deadline, written
        if select.select([master], [], [], 0.2)[0]:
            try:
                written += os.read(master, 65536)
            except OSError:
                break
    return written.decode()


def shows_it_running(written):
    """Whether a redraw is there that has the last change before the function is let go."""
    return re.search(r"Waits +Running", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)) is not None


@pytest.mark.parametrize("widths", [(120, 60), (120, 60, 40), (60, 120), (120, 40, 100)], ids=str)
def test_a_resize_leaves_no_ghost_lines(folder, widths):
    """Whatever the widths of the terminal were, each line of the view is there once, and the lines above it stay."""
    steps = {
        "Prints": task(target_name="f", function="held:prints"),
        **{name: step("echo") for name in NAMES},
        "Waits": task(target_name="f", function="held:holds"),
    }
    folder.write("resized.json", chain(**steps, Last=step("broken")))
    (folder.path / "held.py").write_text(CALLABLES)
    master, slave = pty.openpty()
    terminal = Terminal(widths[0], 24)
    terminal.feed("$ aiorch run resized.json\r\n")

    def resize(columns):
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        terminal.resize(columns)

    resize(widths[0])
    folder.env["TERM"] = "xterm-256color"
    options = {"stdin": slave, "stdout": slave, "stderr": slave, "text": False}
    folder.start("run", "resized.json", "--run-id", "r", "--log-level", "error", **options)
    for number, columns in enumerate(widths[1:]):
        terminal.feed(read_until(master, shows_it_running))
        (folder.path / f"hold{number}").touch()
        terminal.feed(read_until(master, lambda written: written.endswith(HELD)))
        resize(columns)
        (folder.path / f"release{number}").touch()
    (folder.path / "go").touch()
    os.close(slave)
    terminal.feed(read_until(master, lambda _: False))
    os.close(master)
    lines = terminal.rows
    assert lines[0].startswith("$ aiorch run resized.json"[: widths[-1]])
    for once in (
        "printed by the function",
        "resized  r  ",
        *(f"✔ {name[:10]}" for name in (*NAMES, "Prints", "Waits")),
        "✘ Last",
    ):
        assert sum(line.startswith(once) for line in lines) == 1, "\n".join(lines)
