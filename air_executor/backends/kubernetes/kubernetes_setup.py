"""Builds the backend from the settings: which cluster, which user tasks run as, and the operator's pod template."""

from __future__ import annotations

from air_executor.backends.base import KeepServiceLog, MakeToken, NoteEnd, Requested
from air_executor.backends.container import transport
from air_executor.backends.container.inside import DEFAULT_IMAGE, task_user
from air_executor.backends.kubernetes import pod_template
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.end_notes import EndNotes
from air_executor.backends.kubernetes.kubernetes_backend import KubernetesBackend
from air_executor.backends.kubernetes.lease_object import LeaseObject
from air_executor.backends.kubernetes.manifests import ClusterConfig
from air_executor.backends.kubernetes.run_secrets import RunSecrets
from air_executor.errors import BadInputError
from air_executor.settings import Settings

LEASE_TIMEOUT = 3.0
"""Seconds: several attempts must fit into the time in which a manager must renew its Lease."""
LEASE_RATE = 5.0


def make_backend(
    settings: Settings,
    version: str,
    keep_log: KeepServiceLog,
    requested: Requested | None = None,
    make_token: MakeToken | None = None,
    *,
    note_end: NoteEnd | None = None,
) -> KubernetesBackend:
    """Return the backend for the state directory of these settings. Does not contact the cluster yet.

    `keep_log` keeps the logs of services; `requested` is called after each request to the API server; `make_token`
    makes the tokens of runs whose files come over HTTP; `note_end` notes when their commands have ended.

    Raises:
        BadInputError: a setting is missing or invalid, or there is no access to a cluster.
    """
    api = make_api(settings)
    if requested is not None:
        api.requested = requested
    config, secrets = make_cluster_config(settings, api.namespace, version), None
    if settings.kubernetes.carries_runs and make_token is not None:
        secrets = RunSecrets(api, config, make_token, transport.authorities(settings.kubernetes))
    ended = None if secrets is None or note_end is None else EndNotes(note_end)
    return KubernetesBackend(api, config, keep_log, secrets, ended)


def make_api(settings: Settings) -> Api:
    """Return the API server of these settings; raises as `make_backend`."""
    group = settings.kubernetes
    return Api(group.namespace, group.timeout, group.rate)


def make_lease_record(settings: Settings, requested: Requested | None = None) -> LeaseObject:
    """Return the Lease of the state directory of these settings; arguments and errors as for `make_backend`.

    It has a connection of its own, so that no request for a runner delays a renewal.
    """
    api = Api(settings.kubernetes.namespace, LEASE_TIMEOUT, LEASE_RATE)
    if requested is not None:
        api.requested = requested
    return LeaseObject(api, f"air-executor-{make_cluster_config(settings, api.namespace, '').instance}")


def _location(settings: Settings, namespace: str) -> str:
    """Return a name of the state directory that no other one on the cluster has."""
    group = settings.kubernetes
    if group.claim is not None:
        return f"{namespace}/{group.claim}/{group.sub_path}"
    return f"{namespace}/{group.transport_url}{settings.state_dir}"


def make_cluster_config(settings: Settings, namespace: str, version: str) -> ClusterConfig:
    """Return what all Jobs have in common; raises as `make_backend`."""
    group = settings.kubernetes
    transport.check(settings, group)
    if group.claim is None and not group.carries_runs:
        raise BadInputError(
            "backend kubernetes: set AIR_KUBERNETES_CLAIM to the volume claim that holds the state directory"
        )
    return ClusterConfig(
        state_dir=settings.state_dir,
        location=_location(settings, namespace),
        namespace=namespace,
        prefix=settings.name_prefix,
        version=version,
        image=settings.runner_image or DEFAULT_IMAGE,
        user=task_user(settings.state_dir, group.user),
        settings=group,
        template=pod_template.load(group.pod_template) if group.pod_template else {},
    )
