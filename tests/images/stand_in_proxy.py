"""A stand-in for the socket proxy of examples/compose/proxy.yaml, for engines that cannot pull it.

Takes its flags `-allowMETHOD=REGEX`, ignores the others, hands allowed requests to the engine's socket and says on
stdout (`python -u`) which it allowed and which it blocked. Runs in a container of its own, so it imports the standard
library alone.
"""

from __future__ import annotations

import re
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler

SOCKET = "/var/run/docker.sock"
PORT = 2375
ALLOWED: dict[str, list[str]] = {}


class Proxy(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        path = self.path.partition("?")[0]
        fine = any(re.fullmatch(pattern, path) for pattern in ALLOWED.get(self.command, ()))
        sys.stdout.write(f"{'allowed' if fine else 'blocked'} {self.command} {path}\n")
        if not fine:
            self.send_error(403)
            return
        self.close_connection = True  # the end of the connection is the end of the answer
        lines = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() != "connection"]
        head = "\r\n".join([f"{self.command} {self.path} HTTP/1.1", *lines, "Connection: close", "", ""])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(SOCKET)
            engine.sendall(head.encode() + body)
            threading.Thread(target=self._hang_up_with_the_client, args=(engine,), daemon=True).start()
            while data := engine.recv(65536):
                self.wfile.write(data)

    def _hang_up_with_the_client(self, engine: socket.socket) -> None:
        try:
            while self.connection.recv(65536):
                pass
            engine.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _serve  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        """Say nothing but what was allowed and what was blocked."""


class Server(socketserver.ThreadingTCPServer):
    """One thread for each connection."""

    daemon_threads = True
    allow_reuse_address = True


if __name__ == "__main__":
    for word in sys.argv[1:]:
        if found := re.match(r"-allow([A-Z]+)=(.*)", word):
            ALLOWED.setdefault(found[1], []).append(found[2])
    Server(("", PORT), Proxy).serve_forever()
