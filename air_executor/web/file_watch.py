"""One watch for all viewers of the page: it polls files while there are listeners, and notifies them of new versions.

It polls because shared volumes deliver no file system events. A poll costs a few `stat` calls, in a thread, because a
network volume can hang. Without listeners nothing runs. Only `poll` knows the meaning of a version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress

POLL_EVERY = 0.3
"""Seconds."""
MAX_LISTENERS = 100
"""Maximum number of listeners; further ones are refused and retry later."""


class FileWatch:
    """Notifies listeners of new versions of topics. All of it runs in one event loop."""

    def __init__(self, poll: Callable[[str], str]) -> None:
        self._poll = poll
        self._versions: dict[str, str] = {}
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether the number of listeners is at its maximum."""
        return self.listening >= MAX_LISTENERS

    @property
    def listening(self) -> int:
        """Number of listeners."""
        return sum(map(len, self._listeners.values()))

    async def versions(self, topic: str, patience: float) -> AsyncGenerator[str | None]:
        """Yield the topic's version, then each newer one, or None after `patience` seconds without one.

        Versions that were replaced while the listener was busy are skipped.
        """
        changed = asyncio.Event()
        self._listeners.setdefault(topic, set()).add(changed)
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
            seen = await asyncio.to_thread(self._poll, topic)
            self._versions.setdefault(topic, seen)
            yield seen
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), patience)
                changed.clear()
                version = self._versions.get(topic, seen)
                yield version if version != seen else None
                seen = version
        finally:
            listeners = self._listeners[topic]
            listeners.discard(changed)
            if not listeners:
                del self._listeners[topic]
                self._versions.pop(topic, None)

    async def _run(self) -> None:
        while self._listeners:
            for topic, version in (await asyncio.to_thread(self._poll_all, list(self._listeners))).items():
                if topic in self._listeners and self._versions.get(topic, version) != version:
                    for changed in self._listeners[topic]:
                        changed.set()
                if topic in self._listeners:
                    self._versions[topic] = version
            await asyncio.sleep(POLL_EVERY)

    def _poll_all(self, topics: Iterable[str]) -> Mapping[str, str]:
        return {topic: self._poll(topic) for topic in topics}
