"""The process of the HTTP server, a child of the manager: its thread shares no interpreter with pages and requests.

`wiring` opens the port before anything starts, so that a port in use is detected at once. The process begins with the
first connection, and again after it has died; the port stays open meanwhile, so clients wait instead of being refused.
It ends with the manager, whatever ends that. This module imports nothing of a server.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Self

from air_executor.errors import BadInputError

log = logging.getLogger(__name__)

BACKLOG = 64
"""Connections that wait to be accepted; all of them may be accepted before the first one is refused."""
ATTEMPTS, LOOK_EVERY = 20, 0.05
"""How often a port in use is tried, and seconds between two attempts."""
PROGRAM = "air_executor.cli.http_server"
RESTART_AFTER = 1.0
"""Seconds after which a server that has died begins again; twice as many each time that it dies soon."""
LONGEST_PAUSE = 60.0
SOON = 60.0
STOP_WITHIN = 3.0
"""Seconds for a server to stop: responses in progress have one of them. The manager's whole stop may take 5 s."""
MAX_QUESTION = 100


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. A port in use is tried again for a moment: the server of a dead manager may have it.

    Raises:
        BadInputError: the address is not one of this host, or the port is in use.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or left == 0:
                msg = f"cannot listen on {host} port {port}: {error.strerror or error}"
                raise BadInputError(msg) from error
        time.sleep(LOOK_EVERY)
    raise AssertionError


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def spawn(words: list[str], environ: Mapping[str, str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start a process that inherits these descriptors.

    It has a process group of its own, so that Ctrl-C reaches the manager alone, which stops it then.
    """
    return subprocess.Popen(
        words, env=environ, stdin=subprocess.DEVNULL, pass_fds=descriptors, process_group=0, close_fds=True
    )


class ServerProcess:
    """Serves on a port, in a process of its own."""

    def __init__(
        self,
        listening: socket.socket,
        memory: int,
        message: object,
        scrape: Callable[[], bytes],
        public_url: str | None = None,
    ) -> None:
        """Describe a server that does not run yet.

        `memory` is the descriptor of the manager's health, `message` what the process gets to know, `scrape` returns
        the manager's metrics. `public_url` is the address for browsers, where it is another one than that of
        `listening`.
        """
        self._socket = listening
        self._memory = memory
        self._message = message
        self._scrape = scrape
        self._public_url = public_url
        self._stopped, self._stopping = Pipe(duplex=False)
        self._lock = threading.Lock()
        """Guards the process and whether to stop."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """The address to open, or a description if it listens on all addresses."""
        if self._public_url is not None:
            return self._public_url
        host, port = self._socket.getsockname()[:2]
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - set by the user
            return f"port {port} on all addresses"
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    @property
    def page(self) -> str:
        """Address of the page for browsers; with this host's name where it listens on all addresses."""
        if self._public_url is not None:
            return self._public_url
        host, port = self._socket.getsockname()[:2]
        return f"http://{socket.gethostname()}:{port}/" if host in {"0.0.0.0", "::"} else self.url  # noqa: S104 - as above

    def __enter__(self) -> Self:
        """Serve from now on."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving, with a short time for responses in progress."""
        with self._lock:
            self._ends = True
            self._stopping.close()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(STOP_WITHIN)
        if self._process is not None:
            self._process.kill()
        self._socket.close()
        os.close(self._memory)

    # The thread that keeps the process

    def _run(self) -> None:
        pause = 0.0
        try:
            while not self._waits_for_client(pause):
                begun = time.monotonic()
                ended = self._serve()
                if self._ends:
                    return
                soon = time.monotonic() - begun < SOON
                pause = min(LONGEST_PAUSE, pause * 2 or RESTART_AFTER) if soon else RESTART_AFTER
                log.warning("the HTTP server %s; it can start again in %.0f s", ended, pause)
        except Exception:
            log.exception("the HTTP server failed unexpectedly; the manager continues without it")

    def _waits_for_client(self, pause: float) -> bool:
        """Wait for this time, then until there is a client; return whether to stop instead."""
        return bool(wait([self._stopped], pause)) or self._stopped in wait([self._stopped, self._socket])

    def _serve(self) -> str:
        """Start the process, and answer what it asks until its end; return how it ended."""
        ours, theirs = Pipe()
        with ours:
            try:
                with theirs, self._lock:
                    if self._ends:
                        return "stops"
                    self._process = process = self._start(theirs)
            except OSError as error:
                return f"cannot start: {error}"
            with suppress(OSError, EOFError):  # it has died
                ours.send(self._message)
                while ours.recv_bytes(MAX_QUESTION):
                    ours.send_bytes(self._scrape())
        code = process.wait()
        return f"was ended by signal {-code}" if code < 0 else f"has ended with exit code {code}"

    def _start(self, link: Connection) -> subprocess.Popen[bytes]:
        descriptors = (link.fileno(), self._socket.fileno(), self._memory)
        words = [sys.executable, "-P", "-m", PROGRAM, *map(str, descriptors)]
        # It finds the modules that this process has found.
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        if sys.flags.utf8_mode:
            environ["PYTHONUTF8"] = "1"
        return spawn(words, environ, descriptors)
