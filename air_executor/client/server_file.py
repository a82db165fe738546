"""A file behind a server, read in ranges: after an interruption the next range follows the last one."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from air_executor.errors import ServerUnavailableError

if TYPE_CHECKING:
    from air_executor.client.connection import Connection, HttpAnswer

PIECE = 1 << 20
"""Bytes of one request."""
_TOTAL = re.compile(r"bytes [0-9*-]+/([0-9]+)")


class ServerFile(io.RawIOBase):
    """One file behind a server, which may grow."""

    def __init__(self, connection: Connection, path: str, query: Sequence[tuple[str, object]]) -> None:
        super().__init__()
        self._connection = connection
        self._path = path
        self._query = query
        self._at = 0
        self._piece = b""
        """The bytes that begin at `_from`."""
        self._from = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def size(self) -> int:
        """Return how long the file is now.

        Raises:
            NotFoundError: there is none.
        """
        return self._total(self._ask("bytes=-1"))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = max(0, offset + (self.size() if base is None else base))
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; none at the present end."""
        parts: list[bytes] = []
        while size != 0 and (part := self._next(size)):
            parts.append(part)
            if size > 0:
                break
        return b"".join(parts)

    def _next(self, size: int) -> bytes:
        begin = self._at - self._from
        if not 0 <= begin < len(self._piece):
            self._piece, self._from, begin = self._fetched(), self._at, 0
        found = self._piece[begin : begin + size if size > 0 else None]
        self._at += len(found)
        return found

    def _fetched(self) -> bytes:
        found = self._ask(f"bytes={self._at}-{self._at + PIECE - 1}")
        return found.body if found.status == 206 else b""  # noqa: PLR2004 - a part

    def _ask(self, part: str) -> HttpAnswer:
        found = self._connection.get(self._path, self._query, {"Range": part})
        if found.status not in {206, 416}:
            msg = f"{self._connection.address.url}: the file came whole, not in part; a proxy drops the header Range"
            raise ServerUnavailableError(msg)
        return found

    def _total(self, found: HttpAnswer) -> int:
        total = _TOTAL.fullmatch(found.headers.get("content-range", ""))
        return 0 if total is None else int(total[1])
