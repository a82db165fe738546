"""Checks of what a task says of its container: its image, its network, and the places of its mounts.

As `checks`: `types` binds them to fields, and each returns the one normal form. Standard library alone.
"""

from __future__ import annotations

import re

from air_executor.model.checks import check_path
from air_executor.model.quote import quoted
from air_executor.model.refusal import RefusalError, wrong

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_IMAGE = re.compile(
    rf"(?:(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,})?"
)
"""The grammar of image references, as registries and engines share it."""
_LONGEST_IMAGE = 512
_KERNELS = ("/proc", "/sys", "/dev")
"""Folders of a container that its platform fills."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a place in a container
NETWORK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_NETWORK = re.compile(NETWORK_PATTERN)


def check_target(value: object) -> str:
    """Check a place in a container."""
    path = check_path(value)
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not path.startswith("/") or not parts or ".." in parts:
        raise wrong("an absolute path below / and without ..", value)
    target = "/" + "/".join(parts)  # one way to write a place, for who must compare it: //air is /air
    if f"/{parts[0]}" in _KERNELS and target != _SHARED_MEMORY:
        msg = f"must not lie in /{parts[0]}, which the platform fills, got {quoted(value)}"
        raise RefusalError(msg)
    return target


def check_image(value: object) -> str:
    """Check the name of an image."""
    if not isinstance(value, str) or not is_image_reference(value):
        raise wrong('the name of an image, like "python:3.12-slim" or "registry.example/team/tool@sha256:..."', value)
    return value


def is_image_reference(text: str) -> bool:
    """Tell whether a text names an image: [registry/]path[:tag][@digest]."""
    return len(text) <= _LONGEST_IMAGE and _IMAGE.fullmatch(text) is not None


def check_network(value: object) -> str:
    """Check the name of a network."""
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        raise wrong('"none", "default" or the name of a network', value)
    return value
