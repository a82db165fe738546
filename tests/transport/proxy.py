"""What may lie between a pod and its manager: it delays, and breaks connections in the middle of what they carry.

A process of its own, for managers are forked, which goes ill beside a thread that serves. It imports nothing but the
standard library, so that it starts quickly: it runs this file by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
import subprocess
import sys
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

    def __init__(self, port: int, seed: int, host: str = "127.0.0.1") -> None:
        """`host`: where both listen."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, host, str(port), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._read()

    def bring(self, trouble: Trouble) -> int:
        """Let this happen, also to connections that there are; return how many connections have been broken so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(trouble)) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Be gone, with all connections."""
        self._process.kill()
        self._process.communicate()


# --- the process


class _Passage:
    def __init__(self, host: str, port: int, seed: int) -> None:
        self._target = host, port
        self._chance = random.Random(seed)
        self._trouble = Trouble()
        self._open: set[asyncio.StreamWriter] = set()
        self._broken = 0

    async def serve(self) -> None:
        """Listen, say where, and do as the lines of standard input say until they end."""
        server = await asyncio.start_server(self._pass_on, self._target[0], 0)
        _say(server.sockets[0].getsockname()[1])
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            self._trouble = Trouble(**json.loads(line))
            if self._trouble.refuse:
                for writer in self._open:
                    writer.transport.abort()
            _say(self._broken)

    async def _pass_on(self, asked: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        trouble, chance = self._trouble, self._chance
        breaks = chance.random() < trouble.share
        there, back = (chance.randrange(trouble.most) if breaks and chance.random() < 0.7 else None for _ in range(2))
        writers = [answers]
        self._open.add(answers)
        try:
            if not trouble.refuse:
                source, sink = await asyncio.open_connection(*self._target)
                writers.append(sink)
                ways = [self._copy(asked, sink, there), self._copy(source, answers, back)]
                copies = [asyncio.ensure_future(way) for way in ways]
                await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
                for copy in copies:
                    copy.cancel()
        except OSError:
            pass
        finally:
            self._open.discard(answers)
            for writer in writers:
                writer.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._trouble.delay:
                    await asyncio.sleep(self._chance.random() * self._trouble.delay)
                if limit is not None:
                    data, limit = data[:limit], limit - len(data)
                sink.write(data)
                await sink.drain()
                if limit is not None and limit <= 0:
                    self._broken += 1
                    return


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_Passage(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).serve())
