"""How these tests ask a manager's server."""

from __future__ import annotations

import http.client
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One answer."""

    status: int
    body: str
    headers: dict[str, str]


def get(port: int, path: str, headers: dict[str, str] | None = None, *, host: str = "127.0.0.1") -> Answer:
    """Ask for one path.

    Raises:
        OSError: nobody listens.
    """
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.read().decode(), found)
    finally:
        connection.close()


def values(text: str) -> dict[str, float]:
    """Return the samples of a scrape by name and labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
