"""From a launch to a Job's manifest: its name, rights, limits and mounts. Pure.

Hardened by default, to the Pod Security level `restricted` and beyond: no root, no capabilities, read-only image, no
service account token, and of the volume only what is the run's own. Used by the backend alone.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from air_executor.backends.base import KILL_MARGIN, Launch
from air_executor.backends.container import inside
from air_executor.backends.container.platform_config import PlatformConfig
from air_executor.backends.container.run_labels import LabeledRun, RunLabels
from air_executor.backends.kubernetes import (
    container_fields,
    pod_requests,
    pod_services,
    pod_template,
    pod_transport,
    pod_volumes,
    runner_copy,
)
from air_executor.backends.kubernetes.object_status import CONTAINER, TASK
from air_executor.errors import SpawnRejectedError
from air_executor.model.names import platform_name
from air_executor.runner import native
from air_executor.settings import KubernetesSettings

LABELS = RunLabels("/")
INSTANCE, JOB, RUN, SLOT = map(LABELS.key, ("instance", "job", "run", "slot"))
EPOCH, NETWORK = map(LABELS.key, ("epoch", "network"))
VERSION, STATE_DIR = map(LABELS.key, ("version", "state-dir"))
"""Annotations."""
KEEP_UNTIL = LABELS.key("keep-until")
"""Label of an ended Pod that stays until then, in Unix seconds."""

_LABEL_VALUE = re.compile("[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

TTL_SECONDS = 86_400
"""After how long the cluster deletes a finished Job: a safety net, since the manager deletes its Jobs itself."""
SLACK_SECONDS = 300
"""How much later than a run's timeout its Job's own deadline is: the runner's and the manager's come first."""
DELIVER_WITHIN = 7200.0
"""Seconds for which a pod may deliver what its command left, while a manager is away or a network slow."""
_STATE, _TEMPORARY = pod_transport.VOLUME, "tmp"
_OWN_NETWORK = "default"
_KEEP_NODE = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
"""Annotations for what scales clusters down: a node goes once its tasks have ended. The pod template can change it."""
MOST_OF_A_JOB = 1_500_000
"""Bytes of a Job that etcd takes (its `--max-request-bytes` is 1.5 MiB, with what the server adds)."""
_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
_ARCHITECTURE = "kubernetes.io/arch"
"""Label of a node."""
_START_RUNNER = (
    f'[ "$_air_from" = {inside.BIN} ] || exec "$_air_from/{native.NAME}" "$@"; exec sh {inside.BIN}/{native.NAME} "$@"'
)
"""The architecture of a Pod is known only inside it, unless the operator's template selects nodes by it."""
_REPLACED = "\ufffd"
"""What the node puts in place of bytes that are no UTF-8."""
POD_FAILURE_POLICY, POD_REPLACEMENT_POLICY = (1, 26), (1, 29)
"""First server versions in which these are on by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig(PlatformConfig):
    """What all Jobs of one manager have in common."""

    label_keys: ClassVar[RunLabels] = LABELS
    namespace: str
    settings: KubernetesSettings
    template: Mapping[str, Any] = field(default_factory=dict)
    """The operator's pod template, merged over each Pod."""


