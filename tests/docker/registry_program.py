"""The tests' image registry, which runs in a container of its own: one image under any name, made of a folder's files.

Content: `manifest`, and `blobs/DIGEST`. Switches: `password` is that of the user `me`; a blob is not sent while
`held/DIGEST` exists; each file in `failures/` fails one request, which removes it. The log has the port, on loopback,
and a line for each answer. A container has this file alone, so it imports the standard library alone.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
UNKNOWN = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'


class Handler(BaseHTTPRequestHandler):
    """One connection of an engine."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a part of the image, or as a switch says."""
        kind, name = self.path.split("/")[-2:]
        blob = Path("blobs", name)
        if self._must_fail():
            self._answer(503, b"{}")
        elif not self._may_pull():
            self._answer(401, b"{}", **{"WWW-Authenticate": 'Basic realm="test"'})
        elif self.path == "/v2/":
            self._answer(200, b"{}")
        elif kind == "manifests" and Path("manifest").exists():
            manifest = Path("manifest").read_bytes()
            digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
            self._answer(200, manifest, **{"Content-Type": MANIFEST, "Docker-Content-Digest": digest})
        elif kind == "blobs" and blob.exists():
            while Path("held", name).exists():
                time.sleep(0.02)
            self._answer(200, blob.read_bytes())
        else:
            self._answer(404, UNKNOWN)

    do_HEAD = do_GET  # noqa: N815 - a name of the base class

    def _must_fail(self) -> bool:
        for switch in Path("failures").iterdir():
            switch.unlink()
            return True
        return False

    def _may_pull(self) -> bool:
        if not Path("password").exists():
            return True
        token = base64.b64encode(b"me:" + Path("password").read_bytes()).decode()
        return self.headers.get("Authorization") == f"Basic {token}"

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, text: str, *values: object) -> None:
        """Print a line for each answer."""
        sys.stdout.write(f"{text % values}\n")


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"port {server.server_port}\n")
    server.serve_forever()
