"""The server's link to its manager: it asks for metrics, and ends this process when the manager has ended.

The other end is in `server_process`. Everything else the server reads from files, as any client does.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from air_executor.web.server_process import SERVES


def receive(descriptors: Sequence[str]) -> tuple[Connection, socket.socket, int, Any]:
    """Return what the manager hands over: the connection to it, the port, the memory with its health, a message."""
    link, listening, memory = map(int, descriptors)
    connection = Connection(link)
    return connection, socket.socket(fileno=listening), memory, connection.recv()


class ManagerLink:
    """A connection to the manager; from now on this process lives no longer than it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._read, name="link", daemon=True).start()

    def serves(self) -> None:
        """Tell the manager that the server serves now; before anything is scraped."""
        self._connection.send_bytes(SERVES)

    def scrape(self) -> bytes:
        """Return the manager's metrics; from one thread only."""
        self._connection.send_bytes(b"scrape")
        return self._answers.get()

    def _read(self) -> None:
        try:
            while True:
                self._answers.put(self._connection.recv_bytes())
        except (EOFError, OSError):  # at once: the port must be free for the next manager
            os._exit(0)