def job_manifest(
    config: ClusterConfig, launch: Launch, server: tuple[int, int], owner: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a Job. `server` is the API server's version, `owner` a reference to the object that owns the Job.

    Raises:
        SpawnRejectedError: the task asks for a mount, a network or secrets that aren't allowed, or is too long.
    """
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "ttlSecondsAfterFinished": TTL_SECONDS,
        "template": _template(config, launch, server),
    }
    if launch.timeout is not None:
        s = config.settings
        to_start = s.schedule_deadline + s.pull_deadline + s.start_deadline + pod_services.ready_seconds(launch)
        lasts = to_start + launch.timeout + launch.grace + launch.keep
        if s.carries_runs:
            lasts += DELIVER_WITHIN
        spec["activeDeadlineSeconds"] = math.ceil(lasts) + SLACK_SECONDS
    if server >= POD_FAILURE_POLICY:
        failed = {"containerName": CONTAINER, "operator": "NotIn", "values": [0]}
        disrupted = {"type": "DisruptionTarget", "status": "True"}
        spec["podFailurePolicy"] = {
            "rules": [
                {"action": "FailJob", "onPodConditions": [disrupted]},
                {"action": "FailJob", "onExitCodes": failed},
            ]
        }
    if server >= POD_REPLACEMENT_POLICY:
        spec["podReplacementPolicy"] = "Failed"
    metadata: dict[str, Any] = {
        "name": config.name(launch.slot),
        "labels": {**pod_requests.user_labels(config.settings, launch), **make_labels(config, launch)},
        "annotations": {**pod_requests.user_annotations(config.settings, launch), **make_annotations(config, launch)},
    }
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    if (size := len(json.dumps(made, ensure_ascii=False).encode())) > MOST_OF_A_JOB:
        msg = f"its Job would have {size:,} bytes, more than a cluster takes; pass long texts as files"
        raise SpawnRejectedError(msg)
    return made


def make_labels(config: ClusterConfig, launch: Launch) -> dict[str, str]:
    """Return the labels that identify a Job or a Pod and its run."""
    return {
        "app.kubernetes.io/name": "air-executor-runner",
        "app.kubernetes.io/instance": config.instance,
        "app.kubernetes.io/component": "runner",
        "app.kubernetes.io/managed-by": "air-executor",
        **LABELS.make(config.instance, launch),
        JOB: _job_label(launch.slot.job),
        EPOCH: str(launch.epoch),
    }


def make_annotations(config: ClusterConfig, launch: Launch) -> dict[str, str]:
    """Return what people may want to know of a Job or a Pod."""
    job = launch.slot.job
    own = {} if _job_label(job) == job else {JOB: job}
    return {**own, TASK: launch.task, VERSION: config.version, STATE_DIR: config.location}


def _job_label(job: str) -> str:
    """Return a job's id as a label can hold it; where it cannot, an annotation of that name has the id itself."""
    return job if _LABEL_VALUE.fullmatch(job) else platform_name(job)


def labeled_run(metadata: Mapping[str, Any]) -> LabeledRun | None:
    """Return the run that the metadata of a Job or a Pod names; None if they aren't a runner's."""
    labels, job = metadata.get("labels") or {}, (metadata.get("annotations") or {}).get(JOB)
    return LABELS.parse({**labels, JOB: job} if job else labels)


def _template(config: ClusterConfig, launch: Launch, server: tuple[int, int]) -> dict[str, Any]:
    settings, (uid, gid) = config.settings, config.user
    container = _container(config, launch)
    claims: dict[str, str] = {}
    container["volumeMounts"] += _claim_mounts(settings, launch, claims)
    over_http = settings.carries_runs
    shared = {"name": _STATE, "persistentVolumeClaim": {"claimName": settings.claim}}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": math.ceil(launch.grace + KILL_MARGIN),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": gid,
            "fsGroup": gid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            pod_transport.volume(settings) if over_http else shared,
            {"name": _TEMPORARY, "emptyDir": {"medium": "Memory", "sizeLimit": str(settings.tmp_size)}},
            *({"name": name, "persistentVolumeClaim": {"claimName": claim}} for claim, name in claims.items()),
        ],
    }
    if over_http:
        secret = pod_transport.secret_name(config.name(launch.slot), launch.run)
        pod_transport.add_to(spec, container, settings, image=config.image_of({}), secret=secret)
    elif settings.copy_runner:
        runner_copy.add_to(spec, container, config.image_of({}), launch.machines)
    pod_services.add_to(spec, container, launch, settings, server)
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    pod_requests.add_to(spec, settings, launch)
    pod_volumes.add_to(spec, settings, launch)
    own: dict[str, Any] = {"labels": make_labels(config, launch), "annotations": make_annotations(config, launch)}
    own_and_defaults = {
        "labels": {**pod_requests.user_labels(settings, launch), **own["labels"]},
        "annotations": {**_KEEP_NODE, **pod_requests.user_annotations(settings, launch), **own["annotations"]},
    }
    if (network := _network(settings, launch)) is not None:
        own["labels"][NETWORK] = network
    merged = pod_template.merge({"metadata": own_and_defaults, "spec": spec}, config.template)
    # The template cannot change its identity, nor make it run twice.
    return pod_template.merge(merged, {"metadata": own, "spec": {"restartPolicy": "Never"}})


