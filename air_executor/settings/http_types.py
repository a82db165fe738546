"""Types of the settings of the server: its address for browsers, and the proxy that it trusts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from air_executor.errors import BadInputError
from air_executor.model.callers import ROLES
from air_executor.model.quote import quoted
from air_executor.settings.setting_types import Shown, parsed

_MAX_URL = 4096
_MAX_ENTRIES = 1000
_STORES = {"s3", "gs", "az", "file"}
EVERYBODY = "*"
"""Instead of a group: everybody whom the proxy has signed in."""


def _public_url(value: object) -> str:
    """Accept the address of a page; no user and no password, for it is printed and sent to people."""
    text = value if isinstance(value, str) and re.fullmatch(r"[!-~]+", value) and len(value) <= _MAX_URL else ""
    try:
        parts = urlsplit(text)
        valid = parts.port is None or parts.port >= 0
    except ValueError:
        parts, valid = urlsplit(""), False
    extra = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not parts.hostname or not valid or extra:
        msg = f"must be like https://air.example.com/, without a user, a password or a query, got {quoted(value)}"
        raise BadInputError(msg)
    return parts.geturl().rstrip("/") + "/"


def _store_url(value: object) -> str:
    """Accept the address of an object store. It is printed and stored, so credentials have no place in it."""
    text = value if isinstance(value, str) and re.fullmatch(r"[!-~]+", value) and len(value) <= _MAX_URL else ""
    parts = urlsplit(text)
    there = parts.hostname if parts.scheme != "file" else not parts.netloc and parts.path.startswith("/")
    if parts.scheme not in _STORES or not there or "@" in parts.netloc or parts.query or parts.fragment:
        raise BadInputError(
            "must be like s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder,"
            " without credentials or a query"
        )
    return text.rstrip("/")


def known_url(public_url: str | None) -> str | None:
    """Return the address for browsers; None where nobody knows: Compose publishes port 0 at a random one."""
    return None if public_url is None or urlsplit(public_url).port == 0 else public_url


def path_prefix(public_url: str | None) -> str:
    """Return what the address for browsers has before the server's own paths; empty, or begins with a slash."""
    return "" if public_url is None else urlsplit(public_url).path.rstrip("/")


def _networks(value: object) -> tuple[str, ...]:
    given: Any = value.split(",") if isinstance(value, str) else value
    try:
        return tuple(str(ipaddress.ip_network(one.strip(), strict=False)) for one in given)
    except (AttributeError, TypeError, ValueError):
        msg = f'must be addresses or networks, like "127.0.0.1,10.42.0.0/16", got {quoted(value)}'
        raise BadInputError(msg) from None


def _group_roles(value: object) -> dict[str, str]:
    """Accept a table, or text like `air-admins=admin,*=viewer`; a group may contain an equals sign (LDAP)."""
    given: Any = dict(one.rpartition("=")[::2] for one in value.split(",")) if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not all(
        isinstance(group, str) and group.strip() and role in ROLES for group, role in given.items()
    ):
        roles = f"{', '.join(ROLES[:-1])} or {ROLES[-1]}"
        msg = f'must be groups and roles ({roles}), like "air-admins=admin,*=viewer", got {quoted(value)}'
        raise BadInputError(msg)
    return {group.strip(): role for group, role in given.items()}


PublicUrl = Annotated[str, parsed(_public_url)]
StoreUrl = Annotated[str, parsed(_store_url)]
Networks = Annotated[
    tuple[str, ...], Field(max_length=_MAX_ENTRIES), parsed(_networks), Shown(lambda value: ",".join(value) or "none")
]
GroupRoles = Annotated[
    Mapping[str, str],
    Field(max_length=_MAX_ENTRIES),
    parsed(_group_roles),
    Shown(lambda value: ",".join(f"{group}={role}" for group, role in value.items()) or "none"),
]
