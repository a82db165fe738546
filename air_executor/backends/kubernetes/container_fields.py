"""Fields that the containers of a Pod have in common: rights, limits and variables. Used by `manifests`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from air_executor.errors import SpawnRejectedError
from air_executor.settings import KubernetesSettings

MOST_OF_A_VARIABLE = 131_072 - 1
"""Bytes of `NAME=value` that a kernel passes to a program: MAX_ARG_STRLEN of Linux, with the byte that ends it."""


def literal(text: str) -> str:
    """Escape a text, in which Kubernetes would expand `$(NAME)`."""
    return text.replace("$", "$$")


def security_context(*, read_only: bool) -> dict[str, Any]:
    """Return what a container may do."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only,
    }


def variables(plain: Mapping[str, str], secrets: Mapping[str, str], secret: str | None) -> Iterator[dict[str, Any]]:
    """Yield a container's variables; the values of `secrets` come from the Secret that is named.

    Raises:
        SpawnRejectedError: one is too long.
    """
    for name, value in plain.items():
        if name not in secrets:
            if len(f"{name}={value}".encode()) > MOST_OF_A_VARIABLE:
                msg = (
                    f"env {name}: longer than the 128 KiB that a variable can have; pass it as a file of the workspace"
                )
                raise SpawnRejectedError(msg)
            yield {"name": name, "value": literal(value)}
    for name in secrets:
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}


def resources(settings: KubernetesSettings, named: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return requests and limits: both are what is named, or else the operator's defaults."""
    requests = {
        "cpu": _cores(min(settings.cpu_request, settings.cpus or settings.cpu_request)),
        "memory": str(min(settings.memory_request, settings.memory)),
    }
    limits = {"memory": str(settings.memory)}
    if settings.cpus is not None:
        limits["cpu"] = _cores(settings.cpus)
    if (memory := named.get("memory")) is not None:
        requests["memory"] = limits["memory"] = str(int(memory))
    if (cpus := named.get("cpu")) is not None:
        requests["cpu"] = limits["cpu"] = _cores(cpus)
    if gpus := named.get("gpu"):
        limits[settings.gpu_resource] = str(gpus)
    return {"requests": requests, "limits": limits}


def _cores(number: float) -> str:
    return f"{max(1, round(number * 1000))}m"
