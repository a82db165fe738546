"""The process of the HTTP server, a child of the manager: its thread shares no interpreter with pages and requests.

`wiring` opens the port before anything starts, so that a port in use is detected at once. The process begins with the
first connection, and again after it has died; the port stays open meanwhile, so clients wait for a second instead of
being refused. Where it cannot start, or dies again and again, they get 503. It ends with the manager, whatever ends
that. This module imports nothing of a server.
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
from typing import NamedTuple, Self

from air_executor.errors import BadInputError
from air_executor.web import loaded_code
from air_executor.web.unavailable import refuse

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
MAX_QUESTION = 1000
START_WITHIN = 60.0
"""Seconds for a server to start."""
SERVES = b"serves"
"""What the process says first once it serves; anything else is the cause why it cannot."""
OTHER_CODE = "the installed code is another version than this manager's: restart the manager"
AWAY = "the HTTP server of this manager is not running; the manager's log says why"


class _ServerEnd(NamedTuple):
    """How a process has ended."""

    has_served: bool
    how: str


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
                what = "AIR_HTTP_PORT" if error.errno == errno.EADDRINUSE else "AIR_HTTP_HOST"
                msg = f"cannot listen on {host} port {port}: {error.strerror or error}; set {what} to another one"
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
        self._code = loaded_code.stamps()
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
        pause, last = 0.0, _ServerEnd(has_served=True, how="")
        try:
            while not self._waits_for_client(pause, last):
                begun = time.monotonic()
                before, last = last, self._serve()
                if self._ends:
                    return
                soon = time.monotonic() - begun < SOON or not last.has_served
                pause = min(LONGEST_PAUSE, pause * 2 or RESTART_AFTER) if soon else RESTART_AFTER
                if last.has_served or last != before:
                    log.warning("the HTTP server %s; it can start again in %.0f s", last.how, pause)
        except Exception:
            log.exception("the HTTP server failed unexpectedly; the manager continues without it")

    def _waits_for_client(self, pause: float, last: _ServerEnd) -> bool:
        """Pause, then wait until there is a client; return whether to stop instead."""
        if last.has_served and pause <= RESTART_AFTER:
            stops = bool(wait([self._stopped], pause))
        else:
            stops = refuse(self._socket, self._stopped, pause, OTHER_CODE if OTHER_CODE in last.how else AWAY)
        return stops or self._stopped in wait([self._stopped, self._socket])

    def _serve(self) -> _ServerEnd:
        """Start the process, and answer what it asks until its end; return how it ended."""
        ours, theirs = Pipe()
        first = b""
        with ours:
            try:
                with theirs, self._lock:
                    if self._ends:
                        return _ServerEnd(has_served=False, how="stops")
                    self._process = process = self._start(theirs)
            except OSError as error:
                return _ServerEnd(has_served=False, how=f"cannot start: {error}")
            with suppress(OSError, EOFError):  # it has died
                ours.send(self._message)
                first = ours.recv_bytes(MAX_QUESTION) if ours.poll(START_WITHIN) else self._too_slow(process)
                while first == SERVES and ours.recv_bytes(MAX_QUESTION):
                    ours.send_bytes(self._scrape())
        code = process.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"has ended with exit code {code}"
        return _ServerEnd(has_served=True, how=how) if first == SERVES else self._failed_start(first, how)

    @staticmethod
    def _too_slow(process: subprocess.Popen[bytes]) -> bytes:
        process.kill()
        return b"it has taken more than %d s" % START_WITHIN

    def _failed_start(self, said: bytes, how: str) -> _ServerEnd:
        cause = said.decode(errors="replace") or f"it {how}"
        if loaded_code.changed(self._code):
            cause = f"{OTHER_CODE} ({cause})"
        return _ServerEnd(has_served=False, how=f"cannot start: {cause}")

    def _start(self, link: Connection) -> subprocess.Popen[bytes]:
        descriptors = (link.fileno(), self._socket.fileno(), self._memory)
        words = [sys.executable, "-P", "-m", PROGRAM, *map(str, descriptors)]
        # It finds the modules that this process has found.
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        if sys.flags.utf8_mode:
            environ["PYTHONUTF8"] = "1"
        return spawn(words, environ, descriptors)
