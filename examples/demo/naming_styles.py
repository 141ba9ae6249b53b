"""
A function over HTTP on this machine, in place of a Cloud Function.

The function judges the style of identifiers. It answers the first request with 503, like a service during an upgrade,
so that the ``retry`` of the step has an effect. It prints its URL, and ends when its stdin is closed.
"""

import json
import re
import signal
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread

STYLES = {
    "snake_case": r"_*[a-z0-9]+(_[a-z0-9]+)+_*",
    "lowercase": r"_*[a-z0-9]+_*",
    "UPPER_CASE": r"_*[A-Z0-9]+(_[A-Z0-9]+)*_*",
    "CapWords": r"_*([A-Z]+[a-z0-9]*)+",
    "mixedCase": r"_*[a-z0-9]+([A-Z]+[a-z0-9]*)+",
}


def naming_styles(identifiers: dict[str, int]) -> dict[str, int]:
    """Count the identifiers of each style, the commonest style first."""
    return dict(Counter(_style(name) for name in identifiers).most_common())


def _style(name: str) -> str:
    return next((style for style, pattern in STYLES.items() if re.fullmatch(pattern, name)), "other")


class Handler(BaseHTTPRequestHandler):
    requests = count(1)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if next(self.requests) == 1:
            self._answer(503, {"error": "being replaced, try again"})
        else:
            self._answer(200, naming_styles(**json.loads(body)))

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log no requests: the terminal belongs to the live view."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
