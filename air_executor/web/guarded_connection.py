"""One connection of the HTTP server, with limits, so that clients can neither occupy it nor take all descriptors.

`server` hands this class to uvicorn, which makes one instance per connection. A client that sends no complete request
or takes no answer is disconnected after a time. At the limit a new connection replaces the one that has waited longest
for a request; `request_limit` leaves enough of those. Knows nothing of what is served.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MAX_CONNECTIONS = 256
"""Maximum number of connections, if the process may have at least four times as many descriptors."""
MIN_CONNECTIONS = 16
REQUEST_WITHIN = 10.0
"""Seconds that a client has for sending a complete request, from the connection or the last response on."""
STALLED_AFTER = 60.0
"""Seconds after which a client that takes nothing of its response is disconnected."""


def connection_limit() -> int:
    """Return how many connections there may be at a time.

    A quarter of the process's descriptors: each connection can have a file open besides, there are more of them for
    moments, and the rest of the process needs some, too.
    """
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, descriptors // 4))


class GuardedConnection(H11Protocol):
    """A connection with a time limit for each of the client's parts, in a server with a limit of connections."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **options)
        self._limit = connection_limit()
        self._deadline: asyncio.TimerHandle | None = None
        self.waits_since: float | None = None
        """When it began to wait for a request, by the loop's clock; None while it has one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection; at the limit, end another one."""
        if len(self.connections) >= self._limit:
            waiting = [one for one in cast("set[GuardedConnection]", self.connections) if one.waits_since is not None]
            if waiting:
                min(waiting, key=lambda one: one.waits_since or 0.0).abort()
            elif len(self.connections) >= 2 * self._limit:  # until then, refusals under way soon leave one that waits
                transport.abort()
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.waits_since = None
            if not self.flow.write_paused:
                self._forget_deadline()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless the client sent it already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait()

    def pause_writing(self) -> None:
        """Wait until the client takes what was sent."""
        super().pause_writing()
        self._set_deadline(STALLED_AFTER)

    def resume_writing(self) -> None:
        """Go on: the client has taken enough."""
        super().resume_writing()
        self._forget_deadline()
        if self.waits_since is not None:
            self._wait()

    def abort(self) -> None:
        """End the connection at once, whatever is in transit, and let it no longer count."""
        self.connections.discard(self)
        self.transport.abort()

    def _wait(self) -> None:
        self.waits_since = self.loop.time()
        self._set_deadline(STALLED_AFTER if self.transport.get_write_buffer_size() else REQUEST_WITHIN)

    def _set_deadline(self, seconds: float) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(seconds, self.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
