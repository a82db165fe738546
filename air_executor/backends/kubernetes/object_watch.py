"""Follows one kind of objects of a cluster: lists them, then watches from there, and lists again when that breaks.

A watch ends by itself after some minutes, can expire, and can fall silent on a dead connection; each case is noticed.
Called by `cluster_watch`; knows nothing of what the objects mean.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from air_executor.backends.container.contact import Contact
from air_executor.backends.container.refusals import RefusedError
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.api_connection import ExpiredError, Resource
from air_executor.errors import BackendUnavailableError

log = logging.getLogger(__name__)

WATCH_SECONDS = 290
"""How long one watch lasts before it is opened again; a random addition spreads them."""
SILENCE_SECONDS = 90.0
"""Longest silence of a watch: the server sends a bookmark every minute, so after that the connection is dead."""
MAX_BACKOFF = 10.0
"""Longest wait, in seconds, before a failed list or watch is repeated."""
_MIN_STREAM_SECONDS = 1.0
"""From this duration on a stream counts as working, so that the next failure starts with a short backoff."""


class ObjectWatch:
    """One kind of objects with one selector, followed by a thread from `start` until `close`.

    Args:
        api: its `watch` and `list` are used.
        selector: the objects' labels.
        wake: called when something has changed, including whether the server answers.
        what: names the objects in messages.
        resource: the kind of objects.
        begin: called before each list; it may make requests, and if it raises, the list has failed.
        apply: called with all objects of a list.
        change: called with an object that was added, changed or deleted; the second argument is true if deleted.
    """

    def __init__(
        self,
        api: Api,
        selector: str,
        wake: Callable[[], None],
        what: str,
        resource: Resource,
        *,
        begin: Callable[[], None],
        apply: Callable[[Sequence[Mapping[str, Any]]], None],
        change: Callable[[Mapping[str, Any], bool], None],
    ) -> None:
        self._api = api
        self._selector = selector
        self._wake = wake
        self._what = what
        self._resource = resource
        self._begin = begin
        self._apply = apply
        self._change = change
        self.contact = Contact("the Kubernetes API server", wake)
        self._thread = threading.Thread(target=self._follow, name=f"kubernetes-{what}", daemon=True)
        self._random = random.Random()  # noqa: S311 - spreads reconnects, guards nothing

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self.contact.closed.set()

    def join(self) -> None:
        """Wait a moment for the thread, whose request ends with the connection."""
        if self._thread.ident is not None:
            self._thread.join(timeout=1)

    def _follow(self) -> None:
        """List, then watch from there; whenever that cannot go on, start over."""
        version: str | None = None
        backoff = 0.0
        while not self.contact.closed.is_set():
            begun = time.monotonic()
            try:
                if version is None:
                    version = self._list()
                version = self._stream(version)
                if time.monotonic() - begun > _MIN_STREAM_SECONDS:
                    backoff = 0.0
            except ExpiredError as error:
                log.info("listing %s again: %s", self._what, error)
                version = None
            except (BackendUnavailableError, RefusedError) as error:
                version = None
                self.contact.fail(str(error))
            except Exception:
                log.exception("unexpected failure of the watch of %s", self._what)
                version = None
                self.contact.fail(f"the watch of {self._what} failed; see the manager's log")
            self.contact.closed.wait(backoff * self._random.uniform(0.5, 1.0))
            backoff = min(MAX_BACKOFF, backoff * 2 or 0.1)

    def _list(self) -> str:
        self._begin()
        items, version = self._api.list(self._resource, self._selector)
        self._apply(items)
        return version

    def _stream(self, version: str) -> str:
        """Apply changes until the stream ends; return the version to resume from."""
        span = WATCH_SECONDS + self._random.randrange(30)
        watch = self._api.watch(self._resource, self._selector, version, seconds=span, silence=SILENCE_SECONDS)
        with watch as events:
            if self.contact.succeed():
                log.debug("watching %s", self._what)
                self._wake()
            for event in events:
                self.contact.touch()
                found = event["object"]
                version = found["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._change(found, event["type"] == "DELETED")
                    self._wake()
        return version
