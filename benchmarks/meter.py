"""Counts what a manager asks of a Docker Engine: it stands between the two and passes bytes on."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_MARK = b" HTTP/1.1\r\n"


class Meter:
    """An address for `DOCKER_HOST` that leads to the engine's unix socket, until the `with` ends."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._folder = tempfile.TemporaryDirectory(prefix="meter-", dir="/tmp")
        self._listener = socket.socket(socket.AF_UNIX)
        self.address = f"unix://{self._folder.name}/engine"
        self.asked: list[str] = []
        """The first lines of all requests so far."""

    def __enter__(self) -> Self:
        self._listener.bind(self.address.removeprefix("unix://"))
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._engine)
                threading.Thread(target=self._copy, args=(client, engine, True), daemon=True).start()
                threading.Thread(target=self._copy, args=(engine, client, False), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, count: bool) -> None:  # noqa: FBT001 - a thread's argument
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if count and (end := data.find(_MARK)) >= 0:  # a client sends a request's head in one piece
                    self.asked.append(data[:end].decode("latin-1"))
                sink.sendall(data)
        for end_ in (source, sink):
            with contextlib.suppress(OSError):
                end_.shutdown(socket.SHUT_RDWR)
