"""What is served at which path: metrics and probes here, the page's routes beside them.

Responses come from what the manager has published, never from the manager itself, so they come even if it hangs. Only a
scrape asks it for a sample first, and does not wait long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from air_executor.metrics.collector import CONTENT_TYPE, Collector
from air_executor.web.access import METRICS, PROBES, Access
from air_executor.web.guarded_connection import connection_limit
from air_executor.web.request_limit import RequestLimit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp


def make_app(collector: Collector, pages: Sequence[BaseRoute], *, host: str, token: str | None) -> ASGIApp:
    """Return the application that a manager serves on `host`."""
    health = collector.health
    # A thread of its own: those that the page uses can wait for a volume that hangs.
    scraper = ThreadPoolExecutor(1, "scrape")

    async def metrics(_: Request) -> Response:
        text = await asyncio.get_running_loop().run_in_executor(scraper, collector.scrape)
        return Response(text, media_type=CONTENT_TYPE)

    async def healthz(_: Request) -> Response:
        return _probe(health.hangs())

    async def readyz(_: Request) -> Response:
        return _probe(health.not_ready())

    own = [Route(METRICS, metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
    # The rest of the connections can be ended at any time, so that a probe always gets one.
    limited = RequestLimit(Starlette(routes=[*own, *pages]), connection_limit() * 3 // 4, always=PROBES)
    return Access(limited, host=host, token=token)


def _probe(problem: str | None) -> Response:
    headers = {"Cache-Control": "no-store"}
    return PlainTextResponse(f"{problem or 'ok'}\n", 200 if problem is None else 503, headers)
