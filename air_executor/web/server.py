"""The HTTP server: uvicorn with the limits of this package, and without cost between requests.

`wiring` runs it in a process of its own, beside that of the manager: see `server_process`.
"""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from air_executor.web.guarded_connection import GuardedConnection
from air_executor.web.server_process import BACKLOG

if TYPE_CHECKING:
    from starlette.types import ASGIApp

CLOSE_SECONDS = 1
"""Time for responses in progress when the server stops."""


class HttpServer(uvicorn.Server):
    """Serves an application until SIGTERM, or until `stop` is called.

    Without uvicorn's timer, which wakes ten times a second: an idle server must not.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
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
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )
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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """Stop when a signal says so; uvicorn's own handler would wait for its timer, and repeat the signal."""
        self.stop()
