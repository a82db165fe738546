"""Access control: who a caller is. On loopback anyone may read; for changes, and from elsewhere, it takes a token.

Probes are always open: they reveal only whether the manager works, and their clients have no token. Without a token, on
an address that others can reach, metrics are served, as by every exporter, and the page is not. What a caller may do is
for the API to decide.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

from air_executor.errors import AirExecutorError
from air_executor.model.callers import ANONYMOUS, VIEWER, Caller
from air_executor.web.problem_details import as_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from air_executor.store.tokens import Tokens
    from air_executor.web.trusted_proxy import TrustedProxy

log = logging.getLogger(__name__)

API = "/api/"
MCP = "/mcp"
PROBES = ("/healthz", "/readyz")
METRICS = "/metrics"
RUNS = "/transport/"
"""Where runs without a volume reach their manager: what is there checks their tokens itself."""
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Passes requests on to an application with the caller in their state, or refuses them."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        token: str | None,
        tokens: Tokens | None = None,
        proxy: TrustedProxy | None = None,
        public_url: str | None = None,
    ) -> None:
        """`host` is the address that the server listens on; `token` is one of a viewer."""
        self._app = app
        self._local = is_loopback(host)
        self._names = {*_LOCAL_NAMES, host, f"[{host}]"}
        public = "localhost" if public_url is None else _name(urlsplit(public_url).netloc)
        self._names.add(public)
        # Where a reverse proxy on this machine passes on what comes from others, loopback says nothing of a client.
        self._open = self._local and proxy is None and is_loopback(public.strip("[]"))
        self._token = token
        self._tokens = tokens
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(RUNS):  # by any name of this machine: no web site has the token of a run
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._wrong_address(headers) or _foreign_change(scope["method"], headers)
        if refusal is None:
            client = scope.get("client")
            origin = "" if client is None else str(client[0])
            proxy = self._proxy_of(headers, origin)
            found = self._caller(headers, str(scope["path"])) if proxy is None else _person(proxy, headers)
            if isinstance(found, Caller):
                if proxy is not None:
                    origin = proxy.client(headers) or origin
                scope.setdefault("state", {}).update(caller=found, origin=origin or "unknown")
                await self._app(scope, receive, send)
                return
            refusal = found
        await _in_kind(refusal, str(scope["path"]))(scope, receive, send)

    def _wrong_address(self, headers: Headers) -> PlainTextResponse | None:
        # DNS rebinding: a web site can make its own host name point here.
        if self._local and _name(headers.get("host", "")) not in self._names:
            return PlainTextResponse("this server accepts requests for localhost only\n", 421)
        return None

    def _proxy_of(self, headers: Headers, client: str) -> TrustedProxy | None:
        """Return the proxy whose word a request is; None: nobody's."""
        token = _token_in(headers.get("authorization", ""))
        return self._proxy if self._proxy is not None and self._proxy.says(headers, client, token) else None

    def _caller(self, headers: Headers, path: str) -> Caller | PlainTextResponse:
        sent = headers.get("authorization", "")
        # Where all may read, a wrong token is no hindrance, except where it may have been meant for a change.
        is_open = (self._open or path == METRICS) and not (sent and path.startswith((API, MCP)))
        try:
            found = self._owner_of(sent)
            if found is not None:
                return found
            if self._token is None and is_open:
                return ANONYMOUS
            takes_one = self._token is not None or (self._tokens is not None and self._tokens.exist())
        except AirExecutorError as error:
            log.warning("tokens cannot be read: %s", error)
            return PlainTextResponse("the tokens cannot be read; the manager's log says why\n", 503)
        if sent or takes_one:
            return _unauthorized(bearer=sent.lower().startswith("bearer "))
        return PlainTextResponse("set AIR_TOKEN on the manager, or create a token, to allow remote access\n", 403)

    def _owner_of(self, header: str) -> Caller | None:
        """Return whose token an Authorization header has.

        Raises:
            StoreError: the file of tokens cannot be read.
        """
        token = _token_in(header)
        if token is None:
            return None
        if self._token is not None and hmac.compare_digest(token.encode(), self._token.encode()):
            return Caller("AIR_TOKEN", VIEWER)
        return None if self._tokens is None else self._tokens.caller(token, time.time())


def _person(proxy: TrustedProxy, headers: Headers) -> Caller | PlainTextResponse:
    """Return whom the proxy has signed in."""
    refusal = "you are signed in, and none of your groups has a role here\n"
    return proxy.caller(headers) or PlainTextResponse(refusal, 403)


def _foreign_change(method: str, headers: Headers) -> PlainTextResponse | None:
    """Refuse a change that a browser sends for a page of another site: it adds the password that it knows."""
    if method in _READING:
        return None
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if site not in {"same-origin", "none"} or (
        origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    ):
        return PlainTextResponse("changes are accepted from pages of this server only\n", 403)
    return None


def _in_kind(refusal: PlainTextResponse, path: str) -> Response:
    """Return a refusal as what is asked at this path expects it."""
    return as_problem(refusal) if path.startswith(API) else refusal


def _name(host: str) -> str:
    """Return a Host header without its port; empty if it is no host and port."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found[1].lower()


def _token_in(header: str) -> str | None:
    """Return the token of a header: a bearer token, or the password of basic authentication; None: neither."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    elif kind.lower() != "bearer":
        return None
    return value.strip()


def _unauthorized(*, bearer: bool) -> PlainTextResponse:
    """Refuse a caller. One that sent a bearer token is a program, or the page: no browser shall ask for a password."""
    challenge = 'Basic realm="Air-Executor: any user name, a token as password", charset="UTF-8"'
    response = PlainTextResponse("send a token as a bearer token, or as the password\n", 401)
    response.headers.append("www-authenticate", "Bearer")
    if not bearer:
        response.headers.append("www-authenticate", challenge)
    return response
