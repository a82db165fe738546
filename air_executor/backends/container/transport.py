"""What both container platforms have in common of runs whose files come over HTTP: settings, and the carrier."""

from __future__ import annotations

from air_executor.errors import BadInputError
from air_executor.settings import Settings, TransportSettings

PROGRAM = "air-carrier"
"""In the image `runner`."""
STOP_MARGIN = 15
"""Seconds beyond those of its task that a carrier has to end: what a stopped task has left is delivered in them."""


def check(settings: Settings, group: TransportSettings) -> None:
    """Check that runs can reach the manager, as far as settings tell.

    Raises:
        BadInputError: one is missing.
    """
    name = f"{group.variable}_TRANSPORT"
    if group.carries_runs and group.transport_url is None:
        msg = f"set {name}_URL to the address at which runs reach this manager; {name} is http"
        raise BadInputError(msg)
    if group.carries_runs and settings.http_port == 0:
        msg = f"set AIR_HTTP_PORT: {name} is http, and runs need it"
        raise BadInputError(msg)


def authorities(group: TransportSettings) -> str | None:
    """Return the certificates that runs trust besides the system's, as PEM; None: no others.

    Raises:
        BadInputError: the file cannot be read.
    """
    if group.transport_ca is None:
        return None
    try:
        with open(group.transport_ca, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError) as error:
        msg = f"{group.variable}_TRANSPORT_CA: {group.transport_ca} cannot be read: {error}"
        raise BadInputError(msg) from error
