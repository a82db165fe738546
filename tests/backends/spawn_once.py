"""A manager that spawns one run, says so, and waits to be killed: `python -m tests.backends.spawn_once KIND JSON`.

The JSON has what its backend is made of, and the fields of the launch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from air_executor.backends.base import Backend, Launch
from air_executor.backends.docker import DockerBackend
from air_executor.backends.docker import make_backend as make_docker_backend
from air_executor.backends.docker.container_cache import Phase
from air_executor.backends.kubernetes import make_backend as make_kubernetes_backend
from air_executor.backends.local.local_backend import LocalBackend
from air_executor.backends.local.psutil_processes import PsutilProcesses
from air_executor.backends.local.system_processes import system_processes
from air_executor.model.names import Slot
from air_executor.store.layout import Layout
from tests.backends.rig import HOST, docker_settings, kubernetes_settings
from tests.conftest import wait_for


def make(kind: str, *parts: Any) -> Backend:  # noqa: ANN401 - of any backend
    """Return the backend of this kind."""
    if kind == "docker":
        return make_docker_backend(docker_settings(*parts), "0")
    if kind == "kubernetes":
        return make_kubernetes_backend(kubernetes_settings(*parts), "0")
    root, portable = parts
    processes = PsutilProcesses() if portable else system_processes()
    return LocalBackend(Layout(root), HOST, environ=os.environ, processes=processes)


def main(kind: str, words: str) -> None:
    """Spawn the run."""
    parts, fields = json.loads(words)
    backend = make(kind, *parts)
    slot = fields["slot"] = Slot(*fields["slot"])
    backend.spawn(Launch(**fields))
    if isinstance(backend, DockerBackend):
        cache = backend._cache
        wait_for(lambda: (one := cache.in_slot(slot)) is not None and one.phase is Phase.RUNNING, what="the start")
    sys.stdout.write("spawned\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
