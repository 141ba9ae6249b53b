"""``make`` in a clone: which interpreter it takes, and what a failed installation leaves. Real ``make``, no network."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 60

TOOLS = ("make", "sh", "rm", "touch", "head")
"""The programs in PATH beside the interpreters."""

INTERPRETER = """#!{python} -I
# An interpreter of another version. It runs code truly, and plays venv and pip as "acts" tells.
import os, signal, sys
from pathlib import Path

version, acts, args = {version}, {acts}, sys.argv[1:]
if args[0] == "-c":
    sys.version_info = version
    sys._base_executable = __file__
    if acts == "no venv":
        sys.modules["ensurepip"] = None
    if acts == "broken":
        sys.exit("pyenv: command not found\\nThe command exists in these Python versions: 3.12.1")
    sys.argv = ["-c", *args[2:]]
    exec(args[1])
elif args[:2] == ["-m", "venv"]:
    folder = Path(args[-1], "bin")
    folder.mkdir(parents=True, exist_ok=True)
    Path(folder, "python").write_text(Path(__file__).read_text())
    Path(folder, "python").chmod(0o755)
    if acts == "venv fails":
        sys.exit("Error: no space left on device")
elif args[:3] == ["-m", "pip", "install"]:
    Path("pip.log").open("a").write(args[-1] + "\\n")
    Path(__file__).with_name("aiorch").touch()
    if acts == "pip fails":
        sys.exit("ERROR: no connection")
    if acts == "pip hangs":
        with open("hangs", "w"):
            signal.pause()
else:
    print("ran", *args)
