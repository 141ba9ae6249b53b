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

from tests.acceptance.terminal import Terminal
from tests.acceptance.test_cli import PATIENCE_S, Folder, step
from tests.definitions import chain

NAMES = ("NorthernRegionWithAllOrders", "SouthernRegionWithAllOrders")


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    yield folder
    for process in folder.started:
        process.kill()
        process.wait()


QUIET_S = 0.2
"""Within this time all of a redraw arrives. The next redraw comes a second after the last change."""


def read_until(master, is_enough):
    """Return what was written until it is enough and nothing more comes, or until the terminal is closed."""
    written, deadline = b"", time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline, written
        if select.select([master], [], [], QUIET_S)[0]:
            try:
                written += os.read(master, 65536)
            except OSError:
                return written.decode()
        elif is_enough(written):
            return written.decode()


def shows_it_running(written):
    """Whether a redraw is there that has the last change before the function is let go."""
    return re.search(r"Waits +Running", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())) is not None


@pytest.mark.parametrize("widths", [(120, 60), (120, 60, 40), (60, 120), (120, 40, 100)], ids=str)
def test_a_resize_leaves_no_ghost_lines(folder, widths):
    """Whatever the widths of the terminal were, each line of the view is there once, and the lines above it stay."""
    steps = {"Prints": step("noisy"), **{name: step("echo") for name in NAMES}, "Waits": step("waits")}
    folder.write("resized.json", chain(**steps, Last=step("broken")))
    master, slave = pty.openpty()
    terminal = Terminal(widths[0], 24)
    terminal.feed("$ aiorch run resized.json\r\n")

    def resize(columns):
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        terminal.resize(columns)

    resize(widths[0])
    folder.env["TERM"] = "xterm-256color"
    options = {"stdin": slave, "stdout": slave, "stderr": slave, "text": False}
    folder.start("run", "resized.json", "--run-id", "r", **options)
    for columns in widths[1:]:
        terminal.feed(read_until(master, shows_it_running))
        resize(columns)
    (folder.path / "go").touch()
    os.close(slave)
    terminal.feed(read_until(master, lambda _: False))
    os.close(master)
    lines = terminal.rows
    assert lines[0].startswith("$ aiorch run resized.json"[: widths[-1]])
    for once in ("resized  r  ", *(f"✔ {name[:10]}" for name in (*NAMES, "Prints", "Waits")), "✘ Last"):
        assert sum(line.startswith(once) for line in lines) == 1, "\n".join(lines)
