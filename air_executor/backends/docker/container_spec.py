"""From a launch to a container's description: its name, rights, limits and mounts. Pure, except that it resolves paths.

Hardened by default: no root, no capabilities, no new privileges, read-only image, limits for memory, CPUs and
processes, and of the state directory only what is the run's own. Used by the backend alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from air_executor.backends.base import KILL_MARGIN, Launch, LaunchWorktree, format_seconds
from air_executor.backends.container import inside
from air_executor.backends.container.platform_config import PlatformConfig
from air_executor.backends.container.run_labels import RunLabels
from air_executor.backends.docker.images import ImageFacts
from air_executor.backends.docker.path_mapping import PathMapping
from air_executor.errors import SpawnRejectedError
from air_executor.model.names import platform_name
from air_executor.settings import DockerSettings

LABELS = RunLabels(".")
INSTANCE, STATE_DIR, TASK, GRACE, VERSION, IMAGE, SERVICE = map(
    LABELS.key, ("instance", "state-dir", "task", "grace", "version", "image", "service")
)

LOG_SIZE = "10m"
"""How much of a task's output the engine keeps for `docker logs`; all of it is in the run's `output.log`."""
_NOTHING = {"SizeBytes": 4096, "Mode": 0o555}
_OWN_NETWORK, _NO_NETWORK = "default", "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig(PlatformConfig):
    """What all containers of one manager have in common."""

    label_keys: ClassVar[RunLabels] = LABELS
    path_mapping: PathMapping
    settings: DockerSettings


def container_config(
    config: EngineConfig, launch: Launch, image: ImageFacts, *, network: str | None = None
) -> dict[str, Any]:
    """Return the body of the engine's `POST /containers/create`.

    `network`: that of another container, which the runner shares, in place of the task's own.

    Raises:
        SpawnRejectedError: the task asks for a mount or a network that isn't allowed.
        BadInputError: runners cannot see the state directory.
    """
    settings, options = config.settings, launch.options
    resources = options.get("resources", {})
    uid, gid = config.user
    env = inside.environment(launch, config.image_of(options))
    host: dict[str, Any] = {
        **host_config(settings, resources),
        "ReadonlyRootfs": settings.read_only,
        "Tmpfs": _temporary(settings, options),
        "NetworkMode": network or network_of(config, options),
        "Mounts": list(_mounts(config, launch, image)),
    }
    if gpus := resources.get("gpu"):
        host["DeviceRequests"] = [{"Driver": "", "Count": gpus, "Capabilities": [["gpu"]]}]
    own_host = {} if network else {"Hostname": platform_name(launch.slot.job)}
    command = [*launch.runner(inside.BIN, image.machine), *inside.arguments(launch)]
    return {
        "Image": config.image_of(options),
        "Entrypoint": command[:1],
        "Cmd": command[1:],
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": f"{uid}:{gid}",
        "WorkingDir": "/",
        **own_host,
        "Labels": make_labels(config, launch, image),
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "StopTimeout": math.ceil(launch.grace + KILL_MARGIN),
        "HostConfig": host,
    }


def host_config(settings: DockerSettings, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all containers have in common of a body's `HostConfig`: rights and limits."""
    memory = int(resources.get("memory") or settings.memory)
    cpus = resources.get("cpu") or settings.cpus
    return {
        "Init": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": settings.pids,
        "Memory": memory,
        "MemorySwap": memory,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_SIZE, "max-file": "1"}},
        "RestartPolicy": {"Name": "no"},
        **({"NanoCpus": round(cpus * 1e9)} if cpus else {}),
    }


def make_labels(config: EngineConfig, launch: Launch, image: ImageFacts) -> dict[str, str]:
    """Return a container's labels: its identity, and what helps people."""
    return {
        **LABELS.make(config.instance, launch),
        STATE_DIR: config.location,
        TASK: launch.task,
        GRACE: format_seconds(launch.grace),
        VERSION: config.version,
        **({} if image.digest is None else {IMAGE: image.digest}),
    }


def network_of(config: EngineConfig, options: Mapping[str, Any]) -> str:
    """Return the network that a task gets.

    Raises:
        SpawnRejectedError: the network that it names isn't allowed.
    """
    name = str(options.get("network") or _OWN_NETWORK)
    if name == _OWN_NETWORK:
        return config.settings.network
    if name in {_NO_NETWORK, config.settings.network, *config.settings.allow_networks}:
        return name
    msg = f"network {name} is not allowed; the operator allows networks with AIR_DOCKER_ALLOW_NETWORKS"
    raise SpawnRejectedError(msg)


