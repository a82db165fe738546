"""A way to an API server on which things go wrong, for one manager alone: a process that passes requests on.

Between a manager and the server. What a test brings upon it (`Trouble`) holds for the requests and streams that go
through here and for nobody else; what a request has begun at the server goes on there all the same. Speaks plain HTTP
on loopback, and to the server with the credentials of a KUBECONFIG. Knows paths and bytes, and no objects.

The process imports nothing but the standard library, so that it starts quickly: it runs this file by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

_CHUNK = 1 << 16
_REASONS = {410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong from now on."""

    share: float = 1.0
    """Of the requests and, where they are cut, of what streams bring: the part that it happens to."""
    latency: float = 0.0
    """Most seconds before a request is passed on."""
    statuses: tuple[int, ...] = ()
    """Of these answers a request gets one, and the server never hears of it."""
    retry_after: int = 1
    """Seconds, with 429."""
    swallow: bool = False
    """The server does what it is asked for, but its answer is lost with the connection."""
    cut: bool = False
    """Streams break off in the middle of an event."""
    mute: bool = False
    """Streams that are open now or opened meanwhile stay open for ever, and bring nothing any more."""
    expire: bool = False
    """Streams end with the event that their version is too old, or are refused for that."""


@dataclass(frozen=True, slots=True)
class Server:
    """An API server and how to come to it."""

    url: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token: str | None = None
    """What the header Authorization is to say."""


