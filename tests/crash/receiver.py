"""A webhook in a process of its own: the managers are forked, which goes ill beside a thread that serves.

`python -m tests.crash.receiver FILE` prints its port, and appends each body that it gets to the file, as a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Receiver:
    """A running one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.receiver", path], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/"

    def got(self) -> list[dict[str, Any]]:
        """Return what it has got."""
        with open(self._path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    """Seconds for what a manager that was killed has not sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[1], "ab") as file:
            file.write(json.dumps(json.loads(body)).encode() + b"\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _serve() -> None:
    with open(sys.argv[1], "xb"):
        pass
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve()
