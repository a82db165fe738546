"""From a launch to a container: what it is called, what it may do and what it sees. Pure but for looking at paths.

Hardened by default: no root, no capabilities, no new privileges, read-only image, limits for memory, CPUs and
processes, and of the state directory only what is the run's own. Used by `backend.py` alone.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.backends.base import Launch
from air_executor.backends.container import inside
from air_executor.backends.docker.path_mapping import PathMapping
from air_executor.errors import SpawnRejectedError
from air_executor.model.names import Slot, runner_name
from air_executor.settings import DockerSettings

LABEL = "air-executor"
INSTANCE, STATE_DIR, JOB, UID = f"{LABEL}.instance", f"{LABEL}.state-dir", f"{LABEL}.job", f"{LABEL}.uid"
RUN, TASK, SLOT, GRACE, VERSION = (f"{LABEL}.{name}" for name in ("run", "task", "slot", "grace", "version"))

DEFAULT_IMAGE = "python:3.12-slim"
LOG_SIZE = "10m"
"""How much of a task's output the engine keeps for `docker logs`; all of it is in the run's `output.log`."""
MARGIN_SECONDS = 2.0
"""How much longer than the grace we wait: the runner itself kills its command after it, and then writes its end."""
_NOTHING = {"SizeBytes": 4096, "Mode": 0o555}
_OWN_NETWORK, _NO_NETWORK = "default", "none"


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What all containers of one manager have in common."""

    state_dir: str
    prefix: str
    version: str
    image: str
    """Of tasks that name none."""
    user: tuple[int, int]
    places: PathMapping
    settings: DockerSettings

    location: str
    """Where the state directory lies for the engine."""

    @property
    def instance(self) -> str:
        """The identity of the state directory among all that use the engine."""
        return hashlib.sha256(self.location.encode()).hexdigest()[:12]

    def name(self, slot: Slot) -> str:
        """Return the name of a slot's container."""
        return runner_name(self.prefix, slot)

    def image_of(self, options: Mapping[str, Any]) -> str:
        """Return the image that a task runs in."""
        return str(options.get("image") or self.image)


def container_config(site: EngineConfig, launch: Launch, python_path: str | None) -> dict[str, Any]:
    """Return the body of the engine's `POST /containers/create`. `python_path` is the image's own PYTHONPATH.

    Raises:
        SpawnRejectedError: the task asks for a mount or a network that it may not have.
        BadInputError: the state directory is where runners cannot see it.
    """
    settings, options = site.settings, launch.options
    resources = options.get("resources", {})
    memory = int(resources.get("memory") or settings.memory)
    cpus = resources.get("cpu") or settings.cpus
    uid, gid = site.user
    env = inside.environment(launch, python_path)
    host: dict[str, Any] = {
        "Init": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": settings.read_only,
        "Tmpfs": _temporary(settings, options),
        "PidsLimit": settings.pids,
        "Memory": memory,
        "MemorySwap": memory,
        "NetworkMode": network_of(site, options),
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_SIZE, "max-file": "1"}},
        "RestartPolicy": {"Name": "no"},
        "Mounts": list(_mounts(site, launch)),
    }
    if cpus:
        host["NanoCpus"] = round(cpus * 1e9)
    if gpus := resources.get("gpu"):
        host["DeviceRequests"] = [{"Driver": "", "Count": gpus, "Capabilities": [["gpu"]]}]
    words = inside.command(launch)
    return {
        "Image": site.image_of(options),
        "Entrypoint": words[:1],
        "Cmd": words[1:],
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": f"{uid}:{gid}",
        "WorkingDir": "/",
        "Hostname": launch.slot.job,
        "Labels": labels(site, launch),
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "StopTimeout": math.ceil(launch.grace + MARGIN_SECONDS),
        "HostConfig": host,
    }


def labels(site: EngineConfig, launch: Launch) -> dict[str, str]:
    """Return what tells whose a container is."""
    return {
        INSTANCE: site.instance,
        STATE_DIR: site.location,
        JOB: launch.slot.job,
        UID: launch.uid,
        RUN: launch.run,
        TASK: launch.task,
        SLOT: str(launch.slot.number),
        GRACE: inside.seconds(launch.grace),
        VERSION: site.version,
    }


def network_of(site: EngineConfig, options: Mapping[str, Any]) -> str:
    """Return the network that a task gets.

    Raises:
        SpawnRejectedError: it may not have the one that it names.
    """
    name = str(options.get("network") or _OWN_NETWORK)
    if name == _OWN_NETWORK:
        return site.settings.network
    if name in {_NO_NETWORK, site.settings.network, *site.settings.allow_networks}:
        return name
    msg = f"network {name} is not allowed; the operator allows networks with AIR_DOCKER_ALLOW_NETWORKS"
    raise SpawnRejectedError(msg)


def _temporary(settings: DockerSettings, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the task's /tmp, unless it mounts something there: the engine would hide that without a word."""
    if any(mount["target"] == inside.TEMPORARY for mount in options.get("mounts", ())):
        return {}
    return {inside.TEMPORARY: f"rw,exec,nosuid,nodev,mode=1777,size={settings.tmp_size}"}


def _mounts(site: EngineConfig, launch: Launch) -> Iterator[dict[str, Any]]:
    places = site.places
    yield places.mount(launch.out_dir, inside.OUT)
    yield places.mount(launch.workspace, inside.WORKSPACE)
    yield places.mount(launch.bin_dir, inside.BIN, read_only=True)
    yield from asked_mounts(site, launch.project, launch.options)


def asked_mounts(site: EngineConfig, project: str, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the mounts that a task asks for, as the paths lead now.

    Raises:
        SpawnRejectedError: it may not have one of them.
        BadInputError: one is where runners cannot see it.
    """
    places = site.places
    project, state = os.path.realpath(project), os.path.realpath(site.state_dir)
    for mount in options.get("mounts", ()):
        source, target = str(mount["source"]), str(mount["target"])
        if target == "/air" or target.startswith("/air/"):
            msg = f"mount {source}: {target} is taken: /air belongs to Air-Executor"
            raise SpawnRejectedError(msg)
        read_only = bool(mount.get("read_only"))
        if source.startswith("/"):
            yield _foreign_mount(site, source, target, read_only=read_only)
            continue
        path = os.path.realpath(os.path.join(project, source))
        if not _within(path, project):
            msg = f"mount {source}: it leads out of the project folder to {path}; name a path below that folder"
            raise SpawnRejectedError(msg)
        if _within(path, state):
            msg = f"mount {source}: it lies in the state directory, of which a task sees only what is its own"
            raise SpawnRejectedError(msg)
        if not os.path.exists(path):
            msg = f"mount {source}: there is no {path}"
            raise SpawnRejectedError(msg)
        yield places.mount(path, target, read_only=read_only)
        if _within(state, path):
            hidden = f"{target.rstrip('/')}/{os.path.relpath(state, path)}"
            yield {
                "Type": "tmpfs",
                "Target": hidden,
                "ReadOnly": True,
                "TmpfsOptions": _NOTHING,
            }


def _foreign_mount(site: EngineConfig, source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    """Only what the operator listed, letter by letter: below it a task could have left a symlink to anywhere."""
    if os.path.normpath(source) not in {os.path.normpath(path) for path in site.settings.allow_mounts}:
        msg = (
            f"mount {source}: only folders of the project can be mounted, and what the operator lists in "
            "AIR_DOCKER_ALLOW_MOUNTS"
        )
        raise SpawnRejectedError(msg)
    return {"Type": "bind", "Source": os.path.normpath(source), "Target": target, "ReadOnly": read_only}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
