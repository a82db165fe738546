"""What may lie between a pod and its manager: it delays, and breaks connections in the middle of what they carry."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from dataclasses import dataclass

_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to connections from now on."""

    share: float = 0.0
    """Part of the connections that break."""
    most: int = 4000
    """Most bytes that such a connection carries, in one direction, before it breaks."""
    delay: float = 0.0
    """Most seconds that each piece takes longer."""
    refuse: bool = False
    """Nothing is passed on."""


class Proxy:
    """An address that leads to a port of this machine."""

    def __init__(self, port: int, seed: int) -> None:
        self._target = port
        self._chance = random.Random(seed)
        self.trouble = Trouble()
        self.broken = 0
        """Connections that were broken."""
        self.port = 0
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy")
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        await self._end.wait()
        server.close()

    def close(self) -> None:
        """Be gone, with all connections."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _pass_on(self, asked: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        trouble, chance = self.trouble, self._chance
        breaks = chance.random() < trouble.share
        there, back = (chance.randrange(trouble.most) if breaks and chance.random() < 0.7 else None for _ in range(2))
        writers = [answers]
        try:
            if not trouble.refuse:
                source, sink = await asyncio.open_connection("127.0.0.1", self._target)
                writers.append(sink)
                ways = [self._copy(asked, sink, there), self._copy(source, answers, back)]
                copies = [asyncio.ensure_future(way) for way in ways]
                try:
                    await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for copy in copies:
                        copy.cancel()
        except OSError:
            pass
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if self.trouble.delay:
                    await asyncio.sleep(self._chance.random() * self.trouble.delay)
                if limit is not None:
                    data, limit = data[:limit], limit - len(data)
                sink.write(data)
                await sink.drain()
                if limit is not None and limit <= 0:
                    self.broken += 1
                    return
