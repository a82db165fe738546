"""Serving below a path: what a reverse proxy has before the server's own paths, as `AIR_PUBLIC_URL` says.

The proxy may pass the path on or cut it off. What decides about a path (who may ask, how many at a time) sees it
without; what makes links has it as ASGI's `root_path`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def without_prefix(app: ASGIApp, prefix: str) -> ASGIApp:
    """Return an application that gets each path without the prefix, whether it was sent with it or not."""
    if not prefix:
        return app

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        if path == prefix or path.startswith(f"{prefix}/"):
            scope = {**scope, "path": path.removeprefix(prefix) or "/"}
        await app(scope, receive, send)

    return serve


def below_prefix(app: ASGIApp, prefix: str) -> ASGIApp:
    """Return an application for paths without the prefix, whose own application has it as its root."""
    if not prefix:
        return app

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "path": f"{prefix}{scope['path']}", "root_path": prefix}, receive, send)

    return serve
