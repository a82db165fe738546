"""Who may see what is served: on loopback the browser's own user, elsewhere who has the token.

Probes are open: they tell nothing but whether the manager works, and what asks them has no token. Without a token, on
an address that others reach, metrics are served too, as every exporter does, and the page is not.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PROBES = ("/healthz", "/readyz")
METRICS = "/metrics"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Lets requests through to an application, or answers them itself."""

    def __init__(self, app: ASGIApp, *, host: str, token: str | None) -> None:
        """`host` is the address that is listened on."""
        self._app = app
        self._local = is_loopback(host)
        self._names = {*_LOCAL_NAMES, host, f"[{host}]"}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers, path = Headers(scope=scope), str(scope["path"])
        if path in PROBES:
            return None
        # A name that somebody else's page has made to lead here (DNS rebinding) is not one of ours.
        if self._local and _name(headers.get("host", "")) not in self._names:
            return PlainTextResponse("this server answers to localhost alone\n", 421)
        if self._token is not None:
            return None if _proves(headers.get("authorization", ""), self._token) else _unauthorized()
        if self._local or path == METRICS:
            return None
        return PlainTextResponse("set AIR_TOKEN on the manager to see this from elsewhere\n", 403)


def _name(host: str) -> str:
    """Return a Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _proves(header: str, token: str) -> bool:
    """Tell whether a header names the token: as a bearer's, or as the password that a browser asks its user for."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(value.strip().encode(), token.encode())


def _unauthorized() -> PlainTextResponse:
    ask = 'Basic realm="Air-Executor: any name, and AIR_TOKEN as the password", charset="UTF-8"'
    response = PlainTextResponse("give AIR_TOKEN as a bearer token, or as the password\n", 401)
    response.headers.append("www-authenticate", "Bearer")
    response.headers.append("www-authenticate", ask)
    return response
