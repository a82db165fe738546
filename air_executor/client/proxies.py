"""Connections to a server, through the proxy that the environment names for it, as other programs do."""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import unquote, urlsplit

from air_executor.client.server_address import ServerAddress
from air_executor.errors import BadInputError


def open_connection(address: ServerAddress, timeout: float) -> http.client.HTTPConnection:
    """Return a connection that is not open yet.

    Raises:
        BadInputError: the address of the proxy is wrong.
    """
    host, port, proxy = address.host, address.port, _proxy_for(address)
    if proxy is not None:
        host, port = proxy[0], proxy[1]
    made: http.client.HTTPConnection
    if address.secure:
        made = http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    else:
        made = http.client.HTTPConnection(host, port, timeout=timeout)
    if proxy is not None:
        made.set_tunnel(address.host, address.port, proxy[2])
    return made


def _proxy_for(address: ServerAddress) -> tuple[str, int, dict[str, str]] | None:
    """Return host, port and headers of the proxy for a server, or None."""
    if address.is_local:
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - only for other machines

    given = getproxies().get("https" if address.secure else "http")
    if not given or proxy_bypass(f"{address.host}:{address.port}"):
        return None
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if host is None:
        raise BadInputError("the address of the proxy (HTTPS_PROXY, HTTP_PROXY) is wrong")
    headers = {}
    if parts.username is not None:
        both = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(both).decode()}"
    return host, port, headers
