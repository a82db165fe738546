"""A limit of concurrent requests, because each can wait for a volume that hangs, or for a slow client.

Probes pass: their answers come from memory. `asgi` puts it around the application.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class RequestLimit:
    """Passes requests on to an application as long as there are not too many."""

    def __init__(self, app: ASGIApp, most: int, *, always: Collection[str]) -> None:
        """`always`: paths without a limit."""
        self._app = app
        self._most = most
        self._always = always
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["path"] in self._always:
            await self._app(scope, receive, send)
            return
        if self._open >= self._most:
            response = PlainTextResponse("too many requests at a time\n", 503, {"Retry-After": "5"})
            await response(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
