"""Follows one kind of objects of a cluster: lists them, then watches from there, and begins anew when that breaks.

A watch ends by itself after some minutes, can expire, and can fall silent on a dead connection; each of these is
noticed. Called by `backend`; knows nothing of what the objects mean.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from air_executor.backends.kubernetes.api import Api, ExpiredError, RefusedError, Resource
from air_executor.errors import BackendUnavailableError

log = logging.getLogger(__name__)

WATCH_SECONDS = 290
"""How long one watch lasts before it is opened again; chance adds a little, so that not all come at once."""
SILENCE_SECONDS = 90.0
"""How long a watch may bring nothing: the server sends a bookmark every minute, so the connection is then dead."""
_LONGEST_BACKOFF = 10.0
_SHORTEST_STREAM = 1.0


class ObjectWatch:
    """One kind of objects with one selector, followed by a thread from `start` until `close`.

    Args:
        api: its `watch` and `list` are used.
        selector: the labels that the objects have.
        wake: called when something has changed, the server's answering included.
        what: names the objects in messages.
        resource: where they are.
        before: called before each list; it may make requests, and what it raises fails the list.
        came: called with all objects of a list.
        take: called for an object that was added, has changed, or was deleted, which the second argument tells.
    """

    def __init__(
        self,
        api: Api,
        selector: str,
        wake: Callable[[], None],
        what: str,
        resource: Resource,
        *,
        before: Callable[[], None],
        came: Callable[[Sequence[Mapping[str, Any]]], None],
        take: Callable[[Mapping[str, Any], bool], None],
    ) -> None:
        self._api = api
        self._selector = selector
        self._wake = wake
        self._what = what
        self.resource = resource
        self._before = before
        self._came = came
        self._take = take
        self.problem: str | None = "not asked yet"
        """Why what is known may be out of date."""
        self.last_contact = time.monotonic()
        """When the server last said how things stand, monotonic seconds."""
        self.listed = threading.Event()
        """The first list has come, or has failed."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"kubernetes-{what}", daemon=True)
        self._chance = random.Random()  # noqa: S311 - spreads reconnects, guards nothing

    def start(self) -> None:
        """Begin to follow, once."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Follow no longer."""
        self._closed.set()

    def join(self) -> None:
        """Wait a moment for the thread, whose request ends with the connection."""
        if self._thread.ident is not None:
            self._thread.join(timeout=1)

    def _follow(self) -> None:
        """List, then watch from there; whenever that cannot go on, begin anew."""
        version: str | None = None
        backoff = 0.0
        while not self._closed.is_set():
            begun = time.monotonic()
            try:
                if version is None:
                    version = self._list()
                version = self._stream(version)
                if time.monotonic() - begun > _SHORTEST_STREAM:
                    backoff = 0.0
            except ExpiredError as error:
                log.info("listing %s anew: %s", self._what, error)
                version = None
            except (BackendUnavailableError, RefusedError) as error:
                version = None
                self._fail(str(error))
            except Exception:
                log.exception("watching %s failed in a way that is not foreseen", self._what)
                version = None
                self._fail(f"watching {self._what} failed; the manager's log says how")
            self._closed.wait(backoff * self._chance.uniform(0.5, 1.0))
            backoff = min(_LONGEST_BACKOFF, backoff * 2 or 0.1)

    def _list(self) -> str:
        self._before()
        items, version = self._api.list(self.resource, self._selector)
        self._came(items)
        return version

    def _stream(self, version: str) -> str:
        """Take in what happens until the stream ends; return the version to go on from."""
        span = WATCH_SECONDS + self._chance.randrange(30)
        watch = self._api.watch(self.resource, self._selector, version, seconds=span, silence=SILENCE_SECONDS)
        with watch as events:
            self._is_well()
            for event in events:
                self.last_contact = time.monotonic()
                found = event["object"]
                version = found["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(found, event["type"] == "DELETED")
                    self._wake()
        return version

    def _is_well(self) -> None:
        """Note that the server answers and that what we know is up to date."""
        before, self.problem = self.problem, None
        self.last_contact = time.monotonic()
        self.listed.set()
        if before is not None:
            log.debug("watching %s", self._what)
            self._wake()

    def _fail(self, why: str) -> None:
        """Note that the server cannot answer, until it does."""
        if self._closed.is_set():
            return
        self.problem = why
        self.listed.set()
        self._wake()
