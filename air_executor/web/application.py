"""All that the server serves, put together from the settings: metrics and probes, the page, the API, tools for agents.

`cli.http_server` serves it; `wiring` checks its settings beforehand, without the imports of a server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from air_executor.settings.http_types import known_url
from air_executor.web.trusted_proxy import TrustedProxy

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from air_executor.metrics.health import Health
    from air_executor.settings import Settings
    from air_executor.web.lazy_api import LazyApi
    from air_executor.web.state_cache import StateCache


def check(settings: Settings) -> None:
    """Check what only the server uses, so that a manager says at its start what is wrong.

    Raises:
        BadInputError: a setting is wrong, or needs a library that is not installed.
    """
    _trusted_proxy(settings)
    if settings.mcp:
        from air_executor.client.agent_server import check_library  # noqa: PLC0415 - only where asked for

        check_library()


def make_application(settings: Settings, scrape: Callable[[], bytes], health: Health) -> ASGIApp:
    """Return what is served; `scrape` and `health` are those of the manager."""
    from air_executor.client import Client  # noqa: PLC0415 - 0.3 s in all, and not for `check`
    from air_executor.store.tokens import Tokens  # noqa: PLC0415
    from air_executor.web import asgi, routes  # noqa: PLC0415
    from air_executor.web.lazy_api import LazyApi  # noqa: PLC0415
    from air_executor.web.state_cache import StateCache  # noqa: PLC0415
    from air_executor.web.stream_limit import StreamLimit  # noqa: PLC0415

    client, streams = Client(settings.state_dir, settings.workspace_store), StreamLimit()
    cache = StateCache(client)
    return asgi.make_app(
        scrape,
        health,
        [
            *_for_runs(settings, cache),
            *_for_programs(settings, LazyApi(cache, settings, streams)),
            *routes.page_routes(cache, settings, streams),
        ],
        host=settings.http_host,
        token=None if settings.token is None else settings.token.get_secret_value(),
        tokens=Tokens(str(settings.tokens_file or client.layout.tokens), settings.admin_token_file),
        proxy=_trusted_proxy(settings),
        public_url=known_url(settings.public_url),
    )


def _for_runs(settings: Settings, cache: StateCache) -> list[BaseRoute]:
    """Return the routes of runs without a volume; none where all runs have it."""
    if (found := settings.transport) is None:
        return []
    from air_executor.web.transport.run_delivery import SizeLimit  # noqa: PLC0415 - see `make_application`
    from air_executor.web.transport.run_routes import run_routes  # noqa: PLC0415

    limit = SizeLimit(found.transport_size, f"{found.variable}_TRANSPORT_SIZE")
    return run_routes(cache, limit, cache.client.object_workspaces)


def _for_programs(settings: Settings, api: LazyApi) -> list[BaseRoute]:
    """Return the routes of the API, and those of agents where the settings ask for them."""
    from starlette.routing import Mount, Route  # noqa: PLC0415 - see `make_application`

    mounted = Mount("/api/v1", api)
    if not settings.mcp:
        return [mounted]
    from air_executor.web import agents  # noqa: PLC0415 - takes half a second

    return [mounted, Route(agents.PATH, agents.Agents(mounted))]


def _trusted_proxy(settings: Settings) -> TrustedProxy | None:
    """Return the proxy that signs people in; None: there is none."""
    found = settings.proxy
    if not (found.addresses or found.secret or found.roles):
        return None
    secret = "" if found.secret is None else found.secret.get_secret_value()
    return TrustedProxy(found.addresses, secret, found.roles)
