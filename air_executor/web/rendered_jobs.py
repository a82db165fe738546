"""The page of a job as last rendered, for all who look at it: a crowd of viewers costs one of them.

Who may change something always sees the newest version. A viewer's page may be older, by at most the time that keeps
rendering to a small share of the server's time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from air_executor.model.callers import VIEWER, Caller
from air_executor.web.rest import Rest
from air_executor.web.state_cache import REST, StateCache

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_PAGES = 32
MAX_AGE = 1.0
"""Seconds: a page contains durations."""
CHECK_EVERY = 0.1
"""Seconds for which a viewer's page is taken for the newest, without a look at files, and so without a thread."""


class _Page(NamedTuple):
    version: str
    response: Response
    rendered_at: float
    """On the monotonic clock."""
    rests_until: float
    """As `rendered_at`: until then, viewers see it even if there is a newer version."""
    checked_at: float
    """As `rendered_at`: when files were last looked at for it."""


class RenderedJobs:
    """Shows jobs. Thread-safe: of several who ask at once, one renders and the others wait."""

    def __init__(self, cache: StateCache, show: Callable[[Request], Response]) -> None:
        self._cache = cache
        self._show = show
        self._lock = threading.Lock()
        self._rest = Rest(REST)
        self._pages: OrderedDict[tuple[str, str, Caller], _Page] = OrderedDict()

    async def page(self, request: Request) -> Response:
        """Return the page that a request asks for."""
        known = self._pages.get(_key(request))
        if known is not None and time.monotonic() - known.checked_at < CHECK_EVERY and _caller(request).role == VIEWER:
            return known.response
        return await run_in_threadpool(self.answer, request)

    def answer(self, request: Request) -> Response:
        """Return the page that a request asks for, after a look at the files."""
        caller, key = _caller(request), _key(request)
        with self._lock:
            version = self._cache.version_of(str(request.path_params["job"]))
            known, now = self._pages.get(key), time.monotonic()
            if known is not None:
                rests = caller.role == VIEWER and now < known.rests_until
                if now - known.rendered_at < MAX_AGE if version == known.version else rests:
                    self._pages[key] = known._replace(checked_at=now)
                    return known.response
            response = self._show(request)
            self._pages[key] = _Page(version, response, time.monotonic(), self._rest.until(now), now)
            self._pages.move_to_end(key)
            while len(self._pages) > MAX_PAGES:
                self._pages.popitem(last=False)
            return response


def _caller(request: Request) -> Caller:
    found: Caller = request.scope["state"]["caller"]
    return found


def _key(request: Request) -> tuple[str, str, Caller]:
    return request.scope["path"], request.scope["query_string"].decode("latin-1"), _caller(request)
