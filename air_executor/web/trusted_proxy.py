"""People who are signed in by a reverse proxy: it says in headers who they are, and proves that it is itself.

The headers are those of oauth2-proxy. They count only if the connection comes from the proxy's address and the request
has the shared secret: the password of basic authentication, as oauth2-proxy sends it. Everybody can send such headers;
without both they mean nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from air_executor.errors import BadInputError
from air_executor.model.callers import ROLES, Caller, Role
from air_executor.settings.http_types import EVERYBODY
from air_executor.store.tokens import MIN_TOKEN

if TYPE_CHECKING:
    from starlette.datastructures import Headers

USER = "x-forwarded-user"
EMAIL = "x-forwarded-email"
GROUPS = "x-forwarded-groups"
CLIENT = "x-forwarded-for"
MAX_NAME = 200
_NAME = re.compile(f"[!-~]{{1,{MAX_NAME}}}")


class TrustedProxy:
    """The proxy whose word counts."""

    def __init__(self, addresses: Sequence[str], secret: str, roles: Mapping[str, str]) -> None:
        """`addresses` are networks, `roles` are those of groups.

        Raises:
            BadInputError: something is missing, or the secret can be guessed.
        """
        if not (addresses and secret and roles):
            msg = "proxy: set all of AIR_PROXY_ADDRESSES, AIR_PROXY_SECRET and AIR_PROXY_ROLES, or none"
            raise BadInputError(msg)
        if len(secret) < MIN_TOKEN:
            msg = f"proxy.secret: must have at least {MIN_TOKEN} random characters"
            raise BadInputError(msg)
        self._networks = [ipaddress.ip_network(one) for one in addresses]
        self._secret = secret.encode()
        self._roles = roles

    def says(self, headers: Headers, client: str, password: str | None) -> bool:
        """Tell whether a request is the proxy's own word: by the client's address and the password that it sent."""
        known = password is not None and hmac.compare_digest(password.encode(), self._secret)
        return known and self._is_at(client) and USER in headers

    def _is_at(self, client: str) -> bool:
        found = _address(client.partition("%")[0])
        if found is None:
            return False
        address = ipaddress.ip_address(found)
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)

    def client(self, headers: Headers) -> str | None:
        """Return the address of the client that the proxy itself saw: what comes before it, anybody may have sent."""
        nearest = headers.getlist(CLIENT)[-1:]
        return _address(nearest[0].rpartition(",")[2].strip()) if nearest else None

    def caller(self, headers: Headers) -> Caller | None:
        """Return who it says is signed in; None: nobody with a role here.

        A name is the address of e-mail, or begins with `user:`, so that it is never that of a token.
        """
        user, email = (headers.getlist(name) for name in (USER, EMAIL))
        if len(user) != 1 or len(email) > 1:  # not of one mind
            return None
        name = email[0] if email and "@" in email[0] else f"user:{user[0]}"
        groups = {one.strip() for line in headers.getlist(GROUPS) for one in line.split(",")}
        # A group of this name is nobody's: it stands for everybody.
        found = [self._roles[group] for group in (groups - {EVERYBODY}) | {EVERYBODY} if group in self._roles]
        if not found or user[0] == "" or not _NAME.fullmatch(name):
            return None
        return Caller(name, cast(Role, max(found, key=lambda role: ROLES.index(cast(Role, role)))))


def _address(text: str) -> str | None:
    """Return an IP address, written as everybody does; None: it is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
