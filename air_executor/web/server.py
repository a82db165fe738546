"""The HTTP server of a manager: a thread of its own, without cost between requests.

`wiring` opens the port before anything starts, so that a port in use is detected at once. The manager's thread never
waits for this one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from typing import TYPE_CHECKING, Self

import uvicorn

from air_executor.errors import BadInputError
from air_executor.web.guarded_connection import GuardedConnection

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

BACKLOG = 64
"""Connections that wait to be accepted; all of them may be accepted before the first one is refused."""
SWITCH_AFTER = 0.0005
"""Seconds for which a thread that computes keeps the others waiting. The manager's thread makes system calls all the
time: by default it would wait 5 ms after each of them while a page is rendered."""
CLOSE_SECONDS = 1.0
"""Time for responses in progress when the manager stops: its whole stop may take 5 s."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        BadInputError: the address is not one of this host, or the port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(BACKLOG)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        msg = f"cannot listen on {host} port {port}: {error.strerror or error}"
        raise BadInputError(msg) from error
    return made


class _EventDrivenServer(uvicorn.Server):
    """uvicorn without its timer, which wakes ten times a second: an idle manager must not."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """Wait until `stop` is called."""
        await self.on_tick(0)
        self._stopped, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if not self.should_exit:
            await self._stopped.wait()

    def stop(self) -> None:
        """Stop the server; from any thread."""
        self.should_exit = True
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)


class Server:
    """Serves an application in its own thread."""

    def __init__(self, app: ASGIApp, listening: socket.socket, public_url: str | None = None) -> None:
        """`public_url` is the address for browsers, where it is another one than that of `listening`."""
        self._socket = listening
        self._public_url = public_url
        self._server = _EventDrivenServer(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=GuardedConnection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # needs uvicorn's timer
                backlog=BACKLOG,
                timeout_graceful_shutdown=1,
            )
        )
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
        """Start serving."""
        sys.setswitchinterval(SWITCH_AFTER)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:
            log.exception("the HTTP server failed unexpectedly; the manager continues without it")

    def __exit__(self, *_: object) -> None:
        """Stop serving, with a short time for responses in progress."""
        self._server.stop()
        self._thread.join(CLOSE_SECONDS + 1)
        self._socket.close()
