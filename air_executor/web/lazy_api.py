"""The API as an application that is imported and built with its first request: probes and scrapes need none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from air_executor.settings import Settings
    from air_executor.web.state_cache import StateCache
    from air_executor.web.stream_limit import StreamLimit


class LazyApi:
    """Passes requests on to the API."""

    def __init__(self, cache: StateCache, settings: Settings, streams: StreamLimit) -> None:
        self._cache = cache
        self._settings = settings
        self._streams = streams
        self._app: ASGIApp | None = None
        self._building = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        app = self._app
        if app is None:
            async with self._building:
                app = await asyncio.to_thread(self._build)
        await app(scope, receive, send)

    def _build(self) -> ASGIApp:
        if self._app is not None:  # another request was quicker
            return self._app
        from air_executor.web.api.api_app import make_api  # noqa: PLC0415 - see the module

        self._app = make_api(self._cache, self._settings, self._streams)
        return self._app
