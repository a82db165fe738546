"""Access control: on loopback everything is open, on other addresses it takes the token.

Probes are always open: they reveal only whether the manager works, and their clients have no token. Without a token, on
an address that others can reach, metrics are served, as by every exporter, and the page is not.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PROBES = ("/healthz", "/readyz")
METRICS = "/metrics"
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Passes requests on to an application, or refuses them."""

    def __init__(self, app: ASGIApp, *, host: str, token: str | None) -> None:
        """`host` is the address that the server listens on."""
        self._app = app
        self._local = is_loopback(host)
        self._names = {*_LOCAL_NAMES, host, f"[{host}]"}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers, path = Headers(scope=scope), str(scope["path"])
        if path in PROBES:
            return None
        # DNS rebinding: a web site can make its own host name point here.
        if self._local and _name(headers.get("host", "")) not in self._names:
            return PlainTextResponse("this server accepts requests for localhost only\n", 421)
        if self._token is not None:
            return None if _has_token(headers.get("authorization", ""), self._token) else _unauthorized()
        if self._local or path == METRICS:
            return None
        return PlainTextResponse("set AIR_TOKEN on the manager to allow remote access\n", 403)


def _name(host: str) -> str:
    """Return a Host header without its port; empty if it is no host and port."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found[1].lower()


def _has_token(header: str, token: str) -> bool:
    """Tell whether a header has the token: as a bearer token, or as the password of basic authentication."""
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
    challenge = 'Basic realm="Air-Executor: any user name, AIR_TOKEN as password", charset="UTF-8"'
    response = PlainTextResponse("send AIR_TOKEN as a bearer token, or as the password\n", 401)
    response.headers.append("www-authenticate", "Bearer")
    response.headers.append("www-authenticate", challenge)
    return response
