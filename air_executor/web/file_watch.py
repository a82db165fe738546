"""One watch for all viewers of the page: it polls files while there are listeners, and notifies them of new versions.

It polls because shared volumes deliver no file system events. A poll costs a few `stat` calls, in a thread, because a
network volume can hang. Without listeners nothing runs. Only `poll` knows the meaning of a version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress

POLL_EVERY = 0.3
"""Seconds; twice as long where nothing has changed for a while: many pages just lie open."""
QUIET_AFTER = 30
"""Looks without news."""
APART = 0.03
"""Seconds between telling two listeners the same: each asks for the page then, and a crowd must not come at once."""


class FileWatch:
    """Notifies listeners of new versions of topics. All of it runs in one event loop."""

    def __init__(self, poll: Callable[[str], str]) -> None:
        self._poll = poll
        self._versions: dict[str, str] = {}
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

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
        quiet = 0
        while self._listeners:
            quiet += 1
            for topic, version in (await asyncio.to_thread(self._poll_all, list(self._listeners))).items():
                if topic in self._listeners and self._versions.get(topic, version) != version:
                    quiet = 0
                    for number, changed in enumerate(self._listeners[topic]):
                        asyncio.get_running_loop().call_later(number * APART, changed.set)
                if topic in self._listeners:
                    self._versions[topic] = version
            pause = POLL_EVERY * (2 if quiet > QUIET_AFTER else 1)
            await asyncio.sleep(max(pause, self.listening * APART))

    def _poll_all(self, topics: Iterable[str]) -> Mapping[str, str]:
        return {topic: self._poll(topic) for topic in topics}
