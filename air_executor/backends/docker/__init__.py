"""The backend `docker`. Importing it imports the Docker SDK, so only `wiring` does, and only when it is chosen."""

from __future__ import annotations

from air_executor.backends.docker.docker_backend import DockerBackend
from air_executor.backends.docker.docker_setup import make_backend

__all__ = ["DockerBackend", "make_backend"]
