"""A manager that spawns one run, says so, and waits to be killed.

It is forked from a process that has imported the local backend; what others need is imported here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from air_executor.backends.base import Backend, Launch
from air_executor.backends.local.cgroups import open_cgroups
from air_executor.backends.local.local_backend import LocalBackend
from air_executor.backends.local.psutil_processes import PsutilProcesses
from air_executor.backends.local.system_processes import system_processes
from air_executor.model.names import Host
from air_executor.store.layout import Layout

HOST = Host("here", "0f0f0f0f-boot")


def make(kind: str, *parts: Any) -> Backend:  # noqa: ANN401 - of any backend
    """Return the backend of this kind."""
    if kind == "docker":
        from air_executor.backends.docker import make_backend as make_docker_backend  # noqa: PLC0415 - see the module
        from tests.backends.rig import docker_settings  # noqa: PLC0415

        return make_docker_backend(docker_settings(*parts), "0", lambda *_: None)
    if kind == "kubernetes":
        from air_executor.backends.kubernetes import make_backend as make_kubernetes_backend  # noqa: PLC0415
        from tests.backends.rig import kubernetes_settings  # noqa: PLC0415

        return make_kubernetes_backend(kubernetes_settings(*parts), "0", lambda *_: None)
    if kind == "kubernetes-http":
        from air_executor.backends.kubernetes import make_backend as make_kubernetes_backend  # noqa: PLC0415
        from air_executor.wiring import run_tokens  # noqa: PLC0415
        from tests.backends.over_http import over_http_settings  # noqa: PLC0415

        settings = over_http_settings(*parts)
        tokens = run_tokens(Layout(settings.state_dir))
        return make_kubernetes_backend(settings, "0", lambda *_: None, make_token=tokens)
    root, portable, in_cgroups = parts
    processes = PsutilProcesses() if portable else system_processes()
    make_cgroups = partial(open_cgroups, root) if in_cgroups else None
    return LocalBackend(Layout(root), HOST, environ=os.environ, processes=processes, make_cgroups=make_cgroups)


def main(kind: str, parts: Sequence[Any], launch: Launch, environ: Mapping[str, str], done: Connection) -> None:
    """Spawn the run, with a backend that is made of these parts."""
    os.environ.clear()
    os.environ.update(environ)
    backend = make(kind, *parts)
    backend.spawn(launch)
    if kind == "docker":
        from tests.backends.rig import await_container  # noqa: PLC0415

        await_container(backend, launch.slot)
    done.send("spawned")
    signal.pause()
