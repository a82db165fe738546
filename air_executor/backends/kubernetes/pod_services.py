"""The services of a task as containers of its Pod, which share the network of its task. Used by `manifests`. Pure.

From Kubernetes 1.29 on they are native sidecars: init containers that go on running. The node starts each once the one
before it is ready, and then the task. Before 1.29 they are containers beside the task, which waits for them in a shell
of its own: a service's start-up probe leaves a mark in a folder that both see.
"""

from __future__ import annotations

import math
from typing import Any

from air_executor.backends.base import Launch, LaunchService
from air_executor.backends.container import inside
from air_executor.backends.kubernetes import container_fields, pod_requests
from air_executor.backends.kubernetes.container_fields import literal
from air_executor.backends.kubernetes.service_status import PREFIX
from air_executor.settings import KubernetesSettings

NATIVE_SIDECARS = (1, 29)
"""First server version in which sidecars are on by default."""
MARKS = f"{inside.ROOT}/services"
PROBE_TIMEOUT = 10
"""Maximum seconds of one call of a `ready` command."""
_MARKS_VOLUME = "services"
_LEAVE_MARK = f'mark={MARKS}/$1; shift; "$@" && : >"$mark"'
_AWAIT_MARKS = (
    f'for name in {{}}; do until [ -e "{MARKS}/$name" ]; do sleep 0.1 2>/dev/null || sleep 1; done; done; exec "$@"'
)


def add_to(
    spec: dict[str, Any],
    container: dict[str, Any],
    launch: Launch,
    settings: KubernetesSettings,
    server: tuple[int, int],
) -> None:
    """Give a Pod the services of its task, which is `container`; `server` is the API server's version.

    Raises:
        SpawnRejectedError: a service asks for secrets that aren't allowed, or has a variable that is too long.
    """
    if not launch.services:
        return
    uid = spec["securityContext"]["runAsUser"]
    native = server >= NATIVE_SIDECARS
    made = [
        _container(one, launch, settings, container["imagePullPolicy"], uid + 1, native=native)
        for one in launch.services
    ]
    spec["hostAliases"] = [{"ip": "127.0.0.1", "hostnames": [one.name for one in launch.services]}]
    memory = {"medium": "Memory", "sizeLimit": str(settings.tmp_size)}
    spec["volumes"] += [{"name": one["name"], "emptyDir": memory} for one in made]
    if native:
        spec["initContainers"] = [*spec.get("initContainers", ()), *made]
        return
    spec["containers"] = [*spec["containers"], *made]  # the task first: it is what `kubectl logs` shows
    awaited = [one.name for one in launch.services if one.ready is not None]
    if awaited:
        mount = {"name": _MARKS_VOLUME, "mountPath": MARKS}
        spec["volumes"].append({"name": _MARKS_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
        for one in made:
            if "startupProbe" in one:
                one["volumeMounts"].append(mount)
        container["volumeMounts"] = [*container["volumeMounts"], {**mount, "readOnly": True}]
        script = _AWAIT_MARKS.format(" ".join(awaited))
        container["command"] = ["sh", "-c", literal(script), "sh", *container["command"]]


def ready_seconds(launch: Launch) -> float:
    """Return the maximum time until all services are ready."""
    return sum(one.ready_timeout for one in launch.services)


def _container(
    one: LaunchService, launch: Launch, settings: KubernetesSettings, pull: str, uid: int, *, native: bool
) -> dict[str, Any]:
    secret = pod_requests.secret_of(settings, launch, one.secrets)
    made: dict[str, Any] = {
        "name": f"{PREFIX}{one.name}",
        "image": one.image,
        "imagePullPolicy": pull,
        "env": list(container_fields.variables({"HOME": inside.HOME, **one.env}, one.secrets, secret)),
        "resources": container_fields.resources(settings, one.resources),
        # Another user than the task's: the containers of a Pod see each other's processes.
        "securityContext": {
            **container_fields.security_context(read_only=False),
            "runAsUser": uid,
            "runAsGroup": uid,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": f"{PREFIX}{one.name}", "mountPath": inside.TEMPORARY}],
    }
    if one.argv is not None:
        made["args"] = [literal(word) for word in one.argv]
    if native:
        made["restartPolicy"] = "Always"
    if one.ready is not None:
        words = one.ready if native else ("sh", "-c", _LEAVE_MARK, "sh", one.name, *one.ready)
        made["startupProbe"] = {
            "exec": {"command": [literal(word) for word in words]},
            "periodSeconds": 1,
            "failureThreshold": max(1, math.ceil(one.ready_timeout)),
            "timeoutSeconds": PROBE_TIMEOUT,
        }
    return made
