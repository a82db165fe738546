"""What is served at which path: metrics and probes here, the page's routes beside them.

Responses come from what the manager has published, never from the manager itself, so they come even if it hangs. Only a
scrape asks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from air_executor.settings.http_types import path_prefix
from air_executor.web.access import API, METRICS, PROBES, Access
from air_executor.web.guarded_connection import connection_limit
from air_executor.web.path_prefix import below_prefix, without_prefix
from air_executor.web.problem_details import problem
from air_executor.web.request_limit import RequestLimit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from air_executor.metrics.health import Health
    from air_executor.store.tokens import Tokens
    from air_executor.web.trusted_proxy import TrustedProxy

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Not OpenMetrics, in which `tasks` and `tasks_total` could not be two metrics."""


def make_app(
    scrape: Callable[[], bytes],
    health: Health,
    pages: Sequence[BaseRoute],
    *,
    host: str,
    token: str | None,
    tokens: Tokens | None = None,
    proxy: TrustedProxy | None = None,
    public_url: str | None = None,
) -> ASGIApp:
    """Return the application that is served on `host`; `scrape` asks the manager for its metrics."""
    # A thread of its own: those that the page uses can wait for a volume that hangs.
    scraper = ThreadPoolExecutor(1, "scrape")

    async def metrics(_: Request) -> Response:
        text = await asyncio.get_running_loop().run_in_executor(scraper, scrape)
        return Response(text, media_type=METRICS_TYPE)

    async def healthz(_: Request) -> Response:
        return _probe(health.hangs())

    async def readyz(_: Request) -> Response:
        return _probe(health.not_ready())

    own = [Route(METRICS, metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
    # The rest of the connections can be ended at any time, so that a probe always gets one.
    served = Starlette(routes=[*own, *pages], exception_handlers={404: _not_found})
    prefix = path_prefix(public_url)
    limited = RequestLimit(below_prefix(served, prefix), connection_limit() * 7 // 8, always=PROBES)
    access = Access(limited, host=host, token=token, tokens=tokens, proxy=proxy, public_url=public_url)
    return without_prefix(access, prefix)


async def _not_found(request: Request, error: Exception) -> Response:
    """Answer where no route is, for example to a path with a line break in it, as what is asked there expects it."""
    if request.url.path.removeprefix(request.scope.get("root_path", "")).startswith(API):
        return problem(404, "not-found", "the API has no such path")
    return PlainTextResponse(str(getattr(error, "detail", "Not Found")), 404)


def _probe(problem: str | None) -> Response:
    headers = {"Cache-Control": "no-store"}
    return PlainTextResponse(f"{problem or 'ok'}\n", 200 if problem is None else 503, headers)
