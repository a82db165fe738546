"""A way to a Docker Engine that can fall silent or break, for one trial alone: a process that passes bytes on.

Between a manager and the engine; what the manager's requests have begun goes on at the engine all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile

_CHUNK = 1 << 16


class Gate:
    """An address for `DOCKER_HOST` that leads to the engine's unix socket."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._folder = tempfile.mkdtemp(prefix="air-gate-")  # a short path: a socket's address has at most 107 bytes
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self._folder}/engine")
        self._listener.listen(128)
        self.address = f"unix://{self._folder}/engine"
        self._pid = self._fork()

    def shut(self) -> None:
        """Pass nothing on; who asks gets no answer."""
        os.kill(self._pid, signal.SIGSTOP)

    def open(self) -> None:
        """Go on."""
        os.kill(self._pid, signal.SIGCONT)

    def slam(self) -> None:
        """Break all connections."""
        self._kill()
        self._pid = self._fork()

    def close(self) -> None:
        """Be gone."""
        self._kill()
        self._listener.close()
        shutil.rmtree(self._folder)

    def _kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _fork(self) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            asyncio.run(self._serve())
        finally:
            os._exit(1)

    async def _serve(self) -> None:
        self._listener.setblocking(False)  # noqa: FBT003 - it takes no keywords
        server = await asyncio.start_unix_server(self._pass_on, sock=self._listener)
        await server.serve_forever()

    async def _pass_on(self, asked: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self._engine)
            copies = [asyncio.ensure_future(_copy(asked, writer)), asyncio.ensure_future(_copy(reader, answer))]
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            for copy in copies:
                copy.cancel()
            writer.close()
        answer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