"""


class Clone:
    """A clone with no environment yet, and a PATH of its own."""

    def __init__(self, path):
        self.path = path
        self.tools = path / "tools"
        (path / ".ci").mkdir()
        self.tools.mkdir()
        for name in ("Makefile", "pyproject.toml", ".ci/install"):
            shutil.copy(REPOSITORY / name, path / name)
        for name in TOOLS:
            (self.tools / name).symlink_to(shutil.which(name))
        self.env = {"PATH": str(self.tools), "LC_ALL": "C.UTF-8"}

    def interpreter(self, name, version, acts="well"):
        script = self.tools / name
        version = (*map(int, version.split(".")), "final", 0)
        script.write_text(INTERPRETER.format(python=sys.executable, version=version, acts=repr(acts)))
        script.chmod(0o755)
        return script

    def make(self, *args):
        return subprocess.run(
            ["make", *args],
            cwd=self.path,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @property
    def installed(self):
        """The requirements that pip was given, in order."""
        log = self.path / "pip.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def taken(done):
    """The version and the name of the interpreter that make says it takes."""
    assert done.returncode == 0, done.stderr
    version, path = re.search(r"with Python ([\d.]+) \((.*?)\)", done.stdout).groups()
    return version, Path(path).name


def test_the_newest_suitable_interpreter_is_taken(clone):
    """Of the tested versions in PATH make takes the newest, and passes over one that cannot run or has no venv."""
    clone.interpreter("python3", "3.14.0")
    clone.interpreter("python3.11", "3.11.2")
    assert taken(clone.make("demo")) == ("3.11.2", "python3.11")
    clone.make("clean")
    clone.interpreter("python3.12", "3.12.4")
    assert taken(clone.make("demo")) == ("3.12.4", "python3.12")
    clone.make("clean")
    clone.interpreter("python3.13", "3.13.1", acts="no venv")
    assert taken(clone.make("demo")) == ("3.12.4", "python3.12")
    clone.make("clean")
    clone.interpreter("python3.12", "3.12.4", acts="broken")
    assert taken(clone.make("demo")) == ("3.11.2", "python3.11")


def test_python3_is_taken_where_it_is_all_there_is(clone):
    """An interpreter that is called python3 is as good as one that has its version in its name."""
    clone.interpreter("python3", "3.12.9")
    done = clone.make("demo")
    assert taken(done) == ("3.12.9", "python3")
    assert "ran examples/demo/demo.py" in done.stdout


def test_an_interpreter_can_be_named(clone):
    """PYTHON= names the interpreter, by a name or a path with spaces, newer than those tested, too."""
    clone.interpreter("python3.13", "3.13.1")
    clone.interpreter("python3.14", "3.14.0")
    assert taken(clone.make("demo", "PYTHON=python3.14")) == ("3.14.0", "python3.14")
    clone.make("clean")
    (clone.path / "my tools").mkdir()
    shutil.copy(clone.interpreter("python3.11", "3.11.9"), clone.path / "my tools" / "python")
    assert taken(clone.make("demo", f"PYTHON={clone.path}/my tools/python")) == ("3.11.9", "python")


@pytest.mark.parametrize(
    ("found", "args", "words"),
    [
        ({}, (), ["No suitable Python was found", "Install Python 3.11, 3.12 or 3.13", "apt install", "PYTHON="]),
        ({"python3": ("3.9.2", "well")}, (), ["python3: Python 3.9.2 is older than 3.11"]),
        ({"python3": ("3.14.0", "well")}, (), ["python3: Python 3.14.0 is newer than 3.13", "PYTHON="]),
        ({"python3.11": ("3.11.2", "no venv")}, (), ["Python 3.11.2 has no venv", "apt install python3.11-venv"]),
        ({"python3.12": ("3.12.1", "broken")}, (), ["python3.12: pyenv: command not found\nInstall"]),
        ({"python3.12": ("3.12.1", "well")}, ("PYTHON=/nowhere/python",), ["/nowhere/python:", "not found"]),
    ],
)
def test_no_suitable_interpreter_is_told(clone, found, args, words):
    """Make says why each interpreter in PATH is not suitable, and what to install; nothing is installed."""
    for name, (version, acts) in found.items():
        clone.interpreter(name, version, acts)
    done = clone.make("demo", *args)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr
    assert not (clone.path / ".venv").exists()
    assert clone.installed == []


@pytest.mark.parametrize("acts", ["venv fails", "pip fails"])
@pytest.mark.parametrize("target", ["demo", "test"])
def test_a_failed_installation_leaves_nothing(clone, target, acts):
    """After an installation that failed there is no environment; the next make begins anew, and runs."""
    clone.interpreter("python3.13", "3.13.1", acts)
    done = clone.make(target)
    assert done.returncode == 2
    assert "aiorch was not installed, and .venv was removed" in done.stderr
    assert "ran" not in done.stdout
    assert not (clone.path / ".venv").exists()
    clone.interpreter("python3.13", "3.13.1")
    assert "ran" in clone.make(target).stdout


def test_failed_tools_of_the_tests_leave_no_half_of_them(clone):
    """Where `make demo` has installed aiorch, and the installation for `make test` fails, nothing looks installed."""
    clone.interpreter("python3.13", "3.13.1")
    assert clone.make("demo").returncode == 0
    clone.interpreter("python3.13", "3.13.1", "pip fails")
    assert clone.make("test").returncode == 2
    assert not (clone.path / ".venv").exists()
    assert clone.installed == [".", ".[dev]"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_installation_leaves_nothing(clone, number):
    """Ctrl-C while pip works, or SIGTERM to all processes of make, leaves no environment."""
    clone.interpreter("python3.13", "3.13.1", "pip hangs")
    os.mkfifo(clone.path / "hangs")
    process = subprocess.Popen(
        ["make", "demo"], cwd=clone.path, env=clone.env, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        (clone.path / "hangs").open().close()  # until pip hangs
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode != 0
    assert b"was removed" in said
    assert not (clone.path / ".venv").exists()


def test_a_second_make_installs_nothing(clone):
    """After an installation make installs nothing more, and neither does `make demo` after `make test`."""
    clone.interpreter("python3.13", "3.13.1")
    assert all(clone.make(target).returncode == 0 for target in ("demo", "demo", "test", "demo", "test"))
    assert clone.installed == [".", ".[dev]"]


def test_the_versions_are_those_that_are_declared(clone):
    """The interpreters that make looks for are the versions that the package declares, and that tox tests."""
    classifiers = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["classifiers"]
    declared = sorted(each.rpartition(" ")[2] for each in classifiers if re.search(r":: 3\.\d+$", each))
    script = (REPOSITORY / ".ci/install").read_text()
    looked_for = re.search(r"set -- ((?:python3\.\d+ )+)python3;", script)[1].split()
    assert [f"python{version}" for version in reversed(declared)] == looked_for
    newest = int(declared[-1].split(".")[1])
    assert f"sys.version_info >= (3, {newest + 1})" in script
    minors = ",".join(version.split(".")[1] for version in declared)
    assert f"py3{{{minors}}}" in (REPOSITORY / "tox.ini").read_text()
