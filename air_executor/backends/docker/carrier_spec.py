"""The carrier of a run on an engine that does not see the state directory, such as a remote one. Pure.

It is a container beside the runner, of our own image, which starts and is ready before it as a service does: it fetches
the run's files from the manager over HTTP into a volume of the run's own, and delivers what the task leaves there. It
does not see the runner's processes: of an end without an outcome a signal tells it. Used by the backend alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from air_executor.backends.base import Launch, LaunchService
from air_executor.backends.container import inside, transport
from air_executor.backends.docker.container_spec import SERVICE, EngineConfig, host_config, make_labels
from air_executor.backends.docker.images import ImageFacts
from air_executor.backends.docker.service_spec import ServiceContainer, service_name
from air_executor.errors import SpawnRejectedError
from air_executor.runner import native

CARRIER = "_carrier"
"""Its name among the services of a run; no service of a task can have it."""
FETCHED = f"{inside.ROOT}/carrier/snapshot.json"
"""A file in it that is there once the run may start."""
FETCH_WITHIN = 7200.0
"""Maximum seconds for that; it gives up earlier if the manager does not answer."""
MEMORY = 128 << 20


def check(launch: Launch) -> None:
    """Refuse what takes a folder of the manager's machine.

    Raises:
        SpawnRejectedError: the task has a cache, a worktree, or mounts a part of the project.
    """
    mounted = [str(one["source"]) for one in launch.options.get("mounts", ()) if not str(one["source"]).startswith("/")]
    what = "caches" if launch.caches else "worktree" if launch.worktree else f"mount {mounted[0]}" if mounted else None
    if what is not None:
        msg = f"{what}: the engine does not see the manager's folders with AIR_DOCKER_TRANSPORT=http"
        raise SpawnRejectedError(msg)


def volume_name(config: EngineConfig, launch: Launch) -> str:
    """Return the name of the volume with a run's files."""
    return f"{config.name(launch.slot)}.{launch.run}"


def with_carrier(config: EngineConfig, launch: Launch, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a runner that has its files from a carrier."""
    host = body["HostConfig"]
    ours = [one for one in host["Mounts"] if not str(one["Target"]).startswith(f"{inside.ROOT}/")]
    changed = {
        "Mounts": [_volume(config, launch, NoCopy=True), *ours],
    }
    command = [f"{inside.BIN}/{native.NAME}", *inside.arguments(launch)]
    return {**body, "Entrypoint": command[:1], "Cmd": command[1:], "HostConfig": {**host, **changed}}


def _service(config: EngineConfig) -> LaunchService:
    ready = ("test", "-e", FETCHED)
    return LaunchService(name=CARRIER, image=config.image_of({}), ready=ready, ready_timeout=FETCH_WITHIN)


def _volume(config: EngineConfig, launch: Launch, **options: object) -> dict[str, Any]:
    labels = config.label_keys.make(config.instance, launch)
    return {
        "Type": "volume",
        "Source": volume_name(config, launch),
        "Target": inside.ROOT,
        "VolumeOptions": {"Labels": labels, **options},
    }


def carrier_container(
    config: EngineConfig, launch: Launch, token: str, authorities: str | None, image: ImageFacts
) -> ServiceContainer:
    """Return the carrier of a run; `authorities` are certificates that it trusts, as PEM."""
    env = {
        "AIR_CARRIER_URL": str(config.settings.transport_url),
        "AIR_CARRIER_HOLDER": secrets.token_hex(16),
        "AIR_CARRIER_TOKEN": token,
        "AIR_CARRIER_SIGNALED": "yes",
        **({} if authorities is None else {"AIR_CARRIER_CA": authorities}),
    }
    uid, gid = config.user
    body = {
        "Image": config.image_of({}),
        "Entrypoint": [transport.PROGRAM],
        "Cmd": ["carry"],
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": f"{uid}:{gid}",
        "WorkingDir": "/",
        "Labels": {**make_labels(config, launch, image), SERVICE: CARRIER},
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "HostConfig": {
            **host_config(config.settings, {"memory": MEMORY}),
            "ReadonlyRootfs": True,
            "NetworkMode": config.settings.network,
            "Mounts": [_volume(config, launch)],  # an empty one gets owner and mode of the image's folder
        },
    }
    service = _service(config)
    return ServiceContainer(service, service_name(config, launch, service), body)
