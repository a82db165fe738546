"""What a task asks of its pod, and its labels, as far as the operator allows them. Pure; `manifests` calls it.

Nothing is allowed by default: NetworkPolicies select pods by labels, and service accounts and nodes carry rights.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from air_executor.backends.base import Launch
from air_executor.errors import SpawnRejectedError
from air_executor.settings import KubernetesSettings

USER_LABELS = "labels.air-executor/"
"""Prefix of the user's own labels, which so cannot be those that an operator's policies select by."""
_OURS = re.compile(r"(.*\.)?(air-executor|kubernetes\.io|k8s\.io)/.*|app\.kubernetes\.io/.*|job-name|controller-uid")
_NAME = re.compile("[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def user_labels(settings: KubernetesSettings, launch: Launch) -> dict[str, str]:
    """Return the labels of a Job and its pod that job and task ask for.

    Labels for people get a prefix, and also stand under their own names where the operator lists these. What Kubernetes
    does not take as a label is left out.

    Raises:
        SpawnRejectedError: `kubernetes.labels` has one that is not allowed.
    """
    found = {}
    for name, value in launch.labels.items():
        if _NAME.fullmatch(value):
            if _NAME.fullmatch(name):
                found[USER_LABELS + name] = value
            if name in settings.allow_labels and not _OURS.fullmatch(name):
                found[name] = value
    asked: Mapping[str, str] = asked_of(launch).get("labels") or {}
    check_allowed("labels", asked, settings.allow_labels, "AIR_KUBERNETES_ALLOW_LABELS")
    return {**found, **asked}


def user_annotations(settings: KubernetesSettings, launch: Launch) -> dict[str, str]:
    """Return the annotations that a task asks for; raises as `user_labels`."""
    asked: Mapping[str, str] = asked_of(launch).get("annotations") or {}
    check_allowed("annotations", asked, settings.allow_annotations, "AIR_KUBERNETES_ALLOW_ANNOTATIONS")
    return dict(asked)


def secret_of(settings: KubernetesSettings, launch: Launch, names: Collection[str]) -> str | None:
    """Return the Secret whose keys are these secrets of a task, or of a service of it; None without any.

    Raises:
        SpawnRejectedError: there is no such Secret for it, or it may not have these keys of it.
    """
    if not names:
        return None
    asked: str | None = asked_of(launch).get("secret")
    if asked is None and settings.secret is None:
        name = next(iter(names))
        msg = f"secret {name}: no Secret is set; the operator names it with AIR_KUBERNETES_SECRET"
        raise SpawnRejectedError(msg)
    if asked is None or asked == settings.secret:
        return settings.secret
    if asked not in settings.allow_secrets:
        keys = [f"{asked}/{name}" for name in names]
        check_allowed("secret", keys, settings.allow_secrets, "AIR_KUBERNETES_ALLOW_SECRETS", ours=False)
    return asked


def add_to(spec: dict[str, Any], settings: KubernetesSettings, launch: Launch) -> None:
    """Put nodes, service account and priority class into a pod's spec.

    Raises:
        SpawnRejectedError: one of them is not allowed; the message names the setting.
    """
    asked = asked_of(launch)
    if selector := asked.get("node_selector"):
        check_allowed(
            "node_selector", selector, settings.allow_node_labels, "AIR_KUBERNETES_ALLOW_NODE_LABELS", ours=False
        )
        spec["nodeSelector"] = dict(selector)
    if tolerations := asked.get("tolerations"):
        keys = [one["key"] for one in tolerations]
        check_allowed("tolerations", keys, settings.allow_tolerations, "AIR_KUBERNETES_ALLOW_TOLERATIONS", ours=False)
        spec["tolerations"] = [_toleration(one) for one in tolerations]
    if account := asked.get("service_account"):
        allowed = settings.allow_service_accounts
        check_allowed("service_account", [account], allowed, "AIR_KUBERNETES_ALLOW_SERVICE_ACCOUNTS")
        spec["serviceAccountName"] = account
        spec["automountServiceAccountToken"] = True
    if priority := asked.get("priority_class"):
        allowed = settings.allow_priority_classes
        check_allowed("priority_class", [priority], allowed, "AIR_KUBERNETES_ALLOW_PRIORITY_CLASSES")
        spec["priorityClassName"] = priority


def asked_of(launch: Launch) -> Mapping[str, Any]:
    """Return the `kubernetes` of a task."""
    found: Mapping[str, Any] = launch.options.get("kubernetes") or {}
    return found


def _toleration(one: Mapping[str, Any]) -> dict[str, str]:
    value = {} if one.get("value") is None else {"value": one["value"]}
    effect = {} if one.get("effect") is None else {"effect": one["effect"]}
    return {"key": one["key"], "operator": one.get("operator") or ("Equal" if value else "Exists"), **value, **effect}


def check_allowed(
    field: str, names: Iterable[str], allowed: Collection[str], setting: str, *, ours: bool = True
) -> None:
    """Refuse names that the operator does not list; with `ours` also those that nobody may set.

    Raises:
        SpawnRejectedError: the message names the field and the setting.
    """
    for name in names:
        if ours and _OURS.fullmatch(name):
            msg = f"kubernetes.{field}: {name} belongs to Air-Executor or to the cluster"
            raise SpawnRejectedError(msg)
        if name not in allowed:
            msg = f"kubernetes.{field}: {name} is not allowed; the operator allows it with {setting}"
            raise SpawnRejectedError(msg)