def _container(config: ClusterConfig, launch: Launch) -> dict[str, Any]:
    settings = config.settings
    selected = (config.template.get("spec") or {}).get("nodeSelector") or {}
    machine = native.MACHINES.get(str(selected.get(_ARCHITECTURE)))
    if settings.carries_runs:
        pod_transport.check(launch)
        command = [f"{inside.BIN}/{native.NAME}", *inside.arguments(launch)]
    elif settings.copy_runner:
        command = [runner_copy.PROGRAM, *inside.arguments(launch)]
    elif machine:  # the image may have no shell
        command = [*launch.runner(inside.BIN, machine), *inside.arguments(launch)]
    else:
        command = [
            "sh",
            "-c",
            runner_copy.find_folder(launch.machines) + _START_RUNNER,
            "sh",
            *inside.arguments(_with_check(launch)),
        ]
    env = inside.environment(launch, config.image_of(launch.options))
    secret = pod_requests.secret_of(settings, launch, launch.secrets)
    return {
        "name": CONTAINER,
        "image": config.image_of(launch.options),
        "imagePullPolicy": _PULL[settings.pull],
        "command": [container_fields.literal(word) for word in command],
        "workingDir": "/",
        "env": list(container_fields.variables(env, launch.secrets, secret)),
        "resources": container_fields.resources(settings, launch.options.get("resources", {})),
        "securityContext": container_fields.security_context(read_only=settings.read_only),
        "volumeMounts": [
            _mount(config, launch.out_dir, inside.OUT),
            _mount(config, launch.workspace, inside.WORKSPACE),
            {**_mount(config, launch.bin_dir, inside.BIN), "readOnly": True},
            {"name": _TEMPORARY, "mountPath": inside.TEMPORARY},
            *(_mount(config, cache.path, inside.cache_target(cache)) for cache in launch.caches),
        ],
    }


def _with_check(launch: Launch) -> Launch:
    """Return a launch that fails where a secret is not text: the node replaces such bytes without a word."""
    if not launch.secrets:
        return launch
    what = "is not UTF-8 text, and Kubernetes cannot pass it on unchanged; store it encoded, as base64"
    steps = [
        f'case "${{{name}}}" in *{_REPLACED}*) echo "secret {name} {what}" >&2; exit 1;; esac'
        for name in launch.secrets
    ]
    return replace(launch, argv=("sh", "-c", "; ".join([*steps, 'exec "$@"']), "sh", *launch.argv))


def _mount(config: ClusterConfig, path: str, target: str) -> dict[str, Any]:
    if config.settings.carries_runs:
        return {"name": _STATE, "mountPath": target, "subPath": pod_transport.FOLDERS[target]}
    sub_path = os.path.normpath(os.path.join(config.settings.sub_path, os.path.relpath(path, config.state_dir)))
    return {"name": _STATE, "mountPath": target, "subPath": sub_path}


def _network(settings: KubernetesSettings, launch: Launch) -> str | None:
    """Return the network that a task names, or None; the operator's NetworkPolicies select it by label."""
    name = str(launch.options.get("network") or _OWN_NETWORK)
    if name == _OWN_NETWORK:
        return None
    if name in settings.allow_networks:
        return name
    msg = (
        f"network {name} is not allowed: the operator allows networks with AIR_KUBERNETES_ALLOW_NETWORKS, each with a "
        f"NetworkPolicy that selects the label {NETWORK}"
    )
    raise SpawnRejectedError(msg)


def _claim_mounts(settings: KubernetesSettings, launch: Launch, volumes: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the mounts that the task asks for: only of claims that the operator lists. `volumes` gets their names."""
    for requested in launch.options.get("mounts", ()):
        source, target = str(requested["source"]), os.path.normpath(str(requested["target"]))
        claim, _, sub_path = source.partition("/")
        inside.check_mount_target(source, target)
        if claim not in settings.allow_claims or claim == settings.claim:
            msg = (
                f"mount {source}: on Kubernetes a source is the name of a volume claim, perhaps with a path in it, "
                "that the operator lists in AIR_KUBERNETES_ALLOW_CLAIMS"
            )
            raise SpawnRejectedError(msg)
        if ".." in sub_path.split("/"):
            msg = f"mount {source}: a path in a claim cannot have .. in it"
            raise SpawnRejectedError(msg)
        volume = volumes.setdefault(claim, f"claim-{len(volumes)}")
        mount: dict[str, Any] = {"name": volume, "mountPath": target}
        if sub_path.strip("/"):
            mount["subPath"] = sub_path.strip("/")
        if requested.get("read_only"):
            mount["readOnly"] = True
        yield mount
