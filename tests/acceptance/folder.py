"""A folder in which commands are run as a user would, with callables for all kinds of tests."""

import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import urllib.error
import urllib.request
from fcntl import ioctl

from tests.acceptance.surroundings import clean_environment
from tests.definitions import chain, task

PATIENCE_S = 60.0

WORK = """
import os, subprocess, sys, time
from pathlib import Path

def log(context):
    with open("calls.log", "a") as file:
        file.write(f"{context.node}/{context.attempt}\\n")

def echo(context):
    log(context)
    return {"node": context.node, "input": context.input}

def broken(context):
    log(context)
    try:
        int("n/a")
    except ValueError as error:
        raise RuntimeError("row 17 is no good") from error

def once_broken(context):
    log(context)
    if not Path("mended").exists():
        raise OSError("not yet")
    return "mended"

def flaky(context):
    log(context)
    if context.attempt < 3:
        raise OSError("busy")
    return context.attempt

def noisy(context):
    print("printed by the function")
    subprocess.run([sys.executable, "-c", "print('printed by a child')"], check=True)
    return "done"

def waits(context):
    log(context)
    while not Path("go").exists():
        time.sleep(0.01)
    return "went"

def waits_for_much(context):
    return waits(context) * 1000

def waits_and_breaks(context):
    waits(context)
    raise OSError("late")

def hangs(context):
    log(context)
    time.sleep(3600)

def lethal(context):
    os.kill(os.getpid(), 9)
"""


def step(function, **more):
    return task(target_name="f", function=f"work:{function}", **more)


def calls(*functions, **more):
    """Steps ``S1``, ``S2`` … that call these functions."""
    return chain(**{f"S{number}": step(function, **more) for number, function in enumerate(functions, 1)})


class Folder:
    """A folder with callables and definitions, in which commands are run as a user would."""

    def __init__(self, path):
        self.path = path
        (path / "work.py").write_text(WORK)
        self.env = clean_environment()
        self.started = []

    def write(self, name, definition):
        (self.path / name).write_text(json.dumps(definition))
        return name

    def run(self, *args, **env):
        """Run a command to its end; there is no traceback, whatever it does."""
        done = self.python("-m", "aiorch", *args, **env)
        assert "Traceback" not in done.stderr
        return done

    def python(self, *args, **env):
        """Run Python to its end, as a command is run."""
        return subprocess.run(
            [sys.executable, *args],
            cwd=self.path,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def close(self):
        """End the commands that were started."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def start(self, *args, **options):
        """Start a command and return its process, which is ended with the test."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        command = [sys.executable, "-m", "aiorch", *args]
        process = subprocess.Popen(command, cwd=self.path, env=self.env, **options)
        self.started.append(process)
        return process

    def calls(self):
        """What the functions wrote into their log: ``node/attempt`` each."""
        log = self.path / "calls.log"
        return log.read_text().split() if log.exists() else []

    def await_call(self, call):
        """Wait until the function of a node was called."""
        deadline = time.monotonic() + PATIENCE_S
        while call not in self.calls():
            assert time.monotonic() < deadline, f"{call} was not called"
            time.sleep(0.01)

    def document(self, run_id):
        return json.loads(self.run("show", run_id, "--json").stdout)


def call(url, body=None, token=None):
    """Send a request and return (status, decoded answer)."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def serving_url(process):
    for line in process.stderr:
        if match := re.search(r"Serving on (\S+);", line):
            return match[1]
    raise AssertionError(f"it ended with {process.wait(PATIENCE_S)}")


def on_terminal(folder, *args, rows=24, columns=100):
    """Run a command on a terminal of its own, and return its exit code and everything that it wrote there."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    folder.env["TERM"] = "xterm-256color"
    process = folder.start(*args, stdin=slave, stdout=slave, stderr=slave, text=False)
    os.close(slave)
    written, deadline = b"", time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            written += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    os.close(master)
    return process.wait(PATIENCE_S), written.decode()