class ApiGate:
    """An address that leads to an API server: the one that KUBECONFIG names, unless another is given."""

    def __init__(self, server: Server | None = None, seed: int = 0) -> None:
        told = json.dumps([dataclasses.asdict(server or _from_kubeconfig()), seed])
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.address = f"http://127.0.0.1:{self._say(told)}"

    def write_config(self, path: str) -> None:
        """Write a KUBECONFIG that leads through here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "gate", "cluster": {"server": self.address}}],
            "users": [{"name": "anybody", "user": {}}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "anybody"}}],
            "current-context": "gate",
        }
        Path(path).write_text(json.dumps(config), encoding="utf-8")

    def bring(self, trouble: Trouble) -> None:
        """Let this go wrong, and nothing else."""
        self._say(json.dumps(dataclasses.asdict(trouble)))

    def relent(self) -> None:
        """Pass everything on again."""
        self.open()
        self.bring(Trouble())

    def slam(self) -> None:
        """Break all connections."""
        self._say("null")

    def shut(self) -> None:
        """Pass nothing on; who asks gets no answer."""
        self._process.send_signal(signal.SIGSTOP)

    def open(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Be gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _say(self, line: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line + "\n")
        stdin.flush()
        answer = stdout.readline().strip()
        if not answer:
            msg = f"the gate to the API server has left with {self._process.wait()}"
            raise OSError(msg)
        return answer


def _from_kubeconfig() -> Server:
    from kubernetes import client, config  # noqa: PLC0415 - not for the process, which runs this file by itself

    found = client.Configuration()
    config.load_kube_config(  # type: ignore[no-untyped-call]
        os.environ["KUBECONFIG"], client_configuration=found
    )
    return Server(
        found.host, found.ssl_ca_cert, found.cert_file, found.key_file, found.get_api_key_with_prefix("authorization")
    )


# --- the process


class _Stream:
    """One connection of the manager's and, once it asks for anything, one of ours to the server."""

    def __init__(self, passage: _Passage, asked: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        self._passage = passage
        self._asked, self._answers = asked, answers
        self._sink: asyncio.StreamWriter | None = None
        self._copying: asyncio.Task[None] | None = None
        self.watching = False
        self._swallows = False
        self.mute = False

    async def serve(self) -> None:
        """Pass on requests, one after the other, until either side leaves."""
        try:
            while await self._one_request():
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.break_off()

    def break_off(self) -> None:
        """Close both connections, without a word."""
        if self._copying is not None:
            self._copying.cancel()
        for writer in (self._answers, self._sink):
            if writer is not None:
                writer.transport.abort()

    def expire(self) -> None:
        """End the stream with the event that says so. Between two events it is between two chunks."""
        if self._copying is not None:
            self._copying.cancel()
        body = json.dumps({"type": "ERROR", "object": _status(410)}).encode() + b"\n"
        self._answers.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        self._answers.close()

    async def _one_request(self) -> bool:
        head = await self._asked.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = await self._asked.readexactly(int(headers.get("content-length", "0")))
        trouble, chance = self._passage.trouble, self._passage.chance
        self.watching = "watch=true" in lines[0]
        await asyncio.sleep(chance.random() * trouble.latency)
        hit = chance.random() < trouble.share
        if self.watching and trouble.expire:
            return self._refuse(410)
        if trouble.statuses and hit:
            return self._refuse(chance.choice(trouble.statuses))
        self._swallows = trouble.swallow and hit
        self.mute = self.watching and trouble.mute
        if self._sink is None or self._sink.is_closing():
            source, self._sink = await self._passage.connect()
            self._copying = asyncio.ensure_future(self._bring_back(source))
        head = self._passage.authorized(head)
        self._sink.write(head + body)
        await self._sink.drain()
        return True

    def _refuse(self, status: int) -> bool:
        body = json.dumps(_status(status)).encode()
        wait = f"Retry-After: {self._passage.trouble.retry_after}\r\n" if status == 429 else ""
        head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n{wait}"
        self._answers.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return True

    async def _bring_back(self, source: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if self._swallows:
                    break
                if self.mute:
                    continue
                if self.watching and self._passage.cuts():
                    self._answers.write(data[: len(data) // 2])
                    await self._answers.drain()
                    break
                self._answers.write(data)
                await self._answers.drain()
        self.break_off()


class _Passage:
    """What all connections have in common."""

    def __init__(self, server: Server, seed: int) -> None:
        self.trouble = Trouble()
        self.chance = random.Random(seed)
        url = urlsplit(server.url)
        self._host, self._port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
        self._token = server.token
        self._ssl: ssl.SSLContext | None = None
        if url.scheme == "https":
            self._ssl = ssl.create_default_context(cafile=server.ca)
            if server.cert is not None:
                self._ssl.load_cert_chain(server.cert, server.key)
        self._streams: set[_Stream] = set()

    async def serve(self) -> None:
        """Listen, say where, and do as the lines of standard input say until they end."""
        listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        _answer(str(listening.sockets[0].getsockname()[1]))
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            found = json.loads(line)
            if found is None:
                for stream in list(self._streams):
                    stream.break_off()
            else:
                self._begin(Trouble(**found))
            _answer("done")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a new connection to the server."""
        return await asyncio.open_connection(self._host, self._port, ssl=self._ssl)

    def authorized(self, head: bytes) -> bytes:
        """Return the head of a request with our own credentials, where they are a header."""
        if self._token is None:
            return head
        return head[:-2] + f"Authorization: {self._token}\r\n\r\n".encode()

    def cuts(self) -> bool:
        """Tell whether a stream breaks off here."""
        return self.trouble.cut and self.chance.random() < self.trouble.share

    def _begin(self, trouble: Trouble) -> None:
        self.trouble = trouble
        for stream in [stream for stream in self._streams if stream.watching]:
            stream.mute = stream.mute or trouble.mute
            if trouble.expire and not stream.mute:
                stream.expire()

    async def _accept(self, asked: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        stream = _Stream(self, asked, answers)
        self._streams.add(stream)
        try:
            await stream.serve()
        finally:
            self._streams.discard(stream)


def _status(code: int) -> dict[str, Any]:
    message = "injected by the gate"
    return {"kind": "Status", "status": "Failure", "code": code, "reason": _REASONS.get(code, ""), "message": message}


def _answer(words: str, out: IO[str] = sys.stdout) -> None:
    out.write(words + "\n")
    out.flush()


def _main() -> None:
    server, seed = json.loads(sys.stdin.readline())
    asyncio.run(_Passage(Server(**server), seed).serve())


if __name__ == "__main__":
    _main()
