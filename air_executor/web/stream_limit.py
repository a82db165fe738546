"""A limit of the streams that are open at a time, of pages and of the API together: the rest is for other requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from air_executor.web.guarded_connection import connection_limit
from air_executor.web.problem_details import UNBUFFERED

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class StreamLimit:
    """The open streams of one server; all of them are in one event loop."""

    def __init__(self) -> None:
        self._most = connection_limit() * 25 // 32
        """Of 256 connections 200; `asgi` lets 224 have a request at a time."""
        self.open = 0

    @property
    def full(self) -> bool:
        """Whether there are as many as there may be; further ones are refused and retry later."""
        return self.open >= self._most

    def stream(self, events: AsyncIterator[str], headers: Mapping[str, str]) -> StreamingResponse:
        """Return a response that counts from when it begins: no other one begins between `full` and that."""
        return _CountedStream(self, events, headers)


class _CountedStream(StreamingResponse):
    def __init__(self, limit: StreamLimit, events: AsyncIterator[str], headers: Mapping[str, str]) -> None:
        super().__init__(events, 200, {**headers, **UNBUFFERED}, media_type="text/event-stream")
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._limit.open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._limit.open -= 1
