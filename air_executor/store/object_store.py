"""Objects of a store such as S3, below one prefix: written once as a stream, read by ranges, deleted.

The only importer of `obstore`, which has its options and credentials from the environment. All that a store can answer
becomes a `StoreError` with one line, and no line has an address with a query, which could be signed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from air_executor.errors import BadInputError, StoreError
from air_executor.store import files

if TYPE_CHECKING:
    from obstore import WritableFile

PART = 8 << 20
"""Bytes that are sent at a time, two of them at once: what one stream holds in memory."""
MOST_PARTS = 9_000
"""Parts of an object: S3 takes 10,000."""
ANSWER_WITHIN, CONNECT_WITHIN, RETRY_FOR = 40, 5, 20
"""Seconds. Together less than a carrier waits for an answer, so that it hears what is wrong."""
_LONGEST = 300
_QUERY = re.compile(r"\?[^\s\"']*")


def check_library() -> None:
    """Make sure that the library is there.

    Raises:
        BadInputError: it is not.
    """
    if importlib.util.find_spec("obstore") is None:
        raise BadInputError("AIR_WORKSPACE_STORE needs a library: pip install 'air-executor[objects]'")


class ObjectStore:
    """The objects below one prefix."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the store yet; `url` is like `s3://bucket/prefix`.

        Raises:
            BadInputError: there is no library, or it does not know such a store.
        """
        check_library()
        from obstore.store import from_url  # noqa: PLC0415 - 20 ms and 6 MB, only where there is a store

        self.url = url
        options: dict[str, Any] = {"allow_http": True}  # the address that people give decides
        options |= {"timeout": f"{ANSWER_WITHIN}s", "connect_timeout": f"{CONNECT_WITHIN}s"}
        retries: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=RETRY_FOR)}
        try:
            if url.startswith("file:"):
                self._store: Any = from_url(url, mkdir=True)
            else:
                self._store = from_url(url, client_options=options, retry_config=retries)  # type: ignore[call-overload]
        except Exception as error:  # the library has no tree of its own for these
            msg = f"AIR_WORKSPACE_STORE: {url} cannot be used: {_line(error)}"
            raise BadInputError(msg) from error

    def write(self, key: str, size: int | None = None) -> ObjectWriter:
        """Return a new object to be written; it exists when the block has ended without an error, and never in part.

        `size`: bytes, where they are known.

        Raises:
            StoreError: the store refused, or did not answer.
        """
        import obstore  # noqa: PLC0415 - as above

        part = max(PART, -(-(size or 0) // MOST_PARTS))
        with self._told("write"):
            return ObjectWriter(self, obstore.open_writer(self._store, key, buffer_size=part, max_concurrency=2))

    def read(self, key: str, start: int, end: int) -> bytes:
        """Return bytes of an object.

        Raises:
            StoreError: it is not there, or the store refused, or did not answer.
        """
        with self._told("read"):
            return bytes(self._store.get_range(key, start=start, end=end))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; fine if they are gone. Raises StoreError as `read`."""
        with self._told("delete from"):
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    self._store.delete(key)

    def delete_below(self, folder: str) -> None:
        """Delete all objects below a name. Raises StoreError as `read`."""
        with self._told("delete from"):
            for found in self._store.list(f"{folder}/"):
                self._store.delete([one["path"] for one in found])

    def check(self) -> None:
        """Write, read and delete an object. Raises StoreError as `read`."""
        key = f".check-{files.random_hex(8)}"
        with self.write(key) as file:
            file.write(b"check")
        if self.read(key, 0, 5) != b"check":
            msg = f"workspace store {self.url}: it does not return what was written"
            raise StoreError(msg)
        self.delete([key])

    @contextlib.contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            msg = f"cannot {verb} the workspace store {self.url}: an object, or the bucket, is not there"
            raise StoreError(msg) from error
        except Exception as error:  # each store has errors of its own
            msg = f"cannot {verb} the workspace store {self.url}: {_line(error)}"
            raise StoreError(msg) from error


class ObjectWriter:
    """A new object, as a block."""

    def __init__(self, store: ObjectStore, writer: WritableFile) -> None:
        self._told = store._told  # noqa: SLF001 - a class of this module
        self._writer = writer

    def write(self, data: bytes) -> int:
        """Add bytes. Raises StoreError as `ObjectStore.write`."""
        with self._told("write"):
            return self._writer.write(data)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the object, or after an error abort it, so that the store keeps no part of it."""
        if kind is None:
            with self._told("write"):
                self._writer.close()
        else:
            with contextlib.suppress(Exception):  # it is the first error that counts
                if not isinstance(error, StoreError):
                    self._writer.flush()  # a part that arrives after the end of its upload would stay
                self._writer.__exit__(kind, error, trace)


def _line(error: Exception) -> str:
    """Return what an error says as one line of bounded length, without what may be secret."""
    text = " ".join(str(error).partition("\n\nDebug source")[0].split())
    return _QUERY.sub("?…", text)[:_LONGEST] or type(error).__name__
