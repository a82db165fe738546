"""The address of a manager's server, as people give it."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from air_executor.errors import BadInputError

API = "/api/v1"


class ServerAddress(NamedTuple):
    """Where a server is."""

    secure: bool
    """Over TLS."""
    host: str
    port: int
    prefix: str
    """What a reverse proxy has before its paths; empty, or begins with a slash."""

    @property
    def url(self) -> str:
        """The address as text, without a slash at the end."""
        kind = "https" if self.secure else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.secure else 80)
        return f"{kind}://{host}{'' if usual else f':{self.port}'}{self.prefix}"

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_address(text: str) -> ServerAddress:
    """Return the address that a text is.

    Raises:
        BadInputError: it is none; a password in it is not repeated.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.username is not None or parts.password is not None:
        raise BadInputError("the address of a server has no user and no password; the token is AIR_TOKEN")
    plain = not (parts.query or parts.fragment) and parts.path.isascii() and parts.path.isprintable()
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain or " " in parts.path:
        msg = f"the address of a server must be like https://air.example.com or http://127.0.0.1:9464, got {text!r}"
        raise BadInputError(msg)
    secure = parts.scheme == "https"
    path = parts.path.rstrip("/").removesuffix(API)
    return ServerAddress(secure, parts.hostname, port or (443 if secure else 80), path)