def _temporary(settings: DockerSettings, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the task's /tmp, unless it mounts something there, which the engine would hide silently."""
    if any(mount["target"] == inside.TEMPORARY for mount in options.get("mounts", ())):
        return {}
    return temporary(settings)


def temporary(settings: DockerSettings) -> dict[str, str]:
    """Return a container's /tmp."""
    return {inside.TEMPORARY: f"rw,exec,nosuid,nodev,mode=1777,size={settings.tmp_size}"}


def carry_bytes(launch: Launch) -> Launch:
    """Return a launch whose secrets are UTF-8 text, which is all that the engine's JSON carries.

    A shell in the container turns the others back into their bytes; it gets only their names as arguments.
    """
    escaped = {}
    for name, value in launch.secrets.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            escaped[name] = "".join(f"\\0{byte:03o}" for byte in value.encode("utf-8", "surrogateescape"))
    if not escaped:
        return launch
    # The x keeps the line ends of a value, which $() would drop.
    steps = [f'{name}=$(printf %bx "${name}"); {name}=${{{name}%x}}; export {name}' for name in escaped]
    argv = ("sh", "-c", "; ".join([*steps, 'exec "$@"']), "sh", *launch.argv)
    return replace(launch, argv=argv, secrets={**launch.secrets, **escaped})


def _mounts(config: EngineConfig, launch: Launch, image: ImageFacts) -> Iterator[dict[str, Any]]:
    mapping = config.path_mapping
    yield mapping.mount(launch.out_dir, inside.OUT)
    yield mapping.mount(launch.workspace, inside.WORKSPACE)
    yield mapping.mount(launch.bin_dir, inside.BIN, read_only=True)
    for cache in launch.caches:
        yield mapping.mount(cache.path, inside.cache_target(cache))
    yield from requested_mounts(config, launch.project, launch.options, launch.worktree)
    if launch.worktree is not None:
        yield from worktree_mounts(config.path_mapping, launch)
    if config.settings.read_only:
        # The engine would give an image's own volumes a writable folder on its disk, without a limit.
        taken = {inside.TEMPORARY, *(os.path.normpath(str(one["target"])) for one in launch.options.get("mounts", ()))}
        for path in sorted({os.path.normpath(volume) for volume in image.volumes} - taken):
            limits = {"SizeBytes": config.settings.tmp_size, "Mode": 0o1777}
            yield {"Type": "tmpfs", "Target": path, "TmpfsOptions": limits}


def requested_mounts(
    config: EngineConfig, project: str, options: Mapping[str, Any], worktree: LaunchWorktree | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the mounts that a task asks for, with their paths resolved now.

    Raises:
        SpawnRejectedError: one of them isn't allowed.
        BadInputError: runners cannot see one of them.
    """
    project, state = os.path.realpath(project), os.path.realpath(config.state_dir)
    for mount in options.get("mounts", ()):
        source, target = str(mount["source"]), str(mount["target"])
        inside.check_mount_target(source, target)
        read_only = bool(mount.get("read_only"))
        if source.startswith("/"):
            yield _host_mount(config, source, target, read_only=read_only)
            continue
        path = os.path.realpath(os.path.join(project, source))
        if worktree is not None and path == project:
            yield config.path_mapping.mount(worktree.path, target, read_only=read_only)
            continue
        if not _within(path, project):
            msg = f"mount {source}: it leads out of the project folder to {path}; name a path below that folder"
            raise SpawnRejectedError(msg)
        if _within(path, state):
            msg = f"mount {source}: it lies in the state directory, where a task sees only its own run and workspace"
            raise SpawnRejectedError(msg)
        if not os.path.exists(path):
            msg = f"mount {source}: there is no {path}"
            raise SpawnRejectedError(msg)
        yield config.path_mapping.mount(path, target, read_only=read_only)
        if _within(state, path):
            hidden = f"{target.rstrip('/')}/{os.path.relpath(state, path)}"
            yield {
                "Type": "tmpfs",
                "Target": hidden,
                "ReadOnly": True,
                "TmpfsOptions": _NOTHING,
            }


def worktree_mounts(mapping: PathMapping, launch: Launch) -> Iterator[dict[str, Any]]:
    """Yield the mounts that git in a worktree needs, at our own paths, which the worktree names.

    The task can commit to its branch and those beside it; hooks and settings of the repository stay out of its reach.

    Raises:
        SpawnRejectedError: the task does not mount the project folder, or that is not the top of its repository.
        BadInputError: runners cannot see the repository.
    """
    worktree = launch.worktree
    assert worktree is not None  # noqa: S101 - the caller asks
    mounted = any(os.path.normpath(str(one["source"])) == "." for one in launch.options.get("mounts", ()))
    if worktree.prefix or not mounted:
        needs = "the project folder to be the top of its repository" if worktree.prefix else "the project to be mounted"
        msg = f"worktree: in a container it needs {needs}, as `mounts: [{{source: ., target: /project}}]`"
        raise SpawnRejectedError(msg)
    repository = worktree.repository
    yield mapping.mount(repository, repository, read_only=True)
    for folder in (f"{repository}/objects", *inside.worktree_folders(worktree)):
        yield mapping.mount(folder, folder)


def _host_mount(config: EngineConfig, source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    """Return a mount of a host folder: only one that the operator lists, since a task may leave symlinks below it."""
    if os.path.normpath(source) not in {os.path.normpath(path) for path in config.settings.allow_mounts}:
        msg = (
            f"mount {source}: only folders of the project can be mounted, and those that the operator lists in "
            "AIR_DOCKER_ALLOW_MOUNTS"
        )
        raise SpawnRejectedError(msg)
    return {"Type": "bind", "Source": os.path.normpath(source), "Target": target, "ReadOnly": read_only}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
