"""Which engines cannot be used: those that only resemble Docker, and those that map users to others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from air_executor.errors import UnsupportedBackendError

REMEDY = "use a Docker Engine that runs as root, such as `export DOCKER_HOST=unix:///var/run/docker.sock`"
_PODMAN = "Libpod-Api-Version"
"""A header of each answer of Podman (pkg/api/server)."""
_MAPPINGS = {"name=rootless": "a rootless engine", "name=userns": "an engine with userns-remap"}


def refuse_podman(headers: Mapping[str, str]) -> None:
    """Refuse an engine by the headers of one of its answers.

    Podman deletes a running container where Docker refuses to, and answers 500 where Docker says which name is taken:
    with it a task could be killed, or hang.

    Raises:
        UnsupportedBackendError: it is Podman.
    """
    if _PODMAN in headers:
        msg = f"the engine is Podman {headers[_PODMAN]}, whose API differs in what tasks rely on; {REMEDY}"
        raise UnsupportedBackendError(msg)


def mapping_of(info: Mapping[str, Any]) -> str | None:
    """Return what kind of engine it is, in words, if it gives tasks other users than it is told; `info`: of itself."""
    options = {part for option in info.get("SecurityOptions") or () for part in str(option).split(",")}
    return next((words for option, words in _MAPPINGS.items() if option in options), None)


def refuse_mapping(info: Mapping[str, Any]) -> None:
    """Refuse an engine that maps users, for a manager that is outside of it.

    Raises:
        UnsupportedBackendError: it does.
    """
    if (kind := mapping_of(info)) is not None:
        msg = f"{kind} runs tasks as a subordinate user, which cannot write the state directory; {REMEDY}"
        raise UnsupportedBackendError(msg)
