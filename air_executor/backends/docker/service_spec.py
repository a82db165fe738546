"""From the services of a launch to the descriptions of their containers. Pure.

All containers of a run share one network namespace, that of its first service, as those of a Kubernetes pod do: a
service is at `localhost` and at its own name on both platforms, needs no network object, and works with `network: none`
too. They share nothing else: a service sees nothing of the state directory. Used by the backend alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from air_executor.backends.base import Launch, LaunchService
from air_executor.backends.container import inside
from air_executor.backends.docker.container_spec import (
    SERVICE,
    EngineConfig,
    host_config,
    make_labels,
    network_of,
    temporary,
)
from air_executor.backends.docker.images import ImageFacts
from air_executor.errors import SpawnRejectedError
from air_executor.model.names import platform_name


@dataclass(frozen=True, slots=True)
class ServiceContainer:
    """One service to start."""

    service: LaunchService
    name: str
    """Of the container."""
    body: dict[str, Any]
    """Of the engine's `POST /containers/create`."""


def service_containers(
    config: EngineConfig, launch: Launch, facts: Callable[[str], ImageFacts]
) -> list[ServiceContainer]:
    """Return the containers of a run's services, in the order in which they start.

    Raises:
        SpawnRejectedError: the task asks for a network that isn't allowed, or a secret is no text.
    """
    return [
        ServiceContainer(one, service_name(config, launch, one), _body(config, launch, one, facts(one.image)))
        for one in launch.services
    ]


def service_name(config: EngineConfig, launch: Launch, service: LaunchService) -> str:
    """Return the name of a service's container; no runner's name has a dot."""
    return f"{config.name(launch.slot)}.{service.name}"


def _body(config: EngineConfig, launch: Launch, service: LaunchService, image: ImageFacts) -> dict[str, Any]:
    uid, gid = config.user
    first = service is launch.services[0]
    # An image's own volumes would be folders on the engine's disk, without a limit, and not the user's.
    owned = f"rw,exec,nosuid,nodev,mode=0700,uid={uid},gid={gid},size={config.settings.tmp_size}"
    body: dict[str, Any] = {
        "Image": service.image,
        "Env": [f"{name}={value}" for name, value in _environment(service).items()],
        "User": f"{uid}:{gid}",
        "Labels": {**make_labels(config, launch, image), SERVICE: service.name},
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "HostConfig": {
            **host_config(config.settings, service.resources),
            "Init": False,  # some programs have to be process 1
            "ReadonlyRootfs": False,
            "Tmpfs": {**temporary(config.settings), **{os.path.normpath(path): owned for path in image.volumes}},
            "NetworkMode": network_of(config, launch.options) if first else shared_network(config, launch),
        },
    }
    if first:
        body["Hostname"] = platform_name(launch.slot.job)
        body["HostConfig"]["ExtraHosts"] = [f"{one.name}:127.0.0.1" for one in launch.services]
    if service.argv is not None:
        body["Cmd"] = list(service.argv)
    return body


def shared_network(config: EngineConfig, launch: Launch) -> str:
    """Return the network of all containers of a run but its first."""
    return f"container:{service_name(config, launch, launch.services[0])}"


def _environment(service: LaunchService) -> dict[str, str]:
    for name, value in service.secrets.items():
        if not _is_text(value):
            msg = f"secret {name} is not UTF-8 text, and service {service.name} cannot get it; store it encoded"
            raise SpawnRejectedError(msg)
    return {"HOME": inside.HOME, **service.env, **service.secrets}


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
