"""Files that clients send: each is written piece by piece as it comes, so its size costs no memory.

`body_limit` leaves these requests to this module, which has limits of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from fastapi.concurrency import contextmanager_in_threadpool
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from air_executor.model.sizes import format_memory
from air_executor.web.problem_details import BodyTimeoutError, BodyTooLargeError, ClientLeftError, TooOftenError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from starlette.requests import Request

    from air_executor.client.workspace_files import Writable

AT_ONCE = 16
"""Files that are received at a time."""
PIECE = 1 << 20
"""Bytes that are written at a time."""
PIECE_WITHIN = 30.0
"""Seconds that a client has for each mebibyte."""


class Uploads:
    """The files that a server receives now."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of one file."""
        self._limit = limit
        self._open = 0

    async def receive(self, request: Request, target: AbstractContextManager[Writable]) -> None:
        """Write the body of a request to the file that `target` opens; nothing stays of it after an error.

        Raises:
            BodyTooLargeError, BodyTimeoutError, TooOftenError, ClientLeftError: the request was refused, or broke off.
            AirExecutorError: as `target` does.
        """
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > self._limit:
            raise self._too_large()
        with self._one():
            async with contextmanager_in_threadpool(target) as file:
                async for piece in self._pieces(request):
                    await run_in_threadpool(file.write, piece)

    @contextlib.contextmanager
    def _one(self) -> Iterator[None]:
        if self._open >= AT_ONCE:
            raise TooOftenError("too many files are sent at a time")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        total, parts, more = 0, bytearray(), True
        stream = request.stream()
        while more:
            try:
                async with asyncio.timeout(PIECE_WITHIN):
                    while more and len(parts) < PIECE:
                        part = await anext(stream, None)
                        more = part is not None
                        parts += part or b""
            except TimeoutError:
                msg = f"less than {format_memory(PIECE)} of the file came within {PIECE_WITHIN:g} s"
                raise BodyTimeoutError(msg) from None
            except ClientDisconnect:
                raise ClientLeftError("the client left before the file was complete") from None
            total += len(parts)
            if total > self._limit:
                raise self._too_large()
            yield bytes(parts)
            parts.clear()

    def _too_large(self) -> BodyTooLargeError:
        msg = f"the file is larger than {format_memory(self._limit)}, the server's AIR_UPLOAD_LIMIT"
        return BodyTooLargeError(msg)
