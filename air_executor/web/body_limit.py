"""A limit of request bodies in size and time: each is read whole before anything else is done with it, except files.

A client that sends slowly, or much, costs a connection for a stated time and a stated share of memory, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from air_executor.web.problem_details import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 16 << 20
"""Bytes of one body."""
MAX_BODIES = 64 << 20
"""Bytes of all bodies that are held at a time."""
WITHIN = 30.0
"""Seconds that a client has for a whole body."""


class _BodySizeError(Exception):
    pass


class _BusyError(Exception):
    pass


class BodyLimit:
    """Passes requests on to an application with their whole body."""

    def __init__(self, app: ASGIApp, streams: Callable[[Scope], bool]) -> None:
        """`streams` tells of a request whether the application reads its body as it comes, within limits of its own."""
        self._app = app
        self._streams = streams
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"} or self._streams(scope):
            await self._app(scope, receive, send)
            return
        close = {"Connection": "close"}  # what remains of the body is not read
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(WITHIN):
                    whole = await self._read(scope, receive, parts)
            except _BodySizeError:
                refusal = problem(413, "too-large", f"the body is larger than {MAX_BODY >> 20} MiB", close)
                await refusal(scope, receive, send)
                return
            except _BusyError:
                refusal = problem(503, "unavailable", "too many large requests at a time", close | {"Retry-After": "5"})
                await refusal(scope, receive, send)
                return
            except TimeoutError:
                refusal = problem(408, "timeout", f"the body did not come within {WITHIN:g} s", close)
                await refusal(scope, receive, send)
                return
            if whole is not None:
                await self._app(scope, _replayed(whole, receive), send)
        finally:
            self._held -= sum(map(len, parts))

    async def _read(self, scope: Scope, receive: Receive, parts: list[bytes]) -> bytes | None:
        """Return the whole body; None: the client has left."""
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > MAX_BODY:
            raise _BodySizeError
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > MAX_BODY:
                raise _BodySizeError
            if self._held + len(part) > MAX_BODIES:
                raise _BusyError
            self._held += len(part)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives an application this body, and then what else comes."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
