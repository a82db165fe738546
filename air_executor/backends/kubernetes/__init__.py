"""The backend `kubernetes`. Importing it imports the Kubernetes client, so only `wiring` does, when it is chosen."""

from __future__ import annotations

from air_executor.backends.kubernetes.kubernetes_backend import KubernetesBackend
from air_executor.backends.kubernetes.kubernetes_setup import make_backend, make_lease_record

__all__ = ["KubernetesBackend", "make_backend", "make_lease_record"]
