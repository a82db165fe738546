"""One watcher for all who look at the page: it looks at files while anybody listens, and tells who waits for which.

Looking, not events of the file system: volumes that several hosts share deliver none. A look costs a few `stat`s, in a
thread, because a network volume can hang. Nobody listening: nothing runs. What a version means, only `look` knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress

LOOK_EVERY = 0.3
"""Seconds."""
STREAMS = 100
"""Listeners at once; more are sent away and come again later."""


class FileWatch:
    """Tells listeners of new versions of topics. All of it runs in one event loop."""

    def __init__(self, look: Callable[[str], str]) -> None:
        self._look = look
        self._versions: dict[str, str] = {}
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether there are as many listeners as there may be."""
        return self.listening >= STREAMS

    @property
    def listening(self) -> int:
        """Number of listeners."""
        return sum(map(len, self._listeners.values()))

    async def versions(self, topic: str, patience: float) -> AsyncGenerator[str | None]:
        """Yield the topic's version, then each newer one, skipping those that came and went meanwhile.

        After `patience` seconds without any, None.
        """
        bell = asyncio.Event()
        self._listeners.setdefault(topic, set()).add(bell)
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
            seen = await asyncio.to_thread(self._look, topic)
            self._versions.setdefault(topic, seen)
            yield seen
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), patience)
                bell.clear()
                version = self._versions.get(topic, seen)
                yield version if version != seen else None
                seen = version
        finally:
            listeners = self._listeners[topic]
            listeners.discard(bell)
            if not listeners:
                del self._listeners[topic]
                self._versions.pop(topic, None)

    async def _run(self) -> None:
        while self._listeners:
            for topic, version in (await asyncio.to_thread(self._look_at, list(self._listeners))).items():
                if topic in self._listeners and self._versions.get(topic, version) != version:
                    for bell in self._listeners[topic]:
                        bell.set()
                if topic in self._listeners:
                    self._versions[topic] = version
            await asyncio.sleep(LOOK_EVERY)

    def _look_at(self, topics: Iterable[str]) -> Mapping[str, str]:
        return {topic: self._look(topic) for topic in topics}
